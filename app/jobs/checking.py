"""What is judged before a job is accepted: all of it at once, so that one answer names every fault."""

from __future__ import annotations

import difflib
import hashlib
import secrets
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel, ValidationError
from pydantic_core import to_json

from app.config import Settings
from app.errors import Fault, InvalidInput, pointer
from app.faults import faults_of
from app.generators import registry
from app.generators.base import Capabilities, Generator, learns, refusals, remarks, seconds_to_learn
from app.generators.llm.assignment import AsksModels, Judged
from app.generators.registry import UnknownGenerator
from app.jobs.envelope import columns_of, fields_absent, read_envelope, read_schema
from app.jobs.repository import Reference
from app.jobs.schemas import MAX_SEED, EvaluationRequest, JobRequest, ReleaseLimits
from app.providers import providers_of
from app.rows_needed import least_limit, rows_needed
from app.schema.check_rows import check_row_count
from app.schema.parse import parse_schema
from app.schema.table import TableSchema

FindReference = Callable[[str], Reference | None]
Parsed = tuple[TableSchema, tuple[Fault, ...]]

_STATISTICS = ("mean", "sd", "median", "min", "max", "quantiles", "proportions", "distribution")


@dataclass(frozen=True, slots=True)
class Order:
    """A request that can be carried out, complete: defaults filled in, the seed drawn."""

    generator: str
    version: str
    options: dict[str, Any]
    heavy: bool
    schema: TableSchema
    rows: int
    replicates: int
    seed: int
    reference_id: str | None
    evaluation: EvaluationRequest
    release: ReleaseLimits | None
    labels: dict[str, str]
    warnings: tuple[Fault, ...]
    judged: Judged | None = None
    learning: float = 0.0
    """About how many seconds learning from the real table takes."""
    kind: Literal["generation", "evaluation"] = "generation"


class SchemaCache:
    """Parses schema documents, and remembers the last ones: portals post the same one again and again.

    Parameters
    ----------
    max_fields : int
        A schema may have so many.
    size : int
        Documents remembered.
    max_bytes : int
        Longer documents are parsed each time, so that memory stays small.
    """

    def __init__(self, max_fields: int, size: int = 64, max_bytes: int = 65_536) -> None:
        self._max_fields, self._size, self._max_bytes = max_fields, size, max_bytes
        self._parsed: OrderedDict[bytes, Parsed] = OrderedDict()
        self._lock = threading.Lock()

    def parse(self, document: dict[str, Any]) -> Parsed:
        """Parse a schema document; raises as `parse_schema` does."""
        text = to_json(document)
        if len(text) > self._max_bytes:
            return parse_schema(document, max_fields=self._max_fields)
        digest = hashlib.sha256(text).digest()
        with self._lock:
            known = self._parsed.get(digest)
            if known is not None:
                self._parsed.move_to_end(digest)
                return known
        parsed = parse_schema(document, max_fields=self._max_fields)
        with self._lock:
            self._parsed[digest] = parsed
            if len(self._parsed) > self._size:
                self._parsed.popitem(last=False)
        return parsed


def check(document: Any, find_reference: FindReference, settings: Settings, schemas: SchemaCache) -> Order:
    """Judge a request for a job.

    Parameters
    ----------
    document : JSON value
        The body of the request.
    find_reference : callable
        Returns a dataset of the caller's by its id, None where there is none.
    settings : Settings
        For the limits.
    schemas : SchemaCache
        Parses the schema.

    Raises
    ------
    InvalidInput
        With every fault that was found; the pointers lead into `document`.
    """
    if not isinstance(document, dict):
        raise InvalidInput([Fault("", "The body must be a JSON object.")])
    faults: list[Fault] = []
    warnings: list[Fault] = []
    envelope = read_envelope(JobRequest, document, {"generator": "", "rows": 1})
    request, sound = envelope.request, envelope.sound
    faults += _as_sent(envelope.faults, document)

    reference = _reference(document, find_reference, faults)
    inferred = document.get("schema") is None
    if inferred and not isinstance(document.get("reference_id"), str):
        faults.append(Fault("/schema", "A schema is required where no `reference_id` is given."))
    schema = read_schema(document, reference, schemas, faults, warnings)
    generator, options = _generator(document, faults)
    if sound is not None:
        _limits(sound, settings, faults)
    if generator is not None and generator.capabilities.needs_reference and not document.get("reference_id"):
        faults.append(
            Fault(
                "/reference_id",
                f"The generator '{generator.name}' needs a real table: upload one, and name it here.",
            )
        )
    if getattr(options, "fit", False) and not document.get("reference_id"):
        # To give rows of mere defaults would look as if something had been learned.
        faults.append(
            Fault(
                "/generator/options/fit",
                "There is no real table to learn from: name one in `reference_id`, or leave `fit` out.",
            )
        )
    discloses = getattr(options, "disclose", "nothing") != "nothing"
    if discloses and not document.get("reference_id"):
        faults.append(
            Fault(
                "/generator/options/disclose",
                "There is no real table to tell of: name one in `reference_id`, or leave `disclose` out.",
            )
        )
    if schema is not None:
        rows = document.get("rows")
        if type(rows) is int and rows > 0:
            faults += [fault.under("/schema") for fault in check_row_count(schema, rows)]
        if reference is not None and not inferred:
            faults += _columns_missing(schema, reference)
        if sound is not None:
            faults += evaluation_fields(sound.evaluation, schema, reference)
        if type(rows) is int and generator is not None and options is not None:
            faults += refusals(generator, options, schema, rows)
    judged = _language_model(request, generator, options, schema, reference, inferred, settings, faults)
    if sound is not None:
        faults += _release(sound, reference, document)
    if faults or request is None or schema is None or generator is None or options is None:
        raise InvalidInput(_once(faults))

    if not inferred:
        warnings += not_honoured(schema, generator.capabilities, generator.name)
    warnings += remarks(generator, options, schema)
    if reference is not None and not request.evaluation.enabled and not _learns(generator, options):
        warnings.append(
            Fault(
                "/reference_id",
                "The real table is not used: the generator does not learn from it, and evaluation is off.",
            )
        )
    return Order(
        generator=generator.name,
        version=generator.version,
        options=options.model_dump(mode="json") if judged is None else judged.options,
        heavy=generator.capabilities.heavy or request.rows * request.replicates >= settings.heavy_rows,
        schema=schema,
        rows=request.rows,
        replicates=request.replicates,
        seed=secrets.randbelow(MAX_SEED + 1) if request.seed is None else request.seed,
        reference_id=request.reference_id,
        evaluation=request.evaluation,
        release=request.release,
        labels=request.labels,
        warnings=(*warnings, *_under_options(() if judged is None else judged.warnings)),
        judged=judged,
        learning=_learning(generator, options, request, schema, reference),
    )


def _learning(
    generator: type[Generator],
    options: BaseModel,
    request: JobRequest,
    schema: TableSchema,
    reference: Reference | None,
) -> float:
    if reference is None:
        return 0.0
    kept = request.evaluation.holdout if request.evaluation.enabled else 0.0
    train_rows = round(reference.rows * (1 - kept))
    return seconds_to_learn(generator, options, train_rows, len(schema.fields))


def _language_model(
    request: JobRequest | None,
    generator: type[Generator] | None,
    options: BaseModel | None,
    schema: TableSchema | None,
    reference: Reference | None,
    inferred: bool,
    settings: Settings,
    faults: list[Fault],
) -> Judged | None:
    """Judge what a generator that asks a language model is asked for; None for the others."""
    if generator is None or not issubclass(generator, AsksModels) or options is None:
        return None
    if inferred and reference is not None and getattr(options, "disclose", "nothing") == "nothing":
        faults.append(
            Fault(
                "/schema",
                "A language model is told of the schema, and a real table is not spoken of to others: give a "
                'schema of your own here, or say `disclose: "statistics"` in the generator\'s options.',
            )
        )
    if request is None or schema is None:
        return None
    judged = generator.judge(options, schema, request.rows * request.replicates, providers_of(settings))
    faults += _under_options(judged.faults)
    return judged


def _under_options(faults: Sequence[Fault]) -> list[Fault]:
    return [fault.under("/generator/options") for fault in faults]


def _as_sent(faults: list[Fault], document: dict[str, Any]) -> list[Fault]:
    # A bare name was read as an object with a name: its faults are told where the caller wrote it.
    if isinstance(document.get("generator"), str):
        return [
            Fault("/generator", fault.message) if fault.pointer.startswith("/generator/") else fault
            for fault in faults
        ]
    return faults


def _once(faults: Sequence[Fault]) -> list[Fault]:
    return list(dict.fromkeys(faults))


def _reference(
    document: dict[str, Any], find_reference: FindReference, faults: list[Fault]
) -> Reference | None:
    dataset_id = document.get("reference_id")
    if not isinstance(dataset_id, str):
        return None
    reference = find_reference(dataset_id)
    if reference is None:
        faults.append(Fault("/reference_id", "There is no such dataset. Upload it again, or check the id."))
    elif reference.rows < 2:
        # Of two rows and more the split leaves at least one on each side, whatever the share.
        faults.append(
            Fault(
                "/reference_id",
                "This dataset has one row: none is left to judge by. Upload a table with more.",
            )
        )
    return reference


def _generator(
    document: dict[str, Any], faults: list[Fault]
) -> tuple[type[Generator] | None, BaseModel | None]:
    choice = document.get("generator")
    bare = isinstance(choice, str)
    name = choice if bare else choice.get("name") if isinstance(choice, dict) else None
    options = choice.get("options", {}) if isinstance(choice, dict) else {}
    if not isinstance(name, str):
        return None, None  # told by the envelope
    place = "/generator" if bare else "/generator/name"
    try:
        generator = registry.load(name)
    except UnknownGenerator as error:
        faults += [Fault(place, fault.message) for fault in error.faults]
        return None, None
    if not isinstance(options, dict):
        return generator, None  # told by the envelope
    try:
        return generator, generator.Options.model_validate(options)
    except ValidationError as error:
        faults += [fault.under("/generator/options") for fault in faults_of(error, options)]
        return generator, None


def _limits(request: JobRequest, settings: Settings, faults: list[Fault]) -> None:
    if request.rows > settings.max_rows:
        faults.append(Fault("/rows", f"At most {settings.max_rows} rows can be asked for here."))
    if request.replicates > settings.max_replicates:
        faults.append(
            Fault("/replicates", f"At most {settings.max_replicates} replicates can be asked for here.")
        )


def _columns_missing(schema: TableSchema, reference: Reference) -> list[Fault]:
    return [
        Fault(
            pointer("schema", "fields", position, "name"),
            f"The reference has no column of this name.{hint} Rename the field, leave it out, or drop "
            f"the reference.",
        )
        for position, hint in fields_absent(schema, reference)
    ]


def evaluation_fields(
    evaluation: EvaluationRequest, schema: TableSchema, reference: Reference | None
) -> list[Fault]:
    """Return a fault for each column that an evaluation names and that is not there."""
    # The holdout is split off the stored table, so what steers the split must be among its columns.
    columns = schema.names if reference is None else columns_of(reference)
    named: list[tuple[str, str, Sequence[str], str]] = []
    if evaluation.target is not None:
        place = "/evaluation/target"
        named.append((place, evaluation.target, schema.names, "The schema has no field of this name."))
        if evaluation.target in schema.names:
            named.append((place, evaluation.target, columns, "The reference has no column of this name."))
    if evaluation.group is not None:
        named.append(("/evaluation/group", evaluation.group, columns, "There is no column of this name."))
    for key, values in (
        ("quasi_identifiers", evaluation.quasi_identifiers),
        ("sensitive", evaluation.sensitive),
    ):
        named += [
            (
                pointer("evaluation", key, position),
                value,
                schema.names,
                "The schema has no field of this name.",
            )
            for position, value in enumerate(values)
        ]
    faults = []
    for place, value, names, message in named:
        if value not in names:
            close = difflib.get_close_matches(value, names, 1)
            faults.append(Fault(place, message + (f" Did you mean '{close[0]}'?" if close else "")))
    return faults


def _release(request: JobRequest, reference: Reference | None, document: Mapping[str, Any]) -> list[Fault]:
    limits = request.release
    if limits is None:
        return []
    asked = limits.model_dump(exclude_none=True)
    if not asked:
        raw = document["release"]
        if isinstance(raw, dict) and any(value is not None for value in raw.values()):
            return []  # what is wrong with it is said already
        return [Fault("/release", "Name a limit, or leave `release` out.")]
    faults = []
    if not request.evaluation.enabled:
        faults.append(
            Fault(
                "/evaluation/enabled",
                "Release limits are judged by the evaluation: switch it on, or leave `release` out.",
            )
        )
    if limits.max_identical_match_share is not None and request.reference_id is None:
        faults.append(
            Fault(
                "/release/max_identical_match_share",
                "Identical matches are counted against a real table: give `reference_id`, or leave this "
                "limit out.",
            )
        )
    if limits.max_singling_out_advantage is not None:
        place = "/release/max_singling_out_advantage"
        faults += [
            Fault(place, message)
            for message in _too_small(request, limits.max_singling_out_advantage, reference)
        ]
    return faults


def _too_small(request: JobRequest, limit: float, reference: Reference | None) -> list[str]:
    """Say why a limit on singling out cannot be met, whatever the rows are like."""
    if request.reference_id is None:
        return [
            "Singling out is measured against a real table: give `reference_id`, or leave this limit out."
        ]
    needed = rows_needed(limit, request.evaluation.holdout)
    if needed is None:
        return [
            "No table is large enough to show so small an advantage with 95 % confidence: choose at least "
            f"{least_limit():.2g}, or leave this limit out."
        ]
    if reference is not None and reference.rows < needed:
        return [
            f"The reference has {reference.rows} rows. To show an advantage of at most {limit:g} with 95 % "
            f"confidence takes {needed} rows (persons, where one has several) at a holdout "
            f"of {request.evaluation.holdout:g}, even where no attack succeeds. Upload more rows, choose a "
            "higher limit, or leave it out."
        ]
    return []


def _learns(generator: type[Generator], options: BaseModel) -> bool:
    return learns(generator(options), options)


def not_honoured(schema: TableSchema, capabilities: Capabilities, name: str) -> list[Fault]:
    """Return one warning for each statement of a schema that a generator does not honour."""
    honours = capabilities.honours
    places: list[str] = []
    for position, field in enumerate(schema.fields):
        declared = _declared(schema, position)
        if "marginals" not in honours:
            places += [
                pointer("schema", "fields", position, "statistics", key)
                for key in _STATISTICS
                if key in declared
            ]
        if "missing" not in honours and "missing" in declared:
            places.append(pointer("schema", "fields", position, "statistics", "missing"))
        if "formulas" not in honours and field.formula is not None:
            places.append(pointer("schema", "fields", position, "formula"))
    if "associations" not in honours:
        places += [pointer("schema", "associations", number) for number in range(len(schema.associations))]
    if "conditionals" not in honours:
        places += [pointer("schema", "conditionals", number) for number in range(len(schema.conditionals))]
    return [
        Fault(place, f"The generator '{name}' does not honour this; the rows will not follow it.")
        for place in places
    ]


def _declared(schema: TableSchema, position: int) -> dict[str, Any]:
    declared = schema.document["fields"][position].get("statistics")
    return declared if isinstance(declared, dict) else {}
