"""The blueprint of a description beside SDV's GaussianCopula and a plain Gaussian copula, on the same rows.

    OMP_NUM_THREADS=1 python -m benchmarks.blueprint_peers [--splits 2] [--tables gbsg2,aids] [--rows 10000]
                                                           [--python path] [--results file.json]

The development tables and splits of `benchmarks.usefulness`. The blueprint gets nothing but what `describe`
says of the train part; the copulas get its rows. Columns: the mean error of pairs' associations to the
holdout's beyond the train part's own, the AUROC lost by a logistic regression and by boosted trees, C2ST, and
seconds of fit (of the blueprint: describe and compile) and of drawing the rows. SDV stands there at its
defaults, which fit beta distributions, and with normal ones. It is installed (`benchmarks/peers/sdv.txt`)
into an environment of its own, which lasts as long as the benchmark, unless `--python` names one that has it.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
import warnings
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks import tables
from benchmarks.usefulness import association, plain_copula, rows_of_description, scores, told_apart

if TYPE_CHECKING:
    import pandas as pd

    from benchmarks.tables import Development

SCRIPT = Path(__file__).with_name("peers") / "sdv_copula.py"
REQUIREMENTS = Path(__file__).with_name("peers") / "sdv.txt"
FIGURES = ("association", "logistic", "trees", "c2st", "fit", "sample")


def main() -> None:
    warnings.filterwarnings("ignore")
    arguments = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    arguments.add_argument("--splits", type=int, default=2)
    arguments.add_argument("--tables", default=",".join(tables.NAMES))
    arguments.add_argument("--rows", type=int, default=10_000)
    arguments.add_argument("--python", type=Path)
    arguments.add_argument("--results", type=Path)
    chosen = arguments.parse_args()
    results: dict[str, list[dict[str, dict[str, float]]]] = {}
    with ExitStack() as stack:
        python = chosen.python or environment(Path(stack.enter_context(tempfile.TemporaryDirectory())))
        print(f"{'table':<14} {'generator':<12}" + "".join(f"{figure:>12}" for figure in FIGURES))
        for name in [name for name in chosen.tables.split(",") if name]:
            results[name] = [measure(name, split, chosen.rows, python) for split in range(chosen.splits)]
            show(name, results[name])
            if chosen.results:
                chosen.results.write_text(json.dumps(results, indent=1))
    show("mean", [one for found in results.values() for one in found])


def environment(folder: Path) -> Path:
    """Make an environment that has SDV; return its interpreter."""
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    python = folder / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "-q", "-r", REQUIREMENTS], check=True)
    return python


def show(name: str, found: list[dict[str, dict[str, float]]]) -> None:
    for generator in GENERATORS:
        means = [sum(one[generator][figure] for one in found) / len(found) for figure in FIGURES]
        print(f"{name:<14} {generator:<12}" + "".join(f"{mean:12.3f}" for mean in means), flush=True)


def measure(name: str, split: int, rows: int, python: Path) -> dict[str, dict[str, float]]:
    """Make rows of each generator from a split's train part, and hold them against the holdout."""
    from sklearn.model_selection import train_test_split

    table = tables.load(name)
    train, holdout = train_test_split(
        table.frame, test_size=0.3, random_state=split, stratify=table.frame[table.target].astype(bool)
    )
    train, holdout = train.reset_index(drop=True), holdout.reset_index(drop=True)
    own, real = association(table, train, holdout), scores(table, train, holdout, train)
    found = {}
    for generator, make in GENERATORS.items():
        made, seconds = make(table, train, rows, split, python)
        judged = scores(table, made, holdout, train)
        found[generator] = {
            "association": association(table, made, holdout) - own,
            **{learner: real[learner] - judged[learner] for learner in judged},
            "c2st": told_apart(table, made[: len(train)], holdout, train, split),
            **seconds,
        }
    return found


def blueprint(
    table: Development, train: pd.DataFrame, rows: int, seed: int, python: Path
) -> tuple[pd.DataFrame, dict[str, float]]:
    """Return rows of a description; fitting is to describe and to compile."""
    began = time.perf_counter()
    _, made, sample = rows_of_description(table, train, rows, seed, 10)
    return made, {"fit": time.perf_counter() - began - sample, "sample": sample}


def copula(
    table: Development, train: pd.DataFrame, rows: int, seed: int, python: Path
) -> tuple[pd.DataFrame, dict[str, float]]:
    """Return rows of a plain copula; what is not drawing is told by drawing a single row."""
    began = time.perf_counter()
    plain_copula(table, train, 1, seed)
    fitted = time.perf_counter()
    made = plain_copula(table, train, rows, seed)
    fit = fitted - began
    return made, {"fit": fit, "sample": max(time.perf_counter() - fitted - fit, 0.0)}


def sdv(
    table: Development, train: pd.DataFrame, rows: int, seed: int, python: Path
) -> tuple[pd.DataFrame, dict[str, float]]:
    """Return rows of SDV's GaussianCopula at its defaults; its seed is its own."""
    return sdv_with(None, table, train, rows, python)


def sdv_normal(
    table: Development, train: pd.DataFrame, rows: int, seed: int, python: Path
) -> tuple[pd.DataFrame, dict[str, float]]:
    """Return rows of SDV's GaussianCopula with normal distributions."""
    return sdv_with("norm", table, train, rows, python)


def sdv_with(
    distribution: str | None, table: Development, train: pd.DataFrame, rows: int, python: Path
) -> tuple[pd.DataFrame, dict[str, float]]:
    """Return rows of SDV's GaussianCopula, and its seconds."""
    import pandas as pd

    from app.schema.frames import conform

    plain: dict[str, Any] = {}
    kinds: dict[str, str] = {}
    for field in table.schema.fields:
        column = train[field.name]
        if field.levels is None:
            plain[field.name] = column.to_numpy("float64", na_value=float("nan"))
        else:
            plain[field.name] = column.astype("string").astype(object).where(column.notna(), None)
            kinds[field.name] = "categorical"
    asked = {"kinds": kinds, "rows": rows, "distribution": distribution}
    with tempfile.TemporaryDirectory() as folder:
        pd.DataFrame(plain).to_parquet(Path(folder) / "train.parquet")
        ended = subprocess.run(
            [python, SCRIPT, folder],
            input=json.dumps(asked), text=True, capture_output=True, check=False,
        )  # fmt: skip
        if ended.returncode:
            raise SystemExit(ended.stderr[-2000:])
        told = json.loads(ended.stdout.strip().split("\n")[-1])
        made = pd.read_parquet(Path(folder) / "made.parquet")
    columns: dict[str, Any] = {}
    for field in table.schema.fields:
        column = made[field.name]
        if field.type == "boolean":
            columns[field.name] = column.map({"True": True, "False": False}).astype("boolean")
        elif field.type in ("integer", "year"):
            columns[field.name] = column.round().astype("Int64")
        else:
            columns[field.name] = column
    return conform(pd.DataFrame(columns), table.schema), {"fit": told["fit"], "sample": told["sample"]}


GENERATORS = {"blueprint": blueprint, "SDV": sdv, "SDV, normal": sdv_normal, "copula": copula}


if __name__ == "__main__":
    main()
