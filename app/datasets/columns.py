"""From text cells to typed columns: numbers, booleans, dates, times; each column is read in one way.

Works on the distinct texts of a column, so a million cells of fifty texts cost fifty parses. Nothing here
says what a cell holds: what does not fit is given as positions.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from app.schema.rules import MAX_EXACT
from app.schema.table import Field, FieldType

MISSING_TOKENS = ("", "NA", "N/A", "n/a", "#N/A", "<NA>", "NaN", "nan", "null", "NULL", ".")
"""Texts that mean "missing" in a column whose other texts are numbers, dates, times or booleans."""

LARGEST = 1e15
"""Size of a number beyond which it is a code for something missing: no measurement is so large."""
TOO_LONG = "its whole numbers are too long to be exact (9007199254740992 and more) and were kept as text"
TOO_LARGE = "numbers that are infinite or beyond 1e15 were read as missing"

_MOST_DECIMALS = 12  # beyond it stands the noise of binary fractions, as in 0.30000000000000004


@dataclass(frozen=True, slots=True)
class Cells:
    """A column as text.

    Parameters
    ----------
    distinct : pyarrow.StringArray, shape (k,)
        Its distinct texts without surrounding spaces, none null.
    codes : ndarray of int64, shape (n,)
        For each row the position of its text in `distinct`.
    bare_na : bool
        The file quotes its texts and wrote NA without quotes: R's way of saying missing.
    """

    distinct: pa.StringArray
    codes: NDArray[np.int64]
    bare_na: bool = False

    @classmethod
    def of(cls, column: pa.ChunkedArray, *, quoted: bool = False) -> Cells:
        """Encode a string column, null standing for an unquoted NA; `quoted`: the file quotes its texts."""
        array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
        bare = bool(array.null_count) and quoted
        encoded = pc.fill_null(array, "NA").dictionary_encode()
        return cls(
            pc.utf8_trim_whitespace(encoded.dictionary), encoded.indices.to_numpy().astype(np.int64), bare
        )

    def is_one_of(self, tokens: Iterable[str]) -> NDArray[np.bool_]:
        """Say which distinct texts are among some, shape (k,)."""
        found = pc.is_in(self.distinct, value_set=pa.array(list(tokens), pa.string()))
        return np.asarray(found.to_numpy(zero_copy_only=False), dtype=bool)


@dataclass(frozen=True, slots=True)
class Column:
    """A typed column.

    Parameters
    ----------
    values : pyarrow.Array, shape (n,)
        Null where missing (and where a text does not fit, see `misfits`).
    type : str
        The field type.
    decimals : int or None
        Of a number: the most decimals that a text shows; None where there is no such count.
    tokens : frozenset of str
        The texts that were taken as missing.
    note : str
        What the uploader should know of how the column was read; "" where nothing.
    misfits : ndarray of int64
        Rows (from 0) whose text does not fit the asked type.
    """

    values: pa.Array
    type: FieldType
    decimals: int | None = None
    tokens: frozenset[str] = frozenset()
    note: str = ""
    misfits: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, dtype=np.int64))


@dataclass(frozen=True, slots=True)
class Evidence:
    """What other columns of a file show about its habits.

    Parameters
    ----------
    decimal_marks : frozenset of str
        Decimal marks seen in columns that can be read in one way only.
    day_first, month_first : bool
        Whether there are dates that can be read in this order only.
    delimiter : str
        Of the file; a semicolon goes with the decimal comma.
    """

    decimal_marks: frozenset[str] = frozenset()
    day_first: bool = False
    month_first: bool = False
    delimiter: str = ","

    def __or__(self, other: Evidence) -> Evidence:
        """Join the evidence of two columns."""
        return replace(
            self,
            decimal_marks=self.decimal_marks | other.decimal_marks,
            day_first=self.day_first or other.day_first,
            month_first=self.month_first or other.month_first,
        )


# --- numbers ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Style:
    """A way to write numbers."""

    decimal: str
    group: str
    words: str

    @property
    def pattern(self) -> str:
        mark = re.escape(self.decimal)
        if not self.group:
            return rf"^[+-]?(\d+{mark}?\d*|{mark}\d+)([eE][+-]?\d+)?$"
        return rf"^[+-]?(\d{{1,3}}([{self.group}]\d{{3}})+|\d+)({mark}\d+)?$"


_POINT = _Style(".", "", "a decimal point")
_COMMA = _Style(",", "", "a decimal comma")
_COMMA_GROUPS = _Style(".", ",", "commas between thousands")
_POINT_GROUPS = _Style(",", ".", "points between thousands")
_SPACES = " \u00a0\u202f"
_STYLES = (
    _POINT,
    _COMMA,
    _COMMA_GROUPS,
    _POINT_GROUPS,
    _Style(".", _SPACES, "spaces between thousands"),
    _Style(",", _SPACES, "spaces between thousands and a decimal comma"),
)


def _matches(texts: pa.StringArray, pattern: str) -> NDArray[np.bool_]:
    found = pc.match_substring_regex(texts, pattern)
    return np.asarray(found.to_numpy(zero_copy_only=False), dtype=bool)


def _number_styles(texts: pa.StringArray) -> list[_Style]:
    first = texts[0].as_py()
    # Most columns are settled by their first text, at no cost.
    return [
        style for style in _STYLES if re.match(style.pattern, first) and _matches(texts, style.pattern).all()
    ]


def _choose_style(styles: list[_Style], evidence: Evidence) -> tuple[_Style, str]:
    """Choose between readings that all fit; the note says so where the texts themselves do not decide."""
    if _POINT in styles and _COMMA in styles:
        return _POINT, ""  # whole numbers without any mark
    marks = evidence.decimal_marks
    if _COMMA in styles and _COMMA_GROUPS in styles:
        comma = marks == {","} or (marks != {"."} and evidence.delimiter == ";")
        chosen = _COMMA if comma else _COMMA_GROUPS
    elif _POINT in styles and _POINT_GROUPS in styles:
        chosen = _POINT_GROUPS if marks == {","} else _POINT
        if chosen is _POINT:
            return _POINT, ""
    else:
        return styles[0], ""
    return (
        chosen,
        f"numbers such as 1{'.' if chosen is _POINT_GROUPS else ','}234 were read with {chosen.words}",
    )


def _plain(texts: pa.StringArray, style: _Style) -> pa.StringArray:
    """Write numbers of a style the way a computer does."""
    if style.group:
        texts = pc.replace_substring_regex(texts, pattern=f"[{style.group}]", replacement="")
    if style.decimal != ".":
        texts = pc.replace_substring(texts, pattern=style.decimal, replacement=".")
    return pc.replace_substring_regex(texts, pattern=r"^\+", replacement="")


def _decimals(plain: pa.StringArray) -> int | None:
    if _matches(plain, "[eE]").any():
        return None
    fractions = pc.utf8_length(pc.replace_substring_regex(plain, pattern=r"^[^.]*\.?", replacement=""))
    most = pc.max(fractions).as_py() or 0
    return most if most <= _MOST_DECIMALS else None


def _whole_numbers(plain: pa.StringArray) -> pa.Int64Array | None:
    """Cast texts of digits to int64; None where one is too long to be exact in every step that follows."""
    try:
        whole = pc.cast(plain, pa.int64())
    except pa.ArrowInvalid:
        return None
    return whole if are_exact(whole) else None


def are_exact(whole: pa.Int64Array | pa.ChunkedArray) -> bool:
    """Whether whole numbers are below `MAX_EXACT`: longer ones are codes, and a code must not change."""
    low, high = (bound.as_py() for bound in pc.min_max(whole).values())
    return low is None or max(-low, high) < MAX_EXACT


def _floats(plain: pa.StringArray) -> pa.DoubleArray:
    # Arrow's parser wants a digit on either side of the point.
    padded = pc.replace_substring_regex(
        plain, pattern=r"^(-?)\.", replacement=r"\10."
    )  # RE2 reads \1, then 0.
    padded = pc.replace_substring_regex(padded, pattern=r"\.($|[eE])", replacement=r"\1")
    return pc.cast(padded, pa.float64())


# --- dates and times -------------------------------------------------------------------------------------

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_DIRECTIVES = {
    "%Y": r"(?P<Y>\d{4})",
    "%y": r"(?P<y>\d{2})",
    "%m": r"(?P<m>\d{1,2})",
    "%d": r"(?P<d>\d{1,2})",
    "%b": r"(?P<b>[A-Za-z]{3})",
    "%B": r"(?P<b>[A-Za-z]{3,9})",
    "%H": r"(?P<H>\d{1,2})",
    "%M": r"(?P<M>\d{2})",
    "%S": r"(?P<S>\d{2})",
    "%f": r"(?P<f>\d{1,6})",
    "%z": r"(?P<z>Z|[+-]\d{2}:?\d{2})",
    "%%": "%",
}
_DATE_FORMATS = (
    "%Y-%m-%d", "%d.%m.%Y", "%d/%m/%Y", "%m/%d/%Y", "%d-%m-%Y", "%m-%d-%Y", "%Y/%m/%d", "%Y.%m.%d",
    "%d%b%Y", "%d-%b-%Y", "%d %b %Y", "%d %B %Y",
)  # fmt: skip
_CLOCK = r"(?P<H>\d{1,2}):(?P<M>\d{2})(?::(?P<S>\d{2})(?:[.,](?P<f>\d{1,9}))?)?"
_ZONE = r"(?P<z>Z|[+-]\d{2}:?\d{2})?"


@dataclass(frozen=True, slots=True)
class Layout:
    """One way to write dates or times: a regular expression with a named group for each part."""

    words: str
    pattern: str
    type: FieldType


def layout_of(format_: str, type_: FieldType) -> Layout | None:
    """Translate a strptime format that a schema names; None where it has a directive that is not known."""
    pieces = re.split("(%.)", format_)
    if any(piece.startswith("%") and piece not in _DIRECTIVES for piece in pieces):
        return None
    pattern = "".join(_DIRECTIVES.get(piece, re.escape(piece)) for piece in pieces)
    names = re.findall(r"\(\?P<(\w)>", pattern)
    return Layout(format_, f"^{pattern}$", type_) if len(names) == len(set(names)) else None


def _dates(format_: str) -> str:
    layout = layout_of(format_, "date")
    assert layout is not None
    return layout.pattern[1:-1]


_LAYOUTS = (
    *(Layout(item, f"^{_dates(item)}$", "date") for item in _DATE_FORMATS),
    *(
        Layout(item + " and time", f"^{_dates(item)}[T ]{_CLOCK} ?{_ZONE}$", "datetime")
        for item in _DATE_FORMATS
    ),
    Layout("hh:mm or hh:mm:ss", f"^{_CLOCK}$", "time"),
)


def _part(parts: pa.StructArray, names: set[str], name: str, default: int) -> NDArray[np.int64]:
    if name not in names:
        return np.full(len(parts), default, dtype=np.int64)
    text = parts.field(name)
    numbers = pc.cast(pc.if_else(pc.equal(text, ""), str(default), text), pa.int64())
    return np.asarray(pc.fill_null(numbers, default).to_numpy(zero_copy_only=False), dtype=np.int64)


def _parse_moments(
    texts: pa.StringArray, layout: Layout
) -> tuple[NDArray[np.int64], NDArray[np.bool_], bool]:
    """Read texts in one layout.

    Returns
    -------
    moments : ndarray of int64
        Microseconds since 1970-01-01 (since midnight for times).
    valid : ndarray of bool
        Where a text fits and is a day of the calendar and a time of day.
    zoned : bool
        Whether any text names its zone; moments are UTC then.
    """
    parts = pc.extract_regex(texts, layout.pattern)
    valid = np.asarray(parts.is_valid().to_numpy(zero_copy_only=False), dtype=bool)
    names = set(re.findall(r"\(\?P<(\w)>", layout.pattern))
    year = _part(parts, names, "Y", 1970)
    if "y" in names:
        short = _part(parts, names, "y", 70)
        year = short + np.where(short < 69, 2000, 1900)  # POSIX, as strptime has it
    month = _part(parts, names, "m", 1)
    if "b" in names:
        short_names = pc.utf8_lower(pc.utf8_slice_codeunits(parts.field("b"), 0, 3))
        place = pc.index_in(short_names, value_set=pa.array(_MONTHS))
        month = np.asarray(pc.fill_null(place, -1).to_numpy(zero_copy_only=False), dtype=np.int64) + 1
    day = _part(parts, names, "d", 1)
    valid &= (month >= 1) & (month <= 12) & (day >= 1) & (year >= 1)
    months = (year - 1970) * 12 + np.where(valid, month, 1) - 1
    first = months.astype("datetime64[M]").astype("datetime64[D]").astype(np.int64)
    following = (months + 1).astype("datetime64[M]").astype("datetime64[D]").astype(np.int64)
    valid &= day <= following - first
    hour, minute, second = (_part(parts, names, name, 0) for name in "HMS")
    valid &= (hour < 24) & (minute < 60) & (second < 60)
    fraction = np.zeros(len(texts), dtype=np.int64)
    if "f" in names:
        padded = pc.utf8_slice_codeunits(pc.utf8_rpad(pc.fill_null(parts.field("f"), ""), 6, "0"), 0, 6)
        fraction = np.asarray(pc.cast(padded, pa.int64()).to_numpy(zero_copy_only=False), dtype=np.int64)
    shift = np.zeros(len(texts), dtype=np.int64)
    zoned = False
    if "z" in names:
        zone = pc.replace_substring(pc.fill_null(parts.field("z"), ""), pattern=":", replacement="")
        zoned = bool((_matches(zone, ".") & valid).any())
        digits = pc.if_else(_mask(_matches(zone, r"^[+-]\d{4}$")), zone, "+0000")
        hours = pc.cast(pc.utf8_slice_codeunits(digits, 1, 3), pa.int64()).to_numpy(zero_copy_only=False)
        minutes = pc.cast(pc.utf8_slice_codeunits(digits, 3, 5), pa.int64()).to_numpy(zero_copy_only=False)
        sign = np.where(_matches(digits, "^-"), -1, 1)
        shift = sign * (hours * 60 + minutes)
    seconds = (first + day - 1) * 86_400 + hour * 3600 + (minute - shift) * 60 + second
    return seconds * 1_000_000 + fraction, valid, zoned


def _mask(mask: NDArray[np.bool_]) -> pa.BooleanArray:
    return pa.array(mask)


def _moments_to_arrow(moments: NDArray[np.int64], valid: NDArray[np.bool_], type_: FieldType) -> pa.Array:
    if type_ == "date":
        return pa.array(np.floor_divide(moments, 86_400_000_000).astype(np.int32), pa.date32(), mask=~valid)
    if type_ == "time":
        seconds = np.floor_divide(moments, 1_000_000) % 86_400
        return pa.array(seconds.astype(np.int32), pa.time32("s"), mask=~valid)
    return pa.array(moments, pa.timestamp("us"), mask=~valid)


def _layouts_that_fit(texts: pa.StringArray) -> list[tuple[Layout, pa.Array, bool]]:
    """Return every layout in which all texts are real days or times, with the values; midnights are dates."""
    first = texts[0].as_py()
    fits = []
    for layout in _LAYOUTS:
        if not re.match(layout.pattern, first):
            continue
        moments, valid, zoned = _parse_moments(texts, layout)
        if not valid.all():
            continue
        midnights = layout.type == "datetime" and not zoned and not (moments % 86_400_000_000).any()
        kind: FieldType = "date" if midnights else layout.type
        fits.append((replace(layout, type=kind), _moments_to_arrow(moments, valid, kind), zoned))
    return fits


def _day_first(layout: Layout) -> bool:
    return layout.words.startswith(("%d/", "%d-%m"))


def _month_first(layout: Layout) -> bool:
    return layout.words.startswith("%m")


# --- a column without a declared type --------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Undecided:
    """The column can be read in two ways; other columns may tell which."""


def evidence_in(cells: Cells) -> Evidence:
    """Say what a column shows about how its file writes numbers and dates."""
    rest = cells.distinct.filter(_mask(~cells.is_one_of(MISSING_TOKENS)))
    if not len(rest):
        return Evidence()
    styles = _number_styles(rest)
    if styles:
        sure = len({style.decimal for style in styles}) == 1
        return Evidence(decimal_marks=frozenset({styles[0].decimal})) if sure else Evidence()
    layouts = [layout for layout, _, _ in _layouts_that_fit(rest)]
    if len(layouts) != 1:
        return Evidence()
    return Evidence(day_first=_day_first(layouts[0]), month_first=_month_first(layouts[0]))


def type_freely(cells: Cells, evidence: Evidence) -> Column:
    """Give a column the type that all of its texts have, else string.

    Digits with leading zeros, or too long to be exact, are text; numbers beyond `LARGEST` are missing.
    `20240131` is a whole number: that it is a date only a schema can say. Dates that could be read day first
    or month first, with nothing in the file to tell which, stay text.

    Parameters
    ----------
    cells : Cells
        The column.
    evidence : Evidence
        What the file's columns show together.
    """
    missing = cells.is_one_of(MISSING_TOKENS)
    rest = cells.distinct.filter(_mask(~missing))
    if len(rest):
        column = _number(rest, evidence) or _boolean(rest) or _moment(rest, evidence)
        if column is not None and column.type != "string":
            tokens = frozenset(cells.distinct.filter(_mask(missing)).to_pylist())
            return _spread(cells, missing, column, tokens)
        note = column.note if column is not None else ""
        if note == TOO_LONG:
            return replace(type_as_text(cells, MISSING_TOKENS), note=note)  # codes, written as numbers are
        return replace(type_as_text(cells, ("NA",) if cells.bare_na else ()), note=note)
    return type_as_text(cells, MISSING_TOKENS)


def type_as_text(cells: Cells, tokens: Iterable[str]) -> Column:
    """Keep a column as text; the empty text and `tokens` are missing."""
    wanted = {"", *tokens}
    missing = cells.is_one_of(wanted)
    found = frozenset(cells.distinct.filter(_mask(missing)).to_pylist())
    return _spread(cells, missing, Column(cells.distinct.filter(_mask(~missing)), "string"), found)


def _spread(cells: Cells, missing: NDArray[np.bool_], column: Column, tokens: frozenset[str]) -> Column:
    """Carry the values of the distinct present texts to the rows."""
    places = np.cumsum(~missing) - 1
    codes = places[cells.codes] if len(places) else cells.codes
    absent = missing[cells.codes] if len(places) else np.zeros(0, dtype=bool)
    taken = column.values.take(pa.array(codes, pa.int64(), mask=absent))
    return replace(column, values=taken, tokens=tokens)


def _number(texts: pa.StringArray, evidence: Evidence) -> Column | None:
    styles = _number_styles(texts)
    if not styles:
        return None
    if _matches(texts, r"^[+-]?0\d+$").any():
        return None  # 007412 is a name, not a number
    style, note = _choose_style(styles, evidence)
    plain = _plain(texts, style)
    if _matches(plain, r"^-?\d+(\.0)?$").all():
        whole = _whole_numbers(pc.replace_substring_regex(plain, pattern=r"\.0$", replacement=""))
        if whole is None:
            return Column(texts, "string", note=TOO_LONG)
        if _matches(plain, r"\.").any():
            note = "every number ends in .0, so they were read as whole numbers"
        return Column(whole, "integer", note=note)
    numbers = _floats(plain)
    sized = pc.less_equal(pc.abs(numbers), LARGEST)  # false for infinities, too
    if not pc.any(sized).as_py():
        return None
    if not pc.all(sized).as_py():
        numbers, note = pc.if_else(sized, numbers, pa.scalar(None, pa.float64())), TOO_LARGE
    return Column(numbers, "number", decimals=_decimals(plain.filter(sized)), note=note)


_BOOLEANS = {"true": True, "false": False, "yes": True, "no": False}


def _boolean(texts: pa.StringArray) -> Column | None:
    if len(texts) > 6:
        return None
    words = [text.lower() for text in texts.to_pylist()]
    if set(words) <= {"true", "false"}:
        note = ""
    elif set(words) == {"yes", "no"}:
        note = (
            "yes and no were read as true and false; post the schema with this field as a string with "
            "`categories` to keep the words"
        )
    else:
        return None
    return Column(pa.array([_BOOLEANS[word] for word in words]), "boolean", note=note)


def _moment(texts: pa.StringArray, evidence: Evidence) -> Column | None:
    fits = _layouts_that_fit(texts)
    if not fits:
        return None
    if len(fits) > 1 and not all(values.equals(fits[0][1]) for _, values, _ in fits[1:]):
        wanted = _day_first if evidence.day_first else _month_first
        fits = (
            [item for item in fits if wanted(item[0])] if evidence.day_first != evidence.month_first else []
        )
        if not fits:
            return Column(
                texts, "string", note="these look like dates, but day and month cannot be told apart; post "
                "the schema with `type` date and `format` %d/%m/%Y or %m/%d/%Y",
            )  # fmt: skip
    layout, values, _ = fits[0]
    note = "" if layout.words.startswith(("%Y-%m-%d", "hh")) else f"dates were read as {layout.words}"
    return Column(values, layout.type, note=note)


# --- a column with a declared type -----------------------------------------------------------------------


def type_as(field: Field, cells: Cells, evidence: Evidence, missing_values: tuple[str, ...] | None,
            properties: Mapping[str, Any]) -> Column:  # fmt: skip
    """Read a column as a schema declares it.

    Parameters
    ----------
    field : Field
        The declaration.
    cells : Cells
        The column.
    evidence : Evidence
        What the file's columns show together.
    missing_values : tuple of str or None
        The texts that mean missing; None where the schema does not say, and the common ones do.
    properties : mapping
        The field's JSON, for Frictionless' `trueValues` and `falseValues`.

    Returns
    -------
    Column
        `misfits` names the rows whose text is not of the type.
    """
    if missing_values is not None:
        tokens: tuple[str, ...] = missing_values
    elif field.type != "string":
        tokens = MISSING_TOKENS
    elif field.levels is not None:
        tokens = tuple(item for item in MISSING_TOKENS if item not in field.levels)
    else:
        tokens = ("", "NA") if cells.bare_na else ("",)
    missing = cells.is_one_of(tokens)
    texts = cells.distinct.filter(_mask(~missing))
    values, valid, decimals = _typed_texts(field, texts, evidence, properties)
    found = frozenset(cells.distinct.filter(_mask(missing)).to_pylist())
    column = _spread(cells, missing, Column(values, field.type, decimals), found)
    bad = np.zeros(len(cells.distinct), dtype=bool)
    bad[~missing] = ~valid
    misfits = np.flatnonzero(bad[cells.codes]) if bad.any() else column.misfits
    return replace(column, misfits=misfits)


def _typed_texts(
    field: Field, texts: pa.StringArray, evidence: Evidence, properties: Mapping[str, Any]
) -> tuple[pa.Array, NDArray[np.bool_], int | None]:
    if field.type == "string":
        return texts, np.ones(len(texts), dtype=bool), None
    if field.type in ("integer", "number", "year"):
        return _numbers_as(field, texts, evidence)
    if field.type == "boolean":
        words = dict(_BOOLEANS) | {"1": True, "0": False, "1.0": True, "0.0": False}
        words |= {str(item).lower(): True for item in properties.get("trueValues", ())}
        words |= {str(item).lower(): False for item in properties.get("falseValues", ())}
        values = [words.get(text.lower()) for text in texts.to_pylist()]
        return pa.array(values, pa.bool_()), np.array([item is not None for item in values], dtype=bool), None
    return _moments_as(field, texts, evidence)


def _numbers_as(
    field: Field, texts: pa.StringArray, evidence: Evidence
) -> tuple[pa.Array, NDArray[np.bool_], int | None]:
    # The style that most texts have; the earlier one where two have as many.
    fitting = [(style, _matches(texts, style.pattern)) for style in _STYLES]
    full = [style for style, fits in fitting if fits.all()]
    if full:
        style = _choose_style(full, evidence)[0]
        valid = np.ones(len(texts), dtype=bool)
    else:
        style, valid = max(fitting, key=lambda item: int(item[1].sum()))
    plain = _plain(texts, style)
    whole_only = field.type != "number"
    if whole_only:
        valid &= _matches(plain, r"^-?\d{1,18}(\.0*)?$")
        plain = pc.replace_substring_regex(plain, pattern=r"\.0*$", replacement="")
    safe = pc.if_else(_mask(valid), plain, pa.scalar(None, pa.string()))
    if whole_only:
        whole = pc.cast(safe, pa.int64())
        exact = pc.less(pc.abs(whole), MAX_EXACT)
        return whole, valid & pc.fill_null(exact, True).to_numpy(zero_copy_only=False), None
    values = _floats(safe)
    sized = pc.less_equal(pc.abs(values), LARGEST)  # 1e999 is no number
    valid = valid & pc.fill_null(sized, True).to_numpy(zero_copy_only=False)
    return values, valid, _decimals(plain.filter(_mask(valid))) if valid.any() else None


def _moments_as(
    field: Field, texts: pa.StringArray, evidence: Evidence
) -> tuple[pa.Array, NDArray[np.bool_], int | None]:
    named = layout_of(field.format, field.type) if field.format not in (None, "default", "any") else None
    candidates = (
        [named] if named else [*_LAYOUTS, Layout("%Y%m%d", r"^(?P<Y>\d{4})(?P<m>\d{2})(?P<d>\d{2})$", "date")]
    )
    wanted_types = {"date": ("date", "datetime"), "datetime": ("date", "datetime"), "time": ("time",)}[
        field.type
    ]
    best: tuple[int, int, pa.Array, NDArray[np.bool_]] | None = None
    for layout in candidates:
        if layout.type not in wanted_types:
            continue
        moments, valid, _ = _parse_moments(texts, layout)
        if field.type == "date":
            valid &= moments % 86_400_000_000 == 0
        order = (evidence.day_first and _day_first(layout)) or (evidence.month_first and _month_first(layout))
        if best is None or (int(valid.sum()), int(order)) > best[:2]:
            best = int(valid.sum()), int(order), _moments_to_arrow(moments, valid, field.type), valid
    assert best is not None
    return best[2], best[3], None
