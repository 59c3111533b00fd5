"""What POST /v1/jobs is held against: a bare FastAPI endpoint, the same body validated, one row inserted."""

from __future__ import annotations

import os
import secrets
from typing import Any

from fastapi import FastAPI
from sqlalchemy import JSON, Column, MetaData, String, Table, insert

from app.db import connect, transaction
from app.jobs.schemas import JobRequest

engine = connect(os.environ["SYNTHWARD_DATABASE_URL"])
metadata = MetaData()
table = Table("bare", metadata, Column("id", String(40), primary_key=True), Column("body", JSON))
metadata.create_all(engine)
app = FastAPI()


@app.post("/jobs", status_code=202)
def post(body: JobRequest) -> dict[str, Any]:
    identifier = secrets.token_hex(16)
    with transaction(engine) as connection:
        connection.execute(insert(table).values(id=identifier, body=body.model_dump(mode="json")))
    return {"id": identifier, "status": "queued"}
