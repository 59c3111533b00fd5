from __future__ import annotations

import hashlib

import numpy as np
import pandas as pd
import pytest

from app.datasets.split import holdout_mask

SHA = hashlib.sha256(b"a table").hexdigest()
RNG = np.random.default_rng(20)
FRAME = pd.DataFrame(
    {
        "event": pd.array(RNG.choice([0, 1, None], 700, p=[0.68, 0.3, 0.02]), dtype="Int64"),
        "time": np.where(RNG.random(700) < 0.05, np.nan, RNG.exponential(30, 700)),
        "person": pd.array(RNG.integers(0, 150, 700).astype(str), dtype="string[pyarrow]"),
        "day": pd.to_datetime("2020-01-01") + pd.to_timedelta(RNG.integers(0, 900, 700), "D"),
    }
)


def test_the_same_question_gets_the_same_rows_for_ever() -> None:
    mask = holdout_mask(SHA, FRAME.head(20), 0.3)
    assert np.flatnonzero(mask).tolist() == np.flatnonzero(holdout_mask(SHA, FRAME.head(20), 0.3)).tolist()
    # Written down: a new version of anything must not move a row from the holdout into training.
    assert np.flatnonzero(mask).tolist() == [8, 12, 13, 16, 18, 19]


def test_another_table_gets_another_holdout() -> None:
    other = hashlib.sha256(b"another table").hexdigest()
    assert (holdout_mask(SHA, FRAME, 0.3) != holdout_mask(other, FRAME, 0.3)).any()


@pytest.mark.parametrize("target", [None, "event", "time", "day", "person"])
@pytest.mark.parametrize("share", [0.1, 0.3, 0.5])
def test_the_holdout_has_its_share(share: float, target: str | None) -> None:
    # Systematic sampling is within one row of the share.
    assert abs(holdout_mask(SHA, FRAME, share, target).sum() - share * 700) <= 1


def test_every_level_of_the_target_gives_its_share_and_so_do_the_missing() -> None:
    mask = holdout_mask(SHA, FRAME, 0.3, "event")
    for level in (0, 1):
        rows = (FRAME["event"] == level).fillna(False).to_numpy(dtype=bool)
        assert abs(mask[rows].sum() - 0.3 * rows.sum()) <= 1
    missing = FRAME["event"].isna().to_numpy()
    assert abs(mask[missing].sum() - 0.3 * missing.sum()) <= 1


def test_every_tenth_of_a_numeric_target_gives_its_share() -> None:
    mask = holdout_mask(SHA, FRAME, 0.3, "time")
    tenths = pd.qcut(FRAME["time"], 10, labels=False).to_numpy()
    for tenth in range(10):
        rows = tenths == tenth
        assert (
            abs(mask[rows].sum() - 0.3 * rows.sum()) <= 1.5
        )  # bins at a quantile may differ by the row on it


def test_the_names_and_types_of_the_target_s_values_do_not_matter() -> None:
    renamed = FRAME.assign(event=FRAME["event"].map({0: "alive", 1: "dead"}))
    expected = holdout_mask(SHA, FRAME, 0.3, "event")
    assert (holdout_mask(SHA, renamed, 0.3, "event") == expected).all()
    as_floats = FRAME.assign(event=FRAME["event"].astype("float64"))
    assert (holdout_mask(SHA, as_floats, 0.3, "event") == expected).all()


def test_a_person_s_rows_stay_together() -> None:
    mask = holdout_mask(SHA, FRAME, 0.3, "event", "person")
    assert (pd.Series(mask).groupby(FRAME["person"].to_numpy()).nunique() == 1).all()
    assert 0.2 < mask.mean() < 0.4  # persons have unequal numbers of rows


def test_rows_without_a_person_stand_alone() -> None:
    frame = pd.DataFrame({"person": pd.array([None] * 50, dtype="string[pyarrow]")})
    assert holdout_mask(SHA, frame, 0.4, None, "person").sum() in (19, 20, 21)


@pytest.mark.parametrize("rows", [2, 3, 5])
@pytest.mark.parametrize("share", [0.01, 0.5, 0.99])
def test_each_part_gets_a_row_where_there_are_two(rows: int, share: float) -> None:
    mask = holdout_mask(SHA, FRAME.head(rows), share, "time")
    assert 0 < mask.sum() < rows


def test_one_row_one_person_or_no_share_leave_everything_to_training() -> None:
    assert not holdout_mask(SHA, FRAME.head(1), 0.5).any()
    assert not holdout_mask(SHA, FRAME, 0.0).any()
    assert not holdout_mask(SHA, pd.DataFrame({"person": ["x"] * 9}), 0.5, None, "person").any()
    assert holdout_mask(SHA, FRAME.head(0), 0.5).shape == (0,)


def test_a_target_without_any_value_is_no_obstacle() -> None:
    frame = pd.DataFrame({"y": np.full(40, np.nan)})
    assert holdout_mask(SHA, frame, 0.25, "y").sum() in (9, 10, 11)
