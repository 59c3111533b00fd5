"""What a child reads of a real table."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from app.generators.base import MIN_CELL
from app.schema.parse import parse_schema
from workers.judging import read_reference

VISITS = {
    "patient_id": [f"P{k // 3:03d}" for k in range(120)],  # three rows a person
    "pseudonym": [f"K{k // 4:03d}" for k in range(120)],  # four
    "lab": [float(k) for k in range(120)],
}


@pytest.mark.parametrize(
    ("columns", "evaluation", "rows"),
    [
        (("lab",), {}, 10),
        (("lab", "pseudonym"), {}, 10),
        (("lab", "pseudonym"), {"group": "pseudonym"}, 9 * 4 + 1),
        (("lab", "patient_id"), {}, 9 * 3 + 1),
        (("lab", "patient_id", "pseudonym"), {"group": "pseudonym"}, 9 * 4 + 1),
    ],
)
def test_so_many_rows_are_a_cell_that_they_are_of_enough_persons(
    tmp_path: Path, columns: tuple[str, ...], evaluation: dict[str, Any], rows: int
) -> None:
    path = tmp_path / "table.parquet"
    pq.write_table(pa.table({name: VISITS[name] for name in columns}), path)
    schema, _ = parse_schema({"fields": [{"name": "lab", "type": "number"}]})
    real = read_reference(path, {"sha256": "ab" * 32}, schema, {"holdout": 0.2, **evaluation}, 10)
    assert len(real.holdout) > 0
    # A holdout by rows takes rows of some, and nine persons keep all of theirs.
    assert real.train.attrs[MIN_CELL] == rows
