"""Candidates of a program as weighted rows: even draws, so that chance is not mistaken for a fault."""

from __future__ import annotations

import numpy as np

from app.blueprint.rows import Rows
from app.blueprint.sample import Program, codes_of, numbers_of
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
    frame = program.frame(drawn)
    good = program.accepted(frame) if program.rules or program.bounded else np.ones(len(frame), np.bool_)
    if not good.any():
        good[:] = True
    if not good.all():
        frame = frame[good].reset_index(drop=True)
    weights = np.full(len(frame), 1 / len(frame))
    if program.tilt is not None:
        weights = np.exp(np.minimum(program.log_weights(frame) - program.tilt.top, 0.0)).astype(np.float64)
        weights /= weights.sum()
    from app.schema.evaluate import holds_relevant

    schema = structure.schema
    numbers, codes, applies = {}, {}, {}
    for item in schema.fields:
        if item.name not in frame:
            continue
        if item.levels is not None:
            codes[item.name] = codes_of(item, frame[item.name])
        elif item.type != "string":
            numbers[item.name] = numbers_of(item, frame[item.name])
        if item.relevant is not None and set(item.relevant.fields) <= set(frame.columns):
            applies[item.name] = holds_relevant(item.relevant, frame)
    return Rows(schema, numbers, codes, applies, weights, n)
