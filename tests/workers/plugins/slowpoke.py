"""A generator for the tests of workers: slow, stubborn or broken, as its options say."""

from __future__ import annotations

import ctypes
import os
import signal
import time
from typing import Any, Literal

from pydantic import BaseModel

from app.errors import RowShortfall
from app.generators.base import Capabilities

SECRET_CELL = "a-cell-of-a-real-table"


class Options(BaseModel):
    model_config = {"extra": "forbid", "frozen": True}

    fit_seconds: float = 0.0
    shard_seconds: float = 0.0
    trouble: Literal["none", "native", "raise", "memory", "shortfall", "print", "segfault", "full", "few"] = (
        "none"
    )
    uses_mb: int = 0
    leaks_mb: int = 0


LEAKED: list[bytes] = []


class Draws:
    def __init__(self, schema: Any, options: Options) -> None:
        self.schema, self.options = schema, options

    def sample_shard(self, index: int, n_rows: int, *, seed: Any) -> Any:
        import numpy as np
        import pandas as pd

        from app.schema import frames

        time.sleep(self.options.shard_seconds)
        if self.options.trouble == "few":
            n_rows -= 1
        rng = np.random.default_rng([*seed.generate_state(4), index])
        return pd.DataFrame(
            {
                field.name: frames.column(field, rng.integers(0, 1000, n_rows))
                if field.type == "integer"
                else frames.column(field, rng.random(n_rows))
                for field in self.schema.fields
            }
        )


class Slowpoke:
    name = "slowpoke"
    description = "Takes its time."
    version = "1"
    capabilities = Capabilities()
    Options = Options

    def __init__(self, options: Options) -> None:
        self.options = options

    def fit(self, schema: Any, train: Any, *, seed: Any, progress: Any, warn: Any) -> Draws:
        match self.options.trouble:
            case "native":
                ctypes.PyDLL(None).sleep(600)  # holds the GIL: no Python runs in this process
            case "raise":
                raise ValueError(SECRET_CELL)
            case "memory":
                raise MemoryError(SECRET_CELL)
            case "shortfall":
                raise RowShortfall(10, 3, "rule 1 is to blame; loosen it.")
            case "print":
                print(SECRET_CELL)  # noqa: T201
                os.write(1, SECRET_CELL.encode())
                os.write(2, SECRET_CELL.encode())
            case "segfault":
                os.kill(os.getpid(), signal.SIGSEGV)
            case "full":
                raise OSError(28, "No space left on device")
        # In small pieces, with something in use above them: the C library keeps those when they are freed.
        used = [bytes(20_000) for _ in range(50 * self.options.uses_mb)]
        LEAKED.append(bytes(20_000))
        del used
        LEAKED.extend(b"x" * 20_000 for _ in range(50 * self.options.leaks_mb))
        steps = 20
        for step in range(steps):
            time.sleep(self.options.fit_seconds / steps)
            progress(step / steps, f"step {step} of {steps}")
        warn("/fields/0", "it takes its time")
        return Draws(schema, self.options)
