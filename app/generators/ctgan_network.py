"""A trained CTGAN's generator without the package: weights alone, and their forward pass.

What is pickled is this. The package's own object also holds the row numbers of its training table.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SETTLING_ROWS = 4096
NORMALISATION_EPSILON = 1e-5


@dataclass(frozen=True, eq=False)
class Layer:
    """A residual layer of the package: linear, normalised over the batch, rectified, joined to its input.

    The batch's mean and deviation are fixed once, on SETTLING_ROWS rows, so that a row does not depend on
    its neighbours.
    """

    weight: NDArray[np.float32]
    bias: NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class FrozenNetwork:
    """A `Network` of `app.generators.tabular`.

    Parameters
    ----------
    embedding : int
        Width of the noise.
    layers : tuple of Layer
        Residual layers, normalisation folded in, and at the end the linear one.
    conditions : tuple of ndarray
        For each slot of codes, the share of each code as it is asked for.
    softmax : ndarray of bool, shape (width,)
        The outputs that are log weights.
    """

    embedding: int
    layers: tuple[Layer, ...]
    conditions: tuple[NDArray[np.float64], ...]
    softmax: NDArray[np.bool_]

    def draw(self, rng: np.random.Generator, n: int) -> NDArray[np.float32]:
        """Return raw output, shape (n, width)."""
        import numpy as np
        from threadpoolctl import threadpool_limits

        values = asked(self.embedding, self.conditions, rng, n)
        with threadpool_limits(limits=1, user_api="blas"):  # the order of sums, and so the bytes, hang on it
            for layer in self.layers[:-1]:
                values = np.hstack([np.maximum(values @ layer.weight + layer.bias, 0), values])
            raw = values @ self.layers[-1].weight + self.layers[-1].bias
        # The largest of log weights with Gumbel noise is a draw by the weights.
        noise = rng.standard_exponential((n, int(self.softmax.sum())), dtype="float32")
        raw[:, self.softmax] -= np.log(np.maximum(noise, np.float32(1e-30)))  # a few are 0
        return raw


def asked(
    embedding: int, conditions: tuple[NDArray[np.float64], ...], rng: np.random.Generator, n: int
) -> NDArray[np.float32]:
    """Return noise beside what is asked for: one code of one slot in each row, shape (n, inputs)."""
    import numpy as np

    noise = rng.standard_normal((n, embedding), dtype="float32")
    if not conditions:
        return noise
    shares = np.concatenate(conditions)
    upper = np.cumsum(shares / shares.sum())
    codes = np.minimum(np.searchsorted(upper, rng.random(n), side="right"), len(upper) - 1)
    wanted = np.zeros((n, len(upper)), "float32")
    wanted[np.arange(n), codes] = 1
    return np.hstack([noise, wanted])


def freeze(
    weights: list[NDArray[np.float32]],
    embedding: int,
    conditions: tuple[NDArray[np.float64], ...],
    softmax: NDArray[np.bool_],
    order: NDArray[np.int64],
    rng: np.random.Generator,
    settling_rows: int = SETTLING_ROWS,
) -> FrozenNetwork:
    """Return the network of these weights.

    Parameters
    ----------
    weights : list of ndarray
        Of each residual layer its weight (out, in), bias, and the scale and shift of its normalisation; at
        the end weight and bias of the last layer.
    order : ndarray of int64, shape (width,)
        Which output of the last layer becomes which column of the raw output.
    """
    import numpy as np
    from threadpoolctl import threadpool_limits

    values = asked(embedding, conditions, rng, settling_rows)
    layers: list[Layer] = []
    with threadpool_limits(limits=1, user_api="blas"):
        for place in range(0, len(weights) - 2, 4):
            weight, bias, scale, shift = weights[place : place + 4]
            linear = values @ weight.T + bias
            mean, variance = linear.mean(axis=0), linear.var(axis=0)
            factor = scale / np.sqrt(variance + NORMALISATION_EPSILON)
            layer = Layer((weight.T * factor).astype("float32"), (bias - mean) * factor + shift)
            layers.append(layer)
            values = np.hstack([np.maximum(values @ layer.weight + layer.bias, 0), values])
    layers.append(Layer(np.ascontiguousarray(weights[-2].T[:, order]), weights[-1][order]))
    return FrozenNetwork(embedding, tuple(layers), conditions, softmax)


def weights_of(generator: Any) -> list[NDArray[np.float32]]:
    """Return a copy of the package's generator's weights, in the order that `freeze` reads."""
    return [tensor.detach().numpy().copy() for tensor in generator.parameters()]
