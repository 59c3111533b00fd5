"""What the attacks find where the truth is known: nothing in a second sample, copies where there are some."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import pytest
from scipy.stats import beta

from app.evaluation.base import Metric, NotMeasured, Score, Tables
from app.evaluation.privacy import wilson
from app.evaluation.privacy_attacks import AttributeInference, Linkability
from app.evaluation.privacy_distance import Space, nearest, space_of
from app.evaluation.privacy_rates import Rate, advantage, gained, in_two_ways, none_in, one_in, rate
from app.evaluation.privacy_similarity import (
    DcrShare,
    MembershipInference,
    NearMatchShare,
    NndrShare,
    auroc,
    strictest,
)
from app.evaluation.privacy_singling_out import SinglingOut
from app.evaluation.privacy_synthpop import Disco, ReplicatedUniques
from app.rows_needed import least_limit, persons_needed, rows_needed
from app.schema.parse import parse_schema
from app.schema.table import TableSchema

NUMBERS, LEVELS = 5, 3
SCHEMA: TableSchema = parse_schema(
    {
        "fields": [
            *({"name": f"x{i}", "type": "number", "decimals": 1} for i in range(NUMBERS)),
            *({"name": f"c{i}", "type": "string", "categories": ["a", "b", "c"]} for i in range(LEVELS)),
        ]
    }
)[0]
ATTACKS: tuple[type[Metric], ...] = (
    NearMatchShare, DcrShare, NndrShare, MembershipInference, SinglingOut, Linkability, AttributeInference,
    ReplicatedUniques, Disco,
)  # fmt: skip
every_attack = pytest.mark.parametrize("attack", ATTACKS, ids=lambda cls: cls.name)


def people(n: int, seed: int) -> pd.DataFrame:
    """Persons of one population, all columns related."""
    rng = np.random.default_rng([31, seed])
    hidden = rng.normal(size=(n, NUMBERS + LEVELS)) + rng.normal(size=(n, 1))
    frame = pd.DataFrame({f"x{i}": (100 + 15 * hidden[:, i]).round(1) for i in range(NUMBERS)})
    for i in range(LEVELS):
        levels = np.digitize(hidden[:, NUMBERS + i], [-0.7, 0.9])
        frame[f"c{i}"] = pd.Categorical.from_codes(levels, ["a", "b", "c"])
    return frame


def tables(made: pd.DataFrame, seed: int = 0, n: int = 560, m: int = 240, **more: Any) -> Tables:
    real = people(n + m, 1000 + seed)
    return Tables(
        SCHEMA,
        (made,),
        train=real.head(n).reset_index(drop=True),
        holdout=real.tail(m).reset_index(drop=True),
        seed=seed,
        quasi_identifiers=("c0", "x0", "x1"),
        sensitive=("c2", "x2"),
        **more,
    )


def found(attack: type[Metric], judged: Tables) -> Score:
    score = attack().measure(judged)
    assert isinstance(score, Score), score
    return score


def with_copies(share: float, jitter: float = 0.0) -> Tables:
    """A second sample, of which as many rows as `share` of the train part has give way to copies of these."""
    judged = tables(people(600, 1))
    assert judged.train is not None
    copies = judged.train.head(round(share * len(judged.train))).copy()
    rng = np.random.default_rng(77)
    for i in range(NUMBERS):
        copies[f"x{i}"] = (copies[f"x{i}"] + jitter * rng.normal(size=len(copies))).round(1)
    made = pd.concat([copies, judged.synthetic[0].iloc[len(copies) :]], ignore_index=True)
    return replace(judged, synthetic=(made,))


@pytest.mark.parametrize("jitter", [0.0, 0.1], ids=["exact", "jittered"])
@every_attack
def test_copies_are_found_in_the_order_of_their_number(attack: type[Metric], jitter: float) -> None:
    if jitter and attack is SinglingOut:
        pytest.skip("a bound that is the copy's own number misses the person half of the time")
    scores = [found(attack, with_copies(share, jitter)) for share in (0.0, 0.01, 0.05, 1.0)]
    few, some, every = (score.value for score in scores[1:])
    if attack in (NearMatchShare, MembershipInference, Linkability):
        # These look at rows one by one: already a hundredth shows.
        assert scores[0].value < few < some < every
    else:
        assert some < every
    worst = scores[-1]
    assert worst.interval is not None and worst.baseline is not None
    assert worst.interval[0] > worst.baseline


@every_attack
def test_a_second_sample_gives_attacks_nothing(attack: type[Metric]) -> None:
    scores = [found(attack, tables(people(600, seed), seed)) for seed in range(2, 22)]
    pairs = [(score.interval, score.baseline) for score in scores]
    covered = sum(low <= baseline <= high for (low, high), baseline in pairs)  # type: ignore[misc, operator]
    if attack in (NearMatchShare, ReplicatedUniques, Disco):
        # The yardstick is an estimate here: it lies within its own interval's reach.
        covered = sum(
            score.interval[0] <= score.details["holdout_interval"][1]  # type: ignore[index]
            and score.details["holdout_interval"][0] <= score.interval[1]  # type: ignore[index]
            for score in scores
        )
    # Of 20 intervals of 95 % 14 or fewer cover with a chance of 3 in 10,000.
    assert covered >= 15
    # The mean is unbiased: 20 independent tables leave a standard error of at most 0.025.
    gaps = [score.value - score.baseline for score in scores]  # type: ignore[operator]
    assert abs(float(np.mean(gaps))) < 4 * max(float(np.std(gaps)), 1e-3) / np.sqrt(20)


def test_one_rare_patient_who_was_copied_is_singled_out() -> None:
    judged = tables(people(600, 3))
    assert judged.train is not None
    train, made = judged.train.copy(), judged.synthetic[0].copy()
    for i in range(NUMBERS):
        train.loc[17, f"x{i}"] = made.loc[3, f"x{i}"] = 400.0 + i
    clean = found(SinglingOut, judged)
    copied = found(SinglingOut, replace(judged, train=train, synthetic=(made,)))
    before, after = (
        next(row for row in score.details["table"] if row["attack"] == "univariate")
        for score in (clean, copied)
    )
    # Each of the five upper extremes isolates this person. That they all rest on one person is why the
    # interval may not leave 0: of one person it cannot be told from chance on which side of a split they are.
    assert after["train_rate"] >= 0.5
    assert after["advantage"] > max(before["advantage"], 0.3)


class TestSinglingOut:
    def test_it_never_says_less_than_so_few_persons_can_show(self) -> None:
        fields = [{"name": name, "type": "boolean"} for name in ("b", "d")]
        coarse = parse_schema({"fields": fields})[0]
        frame = pd.DataFrame({name: pd.array([True, False] * 200, dtype="boolean") for name in ("b", "d")})
        for persons in (10, 73, 200):
            judged = Tables(coarse, (frame,), train=frame.head(400), holdout=frame.head(persons))
            score = found(SinglingOut, judged)
            assert score.value == 0
            assert score.interval is not None
            assert score.interval[1] == pytest.approx(wilson(0, persons)[1])

    def test_a_full_copy_is_a_full_advantage(self) -> None:
        judged = with_copies(1.0)
        assert judged.train is not None
        score = found(SinglingOut, replace(judged, synthetic=(judged.train,)))
        assert score.value > 0.9

    def test_the_size_of_the_holdout_does_not_bias_it(self) -> None:
        # The train part has 8 times as many persons, and so isolates another share of predicates.
        values = [found(SinglingOut, tables(people(640, s), s, n=640, m=80)).value for s in range(30, 46)]
        assert abs(float(np.mean(values))) < 4 * float(np.std(values)) / 4


def test_the_chance_to_be_the_only_one_is_exact() -> None:
    for marked in range(7):
        draws = list(itertools.combinations(range(6), 3))
        ones = sum(sum(person < marked for person in draw) == 1 for draw in draws) / len(draws)
        nones = sum(sum(person < marked for person in draw) == 0 for draw in draws) / len(draws)
        assert one_in(6, np.array([marked]), 3)[0] == pytest.approx(ones)
        assert none_in(6, np.array([marked]), 3)[0] == pytest.approx(nones)


def test_the_dcr_share_is_the_mean_over_all_samples_of_the_train_part() -> None:
    judged = tables(people(40, 5), n=13, m=11)
    space = space_of(judged)
    assert isinstance(space, Space)
    every = range(len(space.fields))
    made, train, holdout = (
        space.encoded(part.raw, every) for part in (space.synthetic, space.train, space.holdout)
    )
    to_train = ((made[:, None] - train) ** 2).sum(axis=2)
    to_holdout = ((made[:, None] - holdout) ** 2).sum(axis=2).min(axis=1)
    shares = [
        (to_train[:, list(some)].min(axis=1) < to_holdout).mean()
        for some in itertools.combinations(range(13), 11)
    ]
    assert found(DcrShare, judged).value == pytest.approx(np.mean(shares))


def test_neighbours_are_the_nearest_as_scikit_learn_finds_them() -> None:
    from sklearn.neighbors import NearestNeighbors

    rng = np.random.default_rng(6)
    points, among = rng.normal(size=(300, 7)), rng.normal(size=(5000, 7))
    expected = NearestNeighbors(n_neighbors=1).fit(among).kneighbors(points, return_distance=False)[:, 0]
    assert (nearest(points, among) == expected).all()


class TestMembership:
    def test_the_area_counts_pairs_and_halves_ties(self) -> None:
        rng = np.random.default_rng(8)
        positive, negative = rng.integers(0, 6, 30).astype(float), rng.integers(0, 5, 20).astype(float)
        pairs = positive[:, None] - negative
        assert auroc(positive, negative).value == pytest.approx(((pairs > 0) + (pairs == 0) / 2).mean())

    def test_what_is_wholly_apart_still_has_an_interval(self) -> None:
        apart = auroc(np.arange(50.0) + 100, np.arange(30.0))
        assert (apart.value, apart.high) == (1.0, 1.0)
        assert apart.low == pytest.approx(wilson(30, 30)[0])

    def test_the_strict_rate_is_exact_in_small_tables(self) -> None:
        # All orders of 3 members among 6 persons, one false positive allowed.
        hits: list[int] = []
        values: dict[int, float] = {}
        baseline = 0.0
        for places in itertools.combinations(range(6), 3):
            positive = np.array(places, dtype=float)
            negative = np.array([place for place in range(6) if place not in places], dtype=float)
            told: Any = strictest(positive, negative, 0.34)
            hits.append(round(told["value"] * 3))
            values[hits[-1]] = told["p_value"]
            baseline = told["baseline"]
        for hit, p_value in values.items():
            assert p_value == pytest.approx(np.mean([other >= hit for other in hits]))
        assert baseline == pytest.approx(np.mean(hits) / 3)

    def test_few_holdout_persons_allow_no_false_positive(self) -> None:
        told = strictest(np.array([5.0, 1.0]), np.linspace(0, 4, 99), 0.01)
        assert told["allowed_false_positives"] == 0
        assert told["value"] == 0.5


class TestRates:
    def test_the_advantage_is_what_is_gained_of_what_was_left_to_gain(self) -> None:
        gain = advantage(Rate(0.6, 0.5, 0.7), Rate(0.2, 0.1, 0.3))
        assert gain.value == pytest.approx(0.5)
        # Arms by the derivatives 1/0.8 and 0.4/0.64.
        assert gain.high - gain.value == pytest.approx(np.hypot(0.1 / 0.8, 0.1 * 0.4 / 0.64))

    def test_no_success_on_either_side_is_bounded_as_wilson_bounds_it(self) -> None:
        nothing = rate(np.zeros(73))
        gain = advantage(nothing, nothing)
        assert (gain.value, gain.high) == (0.0, pytest.approx(wilson(0, 73)[1]))
        assert gain.high <= 0.05

    def test_few_successes_are_bounded_by_jeffreys_arms(self) -> None:
        gain = gained(np.r_[np.ones(2), np.zeros(98)], np.r_[np.ones(1), np.zeros(49)])
        # Both rates are 0.02; Jeffreys' intervals are the beta distribution's quantiles.
        up = beta.ppf(0.975, 2.5, 98.5) - 0.02
        down = 0.02 - beta.ppf(0.025, 1.5, 49.5)
        assert gain.value == pytest.approx(0.0)
        assert gain.high == pytest.approx(np.hypot(up / 0.98, down / 0.98))

    def test_an_attack_that_always_works_gains_nothing(self) -> None:
        always = rate(np.ones(50))
        assert advantage(always, always).value == 0.0

    def test_rows_that_share_a_neighbour_count_as_fewer(self) -> None:
        values = np.tile([0.0, 1.0], 50)
        alone = np.arange(100)
        shared = np.repeat(np.arange(10), 10) * 2 + np.tile([0, 1], 50)
        assert in_two_ways(values, alone, alone) == pytest.approx(0.25 / 100)
        assert in_two_ways(values, shared, alone) == pytest.approx(0.25 / 20)


class TestOneRowForEachPerson:
    def test_visits_of_a_person_count_once(self) -> None:
        schema = parse_schema(
            {"fields": [{"name": "who", "type": "integer"}, *SCHEMA.document["fields"]]}
        )[0]  # fmt: skip
        visits = people(300, 9).assign(who=pd.array(np.arange(300) // 3, dtype="Int64"))
        judged = Tables(schema, (visits,), train=visits, holdout=visits.tail(90), group="who")
        space = space_of(judged)
        assert isinstance(space, Space)
        assert (len(space.train), len(space.holdout)) == (100, 30)
        assert "who" not in [field.name for field in space.fields]

    def test_too_few_persons_are_a_reason(self) -> None:
        few = tables(people(50, 1), n=30, m=9)
        result = SinglingOut().measure(few)
        assert isinstance(result, NotMeasured) and "9 persons" in result.reason


class TestSynthpop:
    FIELDS: ClassVar[list[dict[str, Any]]] = [
        {"name": "key", "type": "integer"},
        {"name": "secret", "type": "string", "categories": ["no", "yes"]},
    ]

    def judged(self) -> Tables:
        schema = parse_schema({"fields": self.FIELDS})[0]

        def frame(keys: list[int], secrets: str) -> pd.DataFrame:
            words = ["yes" if letter == "y" else "no" for letter in secrets]
            return pd.DataFrame(
                {
                    "key": pd.array(keys, dtype="Int64"),
                    "secret": pd.Categorical(words, categories=["no", "yes"]),
                }
            )

        return Tables(
            schema,
            (frame([1, 2, 3, 3, 4, 4, 5, 5, 5, 5], "ynyynyyyyy"),),
            train=frame([1, 2, 2, 3, 4, 4, 5, 5, 6, 7], "ynnyyyyynn"),
            holdout=frame([1, 1, 2, 5, 5, 5, 8, 8, 8, 8], "yynnnynnnn"),
            quasi_identifiers=("key",),
            sensitive=("secret",),
        )

    def test_replicated_uniques_are_unique_on_both_sides(self) -> None:
        score = found(ReplicatedUniques, self.judged())
        # 1 and 2 are unique in synthetic; of them 1 is in train, 2 in the holdout.
        assert (score.value, score.baseline) == (pytest.approx(0.1), pytest.approx(0.1))
        assert score.details["repU"] == pytest.approx(0.1)

    def test_disco_counts_whom_the_rows_agree_on_rightly(self) -> None:
        score = found(Disco, self.judged())
        # Rows agree on 1 (yes), 2 (no), 3 (yes), 5 (yes): in train 1 + 2 + 1 + 2, in the holdout 2 + 1 + 1.
        assert (score.value, score.baseline) == (pytest.approx(0.6), pytest.approx(0.4))

    def test_without_named_columns_there_is_a_reason(self) -> None:
        bare = replace(self.judged(), quasi_identifiers=(), sensitive=())
        for attack in (ReplicatedUniques, Disco, AttributeInference):
            result = attack().measure(bare)
            assert isinstance(result, NotMeasured) and "evaluation." in result.reason


class TestRowsNeeded:
    @pytest.mark.parametrize("limit", [0.01, 0.05, 0.1, 0.2])
    def test_so_many_persons_are_enough_and_one_less_is_not(self, limit: float) -> None:
        persons = persons_needed(limit)
        assert persons is not None
        assert wilson(0, persons)[1] <= limit < wilson(0, persons - 1)[1]

    @pytest.mark.parametrize("holdout", [0.1, 0.3, 0.5, 0.9])
    def test_both_parts_of_a_table_of_that_size_have_the_persons(self, holdout: float) -> None:
        from app.datasets.split import holdout_mask

        rows, persons = rows_needed(0.1, holdout), persons_needed(0.1)
        assert rows is not None and persons is not None
        for seed in range(20):
            mask = holdout_mask(f"{seed:064x}", pd.DataFrame({"x": range(rows)}), holdout)
            assert min(mask.sum(), (~mask).sum()) >= persons

    def test_what_no_table_can_show_has_no_number(self) -> None:
        assert rows_needed(0.0, 0.3) is None
        assert persons_needed(least_limit()) is not None
        assert persons_needed(least_limit() * 0.98) is None


def test_nothing_of_a_real_row_is_in_what_is_said() -> None:
    schema = parse_schema(
        {
            "fields": [
                *SCHEMA.document["fields"],
                {"name": "rare", "type": "string", "categories": ["usual", "canary level"]},
                {"name": "note", "type": "string"},
            ]
        }
    )[0]

    def dressed(frame: pd.DataFrame) -> pd.DataFrame:
        usual = pd.Categorical(["usual"] * len(frame), categories=["usual", "canary level"])
        return frame.assign(rare=usual, note="canary note")

    judged = replace(tables(people(400, 11)), schema=schema)
    assert judged.train is not None and judged.holdout is not None
    train = dressed(judged.train)
    train.loc[5, ["x0", "x1", "rare"]] = [98765.4, -31337.7, "canary level"]
    judged = replace(
        judged,
        train=train,
        holdout=dressed(judged.holdout),
        synthetic=(train,),
        sensitive=("rare", "x1"),
        quasi_identifiers=("c0", "x0"),
    )
    for attack in ATTACKS:
        score = found(attack, judged)
        said = json.dumps([score.value, score.interval, score.reading, dict(score.details)], allow_nan=False)
        for canary in ("98765", "31337", "canary"):
            assert canary not in said, (attack.name, canary)
