"""The holdout: which rows of a dataset no generator ever learns from.

A pure function of the dataset's sha256, the share, the target and the group. It is computed from the stored
table, before any schema is laid over it, and never from a job's seed.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

_QUANTILE_BINS = 10
_FEW_LEVELS = 20


def holdout_mask(
    sha256: str, frame: pd.DataFrame, holdout: float, target: str | None = None, group: str | None = None
) -> NDArray[np.bool_]:
    """Choose the holdout's rows.

    Rows are ordered by a hash of (sha256, row number) within strata of the target, and every 1/holdout-th
    is taken (systematic sampling), so each stratum gives its share within one row. Rows of one group go
    together and count as one; a group's stratum is that of its first row. Where there are two units or
    more, each part gets at least one. A group that is missing makes its row a unit of its own.

    Parameters
    ----------
    sha256 : str
        Of the uploaded file (hex).
    frame : DataFrame, n rows
        The stored table in its stored order; only `target` and `group` are read.
    holdout : float
        Share of the holdout, 0 … 1; 0 gives an empty one.
    target, group : str, optional
        Columns.

    Returns
    -------
    ndarray of bool, shape (n,)
        True for the holdout.

    Notes
    -----
    The order comes from BLAKE2b (key) and the splitmix64 finaliser (Steele, Lea, Flood 2014), not from a
    library's generator, so that it stays the same with every version of everything.
    """
    rows = len(frame)
    units, first_rows = _units(frame, group)
    if holdout <= 0 or len(first_rows) < 2:
        return np.zeros(rows, dtype=bool)
    strata = (
        _strata(frame[target])[first_rows]
        if target is not None
        else np.zeros(len(first_rows), dtype=np.int64)
    )
    ranks = _hashes(sha256, first_rows)
    order = np.lexsort((first_rows, ranks, _by_size(strata, ranks)))
    # The start is drawn too: else the smallest strata would always give, or never.
    start = float(_hashes(sha256, np.array([rows], dtype=np.int64))[0]) / 2.0**64
    steps = np.floor(np.arange(len(order) + 1) * holdout + start)
    chosen = np.zeros(len(order), dtype=bool)
    chosen[order] = np.diff(steps) > 0
    if not chosen.any():
        chosen[ranks.argmin()] = True
    elif chosen.all():
        chosen[ranks.argmax()] = False
    mask: NDArray[np.bool_] = chosen[units]
    return mask


def _units(frame: pd.DataFrame, group: str | None) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Number the units in order of first appearance; return each row's unit and each unit's first row."""
    import pandas as pd

    rows = np.arange(len(frame), dtype=np.int64)
    if group is None:
        return rows, rows
    codes = pd.factorize(frame[group])[0].astype(np.int64)
    absent = codes < 0
    codes[absent] = codes.max(initial=-1) + 1 + np.arange(absent.sum())
    _, first, inverse = np.unique(codes, return_index=True, return_inverse=True)
    order = np.argsort(first)
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    return place[inverse].astype(np.int64), first[order].astype(np.int64)


def _strata(column: pd.Series) -> NDArray[np.int64]:
    """Number the strata of a target: its values where few, else tenths; missing is one of its own."""
    import pandas as pd

    codes, levels = pd.factorize(column)
    codes = codes.astype(np.int64)
    if len(levels) > _FEW_LEVELS:
        numbers = _numbers(column)
        if numbers is None:
            return np.where(codes < 0, 1, 0).astype(np.int64)
        present = numbers[codes >= 0]
        edges = np.quantile(present, np.arange(1, _QUANTILE_BINS) / _QUANTILE_BINS)
        # Equal values share a stratum: searchsorted looks at the value, not at the row.
        codes = np.where(codes < 0, _QUANTILE_BINS, np.searchsorted(np.unique(edges), numbers, side="left"))
        return codes.astype(np.int64)
    return np.where(codes < 0, len(levels), codes)


def _numbers(column: pd.Series) -> NDArray[np.float64] | None:
    import pandas as pd

    if pd.api.types.is_datetime64_any_dtype(column.dtype) or pd.api.types.is_timedelta64_dtype(column.dtype):
        return column.to_numpy().astype(np.int64).astype(np.float64)
    if pd.api.types.is_numeric_dtype(column.dtype):
        return column.to_numpy(dtype=np.float64, na_value=np.nan)
    return None


def _by_size(strata: NDArray[np.int64], ranks: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Renumber strata by size, then by their smallest hash: the same whatever the values are called."""
    _, inverse, sizes = np.unique(strata, return_inverse=True, return_counts=True)
    least = np.full(len(sizes), np.iinfo(np.uint64).max, dtype=np.uint64)
    np.minimum.at(least, inverse, ranks)
    place = np.empty(len(sizes), dtype=np.int64)
    place[np.lexsort((least, sizes))] = np.arange(len(sizes))
    result: NDArray[np.int64] = place[inverse]
    return result


def _hashes(sha256: str, rows: NDArray[np.int64]) -> NDArray[np.uint64]:
    key = np.uint64(int.from_bytes(hashlib.blake2b(sha256.encode(), digest_size=8).digest(), "big"))
    with np.errstate(over="ignore"):  # arithmetic modulo 2**64 is meant
        z = key + (rows.astype(np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        hashed: NDArray[np.uint64] = z ^ (z >> np.uint64(31))
    return hashed
