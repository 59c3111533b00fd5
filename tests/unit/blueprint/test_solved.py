"""A joint table of categories is solved once for a document and its edits."""

from __future__ import annotations

import copy
from typing import Any

import pandas as pd
from numpy.random import SeedSequence

from app.blueprint.declare import declare
from app.generators.blueprint import sampler_of
from app.schema.parse import parse_schema

DOCUMENT: dict[str, Any] = {
    "fields": [
        {"name": "ward", "type": "string", "categories": ["a", "b", "c"],
         "statistics": {"proportions": {"a": 0.2, "b": 0.3, "c": 0.5}}},
        {"name": "died", "type": "boolean", "statistics": {"proportions": {"true": 0.3, "false": 0.7}}},
        {"name": "age", "type": "integer", "statistics": {"mean": 60, "sd": 10}},
    ],
    "associations": [
        {"fields": ["age", "died"], "measure": "spearman", "value": 0.3},
        {"fields": ["ward", "died"], "measure": "cramers_v", "value": 0.25},
    ],
}  # fmt: skip


def rows(document: dict[str, Any], solved: dict[Any, Any]) -> pd.DataFrame:
    schema, _ = parse_schema(document)
    sampler = sampler_of(
        schema, declare(schema), progress=lambda *_, **__: None, warn=lambda *_: None, solved=solved
    )
    return sampler.sample_shard(0, 500, seed=SeedSequence(3))


def test_an_edit_elsewhere_leaves_the_table_as_it_was_solved_and_the_rows_as_they_would_be() -> None:
    edited = copy.deepcopy(DOCUMENT)
    edited["fields"][2]["statistics"]["mean"] = 70
    del edited["associations"][0]  # the other one now stands at another pointer
    solved: dict[Any, Any] = {}
    rows(DOCUMENT, solved)
    assert len(solved) == 1
    again = rows(edited, solved)
    assert len(solved) == 1, "nothing else was asked of the categories"
    pd.testing.assert_frame_equal(again, rows(edited, {}))


def test_an_edit_of_the_categories_is_solved_anew() -> None:
    solved: dict[Any, Any] = {}
    rows(DOCUMENT, solved)
    weaker, fewer = copy.deepcopy(DOCUMENT), copy.deepcopy(DOCUMENT)
    weaker["associations"][1]["value"] = 0.1
    fewer["fields"][1]["statistics"]["proportions"] = {"true": 0.2, "false": 0.8}
    for number, edited in enumerate((weaker, fewer), start=2):
        pd.testing.assert_frame_equal(rows(edited, solved), rows(edited, {}))
        assert len(solved) == number
