"""Training with the `ctgan` package, unchanged: its attributes are where its loop is listened to.

Imports torch and ctgan, so that it is imported inside `fit` only.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import joblib
import numpy as np
import pandas as pd
import torch
from ctgan import CTGAN
from ctgan.data_sampler import DataSampler
from numpy.typing import NDArray

from app.errors import GeneratorFailed
from app.generators.ctgan_network import SETTLING_ROWS, FrozenNetwork, freeze, weights_of
from app.generators.ctgan_plan import Enough
from app.generators.tabular import Slot

AfterEpoch = Callable[[int, "Training"], None]


class _Sampler(DataSampler):  # type: ignore[misc]
    """Draws all of a batch's real rows at once; the package asks NumPy for each by itself."""

    @classmethod
    def over(cls, package: DataSampler) -> _Sampler:
        """Return the package's sampler with this class's way of drawing."""
        sampler: _Sampler = cls.__new__(cls)
        sampler.__dict__.update(package.__dict__)
        rows = [rows for of_column in package._rid_by_cat_cols for rows in of_column]
        sampler._rows = np.concatenate(rows) if rows else np.empty(0, "int64")
        sampler._counts = np.array([len(each) for each in rows], "int64")
        sampler._starts = np.cumsum(sampler._counts) - sampler._counts
        return sampler

    def sample_data(self, data: Any, n: int, col: Any, opt: Any) -> Any:
        """Return `n` rows that have the codes asked for."""
        if col is None:
            return super().sample_data(data, n, col, opt)
        codes = self._discrete_column_cond_st[col] + opt
        places = (np.random.random(n) * self._counts[codes]).astype("int64")
        return data[self._rows[self._starts[codes] + places]]


class Training(CTGAN):  # type: ignore[misc]
    """The package's CTGAN, which calls `after_epoch(epochs done, self)` and takes scores as they are.

    The package's loop assigns `_transformer` and `_data_sampler` once, `loss_values` after every epoch;
    these assignments are the hooks. `after_epoch` may raise `Enough`.
    """

    def __init__(self, slots: list[Slot], after_epoch: AfterEpoch, **options: Any) -> None:
        self._slots = slots
        self._after_epoch = after_epoch
        self._epochs_done = 0
        self._diverged = False
        super().__init__(enable_gpu=False, verbose=False, **options)

    def run(self, seed: int) -> None:
        """Train; the global states of NumPy and torch, and torch's threads, are as before when it returns."""
        self.set_random_state(seed)
        threads = torch.get_num_threads()
        torch.set_num_threads(1)  # steps this small are slower on two, and the bytes hang on the number
        table = pd.DataFrame({str(place): slot.values for place, slot in enumerate(self._slots)})
        codes = [str(place) for place, slot in enumerate(self._slots) if slot.codes]
        try:
            # Processes of its own for tables of 500 rows on cost seconds, and outlive a cancelled job.
            with (
                joblib.parallel_config(backend="sequential"),
                warnings.catch_warnings(action="ignore"),
            ):
                self.fit(table, codes)
        except Enough:
            pass
        except ValueError as error:
            if "returning NaN" not in str(error):
                raise
            self._diverged = True
        finally:
            torch.set_num_threads(threads)

    def weights(self) -> list[NDArray[np.float32]]:
        """Return a copy of the generator's weights.

        Raises
        ------
        GeneratorFailed
            They went beyond all bounds.
        """
        weights = weights_of(self._generator)
        if self._diverged or not all(np.isfinite(each).all() for each in weights):
            raise GeneratorFailed(
                "Training diverged: the network's weights went beyond all bounds. Lower `generator_lr` and "
                "`discriminator_lr`, or leave them at `auto`."
            )
        return weights

    def frozen(
        self, weights: list[NDArray[np.float32]], rng: np.random.Generator, settling_rows: int = SETTLING_ROWS
    ) -> FrozenNetwork:
        """Return the network of these weights: an output for each slot of scores, one for each code."""
        order: list[int] = []
        softmax: list[bool] = []
        conditions: list[NDArray[np.float64]] = []
        start = 0
        for info, slot in zip(self._transformer._column_transform_info_list, self._slots, strict=True):
            if slot.codes:
                # The package orders codes as they come up in the table.
                seen = np.array(info.transform.dummies, "int64")
                conditions.append(np.bincount(slot.values)[seen] / len(slot.values))
                order += [start + int(place) for place in np.argsort(seen)]
            else:
                order.append(start)
            softmax += [bool(slot.codes)] * max(slot.codes, 1)
            start += info.output_dimensions
        return freeze(
            weights,
            self._embedding_dim,
            tuple(conditions),
            np.array(softmax),
            np.array(order, "int64"),
            rng,
            settling_rows,
        )

    @property
    def loss_values(self) -> pd.DataFrame:
        """The package's table of losses; always empty, as it grows by a copy each epoch."""
        return pd.DataFrame()

    @loss_values.setter
    def loss_values(self, losses: pd.DataFrame | None) -> None:
        if losses is None or losses.empty:
            return
        self._epochs_done += 1
        self._after_epoch(self._epochs_done, self)

    @property
    def _transformer(self) -> Any:
        return self.__dict__.get("_transformer")

    @_transformer.setter
    def _transformer(self, transformer: Any) -> None:
        if transformer is not None:
            transformer._max_clusters = 1  # normal scores have one mode
        self.__dict__["_transformer"] = transformer

    @property
    def _data_sampler(self) -> Any:
        return self.__dict__.get("_data_sampler")

    @_data_sampler.setter
    def _data_sampler(self, sampler: Any) -> None:
        self.__dict__["_data_sampler"] = None if sampler is None else _Sampler.over(sampler)
