"""Which metrics there are, and which figures a reader may look for and not find."""

from __future__ import annotations

from app.evaluation.base import Dimension, Metric
from app.evaluation.conformance import Adherence, DeclaredStatistics
from app.evaluation.fidelity import KSComplement, TVComplement
from app.evaluation.privacy import IdenticalMatchShare, RepeatedRowShare
from app.evaluation.utility import CoefficientOverlap, TrainSyntheticTestReal

METRICS: tuple[type[Metric], ...] = (
    Adherence,
    DeclaredStatistics,
    KSComplement,
    TVComplement,
    TrainSyntheticTestReal,
    CoefficientOverlap,
    IdenticalMatchShare,
    RepeatedRowShare,
)
"""All metrics, in the order of the report."""

ABSENT: tuple[tuple[str, str, Dimension, str], ...] = (
    (
        "singling_out_advantage",
        "Singling out of persons",
        "privacy",
        "this version has no singling-out attack: identical rows are counted, other attacks are not tried",
    ),
)
"""Name, title, dimension and reason of what is not measured in this version."""
