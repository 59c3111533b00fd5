"""Faults that are planted, and must be found by the metrics that should."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from app.evaluation.base import Metric, Score, Tables
from app.evaluation.registry import METRICS
from tests.calibration import populations
from tests.calibration.truths import TRUTHS

BY_NAME: dict[str, type[Metric]] = {metric.name: metric for metric in METRICS}
SHARES = (0.0, 0.01, 0.05, 1.0)
JITTER = 0.01
"""Standard deviations by which a jittered copy's numbers are moved."""


def score(name: str, tables: Tables) -> Score:
    found = BY_NAME[name]().measure(tables)
    assert isinstance(found, Score), found
    return found


@pytest.fixture(scope="module")
def people() -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    rng = np.random.default_rng(77)
    return populations.draw(600, rng), populations.draw(400, rng), populations.draw(600, rng)


def copying(people: tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame], share: float, jitter: float) -> Tables:
    train, holdout, fresh = people
    rng = np.random.default_rng(78)
    return populations.tables(
        train, holdout, populations.with_copies(fresh, train, share, rng, jitter=jitter), seed=5
    )


@pytest.mark.parametrize("name", [name for name, truth in TRUTHS.items() if truth.copies and name in BY_NAME])
@pytest.mark.parametrize("jitter", [0.0, JITTER], ids=["exact", "jittered"])
def test_copies_are_found_the_more_the_stronger(
    people: tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame], name: str, jitter: float
) -> None:
    if jitter and TRUTHS[name].copies != "jittered":
        pytest.skip("it looks for exact copies")
    found = [score(name, copying(people, share, jitter)) for share in SHARES]
    values = [item.value for item in found]
    all_copied = found[-1]
    assert all_copied.interval is not None and all_copied.baseline is not None
    assert all_copied.interval[0] > all_copied.baseline
    assert values[3] > max(values[:3])
    if TRUTHS[name].copies_from < 1:
        # Six copies among six hundred rows move an average by no more than chance does.
        assert values[2] > values[0] and values[2] >= values[1]


@pytest.mark.parametrize("jitter", [0.0, JITTER], ids=["exact", "jittered"])
def test_six_copies_among_six_hundred_rows_are_found(
    people: tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame], jitter: float
) -> None:
    name = "near_match_share" if jitter else "identical_match_share"
    none, few = (score(name, copying(people, share, jitter)) for share in SHARES[:2])
    assert few.value - none.value == pytest.approx(0.01, abs=0.002)
    assert few.baseline is not None and few.interval is not None
    assert few.interval[0] > few.baseline


def test_permuted_columns_lose_association_and_usefulness_and_keep_their_shape(
    people: tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame],
) -> None:
    train, holdout, _ = people
    made = populations.permuted(train, np.random.default_rng(3))
    tables = populations.tables(train, holdout, made)
    assert score("ks_complement", tables).value == score("tv_complement", tables).value == 1.0
    ties = score("association_similarity", tables)
    assert ties.interval is not None and ties.baseline is not None and ties.interval[1] < ties.baseline
    learned: Any = score("tstr", tables)
    assert learned.interval[0] < 0.55 and learned.value < 0.6
    assert learned.details["difference_interval"][1] < 0


def test_a_column_shifted_by_a_fifth_of_its_sd_is_named() -> None:
    rng = np.random.default_rng(9)
    train, holdout, fresh = (populations.draw(2000, rng) for _ in range(3))
    tables = populations.tables(train, holdout, populations.shifted(fresh, "weight", 0.2))
    assert "weight" in score("ks_complement", tables).reading
    if "wasserstein_in_sd" in BY_NAME:
        assert "weight" in score("wasserstein_in_sd", tables).reading
    if "c2st" in BY_NAME:
        assert "weight" in score("c2st", tables).reading


def test_a_rare_patient_who_is_copied_is_singled_out(
    people: tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame],
) -> None:
    train, holdout, fresh = people
    rare = train.head(1).assign(age=pd.array([103], dtype="Int64"), weight=171.5, marker=88.8)
    train = pd.concat([rare, train.iloc[1:]], ignore_index=True)
    copied = pd.concat([rare, fresh.iloc[1:]], ignore_index=True)
    without, with_copy = (populations.tables(train, holdout, made) for made in (fresh, copied))
    assert score("identical_match_share", with_copy).details["matches"] == 1
    assert score("identical_match_share", without).details["matches"] == 0

    def univariate(tables: Tables) -> float:
        rows: Any = score("singling_out_advantage", tables).details["table"]
        return next(row["advantage"] for row in rows if row["attack"] == "univariate")

    # Greatest age, weight and marker isolate one synthetic row and one training person, and no other.
    assert univariate(with_copy) > univariate(without) + 0.1
