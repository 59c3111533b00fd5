"""Thin Celery tasks: they open the pipeline, and let nothing out of it but a log line."""

from __future__ import annotations

import logging
from collections.abc import Callable

from app.queue import RUN_JOB, RUN_SHARDS
from workers import pipeline
from workers.celery_app import app, desk, is_stopping
from workers.pipeline import Desk
from workers.processes import Stopping

logger = logging.getLogger("synthward.tasks")


@app.task(name=RUN_JOB)  # type: ignore[untyped-decorator]
def run_job(job_id: str) -> None:
    """Bring a job to its end."""
    _run(pipeline.run_job, job_id)


@app.task(name=RUN_SHARDS)  # type: ignore[untyped-decorator]
def run_shards(job_id: str) -> None:
    """Make shards of a large job."""
    _run(pipeline.run_shards, job_id)


def _run(story: Callable[[Desk, str], None], job_id: str) -> None:
    if is_stopping():
        return  # the sweeper of another worker, or of the next start, rings again
    try:
        story(desk(), job_id)
    except Stopping:
        logger.info("stopped in the middle", extra={"job": job_id})
    except Exception as error:
        logger.error("an attempt went wrong", exc_info=error, extra={"job": job_id})
