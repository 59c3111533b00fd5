"""How numbers go with a category by way of others: what nobody states, and entropy implies.

Where x depends on a category c and y goes with x, and nothing is said of y and c, the distribution of
greatest entropy lets y depend on c as far as x carries it: E[y | c] = β'E[x | c], with the coefficients of
y's regression on the x. Without it a strong correlation of x and y could not be had where c makes most of x.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from app.blueprint.correlation import nearest_correlation
from app.blueprint.model_parameters import Parameters
from app.blueprint.rows import Floats

LEAST_EFFECT = 0.03
"""In sd: below, a dependence is left out."""

RIDGE = 1e-2


def induced_effects(
    parameters: Parameters, ordered: Iterable[tuple[str, str]]
) -> dict[tuple[str, tuple[str, ...]], Floats]:
    """Return the effects that stated ones and wanted correlations imply.

    Parameters
    ----------
    parameters : Parameters
        With the effects that are stated, and the pairs that are wanted.
    ordered : iterable of (str, str)
        Pairs that an order ties: they have their dependence by it.

    Returns
    -------
    dict of (latent, fields) to ndarray of float64, shape (combinations,)
    """
    structure = parameters.structure
    latents, pairs = structure.latents, parameters.pairs
    if not len(pairs):
        return {}
    tied = {frozenset(names) for names in ordered}
    loose = np.array([frozenset((latents[i], latents[j])) not in tied for i, j in pairs])
    wanted = parameters.wanted.mean(axis=0) * loose
    factor = nearest_correlation(len(latents), pairs, wanted, parameters.weights)
    parameters.factors = [factor] * len(parameters.wanted)  # to begin with
    matrix = factor @ factor.T
    sources: dict[tuple[str, ...], dict[int, Floats]] = {}
    for (name, fields), sizes in parameters.effects.items():
        sources.setdefault(fields, {})[latents.index(name)] = _whole(parameters, fields, sizes)
    for name, fields in structure.keys.items():
        if name not in parameters.orders:
            sources.setdefault(fields, {})[latents.index(name)] = _keyed(parameters, name)
    stated_by = _stated_by(parameters)
    found: dict[tuple[str, tuple[str, ...]], Floats] = {}
    for fields, known in sources.items():
        places = sorted(known)
        inner = matrix[np.ix_(places, places)] + RIDGE * np.eye(len(places))
        for place, name in enumerate(latents):
            if place in known or stated_by[name].intersection(fields):
                continue
            slopes = np.linalg.solve(inner, matrix[places, place])
            mean: Floats = np.asarray(slopes @ np.stack([known[one] for one in places]))
            if np.abs(mean).max() >= LEAST_EFFECT:
                found[name, fields] = _residual(parameters, fields, mean)
    return found


def _stated_by(parameters: Parameters) -> dict[str, set[str]]:
    """Return the fields by which something is said of each number."""
    found: dict[str, set[str]] = {name: set() for name in parameters.structure.latents}
    for name, key in parameters.structure.keys.items():
        if name in found and name not in parameters.orders:
            found[name] |= set(key)
    for name, fields in parameters.effects:
        found[name] |= set(fields)
    return found


def _shares(parameters: Parameters, fields: tuple[str, ...], size: int) -> Floats:
    block = parameters.structure.home[fields[0]]
    combination = parameters.combination(block, fields)
    here = combination >= 0
    shares = np.bincount(combination[here], parameters.blocks[block].weights[here], size)
    return np.asarray(shares / max(float(shares.sum()), 1e-12))


def _whole(parameters: Parameters, fields: tuple[str, ...], sizes: Floats) -> Floats:
    """Turn effects in sd of what is left into effects in sd of the whole, centred."""
    shares = _shares(parameters, fields, len(sizes))
    centred = sizes - shares @ sizes
    return np.asarray(centred / np.sqrt(1 + shares @ centred**2))


def _residual(parameters: Parameters, fields: tuple[str, ...], means: Floats) -> Floats:
    """The opposite: effects in sd of what is left."""
    shares = _shares(parameters, fields, len(means))
    return np.asarray(means / np.sqrt(max(1 - float(shares @ means**2), 0.05)))


def _keyed(parameters: Parameters, name: str) -> Floats:
    """Return the means of a keyed column's distributions, in sd of the whole."""
    marginals = parameters.strata[name]
    key = parameters.structure.keys[name]
    means = np.array([one.mean for one in marginals])
    shares = _shares(parameters, key, len(means))
    within = np.array([one.sd for one in marginals])
    centred = means - shares @ means
    spread = float(np.sqrt(shares @ (centred**2 + within**2)))
    return np.asarray(centred / max(spread, 1e-12))
