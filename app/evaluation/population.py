"""What the population behind the rows has, by the blueprint's own account: asked, achieved, moved, guessed.

Free of chance, as the rows are not: a blueprint tells what became of each statement when it was compiled.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from app.evaluation.document import GuessedDirection, PopulationFacts, PopulationStatement

AS_ASKED = 1.0
"""Tolerances up to which a statement is as asked."""

_WORDS = {"min": "least value", "max": "greatest value", "missing": "missing share"}


def population_facts(blueprint: Mapping[str, Any]) -> PopulationFacts:
    """Read what a blueprint tells of its statements.

    Parameters
    ----------
    blueprint : mapping
        The document, as JSON; the furthest come first in it.
    """
    reasons = {item["at"]: item.get("reason", "") for item in blueprint.get("repairs", ())}
    table = tuple(
        _statement(blueprint, item, reasons.get(item["at"]) or item.get("reason") or "")
        for item in blueprint.get("outcomes", ())
    )
    told = {item.at for item in table}
    return PopulationFacts(
        statements=len(table),
        as_asked=sum(item.moved is not None and item.moved <= AS_ASKED for item in table),
        table=table,
        defaults=tuple(
            _statement(blueprint, item, item.get("reason", ""))
            for item in blueprint.get("repairs", ())
            if item["at"] not in told
        ),
        guesses=tuple(
            GuessedDirection(
                at=item["at"],
                statement=in_words(blueprint, item["at"]),
                value=item["value"],
                reason=item.get("reason", ""),
            )
            for item in blueprint.get("guesses", ())
        ),
    )


def _statement(blueprint: Mapping[str, Any], item: Mapping[str, Any], reason: str) -> PopulationStatement:
    return PopulationStatement(
        at=item["at"],
        statement=in_words(blueprint, item["at"]),
        asked=item["asked"],
        achieved=item.get("achieved"),
        moved=item.get("moved"),
        reason=reason,
    )


def in_words(blueprint: Mapping[str, Any], at: str) -> str:
    """Return what a pointer into a blueprint stands for."""
    parts = [part.replace("~1", "/").replace("~0", "~") for part in at.split("/")[1:]]
    match parts:
        case ["columns", place, "marginal", *statistic]:
            return _statistic(statistic, blueprint["columns"][int(place)]["name"])
        case ["columns", place, *statistic]:
            return _statistic(statistic, blueprint["columns"][int(place)]["name"])
        case ["conditionals", place, "statistics", *statistic]:
            conditional = blueprint["conditionals"][int(place)]
            return _statistic(statistic, conditional["field"]) + _where(conditional["given"])
        case ["dependence", place, *_]:
            item = blueprint["dependence"][int(place)]
            measure = item["measure"].replace("_", " ").replace("cramers v", "Cramér's V")
            words = f"{measure} of {item['fields'][0]} and {item['fields'][1]}"
            return words + (_where(item["given"]) if item.get("given") else "")
    return at


def _statistic(parts: Sequence[str], name: str) -> str:
    match parts:
        case ["quantiles", "value", p]:
            return f"{p} quantile of {name}"
        case ["proportions", "value", level]:
            return f"share of {level} in {name}"
        case [kind, *_]:
            return f"{_WORDS.get(kind, kind)} of {name}"
    return name


def _where(given: Mapping[str, Any]) -> str:
    return " where " + " and ".join(f"{name} is {_condition(value)}" for name, value in given.items())


def _condition(value: Any) -> str:
    if isinstance(value, Mapping):
        bounds = (("minimum", "at least"), ("maximum", "at most"))
        return " and ".join(f"{words} {_text(value[key])}" for key, words in bounds if key in value)
    if isinstance(value, list):
        return " or ".join(map(_text, value))
    return _text(value)


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
