"""What the expression language takes, what it refuses, and where it says the fault is."""

from __future__ import annotations

import ast
import copy
import pickle

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.schema.rules import ExpressionFault, parse_expression
from app.schema.table import Field

FIELDS = {
    item.name: item
    for item in [
        Field("age", "integer"),
        Field("bmi", "number"),
        Field("flag", "boolean", levels=(False, True)),
        Field("sex", "string", levels=("F", "M")),
        Field("grade", "string", levels=("I", "II"), ordered=True),
        Field("note", "string"),
        Field("d", "date"),
        Field("e", "date"),
        Field("at", "datetime"),
        Field("t", "time"),
        Field("class", "number"),
        Field("naïve", "number"),
        Field("a b.c", "number"),
        Field("min", "number"),
    ]
}
FAULTS = [
    # names
    ("agee > 1", "did you mean 'age'", 1),
    ("1 < agee", "did you mean 'age'", 5),
    ("xyz > 1", "no field is called 'xyz'", 1),
    ("null == age", "isnull(x)", 1),
    ('field("nope") > 1', "no field is called 'nope'", 7),
    ("field(age) > 1", "takes one name in quotes", 1),
    ("naïve > agee", "did you mean 'age'", 9),
    # types
    ("age + flag > 1", "1 if … else 0", 7),
    ("flag > 1", "not 1 or 0", 8),
    ("age == 'x'", "without quotes", 8),
    ("sex == 1", "without quotes", 8),
    ("flag < flag", "does not compare truth values", 1),
    ("age and flag", "compare it", 1),
    ("not age", "compare it", 5),
    ("age if bmi else 1", "compare it", 8),
    ("age if flag else 'x'", "both must be of one type", 18),
    ("note < 'b'", "categoriesOrdered", 1),
    ("sex < 'M'", "categoriesOrdered", 1),
    ("note + 'b' == note", "needs numbers", 1),
    ("e - d > 3", "days(b - a)", 9),
    ("d + 3 > e", "days between two dates", 1),
    ("days(d) > 3", "difference of two dates", 6),
    ("days(3) > 3", "difference of two dates", 6),
    ("year(age) > 3", "takes a date", 6),
    ("t - d > t - t", "cannot join", 5),
    ("abs(sex) > 1", "needs a number", 5),
    ("min(age, d) > 1", "of one type", 1),
    ("max('a', 'b') == 'a'", "not texts", 1),
    ("age in (1, 'a')", "without quotes", 12),
    # literals beside fields
    ("sex == 'X'", "not one of the field's categories", 8),
    ("sex in ('F', 'm')", "did you mean 'M'", 14),
    ("'X' == sex", "not one of the field's categories", 1),
    ("d > '2024-13-01'", "'2024-01-31'", 5),
    ("d > 'soon'", "'2024-01-31'", 5),
    ("t > '25:00'", "'08:30:00'", 5),
    ("at > 'x'", "'2024-01-31T08:30:00'", 6),
    # not in the language
    ("age = 3", "write `==`", 5),
    ("age <> 3", "write `!=`", 5),
    ("flag && flag", "write `and`", 7),
    ("flag & flag", "write `and`", 8),
    ("flag | flag", "write `or`", 8),
    ("~flag", "write `not`", 1),
    ("age is None", "isnull(x)", 8),
    ("age == None", "isnull(x)", 8),
    ("age.real > 1", "not in the language", 1),
    ("age[0] > 1", "not in the language", 1),
    ("(lambda: 1)() > 1", "only these functions", 1),
    ("[age for age in (1,)]", "not in the language", 1),
    ("(age := 3) > 1", "not in the language", 2),
    ("f'{age}' == note", "not in the language", 1),
    ("b'x' == note", "this kind of literal", 1),
    ("1j == age", "this kind of literal", 1),
    ("... == age", "this kind of literal", 1),
    ("{'a': age} == 1", "not in the language", 1),
    ("(age, 1) == 1", "only after `in`", 1),
    ("age in age", "list of values", 8),
    ("sex in 'FM'", "list of values", 8),
    ("age in ()", "list of values", 8),
    ("age in (bmi, 1)", "join fields with `or`", 9),
    ("1 < age in (2, 3)", "not chained", 5),
    ("age ^ 2 > 1", "has + - *", 7),
    ("age @ bmi > 1", "has + - *", 7),
    ("age << 2 > 1", "has + - *", 8),
    ("eval('1') > 1", "there is no function eval()", 1),
    ("__import__('os') == 1", "there is no function", 1),
    ("Abs(age) > 1", "did you mean 'abs'", 1),
    ("abs(age, 1) > 1", "takes one argument", 1),
    ("abs(x=age) > 1", "no named arguments", 1),
    ("min(*age) > 1", "not in the language", 5),
    ("min(age) > 1", "two arguments or more", 1),
    ("round(age, bmi) > 1", "from -15 to 15", 12),
    ("round(age, 0.5) > 1", "from -15 to 15", 12),
    ("age > 1  # adults", "a comment", 10),
    ("age >", "not an expression", 6),
    ("age > 1)", "not an expression", 8),
    ("", "is empty", 1),
    ("  \n", "is empty", 1),
    ("age > 1\0", "null bytes", None),
    # limits
    ("age > 1" + " " * 2000, "at most 2000 characters", 1),
    ("(" * 400 + "age" + ")" * 400 + " > 1", "too many nested parentheses", None),
    ("-" * 1900 + "age > 1", "too large", None),
    (" + ".join(["age"] * 320) + " > 1", "too large", None),
    ("age > 1e999", "too large", 7),
    ("age > 9007199254740993", "exact up to", 7),
    ("age ** 65 > 1", "at most 64", 8),
    ("age ** -65 > 1", "at most 64", 8),
    ("age > " + "9" * 1900, "too large", 7),
]


@pytest.mark.parametrize(("text", "message", "position"), FAULTS)
def test_what_is_not_in_the_language_is_refused_with_its_place_and_the_way_out(text, message, position):
    with pytest.raises(ExpressionFault) as caught:
        parse_expression(text, FIELDS)
    assert message in caught.value.message
    if position is not None:
        assert caught.value.position == position
        assert f"at character {position}" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "fields", "result"),
    [
        ("age >= 18", ("age",), "boolean"),
        ("  age\n  >= 18 ", ("age",), "boolean"),
        ("18 <= age <= bmi < 99", ("age", "bmi"), "boolean"),
        ('field("class") + field("a b.c")', ("class", "a b.c"), "number"),
        ("nai\u0308ve * 2", ("naïve",), "number"),
        ("min(min, age)", ("min", "age"), "number"),
        ("flag == true and not false or True", ("flag",), "boolean"),
        ("sex in ('F', 'M') and age not in [1, -2.5]", ("sex", "age"), "boolean"),
        ("grade >= 'II' or 'I' < grade", ("grade",), "boolean"),
        ("'old' if age > 70 else 'young'", ("age",), "string"),
        ("d < '2024-01-31' <= e", ("d", "e"), "boolean"),
        ("d < '2024-01-31T12:00'", ("d",), "boolean"),
        ("at < '2024-01-31T12:00+02:00'", ("at",), "boolean"),
        ("days(at - d) > 1", ("at", "d"), "boolean"),
        ("e - d", ("e", "d"), "timedelta"),
        ("max(d, at)", ("d", "at"), "datetime"),
        ("t", ("t",), "time"),
        ("year(d)", ("d",), "number"),
        ("isnull(note) or isnull(flag and age > 3)", ("note", "flag", "age"), "boolean"),
        ("note != 'anything'", ("note",), "boolean"),
    ],
)
def test_what_is_in_the_language_is_read_with_its_fields_and_type(text, fields, result):
    expression = parse_expression(text, FIELDS)
    assert (expression.fields, expression.result) == (fields, result)


def test_a_field_called_true_comes_before_the_literal():
    assert parse_expression("true > 1", {"true": "number"}).fields == ("true",)


def test_identifiers_that_python_would_confuse_are_told_apart_or_refused():
    assert parse_expression("fi > 1", {"ﬁ": "number", "fi": "number"}).fields == ("fi",)
    with pytest.raises(ExpressionFault, match="several fields"):
        parse_expression("ﬁ > 1", {"ﬁ": "number", "fi": "number"})


@pytest.mark.parametrize(
    ("text", "expects", "message"),
    [("e - d", "number", "write days"), ("age > 1", "number", "1 if"), ("age", "boolean", "compare it"),
     ("age", "string", "a text is needed")],
)  # fmt: skip
def test_a_result_of_the_wrong_type_is_refused(text, expects, message):
    with pytest.raises(ExpressionFault, match=message):
        parse_expression(text, FIELDS, expects=expects)


def test_an_expression_survives_the_way_between_processes():
    expression = parse_expression("sex == 'F' and d < '2020-01-01'", FIELDS)
    for again in (pickle.loads(pickle.dumps(expression)), copy.deepcopy(expression)):
        assert again == expression
        assert ast.dump(again.tree) == ast.dump(expression.tree)


WORDS = """age bmi flag sex 'F' "X" d e ( ) [ ] , + - * / // % ** < <= == != = and or not in is if else
isnull( days( field("class") round( min( lambda : . None true 1 0.5 1e400 é \\ # ` ;"""
SNIPPETS = st.sampled_from([*WORDS.split(), "\n", "\t", "\0"])


@settings(max_examples=300, deadline=None)
@given(st.one_of(st.text(max_size=60), st.lists(SNIPPETS, max_size=14).map(" ".join)))
def test_any_text_is_either_read_or_refused(text):
    try:
        expression = parse_expression(text, FIELDS)
    except ExpressionFault as fault:
        assert 1 <= fault.position <= len(text) + 1
    else:
        assert set(expression.fields) <= set(FIELDS)
