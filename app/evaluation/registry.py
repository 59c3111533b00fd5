"""Which metrics there are, and which figures a reader may look for and not find."""

from __future__ import annotations

from app.evaluation.base import Dimension, Metric
from app.evaluation.conformance import Adherence, DeclaredStatistics
from app.evaluation.fidelity import KSComplement, TVComplement
from app.evaluation.fidelity_associations import AssociationSimilarity
from app.evaluation.fidelity_columns import Missingness, WassersteinInSd
from app.evaluation.fidelity_coverage import LevelCoverage
from app.evaluation.fidelity_detection import DetectionAUC
from app.evaluation.fidelity_pairs import ContingencySimilarity, CorrelationSimilarity
from app.evaluation.fidelity_study import StudyProtocol
from app.evaluation.fidelity_subgroups import SubgroupSimilarity
from app.evaluation.privacy import IdenticalMatchShare, RepeatedRowShare
from app.evaluation.privacy_attacks import AttributeInference, Linkability
from app.evaluation.privacy_similarity import DcrShare, MembershipInference, NearMatchShare, NndrShare
from app.evaluation.privacy_singling_out import SinglingOut
from app.evaluation.privacy_synthpop import Disco, ReplicatedUniques
from app.evaluation.utility import CoefficientOverlap, TrainSyntheticTestReal

METRICS: tuple[type[Metric], ...] = (
    Adherence,
    DeclaredStatistics,
    KSComplement,
    TVComplement,
    WassersteinInSd,
    Missingness,
    LevelCoverage,
    AssociationSimilarity,
    CorrelationSimilarity,
    ContingencySimilarity,
    DetectionAUC,
    SubgroupSimilarity,
    StudyProtocol,
    TrainSyntheticTestReal,
    CoefficientOverlap,
    IdenticalMatchShare,
    RepeatedRowShare,
    NearMatchShare,
    DcrShare,
    NndrShare,
    MembershipInference,
    SinglingOut,
    Linkability,
    AttributeInference,
    ReplicatedUniques,
    Disco,
)
"""All metrics, in the order of the report."""

ABSENT: tuple[tuple[str, str, Dimension, str], ...] = ()
"""Name, title, dimension and reason of what is not measured in this version."""
