"""`synthward evaluate`: judges files without a service, by the reader and the evaluation of a job."""

from __future__ import annotations

import argparse
import datetime as dt
import hashlib
import json
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from app import config
from app.config import Settings
from app.datasets.reader import Request, read
from app.errors import Fault, InvalidInput, SynthwardError
from app.jobs.checking import Order, SchemaCache
from app.jobs.judging import check_evaluation
from app.jobs.repository import Reference
from app.scratch import Scratch
from workers import judging

_WIDTH = 30
_ROLES = ("synthetic", "reference", "holdout")


@dataclass(frozen=True, slots=True)
class Table:
    """A file that was read: its typed Parquet, and what is known of it."""

    path: Path
    parquet: Path
    sha256: str
    known: Reference


class Bar:
    """A progress bar on a terminal; elsewhere a line for each step."""

    def __init__(self, out: TextIO) -> None:
        self._out, self._live, self._last = out, out.isatty(), ""

    def show(self, fraction: float, step: str) -> None:
        """Show how far the work is (0 … 1) and what is done now."""
        if self._live:
            done = round(_WIDTH * min(max(fraction, 0.0), 1.0))
            room = max(shutil.get_terminal_size().columns - _WIDTH - 10, 0)
            bar = "█" * done + "░" * (_WIDTH - done)
            self._out.write(f"\r\x1b[K{bar} {100 * fraction:3.0f} %  {step[:room]}")
            self._out.flush()
        elif step and step != self._last:
            self._out.write(f"{100 * fraction:3.0f} %  {step}\n")
            self._last = step

    def close(self) -> None:
        """Leave the line."""
        if self._live:
            self._out.write("\r\x1b[K")
            self._out.flush()


def main(arguments: Sequence[str] | None = None) -> int:
    """Judge the files; 0 where a report was written, whatever it says, and 2 where none could be."""
    parsed = parser().parse_args(arguments)
    settings = config.load()
    scratch = Scratch(settings.scratch_dir)
    bar = Bar(sys.stderr)
    try:
        judged = _judge(parsed, settings, scratch.path, bar)
        bar.close()
        parsed.output.mkdir(parents=True, exist_ok=True)
        for name, content in (("report.json", judged.report), ("report.html", judged.page)):
            (parsed.output / name).write_bytes(content)
    except InvalidInput as error:
        bar.close()
        for fault in error.faults:
            print(f"{_place(fault.pointer)}{fault.message}", file=sys.stderr)
        return 2
    except (SynthwardError, OSError) as error:
        bar.close()
        print(error.detail if isinstance(error, SynthwardError) else error, file=sys.stderr)
        return 2
    finally:
        scratch.remove()
    _tell(json.loads(judged.report), parsed.output)
    return 0


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command's arguments."""
    parser = argparse.ArgumentParser(
        prog="synthward evaluate",
        description="Judge a synthetic table beside the real one. Nothing leaves this machine. The exit "
        "status is 0 where a report was written: it says nothing about quality.",
    )
    parser.add_argument("synthetic", type=Path, help="the table to judge, CSV or Parquet")
    parser.add_argument("--reference", type=Path, required=True, help="the real table")
    parser.add_argument(
        "--holdout",
        type=Path,
        help="real rows that were kept from the generator; default: a part of the reference",
    )
    parser.add_argument("--holdout-share", type=float, default=0.3, help="of the reference; default 0.3")
    parser.add_argument("--schema", type=Path, help="JSON; default: inferred from the reference")
    parser.add_argument("--target", help="the column that a later user would predict")
    parser.add_argument("--group", help="the column that names the person, where one has several rows")
    parser.add_argument("--quasi-identifiers", type=_names, default=[], metavar="A,B,…")
    parser.add_argument("--sensitive", type=_names, default=[], metavar="A,B,…")
    parser.add_argument("--depth", choices=("core", "full"), default="core")
    parser.add_argument("--seed", type=int, help="of resampling and attacks; drawn and recorded where absent")
    parser.add_argument(
        "--output", type=Path, default=Path("evaluation"), help="folder of report.json and report.html"
    )
    return parser


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _judge(parsed: argparse.Namespace, settings: Settings, scratch: Path, bar: Bar) -> judging.Judged:
    given = {role: getattr(parsed, role) for role in _ROLES if getattr(parsed, role) is not None}
    tables: dict[str, Table] = {}
    for number, (role, path) in enumerate(given.items()):
        bar.show(0.2 * number / len(given), f"Reading {path.name}")
        tables[role] = _read(role, path, scratch, settings)
    order = check_evaluation(
        _request(parsed, tables), lambda role: tables[role].known, settings, SchemaCache(settings.max_fields)
    )
    warnings = [{"pointer": fault.pointer, "message": fault.message} for fault in order.warnings]
    job = _job(order, tables)
    rows = scratch / "rows.parquet"
    told = judging.read_uploaded(tables["synthetic"].parquet, rows, order.schema, settings.min_cell)
    reference = tables["reference"].parquet
    if "holdout" in tables:
        real = judging.read_parts(reference, tables["holdout"].parquet, order.schema, settings.min_cell)
    else:
        real = judging.read_reference(
            reference, job["reference"], order.schema, job["evaluation"], settings.min_cell
        )
    return judging.judge(
        job,
        order.schema,
        [(1, rows)],
        real,
        warnings=[*warnings, *told, *real.warnings],
        settings=settings,
        progress=lambda fraction, step: bar.show(0.2 + 0.8 * fraction, step),
    )


def _read(role: str, path: Path, scratch: Path, settings: Settings) -> Table:
    if not path.is_file():
        raise FileNotFoundError(f"{path}: there is no such file.")
    folder = scratch / role
    folder.mkdir()
    parquet = folder / "table.parquet"
    asked = Request(
        path=str(path), out=str(parquet), scratch=str(folder), max_rows=settings.max_upload_rows,
        max_columns=settings.max_upload_columns, max_memory=0, min_cell=settings.min_cell, nice=0,
    )  # fmt: skip
    try:
        found = read(asked)
    except InvalidInput as error:
        faults = [Fault("", f"{path.name}: {fault.message}") for fault in error.faults]
        raise InvalidInput(faults, error.detail) from None
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return Table(path, parquet, digest, Reference(role, found["rows"], found["schema"]))


def _request(parsed: argparse.Namespace, tables: Mapping[str, Table]) -> dict[str, Any]:
    """Return what a client of the service would post."""
    evaluation: dict[str, Any] = {
        "depth": parsed.depth,
        "target": parsed.target,
        "group": parsed.group,
        "quasi_identifiers": parsed.quasi_identifiers,
        "sensitive": parsed.sensitive,
        "holdout": parsed.holdout_share,
    }
    request: dict[str, Any] = {f"{role}_id": role for role in tables} | {"evaluation": evaluation}
    if parsed.schema is not None:
        try:
            request["schema"] = json.loads(parsed.schema.read_text(encoding="utf-8"))
        except ValueError as error:
            raise OSError(f"{parsed.schema}: this is not JSON ({type(error).__name__}).") from None
    return request if parsed.seed is None else request | {"seed": parsed.seed}


def _job(order: Order, tables: Mapping[str, Table]) -> dict[str, Any]:
    reference = tables["reference"]
    return {
        "id": tables["synthetic"].path.name,
        "kind": order.kind,
        "created_at": dt.datetime.now(dt.UTC).isoformat(),
        "labels": {},
        "generator": order.generator,
        "generator_version": order.version,
        "options": {role: table.path.name for role, table in tables.items()},
        "rows": order.rows,
        "replicates": order.replicates,
        "seed": order.seed,
        "evaluation": order.evaluation.model_dump(),
        "release_limits": None,
        "reference": {"id": reference.path.name, "sha256": reference.sha256, "attempts": None},
    }


def _place(pointer: str) -> str:
    """Say where a fault is: an option of this command, else a place in a file."""
    option = {"/evaluation/holdout": "--holdout-share: ", "/seed": "--seed: "}
    for name in ("target", "group", "quasi_identifiers", "sensitive"):
        if pointer.startswith(f"/evaluation/{name}"):
            return f"--{name.replace('_', '-')}: "
    for role in _ROLES:
        option[f"/{role}_id"] = f"{role}: "
    return option.get(pointer, f"{pointer}: " if pointer else "")


def _tell(report: Mapping[str, Any], output: Path) -> None:
    for sentence in report["summary"]:
        print(sentence)
    print()
    for question, verdict in report["verdicts"].items():
        print(f"{question:<12} {verdict['level'].replace('_', ' ')}")
    print(f"\n{output / 'report.html'}\n{output / 'report.json'}")


if __name__ == "__main__":
    sys.exit(main())
