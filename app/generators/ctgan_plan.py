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
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from app.errors import GeneratorFailed

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from app.generators.base import Progress
    from app.generators.ctgan import CTGAN
    from app.generators.ctgan_network import FrozenNetwork
    from app.generators.ctgan_training import Training
    from app.generators.tabular import Slot

PACKAGE: dict[str, Any] = {
    "batch_size": 500,
    "pac": 10,
    "generator_dim": (256, 256),
    "discriminator_dim": (256, 256),
    "generator_lr": 2e-4,
    "discriminator_lr": 2e-4,
}
"""The package's own defaults of what may be `auto`."""

PACKAGE_EPOCHS = 300
SHARE_OF_WORK = 0.8
"""Of the work of 300 default epochs; the rest is for looking at what was learned."""

LOOKS = 16
"""Looks at what was learned over the longest training, at least …"""

STEPS_PER_LOOK = 250
"""… and after so many steps where there are many."""

LOOK_ROWS = 1024
PATIENCE = 6
"""Looks without a better score after which training ends."""

MOST_COMPARED = 200
"""Columns of scores and codes that are looked at, and …"""

MOST_TARGETS = 40
"""… of these, the ones that are predicted."""

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
    if options.epochs == "auto":
        epochs = max(1, int(_work(rows) / step_cost(size, options.discriminator_steps) / steps))
    else:
        epochs = options.epochs
    if adaptive:
        taken = ", ".join(f"{name} {package[name]}" for name in PACKAGE if getattr(options, name) == "auto")
        warn(
            "",
            f"`epochs: auto` took for {rows} rows: at most {counted(epochs, 'epoch')} of "
            f"{counted(steps, 'step')}" + (f"; {taken}." if taken else "."),
        )
    if (size, pac) != (asked_size, asked_pac):
        warn(
            "",
            f"batch_size {asked_size} and pac {asked_pac} became {size} and {pac}: a batch has at most the "
            f"{rows} rows of the train part, is even and divisible by pac.",
        )
    return Plan(epochs, package, steps, adaptive)


def counted(number: int, what: str) -> str:
    """Write "1 epoch", "2 epochs"."""
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _chosen(rows: int) -> dict[str, Any]:
    """What `auto` takes; found on the development tables by benchmarks/ctgan.py."""
    return dict(PACKAGE) | {
        "batch_size": 100 if rows < 1_000 else 200 if rows < 10_000 else 500,
        "pac": 1,
        "generator_lr": 1e-3,
        "discriminator_lr": 1e-3,
    }


def _work(rows: int) -> float:
    """Work of 300 default epochs, in default steps, that training may take."""
    return SHARE_OF_WORK * PACKAGE_EPOCHS * max(rows // int(PACKAGE["batch_size"]), 1)


def step_cost(batch_size: int, discriminator_steps: int = 1) -> float:
    """Time of a step in default steps: a third is the same for every batch (measured, one thread)."""
    return (0.35 + 0.65 * batch_size / 500) * (1 + 2 * discriminator_steps) / 3


class Enough(Exception):
    """Raised by what is called after an epoch: training ends, and the network is as it is."""


class Follower:
    """Follows a training: tells its progress, and where the plan is adaptive looks at what was learned."""

    def __init__(self, plan: Plan, slots: list[Slot], rng: np.random.Generator, progress: Progress) -> None:
        self._plan, self._rng, self._progress = plan, rng, progress
        self._began = time.monotonic()
        self._done = 0
        self._yardstick = Yardstick.of(slots, rng) if plan.adaptive else None
        self._every = max(1, min(plan.epochs // LOOKS, STEPS_PER_LOOK // plan.steps_per_epoch))
        self._mean: list[NDArray[np.float32]] = []
        self._best: tuple[float, int, list[NDArray[np.float32]]] = (-math.inf, 0, [])
        self._looks_since = 0

    def after_epoch(self, done: int, training: Training) -> None:
        """Take note of an epoch; raises `Enough` where no look has been better for long, or ever will be."""
        if done == 1:
            self._began = time.monotonic()  # what comes before the second epoch tells nothing of the rest
        left = (time.monotonic() - self._began) / max(done - 1, 1) * (self._plan.epochs - done)
        self._progress(
            done / self._plan.epochs, f"epoch {done} of {self._plan.epochs}", left if done > 1 else None
        )
        self._done = done
        if self._yardstick is None:
            return
        try:
            self._remember(training, done)
        except GeneratorFailed as error:
            if self._best[2]:
                raise Enough from error  # what was best before is good
            raise
        if done % self._every == 0:
            self._look(self._yardstick, training, done)

    def network(self, training: Training, warn: Callable[[str, str], None]) -> FrozenNetwork:
        """Return the network that was best, or the last one where nobody looked."""
        score, epoch, weights = self._best
        if not weights:
            return training.frozen(training.weights(), self._rng)
        ended = "stopped" if self._done < self._plan.epochs else "ended"
        warn(
            "",
            f"Training {ended} after {counted(self._done, 'epoch')}; the weights of epoch {epoch} were "
            "taken, whose rows agree best with the train part "
            f"(validation score {score:.3f}; 1 is full agreement).",
        )
        return training.frozen(weights, self._rng)

    def _remember(self, training: Training, done: int) -> None:
        import numpy as np

        now = training.weights()
        steps = self._plan.steps_per_epoch
        keep = math.exp(-steps / min(MEMORY_STEPS, done * steps / 4))
        kept = self._mean or now
        self._mean = [old + np.float32(1 - keep) * (new - old) for old, new in zip(kept, now, strict=True)]

    def _look(self, yardstick: Yardstick, training: Training, done: int) -> None:
        network = training.frozen(self._mean, self._rng, settling_rows=LOOK_ROWS)
        score = yardstick.score(network.draw(self._rng, LOOK_ROWS))
        if score > self._best[0]:
            self._best, self._looks_since = (score, done, self._mean), 0
            return
        self._looks_since += 1
        if self._looks_since >= PATIENCE:
            raise Enough


@dataclass(frozen=True, eq=False)
class Yardstick:
    """Tells how well drawn rows teach what holds in the real ones.

    Columns of scores and codes are predicted from the columns of the other slots by ridge regressions,
    learned on the drawn rows and tried on the real ones: "train on synthetic, test on real" for every
    column in turn. Both need the correlation matrices alone.

    Parameters
    ----------
    starts : tuple of int
        Where each of the slots compared begins in the raw output.
    shares : tuple of ndarray
        For each of them, the shares of its codes; empty for scores.
    owner : ndarray of int64, shape (p,)
        Which of the slots each column is of.
    real : ndarray, shape (p, p)
        Correlations in the train part.
    targets : ndarray of int64
        The columns predicted.
    possible : float
        Sum of the correlations of column and prediction that a regression learned on the real rows reaches.
    """

    starts: tuple[int, ...]
    shares: tuple[NDArray[np.float64], ...]
    owner: NDArray[np.int64]
    real: NDArray[np.float64]
    targets: NDArray[np.int64]
    possible: float

    @classmethod
    def of(cls, slots: list[Slot], rng: np.random.Generator) -> Yardstick:
        """Return the yardstick of a train part; of a wide one, a random choice of slots is compared."""
        import numpy as np

        widths = np.array([max(slot.codes, 1) for slot in slots])
        order = rng.permutation(len(slots))
        chosen = np.sort(order[: max(2, int((np.cumsum(widths[order]) <= MOST_COMPARED).sum()))])
        starts = np.cumsum(widths) - widths
        picked = [slots[k] for k in chosen]
        owner = np.repeat(np.arange(len(picked)), widths[chosen])
        real = correlations([_one_hot(slot.values, slot.codes) for slot in picked])
        targets = np.sort(rng.permutation(len(real))[:MOST_TARGETS])
        yardstick = cls(
            tuple(int(starts[k]) for k in chosen),
            tuple(
                np.bincount(slot.values, minlength=slot.codes) / len(slot.values)
                if slot.codes
                else np.empty(0)
                for slot in picked
            ),
            owner,
            real,
            targets,
            1.0,
        )
        return replace(yardstick, possible=max(yardstick._reached(real), 1e-9))

    def score(self, raw: NDArray[np.float32]) -> float:
        """Return the mean correlation of column and prediction, in parts of what is possible (1 at best).

        Less a quarter of the mean difference of the correlations, in parts of their mean size.
        """
        import numpy as np

        drawn = correlations(
            [self._drawn(raw, start, shares) for start, shares in zip(self.starts, self.shares, strict=True)]
        )
        between = self.owner[:, None] != self.owner
        apart = float(np.abs(self.real - drawn)[between].mean())
        size = max(float(np.abs(self.real)[between].mean()), 1e-9)
        return self._reached(drawn) / self.possible - 0.25 * apart / size

    def _reached(self, learned_on: NDArray[np.float64]) -> float:
        import numpy as np

        total = 0.0
        for target in self.targets:
            others = self.owner != self.owner[target]
            inner = np.ix_(others, others)
            penalty = 0.1 * np.eye(int(others.sum()))
            weights = np.linalg.solve(learned_on[inner] + penalty, learned_on[others, target])
            spread = float(weights @ self.real[inner] @ weights)
            total += float(weights @ self.real[others, target]) / math.sqrt(spread) if spread > 1e-12 else 0.0
        return total

    @staticmethod
    def _drawn(raw: NDArray[np.float32], start: int, shares: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return a slot's drawn columns as the real ones are given: ranked scores, the codes as drawn."""
        import numpy as np
        from scipy.special import ndtri

        from app.generators.tabular import balanced

        if not len(shares):
            ranks = np.argsort(np.argsort(raw[:, start]))
            return np.asarray(ndtri((ranks + 0.5) / len(raw)))[:, None]
        piece = raw[:, start : start + len(shares)]
        codes = np.argmax(piece + balanced(piece, np.zeros(len(shares)), shares), axis=1)
        return _one_hot(codes, len(shares))


def correlations(parts: list[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Return the correlation matrix of all columns of `parts`, shape (p, p); 0 with constant columns."""
    import numpy as np

    design = np.hstack(parts)
    centred = design - design.mean(axis=0)
    spread = np.sqrt((centred**2).mean(axis=0))
    scaled = centred / np.where(spread > 1e-9, spread, 1)
    return np.asarray(scaled.T @ scaled / len(design))


def _one_hot(values: NDArray[Any], codes: int) -> NDArray[np.float64]:
    import numpy as np

    return np.eye(codes)[values] if codes else values[:, None]
