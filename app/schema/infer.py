"""A real table → the schema document that may be shown of it.

Everything it says passes `app.disclosure`: levels of too few persons are pooled and not named, bounds are
coarse, text and ids are never shown.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from app.disclosure import POOLED_LEVEL, outward, outward_whole, outward_years, pool_levels
from app.errors import Fault, pointer

_FEW_LEVELS = 20
_MOST_LEVELS = 1000
_LONGEST_LEVEL = 200  # characters; beyond it stands prose
_ID_CAPACITY = 1_000_000  # a pattern that allows fewer ids than this cannot fill a larger table
_ID_NAME = re.compile(r"(^|[_\W]|(?<=[a-z])(?=I))(id|nr|mrn|pid|uuid|guid|rownames?)$", re.IGNORECASE)
_PERSON = r"(patient|subject|person|participant|case)"
_PERSON_NAME = re.compile(
    rf"^((study|usubj|subj|pat)?[_\W]?id|mrn|pid|usubjid|{_PERSON}([_\W]?(id|nr|no|num|number|key|code))?)$",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Inferred:
    """An inferred schema.

    Parameters
    ----------
    document : dict
        The schema's JSON: what may be published, corrected and posted back.
    warnings : tuple of Fault
        What was withheld or decided, with pointers into `document`.
    """

    document: dict[str, Any]
    warnings: tuple[Fault, ...] = ()


@dataclass(slots=True)
class _Described:
    properties: dict[str, Any]
    notes: list[str] = field(default_factory=list)


def infer_schema(
    table: pa.Table,
    *,
    min_cell: int,
    decimals: Mapping[str, int | None] | None = None,
    missing_values: tuple[str, ...] = ("",),
) -> Inferred:
    """Describe a typed real table as a schema, within the disclosure rules.

    Parameters
    ----------
    table : pyarrow.Table
        Columns of int64, double, bool, string (or a dictionary of strings), date32, timestamp[us] or
        time32[s], null where missing.
    min_cell : int
        The smallest number of persons that anything is said about.
    decimals : mapping, optional
        Decimals that the texts of a number column show, by column name.
    missing_values : tuple of str
        The texts that meant missing in the file.

    Returns
    -------
    Inferred
        A column of text that is an id is of type string, `unique`; so is one of whole numbers where its
        name says id, or where it counts the rows. Whole numbers of 0 and 1 alone, or of two frequent
        values, are categories; others are numeric. Text is categorical where its levels of at least
        `min_cell` persons cover half the rows, or where it has few levels.

    Notes
    -----
    Persons, not rows, are counted where a column names the person (`patient_id`, `subject`, `id` …) and
    repeats.
    """
    persons = _persons(table)
    fields: list[dict[str, Any]] = []
    warnings: list[Fault] = []
    for index, name in enumerate(table.column_names):
        described = _describe(name, _flat(table.column(name)), persons, min_cell, (decimals or {}).get(name))
        fields.append({"name": name, **described.properties})
        warnings += [Fault(pointer("fields", index), note) for note in described.notes]
    document: dict[str, Any] = {"fields": fields}
    if set(missing_values) - {""}:
        document["missingValues"] = ["", *sorted(set(missing_values) - {""})]
    return Inferred(document, tuple(warnings))


def names_a_person(name: str) -> bool:
    """Whether a column of this name says whose the row is: `patient_id`, `subject`, `mrn`, `id` …."""
    return _PERSON_NAME.match(name) is not None


def person_column(table: pa.Table) -> str | None:
    """Return the column that names the person, where a person has several rows; None where there is none."""
    for name in table.column_names:
        column = table.column(name)
        if names_a_person(name) and not pa.types.is_floating(column.type):
            distinct = pc.count_distinct(_decoded(column)).as_py()
            if 1 < distinct < len(column) - column.null_count:
                return str(name)
    return None


def _persons(table: pa.Table) -> NDArray[np.int64] | None:
    name = person_column(table)
    if name is None:
        return None
    encoded = _flat(_decoded(table.column(name))).dictionary_encode()
    codes: NDArray[np.int64] = (
        pc.fill_null(encoded.indices, -1).to_numpy(zero_copy_only=False).astype(np.int64)
    )
    absent = codes < 0
    codes[absent] = len(encoded.dictionary) + np.arange(absent.sum())
    return codes


def _flat(column: pa.ChunkedArray) -> pa.Array:
    if pa.types.is_dictionary(column.type):
        column = column.unify_dictionaries()
    combined = column.combine_chunks()
    return combined.combine_chunks() if isinstance(combined, pa.ChunkedArray) else combined


def _decoded(column: pa.ChunkedArray) -> pa.ChunkedArray:
    return pc.cast(column, column.type.value_type) if pa.types.is_dictionary(column.type) else column


def _describe(
    name: str, values: pa.Array, persons: NDArray[np.int64] | None, min_cell: int, decimals: int | None
) -> _Described:
    present = values.drop_null()
    told = _count_persons(values, persons)
    types = pa.types
    type_ = values.type
    if types.is_boolean(type_):
        described = _Described({"type": "boolean"})
    elif types.is_int64(type_):
        described = _whole_numbers(name, values, persons, told, min_cell)
    elif types.is_floating(type_):
        described = _numbers(present, told, min_cell, decimals)
    elif types.is_date(type_) or types.is_timestamp(type_):
        described = _moments(present, told, min_cell)
    elif types.is_time(type_):
        described = _Described({"type": "time"})
    else:
        described = _texts(name, values, persons, min_cell)
    if values.null_count == 0 and len(values):
        described.properties["constraints"] = {
            "required": True,
            **described.properties.get("constraints", {}),
        }
    if len(present) == 0:
        described.notes.append(
            "the column is empty; declare its `type` for it to be made as anything but text"
        )
    return described


def _count_persons(values: pa.Array, persons: NDArray[np.int64] | None) -> int:
    if persons is None:
        return int(len(values) - values.null_count)
    there = np.asarray(values.is_valid().to_numpy(zero_copy_only=False), dtype=bool)
    return len(np.unique(persons[there]))


def _level_counts(values: pa.Array, persons: NDArray[np.int64] | None) -> dict[Any, int]:
    """Count persons with each level."""
    encoded = values if pa.types.is_dictionary(values.type) else values.dictionary_encode()
    codes = pc.fill_null(encoded.indices, -1).to_numpy(zero_copy_only=False).astype(np.int64)
    if persons is not None:
        pairs = np.unique(np.stack([codes, persons]), axis=1)
        codes = pairs[0]
    counts = np.bincount(codes[codes >= 0], minlength=len(encoded.dictionary))
    return dict(zip(encoded.dictionary.to_pylist(), counts.tolist(), strict=True))


def _whole_numbers(
    name: str, values: pa.Array, persons: NDArray[np.int64] | None, told: int, min_cell: int
) -> _Described:
    present = values.drop_null()
    distinct = pc.count_distinct(present).as_py()
    if _PERSON_NAME.match(name) and persons is not None and 1 < distinct < len(present):
        return _Described(
            _text_of_ids(pc.cast(present, pa.string())), ["taken as the column that names the person"]
        )
    if (
        values.null_count == 0
        and distinct == len(values) > 1
        and (_names_an_id(name) or _counts_rows(values))
    ):
        return _Described(
            _unique_id(pc.cast(present, pa.string())),
            ["taken as an id and kept as text; it is made anew, never learned"],
        )
    described = _Described({"type": "integer"})
    # 0 and 1 are the coding, whatever the table holds: both are said, also where one is rare or absent, so
    # that nothing is said of anybody.
    if told >= min_cell and pc.all(pc.is_in(present, value_set=pa.array([0, 1]))).as_py():
        described.properties["categories"] = [0, 1]
        return described
    if distinct == 2:
        counts = _level_counts(present if persons is None else values, persons)
        if not pool_levels(counts, min_cell).pooled:
            described.properties["categories"] = sorted(counts)
            return described
    if _written_as_dates(present):
        described.notes.append(
            "these whole numbers look like dates; declare `type` date with `format` %Y%m%d to make them dates"
        )
    if told >= min_cell:
        low, high = (bound.as_py() for bound in pc.min_max(present).values())
        if max(abs(low), abs(high)) < 2**53:
            first, last = outward_whole(low, high)
            described.properties["constraints"] = {"minimum": first, "maximum": last}
    return described


def _names_an_id(name: str) -> bool:
    return bool(_ID_NAME.search(name) or _PERSON_NAME.match(name))


def _counts_rows(values: pa.Array) -> bool:
    numbers = values.to_numpy(zero_copy_only=False)
    return len(numbers) >= _FEW_LEVELS and bool(numbers[0] in (0, 1) and (np.diff(numbers) == 1).all())


def _written_as_dates(present: pa.Array) -> bool:
    numbers = present.to_numpy(zero_copy_only=False)
    if not len(numbers) or numbers.min() < 1900_01_01 or numbers.max() > 2100_12_31:
        return False
    month, day = numbers // 100 % 100, numbers % 100
    return bool(((month >= 1) & (month <= 12) & (day >= 1) & (day <= 31)).all())


def _numbers(present: pa.Array, told: int, min_cell: int, decimals: int | None) -> _Described:
    described = _Described({"type": "number"})
    if told < min_cell:
        return described
    if decimals is None:
        decimals = _shown_decimals(present.to_numpy(zero_copy_only=False))
    if decimals is not None:
        described.properties["decimals"] = decimals
    low, high = (bound.as_py() for bound in pc.min_max(present).values())
    if np.isfinite(high - low):
        first, last = outward(low, high)
        described.properties["constraints"] = {"minimum": first, "maximum": last}
    return described


def _shown_decimals(numbers: NDArray[np.float64]) -> int | None:
    """Return the fewest decimals (at most 6) that write every number exactly; None where none do."""
    for places in range(7):
        if np.array_equal(np.round(numbers, places), numbers):
            return places
    return None


def _moments(present: pa.Array, told: int, min_cell: int) -> _Described:
    whole_days = pa.types.is_date(present.type)
    described = _Described({"type": "date" if whole_days else "datetime"})
    if told >= min_cell:
        low, high = (bound.as_py() for bound in pc.min_max(present).values())
        first, last = outward_years(low, high)
        clock = ("", "") if whole_days else ("T00:00:00", "T23:59:59")
        described.properties["constraints"] = {
            "minimum": first.isoformat() + clock[0], "maximum": last.isoformat() + clock[1]
        }  # fmt: skip
    return described


def _texts(name: str, values: pa.Array, persons: NDArray[np.int64] | None, min_cell: int) -> _Described:
    counts = _level_counts(values, persons)
    present = len(values) - values.null_count
    if not counts:
        return _Described({"type": "string"})
    if present == len(counts) > 1 and _looks_like_ids(name, list(counts), min_cell):
        return _Described(_unique_id(pa.array(list(counts), pa.string())))
    if _PERSON_NAME.match(name):
        return _Described(_text_of_ids(pa.array(list(counts), pa.string())))
    pooling = pool_levels(counts, min_cell)
    covered = sum(counts[level] for level in pooling.kept) / sum(counts.values())
    few = len(counts) <= _FEW_LEVELS and present >= 2 * len(counts)
    long = any(len(level) > _LONGEST_LEVEL for level in pooling.kept)
    if long or len(pooling.kept) > _MOST_LEVELS or not (few or (pooling.kept and covered >= 0.5)):
        pattern = _pattern(pa.array(list(counts), pa.string()))
        text: dict[str, Any] = {"type": "string"}
        if pattern and _names_an_id(name):
            text["constraints"] = {"pattern": pattern}
        return _Described(text)
    described = _Described({"type": "string", "categories": sorted(pooling.kept)})
    if pooling.pooled:
        number = len(pooling.pooled)
        described.properties["categories"].append(POOLED_LEVEL)
        described.notes.append(
            f"{number} {'level is' if number == 1 else 'levels are'} not named, so that nothing is said of "
            f"fewer than {min_cell} persons; in jobs they are the level {POOLED_LEVEL!r}. To use them by "
            "name, list all `categories` yourself"
        )
    return described


def _looks_like_ids(name: str, texts: list[str], min_cell: int) -> bool:
    if _names_an_id(name) or _pattern(pa.array(texts, pa.string())):
        return True
    return len(texts) >= min_cell and not any(re.search(r"\s", text) or len(text) > 64 for text in texts)


def _unique_id(texts: pa.Array) -> dict[str, Any]:
    properties: dict[str, Any] = {"type": "string", "constraints": {"unique": True}}
    pattern = _pattern(texts)
    if pattern:
        properties["constraints"]["pattern"] = pattern
    return properties


def _text_of_ids(texts: pa.Array) -> dict[str, Any]:
    pattern = _pattern(texts)
    return {"type": "string", "constraints": {"pattern": pattern}} if pattern else {"type": "string"}


def _pattern(texts: pa.Array) -> str | None:
    """Return a pattern of character classes that all texts share, as `[A-Z]{2}-[0-9]{6}`; else None.

    Only punctuation is taken as it stands; of letters and digits only class and number are told.
    """
    shapes = texts
    for class_, mark in (("[0-9]", "9"), ("[A-Z]", "A"), ("[a-z]", "a")):
        shapes = pc.replace_substring_regex(shapes, pattern=class_, replacement=mark)
    shape = shapes[0].as_py()
    if not re.fullmatch(r"[9Aa_./ -]{1,64}", shape) or not pc.all(pc.equal(shapes, shape)).as_py():
        return None
    capacity = 10.0 ** shape.count("9") * 26.0 ** (shape.count("A") + shape.count("a"))
    if capacity < _ID_CAPACITY:
        return None
    classes = {"9": "[0-9]", "A": "[A-Z]", "a": "[a-z]", ".": r"\."}
    parts = []
    for run in re.finditer(r"(.)\1*", shape):
        length = len(run.group())
        parts.append(classes.get(run.group(1), run.group(1)) + (f"{{{length}}}" if length > 1 else ""))
    return "".join(parts)
