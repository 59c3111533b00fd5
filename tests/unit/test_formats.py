import csv
import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import openpyxl
import pandas as pd
import pyarrow.parquet as pq
import pytest

from app.errors import FormatCannotHoldRows
from app.formats import XLSX_ROWS, Format, Label, render
from app.schema.frames import conform, to_arrow
from app.schema.parse import parse_schema

LABEL = Label("job_01", 7, 1, "marginals", "1")
DOCUMENT: dict[str, Any] = {
    "fields": [
        {"name": "id", "type": "string"},
        {"name": "n, of visits", "type": "integer"},
        {"name": "weight", "type": "number", "decimals": 1},
        {"name": "smoker", "type": "boolean"},
        {"name": "site", "type": "string", "categories": ["Süd, 2", "=North", 'the "old"']},
        {"name": "born", "type": "date"},
        {"name": "seen", "type": "datetime"},
        {"name": "at", "type": "time"},
    ]
}
ROWS = {
    "id": ["007412", "", None, "-1\n2"],
    "n, of visits": [3, None, 0, -2],
    "weight": [70.0, None, 0.1, -5.5],
    "smoker": [True, False, None, True],
    "site": ["Süd, 2", "=North", None, 'the "old"'],
    "born": ["1931-02-03", None, "1890-01-01", "2024-02-29"],
    "seen": ["2024-01-31T12:00:00", None, "2024-01-31T00:00:01", "1999-12-31T23:59:59"],
    "at": ["12:00:00", None, "00:00:01", "23:59:59"],
}


def store(
    folder: Path, document: dict[str, Any] = DOCUMENT, rows: dict[str, list[Any]] = ROWS, cut: int = 2
) -> list[Path]:
    schema, _ = parse_schema(document)
    frame = conform(
        pd.DataFrame({name: pd.Series(cells, dtype=object) for name, cells in rows.items()}), schema
    )
    parts = []
    for number, piece in enumerate((frame.iloc[:cut], frame.iloc[cut:])):
        parts.append(folder / f"part-{number}-{cut}.parquet")
        pq.write_table(to_arrow(piece, schema), parts[-1])
    return parts


def deliver(folder: Path, fmt: Format, document: dict[str, Any] = DOCUMENT, **how: Any) -> Path:
    out = folder / f"out.{fmt}"
    rows = how.pop("rows", ROWS)
    schema, _ = parse_schema(document)
    size = render(store(folder, document, rows, how.pop("cut", 2)), schema, fmt, out, label=LABEL, **how)
    assert size == out.stat().st_size
    return out


def test_csv_is_verbatim_and_quotes_only_where_needed(tmp_path: Path) -> None:
    text = deliver(tmp_path, "csv").read_bytes().decode()
    assert text == (
        'id,"n, of visits",weight,smoker,site,born,seen,at\n'
        '007412,3,70,true,"Süd, 2",1931-02-03,2024-01-31T12:00:00,12:00:00\n'
        '"",,,false,=North,,,\n'
        ",0,0.1,,,1890-01-01,2024-01-31T00:00:01,00:00:01\n"
        '"-1\n2",-2,-5.5,true,"the ""old""",2024-02-29,1999-12-31T23:59:59,23:59:59\n'
    )
    assert len(list(csv.reader(io.StringIO(text)))) == 5


def test_csv_writes_the_first_of_missing_values(tmp_path: Path) -> None:
    text = deliver(tmp_path, "csv", DOCUMENT | {"missingValues": ["NA", ""]}).read_text()
    assert text.splitlines()[2] == '"",NA,NA,false,=North,NA,NA,NA'


def test_csv_for_a_spreadsheet_disarms_text_and_never_numbers(tmp_path: Path) -> None:
    written = deliver(tmp_path, "csv", spreadsheet=True).read_bytes()
    assert written.startswith(b"\xef\xbb\xbf")
    rows = list(csv.reader(io.StringIO(written.decode("utf-8-sig"))))
    assert rows[2][4] == "'=North"
    assert rows[4][0] == "'-1\n2"
    assert rows[4][1:3] == ["-2", "-5.5"]


@pytest.mark.parametrize("cell", ["=1+1", "+1", "-1", "@A1", "\t=1", "\r=1", '"=1+1"', "'=1"])
def test_a_spreadsheet_never_sees_text_begin_like_a_formula(tmp_path: Path, cell: str) -> None:
    document = {"fields": [{"name": "note", "type": "string"}, {"name": "x", "type": "integer"}]}
    out = deliver(tmp_path, "csv", document, rows={"note": [cell, "a"], "x": [1, 2]}, cut=1, spreadsheet=True)
    with out.open(encoding="utf-8-sig", newline="") as stream:
        assert list(csv.reader(stream))[1] == ["'" + cell, "1"]


def test_a_missing_value_of_a_single_column_is_not_an_empty_line(tmp_path: Path) -> None:
    document = {"fields": [{"name": "x", "type": "integer"}]}
    assert deliver(tmp_path, "csv", document, rows={"x": [1, None]}, cut=1).read_text() == 'x\n1\n""\n'


def test_integers_beyond_double_precision_stay_exact(tmp_path: Path) -> None:
    document = {"fields": [{"name": "x", "type": "integer"}, {"name": "y", "type": "integer"}]}
    rows = {"x": [2**53 + 1, None], "y": [1, 2]}
    assert (
        deliver(tmp_path, "csv", document, rows=rows, cut=1).read_text().splitlines()[1] == f"{2**53 + 1},1"
    )
    book = openpyxl.load_workbook(deliver(tmp_path, "xlsx", document, rows=rows, cut=1))
    assert book.active is not None
    assert book.active.cell(2, 1).value == str(2**53 + 1)


def test_datetimes_of_a_zoned_format_end_in_z(tmp_path: Path) -> None:
    document = {
        "fields": [
            {"name": "seen", "type": "datetime", "format": "%Y-%m-%dT%H:%M:%S%z"},
            {"name": "x", "type": "integer"},
        ]
    }
    out = deliver(
        tmp_path, "csv", document, rows={"seen": ["2024-01-31T12:00:00+02:00", None], "x": [1, 2]}, cut=1
    )
    assert out.read_text().splitlines()[1] == "2024-01-31T10:00:00Z,1"


def test_json_lines_are_typed(tmp_path: Path) -> None:
    rows = [json.loads(line) for line in deliver(tmp_path, "jsonl").read_text().split("\n")[:-1]]
    assert [row["id"] for row in rows] == ["007412", "", None, "-1\n2"]
    assert [row["n, of visits"] for row in rows] == [3, None, 0, -2]
    assert all(isinstance(row["n, of visits"], int) for row in (rows[0], rows[2]))
    assert [row["smoker"] for row in rows] == [True, False, None, True]
    assert rows[3]["site"] == 'the "old"'
    assert rows[0]["seen"] == "2024-01-31T12:00:00"


def test_parquet_is_one_labelled_file_with_typed_columns(tmp_path: Path) -> None:
    out = deliver(tmp_path, "parquet")
    table = pq.read_table(out)
    assert json.loads(table.schema.metadata[b"synthward"]) == LABEL.to_json()
    assert LABEL.to_json()["synthetic"] is True
    assert [str(kind) for kind in table.schema.types] == [
        "string", "int64", "double", "bool", "dictionary<values=string, indices=int32, ordered=0>",
        "date32[day]", "timestamp[us]", "time32[ms]",
    ]  # fmt: skip
    assert table.column("site").to_pylist() == ROWS["site"]


def test_parquet_bytes_do_not_depend_on_how_the_parts_were_cut(tmp_path: Path) -> None:
    assert (
        deliver(tmp_path, "parquet", cut=1).read_bytes() == deliver(tmp_path, "parquet", cut=3).read_bytes()
    )


def test_xlsx_keeps_text_as_text_and_dates_as_dates(tmp_path: Path) -> None:
    book = openpyxl.load_workbook(deliver(tmp_path, "xlsx"))
    sheet = book.active
    assert sheet is not None
    rows = [[cell.value for cell in row] for row in sheet.iter_rows()]
    assert rows[1][0] == "007412"
    assert rows[2][4] == "=North"
    assert sheet.cell(3, 5).data_type == "s"
    assert rows[1][1] == 3
    assert rows[1][3] is True
    assert rows[1][5].isoformat() == "1931-02-03T00:00:00"
    assert rows[3][5] == "1890-01-01"  # spreadsheets know no such day
    assert rows[1][6].isoformat() == "2024-01-31T12:00:00"
    assert book.properties.category == "synthetic"
    assert json.loads(book.properties.description or "") == LABEL.to_json()


def test_xlsx_is_the_same_bytes_each_time(tmp_path: Path) -> None:
    assert deliver(tmp_path, "xlsx").read_bytes() == deliver(tmp_path, "xlsx").read_bytes()


def test_xlsx_refuses_more_rows_than_a_sheet_holds(tmp_path: Path) -> None:
    document = {"fields": [{"name": "x", "type": "integer"}]}
    schema, _ = parse_schema(document)
    frame = conform(pd.DataFrame({"x": pd.array([1], dtype="Int64").repeat(XLSX_ROWS + 1)}), schema)
    pq.write_table(to_arrow(frame, schema), tmp_path / "part.parquet")
    with pytest.raises(FormatCannotHoldRows, match="format=csv"):
        render([tmp_path / "part.parquet"], schema, "xlsx", tmp_path / "out.xlsx", label=LABEL)


def test_xlsx_refuses_a_text_that_a_cell_cannot_hold(tmp_path: Path) -> None:
    document = {"fields": [{"name": "note", "type": "string"}]}
    with pytest.raises(FormatCannotHoldRows, match="note"):
        deliver(tmp_path, "xlsx", document, rows={"note": ["a", "b" * 32_768]}, cut=1)


def test_no_rows_give_a_header_alone(tmp_path: Path) -> None:
    empty = {name: [] for name in ROWS}
    assert deliver(tmp_path, "csv", rows=empty, cut=0).read_text().count("\n") == 1
    assert deliver(tmp_path, "jsonl", rows=empty, cut=0).read_bytes() == b""
    assert pq.read_table(deliver(tmp_path, "parquet", rows=empty, cut=0)).num_rows == 0


def test_a_child_process_answers_in_json(tmp_path: Path) -> None:
    request = {
        "parts": [str(part) for part in store(tmp_path)],
        "schema": DOCUMENT,
        "format": "csv",
        "out": str(tmp_path / "child.csv"),
        "label": {name: value for name, value in LABEL.to_json().items() if name != "synthetic"},
    }
    done = subprocess.run(
        [sys.executable, "-m", "app.formats"],
        input=json.dumps(request),
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout) == {"bytes": (tmp_path / "child.csv").stat().st_size}


def test_the_child_process_loads_no_pandas() -> None:
    probe = "import app.formats, app.schema.parse, sys; print('pandas' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
