"""Fidelity by the protocol of clinical studies: tests of means, proportions, distributions, correlations.

The protocol is that of Barr, Guo & Sezgin 2025 (arXiv 2502.09566). Replicates stand side by side, and are
checked for draws that they share.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import pandas as pd

from app.disclosure import POOLED_LEVEL, pool_levels
from app.evaluation.base import Depth, Dimension, NotMeasured, Score, Tables
from app.evaluation.bootstrap import Z95
from app.evaluation.columns import Codes, Floats, cell_rows, codes, numbers, pooled
from app.evaluation.conformance import level_text
from app.evaluation.fidelity_associations import at_most
from app.evaluation.fidelity_replicates import compare_replicates, correlated, short
from app.schema.table import Field

LEVEL = 0.05
SHOWN_TESTS = 200
"""Tests of each kind that the details hold, those with the smallest p."""

KINDS = {
    "mean": "means: Welch's t test",
    "proportion": "proportions: two-sample z test",
    "distribution": "distributions: two-sample Kolmogorov–Smirnov test",
    "correlation": "correlations: Pearson's, compared on Fisher's z",
}

_STREAM = 4501


class StudyProtocol:
    """Share of a study's comparisons that find no difference at 5 %; the mean over the kinds of comparison.

    Notes
    -----
    A perfect generator has 0.95 on average, for one test in twenty errs. Tests find smaller differences in
    longer tables: the size of a difference stands beside its test.
    """

    name: ClassVar[str] = "study_protocol"
    title: ClassVar[str] = "The study's protocol: means, proportions, distributions, correlations"
    dimension: ClassVar[Dimension] = "fidelity"
    higher_is_better: ClassVar[bool] = True
    bounds: ClassVar[tuple[float, float]] = (0.0, 1.0)
    needs: ClassVar[frozenset[str]] = frozenset({"train"})
    depth: ClassVar[Depth] = "core"
    measured_from: ClassVar[Mapping[str, int]] = {"train": 30, "synthetic": 4}

    def measure(self, tables: Tables) -> Score | NotMeasured:
        """Measure; `details["table"]` has a row for each kind of comparison, `details["tests"]` each test."""
        assert tables.train is not None  # `needs` says so
        few = max(cell_rows(tables), 4)
        rng = np.random.default_rng([tables.seed, _STREAM])
        train, synthetic = at_most(tables.train, rng), at_most(pooled(tables), rng)
        fields = [
            field
            for field in tables.schema.fields
            if field.kind not in ("id", "text") and field.name != tables.group
        ]
        tests = _tests(fields, train, synthetic, few)
        if not tests:
            return NotMeasured(f"no column has {few} values in the train part and 4 in the synthetic rows")
        held: dict[tuple[str, str], dict[str, Any]] = {}
        if tables.holdout is not None and len(tables.holdout) >= few:
            held = {_key(test): test for test in _tests(fields, train, at_most(tables.holdout, rng), few)}
        table = [row for kind in KINDS if (row := _summary(kind, tests, held)) is not None]
        value = float(np.mean([row["value"] for row in table]))
        baselines = [row["baseline"] for row in table if row["baseline"] is not None]
        baseline = float(np.mean(baselines)) if len(baselines) == len(table) else None
        differing = _holm(tests)
        columns = list(dict.fromkeys(name for test in differing for name in test["columns"]))
        tests.sort(key=lambda test: (test["p"], test["kind"], test["what"]))
        details: dict[str, Any] = {
            "aggregate": "mean of value over the kinds; value = comparisons with p ≥ 0.05 / comparisons",
            "table": table,
            "tests": [_shown(test, held) for test in _first_of_each_kind(tests)],
            "tests_in_all": len(tests),
            "differing": [test["what"] for test in differing[:SHOWN_TESTS]],
            "rows": {"train": len(train), "synthetic": len(synthetic)},
            "rows_taken_as_independent": tables.group is None,
            "pictures": _pictures(tests),
        }
        reading = (
            f"Of {len(tests):,} comparisons by the study's protocol, "
            f"{sum(test['p'] >= LEVEL for test in tests):,} find no difference at 5 %"
            + (
                f" (share by kind: {value:.3f}; the real holdout: {baseline:.3f})"
                if baseline is not None
                else ""
            )
            + (
                f". Beyond chance over all of them (Holm): {', '.join(columns[:6])}"
                + (f" and {len(columns) - 6} more" if len(columns) > 6 else "")
                if columns
                else ". None differs beyond chance over all of them (Holm)"
            )
            + "."
        )
        if len(tables.synthetic) > 1:
            details["replicates"] = replicates = compare_replicates(fields, tables.synthetic, few, rng)
            reading += f" {replicates['reading']}"
        return Score(value=value, baseline=baseline, reading=reading, details=details)


def _key(test: Mapping[str, Any]) -> tuple[str, str]:
    return test["kind"], test["what"]


def _summary(
    kind: str, tests: Sequence[Mapping[str, Any]], held: Mapping[tuple[str, str], Mapping[str, Any]]
) -> dict[str, Any] | None:
    own = [test for test in tests if test["kind"] == kind]
    if not own:
        return None
    beside = [found["p"] >= LEVEL for test in own if (found := held.get(_key(test))) is not None]
    return {
        "kind": kind,
        "test": KINDS[kind],
        "comparisons": len(own),
        "without_difference": sum(test["p"] >= LEVEL for test in own),
        "value": float(np.mean([test["p"] >= LEVEL for test in own])),
        "baseline": float(np.mean(beside)) if beside else None,
    }


def _shown(test: Mapping[str, Any], held: Mapping[tuple[str, str], Mapping[str, Any]]) -> dict[str, Any]:
    beside = held.get(_key(test))
    return {name: value for name, value in test.items() if name != "columns"} | {
        "p_holdout": None if beside is None else beside["p"]
    }


def _first_of_each_kind(tests: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    left = dict.fromkeys(KINDS, SHOWN_TESTS)
    found = []
    for test in tests:
        left[test["kind"]] -= 1
        if left[test["kind"]] >= 0:
            found.append(test)
    return found


def _holm(tests: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return the tests that stay significant over all of them (Holm 1979), the smallest p first."""
    ordered = sorted(tests, key=lambda test: (test["p"], test["what"]))
    found = []
    for place, test in enumerate(ordered):
        if test["p"] > LEVEL / (len(ordered) - place):
            break
        found.append(test)
    return found


def _tests(
    fields: Sequence[Field], real: pd.DataFrame, other: pd.DataFrame, few: int
) -> list[dict[str, Any]]:
    tests: list[dict[str, Any]] = []
    for field in fields:
        if field.levels is not None:
            tests += _proportions(field, codes(field, real[field.name]), codes(field, other[field.name]), few)
            continue
        values = [numbers(field, frame[field.name]) for frame in (real, other)]
        x, y = (one[np.isfinite(one)] for one in values)
        if len(x) < few or len(y) < 4:
            continue
        if field.kind == "numeric":
            tests += _means(field, x, y)
        tests.append(_distribution(field, x, y))
    numeric = [field for field in fields if field.kind == "numeric"]
    return tests + (_correlations(numeric, real, other, few) if len(numeric) > 1 else [])


def _means(field: Field, x: Floats, y: Floats) -> Iterable[dict[str, Any]]:
    from scipy.stats import t

    errors = [float(one.var(ddof=1)) / len(one) for one in (x, y)]
    variance = sum(errors)
    means = float(x.mean()), float(y.mean())
    if not np.isfinite([variance, *means]).all():
        return []
    if variance == 0:
        p = 1.0 if math.isclose(*means, rel_tol=1e-12, abs_tol=1e-12) else 0.0
    else:
        freedom = variance**2 / sum(
            error**2 / (len(one) - 1) for error, one in zip(errors, (x, y), strict=True)
        )
        p = float(2 * t.sf(abs(means[1] - means[0]) / math.sqrt(variance), freedom))
    halves = [
        float(t.ppf(0.975, len(one) - 1)) * math.sqrt(error)
        for error, one in zip(errors, (x, y), strict=True)
    ]
    sd = math.sqrt((float(x.var(ddof=1)) + float(y.var(ddof=1))) / 2)
    return [
        {
            "kind": "mean",
            "what": field.name,
            "columns": [field.name],
            "real": short(means[0]),
            "real_interval": [short(means[0] - halves[0]), short(means[0] + halves[0])],
            "synthetic": short(means[1]),
            "synthetic_interval": [short(means[1] - halves[1]), short(means[1] + halves[1])],
            "size": short((means[1] - means[0]) / sd) if sd > 0 else None,
            "size_is": "difference in sd",
            "p": p,
        }
    ]


def _proportions(field: Field, real: Codes, other: Codes, few: int) -> Iterable[dict[str, Any]]:
    from scipy.stats import norm

    levels = field.levels or ()
    counts = [np.bincount(found[found >= 0], minlength=len(levels)) for found in (real, other)]
    n, m = (int(one.sum()) for one in counts)
    if n < few or m < 4:
        return []
    pooling = pool_levels({place: int(count) for place, count in enumerate(counts[0])}, few)
    cells = [(level_text(levels[place]), [place]) for place in pooling.kept]
    rest = [place for place in range(len(levels)) if place not in set(pooling.kept)]
    if counts[0][rest].sum() >= few:
        cells.append((POOLED_LEVEL, rest))
    if not pooling.kept:
        return []
    if len(cells) == 2:
        # The second share follows from the first.
        cells = cells[1:] if field.type == "boolean" else cells[:1]
    tests = []
    for text, places in cells:
        a, b = int(counts[0][places].sum()), int(counts[1][places].sum())
        shares, together = (a / n, b / m), (a + b) / (n + m)
        error = math.sqrt(together * (1 - together) * (1 / n + 1 / m))
        p = float(2 * norm.sf(abs(shares[0] - shares[1]) / error)) if error > 0 else 1.0
        tests.append(
            {
                "kind": "proportion",
                "what": f"{field.name}: {text}",
                "columns": [field.name],
                "real": short(shares[0]),
                "real_interval": _share_interval(a, n),
                "synthetic": short(shares[1]),
                "synthetic_interval": _share_interval(b, m),
                "size": short(shares[1] - shares[0]),
                "size_is": "difference of shares",
                "p": p,
            }
        )
    return tests


def _share_interval(hits: int, n: int) -> list[float]:
    """Return Wilson's score interval of a share."""
    share, z2 = hits / n, Z95 * Z95
    centre = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = Z95 / (1 + z2 / n) * math.sqrt(share * (1 - share) / n + z2 / (4 * n * n))
    return [short(max(centre - half, 0.0)), short(min(centre + half, 1.0))]


def _distribution(field: Field, x: Floats, y: Floats) -> dict[str, Any]:
    from scipy.stats import kstwobign

    x, y = np.sort(x), np.sort(y)
    steps = np.concatenate([x, y])
    gap = np.abs(
        np.searchsorted(x, steps, side="right") / len(x) - np.searchsorted(y, steps, side="right") / len(y)
    )
    statistic = float(gap.max())
    size = math.sqrt(len(x) * len(y) / (len(x) + len(y)))
    # Stephens' correction (1970) makes the limit hold from few values on.
    p = float(kstwobign.sf(statistic * (size + 0.12 + 0.11 / size)))
    return {
        "kind": "distribution",
        "what": field.name,
        "columns": [field.name],
        "size": short(statistic),
        "size_is": "Kolmogorov–Smirnov statistic",
        "p": p,
    }


def _correlations(
    fields: Sequence[Field], real: pd.DataFrame, other: pd.DataFrame, few: int
) -> list[dict[str, Any]]:
    from scipy.stats import norm

    (r, n), (s, m) = (correlated(fields, frame) for frame in (real, other))
    places = np.argwhere(np.triu((n >= few) & (m >= 4) & ~np.isnan(r) & ~np.isnan(s), 1))
    if not len(places):
        return []
    i, j = places.T
    # A correlation of 1 would be infinite on Fisher's scale.
    z = [np.arctanh(np.clip(one[i, j], -1 + 1e-9, 1 - 1e-9)) for one in (r, s)]
    errors = [1 / np.sqrt(one[i, j] - 3) for one in (n, m)]
    p = 2 * norm.sf(np.abs(z[1] - z[0]) / np.hypot(*errors))
    ends = [
        (np.tanh(one - Z95 * error), np.tanh(one + Z95 * error)) for one, error in zip(z, errors, strict=True)
    ]
    return [
        {
            "kind": "correlation",
            "what": f"{fields[a].name} × {fields[b].name}",
            "columns": [fields[a].name, fields[b].name],
            "real": short(r[a, b]),
            "real_interval": [short(ends[0][0][place]), short(ends[0][1][place])],
            "synthetic": short(s[a, b]),
            "synthetic_interval": [short(ends[1][0][place]), short(ends[1][1][place])],
            "size": short(s[a, b] - r[a, b]),
            "size_is": "difference of correlations",
            "p": float(p[place]),
        }
        for place, (a, b) in enumerate(places.tolist())
    ]


def _pictures(tests: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    pictures = []
    for kind, title in (("proportion", "Proportions"), ("correlation", "Correlations")):
        rows = [
            {
                "name": test["what"],
                "value": test["synthetic"],
                "low": test["synthetic_interval"][0],
                "high": test["synthetic_interval"][1],
                "baseline": test["real"],
            }
            for test in tests
            if test["kind"] == kind
        ]
        if rows:
            title += ": synthetic with 95 % interval, beside real; those that differ most"
            pictures.append({"kind": "intervals", "title": title, "mark": "real", "rows": rows[:20]})
    return pictures
