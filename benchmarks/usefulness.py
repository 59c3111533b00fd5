"""How useful rows are that were made of nothing but what `describe` says of a real table.

    python -m benchmarks.usefulness [--splits 2] [--tables gbsg2,aids] [--rows 10000] [--min-cell 10]
                                    [--same-rows] [--results file.json]

For each development table and split, a train part (70 %) and a holdout, stratified by the outcome. The train
part is described (`app.schema.describe`); of the description alone, read back from its JSON, the generator
`blueprint` makes rows. Printed, for each table as the mean over splits:

    association   mean |difference| of all pairs' associations to the holdout's, less the train part's own
    logistic      AUROC on the holdout, trained on real rows, less trained on made rows
    trees         the same of boosted trees
    C2ST          AUROC of boosted trees that tell made rows from the holdout's; beside it that of a plain
                  Gaussian copula fitted to the rows, and the train part's own

Negative is better than real. With `--same-rows` associations and AUROC, too, are of as many rows as the train
part has. A second line says what the same figures are of the copula's rows.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks import tables
from benchmarks.ctgan import design

if TYPE_CHECKING:
    import pandas as pd

    from benchmarks.tables import Development


def main() -> None:
    warnings.filterwarnings("ignore")
    arguments = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    arguments.add_argument("--splits", type=int, default=2)
    arguments.add_argument("--tables", default=",".join(tables.NAMES))
    arguments.add_argument("--rows", type=int, default=10_000)
    arguments.add_argument("--min-cell", type=int, default=10)
    arguments.add_argument("--same-rows", action="store_true")
    arguments.add_argument("--results", type=Path)
    chosen = arguments.parse_args()
    results: dict[str, list[dict[str, Any]]] = {}
    print(
        f"{'table':<14} said | association | logistic: real  less | trees: real  less | "
        "C2ST: made copula train | seconds"
    )
    for name in [name for name in chosen.tables.split(",") if name]:
        found = [measure(name, split, chosen) for split in range(chosen.splits)]
        results[name] = found
        show(name, found)
        if chosen.results:
            chosen.results.write_text(json.dumps(results, indent=1))
    everything = [one for found in results.values() for one in found]
    print()
    show("mean", everything)
    print("asked: at most 0.020, 0.030 and 0.060; C2ST below the copula's")


def show(name: str, found: list[dict[str, Any]]) -> None:
    def mean(*path: str) -> float:
        total = 0.0
        for one in found:
            value: Any = one
            for part in path:
                value = value[part]
            total += value
        return total / len(found)

    print(
        f"{name:<14} {mean('said'):4.0f} | {mean('made', 'association'):+11.3f} | "
        f"{mean('real', 'logistic'):14.3f} {mean('made', 'logistic'):+6.3f} | "
        f"{mean('real', 'trees'):11.3f} {mean('made', 'trees'):+6.3f} | "
        f"{mean('made', 'c2st'):10.3f} {mean('copula', 'c2st'):6.3f} {mean('real', 'c2st'):5.3f} | "
        f"{mean('seconds'):5.1f}",
        flush=True,
    )
    print(
        f"{'  copula':<19} | {mean('copula', 'association'):+11.3f} | "
        f"{'':14} {mean('copula', 'logistic'):+6.3f} | {'':11} {mean('copula', 'trees'):+6.3f} |",
        flush=True,
    )


def measure(name: str, split: int, chosen: argparse.Namespace) -> dict[str, Any]:
    """Describe a split's train part, make rows, and hold them against the holdout."""
    from sklearn.model_selection import train_test_split

    table = tables.load(name)
    train, holdout = train_test_split(
        table.frame, test_size=0.3, random_state=split, stratify=table.frame[table.target].astype(bool)
    )
    train, holdout = train.reset_index(drop=True), holdout.reset_index(drop=True)
    began = time.perf_counter()
    said, made, _ = rows_of_description(table, train, chosen.rows, split, chosen.min_cell)
    seconds = time.perf_counter() - began
    copula = plain_copula(table, train, chosen.rows, split)
    many = len(train) if chosen.same_rows else chosen.rows
    own, real = association(table, train, holdout), scores(table, train, holdout, train)
    found: dict[str, Any] = {"said": said, "seconds": seconds, "rows": len(train)}
    found["real"] = {**real, "association": own, "c2st": told_apart(table, train, holdout, train, split)}
    for what, rows in (("made", made), ("copula", copula)):
        judged = scores(table, rows[:many], holdout, train)
        found[what] = {
            "association": association(table, rows[:many], holdout) - own,
            **{learner: real[learner] - judged[learner] for learner in judged},
            "c2st": told_apart(table, rows[: len(train)], holdout, train, split),
        }
    return found


def rows_of_description(
    table: Development, train: pd.DataFrame, rows: int, seed: int, min_cell: int
) -> tuple[int, pd.DataFrame, float]:
    """Return how many numbers a description states, rows made of it alone, and seconds of drawing them."""
    from numpy.random import SeedSequence

    from app.blueprint.statements import statements_of
    from app.generators.blueprint import Blueprint
    from app.schema.describe import describe_frame
    from app.schema.parse import parse_schema

    described = describe_frame(table.schema, train, target=table.target, min_cell=min_cell)
    schema, _ = parse_schema(json.loads(json.dumps(described.document)))
    sampler = Blueprint(Blueprint.Options()).fit(
        schema, None, seed=SeedSequence(seed), progress=lambda *_, **__: None, warn=lambda *_: None
    )
    began = time.perf_counter()
    made = sampler.sample_shard(0, rows, seed=SeedSequence(seed))
    return len(statements_of(schema)), made, time.perf_counter() - began


def plain_copula(table: Development, train: pd.DataFrame, rows: int, seed: int) -> pd.DataFrame:
    """Fit a Gaussian copula: normal scores, categories spread over their share; empirical marginals."""
    import numpy as np
    from scipy.stats import norm, rankdata

    from app.schema.frames import conform

    rng = np.random.default_rng(seed)
    scores, backs, gaps = [], [], []
    for field in table.schema.fields:
        column = train[field.name]
        there = column.notna().to_numpy()
        values = column[there].reset_index(drop=True)
        order = values.cat.codes if hasattr(values, "cat") else values
        ranks = rankdata(order.to_numpy("float64") + 1e-9 * rng.random(len(order)))
        z = np.zeros(len(train))
        z[there] = norm.ppf((ranks - 0.5) / len(ranks))
        scores.append(z)
        backs.append(values.iloc[np.argsort(ranks)].reset_index(drop=True))
        gaps.append(1 - there.mean())
    made = rng.multivariate_normal(np.zeros(len(scores)), np.corrcoef(scores), rows, method="svd")
    columns: dict[str, Any] = {}
    for place, field in enumerate(table.schema.fields):
        back = backs[place]
        at = np.minimum((norm.cdf(made[:, place]) * len(back)).astype(int), len(back) - 1)
        column = back.iloc[at].reset_index(drop=True)
        columns[field.name] = column.mask(rng.random(rows) < gaps[place])
    import pandas as pd

    return conform(pd.DataFrame(columns), table.schema)


def association(table: Development, rows: pd.DataFrame, holdout: pd.DataFrame) -> float:
    """Return the mean |difference| of all pairs' associations."""
    from app.evaluation.base import Score, Tables
    from app.evaluation.fidelity_associations import AssociationSimilarity

    score = AssociationSimilarity().measure(Tables(table.schema, (rows,), train=holdout))
    assert isinstance(score, Score)
    return 1 - float(score.details["unweighted"])


def told_apart(
    table: Development, rows: pd.DataFrame, holdout: pd.DataFrame, train: pd.DataFrame, seed: int
) -> float:
    """Return the AUROC of boosted trees that tell rows from the holdout's."""
    from app.evaluation.base import Score, Tables
    from app.evaluation.fidelity_detection import DetectionAUC

    score = DetectionAUC().measure(
        Tables(table.schema, (rows.reset_index(drop=True),), train=train, holdout=holdout, seed=seed)
    )
    assert isinstance(score, Score)
    return float(score.details["auroc"])


def scores(
    table: Development, rows: pd.DataFrame, holdout: pd.DataFrame, train: pd.DataFrame
) -> dict[str, float]:
    """Return AUROCs on the holdout of a logistic regression and of boosted trees trained on rows."""
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    outcome, known = (
        one[table.target].astype("string").eq("True").fillna(False).to_numpy(bool) for one in (rows, holdout)
    )
    learners = {
        "logistic": make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000)),
        "trees": HistGradientBoostingClassifier(max_iter=100, min_samples_leaf=10, random_state=0),
    }
    found = {}
    x, new = design(rows, table, train), design(holdout, table, train)
    for name, model in learners.items():
        if outcome.all() or not outcome.any():
            found[name] = 0.5
            continue
        model.fit(x, outcome)
        found[name] = float(roc_auc_score(known, model.predict_proba(new)[:, 1]))
    return found


if __name__ == "__main__":
    main()
