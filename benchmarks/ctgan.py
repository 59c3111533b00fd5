"""CTGAN here beside the bare package: what a model learns from the rows, and what they cost.

    OMP_NUM_THREADS=1 python -m benchmarks.ctgan [--splits 3] [--tables gbsg2,aids] [--results file.json]

For each development table and split, a train part (70 %) and a holdout, stratified by the outcome: the
package at its defaults (300 epochs), and the generator at its own (`epochs: auto`). As many rows as the
train part are drawn, a logistic regression is trained on them and tried on the holdout (TSTR AUROC).
Seconds are of the processor, one thread each. What was measured is kept in the results file after each
fit, and not measured again. The package refuses missing numbers: it gets the median for them, and a level
for what else is missing.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks import tables

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from benchmarks.tables import Development

FIXED_EPOCHS = 100
FIXED_TABLES = ("gbsg2", "aids")
TRIES = 3
MANY_ROWS = 5000


def main() -> None:
    warnings.filterwarnings("ignore")
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--splits", type=int, default=3)
    arguments.add_argument("--tables", default=",".join(tables.NAMES))
    arguments.add_argument(
        "--results", type=Path, default=Path(tempfile.gettempdir()) / "synthward-ctgan.json"
    )
    chosen = arguments.parse_args()
    chosen_tables = [name for name in chosen.tables.split(",") if name]
    results: dict[str, Any] = json.loads(chosen.results.read_text()) if chosen.results.exists() else {}

    def measured(key: str, measure: Any) -> dict[str, float]:
        if key not in results:
            results[key] = measure()
            chosen.results.write_text(json.dumps(results, indent=1))
        found: dict[str, float] = results[key]
        return found

    measured("warm-up", warm_up)
    print(f"{'table':<14}split  rows | package   auto   real | package    auto  seconds")
    for split in range(chosen.splits):
        for name in chosen_tables:
            bare = measured(f"{name}/{split}/package", lambda n=name, k=split: compare(n, k, package))
            auto = measured(f"{name}/{split}/auto", lambda n=name, k=split: compare(n, k, generator))
            print(
                f"{name:<14}{split:>5} {bare['rows']:>5} | {bare['auroc']:7.3f}{auto['auroc']:7.3f}"
                f"{auto['real']:7.3f} | {bare['cpu']:7.1f} {auto['cpu']:7.1f}",
                flush=True,
            )
    for name in FIXED_TABLES:
        for again in range(TRIES):
            measured(f"{name}/fixed {again}/package", lambda n=name: timed(n, package))
            measured(f"{name}/fixed {again}/auto", lambda n=name: timed(n, generator))
    summary(results, chosen_tables, chosen.splits)


def summary(results: dict[str, Any], names: list[str], splits: int) -> None:
    import numpy as np

    pairs = [
        (results[f"{name}/{split}/package"], results[f"{name}/{split}/auto"], name)
        for split in range(splits)
        for name in names
    ]
    for title, chosen in (
        ("all tables", pairs),
        ("without brain_cancer", [p for p in pairs if p[2] != "brain_cancer"]),
    ):
        if not chosen:
            continue
        gains = np.array([auto["auroc"] - bare["auroc"] for bare, auto, _ in chosen])
        print(
            f"\n{title}: TSTR AUROC package {np.mean([b['auroc'] for b, _, _ in chosen]):.3f}, "
            f"auto {np.mean([a['auroc'] for _, a, _ in chosen]):.3f}, "
            f"real {np.mean([a['real'] for _, a, _ in chosen]):.3f}; "
            f"gain {gains.mean():.3f} (se {gains.std(ddof=1) / len(gains) ** 0.5:.3f}; asked 0.10)"
        )
        ratios = np.array([auto["cpu"] / bare["cpu"] for bare, auto, _ in chosen])
        sums = [sum(each[place]["cpu"] for each in chosen) for place in (0, 1)]  # type: ignore[index,misc]
        print(
            f"time of auto in parts of 300 default epochs: {sums[1] / sums[0]:.2f} in sum, "
            f"{ratios.min():.2f} to {ratios.max():.2f} (asked 1)"
        )
    for name in FIXED_TABLES:
        best = {
            what: min(results[f"{name}/fixed {again}/{what}"]["cpu"] for again in range(TRIES))
            for what in ("package", "auto")
        }
        print(
            f"{name}, {FIXED_EPOCHS} epochs: package {best['package']:.1f} s, here {best['auto']:.1f} s, "
            f"ratio {best['auto'] / best['package']:.2f} (asked 1.05; best of {TRIES})"
        )


def compare(name: str, split: int, fit: Any) -> dict[str, float]:
    """Fit on a split's train part; return AUROCs on its holdout and the seconds of the fit."""
    from sklearn.model_selection import train_test_split

    table = tables.load(name)
    train, holdout = train_test_split(
        table.frame, test_size=0.3, random_state=split, stratify=table.frame[table.target].astype(bool)
    )
    train, holdout = train.reset_index(drop=True), holdout.reset_index(drop=True)
    (drawn, many), seconds = _clocked(lambda: fit(table, train, split, None))
    return {
        "rows": len(train),
        "auroc": auroc(drawn, holdout, table, train),
        f"auroc of {MANY_ROWS} rows": auroc(many, holdout, table, train),
        "real": auroc(train, holdout, table, train),
        **seconds,
    }


def timed(name: str, fit: Any) -> dict[str, float]:
    """Return the seconds of FIXED_EPOCHS epochs at the package's defaults."""
    table = tables.load(name)
    return _clocked(lambda: fit(table, table.frame, 1, FIXED_EPOCHS))[1]


def warm_up() -> dict[str, float]:
    """Import everything, so that no fit pays for it."""
    table = tables.load("brain_cancer")
    return {
        what.__name__: _clocked(lambda w=what: w(table, table.frame, 1, 1))[1]["wall"]
        for what in (package, generator)
    }


def package(
    table: Development, train: pd.DataFrame, seed: int, epochs: int | None
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return rows of the bare package: as many as the train part's, and MANY_ROWS."""
    import torch
    from ctgan import CTGAN

    torch.set_num_threads(1)
    plain, discrete = as_the_package_takes_it(table, train)
    model = CTGAN(enable_gpu=False, **({} if epochs is None else {"epochs": epochs}))
    model.set_random_state(seed)
    model.fit(plain, discrete)
    return model.sample(len(train)), model.sample(MANY_ROWS)


def generator(
    table: Development, train: pd.DataFrame, seed: int, epochs: int | None
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return rows of the generator here: as many as the train part's, and MANY_ROWS."""
    from numpy.random import SeedSequence

    from app.generators.ctgan import CTGAN

    options = CTGAN.Options() if epochs is None else CTGAN.Options(epochs=epochs)
    sampler = CTGAN(options).fit(
        table.schema, train, seed=SeedSequence(seed), progress=lambda *_, **__: None, warn=lambda *_: None
    )
    return tuple(  # type: ignore[return-value]
        sampler.sample_shard(0, rows, seed=SeedSequence(seed)) for rows in (len(train), MANY_ROWS)
    )


def as_the_package_takes_it(table: Development, train: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """Return the table without missing numbers, and the names of the columns of levels."""
    import pandas as pd

    columns: dict[str, Any] = {}
    discrete = [field.name for field in table.schema.fields if field.levels is not None]
    for field in table.schema.fields:
        column = train[field.name]
        if field.name in discrete:
            columns[field.name] = column.astype("string").fillna("missing").astype(object)
        else:
            numbers = column.to_numpy("float64", na_value=float("nan"))
            columns[field.name] = pd.Series(numbers).fillna(float(column.median()))
    return pd.DataFrame(columns), discrete


def auroc(rows: pd.DataFrame, holdout: pd.DataFrame, table: Development, train: pd.DataFrame) -> float:
    """Return the AUROC on the holdout of a logistic regression trained on `rows`; 0.5 of one outcome."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    outcome = rows[table.target].astype("string").eq("True").fillna(False).to_numpy(bool)
    if outcome.all() or not outcome.any():
        return 0.5
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
    model.fit(design(rows, table, train), outcome)
    scores = model.predict_proba(design(holdout, table, train))[:, 1]
    return float(roc_auc_score(holdout[table.target].astype(bool), scores))


def design(rows: pd.DataFrame, table: Development, train: pd.DataFrame) -> np.ndarray[Any, Any]:
    """Return the features: a column for each level, the train part's median for missing numbers."""
    import numpy as np

    columns = []
    for field in table.schema.fields:
        if field.name == table.target:
            continue
        if field.levels is not None:
            texts = rows[field.name].astype("string")
            columns += [texts.eq(str(level)).fillna(False).to_numpy("float64") for level in field.levels]
        else:
            numbers = rows[field.name].to_numpy("float64", na_value=np.nan)
            columns.append(np.where(np.isnan(numbers), float(train[field.name].median()), numbers))
    return np.column_stack(columns)


def _clocked(work: Any) -> tuple[Any, dict[str, float]]:
    wall, cpu = time.perf_counter(), time.process_time()
    result = work()
    return result, {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}


if __name__ == "__main__":
    main()
