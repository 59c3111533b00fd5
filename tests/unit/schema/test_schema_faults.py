# ruff: noqa: E501  (a case a line reads better than a wrapped one)
"""Every class of fault in a schema: found, at its own pointer, with the way out."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from app.errors import Fault, InvalidInput
from app.schema.parse import parse_schema

NUMBER: dict[str, Any] = {"name": "n", "type": "number"}
INTEGER: dict[str, Any] = {"name": "i", "type": "integer"}
FLAG: dict[str, Any] = {"name": "b", "type": "boolean"}
SEX: dict[str, Any] = {"name": "sex", "type": "string", "categories": ["F", "M"]}
GRADE: dict[str, Any] = {
    "name": "g",
    "type": "string",
    "categories": ["I", "II", "III"],
    "categoriesOrdered": True,
}
SITE: dict[str, Any] = {"name": "site", "type": "string", "categories": ["a", "b", "c"]}
TEXT: dict[str, Any] = {"name": "text", "type": "string"}
DATE: dict[str, Any] = {"name": "d", "type": "date"}
TIME: dict[str, Any] = {"name": "t", "type": "time"}
ALL = [NUMBER, INTEGER, FLAG, SEX, GRADE, SITE, TEXT, DATE, TIME]


def faults_of(document: Any) -> list[Fault]:
    try:
        parse_schema(document)
    except InvalidInput as error:
        return list(error.faults)
    return []


def number(**more: Any) -> dict[str, Any]:
    return NUMBER | more


def stats(field: dict[str, Any], **statistics: Any) -> dict[str, Any]:
    return field | {"statistics": statistics}


def limits(field: dict[str, Any], **constraints: Any) -> dict[str, Any]:
    return field | {"constraints": constraints}


def bounded(low: Any, high: Any, field: dict[str, Any] = NUMBER, **statistics: Any) -> dict[str, Any]:
    return stats(limits(field, minimum=low, maximum=high), **statistics)


ONE_FIELD = [
    # shape
    ("no", "", "is an object"),
    ({}, "/name", "needs a name"),
    ({"name": " ", "type": "number"}, "/name", "needs a name"),
    ({"name": "a\nb"}, "/name", "no line breaks"),
    ({"name": "a" * 256}, "/name", "at most 255"),
    ({"name": 5, "type": "number"}, "/name", "needs a name"),
    ({"name": "x", "type": "interger"}, "/type", "did you mean 'integer'"),
    ({"name": "x", "type": 5}, "/type", "the types are"),
    ({"name": "x", "type": "geopoint"}, "/type", "latitude and longitude"),
    ({"name": "x", "type": "object"}, "/type", "each of its parts"),
    ({"name": "x", "type": "array"}, "/type", "each of its parts"),
    ({"name": "x", "type": "list"}, "/type", "each of its parts"),
    ({"name": "x", "type": "duration"}, "/type", "with a unit"),
    ({"name": "x", "type": "yearmonth"}, "/type", "first of the month"),
    (number(title=5), "/title", "is a text"),
    (number(unit=["mg"]), "/unit", "is a text"),
    (number(constraints=[]), "/constraints", "JSON object"),
    (number(statistics=3), "/statistics", "JSON object"),
    (number(formula=3), "/formula", "is a text"),
    (number(relevant=True), "/relevant", "is a text"),
    (DATE | {"format": "dd.mm.yyyy"}, "/format", '"%d.%m.%Y"'),
    (DATE | {"format": 5}, "/format", "is a text"),
    (number(decimals=-1), "/decimals", "from 0 to 15"),
    (number(decimals=1.5), "/decimals", "from 0 to 15"),
    (number(decimals=True), "/decimals", "from 0 to 15"),
    (INTEGER | {"decimals": 2}, "/decimals", '"number"'),
    (TEXT | {"decimals": 2}, "/decimals", '"number"'),
    # categories
    (SEX | {"categories": "FM"}, "/categories", "list of values"),
    (SEX | {"categories": []}, "/categories", "list of values"),
    (SEX | {"categories": ["F", "F"]}, "/categories/1", "listed twice"),
    (SEX | {"categories": ["F", 1]}, "/categories/1", "in quotes"),
    (SEX | {"categories": ["F", {"label": "x"}]}, "/categories/1", "in quotes"),
    (SEX | {"categories": ["F", ""]}, "/categories/1", "missingValues"),
    (INTEGER | {"categories": [1, 2.5]}, "/categories/1", "whole number"),
    (INTEGER | {"categories": [1, True]}, "/categories/1", "whole number"),
    (INTEGER | {"categories": [1, "1"]}, "/categories/1", "listed twice"),
    (FLAG | {"categories": [True, "maybe"]}, "/categories/1", "true or false"),
    (DATE | {"categories": ["2024-02-30"]}, "/categories/0", "ISO 8601"),
    (SEX | {"categoriesOrdered": "yes"}, "/categoriesOrdered", "without quotes"),
    (limits(SEX, enum=["F", "X"]), "/constraints/enum/1", "not one of the categories"),
    (limits(TEXT, enum="F"), "/constraints/enum", "list of values"),
    (limits(INTEGER | {"categories": [1, 2, 9]}, maximum=5), "/categories/2", "above the maximum"),
    (limits(INTEGER | {"categories": [1, 2, 9]}, minimum=2), "/categories/0", "below the minimum"),
    (limits(TEXT, enum=["a", "abc"], maxLength=2), "/constraints/enum/1", "longer than"),
    (limits(TEXT, enum=["a", "abc"], minLength=2), "/constraints/enum/0", "shorter than"),
    (limits(TEXT, enum=["a", "abc"], pattern="a+"), "/constraints/enum/1", "does not match"),
    # constraints
    (limits(NUMBER, required="yes"), "/constraints/required", "without quotes"),
    (limits(NUMBER, unique=1), "/constraints/unique", "without quotes"),
    (limits(NUMBER, minimum="low"), "/constraints/minimum", "is a number"),
    (limits(NUMBER, minimum=True), "/constraints/minimum", "is a number"),
    (limits(NUMBER, maximum=[1]), "/constraints/maximum", "is a number"),
    (limits(INTEGER, minimum=0.5), "/constraints/minimum", "whole number"),
    (limits(INTEGER, maximum=2**60), "/constraints/maximum", "use a string"),
    (limits(DATE, minimum="1.2.2024"), "/constraints/minimum", "ISO 8601"),
    (limits(DATE, minimum=2024), "/constraints/minimum", "ISO 8601"),
    (limits(TIME, minimum="24:30"), "/constraints/minimum", "ISO 8601"),
    (limits(TEXT, minimum=3), "/constraints/minimum", "minLength"),
    (limits(FLAG, maximum=3), "/constraints/maximum", "use enum"),
    (limits(NUMBER, minLength=3), "/constraints/minLength", "for texts"),
    (limits(NUMBER, pattern="a"), "/constraints/pattern", "for texts"),
    (limits(TEXT, minLength=-1), "/constraints/minLength", "number of characters"),
    (limits(TEXT, maxLength=2.5), "/constraints/maxLength", "number of characters"),
    (limits(TEXT, minLength=5, maxLength=2), "/constraints/minLength", "above maxLength"),
    (bounded(5, 2), "/constraints/minimum", "above the maximum"),
    (bounded("2024-02-01", "2024-01-01", DATE), "/constraints/minimum", "above the maximum"),
    (bounded(0.01, 0.04, number(decimals=1)), "/constraints/minimum", "no number with 1 decimals"),
    # patterns
    (limits(TEXT, pattern="(a"), "/constraints/pattern", "not a regular expression"),
    (limits(TEXT, pattern=5), "/constraints/pattern", "in a text"),
    (limits(TEXT, pattern="a" * 501), "/constraints/pattern", "at most 500"),
    (limits(TEXT, pattern="a{100000}"), "/constraints/pattern", "more than 1000"),
    (limits(TEXT, pattern="a{99999999999}"), "/constraints/pattern", "not a regular expression"),
    (limits(TEXT, pattern="((a{100}){100}){100}"), "/constraints/pattern", "more than 1000"),
    (limits(TEXT, pattern="(a+)+b"), "/constraints/pattern", "for ever"),
    (limits(TEXT, pattern="(a{0,20}){0,20}b"), "/constraints/pattern", "for ever"),
    (limits(TEXT, pattern="(ab|a|b)*c"), "/constraints/pattern", "choice inside a repetition"),
    (limits(TEXT, pattern="(" * 200 + "a" + ")" * 200), "/constraints/pattern", "at most 30 groups"),
    (limits(TEXT, pattern="(?=a)b"), "/constraints/pattern", "look-around"),
    (limits(TEXT, pattern=r"(a)\1"), "/constraints/pattern", "references"),
    (limits(TEXT, pattern=r"(?>ab)c"), "/constraints/pattern", "possessive"),
    (limits(TEXT, pattern=r"a++b"), "/constraints/pattern", "possessive"),
    (limits(TEXT, pattern=r"a\x00"), "/constraints/pattern", "no file can hold"),
    (limits(TEXT, pattern=r"\ud800"), "/constraints/pattern", "no file can hold"),
    (limits(TEXT, pattern="a{5}", maxLength=3), "/constraints/pattern", "5 characters or more"),
    (limits(TEXT, pattern="a{5}", minLength=7), "/constraints/pattern", "5 characters or fewer"),
    # which statistics fit
    (stats(TEXT, mean=3), "/statistics/mean", "no statistic of a text"),
    (stats(TEXT, proportions={"a": 1}), "/statistics/proportions", "list its `categories`"),
    (stats(limits(TEXT, unique=True), median=3), "/statistics/median", "of an id"),
    (stats(NUMBER, proportions={"1": 1}), "/statistics/proportions", "list its `categories`"),
    (stats(FLAG, mean=0.3), "/statistics/mean", "give proportions"),
    (stats(SEX, sd=0.3), "/statistics/sd", "give proportions"),
    (stats(INTEGER | {"categories": [1, 2]}, mean=1.5), "/statistics/mean", "give proportions"),
    (stats(SEX, distribution="normal"), "/statistics/distribution", "give proportions"),
    # their values
    (stats(NUMBER, mean="5"), "/statistics/mean", "without quotes"),
    (stats(NUMBER, mean=True), "/statistics/mean", "is a number"),
    (stats(NUMBER, mean=10**400), "/statistics/mean", "too large"),
    (NUMBER | {"constraints": {"maximum": 1e300}}, "/constraints/maximum", "too large"),
    (stats(NUMBER, mean=float("nan")), "/statistics/mean", "not JSON"),
    (stats(NUMBER, sd=float("inf")), "/statistics/sd", "not JSON"),
    (stats(NUMBER, sd=-1), "/statistics/sd", "0 or more"),
    (stats(DATE, sd=-1), "/statistics/sd", "in days"),
    (stats(DATE, mean=19000), "/statistics/mean", "ISO 8601"),
    (stats(TIME, median="noon"), "/statistics/median", "ISO 8601"),
    (stats(INTEGER, min=0.5), "/statistics/min", "whole number"),
    (stats(NUMBER, missing=2), "/statistics/missing", "2 % is 0.02"),
    (stats(NUMBER, missing=-0.1), "/statistics/missing", "between 0 and 1"),
    (stats(NUMBER, missing="0.1"), "/statistics/missing", "without quotes"),
    (stats(NUMBER, distribution="gausian"), "/statistics/distribution", "the distributions are"),
    (stats(NUMBER, distribution=["normal"]), "/statistics/distribution", "the distributions are"),
    (stats(NUMBER, quantiles=[1, 2]), "/statistics/quantiles", "probabilities and values"),
    (stats(NUMBER, quantiles={"q25": 1}), "/statistics/quantiles/q25", "probability"),
    (stats(NUMBER, quantiles={"25": 1}), "/statistics/quantiles/25", "probability"),
    (stats(NUMBER, quantiles={"0.25": "x"}), "/statistics/quantiles/0.25", "without quotes"),
    (stats(NUMBER, quantiles={"0.5": 1, "0.50": 2}), "/statistics/quantiles/0.50", "given twice"),
    (stats(SEX, proportions=[0.5, 0.5]), "/statistics/proportions", "levels and shares"),
    (stats(SEX, proportions={"F": 0.5, "X": 0.5}), "/statistics/proportions/X", "not one of the levels"),
    (stats(SEX, proportions={"F": 1}), "/statistics/proportions", "no share is given for 'M'"),
    (stats(SEX, proportions={"F": 0.5, "M": None}), "/statistics/proportions/M", "write 0"),
    (stats(SEX, proportions={"F": 1.5, "M": 0.5}), "/statistics/proportions/F", "between 0 and 1"),
    (stats(SEX, proportions={"F": 0.5, "M": 0.4}), "/statistics/proportions", "add up to 0.9"),
    (stats(SEX, proportions={"F": 0.5, "M": "0.5"}), "/statistics/proportions/M", "without quotes"),
    (
        stats(FLAG, proportions={"true": 0.3, "yes": 0.7}),
        "/statistics/proportions/yes",
        "not one of the levels",
    ),
    (stats(FLAG, proportions={"true": 0.3, "True": 0.7}), "/statistics/proportions/True", "given twice"),
    # against each other and the bounds
    (bounded(0, 10, mean=11), "/statistics/mean", "above the maximum"),
    (bounded(0, 10, mean=-1), "/statistics/mean", "below the minimum"),
    (bounded(0, 10, median=11), "/statistics/median", "above the maximum"),
    (bounded(0, 10, min=-1), "/statistics/min", "below the minimum"),
    (bounded(0, 10, max=11), "/statistics/max", "above the maximum"),
    (bounded(0, 10, quantiles={"0.25": -3}), "/statistics/quantiles/0.25", "below the minimum"),
    (bounded("2024-01-01", "2024-12-31", DATE, mean="2025-06-01"), "/statistics/mean", "2025-06-01"),
    (stats(NUMBER, min=5, max=2), "/statistics/min", "is above max"),
    (stats(NUMBER, min=5, mean=4), "/statistics/mean", "below `min`"),
    (stats(NUMBER, max=5, mean=6), "/statistics/mean", "above `max`"),
    (stats(NUMBER, max=5, median=6), "/statistics/median", "is above max"),
    (stats(NUMBER, quantiles={"0.25": 5, "0.75": 3}), "/statistics/quantiles/0.25", "is above"),
    (stats(NUMBER, quantiles={"0.5": 5}, median=3), "/statistics/quantiles/0.5", "differs"),
    (bounded(0, 10, mean=5, sd=6), "/statistics/sd", "at most 5"),
    (bounded(0, 10, sd=6), "/statistics/sd", "at most 5"),
    (bounded(0, 10, mean=1, sd=4), "/statistics/sd", "at most 3"),
    (bounded(3, 3, sd=1), "/statistics/sd", "at most 0"),
    (stats(NUMBER, sd=0, min=1, max=2), "/statistics/sd", "all values are equal"),
    (stats(NUMBER, mean=50, median=10, sd=2), "/statistics/sd", "quantile at 0.5"),
    (stats(NUMBER, quantiles={"0.25": 0, "0.75": 100}, sd=5), "/statistics/sd", "at least 35"),
    (bounded(0, 100, quantiles={"0.5": 10, "0.9": 20}, mean=60), "/statistics/mean", "lies between"),
    (stats(NUMBER, mean=-1, distribution="lognormal"), "/statistics/distribution", "mean above 0"),
    (stats(limits(NUMBER, required=True), missing=0.1), "/statistics/missing", "required"),
    (stats(NUMBER, missing=1, mean=3), "/statistics/missing", "everything is missing"),
    # formulas and relevance
    (number(formula="m + 1"), "/formula", "no field is called 'm'"),
    (number(formula="n + 1"), "/formula", "computed from itself"),
    (number(relevant="n > 1"), "/relevant", "computed from itself"),
    (number(relevant="true"), "/relevant", "names no field"),
    (number(relevant="1"), "/relevant", "compare it"),
    (number(formula="1 >"), "/formula", "at character 4"),
]


@pytest.mark.parametrize(("field", "at", "message"), ONE_FIELD)
def test_a_fault_in_a_field_is_found_alone_and_named(field, at, message):
    faults = faults_of({"fields": [FLAG | {"name": "other"}, field]})
    assert [fault.pointer for fault in faults] == [f"/fields/1{at}"]
    assert message in faults[0].message


def pair(one: str, other: str, measure: str, value: Any, **more: Any) -> dict[str, Any]:
    return {"associations": [{"fields": [one, other], "measure": measure, "value": value, **more}]}


def stratum(field: str, given: Any, **statistics: Any) -> dict[str, Any]:
    return {"conditionals": [{"field": field, "given": given, "statistics": statistics}]}


WHOLE = [
    ({"title": 5}, "/title", "is a text"),
    ({"missingValues": "NA"}, "/missingValues", "list of texts"),
    ({"missingValues": ["", -99]}, "/missingValues/1", "in quotes"),
    ({"primaryKey": "nope"}, "/primaryKey", "no field is called"),
    ({"primaryKey": ["i", "nope"]}, "/primaryKey/1", "no field is called"),
    ({"primaryKey": ["i", "i"]}, "/primaryKey", "named twice"),
    ({"primaryKey": 5}, "/primaryKey", "name of a field"),
    ({"x": {"y": float("nan")}}, "/x/y", "not JSON"),
    ({"x": "a\0b"}, "/x", "NUL"),
    ({"x": "\ud800"}, "/x", "surrogate"),
    # associations
    ({"associations": {}}, "/associations", "list of objects"),
    ({"associations": [5]}, "/associations/0", "is an object"),
    (pair("n", "nope", "pearson", 0.1), "/associations/0/fields/1", "no field is called"),
    (pair("n", "n", "pearson", 0.1), "/associations/0/fields", "with itself"),
    (pair("n", "i", "kendall", 0.1), "/associations/0/measure", "the measures are"),
    (pair("n", "i", "pearson", "0.1"), "/associations/0/value", "without quotes"),
    (pair("n", "i", "pearson", None), "/associations/0/value", "is a number"),
    (pair("n", "i", "pearson", 1.1), "/associations/0/value", "between -1 and 1"),
    (pair("n", "i", "spearman", -1.1), "/associations/0/value", "between -1 and 1"),
    (pair("sex", "b", "cramers_v", -0.1), "/associations/0/value", "between 0 and 1"),
    (pair("n", "b", "correlation_ratio", 1.1), "/associations/0/value", "between 0 and 1"),
    (pair("sex", "b", "odds_ratio", 0), "/associations/0/value", "above 0"),
    (pair("n", "text", "pearson", 0.1), "/associations/0/measure", "is text"),
    (pair("n", "site", "pearson", 0.1), "/associations/0/measure", "does not fit 'site'"),
    (pair("n", "site", "spearman", 0.1), "/associations/0/measure", "does not fit 'site'"),
    (pair("n", "g", "pearson", 0.1), "/associations/0/measure", "does not fit 'g'"),
    (pair("n", "sex", "cramers_v", 0.1), "/associations/0/measure", "use correlation_ratio"),
    (pair("sex", "site", "odds_ratio", 2), "/associations/0/measure", "two levels"),
    (pair("n", "i", "correlation_ratio", 0.1), "/associations/0/measure", "use pearson"),
    (pair("sex", "b", "correlation_ratio", 0.1), "/associations/0/measure", "use cramers_v"),
    (pair("sex", "site", "cramers_v", 0.1, sign=1), "/associations/0/sign", "'site' has no order"),
    (pair("n", "site", "correlation_ratio", 0.1, sign=1), "/associations/0/sign", "'site' has no order"),
    (pair("n", "i", "pearson", 0.1, sign=1), "/associations/0/sign", "leave `sign` out"),
    (pair("sex", "b", "cramers_v", 0.1, sign=2), "/associations/0/sign", "1 or -1"),
    (pair("sex", "b", "cramers_v", 0.1, sign=True), "/associations/0/sign", "1 or -1"),
    (pair("n", "i", "pearson", 0.1, given={}), "/associations/0/given", "in which rows"),
    (
        pair("n", "i", "pearson", 0.1, given={"sex": "X"}),
        "/associations/0/given/sex",
        "not one of the levels",
    ),
    (pair("n", "i", "pearson", 0.1, given={"i": {"minimum": 1}}), "/associations/0/given/i", "on itself"),
    # conditionals
    ({"conditionals": "x"}, "/conditionals", "list of objects"),
    ({"conditionals": [5]}, "/conditionals/0", "is an object"),
    (stratum("nope", {"sex": "F"}, mean=1), "/conditionals/0/field", "no field is called"),
    (stratum("n", {}, mean=1), "/conditionals/0/given", "in which rows"),
    (stratum("n", None, mean=1), "/conditionals/0/given", "in which rows"),
    (stratum("n", {"sex": "F"}), "/conditionals/0/statistics", "holds what is known"),
    (stratum("n", {"sex": "X"}, mean=1), "/conditionals/0/given/sex", "not one of the levels"),
    (stratum("n", {"sex": ["F", "X"]}, mean=1), "/conditionals/0/given/sex/1", "not one of the levels"),
    (stratum("n", {"sex": []}, mean=1), "/conditionals/0/given/sex", "is empty"),
    (stratum("n", {"sex": None}, mean=1), "/conditionals/0/given/sex", "in quotes"),
    (stratum("n", {"sex": {"minimum": "F"}}, mean=1), "/conditionals/0/given/sex", "no ranges"),
    (stratum("n", {"i": {"minimum": 5, "maximum": 2}}, mean=1), "/conditionals/0/given/i/minimum", "above"),
    (stratum("n", {"i": {"min": 5}}, mean=1), "/conditionals/0/given/i/min", '"minimum"'),
    (stratum("n", {"i": {}}, mean=1), "/conditionals/0/given/i", '"minimum"'),
    (stratum("n", {"i": {"minimum": "x"}}, mean=1), "/conditionals/0/given/i/minimum", "whole number"),
    (stratum("n", {"n": 3}, mean=1), "/conditionals/0/given/n", "on itself"),
    (stratum("n", {"text": "a"}, mean=1), "/conditionals/0/given/text", "makes no groups"),
    (stratum("n", {"nope": "a"}, mean=1), "/conditionals/0/given/nope", "no field is called"),
    (stratum("n", {"sex": "F"}, mean="x"), "/conditionals/0/statistics/mean", "without quotes"),
    (stratum("site", {"sex": "F"}, mean=1), "/conditionals/0/statistics/mean", "give proportions"),
    # rules
    ({"rules": "n > 1"}, "/rules", "list of texts"),
    ({"rules": [5]}, "/rules/0", "is a text"),
    ({"rules": [None]}, "/rules/0", "is a text"),
    ({"rules": ["n > 1", "n >"]}, "/rules/1", "at character 4"),
    ({"rules": ["n + 1"]}, "/rules/0", "compare it"),
    ({"rules": ["sex == 'X'"]}, "/rules/0", "not one of the field's categories"),
    ({"rules": ["n > 1"] * 1001}, "/rules", "more than the 1000"),
    ({"rules": ["1 > 2"]}, "/rules/0", "names no field"),
]


@pytest.mark.parametrize(("more", "at", "message"), WHOLE)
def test_a_fault_outside_the_fields_is_found_alone_and_named(more, at, message):
    faults = faults_of({"fields": ALL, **more})
    assert [fault.pointer for fault in faults] == [at]
    assert message in faults[0].message


SEVERAL = [
    (5, "", "is a JSON object"),
    ({}, "/fields", "at least one"),
    ({"fields": []}, "/fields", "at least one"),
    ({"fields": {"a": 1}}, "/fields", "at least one"),
    ({"fields": [NUMBER] * 1001}, "/fields", "more than the 1000"),
    ({"fields": [NUMBER, NUMBER]}, "/fields/1/name", "that of an earlier field"),
    ({"fields": [NUMBER, SEX | {"formula": "n"}]}, "/fields/1/formula", "a text is needed"),
    ({"fields": [NUMBER, SEX | {"formula": "'f' if n > 1 else 'M'"}]}, "/fields/1/formula", "did you mean 'F'"),
    ({"fields": [TEXT, SEX | {"formula": "text"}]}, "/fields/1/formula", "need not be categories"),
    ({"fields": [NUMBER, limits(TEXT, maxLength=1) | {"formula": "'ab' if n > 1 else 'c'"}]}, "/fields/1/formula", "longer"),
    ({"fields": [NUMBER, FLAG | {"formula": "n"}]}, "/fields/1/formula", "truth value is needed"),
    ({"fields": [DATE, INTEGER | {"formula": "d - d"}]}, "/fields/1/formula", "write days"),
    ({"fields": [NUMBER, TEXT | {"relevant": "n > 1"}], "primaryKey": "text"}, "/fields/1/relevant", "every row"),
    ({"fields": [NUMBER, INTEGER | {"formula": "n"}], "primaryKey": "i"}, "/fields/1/formula", "made by its pattern"),
    ({"fields": [stats(TEXT, missing=0.1)], "primaryKey": "text"}, "/fields/0/statistics/missing", "never missing"),
    ({"fields": [stats(INTEGER, mean=3)], "primaryKey": ["i"]}, "/fields/0/statistics/mean", "of an id"),
    ({"fields": [bounded(0, 10), SEX], **stratum("n", {"sex": "F"}, mean=11)}, "/conditionals/0/statistics/mean", "above"),
    ({"fields": [limits(NUMBER, required=True), SEX], **stratum("n", {"sex": "F"}, missing=0.1)},
     "/conditionals/0/statistics/missing", "required"),
    ({"fields": [NUMBER, bounded(0, 10, INTEGER)], **stratum("n", {"i": 11}, mean=1)}, "/conditionals/0/given/i", "no row"),
    ({"fields": [NUMBER, bounded(0, 10, INTEGER)], **stratum("n", {"i": {"minimum": 11}}, mean=1)},
     "/conditionals/0/given/i/minimum", "no row"),
    ({"fields": [NUMBER, bounded(0, 10, INTEGER)], **stratum("n", {"i": {"maximum": -1}}, mean=1)},
     "/conditionals/0/given/i/maximum", "no row"),
    ({"fields": [SEX | {"categories": ["F"]}, FLAG], **pair("sex", "b", "cramers_v", 0.1)},
     "/associations/0/measure", "one category only"),
]  # fmt: skip


@pytest.mark.parametrize(("document", "at", "message"), SEVERAL)
def test_a_fault_between_declarations_is_found_alone_and_named(document, at, message):
    faults = faults_of(document)
    assert [fault.pointer for fault in faults] == [at]
    assert message in faults[0].message


def test_circles_of_formulas_and_relevance_are_found_once_each():
    document = {
        "fields": [
            {"name": "a", "type": "number", "formula": "b + 1"},
            {"name": "b", "type": "number", "relevant": "c > 1"},
            {"name": "c", "type": "number", "formula": "a * 2"},
            {"name": "p", "type": "number", "relevant": "q > 1"},
            {"name": "q", "type": "number", "relevant": "p > 1"},
            {"name": "outside", "type": "number", "formula": "a + p"},
        ]
    }
    faults = faults_of(document)
    assert [fault.pointer for fault in faults] == ["/fields/0/formula", "/fields/3/relevant"]
    assert "'a' → 'b' → 'c' → 'a'" in faults[0].message


def test_contradicting_statements_on_the_same_fields_are_faults_and_repetitions_are_not():
    associations = [
        {"fields": ["sex", "b"], "measure": "odds_ratio", "value": 2},
        {"fields": ["b", "sex"], "measure": "odds_ratio", "value": 3},
        {"fields": ["sex", "b"], "measure": "spearman", "value": -0.2},
        {"fields": ["n", "i"], "measure": "pearson", "value": 0.2},
        {"fields": ["i", "n"], "measure": "pearson", "value": 0.2},
    ]
    faults = faults_of({"fields": ALL, "associations": associations})
    assert [fault.pointer for fault in faults] == ["/associations/1", "/associations/2/value"]
    _, warnings = parse_schema({"fields": ALL, "associations": associations[3:]})
    assert [warning.pointer for warning in warnings] == ["/associations/1"]


def test_an_association_within_a_stratum_may_differ_from_the_overall_one_and_from_other_strata():
    overall = {"fields": ["n", "i"], "measure": "spearman", "value": 0.2}
    women = {"fields": ["i", "n"], "measure": "spearman", "value": -0.3, "given": {"sex": "F"}}
    men = women | {"value": 0.4, "given": {"sex": ["M"]}}
    assert parse_schema({"fields": ALL, "associations": [overall, women, men]})[1] == ()
    again = women | {"value": 0.1, "given": {"sex": ["F"]}}
    faults = faults_of({"fields": ALL, "associations": [overall, women, again]})
    assert [fault.pointer for fault in faults] == ["/associations/2"]
    assert "for the same rows" in faults[0].message


def test_the_same_stratum_with_other_statistics_is_a_fault():
    one = {"field": "n", "given": {"sex": "F", "b": True}, "statistics": {"mean": 1}}
    other = {"field": "n", "given": {"b": [True], "sex": ["F"]}, "statistics": {"mean": 2, "sd": 1}}
    assert [fault.pointer for fault in faults_of({"fields": ALL, "conditionals": [one, other]})] == [
        "/conditionals/1"
    ]
    more = other | {"statistics": {"sd": 1}}
    _, warnings = parse_schema({"fields": ALL, "conditionals": [one, more]})
    assert [warning.pointer for warning in warnings] == ["/conditionals/1"]


def test_all_faults_come_at_once_and_none_follows_from_another():
    document = {
        "fields": [
            {"name": "age", "type": "intger"},
            {"name": "bmi", "type": "number", "statistics": {"sd": -1, "mean": float("nan")}},
            {"name": "bmi", "type": "number"},
            {
                "name": "sex",
                "type": "string",
                "categories": ["F", "F"],
                "statistics": {"proportions": {"F": 1}},
            },
        ],
        "associations": [{"fields": ["age", "bmi"], "measure": "pearson", "value": 3}],
        "conditionals": [{"field": "bmi", "given": {"sex": "M"}, "statistics": {"mean": 1}}],
        "rules": ["age > 3", "weight > 3"],
    }
    assert sorted(fault.pointer for fault in faults_of(document)) == [
        "/associations/0/value",
        "/fields/0/type",
        "/fields/1/statistics/mean",
        "/fields/1/statistics/sd",
        "/fields/2/name",
        "/fields/3/categories/1",
        "/rules/1",
    ]


def test_pointers_are_escaped():
    field = {
        "name": "a/b~c",
        "type": "string",
        "categories": ["x/y"],
        "statistics": {"proportions": {"x~/": 1}},
    }
    assert [fault.pointer for fault in faults_of({"fields": [field]})] == [
        "/fields/0/statistics/proportions/x~0~1"
    ]


def test_very_deep_documents_are_refused():
    deep: Any = 1
    for _ in range(500):
        deep = [deep]
    assert [fault.message for fault in faults_of({"fields": [NUMBER], "x": deep})] == [
        "nested more than 32 deep; flatten it"
    ]


def test_three_hundred_fields_and_two_thousand_associations_are_read_at_once():
    fields = [
        stats(limits(NUMBER, minimum=0, maximum=100), mean=50, sd=5) | {"name": f"f{i}"} for i in range(300)
    ]
    pairs = [(i, j) for i in range(300) for j in range(i)][:2000]
    associations = [{"fields": [f"f{i}", f"f{j}"], "measure": "spearman", "value": 0.1} for i, j in pairs]
    document = json.loads(json.dumps({"fields": fields, "associations": associations}))
    schema, _ = parse_schema(document)
    assert len(schema.associations) == 2000


@pytest.mark.parametrize("pattern", ["(a+){0,10}b", "(aa|a){0,10}b", "a*a*a*a*a*a*b", "((a?){10}){10}b"])
def test_a_slow_pattern_does_not_hold_up_the_reading(pattern):
    start = time.perf_counter()
    parse_schema({"fields": [limits(TEXT, enum=["a" * 150], pattern=pattern)]})
    assert time.perf_counter() - start < 30  # matched, each would take minutes


@pytest.mark.parametrize(
    "pattern", [r"(\d{1,3}\.){3}\d{1,3}", "P-[A-Z]{2}\\d+", "(foo|bar)-[0-9]{4}(/[a-z]+)?", ".{0,400}"]
)
def test_ordinary_patterns_are_taken(pattern):
    assert faults_of({"fields": [limits(TEXT, pattern=pattern)]}) == []


def test_many_unknown_names_do_not_hold_up_the_reading():
    levels = [f"c{i}" for i in range(5000)]
    proportions = {f"d{i}": 0.0002 for i in range(5000)}
    start = time.perf_counter()
    assert len(faults_of({"fields": [stats(SEX | {"categories": levels}, proportions=proportions)]})) == 5000
    assert time.perf_counter() - start < 5  # a search for the nearest level takes minutes


def test_what_may_stand_in_every_row_is_short() -> None:
    document = {
        "fields": [
            {"name": "a", "type": "string", "categories": ["x", "y" * 1001]},
            {"name": "b", "type": "string", "constraints": {"minLength": 1001, "maxLength": 100_000}},
        ],
        "missingValues": ["", "z" * 1001],
    }
    assert [fault.pointer for fault in faults_of(document)] == [
        "/missingValues/1",
        "/fields/0/categories/1",
        "/fields/1/constraints/minLength",
    ]
