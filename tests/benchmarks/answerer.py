"""An artificial language model for the recorder's own tests: it knows brain_cancer's dictionary, no rows."""

from __future__ import annotations

import random
import re
from typing import Any

from tests.unit.generators.llm.oracle import Oracle

COLUMNS: dict[str, tuple[list[float], float | None]] = {
    "sex": ([50, 50], 0),
    "diagnosis": ([40, 15, 30, 15], 2),
    "loc": ([20, 80], 0),
    "ki": ([40, 60, 70, 80, 90, 100, 100], 0),
    "gtv": ([0.1, 0.8, 3, 7, 14, 30, 60], 0),
    "stereo": ([40, 60], 0),
    "status": ([40], 0),
    "time": ([1, 4, 12, 24, 40, 65, 90], 0),
}
PATCHES = [
    {"kind": "pair", "columns": ["ki", "time"], "level": None, "numbers": [0.35], "rule": None, "why": "x"}
]


class Answerer(Oracle):
    """Knows figures, writes rows with a die that is loaded by the batch, and never says the same twice."""

    def __init__(self) -> None:
        super().__init__(
            columns=COLUMNS,
            pairs={("ki", "time"): [0.3], ("gtv", "time"): [-0.2]},
            rules={"rules": [{"rule": "ki % 10 == 0", "why": "a scale in tens"}]},
            patches=list(PATCHES),
            shaken=0.05,
        )

    def _rows(self, prompt: str) -> dict[str, Any]:
        first, last = map(int, re.findall(r"write rows (\d+) to (\d+)", prompt)[0])
        return {"rows": [patient(number) for number in range(first, last + 1)]}


def patient(number: int) -> dict[str, Any]:
    dice = random.Random(number)
    return {
        "sex": dice.choice(["Female", "Male"]),
        "diagnosis": dice.choice(["Meningioma", "LG glioma", "HG glioma", "Other"]),
        "loc": dice.choice(["Infratentorial", "Supratentorial"]), "ki": 10 * dice.randint(4, 10),
        "gtv": round(dice.uniform(0.5, 40), 2), "stereo": dice.choice(["SRS", "SRT"]),
        "status": dice.random() < 0.4, "time": round(dice.uniform(1, 80), 2),
    }  # fmt: skip
