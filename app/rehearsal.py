"""A job without its rows: fits a generator to a schema in a process of its own, and tells what it said.

So a dry run says what would be adapted and repaired, which takes the numerics that the API does not load.
Generators that learn from a real table or ask a language model are not rehearsed: that is the job itself.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
from dataclasses import dataclass
from typing import Any

from app.errors import Fault, InvalidInput, RowShortfall
from app.processes import without_secrets

SECONDS = 20.0
ROWS = 200
"""Rows that are made on trial: rules that cannot be met are found by it, most of the time."""

_AT_ONCE = 2
_NICE = 5
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Rehearsed:
    """What fitting said.

    Parameters
    ----------
    warnings : tuple of Fault
        What would be adapted, or could not be made.
    repairs : tuple of dict
        What was asked and cannot be together, beside what the rows would have instead.
    """

    warnings: tuple[Fault, ...] = ()
    repairs: tuple[dict[str, Any], ...] = ()


class Rehearsals:
    """Rehearses at most two jobs at once; the others wait for their turn. Used from the event loop."""

    def __init__(self) -> None:
        self._slots = asyncio.Semaphore(_AT_ONCE)

    async def rehearse(
        self, generator: str, options: dict[str, Any], schema: dict[str, Any], seed: int, rows: int
    ) -> Rehearsed:
        """Fit, and make a few rows that nobody sees.

        Raises
        ------
        InvalidInput
            Where the generator refuses what it is asked; the pointers lead into the request.
        """
        order = {"generator": generator, "options": options, "schema": schema, "seed": seed, "rows": rows}
        async with self._slots:
            answer = await _asked_of_child(order)
        if answer is None:
            return Rehearsed(
                (Fault("/generator", "What would be repaired could not be found out within a dry run."),)
            )
        if answer["faults"]:
            raise InvalidInput([Fault(**fault) for fault in answer["faults"]])
        return Rehearsed(tuple(Fault(**item) for item in answer["warnings"]), tuple(answer["repairs"]))


async def _asked_of_child(order: dict[str, Any]) -> dict[str, Any] | None:
    """Return the child's answer; None where it came to no end, or to a bad one."""
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "app.rehearsal",
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
        env=without_secrets(), start_new_session=True,
    )  # fmt: skip
    try:
        async with asyncio.timeout(SECONDS):
            output, _ = await child.communicate(json.dumps(order).encode())
    except TimeoutError:
        return None
    finally:
        if child.returncode is None:
            child.kill()
            await asyncio.shield(child.wait())
    if child.returncode != 0:
        _log.warning("a rehearsal of %s ended with %s", order["generator"], child.returncode)
        return None
    answer: dict[str, Any] = json.loads(output)
    return answer


def perform(order: dict[str, Any]) -> dict[str, Any]:
    """Carry out a rehearsal in this process."""
    from numpy.random import SeedSequence

    from app.generators import registry
    from app.schema.parse import parse_schema

    warnings: list[dict[str, str]] = []

    def warn(at: str, message: str) -> None:
        warning = {"pointer": f"/schema{at}", "message": message}
        if warning not in warnings:
            warnings.append(warning)

    schema, _ = parse_schema(order["schema"])
    kind = registry.load(order["generator"])
    generator = kind(kind.Options.model_validate(order["options"]))
    seed, sampler = order["seed"], None
    try:
        sampler = generator.fit(
            schema, None, seed=SeedSequence(seed, spawn_key=(0,)), progress=lambda *_, **__: None, warn=warn
        )
        sampler.sample_shard(0, min(order["rows"], ROWS), seed=SeedSequence(seed, spawn_key=(1,)))
    except InvalidInput as error:
        faults = [{"pointer": f"/schema{fault.pointer}", "message": fault.message} for fault in error.faults]
        return {"faults": faults, "warnings": [], "repairs": []}
    except RowShortfall as error:
        warn("", f"The job would fail. {error.detail}")
    return {"faults": [], "warnings": warnings, "repairs": list(getattr(sampler, "repairs", ()))}


def main() -> None:
    """Read an order from standard input, and write the answer to what standard output was."""
    os.nice(_NICE)  # those whose jobs were accepted go first
    answers = sys.stdout
    sys.stdout = sys.stderr  # a generator that prints must not spoil the answer
    answers.write(json.dumps(perform(json.load(sys.stdin))))
    answers.flush()


if __name__ == "__main__":
    main()
