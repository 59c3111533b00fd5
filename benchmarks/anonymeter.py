"""Anonymeter beside the attacks here: the same figures, what they cost, and how far chance moves them.

    python -m benchmarks.anonymeter [--python path] [--record] [--repeats 12] [--holdout 5000]

Anonymeter runs in an environment of its own, which `make bench` makes. Three parts: (1) its attacks and ours
on small tables of which a known share is copied, held against each other within its stated sampling error;
`--record` writes its figures to `tests/unit/evaluation/anonymeter.json`, for the test of the same. (2) The
time of both at 10,000 rows of 14 columns, side by side. (3) The standard error of both, as the spread over
samples drawn anew, not as each states it: its own takes attacks on the same persons for independent ones.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from app.evaluation.base import Tables

ROOT = Path(__file__).parents[1]
SCRIPT = Path(__file__).with_name("peers") / "anonymeter_attacks.py"
RECORD = ROOT / "tests" / "unit" / "evaluation" / "anonymeter.json"
SHARES = (0.0, 0.1, 0.3, 0.7)
"""Shares of the train part that are copied into the synthetic rows."""

ROWS = 1000
SECRET = "stage"
LEVELS = {"arm": 3, "ecog": 4, "sex": 2, "stage": 4}
OURS = {
    "singling_out": ("singling_out_advantage", "multivariate"),
    "linkability": ("linkability", "linked"),
    "inference": ("attribute_inference", SECRET),
}
"""For each of its attacks the metric here, and the row of its table."""

THEIR_ATTACKS = (500, 2000)
"""Its default, and as many persons as are attacked here at most."""


@dataclass(frozen=True)
class Case:
    """Three parts of plain numbers and texts, and what the attacker knows."""

    train: pd.DataFrame
    holdout: pd.DataFrame
    made: pd.DataFrame
    known: tuple[str, ...]
    secret: str

    @property
    def halves(self) -> tuple[list[str], list[str]]:
        """The columns by name, alternating."""
        names = sorted(self.train.columns)
        return names[0::2], names[1::2]


def people(rows: int, rng: np.random.Generator) -> pd.DataFrame:
    """Draw persons: four numbers and four categories that hang together."""
    import numpy as np
    import pandas as pd

    frail, build = rng.normal(size=(2, rows))
    return pd.DataFrame(
        {
            "age": np.round(60 + 9 * frail + 6 * rng.normal(size=rows)),
            "arm": rng.integers(0, 3, rows).astype(str),
            "bmi": np.round(26 + 4 * build + rng.normal(size=rows), 1),
            "crp": np.round(np.exp(1 + 0.5 * frail + 0.5 * rng.normal(size=rows)), 2),
            "dose": np.round(10 + 3 * build + 3 * rng.normal(size=rows), 1),
            "ecog": np.digitize(frail + rng.normal(size=rows), [-1, 0, 1.2]).astype(str),
            "sex": rng.integers(0, 2, rows).astype(str),
            "stage": np.digitize(frail + 0.7 * rng.normal(size=rows), [-0.5, 0.3, 1]).astype(str),
        }
    )


def case(share: float) -> Case:
    """Return tables in which a share of the train part is copied."""
    import numpy as np
    import pandas as pd

    rng = np.random.default_rng(11)
    train, holdout, fresh = (people(ROWS, rng) for _ in range(3))
    copies = round(share * ROWS)
    made = pd.concat([train.head(copies), fresh.iloc[copies:]], ignore_index=True)
    return Case(train, holdout, made, tuple(name for name in train if name != SECRET), SECRET)


def ours(given: Case, seed: int = 3) -> dict[str, dict[str, float]]:
    """Return the rows of our tables, by the name of its attack."""
    from app.evaluation.base import Score, Tables
    from app.evaluation.registry import METRICS
    from app.schema.frames import conform
    from app.schema.parse import parse_schema

    fields: list[dict[str, Any]] = [
        {"name": name, "type": "string", "categories": [str(level) for level in range(LEVELS[name])]}
        if name in LEVELS
        else {"name": name, "type": "number"}
        for name in given.train
    ]
    schema, _ = parse_schema({"fields": fields})
    tables = Tables(
        schema,
        (conform(given.made, schema),),
        conform(given.train, schema),
        conform(given.holdout, schema),
        quasi_identifiers=given.known,
        sensitive=(given.secret,),
        seed=seed,
    )
    metrics = {metric.name: metric for metric in METRICS}
    found = {}
    for attack, (name, row) in OURS.items():
        score = metrics[name]().measure(tables)
        assert isinstance(score, Score), score
        rows: Any = score.details["table"]
        found[attack] = next(each for each in rows if each["attack"] == row)
    return found


def theirs(given: Case, attacks: int, python: Path) -> dict[str, Any]:
    """Run Anonymeter in its own environment."""
    asked = {"seed": 1, "halves": given.halves, "known": given.known, "secret": given.secret}
    with tempfile.TemporaryDirectory() as folder:
        for name in ("train", "holdout", "made"):
            getattr(given, name).to_parquet(Path(folder) / f"{name}.parquet")
        ended = subprocess.run(
            [python, SCRIPT, folder, str(attacks)],
            input=json.dumps(asked), text=True, capture_output=True, check=False,
        )  # fmt: skip
    if ended.returncode:
        raise SystemExit(ended.stderr[-2000:])
    found: dict[str, Any] = json.loads(ended.stdout)
    return found


def agreement(python: Path) -> list[dict[str, Any]]:
    """Print both on the small tables; return what Anonymeter says."""
    print(f"{'copied':>6} {'attack':<14}{'Anonymeter':>11}{'± at 95 %':>11}{'here':>9}")
    record = []
    for share in SHARES:
        given = case(share)
        said, own = theirs(given, ROWS, python), ours(given)
        record.append({"share": share, **{name: said[name] for name in OURS}})
        for name in OURS:
            off = abs(own[name]["advantage"] - said[name]["advantage"]) > said[name]["error"]
            print(
                f"{share:6.0%} {name:<14}{said[name]['advantage']:11.3f}{said[name]['error']:11.3f}"
                f"{own[name]['advantage']:9.3f}{'  APART' if off else ''}"
            )
    return record


def large(seed: int, holdout: int) -> tuple[Tables, Case]:
    """Return 10,000 real and 10,000 synthetic rows of 14 columns, of one population, for both."""
    from dataclasses import replace

    from benchmarks.evaluation import patients, tables

    given = tables(14, 10_000, 10_000)
    whole = patients(14, 10_000, 100 + seed)
    given = replace(
        given,
        train=whole.iloc[holdout:].reset_index(drop=True),
        holdout=whole.iloc[:holdout].reset_index(drop=True),
        synthetic=(patients(14, 10_000, 500 + seed),),
        sensitive=("column 2",),
        quasi_identifiers=("column 3", "column 5", "column 8"),
        seed=seed,
    )
    assert given.train is not None and given.holdout is not None
    parts = [plain(frame) for frame in (given.train, given.holdout, given.synthetic[0])]
    return given, Case(parts[0], parts[1], parts[2], given.quasi_identifiers, "column 2")


def plain(frame: pd.DataFrame) -> pd.DataFrame:
    """Return numbers and texts only: dates as days."""
    import pandas as pd

    columns: dict[str, Any] = {}
    for name, column in frame.items():
        if column.dtype.kind == "M":
            columns[str(name)] = (column - pd.Timestamp("2020-01-01")).dt.days.astype("float64")
        elif column.dtype.name in ("boolean", "category"):
            columns[str(name)] = column.astype(str)
        else:
            columns[str(name)] = column.astype("float64")
    return pd.DataFrame(columns)


def measured_here(given: Tables) -> tuple[float, dict[str, float]]:
    """Return seconds of the three attacks, with all preparation, and their advantages."""
    from app.evaluation.base import Score
    from app.evaluation.registry import METRICS

    metrics = {metric.name: metric for metric in METRICS}
    began = time.perf_counter()
    scores = {attack: metrics[name]().measure(given) for attack, (name, _) in OURS.items()}
    seconds = time.perf_counter() - began
    assert all(isinstance(score, Score) for score in scores.values())
    return seconds, {attack: score.value for attack, score in scores.items()}  # type: ignore[union-attr]


def costs(python: Path, repeats: int, holdout: int) -> None:
    """Print time and standard error of both at 10,000 rows."""
    import numpy as np

    print(f"10,000 real rows, {holdout:,} of them holdout, and 10,000 synthetic rows:")
    measured_here(large(99, holdout)[0])  # imports are not counted, of either
    here: list[tuple[float, dict[str, float]]] = []
    there: dict[int, list[dict[str, Any]]] = {attacks: [] for attacks in THEIR_ATTACKS}
    for seed in range(repeats):
        given, same = large(seed, holdout)
        here.append(measured_here(given))
        for attacks, found in there.items():
            found.append(theirs(same, attacks, python))
    own = float(np.median([seconds for seconds, _ in here]))
    errors = {name: float(np.std([values[name] for _, values in here], ddof=1)) for name in OURS}
    print(f"here: {own:.2f} s; standard errors " + ", ".join(f"{n} {e:.4f}" for n, e in errors.items()))
    for attacks, found in there.items():
        seconds = float(np.median([sum(one[name]["seconds"] for name in OURS) for one in found]))
        spread = {name: float(np.std([one[name]["advantage"] for one in found], ddof=1)) for name in OURS}
        stated = {name: float(np.mean([one[name]["error"] for one in found])) / 1.96 for name in OURS}
        print(
            f"Anonymeter, {attacks} attacks: {seconds:.1f} s, {seconds / own:.0f} × ours (asked 20); "
            "standard errors " + ", ".join(f"{n} {spread[n]:.4f} (stated {stated[n]:.4f})" for n in OURS)
        )


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--python", type=Path, default=ROOT / ".venv-anonymeter" / "bin" / "python")
    arguments.add_argument("--record", action="store_true")
    arguments.add_argument("--repeats", type=int, default=12)
    # Of one size: else its singling out corrects by a fitted curve, and ours by none, which is wider.
    arguments.add_argument("--holdout", type=int, default=5000)
    chosen = arguments.parse_args()
    record = agreement(chosen.python)
    if chosen.record:
        for line in record:
            for name in OURS:
                line[name] = {key: value for key, value in line[name].items() if key != "seconds"}
        RECORD.write_text(
            json.dumps({"anonymeter": "1.1.0", "attacks": ROWS, "cases": record}, indent=1) + "\n"
        )
    if chosen.repeats > 1:
        costs(chosen.python, chosen.repeats, chosen.holdout)


if __name__ == "__main__":
    main()
