"""The table of uploaded datasets."""

from __future__ import annotations

import datetime as dt
from typing import Any

from sqlalchemy import BigInteger, Index, Integer, String
from sqlalchemy.orm import Mapped, mapped_column

from app.db import Base, Json, UtcDateTime


class DatasetRow(Base):
    """An uploaded table. Its rows lie in the artifact store as Parquet under `key`, and never leave."""

    __tablename__ = "datasets"

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    owner: Mapped[str] = mapped_column(String(40))
    name: Mapped[str] = mapped_column(String(200))
    rows: Mapped[int] = mapped_column(BigInteger)
    columns: Mapped[int] = mapped_column(Integer)
    schema_document: Mapped[dict[str, Any]] = mapped_column(Json)
    sha256: Mapped[str] = mapped_column(String(64))  # of the uploaded file, as it came
    key: Mapped[str] = mapped_column(String(300))
    key_sha256: Mapped[str] = mapped_column(String(64))  # of the stored Parquet
    bytes: Mapped[int] = mapped_column(BigInteger)
    attempts: Mapped[int] = mapped_column(Integer, default=0)  # jobs that used it as reference
    created_at: Mapped[dt.datetime] = mapped_column(UtcDateTime())
    expires_at: Mapped[dt.datetime] = mapped_column(UtcDateTime())

    __table_args__ = (
        Index("ix_datasets_owner_id", "owner", "id"),
        Index("ix_datasets_expires_at", "expires_at"),
    )
