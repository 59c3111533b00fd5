"""Which metrics there are, and which figures a reader may look for and not find."""

from __future__ import annotations

from app.evaluation.base import Dimension, Metric
from app.evaluation.conformance import Adherence, DeclaredStatistics
from app.evaluation.fidelity import KSComplement, TVComplement
from app.evaluation.privacy import IdenticalMatchShare, RepeatedRowShare

METRICS: tuple[type[Metric], ...] = (
    Adherence,
    DeclaredStatistics,
    KSComplement,
    TVComplement,
    IdenticalMatchShare,
    RepeatedRowShare,
)
"""All metrics, in the order of the report."""

ABSENT: tuple[tuple[str, str, Dimension, str], ...] = (
    (
        "utility",
        "Usefulness for a later analysis",
        "utility",
        "this version has no utility metric: try your own analysis on the rows before relying on them",
    ),
    (
        "singling_out_advantage",
        "Singling out of persons",
        "privacy",
        "this version has no singling-out attack: identical rows are counted, other attacks are not tried",
    ),
)
"""Name, title, dimension and reason of what is not measured in this version."""
