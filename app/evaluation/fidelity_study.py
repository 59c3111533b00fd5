"""Fidelity by the protocol of clinical studies: tests of means, proportions, distributions, correlations.

The protocol is that of Barr, Guo & Sezgin 2025 (arXiv 2502.09566). Replicates stand side by side, and are
checked for draws that they share.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from app.disclosure import POOLED_LEVEL, pool_levels
from app.evaluation.base import Depth, Dimension, NotMeasured, Score, Tables
from app.evaluation.bootstrap import Z95
from app.evaluation.columns import Codes, Floats, cell_rows, codes, numbers, pooled
from app.evaluation.conformance import level_text
from app.evaluation.fidelity_associations import at_most, correlations, gram_of
from app.evaluation.fidelity_pairs import products
from app.schema.table import Field

LEVEL = 0.05
SHOWN_TESTS = 200
MOST_PAIRS_OF_REPLICATES = 10
SHIFTS = 8

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
            "tests": [_shown(test, held) for test in tests[:SHOWN_TESTS]],
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
            details["replicates"] = replicates = compare_replicates(fields, tables.synthetic, rng)
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
            "real": _short(means[0]),
            "real_interval": [_short(means[0] - halves[0]), _short(means[0] + halves[0])],
            "synthetic": _short(means[1]),
            "synthetic_interval": [_short(means[1] - halves[1]), _short(means[1] + halves[1])],
            "size": _short((means[1] - means[0]) / sd) if sd > 0 else None,
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
                "real": _short(shares[0]),
                "real_interval": _share_interval(a, n),
                "synthetic": _short(shares[1]),
                "synthetic_interval": _share_interval(b, m),
                "size": _short(shares[1] - shares[0]),
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
    return [_short(max(centre - half, 0.0)), _short(min(centre + half, 1.0))]


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
        "size": _short(statistic),
        "size_is": "Kolmogorov–Smirnov statistic",
        "p": p,
    }


def _correlations(
    fields: Sequence[Field], real: pd.DataFrame, other: pd.DataFrame, few: int
) -> list[dict[str, Any]]:
    from scipy.stats import norm

    (r, n), (s, m) = (_correlated(fields, frame) for frame in (real, other))
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
            "real": _short(r[a, b]),
            "real_interval": [_short(ends[0][0][place]), _short(ends[0][1][place])],
            "synthetic": _short(s[a, b]),
            "synthetic_interval": [_short(ends[1][0][place]), _short(ends[1][1][place])],
            "size": _short(s[a, b] - r[a, b]),
            "size_is": "difference of correlations",
            "p": float(p[place]),
        }
        for place, (a, b) in enumerate(places.tolist())
    ]


def _correlated(fields: Sequence[Field], frame: pd.DataFrame) -> tuple[Floats, Floats]:
    """Return correlations of all pairs and the numbers of rows that they rest on."""
    gram = gram_of(products(fields, frame))
    p = len(fields)
    return correlations(gram, p, 4, 1e-9), gram[2 * p :, 2 * p :]


def _short(value: Any) -> float:
    """Round to 5 significant digits, for a reader and against −0."""
    return float(f"{float(value):.5g}") + 0.0


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


def compare_replicates(
    fields: Sequence[Field], replicates: Sequence[pd.DataFrame], rng: np.random.Generator
) -> dict[str, Any]:
    """Set replicates side by side, and look for draws that they share.

    Parameters
    ----------
    fields : sequence of Field
        The columns to look at: no ids, no free text.
    replicates : sequence of DataFrame
        At least two.

    Returns
    -------
    dict
        `columns`: each number's mean in each replicate, the spread of these means and the spread that
        independent samples have (sd/√rows). `shared_draws`, for pairs of replicates: cells that are equal in
        the same place more often than in other places, and rows of one that stand in the other more often
        than in the rest of their own replicate. `found` says whether any pair is beyond chance (a false
        alarm of one in a thousand over all).
    """
    columns = [
        row for field in fields if field.kind == "numeric" and (row := _side_by_side(field, replicates))
    ]
    pairs = list(combinations(range(len(replicates)), 2))[:MOST_PAIRS_OF_REPLICATES]
    shared = [
        _shared(fields, replicates[a], replicates[b], len(pairs), rng) | {"replicates": [a + 1, b + 1]}
        for a, b in pairs
    ]
    worst = max(shared, key=lambda row: row["rows_beyond_chance"])
    found = any(row["beyond_chance"] for row in shared)
    count = f"The {len(replicates)} replicates"
    reading = (
        f"{count} share draws (up to {worst['rows_beyond_chance']:.1%} of whole rows beyond chance), so they "
        "are no independent samples."
        if found
        else f"{count} share no draws beyond chance."
    )
    return {
        "count": len(replicates),
        "rows": [len(frame) for frame in replicates],
        "columns": columns,
        "shared_draws": {"found": found, "pairs": shared, "cells_are": "numbers, dates and levels"},
        "reading": reading,
    }


def _side_by_side(field: Field, replicates: Sequence[pd.DataFrame]) -> dict[str, Any] | None:
    found = [numbers(field, frame[field.name]) for frame in replicates]
    found = [values[np.isfinite(values)] for values in found]
    if min(len(values) for values in found) < 2:
        return None
    means = np.array([values.mean() for values in found])
    expected = math.sqrt(float(np.mean([values.var(ddof=1) / len(values) for values in found])))
    spread = float(means.std(ddof=1))
    if not np.isfinite([spread, expected]).all():
        return None
    return {
        "column": field.name,
        "means": [_short(mean) for mean in means],
        "spread": _short(spread),
        "expected_spread": _short(expected),
        "ratio": _short(spread / expected) if expected > 0 else None,
    }


def _shared(
    fields: Sequence[Field], one: pd.DataFrame, other: pd.DataFrame, pairs: int, rng: np.random.Generator
) -> dict[str, Any]:
    from scipy.stats import norm

    rows = min(len(one), len(other))
    if rows < 2 or not fields:
        return {"beyond_chance": False, "rows_beyond_chance": 0.0, "columns_equal_in_the_same_place": []}
    first, second = (
        np.column_stack([_cells(field, frame[field.name].iloc[:rows]) for field in fields])
        for frame in (one, other)
    )
    equal = _equal(first, second)
    shifts = rng.integers(1, rows, SHIFTS).tolist()
    chance = np.mean([_equal(first, np.roll(second, shift, axis=0)).mean(axis=0) for shift in shifts], axis=0)
    limit = float(norm.isf(0.001 / ((len(fields) + 1) * pairs)))

    def beyond(share: float, expected: float) -> bool:
        # Rare equality is Poisson: a handful may be chance, so three rows are always allowed.
        error = math.sqrt(max(expected * (1 - expected), 1 / rows) / rows)
        return share - expected > limit * error + 3 / rows

    shares = equal.mean(axis=0)
    told = [
        {"column": field.name, "equal": _short(shares[place]), "by_chance": _short(chance[place])}
        for place, field in enumerate(fields)
        if beyond(float(shares[place]), float(chance[place]))
    ]
    # Whole rows wherever they stand: half of one among half of the other, and among its own other half.
    dealt = rng.permutation(rows)
    half = rows // 2
    own, rest = first[dealt[:half]], first[dealt[half : 2 * half]]
    common, within = _found(own, second[dealt[:half]]), _found(own, rest)
    error = math.sqrt(2 * max(within * (1 - within), 1 / half) / half)
    in_common = common - within > limit * error + 3 / half
    return {
        "beyond_chance": bool(told) or in_common,
        "rows_in_common": _short(common),
        "rows_in_common_by_chance": _short(within),
        "rows_beyond_chance": _short(max(common - within, 0.0)),
        "columns_equal_in_the_same_place": told,
    }


def _equal(first: Floats, second: Floats) -> NDArray[np.bool_]:
    """Return which cells are equal; two missing values are."""
    result: NDArray[np.bool_] = (first == second) | (np.isnan(first) & np.isnan(second))
    return result


def _found(rows: Floats, among: Floats) -> float:
    """Return the share of `rows` that stand among the others."""
    keys = [pd.util.hash_pandas_object(pd.DataFrame(part + 0.0), index=False) for part in (rows, among)]
    return float(np.isin(keys[0].to_numpy(), keys[1].to_numpy()).mean())


def _cells(field: Field, column: pd.Series) -> Floats:
    if field.levels is None:
        return numbers(field, column)
    found = codes(field, column).astype(np.float64)
    found[found < 0] = np.nan
    return found
