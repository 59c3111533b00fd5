"""The story of one job: claim → fit → sample → check → store → evaluate → release → finish."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import select
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

from sqlalchemy import Engine
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, ProgrammingError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from app.config import Settings
from app.errors import OutOfMemory, ServiceUnavailable, SynthwardError, WorkerLost
from app.generators.base import SHARD_ROWS
from app.jobs import leases, transcript
from app.jobs.leases import Artifact, Claim, LeaseLost, Progress, ShardClaim
from app.problem_objects import problem_of
from app.queue import CeleryQueue
from app.scratch import Scratch
from app.storage import ArtifactStore
from workers.processes import Stopping
from workers.shards import plan_shards
from workers.slot import Child, ChildDied, Slot

logger = logging.getLogger("synthward.pipeline")

_LOOK = 0.4  # s between looks at whether a job is to be cancelled
_DATABASE_PATIENCE = 900.0  # s that an outcome waits for a database that is away
_EVALUATION_DEATHS = 2  # as often a child may die of an evaluation before the rows go out without one
_AFTER_ROWS = frozenset({"evaluate", "release"})
_MOST_RINGS = 16

# Where each stage begins and ends on the job's progress, for generators that train long and for the others.
_LIGHT = {"fit": (0.0, 0.05), "sample": (0.05, 0.70), "store": (0.70, 0.72), "evaluate": (0.72, 0.98)}
_HEAVY = {"fit": (0.0, 0.80), "sample": (0.80, 0.90), "store": (0.90, 0.91), "evaluate": (0.91, 0.98)}
_END = {"check": (0.72, 0.72), "release": (0.98, 1.0)}

Answer = TypeVar("Answer")


class Cancelled(Exception):
    """The job's owner asked to stop it."""


class WorkFailed(Exception):
    """The child says that the work cannot be done; `problem` tells the owner why."""

    def __init__(self, problem: dict[str, Any]) -> None:
        super().__init__(problem.get("type"))
        self.problem = problem

    @property
    def expected(self) -> bool:
        """Whether the child knew what it was about; a bug or want of memory may have left anything in it."""
        return "incident" not in self.problem and self.problem.get("type") != f"/problems/{OutOfMemory.slug}"


class StoreAway(Exception):
    """The child could not reach the store for long; the job is to be tried again."""


@dataclass(frozen=True, slots=True)
class Desk:
    """What a pool process works with. `stopping` becomes readable when the process is to end."""

    settings: Settings
    engine: Engine
    store: ArtifactStore
    queue: CeleryQueue
    slot: Slot
    stopping: int


# The story ------------------------------------------------------------------------------------------


def run_job(desk: Desk, job_id: str) -> None:
    """Claim a job and bring it to its end, or to where other workers take part."""
    held = leases.claim(desk.engine, job_id, lease=desk.settings.lease)
    if held is None:
        return
    lease = JobLease(desk, held)
    with _settled(lease):
        lease.refuse_hopeless()
        with _at_work(lease) as work:
            if held.work.kind == "evaluation":
                order = "report_death" if lease.evaluation_is_hopeless else "evaluate_uploaded"
                judged = work.ask(order, warnings=list(held.warnings))
                _finish(lease, _artifacts(judged["artifacts"]), judged["warnings"], release=judged["release"])
                return
            if held.sampled:
                rows = leases.artifacts(desk.engine, job_id, "data")
                told = leases.artifacts(desk.engine, job_id, "blueprint")
                warnings: list[dict[str, str]] = []
            else:
                fitted = work.ask("fit")
                told, warnings = _artifacts(fitted["told"]), fitted["warnings"]
                if lease.large:
                    _share_out(lease, work, told, warnings)
                    return
                answer = work.ask("sample")
                rows, warnings = _artifacts(answer["parts"]), answer["warnings"]
            if not held.work.evaluation.get("enabled", True):
                _finish(lease, [*told, *rows], warnings, release=_unassessed(held))
                return
            if not held.sampled:
                lease.stage = "store"
                _patiently(lease, lambda: leases.record_sampled(desk.engine, held, [*told, *rows], warnings))
            judged = work.ask(
                "report_death" if lease.evaluation_is_hopeless else "evaluate",
                parts=[dataclasses.asdict(part) for part in rows],
                told=[dataclasses.asdict(document) for document in told],
                warnings=[*held.warnings, *warnings],
            )
            _finish(lease, _artifacts(judged["artifacts"]), judged["warnings"], release=judged["release"])


def run_shards(desk: Desk, job_id: str) -> None:
    """Make shards of a large job until none waits; whoever makes the last rings for the end."""
    held = leases.claim_shard(desk.engine, job_id, lease=desk.settings.lease)
    if held is None:
        _quietly(lambda: settle_cancelled(desk.engine, desk.store, job_id, desk.settings))
        return
    (model,) = leases.artifacts(desk.engine, job_id, "model")
    lease = ShardLease(desk, held)
    with _settled(lease), _at_work(lease) as work:
        work.ask("load_model", model=dataclasses.asdict(model))
        while True:
            lease.refuse_hopeless()
            answer = work.ask("sample_shard", **lease.shard)
            if _finish_shard(lease, _artifacts([answer["part"]])[0]):
                return
            if not lease.next():
                _quietly(lambda: settle_cancelled(desk.engine, desk.store, job_id, desk.settings))
                return


def settle_cancelled(engine: Engine, store: ArtifactStore, job_id: str, settings: Settings) -> None:
    """End a job that is to be cancelled and that nobody works on, with its files; else do nothing."""
    if leases.settle_cancelled(engine, job_id, job_ttl=settings.job_ttl):
        store.delete_prefix(f"jobs/{job_id}/")
        logger.info("cancelled", extra={"job": job_id})


def _share_out(
    lease: JobLease, work: Attempt, told: Sequence[Artifact], warnings: Sequence[dict[str, str]]
) -> None:
    """Store the fitted model and ring for workers to make the shards."""
    desk, held = lease.desk, lease.held
    (model,) = _artifacts([work.ask("store_model")["model"]])
    shards = plan_shards(held.work.rows, held.work.replicates)
    _patiently(lease, lambda: leases.share_out(desk.engine, held, [model, *told], shards, warnings))
    for _ in range(min(len(shards), _MOST_RINGS)):
        _ring(lambda: desk.queue.send_shards(held.work.id))


def _finish_shard(lease: ShardLease, part: Artifact) -> bool:
    """Record a shard; return whether it was the last."""
    desk, held = lease.desk, lease.held
    last = _patiently(
        lease,
        lambda: leases.finish_shard(desk.engine, held, part, fraction=_spans(desk, held.work)["sample"]),
    )
    if last:
        _ring(lambda: desk.queue.send(held.work.id, "heavy"))
    return bool(last)


def _finish(
    lease: JobLease,
    artifacts: Sequence[Artifact],
    warnings: Sequence[dict[str, str]],
    *,
    release: dict[str, Any],
) -> None:
    """End the job well, and tidy up what attempts that died have left."""
    desk, held = lease.desk, lease.held
    _patiently(
        lease,
        lambda: leases.succeed(
            desk.engine, held, artifacts, warnings=warnings, release=release, job_ttl=desk.settings.job_ttl
        ),
    )
    _tell(lease, "succeeded")
    if held.attempt > 1 or held.phase != "whole":
        _quietly(lambda: tidy(desk.engine, desk.store, held.work.id))


def _unassessed(held: Claim) -> dict[str, Any]:
    """Without an evaluation nothing is assessed, and a limit that was asked for withholds."""
    if not held.work.release_limits:
        return {"decision": "not_assessed", "reasons": ["no release limit was asked for"]}
    reasons = [
        f"{name} {limit:g}: not measured, for there is no evaluation"
        for name, limit in held.work.release_limits.items()
    ]
    return {"decision": "withheld", "reasons": reasons}


def tidy(engine: Engine, store: ArtifactStore, job_id: str) -> None:
    """Delete the files of an ended job that nobody recorded; receipts stay with the job."""
    recorded = leases.recorded_keys(engine, job_id)
    for key in store.keys(f"jobs/{job_id}/"):
        if key not in recorded and not key.startswith(transcript.folder(job_id)):
            store.delete_prefix(key)


# Leases: what is held, how it is kept, and the ways in which it ends --------------------------------


class Lease(Protocol):
    """A claim on a job or a shard, kept while a child works. `stage` is where the work stands."""

    desk: Desk
    stage: str

    @property
    def work(self) -> leases.Work:
        """What the job asks for."""

    @property
    def attempt(self) -> int:
        """The number of this claim on the job or shard."""

    @property
    def prefix(self) -> str:
        """Where this attempt, and no other, writes its files."""

    def renew(self, progress: Progress) -> bool:
        """Renew; return whether to cancel; raise LeaseLost."""

    def cancelled(self) -> None:
        """Stop as the owner asked; raise LeaseLost."""

    def failed(self, problem: dict[str, Any]) -> None:
        """End the job badly; raise LeaseLost."""

    def give_back(self) -> None:
        """Let another attempt go on at once; this one does not count."""

    def give_up(self, pause: float) -> None:
        """Let another attempt go on after `pause` seconds; this one counts."""

    def ended_here(self) -> bool:
        """Whether this claim came to its end although the answer to that was lost."""


class JobLease:
    """A claim on a whole job."""

    def __init__(self, desk: Desk, held: Claim) -> None:
        self.desk, self.held = desk, held
        self.stage = "evaluate" if self.has_rows else "fit"

    @property
    def work(self) -> leases.Work:
        """What the job asks for."""
        return self.held.work

    @property
    def attempt(self) -> int:
        """The number of this claim on the job."""
        return self.held.attempt

    @property
    def prefix(self) -> str:
        """Where this attempt, and no other, writes its files."""
        return f"jobs/{self.work.id}/a{self.held.attempt}-{self.held.holder[-8:]}/"

    @property
    def has_rows(self) -> bool:
        """Whether the rows are there: made by an earlier attempt, or uploaded."""
        return self.held.sampled or self.work.kind == "evaluation"

    @property
    def large(self) -> bool:
        """Whether several workers are to make the rows."""
        work = self.work
        several = work.rows > SHARD_ROWS or work.replicates > 1
        return (
            self.held.queue == "heavy"
            and several
            and work.rows * work.replicates >= self.desk.settings.heavy_rows
        )

    def refuse_hopeless(self) -> None:
        """Raise where the job is not to be worked on: cancelled, or tried too often."""
        if self.held.cancel_requested:
            raise Cancelled
        # Rows that are there are not lost to an evaluation that kills workers: two more attempts, without it.
        spare = _EVALUATION_DEATHS if self.has_rows else 0
        _refuse_worn_out(self.attempt - spare, self.desk.settings)

    @property
    def evaluation_is_hopeless(self) -> bool:
        """Whether evaluating has ended processes so often that the rows go out without."""
        worn_out = self.attempt > self.desk.settings.max_attempts
        return worn_out or self.held.evaluate_failures >= _EVALUATION_DEATHS

    def renew(self, progress: Progress) -> bool:
        """Renew; return whether to cancel."""
        return leases.renew(self.desk.engine, self.held, progress, lease=self.desk.settings.lease)

    def cancelled(self) -> None:
        """End the job as its owner asked."""
        leases.cancelled(self.desk.engine, self.held, job_ttl=self.desk.settings.job_ttl)

    def failed(self, problem: dict[str, Any]) -> None:
        """End the job badly."""
        leases.fail(self.desk.engine, self.held, problem, job_ttl=self.desk.settings.job_ttl)

    def give_back(self) -> None:
        """Let another attempt go on at once; this one does not count."""
        leases.give_back(self.desk.engine, self.held)

    def give_up(self, pause: float) -> None:
        """Let another attempt go on after `pause` seconds; this one counts."""
        evaluating = self.stage in _AFTER_ROWS
        leases.give_up(self.desk.engine, self.held, pause=pause, evaluating=evaluating)
        if pause == 0:
            _ring(lambda: self.desk.queue.send(self.work.id, self.held.queue))

    def ended_here(self) -> bool:
        """Whether this claim ended the job although the answer was lost."""
        return leases.has_ended_so(self.desk.engine, self.held)


class ShardLease:
    """A claim on one shard after the other of a large job."""

    def __init__(self, desk: Desk, held: ShardClaim) -> None:
        self.desk, self.held = desk, held
        self.stage = "sample"

    @property
    def work(self) -> leases.Work:
        """What the job asks for."""
        return self.held.work

    @property
    def attempt(self) -> int:
        """The number of this claim on the shard."""
        return self.held.attempt

    @property
    def prefix(self) -> str:
        """Where this attempt, and no other, writes its files."""
        held = self.held
        return f"jobs/{self.work.id}/s{held.replicate}-{held.number}-{held.attempt}-{held.holder[-8:]}/"

    @property
    def shard(self) -> dict[str, Any]:
        """The shard, as a child is told."""
        held = self.held
        return {"replicate": held.replicate, "number": held.number, "rows": held.rows, "prefix": self.prefix}

    def next(self) -> bool:
        """Claim the next shard that waits; return whether there was one."""
        held = leases.claim_shard(self.desk.engine, self.work.id, lease=self.desk.settings.lease)
        if held is not None:
            self.held = held
        return held is not None

    def refuse_hopeless(self) -> None:
        """Raise where the shard is not to be made: it was tried too often."""
        _refuse_worn_out(self.held.attempt, self.desk.settings)

    def renew(self, progress: Progress) -> bool:
        """Renew; return whether to cancel. What a job shows is how many shards are done."""
        return leases.renew_shard(self.desk.engine, self.held, lease=self.desk.settings.lease)

    def cancelled(self) -> None:
        """Leave the shard; the last to leave ends the job."""
        leases.give_back_shard(self.desk.engine, self.held)
        leases.settle_cancelled(self.desk.engine, self.work.id, job_ttl=self.desk.settings.job_ttl)

    def failed(self, problem: dict[str, Any]) -> None:
        """End the whole job badly."""
        leases.fail_sharing(self.desk.engine, self.held, problem, job_ttl=self.desk.settings.job_ttl)

    def give_back(self) -> None:
        """Let another attempt make the shard at once; this one does not count."""
        leases.give_back_shard(self.desk.engine, self.held)

    def give_up(self, pause: float) -> None:
        """Let another attempt make the shard; this one counts."""
        leases.give_up_shard(self.desk.engine, self.held)
        _ring(lambda: self.desk.queue.send_shards(self.work.id))

    def ended_here(self) -> bool:
        """Whether this claim is known to have ended well although the answer was lost."""
        return leases.shard_is_done(self.desk.engine, self.held)


def _refuse_worn_out(attempt: int, settings: Settings) -> None:
    if attempt > settings.max_attempts:
        error = WorkerLost(
            f"Workers died on this job {settings.max_attempts} times, as often as is tolerated. "
            "Tell the operator, and try fewer rows or columns."
        )
        raise WorkFailed(problem_of(error))


# An attempt, supervised -----------------------------------------------------------------------------


@dataclass
class Attempt:
    """A child at work: its lease is renewed, and cancellation seen, whatever native code it is in."""

    lease: Lease
    child: Child
    scratch: Path
    progress: Progress
    began: bool = False

    def __post_init__(self) -> None:
        desk = self.lease.desk
        self._spans = _spans(desk, self.lease.work)
        self._renew_at = time.monotonic() + desk.settings.heartbeat
        self._look_at = time.monotonic() + _LOOK
        self._database_away_since: float | None = None

    def ask(self, order: str, **more: Any) -> dict[str, Any]:
        """Have the child carry out an order; return its answer.

        Raises
        ------
        Cancelled, Stopping, LeaseLost, ChildDied, WorkFailed, StoreAway
            Instead of an answer.
        """
        if not self.began:
            self.began = True
            job = dataclasses.asdict(self.lease.work)
            self._asked(
                {"do": "begin", "job": job, "prefix": self.lease.prefix, "scratch": str(self.scratch)}
            )
        return self._asked({"do": order, **more})

    def _asked(self, order: dict[str, Any]) -> dict[str, Any]:
        self.child.order(order)
        answers, stopping = self.child.fileno(), self.lease.desk.stopping
        while True:
            pause = max(0.0, min(self._renew_at, self._look_at) - time.monotonic())
            ready, _, _ = select.select([answers, stopping], [], [], pause)
            if stopping in ready:
                raise Stopping
            if answers in ready:
                for message in self.child.answers():
                    if "progress" in message:
                        self._note(message["progress"])
                    elif "usage" in message:
                        self._note_usage(message["usage"])
                    elif "done" in message:
                        answer: dict[str, Any] = message["done"]
                        return answer
                    elif "failed" in message:
                        raise WorkFailed(message["failed"])
                    elif "away" in message:
                        raise StoreAway
            self._keep()

    def _note(self, told: dict[str, Any]) -> None:
        self.lease.stage = told["stage"]
        begin, end = self._spans[told["stage"]]
        self.progress = Progress(
            stage=told["stage"],
            fraction=begin + (end - begin) * min(1.0, max(0.0, told["fraction"])),
            detail=told["detail"],
            eta_seconds=told["eta_seconds"],
            rows_written=told["rows"] or self.progress.rows_written,
            usage=self.progress.usage,
        )

    def _note_usage(self, told: dict[str, Any]) -> None:
        """Write what a language model has cost at once: it is spent, whatever becomes of the attempt."""
        self.progress = dataclasses.replace(self.progress, usage=told)
        self._renew_at = 0.0
        self._keep()

    def _keep(self) -> None:
        """Renew the lease and look for cancellation when it is time."""
        moment = time.monotonic()
        try:
            if moment >= self._renew_at:
                cancel = self.lease.renew(self.progress)
                self._renew_at = time.monotonic() + self.lease.desk.settings.heartbeat
            elif moment >= self._look_at:
                cancel = leases.cancel_requested(self.lease.desk.engine, self.lease.work.id)
            else:
                return
        except Exception as error:
            self._database_away_since = self._database_away_since or moment
            if not database_is_away(error) or moment - self._database_away_since > _DATABASE_PATIENCE:
                raise
            logger.warning("the database is away", extra={"job": self.lease.work.id})
            self._renew_at = self._look_at = time.monotonic() + self.lease.desk.settings.heartbeat
            return
        self._database_away_since = None
        self._look_at = time.monotonic() + _LOOK
        if cancel:
            raise Cancelled


def _spans(desk: Desk, work: leases.Work) -> dict[str, tuple[float, float]]:
    if work.kind == "evaluation":
        return {"evaluate": (0.0, 0.98)} | _END
    from app.generators import registry

    heavy = registry.load(work.generator).capabilities.heavy
    return (_HEAVY if heavy else _LIGHT) | _END


@contextlib.contextmanager
def _at_work(lease: Lease) -> Iterator[Attempt]:
    """Lend a child and a scratch folder; the child is kept where it came to an end of its own.

    That is also a refusal with a reason: what it has learned of a provider that fails is worth keeping then.
    """
    desk = lease.desk
    scratch = Scratch(desk.settings.scratch_dir)
    child = desk.slot.take()
    try:
        yield Attempt(lease, child, scratch.path, Progress(lease.stage, 0.0))
    except WorkFailed as failure:
        if failure.expected:
            desk.slot.put_back(child)
        else:
            desk.slot.discard(child, patience=desk.settings.kill_after)
        raise
    except BaseException:
        desk.slot.discard(child, patience=desk.settings.kill_after)
        raise
    else:
        desk.slot.put_back(child)
    finally:
        scratch.remove()


@contextlib.contextmanager
def _settled(lease: Lease) -> Iterator[None]:
    """Bring whatever stops an attempt to the end that it deserves."""
    try:
        yield
    except Cancelled:
        if _written(lease, lease.cancelled):
            _delete_all_files(lease)
        _tell(lease, "cancelled")
    except WorkFailed as failure:
        _fail(lease, failure.problem)
    except Stopping:
        _quietly(lambda: _delete_unrecorded(lease))
        _quietly(lease.give_back)
        _tell(lease, "given back")
    except LeaseLost:
        _quietly(lambda: _delete_unrecorded(lease))
        _tell(lease, "lease lost")
    except StoreAway:
        _written(lease, lambda: lease.give_up(lease.desk.settings.lease))
        _tell(lease, "store away")
    except ChildDied as death:
        _tell(lease, "child died", status=death.status, out_of_memory=death.out_of_memory)
        last = lease.attempt >= lease.desk.settings.max_attempts
        if last and death.out_of_memory and lease.stage not in _AFTER_ROWS:
            error = OutOfMemory(
                "The system ended the job's process for want of memory, at every attempt. Ask for fewer "
                "columns or levels, or a lighter generator."
            )
            _fail(lease, problem_of(error))
        else:
            _quietly(lambda: _delete_unrecorded(lease))
            _written(lease, lambda: lease.give_up(0.0))


def _fail(lease: Lease, problem: dict[str, Any]) -> None:
    if _written(lease, lambda: lease.failed(problem)):
        # What was asked and answered is paid for, and tells why.
        _quietly(lambda: tidy(lease.desk.engine, lease.desk.store, lease.work.id))
    _tell(lease, "failed", problem=problem.get("type"), incident=problem.get("incident"))


def _tell(lease: Lease, event: str, **more: Any) -> None:
    logger.info(event, extra={"job": lease.work.id, "attempt": lease.attempt, "stage": lease.stage} | more)


def _written(lease: Lease, write: Callable[[], None]) -> bool:
    """Write an outcome; return whether the lease still allowed it."""
    try:
        _patiently(lease, write)
    except LeaseLost:
        return False
    return True


def _patiently(lease: Lease, write: Callable[[], Answer]) -> Answer | None:
    """Write an outcome, again where the database is away; None where a commit's answer alone was lost."""
    give_up_at = time.monotonic() + _DATABASE_PATIENCE
    pause = 0.1
    tried = False
    while True:
        try:
            return write()
        except LeaseLost:
            if tried and lease.ended_here():
                return None
            raise
        except Exception as error:
            if not database_is_away(error) or time.monotonic() > give_up_at:
                raise
            tried = True
            _tell(lease, "database away", again_in=pause)
            ready, _, _ = select.select([lease.desk.stopping], [], [], pause)
            if ready:
                raise Stopping from error
            pause = min(2.0, pause * 2)


def database_is_away(error: BaseException) -> bool:
    """Whether an error says that the database is away for now, rather than that a statement is wrong."""
    if isinstance(error, PoolTimeout):
        return True
    return isinstance(error, DBAPIError) and not isinstance(
        error, IntegrityError | ProgrammingError | DataError
    )


def _delete_all_files(lease: Lease) -> None:
    _quietly(lambda: lease.desk.store.delete_prefix(f"jobs/{lease.work.id}/"))


def _delete_unrecorded(lease: Lease) -> None:
    recorded = leases.recorded_keys(lease.desk.engine, lease.work.id)
    for key in lease.desk.store.keys(lease.prefix):
        if key not in recorded:
            lease.desk.store.delete_prefix(key)


def _ring(send: Callable[[], None]) -> None:
    """Ring; where that fails the sweeper does it."""
    with contextlib.suppress(ServiceUnavailable):
        send()


def _quietly(action: Callable[[], None]) -> None:
    """Do what the sweeper would do later where it fails now."""
    try:
        action()
    except (SynthwardError, LeaseLost, DBAPIError, PoolTimeout) as error:
        logger.warning("left to the sweeper", exc_info=error)


def _artifacts(told: Sequence[dict[str, Any]]) -> list[Artifact]:
    return [Artifact(**item) for item in told]
