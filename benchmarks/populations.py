"""Random populations that obey their own rules: rows of mixed columns that depend on one another.

    python -m benchmarks.populations [--seeds 20] [--seed 7]

prints the distribution that is drawn from. Statistics computed from one such table are possible together,
since that table has them all, whatever a generator makes of them. Nothing is a Gaussian copula by
construction: scores come from one of five mechanisms, categories from multinomial logits as often as from
cut scores, numbers move by group in no order, and rules hold by selection, by censoring or by shares.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.random import Generator, default_rng
from numpy.typing import NDArray

from app.schema.evaluate import breaks, formula_column, holds_relevant
from app.schema.frames import conform
from app.schema.parse import parse_schema
from app.schema.table import TableSchema

ROWS = 400_000
MECHANISMS = ("factors", "mixture", "curved factors", "heavy factors", "graph")
RULES = {"order": 1, "date order": 1, "equality": 2, "chain": 2, "exclusion": 1, "threshold": 1, "sum": 1}
"""Kinds of rules and how many rules each takes."""
EPOCH = np.datetime64("2005-01-01", "s")

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Population:
    """Rows, what is declared of them apart from statistics, and what they were drawn from.

    Parameters
    ----------
    seed : int
    document : dict
        Schema document: fields with types, constraints, formulas and `relevant`; rules; no statistics.
    schema : TableSchema
        Of `document`.
    frame : DataFrame
        At least as many rows as were asked for, in the dtypes of `app.schema.frames`; they obey the rules.
    notes : dict
        What was drawn: mechanism, kinds of rules and how often independent columns would break them,
        levels, sds of logarithms, kinds of missing values.
    """

    seed: int
    document: dict[str, Any]
    schema: TableSchema
    frame: pd.DataFrame
    notes: dict[str, Any]


def draw(seed: int, rows: int = ROWS) -> Population:
    """Draw the population of a seed, `rows` rows that obey the rules."""
    raw = rows + rows // 2
    while True:
        made = _Draw(seed, raw).population()
        if len(made.frame) >= rows or raw > 16 * rows:
            return Population(
                seed, made.document, made.schema, made.frame.iloc[:rows].reset_index(drop=True), made.notes
            )
        raw *= 2


@dataclass
class _Draw:
    """One drawing: `shape` draws what the population is like, `rows` its rows."""

    seed: int
    n: int
    fields: list[dict[str, Any]] = field(default_factory=list)
    columns: dict[str, Any] = field(default_factory=dict)
    rules: list[str] = field(default_factory=list)
    groups: dict[str, NDArray[np.int64]] = field(default_factory=dict)
    lively: list[str] = field(default_factory=list)
    """Names whose values may go missing or be said to apply in some rows only."""

    def __post_init__(self) -> None:
        self.shape: Generator = default_rng([self.seed, 1])
        self.rows: Generator = default_rng([self.seed, 2])
        self.notes: dict[str, Any] = {
            "columns": Counter(), "levels": [], "log sd": [], "missing": Counter(), "rules": [],
        }  # fmt: skip

    def population(self) -> Population:
        shape = self.shape
        kinds = self._rule_kinds()
        plan = self._plan(kinds)
        self.mechanism = str(shape.choice(MECHANISMS))
        self.notes["mechanism"] = self.mechanism
        self.scores, self.factors = _scores(self.mechanism, shape, self.rows, self.n, len(plan) + 12)
        self._next = 0
        for place, kind in enumerate(plan):
            getattr(self, f"_{kind}")(f"{kind[0]}{place + 1}")
        for kind in kinds:
            getattr(self, f"_rule_{kind.replace(' ', '_')}")()
        if "date order" not in kinds or shape.random() < 0.4:
            self._bmi()
        self._relevant()
        self._missing()
        return self._finished(kinds)

    def _rule_kinds(self) -> list[str]:
        kinds: list[str] = []
        left = 3
        while left:
            kind = str(self.shape.choice(list(RULES)))
            if RULES[kind] <= left and (kind not in kinds or kind in ("exclusion", "threshold")):
                kinds.append(kind)
                left -= RULES[kind]
        return sorted(kinds, key=list(RULES).index)

    def _plan(self, kinds: list[str]) -> list[str]:
        special = {"order": 2, "date order": 3, "equality": 3, "chain": 3, "sum": 2}
        taken = sum(special.get(kind, 0) for kind in kinds) + (0 if "date order" in kinds else 3)
        plan = ["unordered", "ordered", "boolean", "unordered", "lognormal", "integer"]
        free = max(int(self.shape.integers(10, 21)) - taken - len(plan), 0)
        others = [
            "integer",
            "number",
            "lognormal",
            "boolean",
            "unordered",
            "ordered",
            "date",
            "percent",
            "counts",
        ]
        plan += [str(self.shape.choice(others)) for _ in range(free)]
        order = ("unordered", "ordered", "boolean")  # numbers move by groups, so groups come first
        return sorted(plan, key=lambda kind: kind not in order)

    # Columns

    def _score(self) -> Floats:
        """Return the next column's score: mean about 0, sd about 1."""
        self._next += 1
        return self.scores[:, self._next - 1]

    def _moved(self, weight: float = 0.6) -> Floats:
        """Return the next score, as often as `weight` says moved by groups in no order of theirs."""
        score, shape = self._score(), self.shape
        if self.groups and shape.random() < weight:
            codes = self.groups[str(shape.choice(list(self.groups)))]
            shift = shape.normal(0, shape.uniform(0.4, 1.2), int(codes.max()) + 1)
            moved = score + shift[codes]
            if shape.random() < 0.4:  # what a group does depends on another group
                other = self.groups[str(shape.choice(list(self.groups)))]
                moved = (
                    moved + shape.normal(0, 0.6, (int(codes.max()) + 1, int(other.max()) + 1))[codes, other]
                )
            score = (moved - moved.mean()) / moved.std()
        return score

    def _within(self) -> Floats:
        """Return a moved score to take the exponential of: a heavy tail would have no sd then."""
        return np.clip(self._moved(), -4, 4)

    def _add(self, name: str, kind: str, values: Any, **declared: Any) -> None:
        self.fields.append({"name": name, "type": kind, **declared})
        self.columns[name] = values

    def _number_column(self, name: str, values: Floats, decimals: int) -> None:
        if decimals:
            self._add(name, "number", np.round(values, decimals), decimals=decimals)
        else:
            self._add(name, "integer", np.round(values))
        self.lively.append(name)

    def _integer(self, name: str) -> None:
        shape = self.shape
        sd = float(np.exp(shape.uniform(np.log(3), np.log(40))))
        self.notes["columns"]["integer"] += 1
        self._number_column(name, shape.uniform(2.5, 6) * sd + sd * self._moved(), 0)

    def _number(self, name: str) -> None:
        shape, score = self.shape, self._moved()
        kind = str(shape.choice(["bell", "two humps", "left tail"]))
        if kind == "two humps":
            score = score + shape.uniform(1.5, 3) * (self.rows.random(self.n) < shape.uniform(0.2, 0.6))
        elif kind == "left tail":
            score = -np.exp(-shape.uniform(0.3, 0.6) * np.clip(score, -4, 4))
        sd = float(np.exp(shape.uniform(np.log(0.3), np.log(50))))
        decimals = int(np.clip(np.ceil(1.5 - np.log10(sd)), 1, 3))
        self.notes["columns"][f"number, {kind}"] += 1
        self._number_column(name, shape.uniform(-2, 8) * sd + sd * score, decimals)

    def _lognormal(self, name: str) -> None:
        shape = self.shape
        sd = float(shape.uniform(0.2, 1.0))
        values = np.exp(shape.uniform(1, 6) + sd * self._within())
        self.notes["columns"]["lognormal"] += 1
        self.notes["log sd"].append(sd)
        self._number_column(name, values, int(shape.integers(0, 3)))

    def _percent(self, name: str) -> None:
        shape = self.shape
        values = 100 / (1 + np.exp(-shape.uniform(-1.5, 1.5) - shape.uniform(0.5, 1.5) * self._moved()))
        self.notes["columns"]["percent"] += 1
        self._number_column(name, values, int(shape.integers(0, 2)))
        self.fields[-1]["constraints"] = {"minimum": 0, "maximum": 100}

    def _counts(self, name: str) -> None:
        mean = np.exp(self.shape.uniform(-0.5, 1.5) + self.shape.uniform(0.3, 0.8) * self._within())
        self.notes["columns"]["counts"] += 1
        self._number_column(name, self.rows.poisson(np.minimum(mean, 60)).astype(float), 0)
        self.fields[-1]["constraints"] = {"minimum": 0}

    def _date(self, name: str) -> None:
        days = self.shape.uniform(800, 3000) + self.shape.uniform(200, 900) * self._moved()
        self.notes["columns"]["date"] += 1
        self._add(name, "date", EPOCH + np.round(days).astype("timedelta64[D]").astype("timedelta64[s]"))
        self.lively.append(name)

    def _boolean(self, name: str) -> None:
        score, share = self._moved(0.4), self.shape.uniform(0.08, 0.6)
        values = score > np.quantile(score, 1 - share)
        self.notes["columns"]["boolean"] += 1
        self._add(name, "boolean", values)
        self.groups[name] = values.astype(np.int64)
        self.lively.append(name)

    def _ordered(self, name: str) -> None:
        self._levels(name, _cut(self._moved(0.4), self._shares(2, 12)), ordered=True)

    def _unordered(self, name: str) -> None:
        shares = self._shares(2, 30)
        if self.shape.random() < 0.5:
            codes = self.shape.permutation(len(shares))[_cut(self._score(), shares)]
        else:
            slopes = self.shape.normal(0, self.shape.uniform(0.5, 1.5), (self.factors.shape[1], len(shares)))
            utility = self.factors @ slopes + np.log(shares)
            codes = (utility + self.rows.gumbel(size=utility.shape)).argmax(axis=1)
            _, codes = np.unique(codes, return_inverse=True)
        self._levels(name, codes, ordered=False)

    def _shares(self, least: int, most: int) -> Floats:
        """Return Zipf-like shares of a random number of levels."""
        k = int(np.floor(np.exp(self.shape.uniform(np.log(least), np.log(most + 1)))))
        shares = 1 / np.arange(1, k + 1) ** self.shape.uniform(0.2, 1.3)
        found: Floats = self.shape.permutation(shares / shares.sum())
        return found

    def _levels(self, name: str, codes: NDArray[np.int64], *, ordered: bool) -> None:
        levels = [f"L{level + 1}" for level in range(int(codes.max()) + 1)]
        self.notes["columns"]["ordered" if ordered else "unordered"] += 1
        self.notes["levels"].append(len(levels))
        more = {"categoriesOrdered": True} if ordered else {}
        self._add(name, "string", np.array(levels, dtype=object)[codes], categories=levels, **more)
        self.groups[name] = codes
        self.lively.append(name)

    # Rules: kept by construction where it is natural, else by selection at the end

    def _times(self) -> tuple[Floats, Floats]:
        shape = self.shape
        middle = np.exp(shape.uniform(2.5, 6.5))
        sds = shape.uniform(0.4, 1.0, 2)
        self.notes["log sd"] += [float(sd) for sd in sds]
        last = np.ceil(middle * np.exp(sds[1] * self._within()))
        first = np.ceil(middle * shape.uniform(0.5, 1.3) * np.exp(sds[0] * self._within()))
        return first, last

    def _rule_order(self) -> None:
        first, last = self._times()
        how = str(self.shape.choice(["selected", "censored", "a share"]))
        if how == "censored":
            first = np.minimum(first, last)
        elif how == "a share":
            first = np.ceil(last / (1 + np.exp(-self.shape.uniform(-1.5, 1) - self._score())))
        self._number_column("first", first, 0)
        self._number_column("last", last, 0)
        self.rules.append("first <= last")
        self.notes["order by"] = how

    def _rule_date_order(self) -> None:
        shape = self.shape
        begin = np.round(shape.uniform(800, 2500) + shape.uniform(200, 700) * self._moved())
        length = np.round(np.exp(shape.uniform(2, 5) + shape.uniform(0.4, 1.0) * self._within()))
        for name, days in (("begin", begin), ("end", begin + length)):
            self._add(name, "date", EPOCH + days.astype("timedelta64[D]").astype("timedelta64[s]"))
            self.lively.append(name)
        self.rules.append("begin <= end")
        self._add("stay", "integer", None, formula="days(end - begin)")

    def _rule_equality(self) -> None:
        relapse, death = self._times()
        recur = relapse < death
        self._number_column("rtime", np.minimum(relapse, death), 0)
        self._number_column("dtime", death, 0)
        if self.shape.random() < 0.5:
            self._add("recur", "integer", recur.astype(int), categories=[0, 1], categoriesOrdered=True)
            self.rules += ["rtime <= dtime", "not (recur == 0 and rtime < dtime)"]
        else:
            self._add("recur", "boolean", recur)
            self.rules += ["rtime <= dtime", "not (not recur and rtime < dtime)"]
        self.groups["recur"] = recur.astype(np.int64)

    def _rule_chain(self) -> None:
        first, second = self._times()
        third = np.ceil(second * np.exp(self.shape.uniform(-0.2, 0.4) + 0.5 * self._within()))
        if self.shape.random() < 0.5:
            first, second, third = np.sort([first, second, third], axis=0)
        for name, values in (("step_a", first), ("step_b", second), ("step_c", third)):
            self._number_column(name, values, 0)
        self.rules += ["step_a <= step_b", "step_b <= step_c"]

    def _rule_sum(self) -> None:
        shape, decimals = self.shape, int(self.shape.integers(0, 2))
        for name in ("part_a", "part_b"):
            values = 100 / (1 + np.exp(-shape.uniform(-1, 0.2) - shape.uniform(0.4, 1.0) * self._moved()))
            self._number_column(name, values, decimals)
            self.fields[-1]["constraints"] = {"minimum": 0, "maximum": 100}
        self.rules.append("part_a + part_b <= 100")

    def _rule_exclusion(self) -> None:
        names = [name for name, codes in self.groups.items() if name[0] in "uo"]
        one, other = self.shape.choice(names, 2, replace=False)
        table = np.zeros((self.groups[one].max() + 1, self.groups[other].max() + 1))
        np.add.at(table, (self.groups[one], self.groups[other]), 1 / self.n)
        # A cell that holds something, and not most of either level.
        most = np.minimum(table.sum(axis=1)[:, None], table.sum(axis=0))
        place = self.shape.choice(np.argsort(np.where(table < 0.8 * most, table, 0).ravel())[-4:])
        a, b = np.unravel_index(int(place), table.shape)
        self.rules.append(f"not ({one} == 'L{a + 1}' and {other} == 'L{b + 1}')")

    def _rule_threshold(self) -> None:
        groups = [name for name in self.groups if name[0] in "uo"]
        numbers = [
            item["name"] for item in self.fields if item["name"][0] in "inlpc" and not item.get("categories")
        ]
        group, number = str(self.shape.choice(groups)), str(self.shape.choice(numbers))
        values = self.columns[number]
        level = int(self.shape.choice(np.flatnonzero(np.bincount(self.groups[group]) > 0.03 * self.n)))
        limit = float(np.round(np.quantile(values, self.shape.uniform(0.3, 0.9)), 1))
        sign = ">" if self.shape.random() < 0.7 else "<"
        if sign == "<":
            limit = float(np.round(np.quantile(values, self.shape.uniform(0.1, 0.6)), 1))
        self.rules.append(f"not ({group} == 'L{level + 1}' and {number} {sign} {limit:g})")

    # Formulas, relevance, missing values

    def _bmi(self) -> None:
        height = 168 + 6 * self._score() + 10 * (self.groups[self._two_level()] - 0.5)
        self._number_column("height", np.clip(height, 135, 210), int(self.shape.integers(0, 2)))
        weight = np.exp(4.3 + 0.2 * self._within() + 0.005 * (height - 168))
        self._number_column("weight", weight, 1)
        self._add("ratio", "number", None, formula="weight / (height / 100) ** 2", decimals=1)

    def _two_level(self) -> str:
        return next(name for name, codes in self.groups.items() if codes.max() == 1)

    def _relevant(self) -> None:
        """Let one column apply in some rows only."""
        used = " ".join(self.rules) + " weight height begin end recur"
        for parent in self.shape.permutation(list(self.groups)):
            level = int(self.shape.choice(np.unique(self.groups[parent])))
            share = float((self.groups[parent] == level).mean())
            children = [name for name in self.lively if name not in used and name != parent]
            if 0.15 <= share <= 0.85 and children:
                item = next(item for item in self.fields if item["name"] == parent)
                text = f"'L{level + 1}'" if item["type"] == "string" else str(level)
                said = (
                    f"{parent} == {text}"
                    if item["type"] != "boolean"
                    else f"{'' if level else 'not '}{parent}"
                )
                child = str(self.shape.choice(children))
                next(item for item in self.fields if item["name"] == child)["relevant"] = said
                self.lively = [name for name in self.lively if name not in (child, parent)]
                self.notes["relevant"] = share
                self.relevant = child, self.groups[parent] == level
                return
        self.relevant = None

    def _missing(self) -> None:
        self.absent: dict[str, NDArray[np.bool_]] = {}
        for name in self.lively:
            chance = self.shape.random()
            rate: Any = self.shape.uniform(0.01, 0.25)
            kind = "independent"
            if chance < 0.2 and len(others := [group for group in self.groups if group != name]):
                group = str(self.shape.choice(others))
                rate = self.shape.beta(0.8, 4, int(self.groups[group].max()) + 1)[self.groups[group]]
                kind = "by group"
            elif chance > 0.55:
                kind, rate = "none", 0.0
            self.notes["missing"][kind] += 1
            if kind != "none":
                self.absent[name] = self.rows.random(self.n) < rate

    def _finished(self, kinds: list[str]) -> Population:
        for item in self.fields:
            plain_number = item["type"] in ("integer", "number") and not {"categories", "formula"} & set(item)
            if plain_number and "constraints" not in item and self.shape.random() < 0.4:
                item["constraints"] = self._bounds(item["name"])
        document = {"fields": self.fields, "rules": self.rules}
        schema, _ = parse_schema(document)
        plain = {name: values for name, values in self.columns.items() if values is not None}
        base = pd.DataFrame(plain)
        for name, gone in self.absent.items():
            base[name] = (
                base[name].astype(object).where(~gone, None)
                if base[name].dtype == bool
                else base[name].mask(gone)
            )
        if self.relevant is not None:
            child, rows = self.relevant
            base[child] = (
                base[child].astype(object).where(rows, None)
                if base[child].dtype == bool
                else base[child].where(rows)
            )
        for item in schema.fields:
            if item.formula is not None:
                base[item.name] = np.nan
        frame = conform(base, schema)
        for item in schema.fields:
            if item.formula is not None:
                frame[item.name] = formula_column(item, frame)
            if item.relevant is not None:
                frame.loc[~holds_relevant(item.relevant, frame), item.name] = None
        good = np.ones(len(frame), bool)
        for rule in schema.rules:
            good &= ~breaks(rule, frame)
        frame = frame[good].reset_index(drop=True)
        self.notes["rules"] = [(rule.text, _broken_apart(rule, frame, self.shape)) for rule in schema.rules]
        self.notes["rule kinds"] = kinds
        self.notes["kept by selection"] = float(good.mean())
        return Population(self.seed, document, schema, frame, self.notes)

    def _bounds(self, name: str) -> dict[str, Any]:
        values = self.columns[name]
        low, high = float(values.min()), float(values.max())
        step = 10.0 ** np.floor(np.log10(max(high - low, 1)) - 1)
        least, most = np.floor(low / step) * step, np.ceil(high / step) * step
        whole = next(item for item in self.fields if item["name"] == name)["type"] == "integer"
        return {
            "minimum": int(least) if whole else float(least),
            "maximum": int(most) if whole else float(most),
        }


def _broken_apart(rule: Any, frame: pd.DataFrame, rng: Generator) -> float:
    """Return the share of rows that would break a rule if its columns were independent."""
    some = frame[list(rule.fields)].iloc[:50_000]
    shuffled = {name: some[name].array.take(rng.permutation(len(some))) for name in rule.fields}
    return float(breaks(rule, pd.DataFrame(shuffled)).mean())


def _cut(score: Floats, shares: Floats) -> NDArray[np.int64]:
    return np.searchsorted(np.quantile(score, np.cumsum(shares)[:-1]), score, side="right")


def _scores(mechanism: str, shape: Generator, rows: Generator, n: int, k: int) -> tuple[Floats, Floats]:
    """Return k scores of n rows, and what lies behind them for categories to follow."""
    made: Callable[..., tuple[Floats, Floats]] = {
        "factors": _factors, "mixture": _mixture, "curved factors": _curved,
        "heavy factors": _heavy, "graph": _graph,
    }[mechanism]  # fmt: skip
    scores, behind = made(shape, rows, n, k)
    return (scores - scores.mean(axis=0)) / scores.std(axis=0), behind


def _loadings(shape: Generator, factors: int, k: int) -> tuple[Floats, Floats]:
    """Return loadings and what is left for noise, so that each score has variance 1."""
    loadings = shape.normal(0, 1, (factors, k))
    share = shape.uniform(0.1, 0.85, k)  # of each score's variance, by factors
    loadings *= np.sqrt(share / (loadings**2).sum(axis=0))
    return loadings, np.sqrt(1 - share)


def _factors(shape: Generator, rows: Generator, n: int, k: int) -> tuple[Floats, Floats]:
    factors = rows.standard_normal((n, int(shape.integers(1, 4))))
    loadings, noise = _loadings(shape, factors.shape[1], k)
    return factors @ loadings + noise * rows.standard_normal((n, k)), factors


def _heavy(shape: Generator, rows: Generator, n: int, k: int) -> tuple[Floats, Floats]:
    scores, factors = _factors(shape, rows, n, k)
    degrees = shape.uniform(6, 15)  # rows that are far out in one column are so in others
    return scores * np.sqrt(degrees / rows.chisquare(degrees, (n, 1))), factors


def _curved(shape: Generator, rows: Generator, n: int, k: int) -> tuple[Floats, Floats]:
    factors = rows.standard_normal((n, int(shape.integers(2, 4))))
    bent = np.hstack([factors, (factors**2 - 1) / np.sqrt(2), np.sqrt(2) * np.sin(2 * factors)])
    loadings, noise = _loadings(shape, bent.shape[1], k)
    return bent @ loadings + noise * rows.standard_normal((n, k)), factors


def _mixture(shape: Generator, rows: Generator, n: int, k: int) -> tuple[Floats, Floats]:
    classes = int(shape.integers(2, 6))
    member = rows.choice(classes, n, p=shape.dirichlet(np.full(classes, 3.0)))
    centres = shape.normal(0, 0.9, (classes, k))
    scales = np.exp(shape.normal(0, 0.25, (classes, k)))
    factors, loadings = rows.standard_normal((n, 1)), shape.normal(0, 0.5, (classes, k))
    scores = centres[member] + scales[member] * rows.standard_normal((n, k)) + factors * loadings[member]
    return scores, np.eye(classes)[member]


def _graph(shape: Generator, rows: Generator, n: int, k: int) -> tuple[Floats, Floats]:
    """Each score from up to three earlier ones, straight, bent or by a step, with noise that may fan out."""
    scores = rows.standard_normal((n, k))
    for j in range(1, k):
        parents = shape.choice(j, min(j, int(shape.integers(0, 4))), replace=False)
        for parent in parents:
            source, weight = scores[:, parent], shape.normal(0, 0.8)
            bend = int(shape.integers(0, 4))
            scores[:, j] += (
                weight
                * [source, np.abs(source), (source > shape.normal(0, 0.7)) * 1.5, np.tanh(2 * source)][bend]
            )
        if len(parents) and shape.random() < 0.3:
            scores[:, j] *= np.exp(0.3 * np.clip(scores[:, parents[0]], -2, 2))
        scores[:, j] = (scores[:, j] - scores[:, j].mean()) / scores[:, j].std()
    return scores, scores[:, :2]


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    arguments.add_argument("--seeds", type=int, default=20)
    arguments.add_argument("--seed", type=int, default=None, help="this one alone")
    arguments.add_argument("--rows", type=int, default=50_000)
    chosen = arguments.parse_args()
    seeds = range(chosen.seeds) if chosen.seed is None else [chosen.seed]
    drawn = [draw(seed, chosen.rows) for seed in seeds]
    print_distribution([population.notes for population in drawn])


def print_distribution(notes: list[dict[str, Any]]) -> None:
    """Print what these populations were drawn from."""
    columns = sum((note["columns"] for note in notes), Counter())
    missing = sum((note["missing"] for note in notes), Counter())
    levels = [count for note in notes for count in note["levels"]]
    sds = [sd for note in notes for sd in note["log sd"]]
    kinds = Counter(kind for note in notes for kind in note["rule kinds"])
    broken = [share for note in notes for _, share in note["rules"]]
    print(f"{len(notes)} populations; mechanisms: {_said(Counter(note['mechanism'] for note in notes))}")
    print(f"columns: {_said(columns)}")
    print(f"levels of categories: {_range(levels)}; sd of the logarithm: {_range(sds)}")
    print(f"missing values: {_said(missing)}; `relevant` in {sum('relevant' in note for note in notes)}")
    print(f"rules: {_said(kinds)}; broken if columns were independent: {_range(broken)}")


def _said(counts: Counter[str]) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(counts.items()))


def _range(values: list[Any]) -> str:
    low, middle, high = np.quantile(values, [0, 0.5, 1])
    return f"{low:.3g} to {high:.3g}, median {middle:.3g}"


if __name__ == "__main__":
    main()
