"""The generator `llm`: zero-shot tables from a dictionary and what a language model knows."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import BaseModel, ConfigDict
from pydantic import Field as Option

from app.blueprint.model import Source
from app.errors import Fault, ProviderError, ProviderNotConfigured
from app.generators.base import Capabilities, Progress, Sampler
from app.generators.llm import estimate, texts
from app.generators.llm.assignment import Assignment, Judged
from app.generators.llm.disclosed import InItsOwnTypes, Told, with_statistics
from app.generators.llm.elicit import Elicitation, Elicited
from app.generators.llm.providers import Providers
from app.generators.llm.record import KEY, record
from app.generators.llm.rows import MOST_ROWS, Writing, written_fields
from app.generators.llm.talk import Budget, Talk
from app.schema.parse import parse_schema
from app.schema.table import Field, TableSchema

if TYPE_CHECKING:
    import pandas as pd
    from numpy.random import SeedSequence

    from app.blueprint.rows import Floats

_ASKED_SHARE = 0.9
"""Share of the fit stage that the talk takes."""


class LLM:
    """Asks a language model what it knows. Built as `LLM(LLM.Options(strategy="rows"))`, then `assigned`."""

    class Options(BaseModel):
        """What a caller may choose."""

        model_config = ConfigDict(extra="forbid", frozen=True)

        strategy: Literal["blueprint", "rows"] = Option(
            "blueprint",
            description="`blueprint`: the model says how the table is distributed and a sampler draws the "
            "rows; `rows`: the model writes each row (small tables only)",
        )
        provider: str | None = Option(
            None, max_length=100, description="one of the configured providers; default: the only one"
        )
        elicitations: int = Option(
            3, ge=1, le=9, description="times that each figure is asked for, independently, then pooled"
        )
        critiques: int = Option(1, ge=0, le=5, description="rounds in which the model criticises a preview")
        max_tokens: int | None = Option(
            None, ge=1, description="stop before a request that could go beyond; both ways, all attempts"
        )
        max_cost_usd: float | None = Option(
            None, gt=0, description="stop before a request that could cost more; needs configured prices"
        )
        free_text: bool = Option(
            False, description="have free text written for each row (small tables only); else a placeholder"
        )
        disclose: Literal["nothing", "statistics"] = Option(
            "nothing",
            description="what the model is told of the real table in `reference_id`: nothing (it serves "
            "evaluation alone), or the statistics that may be published of it, never a row",
        )
        on_infeasible: Literal["repair", "fail"] = Option(
            "repair", description="what happens where statements are impossible together (`blueprint`)"
        )

    name = "llm"
    description = "A language model's knowledge of the described table; no real rows. Needs a provider."
    version = "1"
    capabilities = Capabilities(
        reproducible=False,  # asked again, a model may say something else; from one talk, rows repeat
        prefix=False,
        uses_llm=True,
        has_blueprint=True,
        honours=frozenset({"marginals", "missing", "associations", "conditionals", "formulas", "rules"}),
    )

    def __init__(self, options: Options, assignment: Assignment | None = None) -> None:
        self.options = options
        self._assignment = assignment
        self._solved: dict[Hashable, Floats] = {}  # by previews, and asked again for the rows

    def assigned(self, assignment: Assignment) -> Self:
        """Return the same generator, with the means to ask."""
        return type(self)(self.options, assignment)

    @classmethod
    def has_blueprint(cls, options: Mapping[str, Any]) -> bool:
        """Whether a job with these options has a blueprint: written rows have none."""
        return options.get("strategy") != "rows"

    @classmethod
    def judge(cls, options: BaseModel, schema: TableSchema, rows: int, providers: Providers) -> Judged:
        """Judge options at the door; `rows` are those of all replicates together."""
        assert isinstance(options, cls.Options)
        said = options.model_dump(mode="json")
        try:
            provider = providers.choose(options.provider)
        except ProviderError as error:
            return Judged(said, (Fault("/provider", error.detail),))
        said["provider"] = provider.name
        expected = (
            estimate.of_rows(schema, rows, free_text=options.free_text)
            if options.strategy == "rows"
            else estimate.of_blueprint(
                schema, options.elicitations, options.critiques, rows if options.free_text else 0
            )
        )
        cost = provider.cost(expected.prompt_tokens, expected.completion_tokens)
        faults, warnings = [], []
        if options.max_cost_usd is not None and cost is None:
            name = f"SYNTHWARD_LLM__{provider.name.upper()}"
            faults.append(
                Fault(
                    "/max_cost_usd",
                    f"No price is configured for `{provider.name}`: limit `max_tokens`, or have the operator "
                    f"set {name}__PROMPT_PRICE and {name}__COMPLETION_PRICE.",
                )
            )
        elif options.max_cost_usd is not None and cost is not None and cost > options.max_cost_usd:
            warnings.append(
                Fault("/max_cost_usd", f"About ${cost:.2f} are needed: the job will stop at this limit.")
            )
        if options.max_tokens is not None and expected.tokens > options.max_tokens:
            warnings.append(
                Fault(
                    "/max_tokens",
                    f"About {expected.tokens:,} tokens are needed: the job will stop at this limit.",
                )
            )
        if options.strategy == "blueprint" and options.free_text and rows > texts.MOST_TEXTS:
            faults.append(
                Fault(
                    "/free_text",
                    f"Text is written for at most {texts.MOST_TEXTS:,} rows: ask for fewer rows, or leave "
                    "this out and have placeholders.",
                )
            )
        if options.strategy == "rows" and not written_fields(schema, free_text=options.free_text):
            faults.append(
                Fault(
                    "/strategy",
                    "There is no column that a model would write: ids, computed columns and, without "
                    "`free_text`, free text are made elsewhere. Use the strategy `blueprint`.",
                )
            )
        if options.strategy == "rows" and rows > MOST_ROWS:
            dollars = "" if cost is None else f" and ${cost:,.2f}"
            faults.append(
                Fault(
                    "/strategy",
                    f"{rows:,} rows written one by one would take about {expected.tokens:,} "
                    f"tokens{dollars}; at most {MOST_ROWS:,} are written. Use the strategy `blueprint`: it "
                    "costs the same for any number of rows.",
                )
            )
        return Judged(
            said, tuple(faults), tuple(warnings), expected.requests, expected.prompt_tokens,
            expected.completion_tokens, cost,
        )  # fmt: skip

    def fit(
        self,
        schema: TableSchema,
        train: pd.DataFrame | None,
        *,
        seed: SeedSequence,
        progress: Progress,
        warn: Callable[[str, str], None],
    ) -> Sampler:
        """Ask what is open; of `train` nothing is said unless `disclose` allows its statistics.

        Raises
        ------
        ProviderError
            Its subclass says what to do.
        RowShortfall
            Strategy `rows`: fewer could be kept than asked for.
        InvalidInput
            Where the real table has too few rows for its statistics to be told.
        """
        if self._assignment is None:
            raise ProviderNotConfigured("The generator was not given the means to ask a language model.")
        budget = Budget(self.options.max_tokens, self.options.max_cost_usd)
        talk = self._assignment.talks.open(self.options.provider, budget)
        if self.options.disclose == "nothing" or train is None:
            return self._made(Told(schema, {}), talk, seed, progress, warn)
        made = self._made(with_statistics(schema, train, warn), talk, seed, progress, warn)
        return InItsOwnTypes(schema, made, getattr(made, "blueprint", None))

    def _made(
        self,
        told: Told,
        talk: Talk,
        seed: SeedSequence,
        progress: Progress,
        warn: Callable[[str, str], None],
    ) -> Sampler:
        assert self._assignment is not None
        schema = told.schema
        if self.options.strategy == "rows":
            return self._written(schema, talk, progress, warn)
        elicited = self.elicited(schema, talk, seed, progress, warn)
        progress(_ASKED_SHARE, "compiling the blueprint")
        kept = {KEY: record(elicited, talk.provider, self.options.elicitations)}
        sampler = self._compiled(elicited.document, elicited.provenance, warn, told.sources, kept)
        if not self.options.free_text or not texts.text_fields(schema):
            return sampler
        return texts.write_texts(
            schema, sampler, talk, self._seeds(seed), self._assignment.rows,
            lambda fraction, detail: progress(_ASKED_SHARE + (1 - _ASKED_SHARE) * fraction, detail), warn,
        )  # fmt: skip

    def _seeds(self, seed: SeedSequence) -> list[SeedSequence]:
        """Return the replicates' seeds: the job numbers them as the sisters of the one given to `fit`."""
        from numpy.random import SeedSequence

        assert self._assignment is not None
        mother = seed.spawn_key[:-1]
        return [
            SeedSequence(seed.entropy, spawn_key=(*mother, number))
            for number in range(1, self._assignment.replicates + 1)
        ]

    # Strategies --------------------------------------------------------------------------------------

    def elicited(
        self,
        schema: TableSchema,
        talk: Talk,
        seed: SeedSequence,
        progress: Progress,
        warn: Callable[[str, str], None],
    ) -> Elicited:
        """Return what the model says around what is declared."""
        from app.generators.llm import preview
        from app.generators.llm.sifting import Sieve

        def look(document: Mapping[str, Any], provenance: Mapping[str, Any]) -> Any:
            return preview.look(document, self._compiled(document, provenance, _silent, sketch=True), seed)

        return Elicitation(
            schema.document,
            talk,
            self.options.elicitations,
            self.options.critiques,
            warn,
            lambda fraction, detail="", eta_seconds=None: progress(
                _ASKED_SHARE * fraction, detail, eta_seconds
            ),
            look,
            Sieve(schema, seed),
        ).run()

    def _compiled(
        self,
        document: Mapping[str, Any],
        provenance: Mapping[str, Any],
        warn: Callable[[str, str], None],
        learned: Mapping[str, Source] = MappingProxyType({}),
        kept: Mapping[str, Any] = MappingProxyType({}),
        sketch: bool = False,
    ) -> Sampler:
        """Compile as the generator `blueprint` does; each statement keeps where it comes from."""
        from app.blueprint.declare import declare
        from app.generators.blueprint import sampler_of

        schema, _ = parse_schema(document, max_fields=len(document["fields"]))
        sources = {**learned, **{at: origin["source"] for at, origin in provenance.items()}}
        stated = declare(schema, sources).model_copy(update=dict(kept))
        fail = self.options.on_infeasible == "fail"
        return sampler_of(
            schema, stated, progress=_silent, warn=warn, fail=fail, sketch=sketch, solved=self._solved
        )

    def _written(
        self, schema: TableSchema, talk: Talk, progress: Progress, warn: Callable[[str, str], None]
    ) -> Sampler:
        from app.generators.llm.written import WrittenRows

        assert self._assignment is not None
        writing = Writing(
            schema,
            talk,
            self._assignment.rows * self._assignment.replicates,
            self.options.free_text,
            lambda fraction, detail: progress(fraction, detail),
            lambda field: _quantiles(schema, field),
        )
        table = writing.run()
        if writing.lost:
            lost = "; ".join(f"{count} × {reason}" for reason, count in writing.lost.most_common(6))
            warn("", f"Rows that the language model wrote and that were not kept: {lost}.")
        return WrittenRows.of(schema, table, self._assignment.rows, warn)


def _quantiles(schema: TableSchema, field: Field) -> list[float] | None:
    """Return 101 quantiles of a column whose place and spread are declared."""
    import numpy as np

    from app.blueprint.marginal_declared import declared_marginal
    from app.generators.llm.marginals import form_of

    if form_of(schema, field) != "none":
        return None
    drawn = declared_marginal(schema, field, _silent).draw(np.random.Generator(np.random.PCG64(0)), 20_000)
    import pandas as pd

    column = pd.Series(drawn).dropna()
    if not len(column):
        return None
    if field.type in ("date", "datetime"):
        numbers = (column - pd.Timestamp(0)) / pd.Timedelta(days=1)
    elif field.type == "time":
        numbers = column.dt.total_seconds()
    else:
        numbers = column.astype("float64")
    return [float(value) for value in numbers.quantile(np.linspace(0, 1, 101))]


def _silent(*_: Any, **__: Any) -> None:
    """Follow nothing."""
