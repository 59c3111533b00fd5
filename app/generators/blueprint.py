"""Rows that have the statistics that are declared: marginals, associations, conditionals, formulas, rules.

No real data, no model, no training: the schema's statements are compiled into a program (`app.blueprint`),
and what the rows then have is told statement by statement.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterator, MutableMapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict
from pydantic import Field as Option

from app.blueprint.model import Blueprint as Document
from app.errors import Fault, InvalidInput, RowShortfall, pointer
from app.generators.base import Capabilities, Progress, Sampler
from app.generators.fresh import is_fresh
from app.generators.machinery import assemble, assemble_around, drawn_fields, reads_fresh
from app.schema.table import Statistics, TableSchema

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from app.blueprint.compile import Compiled
    from app.blueprint.outcomes import Settled
    from app.blueprint.rows import Floats
    from app.blueprint.sample import BlueprintRows
    from app.blueprint.statements import Outcome, Statement
    from app.generators.machinery import TableSampler

MOST_MATCHED = 5000
"""Rows of a table that are chosen to have the statistics themselves; larger ones have them by number."""

MOST_TOLD = 20
"""Statements that a refusal lists."""


@dataclass(frozen=True, eq=False)
class BlueprintSampler:
    """A sampler with the document that it was compiled from.

    Parameters
    ----------
    rows : Sampler
    blueprint : bytes
        The blueprint's JSON, with what became of each statement.
    repairs : tuple of dict
        Statements that the rows do not have as asked, furthest first.
    aims : tuple of Statement
        What the population has: as asked, or the nearest that was reached.
    """

    rows: TableSampler
    blueprint: bytes
    repairs: tuple[dict[str, Any], ...] = ()
    aims: tuple[Statement, ...] = ()

    def sample_shard(self, index: int, n_rows: int, *, seed: np.random.SeedSequence) -> pd.DataFrame:
        """Return exactly `n_rows` rows of shard `index` (see `app.generators.base.Sampler`)."""
        return self.rows.sample_shard(index, n_rows, seed=seed)

    def matched(self) -> BlueprintSampler:
        """Return a sampler of small tables that have the statistics themselves."""
        from app.blueprint.matching import MatchedRows

        aimed = {name for statement in self.aims for name in statement.reads}
        components = tuple(
            MatchedRows(component, self.rows.schema, self.aims) if aimed & set(component.names) else component
            for component in self.rows.components
        )
        return replace(self, rows=replace(self.rows, components=components))


class Blueprint:
    """Declared statistics become rows. Built as `Blueprint(Blueprint.Options())`."""

    class Options(BaseModel):
        """What a caller may choose."""

        model_config = ConfigDict(extra="forbid", frozen=True)

        blueprint: Document | None = Option(
            None,
            description="a blueprint, as GET /v1/jobs/{id}/blueprint gave it, or edited; it takes the place "
            "of the schema's statements, and its columns are the schema's",
        )
        on_infeasible: Literal["repair", "fail"] = Option(
            "repair",
            description="statements that cannot hold together: move to the nearest possible, or fail the job",
        )
        match: Literal["population", "sample"] = Option(
            "population",
            description="what has the statistics: the population that independent rows are drawn from, or "
            f"each table itself (at most {MOST_MATCHED:,} rows, which then are not independent)",
        )

    name = "blueprint"
    description = (
        "Rows that have the declared statistics: marginals, associations, conditionals, formulas and rules."
    )
    version = "1"
    capabilities = Capabilities(
        prefix=True,
        has_blueprint=True,
        honours=frozenset({"marginals", "missing", "associations", "conditionals", "formulas", "rules"}),
    )

    def __init__(self, options: Options) -> None:
        self.options = options

    def fit(
        self,
        schema: TableSchema,
        train: pd.DataFrame | None,
        *,
        seed: np.random.SeedSequence,
        progress: Progress,
        warn: Callable[[str, str], None],
    ) -> Sampler:
        """Compile what is stated; nothing of the program is random, so `seed` is not used.

        Raises
        ------
        InvalidInput
            Where a posted blueprint has other columns than the schema, or with `on_infeasible: "fail"`
            where statements cannot hold together.
        """
        from app.blueprint.declare import declare, provenance_of

        posted = self.options.blueprint
        stated = schema if posted is None else _agreeing(posted, schema)
        # What became of a posted one's statements before is forgotten: an edit may let them hold.
        document = declare(stated, None if posted is None else provenance_of(posted))
        sampler = sampler_of(
            stated,
            document,
            progress=progress,
            warn=warn,
            fail=self.options.on_infeasible == "fail",
        )
        return sampler if self.options.match == "population" else sampler.matched()

    @classmethod
    def refusals(cls, options: Options, schema: TableSchema, rows: int) -> Iterator[Fault]:
        """Tell what cannot be (see `app.generators.base.refusals`)."""
        if options.match == "sample" and rows > MOST_MATCHED:
            yield Fault(
                "/rows",
                f"Rows are chosen to have the statistics themselves for at most {MOST_MATCHED:,}: ask for "
                'fewer, or leave `match` at "population".',
            )
        if options.blueprint is not None:
            try:
                _agreeing(options.blueprint, schema)
            except InvalidInput as error:
                yield from (fault.under("/generator/options/blueprint") for fault in error.faults)

    @classmethod
    def remarks(cls, options: Options, schema: TableSchema) -> Iterator[Fault]:
        """Tell where a posted blueprint says something else than the schema declares."""
        if options.blueprint is None:
            return
        try:
            stated = _agreeing(options.blueprint, schema)
        except InvalidInput:  # refused
            return
        edited = [f"`{mine.name}`" for mine, other in zip(stated.fields, schema.fields, strict=True)
                  if _says_otherwise(mine.statistics, other.statistics)]  # fmt: skip
        if edited:
            yield Fault(
                "/generator/options/blueprint",
                f"It says other figures than the schema declares of {', '.join(edited[:20])}: rows are made "
                "as the blueprint says, and the report holds them against both, the blueprint's figures "
                "under `population`. To have one truth, edit the schema alike.",
            )


def _says_otherwise(mine: Statistics, declared: Statistics) -> bool:
    """Whether a blueprint has another figure where the schema declares one; it writes six digits."""

    def figures(one: Statistics) -> dict[Any, float]:
        names = ("mean", "sd", "median", "missing", "minimum", "maximum")
        found: dict[Any, float | None] = {name: getattr(one, name) for name in names}
        found |= dict(one.quantiles) | dict(one.proportions or ())
        return {name: value for name, value in found.items() if value is not None}

    said = figures(mine)
    return any(not math.isclose(value, said.get(name, math.inf), rel_tol=1e-4, abs_tol=1e-9)
               for name, value in figures(declared).items())  # fmt: skip


def sampler_of(
    schema: TableSchema,
    document: Document,
    *,
    progress: Progress,
    warn: Callable[[str, str], None],
    fail: bool = False,
    sketch: bool = False,
    solved: MutableMapping[Hashable, Floats] | None = None,
) -> BlueprintSampler:
    """Compile a schema's statements into a sampler.

    Parameters
    ----------
    document : Blueprint
        Of the schema: what becomes of its statements is entered into it.
    fail : bool
        Whether statements that are not met as asked end the work.
    sketch : bool
        Whether a look at the rows is all that is wanted.
    solved : mutable mapping, optional
        What compilations of one document and its edits have in common (see `app.blueprint.compile.Effort`).
    """
    from app.blueprint.compile import Effort, compile_schema
    from app.blueprint.declare import source_of
    from app.blueprint.outcomes import BEYOND, Guessed, Settled, with_outcomes
    from app.blueprint.sample import BlueprintCandidates, BlueprintRows

    drawn = drawn_fields(schema)
    if not drawn:  # nothing but ids, texts and formulas of nothing
        return BlueprintSampler(assemble(schema, [], warn), document.to_json().encode())
    alone = _without_fresh(schema)
    source = source_of(document)
    compiled = compile_schema(
        alone,
        drawn,
        warn=warn,
        progress=lambda share: progress(0.95 * share),
        effort=Effort(lambda at: source(at) == "elicited", sketch, {} if solved is None else solved),
    )
    settled = [
        Settled(outcome.statement.pointer, outcome.statement.asked, outcome.achieved, outcome.moved)
        for outcome in compiled.outcomes
    ]
    if fail:
        _refuse(schema, compiled)
    guesses = [
        Guessed(at.removesuffix("/value"), 1 if sign > 0 else -1, "nothing declares a direction")
        for at, sign in compiled.guesses.items()
        if _is_open(schema, at)
    ]
    kept = {field.name for field in drawn} | {f.name for f in alone.fields if f.formula is not None}
    drawing = BlueprintRows(compiled.program, tuple(f.name for f in schema.fields if f.name in kept))
    given_way = () if sketch else _given_way(document, alone, drawing)
    told = with_outcomes(document, schema, settled, guesses, given_way)
    for outcome in _missed(compiled)[:MOST_TOLD]:
        warn(
            outcome.statement.pointer,
            f"{_told(schema, outcome, 'asked')} was asked and cannot hold with the rest: the nearest that "
            f"was reached is {_told(schema, outcome, 'achieved')}, {outcome.moved:.1f} tolerances away.",
        )
    if reads_fresh(schema):
        names = tuple(field.name for field in drawn)
        rows = assemble(schema, [BlueprintCandidates(replace(compiled.program, rules=()), names)], warn)
    else:
        rows = assemble_around(schema, drawing, warn)
    progress(1.0)
    repairs = tuple(repair.model_dump(mode="json") for repair in told.repairs)
    aims = tuple(
        outcome.statement if outcome.moved <= BEYOND else replace(outcome.statement, asked=outcome.achieved)
        for outcome in compiled.outcomes
        if not math.isnan(outcome.achieved)
    )
    return BlueprintSampler(rows, told.to_json().encode(), repairs, aims)


def _given_way(document: Document, schema: TableSchema, drawing: BlueprintRows) -> tuple[Settled, ...]:
    """Return the defaults that the rows do not have; none where no row can be had."""
    from numpy.random import SeedSequence

    from app.blueprint.yielding import ROWS, defaults_met

    try:
        rows = drawing.rows(0, ROWS, SeedSequence(0))
    except RowShortfall:  # told where the job's rows are made
        return ()
    return defaults_met(document, schema, rows)


def _without_fresh(schema: TableSchema) -> TableSchema:
    """Return the schema without what reads ids and free texts, which are made after the rest.

    Rows are held against these rules when they are whole; fields keep their places, so that pointers do.
    """
    beyond = {item.name for item in schema.fields if is_fresh(schema, item)}
    while True:
        more = {
            item.name
            for item in schema.fields
            if item.name not in beyond and item.formula is not None and beyond & set(item.formula.fields)
        }
        if not more:
            break
        beyond |= more
    fields = []
    for item in schema.fields:
        if item.formula is not None and item.name in beyond:
            item = replace(item, formula=None, statistics=Statistics())
        if item.relevant is not None and beyond & set(item.relevant.fields):
            item = replace(item, relevant=None)
        fields.append(item)
    rules = tuple(rule for rule in schema.rules if not beyond & set(rule.fields))
    return replace(schema, fields=tuple(fields), rules=rules)


def _agreeing(document: Document, schema: TableSchema) -> TableSchema:
    stated = document.to_schema()
    if stated.names != schema.names or any(
        mine.type != other.type for mine, other in zip(stated.fields, schema.fields, strict=True)
    ):
        raise InvalidInput(
            [
                Fault(
                    "/columns",
                    "The posted blueprint has other columns than the schema: post the schema that it was "
                    "made of, or edit both alike.",
                )
            ]
        )
    faults = [
        Fault(
            pointer("columns", place, "constraints"),
            f"The values that `{mine.name}` may have are not those of the schema, which the rows would "
            "break: edit both alike.",
        )
        for place, (mine, other) in enumerate(zip(stated.fields, schema.fields, strict=True))
        if mine.constraints != other.constraints or mine.levels != other.levels
    ]
    if faults:
        raise InvalidInput(faults)
    return stated


def _told(schema: TableSchema, outcome: Outcome, what: Literal["asked", "achieved"]) -> str:
    from app.blueprint.outcomes import in_words

    number = outcome.statement.asked if what == "asked" else outcome.achieved
    return in_words(schema, outcome.statement.pointer, number)


def _refuse(schema: TableSchema, compiled: Compiled) -> None:
    missed = _missed(compiled)
    if missed:
        raise InvalidInput(
            Fault(
                outcome.statement.pointer,
                f"{_told(schema, outcome, 'asked')} was asked and {_told(schema, outcome, 'achieved')} is "
                f"the nearest that was reached, {outcome.moved:.1f} tolerances away. Correct it or what "
                'contradicts it, or choose `on_infeasible: "repair"`.',
            )
            for outcome in missed[:MOST_TOLD]
        )


def _missed(compiled: Compiled) -> list[Outcome]:
    """Return the outcomes beyond their tolerance, furthest first."""
    from app.blueprint.compile import VAGUE
    from app.blueprint.outcomes import BEYOND

    return sorted(
        (one for one in compiled.outcomes if one.moved > (VAGUE if one.statement.vague else BEYOND)),
        key=lambda one: -one.moved,
    )


def _is_open(schema: TableSchema, at: str) -> bool:
    """Whether the association at this pointer declares no direction."""
    parts = at.split("/")
    return parts[1] == "associations" and schema.associations[int(parts[2])].sign is None
