"""Several judgements of the same number become one: the median on a scale where errors are alike.

Equal weights, as Cooke's classical model does without calibration questions, and the median instead of the
mean, since one answer in a wrong unit must not move the rest. The spread is kept.

References: O'Hagan et al. 2006, Uncertain Judgements (SHELF); Cooke 1991, Experts in Uncertainty.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

Scale = Literal["identity", "log", "logit", "fisher z"]

_EDGE = 5e-4
"""Shares of 0 and 1 count as this far from them on the log odds scale: half a row in a thousand."""


@dataclass(frozen=True, slots=True)
class Pooled:
    """A pooled number.

    Parameters
    ----------
    value : float
        On its own scale.
    spread : float or None
        Standard deviation of the answers on `scale`; None where there is one answer only.
    scale : str
    answers : tuple of float
        As they were given.
    """

    value: float
    spread: float | None
    scale: Scale
    answers: tuple[float, ...]


def logit(share: float) -> float:
    """Log odds; ends are drawn in by `_EDGE`."""
    inside = min(max(share, _EDGE), 1 - _EDGE)
    return math.log(inside / (1 - inside))


def expit(value: float) -> float:
    """Share of log odds."""
    return 1 / (1 + math.exp(-value))


def _atanh(value: float) -> float:
    return math.atanh(min(max(value, -0.995), 0.995))


_TO: dict[Scale, Callable[[float], float]] = {
    "identity": float, "log": math.log, "logit": logit, "fisher z": _atanh,
}  # fmt: skip
_FROM: dict[Scale, Callable[[float], float]] = {
    "identity": float, "log": math.exp, "logit": expit, "fisher z": math.tanh,
}  # fmt: skip


def pool(answers: Sequence[float], scale: Scale) -> Pooled:
    """Pool at least one answer by the median on a scale."""
    on_scale = [_TO[scale](answer) for answer in answers]
    spread = statistics.stdev(on_scale) if len(on_scale) > 1 else None
    # An odd number's median is one of the answers, and comes back as it was given.
    middle = statistics.median(on_scale)
    given = [answer for answer, moved in zip(answers, on_scale, strict=True) if moved == middle]
    return Pooled(given[0] if given else _FROM[scale](middle), spread, scale, tuple(answers))


def pool_shares(answers: Sequence[Sequence[float]]) -> tuple[tuple[float, ...], float | None]:
    """Pool compositions, each of which adds up to 1: level by level on the log odds scale, then to 1 again.

    Returns
    -------
    tuple of float
        The shares.
    float or None
        The spread on the log odds scale, levels weighted by their share.
    """
    levels = [pool(level, "logit") for level in zip(*answers, strict=True)]
    total = math.fsum(level.value for level in levels)
    if total <= 0:
        return tuple(1 / len(levels) for _ in levels), None
    shares = tuple(level.value / total for level in levels)
    if len(answers) < 2:
        return shares, None
    return shares, math.fsum(
        share * (level.spread or 0.0) for share, level in zip(shares, levels, strict=True)
    )


def pool_quantiles(answers: Sequence[Sequence[float]]) -> tuple[tuple[float, ...], float | None]:
    """Pool ascending quantiles position by position; the result ascends, for order statistics do.

    Positive columns are pooled on the log scale.

    Returns
    -------
    tuple of float
        The quantiles.
    float or None
        Standard deviation of the answered medians, in units of the pooled sd.
    """
    scale: Scale = "log" if all(value > 0 for answer in answers for value in answer) else "identity"
    values = tuple(pool(position, scale).value for position in zip(*answers, strict=True))
    sd = (values[-2] - values[1]) / 3.29  # the 5th and 95th percentile of a normal
    if len(answers) < 2 or sd <= 0:
        return values, None
    return values, statistics.stdev(answer[len(answer) // 2] for answer in answers) / sd


def raked(
    table: Sequence[Sequence[float]], rows: Sequence[float], columns: Sequence[float], rounds: int = 200
) -> list[list[float]]:
    """Move a table of shares to given margins and keep its odds ratios (Deming & Stephan 1940)."""
    cells = [[max(cell, 1e-9) for cell in row] for row in table]
    for _ in range(rounds):
        for row, wanted in zip(cells, rows, strict=True):
            total = math.fsum(row)
            row[:] = [cell * wanted / total for cell in row] if total else row
        worst = 0.0
        for place, wanted in enumerate(columns):
            total = math.fsum(row[place] for row in cells)
            worst = max(worst, abs(total - wanted))
            for row in cells:
                row[place] *= wanted / total if total else 1.0
        if worst < 1e-9:
            break
    return cells
