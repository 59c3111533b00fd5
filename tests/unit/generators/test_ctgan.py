"""CTGAN: what is done around the package. What every generator promises is in tests/contracts."""

from __future__ import annotations

import pickle
import pickletools
import subprocess
import sys
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.random import SeedSequence
from numpy.typing import NDArray
from pydantic import ValidationError

pytest.importorskip("ctgan", reason="the package is an extra")

from app.errors import GeneratorFailed, InvalidInput
from app.generators.base import MIN_CELL, Sampler
from app.generators.ctgan import CTGAN
from app.generators.ctgan_plan import PACKAGE, PACKAGE_EPOCHS, Yardstick, plan_for, step_cost
from app.generators.machinery import assemble
from app.generators.tabular import KNOTS, LearnedTable, Slot, learned_columns, settle
from app.schema.frames import conform
from app.schema.parse import parse_schema
from app.schema.table import TableSchema

SMALL = {"generator_dim": (48,), "discriminator_dim": (48,), "embedding_dim": 16}
FEW = {"epochs": 2, **SMALL}


def silent(*_: Any, **__: Any) -> None:
    """Nobody listens."""


class Heard:
    """Warnings, as they come."""

    def __init__(self) -> None:
        self.messages: list[str] = []

    def __call__(self, pointer: str, message: str) -> None:
        self.messages.append(message)


def made(
    fields: list[dict[str, Any]], columns: dict[str, Any], **more: Any
) -> tuple[TableSchema, pd.DataFrame]:
    schema, _ = parse_schema({"fields": fields, **more})
    return schema, conform(pd.DataFrame(columns), schema)


def patients(n: int, seed: int = 5) -> tuple[TableSchema, pd.DataFrame]:
    """Marker and score rise together, the arm lifts both, in one arm the dose is absent more often."""
    rng = np.random.default_rng(seed)
    arm = rng.random(n) < 0.4
    marker = rng.normal(10, 2, n) + 3 * arm
    score = np.round(marker * 4 + rng.normal(0, 3, n))
    dose = np.where(rng.random(n) < np.where(arm, 0.6, 0.1), np.nan, np.round(rng.gamma(2, 5, n), 1))
    fields: list[dict[str, Any]] = [
        {"name": "arm", "type": "boolean"},
        {"name": "marker", "type": "number", "decimals": 2},
        {"name": "score", "type": "integer"},
        {"name": "dose", "type": "number"},
    ]
    return made(fields, {"arm": arm, "marker": marker.round(2), "score": score.astype(int), "dose": dose})


def trained(schema: TableSchema, train: pd.DataFrame, warn: Any = silent, **options: Any) -> Sampler:
    return CTGAN(CTGAN.Options(**options)).fit(
        schema, train, seed=SeedSequence(3), progress=silent, warn=warn
    )


def run(code: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=60
    ).stdout


def test_its_options_need_neither_torch_nor_numpy() -> None:
    heavy = "{'torch', 'ctgan', 'sklearn', 'scipy', 'pandas', 'numpy'}"
    code = "import sys; from app.generators.ctgan import CTGAN; CTGAN.Options(); "
    code += f"print({heavy} & set(sys.modules))"
    assert run(code).strip() == "set()"


def test_without_the_package_it_is_listed_with_the_reason() -> None:
    code = (
        "import sys; sys.modules['ctgan'] = None\n"
        "from app.generators import registry\n"
        "print(registry.names(), [item.reason for item in registry.unavailable() if item.name == 'ctgan'])"
    )
    said = run(code)
    assert "'ctgan'" not in said and "'marginals'" in said
    assert "not installed" in said


@pytest.mark.parametrize("rows", [10, 11, 13, 31, 88, 292, 499, 501, 1000, 3000, 50_000])
@pytest.mark.parametrize("asked", [{}, {"epochs": 3}, {"epochs": 3, "batch_size": 77, "pac": 7}], ids=str)
def test_batches_are_even_and_divisible_by_pac_and_never_larger_than_the_table(
    rows: int, asked: dict[str, int]
) -> None:
    heard = Heard()
    options = CTGAN.Options(**asked)
    package = plan_for(options, rows, heard).package
    assert package["batch_size"] % 2 == package["batch_size"] % package["pac"] == 0
    assert 2 <= package["batch_size"] <= rows
    adapted = "epochs" in asked and (package["batch_size"], package["pac"]) != (
        asked.get("batch_size", PACKAGE["batch_size"]),
        asked.get("pac", PACKAGE["pac"]),
    )
    assert any("became" in message for message in heard.messages) >= adapted


def test_with_epochs_given_what_is_auto_is_the_packages_own_and_nothing_is_said() -> None:
    heard = Heard()
    plan = plan_for(CTGAN.Options(epochs=300), 600, heard)
    assert {name: plan.package[name] for name in PACKAGE} == PACKAGE
    assert plan.epochs == 300 and not heard.messages


@pytest.mark.parametrize("rows", [10, 88, 292, 700, 1500, 3000, 20_000])
def test_auto_takes_less_work_than_the_packages_default_epochs(rows: int) -> None:
    plan = plan_for(CTGAN.Options(), rows, silent)
    work = plan.epochs * plan.steps_per_epoch * step_cost(plan.package["batch_size"])
    assert work <= PACKAGE_EPOCHS * max(rows // 500, 1)


def test_what_is_asked_for_beside_auto_is_kept() -> None:
    plan = plan_for(CTGAN.Options(batch_size=40, pac=4, generator_lr=0.01), 500, silent)
    assert (plan.package["batch_size"], plan.package["pac"], plan.package["generator_lr"]) == (40, 4, 0.01)


def test_auto_learns_says_what_it_took_and_where_it_ended() -> None:
    schema, train = patients(200)
    heard = Heard()
    sampler = trained(schema, train, heard, **SMALL)
    assert any("took for 200 rows" in message for message in heard.messages)
    assert any("weights of epoch" in message for message in heard.messages)
    rows = sampler.sample_shard(0, 4000, seed=SeedSequence(1))
    # Half of what holds in the real rows (0.86 and 0.5): far beyond what chance gives 4,000 rows.
    assert rows["marker"].corr(rows["score"].astype(float)) > 0.4
    absent = rows["dose"].isna().groupby(rows["arm"].astype(bool)).mean()
    assert absent[True] - absent[False] > 0.2
    # The distributions are set to the learned ones; a pilot of 32,768 rows leaves these margins.
    assert abs(rows["dose"].isna().mean() - train["dose"].isna().mean()) < 0.04
    assert abs(rows["score"].astype(float).mean() - train["score"].mean()) < 0.15 * train["score"].std()


@pytest.mark.parametrize("rows", [10, 11, 17])
def test_ten_rows_are_enough_for_a_network(rows: int) -> None:
    schema, train = patients(rows)
    heard = Heard()
    assert len(trained(schema, train, heard, **FEW).sample_shard(0, 50, seed=SeedSequence(1))) == 50
    assert any("became" in message for message in heard.messages)


def test_fewer_give_independent_columns_and_say_so() -> None:
    schema, train = patients(9)
    heard = Heard()
    assert len(trained(schema, train, heard, **FEW).sample_shard(0, 50, seed=SeedSequence(1))) == 50
    assert any("no network was trained" in message for message in heard.messages)


def test_no_reference_is_a_fault_that_says_what_to_do() -> None:
    schema, _ = patients(10)
    with pytest.raises(InvalidInput) as caught:
        CTGAN(CTGAN.Options()).fit(schema, None, seed=SeedSequence(1), progress=silent, warn=silent)
    assert "give the job a `reference`" in caught.value.faults[0].message


@pytest.mark.parametrize(
    "option", [{"epochs": True}, {"epochs": "300"}, {"batch_size": 1}, {"log_frequency": 1}], ids=str
)
def test_an_option_is_what_it_says_or_a_fault(option: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        CTGAN.Options.model_validate(option)


def test_options_come_back_from_json_as_they_went() -> None:
    options = CTGAN.Options.model_validate({"epochs": 3, "generator_dim": [32, 16], "generator_lr": 1})
    assert CTGAN.Options.model_validate(options.model_dump(mode="json")) == options


def test_every_epoch_is_told_with_an_eta_and_an_exception_ends_it() -> None:
    import torch

    schema, train = patients(60)
    told: list[tuple[float, float | None]] = []

    class Stop(Exception):
        pass

    def progress(fraction: float, detail: str = "", eta_seconds: float | None = None) -> None:
        told.append((fraction, eta_seconds))
        if len(told) == 4:
            raise Stop

    threads, state = torch.get_num_threads(), torch.get_rng_state()
    with pytest.raises(Stop):
        CTGAN(CTGAN.Options(**{**FEW, "epochs": 8})).fit(
            schema, train, seed=SeedSequence(1), progress=progress, warn=silent
        )
    assert [fraction for fraction, _ in told] == [1 / 8, 2 / 8, 3 / 8, 4 / 8]
    assert told[0][1] is None and all(eta is not None and eta > 0 for _, eta in told[1:])
    assert torch.get_num_threads() == threads and torch.equal(torch.get_rng_state(), state)


def test_training_that_diverges_says_what_to_change() -> None:
    import torch

    from app.generators.ctgan_training import Training

    training = Training([Slot(np.zeros(4), 0)], silent)
    training._generator = torch.nn.Linear(2, 2)
    training._generator.weight.data.fill_(torch.nan)
    with pytest.raises(GeneratorFailed, match="Lower `generator_lr`"):
        training.weights()


def test_states_of_others_neither_matter_nor_change() -> None:
    import torch

    schema, train = patients(60)
    tables = []
    for noise in (1, 2):
        np.random.seed(noise)
        torch.manual_seed(noise)
        before = np.random.get_state()[1].copy()
        tables.append(trained(schema, train, **FEW).sample_shard(0, 200, seed=SeedSequence(1)))
        assert (np.random.get_state()[1] == before).all()
    pd.testing.assert_frame_equal(*tables)


def test_the_pickled_sampler_is_weights_and_shares_alone() -> None:
    schema, train = patients(300)
    pickled = pickle.dumps(trained(schema, train, **FEW))
    named = [str(arg) for code, arg, _ in pickletools.genops(pickled) if isinstance(arg, str)]
    assert not {name.split(".")[0] for name in named} & {"torch", "ctgan", "rdt", "sklearn", "pandas"}
    # One number for each of the 300 rows would be an array of at least 300 numbers beyond KNOTS and weights.
    sampler = pickle.loads(pickled)
    (table,) = [part for part in sampler.components[-1].parts if isinstance(part, LearnedTable)]
    for column in table.columns:
        assert len(column.marginal.first) <= len(train) / 10 + 1, "a learned bin rests on ten persons"
    assert {len(setting) for setting in table.settings} <= {2, KNOTS}


def test_many_levels_are_pooled_with_a_warning_and_keep_their_shares() -> None:
    rng = np.random.default_rng(1)
    levels = [f"L{k:02d}" for k in range(80)]
    drawn = np.minimum(rng.geometric(0.03, 8000) - 1, 79)
    schema, train = made(
        [{"name": "ward", "type": "string", "categories": levels}, {"name": "x", "type": "number"}],
        {"ward": [levels[k] for k in drawn], "x": rng.normal(size=8000).round(2)},
    )
    heard = Heard()
    rows = trained(schema, train, heard, **FEW).sample_shard(0, 20_000, seed=SeedSequence(1))
    assert any("rarest were learned as one" in message for message in heard.messages)
    shares = [frame["ward"].value_counts(normalize=True, sort=False).to_numpy() for frame in (train, rows)]
    # Four standard errors of a share of 3 % in the pilot's 32,768 rows and these 20,000.
    assert np.abs(shares[0] - shares[1]).max() < 0.008
    assert (shares[1] > 0).all()


def test_levels_of_fewer_than_min_cell_rows_are_not_made() -> None:
    rng = np.random.default_rng(1)
    schema, train = made(
        [
            {"name": "c", "type": "string", "categories": ["a", "b", "rare", "rarer"]},
            {"name": "x", "type": "number"},
        ],
        {"c": ["a"] * 60 + ["b"] * 35 + ["rare"] * 3 + ["rarer"] * 2, "x": rng.normal(size=100).round(2)},
    )
    train.attrs[MIN_CELL] = 5
    heard = Heard()
    rows = trained(schema, train, heard, **FEW).sample_shard(0, 5000, seed=SeedSequence(1))
    assert set(rows["c"]) == {"a", "b"}
    assert any("fewer than 5 rows" in message for message in heard.messages)


def test_a_table_too_wide_for_the_network_is_refused_before_it_is_trained() -> None:
    rng = np.random.default_rng(1)
    levels = [f"L{k:02d}" for k in range(48)]
    names = [f"c{k}" for k in range(130)]
    schema, train = made(
        [{"name": name, "type": "string", "categories": levels} for name in names],
        {name: pd.Categorical.from_codes(rng.permutation(np.arange(960) % 48), levels) for name in names},
    )
    with pytest.raises(InvalidInput) as caught:
        trained(schema, train)
    assert "Leave out columns, or join levels" in caught.value.faults[0].message


def test_dates_whole_numbers_and_grids_come_back_as_such() -> None:
    rng = np.random.default_rng(2)
    days = np.datetime64("2020-01-01") + rng.integers(0, 700, 120)
    schema, train = made(
        [
            {"name": "day", "type": "date"},
            {"name": "at", "type": "time"},
            {"name": "karnofsky", "type": "integer"},
            {"name": "kids", "type": "integer"},
            {"name": "site", "type": "string", "categories": ["only"]},
            {"name": "nothing", "type": "number"},
        ],
        {
            "day": days.astype("M8[s]"),
            "at": [f"{hour:02d}:30:00" for hour in rng.integers(6, 20, 120)],
            "karnofsky": rng.integers(4, 11, 120) * 10,
            "kids": rng.integers(0, 4, 120),
            "site": ["only"] * 120,
            "nothing": [None] * 120,
        },
    )
    rows = trained(schema, train, **FEW).sample_shard(0, 3000, seed=SeedSequence(1))
    assert rows.dtypes.equals(train.dtypes)
    assert rows["day"].between("2019-10-01", "2022-03-01").all()
    assert set(rows["karnofsky"] % 10) == {0}
    assert set(rows["kids"]) == {0, 1, 2, 3}
    assert set(rows["site"]) == {"only"} and rows["nothing"].isna().all()


class Noise:
    """A network that has learned nothing: scores follow one another, log weights lean to the first code."""

    def draw(self, rng: np.random.Generator, n: int) -> NDArray[np.float32]:
        shared = rng.standard_normal((n, 1))
        raw = np.hstack([shared + rng.standard_normal((n, 2)), rng.gumbel(size=(n, 4))])
        raw[:, 2] += 3
        raw[:, 5] -= shared[:, 0]
        return raw.astype("float32")


def test_distributions_hold_in_the_rows_that_rules_leave() -> None:
    rng = np.random.default_rng(3)
    n = 600
    first = rng.integers(0, 60, n)
    later = first + rng.integers(0, 60, n)
    schema, train = made(
        [
            {"name": "relapse", "type": "integer"},
            {"name": "death", "type": "integer"},
            {"name": "sex", "type": "string", "categories": ["F", "M"]},
            {"name": "pregnant", "type": "boolean", "relevant": "sex == 'F'"},
        ],
        {
            "relapse": first,
            "death": later,
            "sex": np.where(rng.random(n) < 0.7, "F", "M"),
            "pregnant": rng.random(n) < 0.15,
        },
        rules=["relapse <= death"],
    )
    from app.blueprint.marginal_learned import fitted_marginal
    from app.generators.machinery import where_it_applies

    marginals = [fitted_marginal(schema, f, where_it_applies(f, train), silent) for f in schema.fields]
    columns = learned_columns(schema, marginals, train, silent, 10)
    settings = (np.linspace(-3, 3, KNOTS),) * 2 + (np.zeros(2),) * 2
    table = LearnedTable(columns, Noise(), ((0, 1), (1, 1), (2, 2), (4, 2)), settings)
    (component,) = assemble(schema, [table], silent).components
    sampler = assemble(schema, [settle(schema, table, component, SeedSequence(1))], silent)
    rows = sampler.sample_shard(0, 20_000, seed=SeedSequence(2))
    assert (rows["relapse"] <= rows["death"]).all()
    for name in ("relapse", "death"):
        # Without settling the means are off by a third of a standard deviation.
        assert abs(rows[name].mean() - train[name].mean()) < 0.08 * train[name].std(), name
    assert abs((rows["sex"] == "F").mean() - (train["sex"] == "F").mean()) < 0.02
    women = rows[rows["sex"] == "F"]
    share = train.loc[train["sex"] == "F", "pregnant"].astype(float).mean()
    assert abs(women["pregnant"].astype(float).mean() - share) < 0.02
    assert rows.loc[rows["sex"] == "M", "pregnant"].isna().all()


def test_the_validation_score_orders_what_was_learned() -> None:
    rng = np.random.default_rng(4)
    x = rng.standard_normal(2000)
    y = x + rng.standard_normal(2000)
    code = (y + rng.standard_normal(2000) > 0).astype(int)
    slots = [Slot(x, 0), Slot(y, 0), Slot(code, 2)]
    yardstick = Yardstick.of(slots, rng)

    def raw(*columns: NDArray[Any]) -> NDArray[np.float32]:
        third = np.eye(2)[columns[2]] * 9
        return np.column_stack([columns[0], columns[1], third]).astype("float32")

    itself = yardstick.score(raw(x, y, code))
    half = yardstick.score(raw(x, y, rng.permutation(code)))
    nothing = yardstick.score(raw(x, rng.permutation(y), rng.permutation(code)))
    turned = yardstick.score(raw(-x, y, 1 - code))
    assert itself == pytest.approx(1, abs=0.01)
    assert itself > half > nothing > turned
