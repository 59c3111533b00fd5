"""What a child does for one job, stage by stage: fit, sample, check, store, evaluate, release."""

from __future__ import annotations

import dataclasses
import json
import logging
import pickle
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.parquet as pq
from numpy.random import SeedSequence

from app.config import Settings
from app.errors import ArtifactMissing, InvalidInput, ServiceUnavailable, SynthwardError
from app.generators import registry
from app.generators.base import Sampler, learns
from app.generators.llm.assignment import AsksModels, Assignment
from app.generators.llm.client import Learned
from app.generators.llm.talk import Talks
from app.ids import new_id
from app.jobs.transcript import Receipts
from app.providers import providers_of
from app.schema import frames
from app.schema.parse import parse_schema
from app.storage import ArtifactStore, Stored, open_store
from workers import judging
from workers.shards import plan_shards

logger = logging.getLogger("synthward.stages")

_STORE_PATIENCE = (0.5, 1.0, 2.0, 4.0, 8.0, 15.0)  # s between tries to reach a store that is away

pa.set_cpu_count(1)
pa.set_io_thread_count(1)


class Voice(Protocol):
    """Where progress is told."""

    def progress(
        self, stage: str, fraction: float, detail: str = "", eta_seconds: float | None = None, rows: int = 0
    ) -> None:
        """Say how far a stage is."""

    def usage(self, usage: dict[str, Any]) -> None:
        """Say what a language model was asked and has answered so far."""


class Workroom:
    """A child's room: one job after the other."""

    def __init__(self, settings: Settings, voice: Voice) -> None:
        self._settings, self._voice = settings, voice
        self._bench: Bench | None = None
        self._learned: dict[str, Learned] = {}

    def carry_out(self, order: dict[str, Any]) -> dict[str, Any]:
        """Begin a job, or go on with the one that was begun; return what the answer says."""
        if order["do"] == "begin":
            self._bench = Bench(order, self._settings, self._voice, self._learned)
            return {}
        assert self._bench is not None, "the first order of a job is `begin`"
        return self._bench.carry_out(order)

    def clear(self) -> None:
        """Forget the job that has ended."""
        self._bench = None


class Bench:
    """The state of the one job that this child works on.

    Parameters
    ----------
    order : dict
        The first order of a job: `job` (see `leases.Work`), `prefix` of the keys to write under, `scratch`.
    learned : dict
        What this process has found out about the providers of language models.
    """

    def __init__(
        self, order: dict[str, Any], settings: Settings, voice: Voice, learned: dict[str, Learned]
    ) -> None:
        self._learned = learned
        self._job: dict[str, Any] = order["job"]
        self._prefix: str = order["prefix"]
        self._scratch = Path(order["scratch"])
        self._settings, self._voice = settings, voice
        self._store: ArtifactStore = open_store(
            settings.artifacts_url.get_secret_value(), settings.artifacts_options.get_secret_value()
        )
        self._schema, _ = parse_schema(self._job["schema_document"])  # its warnings were told at submission
        self._warnings: list[dict[str, str]] = []
        self._sampler: Sampler | None = None
        self._real: judging.RealTable | None = None

    def carry_out(self, order: dict[str, Any]) -> dict[str, Any]:
        """Do one order; return what its answer says."""
        self._prefix = order.get("prefix", self._prefix)
        match order["do"]:
            case "fit":
                return {"told": self.fit(), "warnings": self._warnings}
            case "sample":
                return {"parts": self.sample(), "warnings": self._warnings}
            case "store_model":
                return {"model": self.store_model()}
            case "load_model":
                self.load_model(order["model"])
                return {}
            case "sample_shard":
                return {"part": self.sample_shard(order["replicate"], order["number"], order["rows"])}
            case "evaluate":
                return self.evaluate(order["parts"], order["told"], order["warnings"])
            case "evaluate_uploaded":
                return self.evaluate_uploaded(order["warnings"])
            case "report_death":
                return self.report_death(order["warnings"])
        raise ValueError(f"no such order: {order['do']}")

    # fit ---------------------------------------------------------------------------------------------

    def fit(self) -> list[dict[str, Any]]:
        """Fit the generator, on the train part alone where it learns from a real table.

        Returns
        -------
        list of dict
            The stored blueprint, where the generator has one.
        """
        self._voice.progress("fit", 0.0)
        generator_class = registry.load(self._job["generator"])
        options = generator_class.Options.model_validate(self._job["options"])
        generator = generator_class(options)
        if isinstance(generator, AsksModels):
            generator = generator.assigned(self._assignment())
        train = self._real_table().train if learns(generator, options) else None
        try:
            self._sampler = generator.fit(
                self._schema, train, seed=self._seed(0), progress=self._fitting, warn=self._warn_of_schema
            )
        except InvalidInput as error:  # a generator points into the schema, a job's owner looks at the job
            raise InvalidInput([fault.under("/schema") for fault in error.faults]) from error
        told = self._store_blueprint()
        self._voice.progress("fit", 1.0)
        return told

    def _store_blueprint(self) -> list[dict[str, Any]]:
        blueprint: bytes | None = getattr(self._sampler, "blueprint", None)
        if blueprint is None:
            return []
        key = f"{self._prefix}blueprint.json"
        return [_recorded("blueprint", self._patiently(lambda: self._store.put_bytes(key, blueprint)))]

    def _assignment(self) -> Assignment:
        receipts = Receipts(self._store, self._job["id"], self._patiently)
        talks = Talks(
            providers_of(self._settings),
            receipts,
            lambda usage: self._voice.usage(dataclasses.asdict(usage)),
            self._learned,
        )
        return Assignment(talks, self._job["rows"], self._job["replicates"])

    def _fitting(self, fraction: float, detail: str = "", eta_seconds: float | None = None) -> None:
        self._voice.progress("fit", fraction, detail, eta_seconds)

    def _warn_of_schema(self, pointer: str, message: str) -> None:
        self._warn("/schema" + pointer, message)

    def _warn(self, pointer: str, message: str) -> None:
        warning = {"pointer": pointer, "message": message}
        if warning not in self._warnings:
            self._warnings.append(warning)

    def _seed(self, stream: int) -> SeedSequence:
        """Return a stream of the job's seed: 0 for fit, r for replicate r, as `spawn` would number them.

        Made anew for each use: a SeedSequence counts what was spawned from it.
        """
        return SeedSequence(self._job["seed"], spawn_key=(stream,))

    def store_model(self) -> dict[str, Any]:
        """Store the fitted sampler for other workers."""
        assert self._sampler is not None
        data = pickle.dumps(self._sampler, protocol=5)
        return _recorded(
            "model", self._patiently(lambda: self._store.put_bytes(f"{self._prefix}model", data))
        )

    def load_model(self, model: dict[str, Any]) -> None:
        """Take the sampler that another worker fitted; its bytes are checked before they are unpickled."""
        self._sampler = pickle.loads(self._local(model).read_bytes())

    # sample, check, store ----------------------------------------------------------------------------

    def sample(self) -> list[dict[str, Any]]:
        """Make all rows, shard by shard; return the stored parts."""
        total, made, began = self._job["rows"] * self._job["replicates"], 0, time.monotonic()
        parts = []
        for replicate, number, rows in plan_shards(self._job["rows"], self._job["replicates"]):
            parts.append(self.sample_shard(replicate, number, rows))
            made += rows
            eta = (time.monotonic() - began) * (total - made) / made
            self._voice.progress("sample", made / total, f"{made} of {total} rows", round(eta, 1), made)
        return parts

    def sample_shard(self, replicate: int, number: int, rows: int) -> dict[str, Any]:
        """Make, check and store one shard."""
        assert self._sampler is not None
        frame = self._sampler.sample_shard(number, rows, seed=self._seed(replicate))
        judging.check_shard(frame, self._schema, rows)
        path = self._scratch / f"data-{replicate}-{number}.parquet"
        # No job id, time or worker within: a part is a function of request, seed and version alone. No
        # statistics either: whoever reads a part reads it whole, and they are a fifth of the work of writing.
        pq.write_table(
            frames.to_arrow(frame, self._schema),
            path,
            compression="zstd",
            compression_level=1,
            write_statistics=False,
        )
        key = f"{self._prefix}data-{replicate:03d}-{number:05d}.parquet"
        stored = self._patiently(lambda: self._store.put_file(key, path))
        return _recorded("data", stored, replicate=replicate, part=number, rows=rows)

    # evaluate, release -------------------------------------------------------------------------------

    def evaluate(
        self, parts: list[dict[str, Any]], told: list[dict[str, Any]], warnings: list[dict[str, str]]
    ) -> dict[str, Any]:
        """Evaluate the stored rows; store report and page; decide on the release.

        What the generator told of them (`told`: its blueprint, where it has one) goes into the report.
        Where evaluating goes wrong the job still succeeds: the report says so, and limits withhold.
        """
        self._voice.progress("evaluate", 0.0)
        paths = [(part["replicate"], self._local(part)) for part in parts]
        blueprint = json.loads(self._local(told[0]).read_bytes()) if told else None
        return self._evaluate(paths, warnings, blueprint)

    def evaluate_uploaded(self, warnings: list[dict[str, str]]) -> dict[str, Any]:
        """Evaluate a table that was uploaded, by the same code as rows that were made here.

        A table that cannot be read by the job's schema fails the job: there is nothing else to keep.
        """
        self._voice.progress("evaluate", 0.0)
        path = self._scratch / "uploaded.parquet"
        stored = self._dataset("synthetic")
        for warning in judging.read_uploaded(stored, path, self._schema, self._settings.min_cell):
            self._warn(**warning)
        stored.unlink()
        self._real_table()
        return self._evaluate([(1, path)], warnings)

    def _evaluate(
        self,
        paths: list[tuple[int, Path]],
        warnings: list[dict[str, str]],
        blueprint: dict[str, Any] | None = None,
    ) -> dict[str, Any]:
        try:
            real = self._real_table() if self._job["reference_id"] is not None else None
            warnings = warnings + [item for item in self._warnings if item not in warnings]
            judged = judging.judge(
                self._job,
                self._schema,
                paths,
                real,
                warnings=warnings,
                blueprint=blueprint,
                settings=self._settings,
                progress=lambda fraction, step: self._voice.progress("evaluate", fraction, step),
            )
        except ServiceUnavailable:
            raise
        except SynthwardError as error:
            judged = self._without_figures(error.detail, warnings)
        except (MemoryError, Exception) as error:
            incident = new_id("incident")
            told = {"incident": incident, "job": self._job["id"]}
            logger.error("evaluation failed", exc_info=error, extra=told)
            reason = f"the evaluation stopped with an unexpected error (incident {incident})"
            judged = self._without_figures(reason, warnings)
        return self._store_report(judged, warnings)

    def report_death(self, warnings: list[dict[str, str]]) -> dict[str, Any]:
        """Write the report of an evaluation that ended its process again and again."""
        reason = "the evaluation ended its process every time it was tried, most likely for want of memory"
        return self._store_report(self._without_figures(reason, warnings), warnings)

    def _without_figures(self, reason: str, warnings: list[dict[str, str]]) -> judging.Judged:
        return judging.without_figures(
            self._job, self._schema, reason, warnings=warnings, settings=self._settings
        )

    def _store_report(self, judged: judging.Judged, warnings: list[dict[str, str]]) -> dict[str, Any]:
        self._voice.progress("release", 0.0)
        artifacts = []
        for name, file, data in (
            ("report", "report.json", judged.report),
            ("page", "report.html", judged.page),
        ):
            stored = self._patiently(partial(self._store.put_bytes, f"{self._prefix}{file}", data))
            artifacts.append(_recorded(name, stored))
        return {"artifacts": artifacts, "release": judged.release, "warnings": warnings}

    def _real_table(self) -> judging.RealTable:
        if self._real is None:
            path, cell = self._dataset("reference"), self._settings.min_cell
            if self._job["options"].get("holdout_id") is not None and self._job["kind"] == "evaluation":
                held = self._dataset("holdout")
                self._real = judging.read_parts(path, held, self._schema, cell)
                held.unlink(missing_ok=True)
            else:
                self._real = judging.read_reference(
                    path, self._job["reference"], self._schema, self._job["evaluation"], cell
                )
            for warning in self._real.warnings:
                self._warn(**warning)
            path.unlink(missing_ok=True)  # real rows stay on disk no longer than needed
        return self._real

    def _dataset(self, role: str) -> Path:
        stored = self._job[role]
        if stored is None:
            name = {"reference": "real table", "synthetic": "synthetic table"}.get(role, role)
            raise ArtifactMissing(f"The job's {name} was deleted; upload it again and post a new job.")
        return self._local({"key": stored["key"], "sha256": stored["key_sha256"]})

    def _local(self, stored: Mapping[str, Any]) -> Path:
        """Return a local copy of a stored file, checked against its sha256."""
        path: Path = self._scratch / stored["key"].replace("/", "-")
        made_here = self._scratch / f"data-{stored.get('replicate')}-{stored.get('part')}.parquet"
        if made_here.exists():
            return made_here
        if not path.exists():
            self._patiently(lambda: self._store.fetch(stored["key"], stored["sha256"], path))
        return path

    def _patiently(self, action: Callable[[], Any]) -> Any:
        """Do something with the store, again where it is away."""
        for pause in _STORE_PATIENCE:
            try:
                return action()
            except ServiceUnavailable:
                logger.warning("the store is away", extra={"again_in": pause})
                time.sleep(pause)
        return action()


def _recorded(name: str, stored: Stored, **more: Any) -> dict[str, Any]:
    return {"name": name, "key": stored.key, "sha256": stored.sha256, "bytes": stored.bytes, **more}
