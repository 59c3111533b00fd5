"""`synthward describe real.csv`: what may be published of a table, without a service.

The schema goes to standard output, notes and faults to standard error; neither shows a cell of the table.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from app.datasets import describer, reader

MOST_ROWS, MOST_COLUMNS = 10_000_000, 2_000


def main(arguments: Sequence[str] | None = None) -> int:
    """Describe a file; return the exit status."""
    parsed = _parser().parse_args(arguments)
    if not parsed.table.is_file():
        return _refuse([f"There is no file {parsed.table}."])
    schema = None
    if parsed.schema is not None:
        try:
            schema = json.loads(parsed.schema.read_bytes())
        except (OSError, ValueError):
            return _refuse([f"{parsed.schema} is no JSON file that can be read."])
    with tempfile.TemporaryDirectory(prefix="synthward-") as folder:
        stored = Path(folder) / "table.parquet"
        read = reader.guarded(lambda: reader.read(_reading(parsed, schema, stored)))
        if "error" in read:
            return _refuse(_faults(read))
        told = reader.guarded(lambda: describer.describe(_describing(parsed, read["schema"], stored)))
    if "error" in told:
        return _refuse(_faults(told))
    document = told["schema"]
    for note in [*read["warnings"], *document["described"]["notes"]]:
        print(f"{note['pointer']}: {note['message']}", file=sys.stderr)
    text = json.dumps(document, indent=1, ensure_ascii=False) + "\n"
    if parsed.output is None:
        sys.stdout.write(text)
    else:
        try:
            parsed.output.write_text(text, encoding="utf-8")
        except OSError as error:
            return _refuse([f"{parsed.output} cannot be written: {error.strerror}."])
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="synthward describe",
        description="Say what a table shows as a schema with statistics that may be published: ready to be "
        "posted as a job's schema.",
    )
    parser.add_argument("table", type=Path, help="CSV with a header line, or Parquet")
    parser.add_argument("--schema", type=Path, help="the table's schema, JSON; inferred where absent")
    parser.add_argument("--target", help="the outcome: each column is told at each of its levels")
    parser.add_argument("--group", help="the column that names the person, where one has several rows")
    parser.add_argument("--min-cell", type=_cell, default=10, help="say nothing of fewer persons (10)")
    parser.add_argument("--holdout", type=_share, default=0.0, help="leave out the holdout of such a share")
    parser.add_argument("--output", type=Path, help="a file; standard output where absent")
    return parser


def _cell(text: str) -> int:
    number = int(text)
    if number < 3:
        raise argparse.ArgumentTypeError("give 3 or more")
    return number


def _share(text: str) -> float:
    number = float(text)
    if not 0 <= number < 1:
        raise argparse.ArgumentTypeError("give 0 or more and less than 1")
    return number


def _reading(parsed: argparse.Namespace, schema: Any, stored: Path) -> reader.Request:
    return reader.Request(
        path=str(parsed.table),
        out=str(stored),
        scratch=str(stored.parent),
        max_rows=MOST_ROWS,
        max_columns=MOST_COLUMNS,
        max_memory=0,
        min_cell=parsed.min_cell,
        nice=0,
        schema=schema,
    )


def _describing(parsed: argparse.Namespace, schema: dict[str, Any], stored: Path) -> describer.Request:
    with parsed.table.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    return describer.Request(
        path=str(stored),
        schema=schema,
        sha256=sha256,
        min_cell=parsed.min_cell,
        target=parsed.target,
        group=parsed.group,
        holdout=parsed.holdout,
    )


def _faults(answer: dict[str, Any]) -> list[str]:
    faults = [f"{fault['pointer']}: {fault['message']}" for fault in answer.get("faults", ())]
    return faults or [answer["detail"]]


def _refuse(reasons: Sequence[str]) -> int:
    for reason in reasons:
        print(reason, file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
