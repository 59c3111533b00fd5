"""What is judged before an evaluation of an uploaded table is accepted; `checking` does so for jobs that
make one."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Any

from app.config import Settings
from app.errors import Fault, InvalidInput, pointer
from app.jobs.checking import FindReference, Order, SchemaCache, evaluation_fields
from app.jobs.envelope import fields_absent, read_envelope, read_schema
from app.jobs.repository import Reference
from app.jobs.schemas import MAX_SEED, EvaluationJobRequest
from app.schema.table import TableSchema

UPLOADED = "uploaded"
"""Stands where the name of a generator would."""

_ROLES = {"synthetic_id": "synthetic table", "reference_id": "reference", "holdout_id": "holdout"}


def check_evaluation(
    document: Any, find_dataset: FindReference, settings: Settings, schemas: SchemaCache
) -> Order:
    """Judge a request for the evaluation of an uploaded table.

    Parameters
    ----------
    document : JSON value
        The body of the request.
    find_dataset : callable
        Returns a dataset of the caller's by its id, None where there is none.
    settings : Settings
        For the limits.
    schemas : SchemaCache
        Parses the schema.

    Raises
    ------
    InvalidInput
        With every fault that was found; the pointers lead into `document`.
    """
    if not isinstance(document, dict):
        raise InvalidInput([Fault("", "The body must be a JSON object.")])
    faults: list[Fault] = []
    warnings: list[Fault] = []
    envelope = read_envelope(EvaluationJobRequest, document, {"synthetic_id": "", "reference_id": ""})
    request, sound = envelope.request, envelope.sound
    faults += envelope.faults
    tables = _tables(document, find_dataset, faults)
    schema = read_schema(document, tables.get("reference_id"), schemas, faults, warnings)
    if schema is not None:
        faults += _absent(schema, tables, given=document.get("schema") is not None)
        if sound is not None:
            faults += evaluation_fields(sound.evaluation, schema, tables.get("reference_id"))
    if document.get("holdout_id") is not None and document.get("holdout_id") == document.get("reference_id"):
        faults.append(
            Fault(
                "/holdout_id",
                "This is the reference itself, which the generator has seen. Give rows that were kept back, "
                "or leave it out: a part of the reference is kept back then.",
            )
        )
    if sound is not None and not sound.evaluation.enabled:
        faults.append(Fault("/evaluation/enabled", "To evaluate is all that this job does: leave it out."))
    if faults or request is None or schema is None:
        raise InvalidInput(list(dict.fromkeys(faults)))
    if request.holdout_id is None:
        warnings.append(
            Fault(
                "/holdout_id",
                "The holdout is split from the reference. If the synthetic rows were learned from all of "
                "it, the holdout was seen as well: it is then no yardstick for copies and attacks. Give the "
                "rows that were kept back as `holdout_id`.",
            )
        )
    rows = tables["synthetic_id"].rows
    return Order(
        kind="evaluation",
        generator=UPLOADED,
        version="",
        options={"synthetic_id": request.synthetic_id, "holdout_id": request.holdout_id},
        heavy=request.evaluation.depth == "full" or rows >= settings.heavy_rows,
        schema=schema,
        rows=rows,
        replicates=1,
        seed=secrets.randbelow(MAX_SEED + 1) if request.seed is None else request.seed,
        reference_id=request.reference_id,
        evaluation=request.evaluation,
        release=None,
        labels=request.labels,
        warnings=tuple(warnings),
    )


def judged_tables(order: Order) -> dict[str, str]:
    """Return the datasets beside the reference that an order needs, by the name of their property."""
    if order.kind != "evaluation":
        return {}
    return {name: dataset_id for name, dataset_id in order.options.items() if dataset_id is not None}


def _tables(
    document: Mapping[str, Any], find_dataset: FindReference, faults: list[Fault]
) -> dict[str, Reference]:
    found: dict[str, Reference] = {}
    for name in _ROLES:
        dataset_id = document.get(name)
        if not isinstance(dataset_id, str):
            continue  # told by the envelope where it is required
        table = find_dataset(dataset_id)
        if table is None:
            faults.append(Fault(f"/{name}", "There is no such dataset. Upload it again, or check the id."))
        elif table.rows < 1 or (name == "reference_id" and table.rows < 2 and not document.get("holdout_id")):
            faults.append(
                Fault(f"/{name}", "This dataset has too few rows to judge by. Upload one with more.")
            )
        else:
            found[name] = table
    return found


def _absent(schema: TableSchema, tables: Mapping[str, Reference], *, given: bool) -> list[Fault]:
    """Return a fault for each field that a table does not have."""
    way_out = "Rename the field, or leave it out." if given else "Rename it, or give a `schema` without it."
    return [
        Fault(
            pointer("schema", "fields", position, "name") if given else f"/{name}",
            f"The {_ROLES[name]} has no column '{schema.fields[position].name}'.{hint} {way_out}",
        )
        for name, table in tables.items()
        for position, hint in fields_absent(schema, table)
    ]
