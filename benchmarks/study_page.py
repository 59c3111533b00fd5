"""The page docs/study.md: the study's tables beside what was published and beside yardsticks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from string import Template
from typing import Any

from benchmarks import zero_shot_tables
from benchmarks.study import (
    BLUEPRINT,
    CTGAN,
    ELICITED,
    MARGINALS,
    PATIENTS,
    PUBLISHED,
    SECOND,
    STAND_IN,
    TENFOLD,
    Candidate,
    Study,
)

ORDER = (BLUEPRINT, ELICITED, CTGAN, MARGINALS)
SHOWN_FROM = 0.05
"""Levels that are rarer in the published table are in the tests, and not in the table of proportions."""
KINDS = {
    "mean": "means (Welch's t)",
    "proportion": "proportions (z)",
    "distribution": "distributions (Kolmogorov–Smirnov)",
    "correlation": "correlations (Fisher's z)",
}


def page(study: Study) -> str:
    """Return the page."""
    sections = (_head, _means, _proportions, _tests, _correlations, _utility, _oddities)
    return "\n\n".join(section(study) for section in sections).rstrip() + "\n"


def _head(study: Study) -> str:
    text = (Path(__file__).parent / "pages" / "study.md").read_text("utf-8").strip()
    made = "of " + study.recording if study.recording else "not recorded yet"
    filled = Template(text).substitute(
        recording=made, learned=study.learned_from, epochs=f"{study.epochs:,}", replicates=study.replicates
    )
    if ELICITED not in study.found:
        filled += (
            "\n\n**The elicitation of this cohort is not recorded yet: the candidate *elicited* is left out "
            "of every table below.**"
        )
    return filled


def _present(study: Study) -> list[str]:
    return [name for name in ORDER if name in study.found]


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(header)} |", f"|{'---|' * len(header)}"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])


def _columns(names: Sequence[str]) -> list[str]:
    sizes = [f"{name}, {rows:,}" for rows in (PATIENTS, TENFOLD) for name in names]
    return [*sizes, f"{SECOND}, {PATIENTS}"]


def _range(values: Sequence[float], form: Callable[[float], str]) -> str:
    middle = form(sum(values) / len(values))
    return middle if len(values) == 1 else f"{middle} ({form(min(values))} to {form(max(values))})"


def _side_by_side(
    study: Study,
    rows: Mapping[str, float | None],
    of: Callable[[Candidate], Mapping[str, list[float]]],
    tenfold: Callable[[Candidate], Mapping[str, float]],
    form: Callable[[float], str],
    published: str,
) -> str:
    names = _present(study)
    header = ["", published, STAND_IN, *_columns(names)]
    lines = []
    for row, said in rows.items():
        cells = [row, "–" if said is None else form(said), form(of(study.found[STAND_IN])[row][0])]
        cells += [_range(of(study.found[name])[row], form) for name in names]
        cells += [form(tenfold(study.found[name])[row]) for name in names]
        lines.append([*cells, form(of(study.found[SECOND])[row][0])])
    return _table(header, lines)


def _declared(of: str) -> dict[str, Any]:
    return {
        item["name"]: item["statistics"][of]
        for item in zero_shot_tables.declared()["fields"]
        if of in item.get("statistics", {})
    }


def _means(study: Study) -> str:
    published = _declared("mean")
    rows = {name: published.get(name) for name in study.found[STAND_IN].means}
    table = _side_by_side(
        study, rows, lambda one: one.means, lambda one: one.tenfold_means, lambda value: f"{value:.1f}",
        "published",
    )  # fmt: skip
    return _section("Means", (
        "*Published*: of the study's table of 1,390 rows by GPT-4o. Over the replicates: the mean of the "
        "means, and their range. Of height the schema declares the means of women and men, of weight "
        "nothing: that of the body mass index says it, and where associations and formulas are left aside "
        "(`marginals`) it is spread evenly between its bounds."
    ), table)  # fmt: skip


def _proportions(study: Study) -> str:
    rows: dict[str, float | None] = {}
    for name, shares in _declared("proportions").items():
        shown = [level for level in shares if level != "false"]
        for level in shown[:1] if len(shown) == 2 else shown:  # the second of two follows from the first
            if shares[level] >= SHOWN_FROM:
                rows[f"{name}: {level}"] = shares[level]
    table = _side_by_side(
        study, rows, lambda one: one.proportions, lambda one: one.tenfold_proportions,
        lambda value: f"{100 * value:.1f}", "published",
    )  # fmt: skip
    return _section("Proportions", (
        "In per cent; levels that 5 % and more have in the study's table of 1,390 rows by GPT-4o "
        "(*published*). CTGAN learns no level that fewer than ten rows have: the disclosure rules pool it."
    ), table)  # fmt: skip


def _tests(study: Study) -> str:
    names = _present(study)
    header = ["comparison", *_columns(names)]
    rows = []
    for kind, title in KINDS.items():
        cells = [title]
        cells += [_passed(study.found[name].tests.get(kind)) for name in names]
        cells += [_passed(study.found[name].tenfold_tests.get(kind)) for name in names]
        rows.append([*cells, _passed(study.second_tests.get(kind))])
    return _section("The study's tests", (
        "Comparisons with the stand-in that find no difference at 5 %, of all (the replicates' added up). A "
        "perfect generator has 95 % on average, and more beside this stand-in, which has the declared "
        "statistics with less chance in them than a sample would have. A table of 1,390 rows is tested more "
        "sharply than one of 139."
    ), _table(header, rows))  # fmt: skip


def _passed(found: Sequence[int] | None) -> str:
    return "–" if found is None else f"{found[0]} of {found[1]} ({100 * found[0] / found[1]:.0f} %)"


def _correlations(study: Study) -> str:
    names = _present(study)
    header = ["rank correlation", "declared", STAND_IN, *_columns(names)]
    rows = []
    for pair, value in study.declared_pairs.items():
        cells = [pair, f"{value:.2f}", f"{study.found[STAND_IN].correlations[pair][0]:.2f}"]
        cells += [_range(study.found[name].correlations[pair], lambda one: f"{one:.2f}") for name in names]
        cells += [f"{study.found[name].tenfold_correlations[pair]:.2f}" for name in names]
        rows.append([*cells, f"{study.found[SECOND].correlations[pair][0]:.2f}"])
    low, high = PUBLISHED["kps_complications"]
    return _section("Correlations", (
        "The associations that the schema declares. The first is that of the study's published table of "
        f"1,390 rows; over its ten tables it wanders from {low} to {high}. The other three are ours, for "
        "illustration."
    ), _table(header, rows))  # fmt: skip


def _utility(study: Study) -> str:
    names = _present(study)
    measures = ("F1 (weighted)", "F1 (macro)", "AUROC")
    known = [row for row in study.found[names[0]].utility if row["measure"] in measures]
    rows = []
    for row in known:
        key = (row["model"], row["measure"])
        cells = [f"{row['model']}{' (yardstick)' if row['kind'] == 'yardstick' else ''}", row["measure"]]
        for name in names:
            own = next(item for item in study.found[name].utility if (item["model"], item["measure"]) == key)
            cells.append(_with_interval(own))
        rows.append([*cells, f"{row['trtr']:.3f}"])
    table = _table(["trained", "measure", *names, SECOND], rows)
    f1, journal = PUBLISHED["f1"], PUBLISHED["f1_journal"]
    after = (
        f"Published, on the real rows: F1 {f1['GPT-4o']} (GPT-4o) and {f1['CTGAN']} (CTGAN); in the journal "
        f"version (10.3171/2025.4.FOCUS25225) {journal['GPT-4o']} and {journal['CTGAN']}. What the study "
        "lacked: always the commoner outcome, and the best single column. One line without any training, "
        f"*any complication*, has a weighted F1 of {study.any_complication:.3f} on the stand-in, and "
        f"{PUBLISHED['any_complication_f1']} on either published synthetic table."
    )
    return _section("Predicting KPS deterioration", (
        "Trained on each table of 1,390 rows, tested on the stand-in's 139; 95 % intervals in brackets. "
        "*Second sample*: trained on 1,390 other rows of the stand-in's population, which is the most that "
        "can be reached."
    ), table, after)  # fmt: skip


def _with_interval(row: Mapping[str, Any]) -> str:
    interval = row.get("tstr_interval")
    return f"{row['tstr']:.3f}" + (f" ({interval[0]:.2f}–{interval[1]:.2f})" if interval else "")


def _oddities(study: Study) -> str:
    names = [*_present(study), SECOND]
    rows: list[list[str]] = []

    def row(title: str, published: str, of: Callable[[Candidate], str]) -> None:
        rows.append([title, published, *(of(study.found[name]) for name in names)])

    judged = set(_present(study))

    def share(of: Callable[[Candidate], float]) -> Callable[[Candidate], str]:
        return lambda one: (
            f"{100 * of(one):.1f} %" if any(study.found[name] is one for name in judged) else "–"
        )

    row(f"identical to a row of the stand-in, {PATIENTS}", "none reported", share(lambda one: one.copied[0]))
    row(f"identical to a row of the stand-in, {TENFOLD:,}", "none reported", share(lambda one: one.copied[1]))
    row(f"repeated rows, {PATIENTS}", "–", share(lambda one: one.repeated[0]))
    row(f"repeated rows, {TENFOLD:,}", "–", share(lambda one: one.repeated[1]))
    row("replicates share draws", "yes: most of them",
        lambda one: "–" if one.shares_draws is None else "yes" if one.shares_draws else "no")  # fmt: skip
    low, high = PUBLISHED["heights"]
    told = {
        "younger than the cohort": f"{PUBLISHED['under_65']} patients",
        "a woman of 185 cm and more, or a man of less than 150 cm": (
            f"heights uniform from {low} to {high} cm, whatever the sex"
        ),
    }
    for what in study.found[BLUEPRINT].impossible:
        if what:
            row(f"impossible: {what}", told.get(what, "–"),
                lambda one, what=what: f"{100 * one.impossible[what]:.1f} %")  # type: ignore[misc]  # fmt: skip
    table = _table(["", "published", *names], rows)
    return _section("Duplicates, draws and impossible patients", (
        "*Published*: an audit of the study's synthetic tables, in which "
        f"{100 * PUBLISHED['ages_on_one_clipped_value']:.1f} % of the ages also lie on one clipped value. "
        "Impossible patients are those of the tables of 1,390 rows."
    ), table)  # fmt: skip


def _section(title: str, *parts: str) -> str:
    return "\n\n".join([f"## {title}", *parts])
