from __future__ import annotations

import datetime as dt
import gzip
import io
import zipfile
from collections.abc import Callable
from typing import Any

import pytest

Read = Callable[..., Any]

PLAIN = "id;höhe;datum\r\n001;1,5;31.12.2023\r\n002;2,25;01.02.2024\r\n"


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(PLAIN.encode(), id="utf-8"),
        pytest.param(b"\xef\xbb\xbf" + PLAIN.encode(), id="utf-8 with BOM"),
        pytest.param(PLAIN.encode("latin-1"), id="latin-1"),
        pytest.param(PLAIN.encode("utf-16"), id="utf-16 with BOM"),
        pytest.param(PLAIN.encode("utf-16-le"), id="utf-16 without BOM"),
        pytest.param(PLAIN.encode("utf-16-be"), id="utf-16 big-endian without BOM"),
        pytest.param(b"sep=;\r\n" + PLAIN.encode(), id="Excel's sep line"),
        pytest.param(PLAIN.replace("\r\n", "\n").encode(), id="LF"),
        pytest.param(PLAIN.replace("\r\n", "\r").encode(), id="CR"),
        pytest.param(PLAIN.replace(";", "\t").encode(), id="tab"),
        pytest.param(PLAIN.replace(";", "|").encode(), id="bar"),
        pytest.param(PLAIN.rstrip().encode(), id="no newline at the end"),
        pytest.param((PLAIN + "\r\n\r\n").encode(), id="blank lines at the end"),
        pytest.param(
            PLAIN.replace("1,5", '"1,5"').replace("2,25", '"2,25"').replace(";", ",").encode(), id="quoted"
        ),
    ],
)
def test_the_same_table_is_read_from_every_encoding_and_delimiter(read: Read, content: bytes) -> None:
    outcome = read(content)
    assert outcome.table.to_pydict() == {
        "id": ["001", "002"],
        "höhe": [1.5, 2.25],
        "datum": [dt.date(2023, 12, 31), dt.date(2024, 2, 1)],
    }
    assert outcome.fields["höhe"]["type"] == "number"


@pytest.mark.parametrize(
    ("cells", "type_", "values"),
    [
        (["1", "", "3"], "integer", [1, None, 3]),
        (["1.0", "", "3.0"], "integer", [1, None, 3]),
        (["007412", "7412"], "string", ["007412", "7412"]),
        (["99999999999999999999", "1"], "string", ["99999999999999999999", "1"]),
        (["999000011000000103", "NA", "12"], "string", ["999000011000000103", None, "12"]),
        (["999000011000000103", "", "12"], "string", ["999000011000000103", None, "12"]),
        (["999000011000000103.0", "12.0"], "string", ["999000011000000103.0", "12.0"]),
        (["9007199254740991", "-9007199254740991"], "integer", [2**53 - 1, 1 - 2**53]),
        (["1.5", "8.98846567431158e307", "1e400", "-1e16"], "number", [1.5, None, None, None]),
        (["1e400", "1e401"], "string", ["1e400", "1e401"]),
        (["20240131", "20240201"], "integer", [20240131, 20240201]),
        (["1.5", "NA", "."], "number", [1.5, None, None]),
        ([".5", "5.", "-1e3", "+2"], "number", [0.5, 5.0, -1000.0, 2.0]),
        (["1 234,5", "12"], "number", [1234.5, 12.0]),
        (["1.234,5", "12"], "number", [1234.5, 12.0]),
        (["true", "False", "TRUE"], "boolean", [True, False, True]),
        (["yes", "no", "No"], "boolean", [True, False, False]),
        (["no", "no"], "string", ["no", "no"]),
        (["yes", "no", "perhaps"], "string", ["yes", "no", "perhaps"]),
        (["2024-01-31", "", "2023-02-28"], "date", [dt.date(2024, 1, 31), None, dt.date(2023, 2, 28)]),
        (["31/12/2023", "01/02/2024"], "date", [dt.date(2023, 12, 31), dt.date(2024, 2, 1)]),
        (["12/31/2023", "01/02/2024"], "date", [dt.date(2023, 12, 31), dt.date(2024, 1, 2)]),
        (["31JAN2024", "01FEB2024"], "date", [dt.date(2024, 1, 31), dt.date(2024, 2, 1)]),
        (["9999-12-31", "2024-02-29"], "date", [dt.date(9999, 12, 31), dt.date(2024, 2, 29)]),
        (["2023-02-29", "2023-02-28"], "string", ["2023-02-29", "2023-02-28"]),
        (["01/02/2024", "03/04/2024"], "string", ["01/02/2024", "03/04/2024"]),
        (["2024-01-31 00:00:00", "2024-02-01 00:00:00"], "date", [dt.date(2024, 1, 31), dt.date(2024, 2, 1)]),
        (["2024-01-31T10:30:15.25"], "datetime", [dt.datetime(2024, 1, 31, 10, 30, 15, 250_000)]),
        (["2024-01-31T10:30:00+02:00"], "datetime", [dt.datetime(2024, 1, 31, 8, 30)]),
        (
            ["31.01.2024 10:30", "01.02.2024 07:05"],
            "datetime",
            [dt.datetime(2024, 1, 31, 10, 30), dt.datetime(2024, 2, 1, 7, 5)],
        ),
        (["07:30", "23:59:59"], "time", [dt.time(7, 30), dt.time(23, 59, 59)]),
        (["25:00", "07:30"], "string", ["25:00", "07:30"]),
        (["", "NA", ""], "string", [None, None, None]),
        ([" a ", "b"], "string", ["a", "b"]),
    ],
)
def test_a_column_has_the_type_that_all_its_cells_have(
    read: Read, cells: list[str], type_: str, values: list[Any]
) -> None:
    rows = "".join(f'"{cell}";x\n' for cell in cells)
    outcome = read(f"a;b\n{rows}")
    assert (outcome.fields["a"]["type"], outcome.column("a")) == (type_, values)


def test_an_ambiguous_date_follows_the_file_s_other_dates(read: Read) -> None:
    assert read("a,b\n01/02/2024,31/12/2023\n03/04/2024,30/12/2023\n").column("a")[0] == dt.date(2024, 2, 1)
    assert read("a,b\n01/02/2024,12/31/2023\n03/04/2024,12/30/2023\n").column("a")[0] == dt.date(2024, 1, 2)


def test_an_ambiguous_comma_follows_the_file_s_other_numbers(read: Read) -> None:
    assert read('a,b\n"1,234",0.5\n').column("a") == [1234]
    assert read("a;b\n1,234;0,5\n").column("a") == [1.234]
    assert read("a;b\n1.234;0,5\n").column("a") == [1234]


def test_quoted_line_breaks_and_quotes_stay_in_their_cell(read: Read) -> None:
    outcome = read('a,b\n"one\ntwo",1\n"say ""hi"", now",2\n')
    assert outcome.column("a") == ["one\ntwo", 'say "hi", now']


def test_a_quoted_header_may_hold_the_delimiter_and_a_line_break_is_refused(read: Read) -> None:
    assert list(read('"dose, mg",b\n1,2\n').fields) == ["dose, mg", "b"]
    assert read('"a\nx",b\n1,2\n').faults[0].startswith("Line 1, column 1:")


def test_an_unquoted_na_in_a_file_that_quotes_its_texts_is_missing_and_a_quoted_one_is_not(
    read: Read,
) -> None:
    outcome = read('"a","b"\n"x",1\nNA,2\n"NA",3\n')
    assert outcome.column("a") == ["x", None, None]
    assert outcome.answer["schema"]["missingValues"] == ["", "NA"]
    kept = read("a,b\nx,1\nNA,2\n")
    assert kept.column("a") == ["x", "NA"]
    assert "missingValues" in kept.answer["warnings"][0]["message"]


def test_what_is_missing_in_a_number_column_is_missing_in_text_columns_too(read: Read) -> None:
    outcome = read("a,b\nx,1\nNA,NA\n")
    assert outcome.table.to_pydict() == {"a": ["x", None], "b": [1, None]}


def test_a_single_column_keeps_its_empty_rows(read: Read) -> None:
    assert read("a\n1\n\n3\n").column("a") == [1, None, 3]


def _zip(name: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(name, "a,b\n1,2\n")
    return buffer.getvalue()


LONG = "a,b\n" + "1,2\n" * 5000
REFUSED = [
    pytest.param(b"", "The file is empty", id="empty"),
    pytest.param(b" \n\n", "The file is empty", id="blank"),
    pytest.param(b"a,b\n", "no rows", id="header only"),
    pytest.param(b"a,b", "no rows", id="header only, without a line end"),
    pytest.param(b'"a\nb",c\n1,2\n', "take out line breaks", id="line break in a header"),
    pytest.param(_zip("table.csv"), "a ZIP archive", id="zip"),
    pytest.param(_zip("xl/workbook.xml"), "an Excel workbook", id="xlsx"),
    pytest.param(gzip.compress(b"a,b\n1,2\n"), "a gzip archive", id="gzip"),
    pytest.param(b"%PDF-1.7\n", "a PDF document", id="pdf"),
    pytest.param(b"<!DOCTYPE html><html></html>", "a web page", id="html"),
    pytest.param(b'[{"a": 1}]', "JSON", id="json"),
    pytest.param(b"PAR1 and nonsense", "Parquet", id="broken parquet"),
    pytest.param(b"a,,c\n1,2,3\n", "Line 1, column 2: the header is empty", id="empty header"),
    pytest.param(b"a,b,a\n1,2,3\n", "Line 1, column 3: the same header as column 1", id="duplicate header"),
    pytest.param(b"a, a\n1,2\n", "Line 1, column 2: the same header as column 1", id="alike but for spaces"),
    pytest.param(b"\na,b\n1,2\n", "Line 1 is empty", id="blank first line"),
    pytest.param(
        b"Female,63,1.5\nMale,70,2.5\n", "Line 1, column 3: the first line looks like data", id="headerless"
    ),
    pytest.param(
        b"a,b\n1,2\n3\n", "Line 3: 1 cell where the header has 2; column 2 is missing", id="short row"
    ),
    pytest.param(b'a,b\n"1\n1",2\n1,2,3\n', "Line 4: 3 cells where the header has 2", id="long row"),
    pytest.param(LONG.encode() + b"1,2,3\n", "Line 5002: 3 cells", id="long row at the end"),
    pytest.param(b"a,b\n1,2\n3,\x004\n", "Line 3, byte 3 of the line: a NUL byte", id="NUL"),
    pytest.param(LONG.encode() + b"1,\x00\n", "Line 5002, byte 3 of the line: a NUL", id="NUL at the end"),
    pytest.param(
        "a,b\né,1\n".encode() + b"\xff,2\n",
        "Line 3, byte 1 of the line: a byte that is not UTF-8",
        id="mixed",
    ),
    pytest.param(b"a,b\n\x81,1\n", "Line 2, byte 1 of the line", id="undecodable"),
    pytest.param("a,b\n1,2\n".encode("utf-16")[:-1], "UTF-16", id="cut UTF-16"),
    pytest.param(
        b'a,b\n1,2\n3,"open\n4,5\n', "Line 3: a quoted cell begins here and is never closed", id="open quote"
    ),
]


@pytest.mark.parametrize(("content", "says"), REFUSED)
def test_what_is_no_table_is_refused_with_its_place(read: Read, content: bytes, says: str) -> None:
    outcome = read(content)
    assert outcome.answer.get("error") == "UploadUnreadable", outcome.answer
    assert says in outcome.faults[0]


@pytest.mark.parametrize(
    ("content", "limits"),
    [("a,b\n1,2\n3,4\n", {"max_rows": 1}), ("a,b\n1,2\n", {"max_columns": 1})],
)
def test_a_table_over_a_limit_is_too_large(read: Read, content: str, limits: dict[str, int]) -> None:
    assert read(content, **limits).answer["error"] == "UploadTooLarge"


def test_a_table_of_just_the_allowed_size_is_read(read: Read) -> None:
    assert read("a,b\n1,2\n3,4\n", max_rows=2, max_columns=2).answer["rows"] == 2


CANARY = "Zyxwv-Canary"


@pytest.mark.parametrize(
    "content",
    [
        f"a,b\n{CANARY},2,3\n",
        f"a,b\n{CANARY}\n",
        f'a,b\n1,"{CANARY}\n',
        f"a,b\n{CANARY},\x00\n",
        f"{CANARY},{CANARY}\n1,2\n",
        f"{CANARY},1.5\n1,2\n",
        f'a,b\n"{CANARY}"x,"{CANARY}"y"\n',
        f"a,b\n{CANARY},1\nother,2\n",
        "a,b\n" + "".join(f"{CANARY if i == 50 else 'x' if i % 2 else 'y'},{i}\n" for i in range(100)),
        "a,b\n" + "".join(f"{CANARY}{i},{i}\n" for i in range(100)),
        "a,b\n" + "".join(f"{CANARY} {i % 30} said so,{i}\n" for i in range(100)),
    ],
)
def test_no_cell_is_ever_repeated(read: Read, content: str) -> None:
    assert CANARY not in str(read(content).answer)


def test_no_cell_is_repeated_where_it_does_not_fit_the_schema(read: Read) -> None:
    schema = {"fields": [{"name": "a", "type": "integer"}, {"name": "b", "type": "date"}]}
    outcome = read(f'a,b\n1,2024-01-31\n{CANARY},"{CANARY}\n1"\n2,{CANARY}\n', schema)
    assert CANARY not in str(outcome.answer)
    assert "1 cell does not fit the type integer, the first in line 3, column 1" in outcome.faults[0]
    assert "2 cells do not fit the type date, the first in line 3, column 2" in outcome.faults[1]
