"""Settings, read from the environment (prefix `SYNTHWARD_`) and frozen."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

MIB = 1024 * 1024


class LlmProvider(BaseModel):
    """A language model that jobs may name: SYNTHWARD_LLM__<NAME>__BASE_URL, …__MODEL and so on."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    base_url: str = Field(description="OpenAI-compatible address, up to and with /v1")
    model: str
    api_key: SecretStr = SecretStr("")
    mode: Literal["auto", "json_schema", "json_object", "json_object_schema", "text"] = "auto"
    prompt_price: float | None = Field(None, ge=0, description="US dollars for a million tokens asked")
    completion_price: float | None = Field(None, ge=0, description="US dollars for a million tokens answered")
    timeout: float = Field(120.0, gt=0, description="of one request")
    deadline: float = Field(1800.0, gt=0, description="of all requests of a job")
    concurrency: int = Field(4, ge=1, le=64, description="requests of a job under way at once")


class Settings(BaseSettings):
    """Everything an operator can set. `synthward config` prints it with the secrets masked.

    Times are in seconds, sizes in bytes.
    """

    model_config = SettingsConfigDict(
        env_prefix="SYNTHWARD_", env_nested_delimiter="__", frozen=True, extra="ignore"
    )

    # Where things are
    database_url: SecretStr = Field(
        SecretStr("sqlite:///synthward-data/synthward.db"),
        description="SQLAlchemy URL; SQLite or PostgreSQL (postgresql+psycopg://…)",
    )
    broker_url: SecretStr = Field(
        SecretStr("redis://127.0.0.1:6379/0"), description="Celery broker: Redis or Valkey"
    )
    artifacts_url: SecretStr = Field(
        SecretStr("synthward-data/artifacts"),
        description="a folder, or any fsspec URL such as s3://bucket/prefix",
    )
    artifacts_options: SecretStr = Field(
        SecretStr("{}"), description="JSON of fsspec options for artifacts_url (endpoint_url, key, secret …)"
    )
    scratch_dir: Path | None = Field(
        None,
        description="where files are written before they are stored; default: the system's temporary folder",
    )

    # Who may ask
    no_auth: bool = Field(False, description="answer without keys; loopback only")

    # Limits
    max_rows: int = Field(10_000_000, ge=1)
    max_replicates: int = Field(100, ge=1)
    max_fields: int = Field(1000, ge=1)
    max_request_bytes: int = Field(4 * MIB, ge=1024)
    max_upload_bytes: int = Field(512 * MIB, ge=1024)
    max_upload_rows: int = Field(5_000_000, ge=1)
    max_upload_columns: int = Field(1000, ge=1)
    max_wait: float = Field(60.0, ge=0)

    # Lifetimes
    job_ttl: float = Field(30 * 86400.0, gt=0, description="from the end of a job to its deletion")
    dataset_ttl: float = Field(30 * 86400.0, gt=0, description="from the upload of a dataset to its deletion")
    idempotency_ttl: float = Field(2 * 86400.0, ge=86400)

    # The job's life
    max_attempts: int = Field(5, ge=1)
    lease: float = Field(10.0, gt=0, description="a claim that is not renewed for so long is void")
    heartbeat: float = Field(1.0, gt=0)
    sweep_every: float = Field(2.0, gt=0)
    kill_after: float = Field(3.0, ge=0, description="from SIGTERM to SIGKILL of a cancelled job's process")
    heavy_rows: int = Field(
        500_000,
        ge=1,
        description="rows × replicates from which a job goes to the heavy queue and is made in shards",
    )
    threads: int = Field(
        1,
        ge=1,
        description="threads of BLAS and torch in a job's process; part of what makes bytes repeatable",
    )
    nice: int = Field(10, ge=0, le=19, description="how far job processes step back behind the API")

    # Disclosure
    min_cell: int = Field(10, ge=2, description="no statement about fewer persons of a real table than this")

    # Language models
    llm: dict[str, LlmProvider] = Field(
        default_factory=dict,
        description="language models by name: SYNTHWARD_LLM__<NAME>__BASE_URL, __MODEL, __API_KEY, __MODE …",
    )
    offline: bool = Field(False, description="forbid every outgoing call; no language model is asked")

    log_level: str = Field("INFO")


def load() -> Settings:
    """Read the settings from the environment, once, at a composition root."""
    return Settings()


def as_environment(settings: Settings) -> dict[str, str]:
    """Return the environment in which `load` gives equal settings, for the processes that we start."""
    environment = dict(os.environ)
    for name in type(settings).model_fields:
        value = getattr(settings, name)
        if value is None:
            continue
        environment[f"SYNTHWARD_{name.upper()}"] = _as_text(value)
    return environment


def _as_text(value: Any) -> str:
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    if not isinstance(value, dict):
        return str(value)
    providers = {
        name: provider.model_dump(mode="json", exclude_none=True)
        | {"api_key": provider.api_key.get_secret_value()}
        for name, provider in value.items()
    }
    return json.dumps(providers)
