"""A schema → a blueprint, with stated defaults for what nobody declared, and a blueprint → the schema that
says the same. Imports no numerics.

What a schema leaves open is stated as a `default`. On the way back a default is left out again where it is
still what would be taken, so that it binds nothing; one that was edited has become a statement.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from app.blueprint.defaults import (
    EPOCH,
    Choice,
    bounds,
    constant,
    decimals_for,
    default_span,
    is_firm,
    missing_share,
    quantiles_of,
)
from app.blueprint.model import (
    Blueprint,
    Column,
    Conditional,
    Dependence,
    Marginal,
    Rule,
    Source,
    Stated,
    StatedFamily,
    StatedTable,
    StratumStatistics,
)
from app.blueprint.places import in_blueprint
from app.blueprint.solving import solved_decimals, solved_inputs
from app.errors import InvalidInput, pointer
from app.schema.parse import parse_schema
from app.schema.table import Field, TableSchema, Value

Provenance = Mapping[str, Source]
"""By JSON pointer into the schema's document; holds for all below it, the longest pointer first."""

PLACEHOLDERS = ["text 000 … text 999"]

_NUMBERS = ("mean", "sd", "median", "min", "max")
_TABLES = ("quantiles", "proportions")
_ELSEWHERE = ("statistics", "decimals", "vocabulary")
_TOP = ("fields", "associations", "conditionals", "rules")


def declare(schema: TableSchema, provenance: Provenance | None = None) -> Blueprint:
    """Return the blueprint of a schema: what it states, and what is taken where it says nothing.

    Parameters
    ----------
    schema : TableSchema
        As `parse_schema` gives it, with its document.
    provenance : mapping, optional
        Where statements come from, by pointer; what it does not name was declared.
    """
    document = schema.document
    told = _Told(provenance or {})
    columns = [
        _column(schema, field, raw, told, pointer("fields", place))
        for place, (field, raw) in enumerate(zip(schema.fields, document["fields"], strict=True))
    ]
    return Blueprint(
        blueprint="1",
        **{key: value for key, value in document.items() if key not in _TOP and value is not None},
        columns=columns,
        dependence=[
            _dependence(raw, told, pointer("associations", place))
            for place, raw in enumerate(document.get("associations") or ())
        ],
        conditionals=[
            Conditional(
                **{key: value for key, value in raw.items() if key != "statistics" and value is not None},
                statistics=StratumStatistics(
                    **_stated(raw["statistics"], told, pointer("conditionals", place, "statistics"))
                ),
            )
            for place, raw in enumerate(document.get("conditionals") or ())
        ],
        rules=[
            Rule(rule=text, source=told.of(pointer("rules", place)))
            for place, text in enumerate(document.get("rules") or ())
        ],
    )


def schema_of(blueprint: Blueprint) -> TableSchema:
    """Return the schema that a blueprint says.

    Raises
    ------
    InvalidInput
        With every fault; the pointers lead into the blueprint.
    """
    try:
        return parse_schema(schema_document(blueprint), max_fields=len(blueprint.columns))[0]
    except InvalidInput as error:
        raise InvalidInput([fault_in_blueprint(fault) for fault in error.faults]) from error


def fault_in_blueprint(fault: Any) -> Any:
    """Return a fault of the schema's document as one of the blueprint."""
    return type(fault)(in_blueprint(fault.pointer), fault.message)


def schema_document(blueprint: Blueprint) -> dict[str, Any]:
    """Return the schema document that a blueprint says; it may have faults of content."""
    document = _document(blueprint, {})
    if not any(True for _ in _defaults_in(blueprint)):
        return document
    kept: dict[tuple[int, str], Any] = {}
    while True:
        try:
            schema, _ = parse_schema(document, max_fields=len(blueprint.columns))
        except InvalidInput:
            return document  # the reader of the document tells the faults
        fresh: dict[int, dict[str, Any]] = {}
        changed = False
        for place, name, value in _defaults_in(blueprint):
            if (place, name) in kept:
                continue
            if place not in fresh:
                fresh[place] = stated_defaults(schema, schema.fields[place])
            if fresh[place].get(name) != value:
                kept[place, name] = value
                changed = True
        if not changed:
            return document
        # A statement more may change what would be taken for the rest of its column.
        document = _document(blueprint, kept)


def provenance_of(blueprint: Blueprint) -> dict[str, Source]:
    """Return where the statements of a blueprint come from, by pointer into the schema that it says."""
    found: dict[str, Source] = {}
    for place, column in enumerate(blueprint.columns):
        at = pointer("fields", place)
        found[at] = column.source
        _sources(column.marginal, f"{at}/statistics", found)
        for name, node in (("decimals", column.decimals), ("statistics/missing", column.missing)):
            if node is not None:
                found[f"{at}/{name}"] = node.source
    for place, item in enumerate(blueprint.dependence):
        found[pointer("associations", place)] = item.source
    for place, conditional in enumerate(blueprint.conditionals):
        at = pointer("conditionals", place, "statistics")
        _sources(conditional.statistics, at, found)
        if conditional.statistics.missing is not None:
            found[f"{at}/missing"] = conditional.statistics.missing.source
    for place, rule in enumerate(blueprint.rules):
        found[pointer("rules", place)] = rule.source
    # A default that counts as a statement was edited: whoever did has declared it.
    return {at: "declared" if source == "default" else source for at, source in found.items()}


def source_of(blueprint: Blueprint) -> Callable[[str], Source]:
    """Return a function that says where a statement comes from, by its pointer into the schema."""
    return _Told(provenance_of(blueprint)).of


def _sources(marginal: Marginal | None, at: str, found: dict[str, Source]) -> None:
    if marginal is None:
        return
    for name in (*_NUMBERS, *_TABLES, "family"):
        node = getattr(marginal, name)
        if node is not None:
            found[f"{at}/{'distribution' if name == 'family' else name}"] = node.source


# Defaults ---------------------------------------------------------------------------------------------


def stated_defaults(schema: TableSchema, field: Field) -> dict[str, Any]:
    """Return what is taken of a field where nothing is declared: `app.blueprint.marginal` takes the same.

    Keys are those of `Marginal`, and `missing` and `decimals`; numbers have six significant digits.
    """
    found: dict[str, Any] = {}
    if field.formula is not None:
        return _with_decimals(field, found, None)
    if field.statistics.missing is None:
        found["missing"] = 0
    if is_made_fresh(schema, field) or missing_share(field, 0.0) == 1:
        return found
    if field.levels is not None:
        if field.statistics.proportions is None:
            share = plain(1 / len(field.levels))
            found["proportions"] = {level_text(level): share for level in field.levels}
        return found
    statistics = field.statistics
    lower, upper = bounds(field)
    if constant(statistics, lower, upper) is not None:
        return found
    choice = Choice.of(schema, field, lower, upper, _silent)
    quantiles = quantiles_of(statistics)
    if statistics.distribution is None:
        found["family"] = choice.family
    timely = field.kind == "temporal" or field.type == "year"
    if timely and choice.family == "uniform" and not is_firm(field):
        low, high = default_span(field, lower, upper)
        if lower is None:
            found["min"] = on_scale(field, low)
        if upper is None:
            found["max"] = on_scale(field, high)
        return found
    if statistics.mean is None and not quantiles:
        found["mean"] = on_scale(field, choice.mean)
    if statistics.sd is None and len(quantiles) < 2:
        found["sd"] = plain(choice.sd)
    found = _with_decimals(field, found, choice.sd)
    if "decimals" in found and any(one.formula and field.name in one.formula.fields for one in schema.fields):
        drawn = [one for one in schema.fields if one.formula is None and not is_made_fresh(schema, one)]
        for solved in solved_inputs(schema, drawn):
            if solved.item.name == field.name:
                found["decimals"] = solved_decimals(schema, solved)
    return found


def is_made_fresh(schema: TableSchema, field: Field) -> bool:
    """Whether nobody learns the column: an id, a unique value, a part of the key, free text."""
    unlike = field.constraints.unique or field.name in schema.primary_key
    return field.formula is None and (unlike or field.kind in ("id", "text"))


def _with_decimals(field: Field, found: dict[str, Any], sd: float | None) -> dict[str, Any]:
    if field.type == "number" and field.levels is None and field.decimals is None:
        places = field.places
        if places is None and sd is not None:
            places = decimals_for(sd)
        if places is not None:
            found["decimals"] = places
    return found


def _defaults_in(blueprint: Blueprint) -> Iterator[tuple[int, str, Any]]:
    """Yield each default of a blueprint: its column's place, its name, and its value as it counts."""
    repaired = {item.at: item for item in blueprint.repairs}
    for place, column in enumerate(blueprint.columns):
        at = pointer("columns", place)
        for name, node in (("missing", column.missing), ("decimals", column.decimals)):
            if node is not None and node.source == "default":
                yield place, name, meant(node, f"{at}/{name}", repaired)
        if column.marginal is None:
            continue
        if column.marginal.family is not None and column.marginal.family.source == "default":
            yield place, "family", column.marginal.family.value
        for name in (*_NUMBERS, *_TABLES):
            node = getattr(column.marginal, name)
            if node is not None and node.source == "default":
                yield place, name, meant(node, f"{at}/marginal/{name}", repaired)


def meant(node: Any, at: str, repaired: Mapping[str, Any]) -> Any:
    """Return what a number asks for.

    A repaired number shows what the rows have. Where that is still what the list of repairs says, it was
    not edited, and what was asked for is asked for again.
    """
    if node.asked is None:
        return node.value
    if isinstance(node.value, Mapping):
        untouched = all(
            value == node.asked.get(key) or _is_repair(value, f"{at}/value{pointer(key)}", repaired)
            for key, value in node.value.items()
        )
    else:
        untouched = _is_repair(node.value, f"{at}/value", repaired)
    return node.asked if untouched else node.value


def _is_repair(value: Any, at: str, repaired: Mapping[str, Any]) -> bool:
    return at in repaired and repaired[at].achieved == value


# Schema → blueprint ---------------------------------------------------------------------------------


class _Told:
    """Where statements come from."""

    def __init__(self, provenance: Provenance) -> None:
        self._provenance = provenance

    def of(self, at: str) -> Source:
        while at:
            if at in self._provenance:
                return self._provenance[at]
            at = at.rpartition("/")[0]
        return self._provenance.get("", "declared")


def _column(schema: TableSchema, field: Field, raw: Mapping[str, Any], told: _Told, at: str) -> Column:
    said: dict[str, Any] = {
        key: value for key, value in raw.items() if key not in _ELSEWHERE and value is not None
    }
    said["source"] = told.of(at)
    if raw.get("vocabulary") is not None:
        said["vocabulary"] = raw["vocabulary"]
    statistics = _stated(raw.get("statistics") or {}, told, f"{at}/statistics")
    missing = statistics.pop("missing", None)
    if raw.get("decimals") is not None:
        said["decimals"] = Stated(value=raw["decimals"], source=told.of(f"{at}/decimals"))
    for name, value in stated_defaults(schema, field).items():
        if name == "missing":
            missing = Stated(value=value, source="default")
        elif name == "decimals":
            said["decimals"] = Stated(value=value, source="default")
        elif name == "family":
            statistics[name] = StatedFamily(value=value, source="default")
        else:
            kind = StatedTable if name in _TABLES else Stated
            statistics[name] = kind(value=value, source="default")
    marginal = Marginal(**statistics) if statistics else None
    return Column(**said, marginal=marginal, missing=missing)


def _stated(raw: Mapping[str, Any], told: _Told, at: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name in (*_NUMBERS, "missing"):
        if raw.get(name) is not None:
            found[name] = Stated(value=raw[name], source=told.of(f"{at}/{name}"))
    for name in _TABLES:
        if raw.get(name) is not None:
            found[name] = StatedTable(value=raw[name], source=told.of(f"{at}/{name}"))
    if raw.get("distribution") is not None:
        found["family"] = StatedFamily(value=raw["distribution"], source=told.of(f"{at}/distribution"))
    return found


def _dependence(raw: Mapping[str, Any], told: _Told, at: str) -> Dependence:
    said = {key: value for key, value in raw.items() if value is not None}
    source = told.of(at)
    if "sign" in said:
        said["sign"] = {"value": int(said["sign"]), "source": source}
    return Dependence(**said, source=source)


# Blueprint → schema ---------------------------------------------------------------------------------


def _document(blueprint: Blueprint, kept: Mapping[tuple[int, str], Any]) -> dict[str, Any]:
    lean = blueprint.lean()
    repaired = {item.at: item for item in blueprint.repairs}
    guessed = {item.at: item.value for item in blueprint.guesses}
    ours = {"blueprint", "columns", "dependence", "conditionals", "rules", "repairs", "guesses", "outcomes"}
    document: dict[str, Any] = {key: value for key, value in lean.items() if key not in ours}
    document["fields"] = [
        _field(column, lean["columns"][place], place, repaired, kept)
        for place, column in enumerate(blueprint.columns)
    ]
    if blueprint.dependence:
        document["associations"] = [
            _association(item, lean["dependence"][place], pointer("dependence", place), repaired, guessed)
            for place, item in enumerate(blueprint.dependence)
        ]
    if blueprint.conditionals:
        document["conditionals"] = [
            {
                **lean["conditionals"][place],
                "statistics": _statistics(
                    item.statistics, pointer("conditionals", place, "statistics"), repaired
                ),
            }
            for place, item in enumerate(blueprint.conditionals)
        ]
    if blueprint.rules:
        document["rules"] = [item.rule for item in blueprint.rules]
    return document


def _field(
    column: Column,
    lean: Mapping[str, Any],
    place: int,
    repaired: Mapping[str, Any],
    kept: Mapping[tuple[int, str], Any],
) -> dict[str, Any]:
    at = pointer("columns", place)
    ours = ("source", "marginal", "missing", "decimals")
    field = {key: value for key, value in lean.items() if key not in ours}
    statistics = _statistics(column.marginal, f"{at}/marginal", repaired) if column.marginal else {}
    if column.missing is not None and column.missing.source != "default":
        statistics["missing"] = meant(column.missing, f"{at}/missing", repaired)
    if column.decimals is not None and column.decimals.source != "default":
        field["decimals"] = column.decimals.value
    for (where, name), value in kept.items():
        if where == place and name == "decimals":
            field[name] = value
        elif where == place:
            statistics["distribution" if name == "family" else name] = value
    if statistics:
        field["statistics"] = statistics
    return field


def _statistics(marginal: Marginal, at: str, repaired: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name in (*_NUMBERS, *_TABLES, "missing"):
        node = getattr(marginal, name, None)
        if node is not None and node.source != "default":
            found[name] = meant(node, f"{at}/{name}", repaired)
    if marginal.family is not None and marginal.family.source != "default":
        found["distribution"] = marginal.family.value
    return found


def _association(
    item: Dependence,
    lean: Mapping[str, Any],
    at: str,
    repaired: Mapping[str, Any],
    guessed: Mapping[str, int],
) -> dict[str, Any]:
    found = {key: value for key, value in lean.items() if key not in ("source", "asked", "sign")}
    if item.asked is not None and _is_repair(item.value, f"{at}/value", repaired):
        found["value"] = item.asked
    if item.sign is not None:
        guess = item.sign.source == "guessed" and guessed.get(f"{at}/sign/value") == item.sign.value
        if not guess:
            found["sign"] = item.sign.value
    return found


# Words ------------------------------------------------------------------------------------------------


def plain(number: float) -> int | float:
    """Return a number with six significant digits, whole ones as integers."""
    rounded = float(f"{number:.6g}")
    return int(rounded) if rounded.is_integer() and abs(rounded) < 1e15 else rounded


def on_scale(field: Field, number: float) -> int | float | str:
    """Return a number of a field's numeric scale as the document writes it: dates and times as ISO 8601."""
    if field.type == "date":
        return (EPOCH + dt.timedelta(days=round(number))).isoformat()
    if field.type == "datetime":
        moment = dt.datetime(EPOCH.year, 1, 1) + dt.timedelta(days=number)
        return moment.replace(microsecond=0).isoformat()
    if field.type == "time":
        return (dt.datetime.min + dt.timedelta(seconds=round(number))).time().isoformat()
    return plain(number)


def level_text(level: Value) -> str:
    """Return a level as the keys of proportions write it."""
    if isinstance(level, bool):
        return "true" if level else "false"
    return level.isoformat() if isinstance(level, dt.date | dt.time) else str(level)


def _silent(pointer: str, message: str) -> None:
    """The rows' maker tells what was taken; a blueprint states it."""
