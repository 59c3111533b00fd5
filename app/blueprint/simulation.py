"""Candidates of a program as weighted rows: even draws, so that chance is not mistaken for a fault."""

from __future__ import annotations

import numpy as np

from app.blueprint.candidates import Candidates
from app.blueprint.program import Program
from app.blueprint.rows import Rows
from app.blueprint.structure import Structure

MOST_DIMENSIONS = 64

DEAREST = 20.0
"""What losing nearly every candidate counts, in the sum of gaps."""


def lost(rows: Rows) -> float:
    """Return what candidates turned away count: rows that are nearly never accepted are no use."""
    return DEAREST * max(0.0, 0.5 - len(rows) / max(rows.drawn, 1))


def simulate(program: Program, structure: Structure, n: int, seed: int = 0) -> Rows:
    """Return the candidates that keep every rule, weighted as the program's tilt accepts them.

    Latent values are scrambled Sobol points (A. B. Owen, 1995) whose first two moments are exact, cells come
    in their exact shares: statistics are a few times as precise as those of random rows.
    """
    from scipy.special import ndtri
    from scipy.stats import qmc

    rng = np.random.Generator(np.random.SFC64(seed))
    cells = [block.even(n, rng) for block in program.blocks]
    size = len(program.latents)
    if 0 < size <= MOST_DIMENSIONS:
        points = qmc.Sobol(size, scramble=True, seed=np.random.default_rng(seed)).random(n)
        normal = ndtri(np.clip(points, 1e-9, 1 - 1e-9))
    else:
        normal = rng.standard_normal((n, size))
    if size:
        normal = normal - normal.mean(axis=0)
        normal = normal @ np.linalg.inv(np.linalg.cholesky(np.cov(normal.T, ddof=0).reshape(size, size))).T
    drawn = program.compute(cells, np.ascontiguousarray(normal.T).astype(np.float32), rng)
    candidates = Candidates(program, drawn)
    good = candidates.accepted()
    chosen = slice(None) if good is None or not good.any() else np.flatnonzero(good)
    schema = structure.schema
    numbers, codes, applies = {}, {}, {}
    for item in schema.fields:
        if item.name not in candidates:
            continue
        if item.levels is not None:
            codes[item.name] = candidates.codes(item.name)[chosen]
        elif item.type != "string":
            numbers[item.name] = candidates.numbers(item.name)[chosen]
        if item.relevant is not None and all(name in candidates for name in item.relevant.fields):
            applies[item.name] = candidates.columns.holds(item.relevant)[chosen]
    if program.tilt is None:
        weights = np.ones(n)[chosen]
    else:
        log_weights = candidates.log_weights()[chosen]
        weights = np.exp(np.minimum(log_weights - program.tilt.top, 0.0)).astype(np.float64)
    return Rows(schema, numbers, codes, applies, weights / weights.sum(), n)
