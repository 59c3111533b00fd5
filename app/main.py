"""The composition root of the HTTP side: wires the parts that `create_app` is given."""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import APIRouter, FastAPI
from prometheus_client import CollectorRegistry
from sqlalchemy import Engine

from app import __version__, config, db, openapi, problems
from app.config import Settings
from app.front import Front, RequestMetrics
from app.jobs.downloads import Downloads
from app.jobs.router import evaluations as evaluations_router
from app.jobs.router import router as jobs_router
from app.jobs.service import JobService
from app.jobs.waiting import EndedJobs
from app.keys.service import KeyRing
from app.queue import CeleryQueue, JobQueue
from app.rehearsal import Rehearsals
from app.services import Services
from app.storage import ArtifactStore, open_store
from app.system.counts import JobCounts
from app.system.readiness import Readiness
from app.system.router import router as system_router


def create_app(
    settings: Settings,
    *,
    engine: Engine | None = None,
    store: ArtifactStore | None = None,
    queue: JobQueue | None = None,
) -> FastAPI:
    """Build the HTTP side.

    Parameters
    ----------
    settings : Settings
        Limits, and where the parts are.
    engine, store, queue : optional
        The parts; made from `settings` where None.

    Returns
    -------
    FastAPI
        An ASGI application. The database must have its tables; nothing is asked before the first request.
    """
    services = Services(
        settings,
        engine or db.connect(settings.database_url.get_secret_value(), pool_size=10),
        store
        or open_store(
            settings.artifacts_url.get_secret_value(), settings.artifacts_options.get_secret_value()
        ),
        queue or CeleryQueue(settings.broker_url.get_secret_value()),
    )
    ended_jobs = EndedJobs(services.engine)
    readiness = Readiness(services)
    registry = CollectorRegistry()
    registry.register(JobCounts(services.engine, lambda: ended_jobs.count))

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await ended_jobs.close()
        readiness.close()
        services.engine.dispose()

    app = FastAPI(
        title="Synthward",
        version=__version__,
        description=openapi.DESCRIPTION,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        redirect_slashes=False,  # a redirect would send the client to whatever Host it named
    )
    app.state.services = services
    app.state.keyring = KeyRing(services.engine)
    app.state.jobs = JobService(services.engine, services.store, settings, services.queue.send)
    app.state.downloads = Downloads(services.engine, services.store, settings)
    app.state.ended_jobs = ended_jobs
    app.state.rehearsals = Rehearsals()
    app.state.readiness = readiness
    app.state.registry = registry
    routers = [jobs_router, evaluations_router, *_datasets_router(), system_router]
    for router in routers:
        app.include_router(router)
    app.state.methods = _methods(routers)
    problems.install(app)
    openapi.install(app, openapi.NO_KEY if settings.no_auth else openapi.KEY)
    app.add_middleware(Front, metrics=RequestMetrics(registry), local_only=settings.no_auth)
    return app


def _datasets_router() -> list[APIRouter]:
    if importlib.util.find_spec("app.datasets.router") is None:
        return []
    from app.datasets.router import router

    return [router]


def _methods(routers: list[APIRouter]) -> dict[str, str]:
    """Return what `Allow` says for each path."""
    methods: dict[str, set[str]] = {}
    for router in routers:
        for route in router.routes:
            found = getattr(route, "methods", None) or set()
            methods.setdefault(getattr(route, "path", ""), set()).update(found)
    return {
        path: ", ".join(sorted(found | ({"HEAD"} if "GET" in found else set())))
        for path, found in methods.items()
    }


def from_environment() -> FastAPI:
    """Build the HTTP side from `SYNTHWARD_…`; a factory for `uvicorn --factory app.main:from_environment`."""
    settings = config.load()
    logging.basicConfig(level=settings.log_level, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    return create_app(settings)
