"""Kills while an uploaded table is judged: each job ends once, with the report of an undisturbed run."""

from __future__ import annotations

import hashlib
import json
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tests.workers.house import Broker, House, wait_for
from tests.workers.test_chaos import SEED, TARGETS, settings

FIELDS: list[dict[str, Any]] = [
    {"name": "age", "type": "integer"},
    {"name": "dose", "type": "number", "decimals": 2},
    {"name": "stage", "type": "string", "categories": ["I", "II", "III"]},
    {"name": "dead", "type": "boolean"},
]
SCHEMA = {"fields": FIELDS}


def people(rows: int, seed: int) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    ill = rng.normal(size=rows)
    return pd.DataFrame(
        {
            "age": pd.array(np.rint(60 + 8 * ill + 5 * rng.normal(size=rows)).astype(int), dtype="Int64"),
            "dose": np.round(np.exp(ill / 2 + rng.normal(size=rows) / 2), 2),
            "stage": pd.Categorical.from_codes(np.digitize(ill, [-0.5, 0.7]), ["I", "II", "III"]),
            "dead": pd.array(ill + rng.normal(size=rows) > 0.5, dtype="boolean"),
        }
    )


class Judging:
    """A house with two uploaded tables, and the report of an undisturbed run."""

    def __init__(self, house: House) -> None:
        self.house = house
        house.upload("ds_real", people(300, 1), SCHEMA)
        house.upload("ds_made", people(300, 2), SCHEMA)
        house.start()
        house.wait(self.post(), 60)  # the first one starts cold
        job = house.wait(job_id := self.post(), 60)
        assert job.status == "succeeded", job.error
        self.seconds = (job.finished_at - job.started_at).total_seconds()
        self.report, self.page = self.told(job_id)
        assert json.loads(self.report)["job"]["kind"] == "evaluation"

    def post(self) -> str:
        return self.house.post(
            300, kind="evaluation", generator="uploaded", generator_version="", schema_document=SCHEMA,
            options={"synthetic_id": "ds_made", "holdout_id": None}, reference_id="ds_real",
            evaluation={
                "enabled": True, "holdout": 0.3, "depth": "core", "target": None, "group": None,
                "quasi_identifiers": ["age", "stage"], "sensitive": ["dose"],
            },
        )  # fmt: skip

    def told(self, job_id: str) -> tuple[str, str]:
        """Return report and page from the store, without what is the job's own: id and times."""
        texts = []
        created = self.house.job(job_id).created_at.isoformat()
        for name in ("report", "page"):
            (artifact,) = self.house.artifacts(job_id, name)
            with self.house.store.open(artifact.key) as file:
                content = file.read()
            assert hashlib.sha256(content).hexdigest() == artifact.sha256
            texts.append(content.decode().replace(job_id, "JOB"))
        report = json.loads(texts[0])
        assert report["job"].pop("created_at") == created
        return json.dumps(report), texts[1].replace(created, "").replace(created[:16].replace("T", " "), "")

    def round(self, dice: random.Random, target: str) -> None:
        house = self.house
        moment = dice.uniform(0, self.seconds)
        job_id = self.post()
        assert wait_for(lambda: house.job(job_id).started_at is not None, 20), house.tail()
        time.sleep(max(0.0, house.job(job_id).started_at.timestamp() + moment - time.time()))
        before = house.job(job_id)
        house.kill(target)
        job = house.wait(job_id, 60)
        said = f"{target} at {moment:.3f} s, {before.fraction:.2f} done: {job.status}, attempt {job.attempt}"
        print(said)  # noqa: T201 a failure is repeated by its seed
        assert job.status == "succeeded", (said, job.error, house.tail())
        report, page = self.told(job_id)
        assert report == self.report, said
        assert page == self.page, said
        recorded = {row.key for name in ("report", "page") for row in house.artifacts(job_id, name)}
        assert wait_for(lambda: set(house.files(job_id)) == recorded, 15), (said, house.files(job_id))


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)])
def judging(request: pytest.FixtureRequest, tmp_path: Path, broker: Broker) -> Iterator[Judging]:
    url = None if request.param == "sqlite" else request.getfixturevalue("postgres").fresh_url()
    house = House(tmp_path, broker, url, **settings())
    try:
        yield Judging(house)
    finally:
        house.close()


def test_kills_while_a_table_is_judged_change_nothing_in_the_report(judging: Judging) -> None:
    dice = random.Random(SEED + 2)
    print(f"seed {SEED + 2}")  # noqa: T201
    for target in ("child", "pool", "main", "everything"):
        judging.round(dice, target)


@pytest.mark.slow
def test_ten_kills_of_each_kind_while_a_table_is_judged_change_nothing(judging: Judging) -> None:
    dice = random.Random(SEED + 3)
    print(f"seed {SEED + 3}")  # noqa: T201
    for target in TARGETS:
        for _ in range(10):
            judging.round(dice, target)
