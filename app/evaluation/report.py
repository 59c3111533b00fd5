"""Runs the metrics and tells what they found: a ReportDocument, and whether the rows may be released.

Start with `evaluate`; `release_decision` reads its result against the limits that were asked for.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from statistics import NormalDist
from typing import Any

from app.evaluation.base import Metric, NotMeasured, Score, Tables
from app.evaluation.checklist import four_checks
from app.evaluation.chosen import REASON, TESTS, without_intervals
from app.evaluation.document import (
    ColumnSummary,
    Disclosure,
    JobFacts,
    MetricResult,
    ReferenceFacts,
    ReleaseDecision,
    ReportDocument,
    Verdict,
    Verdicts,
    Warned,
)
from app.evaluation.overview import summarise
from app.evaluation.population import population_facts
from app.evaluation.readable import readable, told_of
from app.evaluation.registry import ABSENT, METRICS
from app.evaluation.study import Study
from app.evaluation.table_one import table_one
from app.evaluation.utility import utility_verdict

MISSING_NEEDS = {
    "train": "no reference was given, so there is no real table to compare with",
    "holdout": "no reference was given, so there is no holdout to compare with",
    "target": "no target column was named; name one in evaluation.target",
    "conformance": "the rows were not checked against the schema",
}

COPIED = 0.1
"""Share of rows identical to training rows above which, where a holdout has surely fewer, they are copies."""
FEWEST_JUDGED = 10
"""Real rows on either side below which nothing is said of privacy."""
LIMITS = {
    "max_identical_match_share": "identical_match_share",
    "max_singling_out_advantage": "singling_out_advantage",
}
"""Release limits and the metric that each one bounds from above."""

MARGIN = 0.05
"""How far a mean score may fall below its yardstick before the verdict asks for attention."""

LIKENESS = (
    "ks_complement",
    "tv_complement",
    "association_similarity",
    "correlation_similarity",
    "contingency_similarity",
)
"""The scores that the verdict on fidelity rests on."""


def evaluate(
    tables: Tables,
    *,
    job: JobFacts,
    reference: ReferenceFacts | None = None,
    rows_made: int | None = None,
    warnings: Iterable[Mapping[str, str]] = (),
    blueprint: Mapping[str, Any] | None = None,
    metrics: Sequence[type[Metric]] = METRICS,
    progress: Callable[[float, str], None] = lambda fraction, step: None,
) -> ReportDocument:
    """Evaluate the rows of a job.

    Parameters
    ----------
    tables : Tables
        The synthetic rows (or a sample of them), the tally of the check stage, and the parts of the
        reference where there is one.
    job : JobFacts
        What made the rows.
    reference : ReferenceFacts, optional
        Where a reference was given.
    rows_made : int, optional
        Rows of all replicates together, where `tables.synthetic` is a sample; default: all are here.
    warnings : iterable of {"pointer", "message"}
        The job's warnings.
    blueprint : mapping, optional
        The JSON of the blueprint that the rows were drawn from.
    metrics : sequence of Metric classes
        Default: all registered.
    progress : callable
        Told, before each metric, the share of metrics that are done (0 … 1) and the next one's title.

    Returns
    -------
    ReportDocument
        A metric that raises is recorded as failed, with the kind of error alone, and the rest goes on.
    """
    tables, broken = readable(tables)
    measured = []
    for number, metric in enumerate(metrics):
        progress(number / len(metrics), metric.title)
        result = run(metric(), tables)
        measured.append(result if tables.independent else without_intervals(result))
    study, measured = _with_study_apart(measured)
    results = tuple(measured) + tuple(
        MetricResult(
            name=name,
            title=title,
            dimension=dimension,
            status="not_measured",
            reading=_sentence(reason),
            reason=reason,
        )
        for name, title, dimension, reason in ABSENT
    )
    evaluated = sum(len(frame) for frame in tables.synthetic)
    found = {result.name: result for result in results}
    verdicts = Verdicts(
        conformance=_conformance_verdict(found),
        fidelity=_fidelity_verdict(found),
        utility=utility_verdict(found),
        privacy=_privacy_verdict(found),
    )
    columns: tuple[ColumnSummary, ...] = summarise(tables) if evaluated else ()
    made = evaluated if rows_made is None else rows_made
    report = ReportDocument(
        title=tables.schema.title,
        job=job,
        rows_made=made,
        rows_evaluated=evaluated,
        reference=reference,
        summary=_summary(tables, job, reference, made, verdicts, found),
        verdicts=verdicts,
        metrics=results,
        columns=columns,
        population=None if blueprint is None else population_facts(blueprint),
        independent=tables.independent,
        table_one=table_one(tables) if evaluated else (),
        study=study,
        warnings=tuple(
            Warned(pointer=item["pointer"], message=item["message"])
            for item in (*warnings, *told_of(tables.schema, broken))
        ),
        disclosure=Disclosure(min_cell=tables.min_cell, statement=_disclosure_statement(tables)),
    )
    return report.model_copy(update={"checklist": four_checks(report)})


def _with_study_apart(results: list[MetricResult]) -> tuple[Study | None, list[MetricResult]]:
    """Return the study's section, and the results without what is told there."""
    found = next((result for result in results if result.name == "study_protocol"), None)
    if found is None or found.status != "measured":
        return None, results
    study = Study.of(found.reading, found.details)
    told = {name: value for name, value in found.details.items() if name not in ("tests", "replicates")}
    shorter = found.model_copy(update={"details": told})
    return study, [shorter if result is found else result for result in results]


def run(metric: Metric, tables: Tables) -> MetricResult:
    """Run one metric; whatever happens, there is a result."""
    common: dict[str, Any] = {
        "name": metric.name,
        "title": metric.title,
        "dimension": metric.dimension,
        "higher_is_better": metric.higher_is_better,
        "bounds": metric.bounds,
        "meaning": _meaning(metric),
    }
    reason = _what_is_missing(metric, tables)
    try:
        outcome = NotMeasured(reason) if reason else metric.measure(tables)
        if isinstance(outcome, Score):
            # Through JSON and back: what is not JSON, or not finite, fails here and not at the reader's.
            details = json.loads(json.dumps(dict(outcome.details), allow_nan=False))
            return MetricResult(
                **common,
                status="measured",
                value=outcome.value,
                interval=outcome.interval,
                baseline=outcome.baseline,
                reading=outcome.reading or f"{metric.title}: {outcome.value:.3g}.",
                details=details,
            )
    except Exception as error:  # noqa: BLE001  one metric must not cost the others
        # The kind of error alone: a message may quote a cell.
        kind = type(error).__name__
        return MetricResult(
            **common, status="failed", reading=f"This could not be computed ({kind}).", reason=kind
        )
    return MetricResult(
        **common, status="not_measured", reading=_sentence(outcome.reason), reason=outcome.reason
    )


def _meaning(metric: Metric) -> str:
    """Return the first paragraph of what is written about the metric where it is defined."""
    text = inspect.getdoc(type(metric)) or ""
    return " ".join(text.split("\n\n")[0].split())


def _what_is_missing(metric: Metric, tables: Tables) -> str:
    if metric.depth == "full" and tables.depth == "core":
        return "it belongs to depth full; post the job with evaluation.depth full"
    if metric.name in TESTS and not tables.independent:
        return REASON
    for need in sorted(metric.needs):
        if getattr(tables, need) is None:
            return MISSING_NEEDS.get(need, f"{need} was not given")
    if not sum(len(frame) for frame in tables.synthetic):
        return "there is no synthetic row"
    return ""


def _sentence(reason: str) -> str:
    return f"Not measured: {reason}."


def _unmeasured(result: MetricResult, rule: str) -> Verdict:
    return Verdict(level="not_measured", sentence=result.reading, rule=rule)


def _conformance_verdict(found: Mapping[str, MetricResult]) -> Verdict:
    rule = (
        "Met where no row breaks a constraint, rule or formula and no declared statistic is further off than "
        "chance explains (5 % over all statements together, Bonferroni); not met where a row breaks one."
    )
    checks, statistics = found.get("adherence"), found.get("declared_statistics")
    if checks is None or checks.status != "measured":
        reading = checks.reading if checks else "Not measured."
        return Verdict(level="not_measured", sentence=reading, rule=rule)
    sentences = [checks.reading]
    level: Any = "met" if checks.value == 1 else "not_met"
    if statistics is not None and statistics.status == "measured":
        sentences.append(statistics.reading)
        if level == "met" and _beyond_chance(statistics):
            level = "attention"
    elif statistics is not None and statistics.status == "failed":
        sentences.append(statistics.reading)
        level = "attention" if level == "met" else level
    return Verdict(level=level, sentence=" ".join(sentences), rule=rule)


def _beyond_chance(statistics: MetricResult) -> bool:
    table: Any = statistics.details["table"]
    judged = [row for row in table if row["within"] is not None]
    limit = NormalDist().inv_cdf(1 - 0.05 / (2 * len(judged)))
    return any(
        row["within"] is False and (row["distance"] is None or abs(row["distance"]) > limit) for row in judged
    )


def _fidelity_verdict(found: Mapping[str, MetricResult]) -> Verdict:
    rule = (
        f"Met where no mean score of shape or association lies more than {MARGIN} below that of the real "
        "holdout."
    )
    return _beside_the_yardstick([found[name] for name in LIKENESS if name in found], rule)


def _beside_the_yardstick(scores: Sequence[MetricResult], rule: str) -> Verdict:
    measured = [score for score in scores if score.status == "measured"]
    failed = [score for score in scores if score.status == "failed"]
    told = measured + failed or list(scores[:1])
    if not told:
        return Verdict(level="not_measured", sentence="Not measured.", rule=rule)
    level: Any = "met" if any(score.baseline is not None for score in measured) else "not_measured"
    for score in measured:
        assert score.value is not None  # it is measured
        if score.baseline is not None and score.value < score.baseline - MARGIN:
            level = "attention"
    if failed and measured:
        level = "attention"
    return Verdict(level=level, sentence=" ".join(score.reading for score in told), rule=rule)


def _privacy_verdict(found: Mapping[str, MetricResult]) -> Verdict:
    rule = (
        f"Not met where more than one row in {round(1 / COPIED)} is identical to a training row, and surely "
        "more than of the holdout. Met where the share of such rows is no greater than the upper end of the "
        "holdout's 95 % interval, and no other figure's 95 % interval lies wholly on the worse side of its "
        "yardstick (by chance alone one in forty does). Not measured where the yardstick is none: fewer than "
        f"{FEWEST_JUDGED} real rows on either side, or a holdout of which more than half stands in the train "
        "part. It says nothing on ways to recognise a person that were not tried."
    )
    matches = found.get("identical_match_share")
    if matches is None or matches.status != "measured" or matches.value is None:
        return Verdict(
            level="not_measured", sentence=matches.reading if matches else "Not measured.", rule=rule
        )
    interval: Any = matches.details["holdout_interval"]
    unlike = _no_yardstick(matches, found.get("repeated_row_share"))
    copied = matches.value > COPIED and bool(
        matches.interval is not None and matches.interval[0] > (interval[1] if interval is not None else 0.0)
    )
    fine = matches.value == 0 or (interval is not None and matches.value <= interval[1])
    others = [
        result
        for result in found.values()
        if result.dimension == "privacy" and result.baseline is not None and result.interval is not None
    ]
    others = [result for result in others if result is not matches and result.name != "repeated_row_share"]
    worse = [result for result in others if _surely_worse(result)]
    sentences = [matches.reading]
    if unlike:
        sentences.append(unlike)
    elif worse:
        names = "; ".join(result.title for result in worse)
        sentences.append(f"Surely worse than the yardstick: {names}.")
    elif others:
        sentences.append(f"None of {len(others)} other figures is surely worse than its yardstick.")
    level: Any = "met" if fine and not worse else "attention"
    if copied:
        level = "not_met"
    elif unlike:
        level = "not_measured"
    return Verdict(level=level, sentence=" ".join(sentences), rule=rule)


def _no_yardstick(matches: MetricResult, repeated: MetricResult | None) -> str:
    """Say why real rows are no yardstick for copies; empty where they are one."""
    train, held = (matches.details.get(name) for name in ("train_rows", "holdout_rows"))
    if not isinstance(train, int) or not isinstance(held, int) or min(train, held) < FEWEST_JUDGED:
        return (
            f"With fewer than {FEWEST_JUDGED} real rows in the train part or the holdout this says nothing."
        )
    own = (repeated.baseline if repeated is not None else None) or 0.0
    # In a table of few columns real rows repeat one another, in a holdout too: that is no fault of it.
    if matches.baseline is not None and matches.baseline > max(0.5, 2 * own):
        return (
            "More than half of the holdout's rows stand in the train part: it holds no rows that a generator "
            "has not seen, and is no yardstick."
        )
    return ""


def _surely_worse(result: MetricResult) -> bool:
    assert result.interval is not None and result.baseline is not None  # chosen so
    low, high = result.interval
    known: Any = result.details.get("holdout_interval")  # the yardstick is an estimate, too
    least, most = known or (result.baseline, result.baseline)
    return bool(high < least if result.higher_is_better else low > most)


def _summary(
    tables: Tables,
    job: JobFacts,
    reference: ReferenceFacts | None,
    made: int,
    verdicts: Verdicts,
    found: Mapping[str, MetricResult],
) -> tuple[str, str, str]:
    source = "from the declared statistics alone; no real table was used"
    if reference is not None and reference.trained_on:
        source = f"learned from {reference.train_rows:,} rows of a real table"
    elif reference is not None:
        source = f"from the declared statistics, with {reference.train_rows:,} real rows as the yardstick"
    made_by = f"made by {job.generator} with seed {job.seed}, {source}"
    if reference is not None and job.kind == "evaluation":
        made_by = f"uploaded to be judged, beside {reference.train_rows:,} rows of a real table"
    first = f"These are {made:,} synthetic rows of {len(tables.schema.fields)} columns, {made_by}."
    declared = found.get("declared_statistics")
    kept = "; the schema declares no statistics to compare"
    if declared is not None and declared.status == "measured":
        kept = ", and every declared statistic as closely as chance allows"
    second = {
        "met": f"They keep the schema{kept}.",
        "attention": "They keep the schema, but some statistics are further off than chance explains.",
        "not_met": "Some rows break the schema: see the list below before using them.",
        "not_measured": "Whether they keep the schema was not checked.",
    }[verdicts.conformance.level]
    if reference is None:
        third = (
            "How like real rows they are, how useful and how safe was not measured: there is no real table."
        )
    else:
        shape = {
            "met": "Columns and their associations are much like the real ones",
            "attention": "Columns or their associations differ from the real ones",
        }.get(verdicts.fidelity.level, "How like the real ones they are could not be judged")
        use = {
            "met": "models trained on them do about as well as models trained on real rows",
            "attention": "models trained on them do worse than models trained on real rows",
            "not_met": "models trained on them are not shown to do better on real rows than guessing",
            "not_measured": "their usefulness was not measured",
        }[verdicts.utility.level]
        copies = {
            "met": "nothing that was tried tells training rows from rows never seen",
            "attention": "some figure tells training rows from rows never seen: see Privacy",
            "not_met": "many of them are copies of real rows: they must not be given out",
        }.get(verdicts.privacy.level, "whether they repeat real rows could not be judged")
        third = f"{shape}; {use}; {copies}."
    return first, second, third


def _disclosure_statement(tables: Tables) -> str:
    if tables.train is None:
        return "No real table was used; every figure is of the synthetic rows or was declared by the caller."
    return (
        f"No figure shows a cell, bin or level of fewer than {tables.min_cell} real rows, nor a real least "
        "or greatest value: small ones are pooled or left out. Scores and shares of matching rows "
        "are of whole columns and tables."
    )


def release_decision(report: ReportDocument | None, limits: Mapping[str, float] | None) -> ReleaseDecision:
    """Decide whether the rows may be given out.

    Parameters
    ----------
    report : ReportDocument or None
        None where the evaluation failed or was switched off.
    limits : mapping of limit name (see LIMITS) to its value, or None
        What the caller asked for.

    Returns
    -------
    ReleaseDecision
        `not_assessed` without limits. It fails closed: what was not measured withholds.

    Notes
    -----
    The upper end of the 95 % interval is held against the limit. Only no match among all rows that were made
    needs no interval: it is a count. An attack of several kinds withholds as well where one of them surely
    exceeds the limit, whatever they amount to together.
    """
    if not limits:
        return ReleaseDecision(decision="not_assessed", reasons=("no release limit was asked for",))
    faults = [fault for name, limit in limits.items() if (fault := _exceeds(report, name, limit))]
    if faults:
        return ReleaseDecision(decision="withheld", reasons=tuple(faults))
    return ReleaseDecision(
        decision="released", reasons=tuple(f"{name} {limit:g}: met" for name, limit in limits.items())
    )


def _exceeds(report: ReportDocument | None, name: str, limit: float) -> str:
    """Say why the limit is not met; empty where it is."""
    if report is None:
        return f"{name} {limit:g}: not measured, for there is no evaluation"
    try:
        result = report.metric(LIMITS[name])
    except KeyError:
        return f"{name} {limit:g}: not measured, for this version knows no such figure"
    if result.status != "measured" or result.value is None:
        return f"{name} {limit:g}: not measured ({result.reason})"
    upper = result.interval[1] if result.interval else 1.0  # without an interval anything is possible
    compared = result.details.get("rows")
    sampled = isinstance(compared, int) and compared < report.rows_made
    if name == "max_identical_match_share" and result.value == 0 and not sampled:
        return ""
    if result.value > limit:
        return f"{name} {limit:g}: measured {result.value:.3g}"
    if sampled and upper > limit:
        return (
            f"{name} {limit:g}: only {compared} of {report.rows_made} rows were compared, "
            f"and a share of up to {upper:.3g} is possible"
        )
    if upper > limit:
        return f"{name} {limit:g}: measured {result.value:.3g}, up to {upper:.3g} is possible (95 % interval)"
    return _one_kind_exceeds(result, name, limit)


def _one_kind_exceeds(result: MetricResult, name: str, limit: float) -> str:
    table: Any = result.details.get("table", [])
    for row in table:
        if isinstance(row, dict) and row.get("low", 0.0) > limit:
            return f"{name} {limit:g}: the {row['attack']} attack alone gains at least {row['low']:.3g}"
    return ""
