"""Zero-shot tables beside real ones: recorded talks, CTGAN on the real rows, independent columns.

    OMP_NUM_THREADS=1 nice python -m benchmarks.zero_shot [--tables cgd] [--page docs/zero-shot.md]

Writes the page with every figure. A table whose talk was never recorded is shown without it. What does
not depend on a talk is kept in the results file, by a digest of what it was measured on.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.random import SeedSequence

from benchmarks import quality, zero_shot_tables
from benchmarks.quality import Measured
from benchmarks.zero_shot_tables import Described
from tests import recorded_talk
from tests.recorded_talk import Recording, replaying

SPLITS = 5
HOLDOUT = 0.3
ROWS = 1000
"""Rows of every candidate that can make any number of them."""
STAND_IN, STAND_IN_TRAIN = 1390, 139
PAGE = Path(__file__).parents[1] / "docs" / "zero-shot.md"

ELICITED, WRITTEN, CTGAN, INDEPENDENT, HALVES = "blueprint", "rows", "ctgan", "marginals", "halves"


@dataclass(frozen=True)
class Target:
    """What candidates are held against.

    Parameters
    ----------
    real : DataFrame
    splits : sequence of (train, holdout)
    columns, pairs : or None
        Those that are compared; None: all.
    """

    table: Described
    real: pd.DataFrame
    splits: Sequence[tuple[pd.DataFrame, pd.DataFrame]]
    columns: tuple[str, ...] | None = None
    pairs: tuple[frozenset[str], ...] | None = None


@dataclass
class Found:
    """A candidate's figures, and what they are made of."""

    figures: Measured
    columns: dict[str, float] = field(default_factory=dict)
    pairs: dict[str, float] = field(default_factory=dict)
    impossible: dict[str, float] = field(default_factory=dict)
    rows: int = 0
    talk: dict[str, Any] = field(default_factory=dict)


@dataclass
class Compared:
    """A table's figures by candidate."""

    table: Described
    rows: int
    compared_pairs: dict[str, tuple[float, bool]]
    trtr: float
    real_impossible: dict[str, float]
    found: dict[str, Found]


def main() -> None:
    warnings.filterwarnings("ignore")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--tables", default=",".join(zero_shot_tables.NAMES))
    parser.add_argument("--page", type=Path, default=PAGE)
    parser.add_argument("--epochs", default="auto", help="of CTGAN; fewer to try the flow")
    default = Path(tempfile.gettempdir()) / "synthward-zero-shot.json"
    parser.add_argument("--results", type=Path, default=default)
    chosen = parser.parse_args()
    from benchmarks.zero_shot_page import page

    epochs = chosen.epochs if chosen.epochs == "auto" else int(chosen.epochs)
    compared = [
        compare(name, Results(chosen.results), epochs=epochs) for name in chosen.tables.split(",") if name
    ]
    chosen.page.write_text(page(compared, epochs), "utf-8")
    print(f"written: {chosen.page}")


class Results:
    """Figures that were measured before, by a digest of what they were measured on."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known: dict[str, Any] = json.loads(path.read_text("utf-8")) if path.exists() else {}

    def of(self, what: Sequence[Any], measure: Callable[[], Found]) -> Found:
        """Return figures, measured where they are not known."""
        key = hashlib.sha256(repr(what).encode()).hexdigest()[:24]
        if key not in self._known:
            self._known[key] = asdict(measure())
            self._path.write_text(json.dumps(self._known), "utf-8")
        said = dict(self._known[key])
        return Found(**{**said, "figures": Measured(**said["figures"])})


def compare(
    name: str,
    results: Results,
    *,
    epochs: int | str = "auto",
    splits: int = SPLITS,
    talks: Path = recorded_talk.FOLDER,
) -> Compared:
    """Measure every candidate of a table; recordings are looked for in `talks`."""
    target = target_of(zero_shot_tables.load(name), splits)
    table = target.table
    basis = (
        pd.util.hash_pandas_object(target.real.astype(str)).sum(),
        [len(train) for train, _ in target.splits], table.document, dict(table.impossible), target.pairs,
        Path(quality.__file__).read_text("utf-8"), ROWS,
    )  # fmt: skip
    found: dict[str, Found] = {}
    for strategy in (ELICITED, WRITTEN):
        path = talks / recorded_talk.path_of(name, strategy).name
        if path.exists():
            found[strategy] = recorded(target, recorded_talk.read(path))
            _tell(name, strategy, found[strategy])
    for candidate, make in (
        (CTGAN, lambda train, seed: trained(table, train, seed, "ctgan", epochs)),
        (INDEPENDENT, lambda train, seed: trained(table, train, seed, "marginals", epochs)),
    ):
        found[candidate] = results.of(
            (candidate, epochs if candidate == CTGAN else None, *basis),
            lambda make=make: measured(target, [make(*one) for one in _numbered(target)]),  # type: ignore[misc]
        )
        _tell(name, candidate, found[candidate])
    if table.real is not None:
        found[HALVES] = results.of((HALVES, *basis), lambda: halves(target))
        _tell(name, HALVES, found[HALVES])
    return Compared(
        table, len(target.real),
        {" × ".join(pair.columns): (pair.value, pair.certain) for pair in pairs_of(target, target.real)},
        float(np.mean([quality.auroc(table, train, held, train) for train, held in target.splits])),
        quality.impossible(table, target.real), found,
    )  # fmt: skip


def _numbered(target: Target) -> list[tuple[pd.DataFrame, int]]:
    return [(train, number) for number, (train, _) in enumerate(target.splits)]


def _tell(name: str, candidate: str, found: Found) -> None:
    figures = ", ".join(
        f"{key} {value:.3f}" if value is not None else f"{key} –"
        for key, value in asdict(found.figures).items()
    )
    print(f"{time.strftime('%H:%M:%S')} {name:<13} {candidate:<10} {figures}", flush=True)


# What is compared with --------------------------------------------------------------------------------


def target_of(table: Described, splits: int = SPLITS) -> Target:
    """Return the real rows and their splits; the flagship's are drawn from its declared statistics."""
    if table.real is None:
        return stand_in(table, splits)
    from sklearn.model_selection import train_test_split

    real = table.rows()
    cut = []
    for number in range(splits):
        train, holdout = train_test_split(
            real, test_size=HOLDOUT, random_state=number, stratify=real[table.target].astype(bool)
        )
        cut.append((train.reset_index(drop=True), holdout.reset_index(drop=True)))
    return Target(table, real, cut)


def stand_in(table: Described, splits: int) -> Target:
    """Return rows that have the flagship's declared statistics, and what of them is declared.

    Pairs that nobody declared are left out: nothing is known of them. For each split other patients are
    learned from: what few of them teach differs from draw to draw, although each draw has the statistics.
    """
    document = zero_shot_tables.declared()
    pairs = [frozenset(item["fields"]) for item in document["associations"]]
    pairs += [frozenset((item["field"], *item["given"])) for item in document["conditionals"]]
    columns = [item["name"] for item in document["fields"] if "statistics" in item]
    columns += [item["field"] for item in document["conditionals"]]
    real = drawn_from(document, STAND_IN, 11)
    trains = [drawn_from(document, STAND_IN_TRAIN, 12 + number) for number in range(splits)]
    return Target(
        table,
        real,
        [(train, real) for train in trains],
        tuple(dict.fromkeys(columns)),
        tuple(dict.fromkeys(pairs)),
    )


def drawn_from(document: dict[str, Any], rows: int, seed: int) -> pd.DataFrame:
    """Return rows that have the declared statistics themselves (`match: sample`)."""
    from app.generators.blueprint import Blueprint
    from app.schema.parse import parse_schema

    schema, _ = parse_schema(document)
    generator = Blueprint(Blueprint.Options(match="sample"))
    sampler = generator.fit(schema, None, seed=_stream(seed, 0), progress=_quiet, warn=_quiet)
    return sampler.sample_shard(0, rows, seed=_stream(seed, 1))


def _stream(seed: int, number: int) -> SeedSequence:
    return SeedSequence(seed, spawn_key=(number,))


def _quiet(*_: Any, **__: Any) -> None:
    """Follow nothing."""


# Candidates ------------------------------------------------------------------------------------------


def trained(
    table: Described, train: pd.DataFrame, seed: int, name: str, epochs: int | str = "auto"
) -> pd.DataFrame:
    """Return rows of a generator that learned from real ones."""
    from app.generators import registry

    generator = registry.load(name)
    options = {"epochs": epochs} if name == "ctgan" else {"fit": True}
    sampler = generator(generator.Options(**options)).fit(
        table.schema, train, seed=_stream(seed, 0), progress=_quiet, warn=_quiet
    )
    return sampler.sample_shard(0, ROWS, seed=_stream(seed, 1))


def replayed(table: Described, recording: Recording, rows: int) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Return rows made from a recorded talk, and what is to say of it."""
    from app.generators.llm.assignment import Assignment
    from app.generators.llm.generator import LLM
    from app.generators.llm.providers import Providers
    from app.generators.llm.talk import Talks

    told: list[str] = []
    with replaying(recording) as (server, replay):
        provider = server.provider(mode="json_schema", concurrency=8)
        talks = Talks(Providers({provider.name: provider}, offline=False))
        options = LLM.Options(**recording.options, provider=provider.name)
        generator = LLM(options).assigned(Assignment(talks, rows, 1))
        sampler = generator.fit(
            table.schema, None, seed=_stream(recording.seed, 0), progress=_quiet,
            warn=lambda _pointer, message: told.append(message),
        )  # fmt: skip
        frame = sampler.sample_shard(0, rows, seed=_stream(recording.seed, 1))
    said = {"answers": len(recording.kept), "tokens": recording.tokens, "made": recording.made,
            "other_preview": len(replay.other_preview), "warnings": told,
            "reader": recording.reader}  # fmt: skip
    return frame, said


def recorded(target: Target, recording: Recording) -> Found:
    """Return the figures of a recorded talk's rows."""
    rows = recording.rows if recording.options["strategy"] == "rows" else ROWS
    frame, said = replayed(target.table, recording, rows)
    return replace(measured(target, [frame]), talk=said)


# Measuring -------------------------------------------------------------------------------------------


def pairs_of(target: Target, frame: pd.DataFrame) -> list[quality.Pair]:
    """Return the associations that are compared."""
    return quality.associations(target.table.schema, frame, target.pairs)


def measured(target: Target, frames: Sequence[pd.DataFrame]) -> Found:
    """Return figures: one table judged on every split's holdout, or a table for each split on its own."""
    table, schema = target.table, target.table.schema
    per_split = list(frames) if len(frames) > 1 else list(frames) * len(target.splits)
    known = pairs_of(target, target.real)
    pairs = [pairs_of(target, frame) for frame in frames]
    both = [quality.sign_and_size(known, found) for found in pairs]
    impossible = [quality.impossible(table, frame) for frame in frames]
    signs = [sign for sign, _ in both if sign is not None]
    figures = Measured(
        marginals=_mean(
            quality.marginal_error(schema, target.real, frame, target.columns) for frame in frames
        ),
        sign=_mean(signs) if signs else None,
        size=_mean(size for _, size in both),
        tstr=_mean(
            quality.auroc(table, frame, holdout, train)
            for frame, (train, holdout) in zip(per_split, target.splits, strict=True)
        ),
        impossible=_mean(shares[""] for shares in impossible),
        repeated=_mean(quality.repeated(frame) for frame in frames),
        copied=_mean(quality.copied(frame, target.real) for frame in frames),
    )
    return Found(
        figures,
        {
            item.name: _mean(
                quality.column_error(item, target.real[item.name], frame[item.name]) for frame in frames
            )
            for item in schema.fields
            if target.columns is None or item.name in target.columns
        },
        {
            " × ".join(pair.columns): _mean(found[place].value for found in pairs)
            for place, pair in enumerate(known)
        },
        {what: _mean(shares[what] for shares in impossible) for what in impossible[0]},
        len(frames[0]),
    )


def halves(target: Target) -> Found:
    """Return what half of the real rows has against the other half: what chance alone does."""
    from sklearn.model_selection import train_test_split

    table, found = target.table, list[Found]()
    for number in range(SPLITS):
        one, other = (
            part.reset_index(drop=True)
            for part in train_test_split(
                target.real, test_size=0.5, random_state=100 + number,
                stratify=target.real[table.target].astype(bool),
            )
        )  # fmt: skip
        found.append(measured(Target(table, one, [(other, one)], target.columns, target.pairs), [other]))
    figures = {}
    for name in Measured.__dataclass_fields__:
        values = [value for item in found if (value := getattr(item.figures, name)) is not None]
        figures[name] = _mean(values) if values else None
    columns = {name: _mean(item.columns[name] for item in found) for name in found[0].columns}
    impossible = {what: _mean(item.impossible[what] for item in found) for what in found[0].impossible}
    return Found(Measured(**figures), columns, {}, impossible, len(target.real) // 2)  # type: ignore[arg-type]


def _mean(values: Any) -> float:
    return float(np.mean(list(values)))


if __name__ == "__main__":
    main()
