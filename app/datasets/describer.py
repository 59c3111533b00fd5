"""The describing child: `python -m app.datasets.describer`, JSON in and out as the reading child has it.

A stored dataset → the schema that may be published of it.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from app.datasets.reader import guarded, limit_process
from app.datasets.reference import load_columns, load_reference
from app.datasets.split import holdout_mask
from app.errors import Fault, InvalidInput
from app.schema.infer import names_a_person, person_column
from app.schema.parse import parse_schema


@dataclass(frozen=True, slots=True)
class Request:
    """What the child is asked.

    Parameters
    ----------
    path : str
        The stored Parquet file.
    schema : dict
        The dataset's schema document.
    sha256 : str
        Of the uploaded file: the holdout depends on it.
    min_cell : int
        Nothing is said of fewer persons.
    target, group : str or None
        The outcome; the column that names the person.
    holdout : float
        Share of the rows that a job with the same holdout never shows to a generator: it is left out.
    nice, max_memory : int
        As of the reading child.
    """

    path: str
    schema: dict[str, Any]
    sha256: str
    min_cell: int
    target: str | None = None
    group: str | None = None
    holdout: float = 0.0
    nice: int = 0
    max_memory: int = 0


def describe(request: Request) -> dict[str, Any]:
    """Describe a stored dataset.

    Returns
    -------
    dict
        `schema`: the document, with what it says of itself in `described`.

    Raises
    ------
    InvalidInput
        Where a column is unknown, or there are too few rows.
    """
    from app.schema.describe import describe_frame

    path = Path(request.path)
    schema = parse_schema(request.schema)[0]
    stored = pq.read_schema(path).names
    faults = [
        Fault(f"/{word}", "The table has no column of this name.")
        for word, name in (("target", request.target), ("group", request.group))
        if name is not None and (name not in stored or name not in schema)
    ]
    if faults:
        raise InvalidInput(faults)
    columns = load_columns(path, [name for name in (request.target, request.group) if name is not None])
    held = holdout_mask(request.sha256, columns, request.holdout, request.target, request.group)
    if not request.holdout:
        held = np.zeros(pq.read_metadata(path).num_rows, np.bool_)
    loaded = load_reference(path, schema, min_cell=request.min_cell, called="table")
    frame = loaded.frame[~held].reset_index(drop=True)
    persons = _persons(path, stored, request.group)
    described = describe_frame(
        schema,
        frame,
        target=request.target,
        min_cell=request.min_cell,
        persons=None if persons is None else persons[~held],
    )
    notes = [
        {"pointer": fault.pointer.removeprefix("/schema"), "message": fault.message}
        for fault in (*loaded.warnings, *described.warnings)
    ]
    said: dict[str, Any] = {"min_cell": request.min_cell, "target": request.target}
    if request.holdout:
        said["holdout"] = request.holdout
    return {"schema": {**described.document, "described": {**said, "notes": notes}}}


def _persons(path: Path, stored: list[str], group: str | None) -> NDArray[np.int64] | None:
    """Number the persons of the rows, by the group or else by a column that names them."""
    import pandas as pd

    person = group
    if person is None:
        named = [name for name in stored if names_a_person(name)]
        person = person_column(pq.read_table(path, columns=named, use_threads=False)) if named else None
    if person is None:
        return None
    codes: NDArray[np.int64] = pd.factorize(load_columns(path, [person])[person])[0].astype(np.int64)
    return codes


def answer(text: str) -> dict[str, Any]:
    """Answer one request; what goes wrong is part of the answer, without any cell in it."""

    def work() -> dict[str, Any]:
        request = Request(**json.loads(text))
        limit_process(request.nice, request.max_memory)
        return describe(request)

    return guarded(work)


def main() -> None:
    """Answer the request on stdin."""
    json.dump(answer(sys.stdin.read()), sys.stdout)


if __name__ == "__main__":
    main()
