"""Candidates of a program as weighted rows: even draws, so that chance is not mistaken for a fault."""

from __future__ import annotations

import functools
import math

import numpy as np
from numpy.typing import NDArray

from app.blueprint.candidates import Candidates
from app.blueprint.program import Program
from app.blueprint.rows import Rows
from app.blueprint.structure import Structure

MOST_DIMENSIONS = 24
"""Of Sobol points: in more, some pairs of columns are far from even at any number of rows that is drawn."""

AT_ONCE = 16_384
NARROW = 25
"""Columns up to which all rows are simulated."""

DEAREST = 20.0
"""What losing nearly every candidate counts, in the sum of gaps."""


def widening(structure: Structure, narrow: int = NARROW) -> int:
    """Return how often the rows to simulate are halved, for as many numbers with more columns."""
    return math.ceil(math.log2(max(len(structure.marginals) / narrow, 1.0)))


def lost(rows: Rows) -> float:
    """Return what candidates turned away count: rows that are nearly never accepted are no use."""
    return DEAREST * max(0.0, 0.5 - len(rows) / max(rows.drawn, 1))


def forget() -> None:
    """Give back the memory of the draws that were kept for the next simulation."""
    _even_normals.cache_clear()


def simulate(program: Program, structure: Structure, n: int, seed: int = 0) -> Rows:
    """Return the candidates that keep every rule, weighted as the program's tilt accepts them.

    Latent values are scrambled Sobol points (A. B. Owen, 1995), in many dimensions a Latin hypercube (M. D.
    McKay et al., 1979), whose first two moments are exact; cells come in their exact shares: statistics are
    up to a few times as precise as those of random rows.
    """
    rng = np.random.Generator(np.random.SFC64(seed))
    cells = [block.even(n, rng) for block in program.blocks]
    drawn = program.compute(cells, _even_normals(len(program.latents), n, seed), rng)
    candidates = Candidates(program, drawn)
    good = candidates.accepted()
    chosen = slice(None) if good is None or not good.any() else np.flatnonzero(good)
    schema = structure.schema
    numbers, codes, applies, units = {}, {}, {}, {}
    for item in schema.fields:
        if item.name not in candidates:
            continue
        if item.levels is not None:
            codes[item.name] = candidates.codes(item.name)[chosen]
        elif item.type != "string":
            numbers[item.name] = candidates.numbers(item.name)[chosen]
            if item.name not in candidates.computed:
                units[item.name] = program.reading(item.name).per_unit
        if item.relevant is not None and all(name in candidates for name in item.relevant.fields):
            applies[item.name] = candidates.columns.holds(item.relevant)[chosen]
    if program.tilt is None:
        weights = np.ones(n)[chosen]
    else:
        log_weights = candidates.log_weights()[chosen]
        weights = np.exp(np.minimum(log_weights - program.tilt.top, 0.0)).astype(np.float64)
    return Rows(schema, numbers, codes, applies, weights / weights.sum(), n, units)


@functools.lru_cache(maxsize=1)
def _even_normals(size: int, n: int, seed: int) -> NDArray[np.float32]:
    """Return independent normals whose first two moments are exact, shape (size, n); not to be written to."""
    from scipy.special import ndtri
    from scipy.stats import qmc

    if size == 0:
        return np.empty((0, n), np.float32)
    if size <= MOST_DIMENSIONS:
        normal = np.ascontiguousarray(
            qmc.Sobol(size, scramble=True, seed=np.random.default_rng(seed)).random(n).T
        )
        np.clip(normal, 1e-9, 1 - 1e-9, out=normal)
        ndtri(normal, out=normal)
    else:
        rng = np.random.Generator(np.random.SFC64([seed, 1]))
        levels = ndtri((np.arange(n) + 0.5) / n)
        normal = np.stack([rng.permutation(levels) for _ in range(size)])
    normal -= normal.mean(axis=1, keepdims=True)
    even = np.linalg.inv(np.linalg.cholesky(normal @ normal.T / n))
    found = np.empty((size, n), np.float32)
    for start in range(0, n, AT_ONCE):  # in parts: the whole would be there twice
        found[:, start : start + AT_ONCE] = even @ normal[:, start : start + AT_ONCE]
    found.flags.writeable = False
    return found
