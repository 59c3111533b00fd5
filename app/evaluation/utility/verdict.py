"""The verdict on utility."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from app.evaluation.document import MetricResult, Verdict

MARGIN = 0.05
"""How far the figure may fall below that of models trained on real rows before it asks for attention."""

CHANCE = {"AUROC": 0.5, "R²": 0.0}
"""What a model gets that knows nothing."""


def utility_verdict(found: Mapping[str, MetricResult]) -> Verdict:
    """Judge usefulness by `tstr`, one of the results by name."""
    rule = (
        f"Met where models trained on synthetic rows reach, on the holdout, no less than {MARGIN} below "
        "models trained on as many real rows (mean AUROC or R²); not met where the real rows teach "
        "something and the 95 % interval of the synthetic ones does not exclude chance. "
        "It holds for this target alone."
    )
    tstr = found.get("tstr")
    if tstr is None or tstr.status != "measured" or tstr.value is None or tstr.baseline is None:
        return Verdict(level="not_measured", sentence=tstr.reading if tstr else "Not measured.", rule=rule)
    details: Any = tstr.details
    chance = CHANCE[details["measure"]]
    real_low = (details["trtr_interval"] or [tstr.baseline])[0]
    low = tstr.interval[0] if tstr.interval else tstr.value
    sentence = tstr.reading
    level: Any = "met" if tstr.value >= tstr.baseline - MARGIN else "attention"
    if real_low <= chance:
        level = "attention"
        sentence += " Even real rows hardly predict this target, so it says little on the synthetic ones."
    elif low <= chance:
        level = "not_met"
        sentence += " That is not better than chance."
    overlap = found.get("coefficient_overlap")
    if overlap is not None and overlap.status == "measured":
        sentence += " " + overlap.reading
    return Verdict(level=level, sentence=sentence, rule=rule)
