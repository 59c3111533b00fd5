"""CTGAN, trained on a real table with the `ctgan` package (Xu et al., NeurIPS 2019, arXiv:1907.00503).

The package learns scores and codes (`app.generators.tabular`); what it needs to be told on tables of any
size, and when to stop, is found here (`epochs: "auto"`); rules and types are kept by the machinery.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from itertools import accumulate
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import BaseModel, ConfigDict
from pydantic import Field as Option

from app.errors import Fault, InvalidInput
from app.generators.base import MIN_CELL, Capabilities, Progress, Sampler
from app.generators.ctgan_plan import Follower, counted, plan_for, step_cost
from app.generators.machinery import (
    Component,
    OneColumn,
    assemble,
    drawn_fields,
    stream,
    where_it_applies,
    with_learned_gaps,
)
from app.schema.table import TableSchema

if TYPE_CHECKING:
    import pandas as pd
    from numpy.random import SeedSequence

    from app.generators.tabular import Learned, LearnedTable, Slot

if importlib.util.find_spec("ctgan") is None:
    raise ImportError(
        "the package `ctgan` is not installed; install `synthward[ctgan]` (see README, Licences)"
    )

SECONDS_TO_LOAD, SECONDS_A_COLUMN, SECONDS_A_STEP = 4.0, 0.02, 0.02
"""Of one core: to load the network's library, to prepare a column, and for a default step."""
LEAST_ROWS = 10
"""Rows of a train part below which nothing joint is learned."""

MOST_WIDTH = 6_000
"""Inputs of the network: beyond it the weights and their gradients take gigabytes."""

Auto = Literal["auto"]
Widths = Annotated[
    tuple[Annotated[int, Option(ge=1, le=4096)], ...],
    Option(min_length=1, max_length=8, strict=False),  # JSON has no tuples
]
Rate = Annotated[float, Option(gt=0, le=1)]


class CTGAN:
    """Built as `CTGAN(CTGAN.Options(epochs=300))`."""

    class Options(BaseModel):
        """The package's options by the package's names.

        Where `epochs` is a number, `auto` stands for the package's own default.
        """

        # Strict: `true` is not one epoch.
        model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

        epochs: Annotated[int, Option(ge=1, le=100_000)] | Auto = Option(
            "auto",
            description="passes over the train part; `auto` chooses what is left at `auto` for the "
            "table's size, and stops when the drawn rows agree no better with the real ones",
        )
        batch_size: Annotated[int, Option(ge=2, le=100_000)] | Auto = Option(
            "auto", description="rows in each step; even, at most the rows of the train part"
        )
        pac: Annotated[int, Option(ge=1, le=100)] | Auto = Option(
            "auto", description="rows that the discriminator judges together; divides `batch_size`"
        )
        embedding_dim: int = Option(128, ge=1, le=4096, description="width of the generator's noise")
        generator_dim: Widths | Auto = Option("auto", description="width of each layer of the generator")
        discriminator_dim: Widths | Auto = Option(
            "auto", description="width of each layer of the discriminator"
        )
        generator_lr: Rate | Auto = Option("auto", description="learning rate of the generator")
        generator_decay: float = Option(1e-6, ge=0, le=1, description="weight decay of the generator")
        discriminator_lr: Rate | Auto = Option("auto", description="learning rate of the discriminator")
        discriminator_decay: float = Option(1e-6, ge=0, le=1, description="weight decay of the discriminator")
        discriminator_steps: int = Option(
            1, ge=1, le=100, description="steps of the discriminator for each of the generator"
        )
        log_frequency: bool = Option(
            True, description="draw levels by the logarithm of their frequency in training"
        )

    name = "ctgan"
    description = "A conditional generative adversarial network, trained on a real table (package ctgan)."
    version = "1"
    capabilities = Capabilities(
        needs_reference=True,
        prefix=True,
        heavy=True,
        honours=frozenset({"marginals", "missing", "formulas", "rules"}),
    )

    def __init__(self, options: Options) -> None:
        self.options = options

    @classmethod
    def seconds_to_learn(cls, options: Options, train_rows: int, columns: int) -> float:
        """Estimate the training (see `app.generators.base.seconds_to_learn`)."""
        plan = plan_for(options, max(train_rows, 2), lambda *_: None)
        steps = plan.epochs * plan.steps_per_epoch
        cost = step_cost(plan.package["batch_size"], options.discriminator_steps)
        return SECONDS_TO_LOAD + SECONDS_A_COLUMN * columns + SECONDS_A_STEP * steps * cost

    def fit(
        self,
        schema: TableSchema,
        train: pd.DataFrame | None,
        *,
        seed: SeedSequence,
        progress: Progress,
        warn: Callable[[str, str], None],
    ) -> Sampler:
        """Train on `train`.

        Raises
        ------
        InvalidInput
            There is no reference, or it has too many columns and levels for the network.
        """
        from app.blueprint.marginal_learned import fitted_marginal
        from app.generators.tabular import learned_columns, settle

        if train is None:
            raise InvalidInput(
                [Fault("", "`ctgan` learns from a real table: give the job a `reference` to learn from.")]
            )
        min_cell = train.attrs.get(MIN_CELL, LEAST_ROWS)
        marginals = [
            fitted_marginal(schema, field, where_it_applies(field, train), warn, min_cell)
            for field in drawn_fields(schema)
        ]
        columns: tuple[Learned, ...] = ()
        if len(train) >= LEAST_ROWS:
            columns = learned_columns(schema, marginals, train, warn, min_cell)
        else:
            warn(
                "",
                f"The train part has {counted(len(train), 'row')}, fewer than {LEAST_ROWS}: no network was "
                "trained, and columns are drawn independently of one another. Use a larger reference.",
            )
        schema = with_learned_gaps(schema, train)
        learned = {column.marginal.field.name for column in columns}
        rest = [OneColumn(marginal) for marginal in marginals if marginal.field.name not in learned]
        if len(columns) < 2:
            if len(train) >= LEAST_ROWS:
                warn("", "Fewer than two columns of the train part vary: no network was trained.")
            return assemble(schema, [OneColumn(marginal) for marginal in marginals], warn)
        table = self._trained(schema, columns, train, seed, progress, warn)
        plain = assemble(schema, [table, *rest], _silent)
        (component,) = [
            each for each in plain.components if isinstance(each, Component) and table in each.parts
        ]
        return assemble(schema, [settle(schema, table, component, seed), *rest], warn)

    def _trained(
        self,
        schema: TableSchema,
        columns: tuple[Learned, ...],
        train: pd.DataFrame,
        seed: SeedSequence,
        progress: Progress,
        warn: Callable[[str, str], None],
    ) -> LearnedTable:
        """Return the table that the network has learned, not yet calibrated."""
        import numpy as np

        from app.generators.ctgan_training import Training
        from app.generators.tabular import KNOTS, LearnedTable, applying

        rng = stream(seed, 2)
        slots: list[Slot] = []
        for column in columns:
            field = column.marginal.field
            slots += column.encode(train[field.name], applying(field, train), rng)
        width = sum(slot.codes or 1 for slot in slots)
        if width > MOST_WIDTH:
            raise InvalidInput(
                [
                    Fault(
                        "/fields",
                        f"The columns and levels take {width} inputs of the network, and it has room for "
                        f"{MOST_WIDTH}. Leave out columns, or join levels.",
                    )
                ]
            )
        plan = plan_for(self.options, len(train), warn)
        follower = Follower(plan, slots, stream(seed, 3), progress)
        training = Training(slots, follower.after_epoch, epochs=plan.epochs, **plan.package)
        training.run(int(stream(seed, 4).integers(2**31)))
        network = follower.network(training, warn)
        widths = [max(slot.codes, 1) for slot in slots]
        spans = tuple(zip(accumulate([0, *widths[:-1]]), widths, strict=True))
        settings = tuple(np.zeros(slot.codes) if slot.codes else np.linspace(-3, 3, KNOTS) for slot in slots)
        return LearnedTable(columns, network, spans, settings)


def _silent(place: str, message: str) -> None:
    """For what is assembled twice, and tells the second time."""
