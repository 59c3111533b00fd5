"""Directions that a declaration leaves open: taken so that all pairs together can be, and called guesses."""

from __future__ import annotations

import math

import numpy as np

from app.blueprint.statements import Statement
from app.blueprint.structure import Structure

UNSIGNED = ("cramers_v", "correlation_ratio")


def guessed_signs(structure: Structure) -> dict[str, int]:
    """Choose a direction for each measure that has none and none declared, by pointer.

    Every field stands for one score; the signs are those under which the matrix of what is stated is
    nearest to a correlation matrix (the sum of its negative eigenvalues is least), found by flipping one
    after another.
    """
    names = list(dict.fromkeys([*structure.marginals, *(n for s in structure.statements for n in s.fields)]))
    place = {name: number for number, name in enumerate(names)}
    matrix = np.eye(len(names))
    open_ones: list[tuple[Statement, int, int, float]] = []
    signs: dict[str, int] = {}
    for statement in structure.statements:
        if len(statement.fields) != 2 or statement.given:
            continue
        if any(name not in place for name in statement.fields):
            continue
        i, j = (place[name] for name in statement.fields)
        value = statement.asked
        if statement.kind == "odds_ratio":
            value = math.tanh(math.log(max(value, 1e-6)) / 4)
        if statement.kind in UNSIGNED:
            if statement.sign is not None:
                signs[statement.pointer] = statement.sign
                value *= statement.sign
            elif matrix[i, j] < 0:  # another measure of the pair has a direction
                signs[statement.pointer] = -1
                continue
            else:
                open_ones.append((statement, i, j, value))
                signs[statement.pointer] = 1
        if abs(value) >= abs(matrix[i, j]):
            matrix[i, j] = matrix[j, i] = value
    if not open_ones or len(names) > 120:
        return signs
    best = _badness(matrix)
    for _ in range(3):
        if best < 1e-6:
            break
        changed = False
        for statement, i, j, _ in sorted(open_ones, key=lambda one: -one[3]):
            matrix[i, j] = matrix[j, i] = -matrix[i, j]
            there = _badness(matrix)
            if there < best - 1e-9:
                best, changed = there, True
                signs[statement.pointer] *= -1
            else:
                matrix[i, j] = matrix[j, i] = -matrix[i, j]
        if not changed:
            break
    return signs


def _badness(matrix: np.ndarray) -> float:
    values = np.linalg.eigvalsh(matrix)
    return float(-np.minimum(values - 0.02, 0).sum())
