"""What CTGAN is told for a table's size, and when it has learned enough (`epochs: "auto"`).

At the package's defaults a table below 1,000 rows gets 300 steps of 500 rows each, most rows several times in
a step: too few to learn from. `auto` takes smaller steps, more of them and longer ones, follows the running
mean of the generator's weights, and keeps the weights whose rows agree best with the real ones. All of it
costs what 300 of the package's default epochs cost, by a count of work and not of seconds: the same table
and seed give the same network on a slow machine and on a fast one.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from app.generators.base import Progress
    from app.generators.ctgan import CTGAN
    from app.generators.ctgan_network import FrozenNetwork
    from app.generators.ctgan_training import Training
    from app.generators.tabular import Slot

PACKAGE = {
    "batch_size": 500,
    "pac": 10,
    "generator_dim": (256, 256),
    "discriminator_dim": (256, 256),
    "generator_lr": 2e-4,
    "discriminator_lr": 2e-4,
}
"""The package's own defaults of what may be `auto`."""

PACKAGE_EPOCHS = 300
SHARE_OF_WORK = 0.85
"""Of the work of 300 default epochs; the rest is for looking at what was learned."""

LOOKS = 16
LOOK_ROWS = 1024
PATIENCE = 6
"""Looks without a better score after which training ends."""

MEMORY_STEPS = 60
"""Steps over which the running mean of the weights reaches back."""


@dataclass(frozen=True)
class Plan:
    """What to train with.

    Parameters
    ----------
    package : mapping
        Options of the package, by its names.
    steps_per_epoch : int
        As the package counts them.
    adaptive : bool
        Whether to follow the running mean, look at what was learned, and stop.
    """

    epochs: int
    package: dict[str, Any]
    steps_per_epoch: int
    adaptive: bool


def plan_for(options: CTGAN.Options, rows: int, warn: Callable[[str, str], None]) -> Plan:
    """Return what to train with on a train part of that many rows; every adaptation is told to `warn`."""
    adaptive = options.epochs == "auto"
    chosen = _chosen(rows) if adaptive else dict(PACKAGE)
    package = options.model_dump(exclude={"epochs"})
    package |= {name: chosen[name] for name, value in package.items() if value == "auto"}
    asked_size, asked_pac = package["batch_size"], package["pac"]
    pac = min(asked_pac, max(1, rows // 2))
    unit = math.lcm(2, pac)
    size = max(unit, min(asked_size, rows) // unit * unit)
    if size > rows:
        pac, size = 1, rows // 2 * 2
    package |= {"batch_size": size, "pac": pac}
    steps = max(rows // size, 1)
    epochs = options.epochs if not adaptive else max(1, round(_work(rows) / _cost(size) / steps))
    assert isinstance(epochs, int)
    if adaptive:
        taken = ", ".join(f"{name} {package[name]}" for name in PACKAGE if getattr(options, name) == "auto")
        warn(
            "",
            f"`epochs: auto` took for {rows} rows: at most {epochs} epochs of {steps} steps"
            + (f"; {taken}." if taken else "."),
        )
    if (size, pac) != (asked_size, asked_pac):
        warn(
            "",
            f"batch_size {asked_size} and pac {asked_pac} became {size} and {pac}: a batch has at most the "
            f"{rows} rows of the train part, is even and divisible by pac.",
        )
    return Plan(epochs, package, steps, adaptive)


def _chosen(rows: int) -> dict[str, Any]:
    """What `auto` takes; found on the development tables by benchmarks/ctgan.py."""
    return dict(PACKAGE) | {
        "batch_size": 100 if rows < 1000 else 200,
        "pac": 1,
        "generator_lr": 1e-3,
        "discriminator_lr": 1e-3,
    }


def _work(rows: int) -> float:
    """Work of 300 default epochs, in default steps, that training may take."""
    return SHARE_OF_WORK * PACKAGE_EPOCHS * max(rows // PACKAGE["batch_size"], 1)  # type: ignore[operator]


def _cost(batch_size: int) -> float:
    """Time of a step in default steps: a third is the same for every batch (measured, one thread)."""
    return 0.35 + 0.65 * batch_size / 500


class Follower:
    """Follows a training: tells its progress, and where the plan is adaptive looks at what was learned."""

    def __init__(self, plan: Plan, slots: list[Slot], rng: np.random.Generator, progress: Progress) -> None:
        self._plan, self._slots, self._rng, self._progress = plan, slots, rng, progress
        self._began = time.monotonic()
        self._mean: list[NDArray[np.float32]] | None = None
        self._best: tuple[float, int, FrozenNetwork] | None = None
        self._last = 0
        self._looks_since = 0
        self._real = moments(_one_hot(slots)) if plan.adaptive else None
        self._look_every = max(1, plan.epochs // LOOKS)

    def after_epoch(self, done: int, training: Training) -> None:
        """Take note of an epoch; raises `Enough` where no look has been better for long."""
        left = (time.monotonic() - self._began) / done * (self._plan.epochs - done)
        self._progress(done / self._plan.epochs, f"epoch {done} of {self._plan.epochs}", left)
        self._last = done
        if not self._plan.adaptive:
            return
        self._remember(training, done)
        if done % self._look_every == 0:
            self._look(training, done)

    def best(self, training: Training, warn: Callable[[str, str], None]) -> FrozenNetwork:
        """Return the network that was best, or the last one where nobody looked."""
        if self._best is None:
            return training.frozen(training.weights(), self._rng)
        score, epoch, network = self._best
        ended = "stopped" if self._last < self._plan.epochs else "ended"
        warn(
            "",
            f"Training {ended} after {self._last} epochs; the weights of epoch {epoch} were taken, whose "
            f"rows agree best with the train part (validation score {score:.3f}; 1 is full agreement).",
        )
        return network

    def _remember(self, training: Training, done: int) -> None:
        now = training.weights()
        if self._mean is None:
            self._mean = now
            return
        steps = done * self._plan.steps_per_epoch
        memory = min(MEMORY_STEPS, steps / 4)
        keep = math.exp(-self._plan.steps_per_epoch / memory)
        self._mean = [keep * old + (1 - keep) * new for old, new in zip(self._mean, now, strict=True)]

    def _look(self, training: Training, done: int) -> None:
        from app.generators.ctgan_training import Enough

        assert self._mean is not None and self._real is not None
        network = training.frozen(self._mean, self._rng)
        score = agreement(
            self._real, moments(_drawn(network.draw(self._rng, LOOK_ROWS), self._slots)), self._slots
        )
        if self._best is None or score > self._best[0]:
            self._best, self._looks_since = (score, done, network), 0
            return
        self._looks_since += 1
        if self._looks_since >= PATIENCE:
            raise Enough


def moments(design: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the correlation matrix of the columns of `design`, shape (p, p); 0 with constant columns."""
    import numpy as np

    centred = design - design.mean(axis=0)
    spread = np.sqrt((centred**2).mean(axis=0))
    scaled = centred / np.where(spread > 1e-9, spread, 1)
    return np.asarray(scaled.T @ scaled / len(design))


def agreement(real: NDArray[np.float64], drawn: NDArray[np.float64], slots: list[Slot]) -> float:
    """Return how well the drawn rows teach what holds in the real ones, 1 at best.

    Each column is predicted from the columns of the other slots by a ridge regression, learned on the drawn
    rows and tried on the real ones: "train on synthetic, test on real" for every column in turn. Both need
    the correlation matrices alone. The score is the mean correlation of prediction and column, in parts of
    what a regression learned on the real rows reaches, less the mean difference of the correlations.
    """
    import numpy as np

    owner = np.repeat(np.arange(len(slots)), [max(slot.codes, 1) for slot in slots])
    got, possible = 0.0, 1e-9
    for column in range(len(real)):
        others = owner != owner[column]
        penalty = 0.1 * np.eye(int(others.sum()))
        aim, inner = real[others, column], real[np.ix_(others, others)]
        for found, is_real in ((drawn, False), (real, True)):
            weights = np.linalg.solve(found[np.ix_(others, others)] + penalty, found[others, column])
            spread = float(weights @ inner @ weights)
            reached = float(weights @ aim) / math.sqrt(spread) if spread > 1e-12 else 0.0
            if is_real:
                possible += reached
            else:
                got += reached
    between = owner[:, None] != owner
    difference = float(np.abs(real - drawn)[between].mean() / max(np.abs(real)[between].mean(), 1e-9))
    return got / possible - 0.25 * difference


def _one_hot(slots: list[Slot]) -> NDArray[np.float64]:
    import numpy as np

    parts = [np.eye(slot.codes)[slot.values] if slot.codes else slot.values[:, None] for slot in slots]
    return np.hstack(parts)


def _drawn(raw: NDArray[np.float32], slots: list[Slot]) -> NDArray[np.float64]:
    """Return the drawn rows as `_one_hot` gives the real ones: ranked scores, the codes that are drawn."""
    import numpy as np
    from scipy.special import ndtri

    from app.generators.tabular import balanced

    parts: list[NDArray[np.float64]] = []
    start = 0
    for slot in slots:
        width = max(slot.codes, 1)
        piece = raw[:, start : start + width]
        if slot.codes:
            shares = np.bincount(slot.values, minlength=slot.codes) / len(slot.values)
            parts.append(np.eye(width)[np.argmax(piece + balanced(piece, np.zeros(width), shares), axis=1)])
        else:
            ranks = np.argsort(np.argsort(piece[:, 0]))
            parts.append(ndtri((ranks + 0.5) / len(raw))[:, None])
        start += width
    return np.hstack(parts)
