"""One column's distribution: what is declared holds when rounded, what is learned hides persons."""

import json
import pickle
from typing import Any

import numpy as np
import pandas as pd
import pytest

from app.blueprint.defaults import KNOWN_DISTRIBUTIONS
from app.blueprint.marginal import Marginal
from app.blueprint.marginal_declared import declared_marginal
from app.blueprint.marginal_learned import MIN_CELL, fitted_marginal
from app.blueprint.ticks import numbers
from app.schema.frames import conform, dtype_of
from app.schema.parse import parse_schema


def silent(pointer: str, message: str) -> None:
    """Nobody listens."""


def declared(field: dict[str, Any], warn: Any = silent, **rest: Any) -> Marginal:
    schema, _ = parse_schema({"fields": [{"name": "x", **field}, *rest.pop("beside", [])], **rest})
    return declared_marginal(schema, schema["x"], warn)


def learned(field: dict[str, Any], cells: list[Any], warn: Any = silent) -> Marginal:
    schema, _ = parse_schema({"fields": [{"name": "x", **field}]})
    column = conform(pd.DataFrame({"x": pd.Series(cells, dtype=object)}), schema)["x"]
    return fitted_marginal(schema, schema["x"], column, warn)


def drawn(marginal: Marginal, n: int = 200_000) -> np.ndarray[Any, Any]:
    return numbers(marginal.field, pd.Series(marginal.draw(np.random.default_rng(1), n)).dropna())


def numeric(kind: str, low: Any, high: Any, **statistics: Any) -> dict[str, Any]:
    bounds = {"minimum": low, "maximum": high}
    constraints = {name: bound for name, bound in bounds.items() if bound is not None}
    return {"type": kind, "constraints": constraints, "statistics": statistics}


DECLARATIONS: list[dict[str, Any]] = [
    numeric("integer", 65, 95, mean=71.2, sd=4.1, distribution="lognormal"),
    numeric("integer", 1, 60, mean=6.9, sd=4.1, median=6, distribution="lognormal"),
    numeric("number", 0, None, mean=2, sd=1.9),
    {"decimals": 6} | numeric("number", None, None, mean=-3, sd=0.5),
    numeric("integer", 0, None, mean=0.4, sd=0.8),
    {"decimals": 1} | numeric("number", 0, 10, mean=9, sd=1.2),
    numeric("integer", 0, 1000, mean=120, sd=100, quantiles={"0.25": 45, "0.5": 95, "0.75": 165}),
    numeric("integer", 0, None, mean=1.5, sd=3, quantiles={"0.25": 0, "0.5": 0, "0.75": 2}),
    *(numeric("number", 0, 10, mean=3, sd=2, distribution=name) for name in KNOWN_DISTRIBUTIONS),
    *(
        numeric("integer", None, None, mean=30, sd=7, distribution=name)
        for name in KNOWN_DISTRIBUTIONS
        if name != "beta"  # within 0 and 1 where no bounds are declared
    ),
]


@pytest.mark.parametrize("field", DECLARATIONS, ids=lambda field: json.dumps(field["statistics"])[:60])
def test_declared_statistics_hold_of_bounded_and_rounded_draws(field: dict[str, Any]) -> None:
    warnings: list[str] = []
    marginal = declared(field, lambda pointer, message: warnings.append(message))
    assert not warnings
    wanted, values = field["statistics"], drawn(marginal)
    # The distribution itself is exact; draws of 200,000 stray by 5 standard errors at most.
    assert marginal.mean == pytest.approx(wanted["mean"], abs=1e-3 * wanted["sd"])
    assert marginal.sd == pytest.approx(wanted["sd"], rel=1e-3)
    assert values.mean() == pytest.approx(wanted["mean"], abs=5 * wanted["sd"] / 200_000**0.5)
    assert values.std() == pytest.approx(wanted["sd"], rel=0.03)  # heavy tails: the sd's own error
    quantiles = {float(p): q for p, q in wanted.get("quantiles", {}).items()}
    if "median" in wanted:
        quantiles[0.5] = wanted["median"]
    for p, q in quantiles.items():
        assert np.quantile(values, p) == pytest.approx(q, abs=0.01 * wanted["sd"]), p
    bounds = field.get("constraints", {})
    assert values.min() >= bounds.get("minimum", -np.inf)
    assert values.max() <= bounds.get("maximum", np.inf)


def test_nothing_is_clipped_onto_a_bound() -> None:
    values = drawn(declared({"type": "number", "decimals": 1, "constraints": {"minimum": 0, "maximum": 10},
                             "statistics": {"mean": 5, "sd": 2.6}}))  # fmt: skip
    for bound, beside in ((0, 0.1), (10, 9.9)):
        assert (values == bound).mean() <= (values == beside).mean() + 0.002


def test_impossible_moments_are_named_and_the_nearest_is_taken() -> None:
    warnings: list[tuple[str, str]] = []
    field = {"type": "integer", "constraints": {"minimum": 0, "maximum": 10},
             "statistics": {"mean": 2, "sd": 3, "quantiles": {"0.25": 1, "0.75": 3, "0.95": 4}}}  # fmt: skip
    marginal = declared(field, lambda *said: warnings.append(said))
    assert warnings[0][0] == "/fields/0/statistics"
    assert "sd of `x` cannot hold" in warnings[0][1]
    assert marginal.quantile(0.25) == 1
    assert marginal.quantile(0.75) == 3


@pytest.mark.parametrize(
    ("field", "low", "high"),
    [
        ({"type": "date"}, "2015-01-01", "2024-12-31"),
        (numeric("date", "2020-01-01", "2020-02-01"), "2020-01-01", "2020-02-01"),
        (numeric("datetime", "2020-01-01T00:00:00", "2020-01-02T00:00:00"), "2020-01-01", "2020-01-02"),
    ],
)
def test_undeclared_dates_are_uniform_within_their_bounds(field: dict[str, Any], low: str, high: str) -> None:
    warnings: list[str] = []
    marginal = declared(field, lambda pointer, message: warnings.append(message))
    column = pd.Series(marginal.draw(np.random.default_rng(1), 50_000))
    assert column.dtype == dtype_of(marginal.field)
    assert column.min() >= pd.Timestamp(low)
    assert column.max() <= pd.Timestamp(high)
    share = (column - pd.Timestamp(low)) / (pd.Timestamp(high) - pd.Timestamp(low))
    assert share.mean() == pytest.approx(0.5, abs=0.01)
    assert share.std() == pytest.approx(12**-0.5, abs=0.01)
    assert "No statistics of `x` are declared" in warnings[0]


def test_undeclared_numbers_take_the_mixture_of_their_conditionals() -> None:
    shares = {"F": 0.25, "M": 0.75}
    marginal = declared(
        {"type": "number"},
        beside=[{"name": "sex", "type": "string", "categories": ["F", "M"],
                 "statistics": {"proportions": shares}}],
        conditionals=[
            {"field": "x", "given": {"sex": "F"}, "statistics": {"mean": 160, "sd": 6}},
            {"field": "x", "given": {"sex": "M"}, "statistics": {"mean": 176, "sd": 8}},
        ],
    )  # fmt: skip
    assert marginal.mean == pytest.approx(172, abs=0.01)
    assert marginal.sd == pytest.approx((0.25 * 36 + 0.75 * 64 + 0.25 * 0.75 * 256) ** 0.5, rel=1e-3)


def test_a_bell_between_two_bounds_is_the_default() -> None:
    marginal = declared({"type": "number", "constraints": {"minimum": 35, "maximum": 155}})
    assert marginal.mean == pytest.approx(95)
    assert marginal.sd == pytest.approx(20, rel=0.01)


def test_decimals_are_two_digits_finer_than_the_sd() -> None:
    for sd, decimals in ((15, 1), (4.1, 2), (0.05, 4), (250, 0)):
        values = drawn(declared({"type": "number", "statistics": {"mean": 0, "sd": sd}}), 2000)
        assert np.allclose(np.round(values, decimals), values, atol=1e-12)
        assert not np.allclose(np.round(values, decimals - 1), values, atol=1e-12)


def test_proportions_hold_whatever_the_type_of_the_levels() -> None:
    for kind, levels in (("string", ["b", "a"]), ("integer", [7, 3]), ("number", [0.5, 0.25])):
        shares = {str(levels[0]): 0.2, str(levels[1]): 0.8}
        marginal = declared({"type": kind, "categories": levels, "statistics": {"proportions": shares}})
        column = pd.Series(marginal.draw(np.random.default_rng(1), 100_000))
        assert (column == levels[0]).mean() == pytest.approx(0.2, abs=0.007)  # 5 standard errors


def test_json_and_pickle_bring_the_same_draws_back() -> None:
    field = DECLARATIONS[3]
    marginal = declared(field)
    marginal.draw(np.random.default_rng(1), 10)
    assert len(pickle.dumps(marginal)) < 200_000
    for other in (
        pickle.loads(pickle.dumps(marginal)),
        Marginal.from_json(marginal.field, json.loads(json.dumps(marginal.to_json()))),
    ):
        assert np.array_equal(
            other.draw(np.random.default_rng(5), 1000), marginal.draw(np.random.default_rng(5), 1000)
        )


def test_learned_bins_rest_on_enough_persons_and_hide_the_ends() -> None:
    values = np.round(np.random.default_rng(3).normal(100, 15, 400), 3)
    marginal = learned({"type": "number"}, values.tolist())
    persons = marginal.weights * 400
    assert (persons[2:-2] >= MIN_CELL - 1e-6).all()
    # The outermost bin is drawn in two halves, split by the mean of its persons.
    assert min(persons[:2].sum(), persons[-2:].sum()) >= MIN_CELL - 1e-6
    assert drawn(marginal, 2000).mean() == pytest.approx(values.mean(), abs=2)
    low, high = marginal.first[0] / marginal.per_unit, marginal.last[-1] / marginal.per_unit
    assert low < values.min() - 1e-9
    assert high > values.max() + 1e-9


def test_one_extreme_person_is_not_told_apart() -> None:
    marginal = learned({"type": "integer"}, [k % 50 for k in range(500)] + [987_654])
    assert 987_654 not in (marginal.first.tolist() + marginal.last.tolist())


def test_a_heaped_scale_stays_on_its_grid_and_a_spike_stays_a_spike() -> None:
    heaped = drawn(learned({"type": "integer"}, [40] * 3 + [50] * 9 + [70] * 30 + [90] * 40 + [100] * 20))
    assert set(heaped) <= {40, 50, 60, 70, 80, 90, 100}
    spiked = drawn(learned({"type": "number"}, [0.0] * 60 + list(np.linspace(1.5, 9.5, 81))))
    assert (spiked == 0).mean() == pytest.approx(60 / 141, abs=0.01)
    assert not ((spiked > 0) & (spiked < 0.9)).any()


def test_what_is_declared_overrules_what_was_learned() -> None:
    cells = np.random.default_rng(3).normal(100, 15, 400).round(1).tolist() + [None] * 100
    marginal = learned({"type": "number", "statistics": {"mean": 110, "missing": 0.5}}, cells)
    assert marginal.mean == pytest.approx(110, abs=0.01)
    assert marginal.missing == 0.5
    assert learned({"type": "number"}, cells).missing == pytest.approx(0.2)


@pytest.mark.parametrize(
    "statistics", [{"mean": 50, "sd": 3}, {"mean": 50}, {"quantiles": {"0.25": 40, "0.75": 45}}]
)
def test_what_is_declared_overrules_where_no_real_value_lies(statistics: dict[str, Any]) -> None:
    cells = np.random.default_rng(3).normal(100, 9, 400).round(1).tolist() + [None] * 100
    warnings: list[str] = []
    field = {"type": "number", "constraints": {"minimum": 0}, "statistics": statistics}
    marginal = learned(field, cells, lambda pointer, message: warnings.append(message))
    if "mean" in statistics:
        assert marginal.mean == pytest.approx(50, abs=0.01)
        assert marginal.sd == pytest.approx(statistics.get("sd", 9), abs=1)
    else:
        assert marginal.quantile(0.25) == pytest.approx(40, abs=0.2)
        assert marginal.quantile(0.75) == pytest.approx(45, abs=0.2)
    assert marginal.missing == pytest.approx(0.2)
    assert marginal.per_unit == 10
    assert len(warnings) == 1
    assert "it overrules" in warnings[0]


@pytest.mark.parametrize(
    ("field", "said"),
    [
        (numeric("integer", None, None, mean=9, distribution="poisson"), "sd of `x` is declared: 3 was"),
        (numeric("number", None, None, mean=5, distribution="exponential"), "sd of `x` is declared: 5 was"),
        (numeric("integer", 0, 1, quantiles={"0.25": 0, "0.9": 0}), "No mean of `x` is declared: 0.05 was"),
        (numeric("integer", 0, 3, mean=0.3), "sd of `x` is declared: 0.5"),
        (
            numeric("number", 0, 12, distribution="uniform"),
            "the uniform distribution with mean 6 and sd 3.46",
        ),
        ({"type": "number"}, "the normal distribution with mean 0 and sd 1 was"),
        (numeric("number", 0, 10), "the normal distribution with mean 5 and sd 1.66"),
        (
            numeric("date", "2020-01-01", "2020-12-31"),
            "uniform distribution between 2020-01-01 and 2020-12-31",
        ),
        (numeric("date", None, None, sd=10), "No mean of `x` is declared: 1970-01-01 was taken"),
        ({"type": "time"}, "the uniform distribution between 00:00:00 and 23:59:59 was"),
    ],
)
def test_a_default_is_told_in_figures_of_what_is_delivered(field: dict[str, Any], said: str) -> None:
    warnings: list[str] = []
    declared(field, lambda pointer, message: warnings.append(message))
    assert len(warnings) == 1
    assert said in warnings[0]


# What pandas says of 200 ones and 240 twos: its sd is that of a sample, and a little more than can be.
OF_TWO = {"mean": 1.4545454545, "sd": 0.4984980, "quantiles": {"0.1": 1, "0.25": 1, "0.75": 2, "0.9": 2}}


@pytest.mark.parametrize("left_out", [(), ("sd",), ("quantiles",), ("sd", "quantiles")])
def test_of_two_values_the_mean_says_all(left_out: tuple[str, ...]) -> None:
    warnings: list[str] = []
    said = {key: value for key, value in OF_TWO.items() if key not in left_out}
    marginal = declared(numeric("integer", 1, 2, **said), lambda _, message: warnings.append(message))
    assert marginal.first.tolist() == marginal.last.tolist() == [1, 2]
    assert marginal.weights[1] == pytest.approx(0.4545454545, abs=1e-5)
    assert warnings == []


def test_of_two_values_strata_say_where_nothing_else_does() -> None:
    document = {
        "fields": [
            {"name": "x"} | numeric("integer", 0, 1, quantiles={"0.5": 1}),
            {"name": "sex", "type": "string", "categories": ["F", "M"]},
        ],
        "conditionals": [
            {"field": "x", "given": {"sex": sex}, "statistics": {"mean": mean}}
            for sex, mean in (("F", 0.9), ("M", 0.8))
        ],
    }
    schema, _ = parse_schema(document)
    assert declared_marginal(schema, schema["x"], lambda *_: None).weights[1] == pytest.approx(0.85)


def test_how_much_lies_on_a_bound_is_left_to_mean_and_sd() -> None:
    warnings: list[str] = []
    quantiles = {"0.1": 0, "0.5": 0, "0.9": 2}
    marginal = declared(
        numeric("integer", 0, 3, mean=0.4, sd=0.8, quantiles=quantiles),
        lambda _, message: warnings.append(message),
    )
    assert warnings == []
    assert (marginal.mean, marginal.sd) == pytest.approx((0.4, 0.8), rel=1e-3)
    assert [marginal.quantile(float(p)) for p in quantiles] == list(quantiles.values())


def test_nothing_is_said_of_the_shape_of_a_column_that_stays_empty() -> None:
    warnings: list[str] = []
    declared({"type": "number", "statistics": {"missing": 1}}, lambda _, message: warnings.append(message))
    assert not warnings


def test_levels_of_too_few_are_not_learned_be_they_rare_or_absent() -> None:
    warnings: list[str] = []
    marginal = learned(
        {"type": "string", "categories": ["a", "b", "c", "d"]},
        ["a"] * 60 + ["b"] * 9 + ["c"] * 40,
        lambda pointer, message: warnings.append(message),
    )
    assert marginal.weights.tolist() == [0.6, 0.0, 0.4, 0.0]
    assert len(warnings) == 1 and "9" not in warnings[0].replace("fewer than 10", "")
    none = learned({"type": "boolean"}, [True] * 9 + [False] * 2, lambda *_: None)
    assert none.weights.tolist() == [0.5, 0.5]


def test_too_few_values_teach_nothing_and_say_so() -> None:
    warnings: list[str] = []
    marginal = learned({"type": "integer"}, [41, 42, 43], lambda pointer, message: warnings.append(message))
    assert "fewer than 10" in warnings[0]
    assert not any(str(cell) in "".join(warnings) for cell in (41, 42, 43))
    assert abs(marginal.mean) < 1


def test_learned_times_stay_on_their_scale() -> None:
    days = pd.date_range("2021-03-01", periods=300).strftime("%Y-%m-%d").tolist()
    column = pd.Series(learned({"type": "date"}, days).draw(np.random.default_rng(1), 5000))
    assert pd.Timestamp("2020-12-01") < column.min() < pd.Timestamp("2021-03-15")
    moments = pd.date_range("2021-03-01", periods=300, freq="30min").strftime("%Y-%m-%dT%H:%M:%S").tolist()
    column = pd.Series(learned({"type": "datetime"}, moments).draw(np.random.default_rng(1), 5000))
    assert set(column.dt.minute) == {0, 30}


@pytest.mark.parametrize(
    "field",
    [
        numeric("number", None, None, mean=5, sd=0),
        numeric("integer", 3, 3),
        numeric("number", None, None, mean=1e12, sd=1e11),
        numeric("number", None, None, mean=1e-12, sd=1e-13),
        numeric("integer", None, None, mean=2.5, sd=0.01),
        numeric("number", None, None, distribution="negative_binomial"),
        numeric("integer", None, 179, sd=300, distribution="lognormal"),
    ],
    ids=str,
)
def test_awkward_declarations_give_a_distribution_or_a_warning(field: dict[str, Any]) -> None:
    warnings: list[str] = []
    marginal = declared(field, lambda pointer, message: warnings.append(message))
    assert np.isfinite(drawn(marginal, 1000)).all()
    mean = field["statistics"].get("mean")
    if mean is not None:
        assert warnings or marginal.mean == pytest.approx(mean)


def test_quantiles_hold_where_a_rule_allows_whole_tens_only() -> None:
    index = {"name": "karnofsky", "type": "integer", "constraints": {"minimum": 0, "maximum": 100},
             "statistics": {"quantiles": {"0.25": 70, "0.5": 80, "0.75": 90}}}  # fmt: skip
    schema = parse_schema({"fields": [index], "rules": ["karnofsky % 10 == 0"]})[0]
    marginal = declared_marginal(schema, schema.fields[0], silent)
    assert marginal.first.tolist() == marginal.last.tolist() == list(range(0, 101, 10))
    below, upto = np.cumsum(marginal.weights) - marginal.weights, np.cumsum(marginal.weights)
    for p, value in ((0.25, 70), (0.5, 80), (0.75, 90)):
        place = value // 10
        # Well inside its step, so that rows have it too: 10,000 rows put a share off by 0.005.
        assert below[place] + 0.03 < p < upto[place] - 0.03


def test_a_rule_that_allows_no_even_steps_leaves_a_distribution_alone() -> None:
    score = {"name": "score", "type": "integer", "constraints": {"minimum": 0, "maximum": 20},
             "statistics": {"mean": 9, "sd": 3}}  # fmt: skip
    plain, ruled = (parse_schema({"fields": [score], "rules": rules})[0] for rules in ([], ["score != 9"]))
    one, other = (declared_marginal(schema, schema.fields[0], silent) for schema in (plain, ruled))
    assert one.first.tolist() == other.first.tolist() and np.allclose(one.weights, other.weights)
