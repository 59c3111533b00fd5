"""Utility: is what one learns from the synthetic rows true of real ones."""

from app.evaluation.utility.coefficients import CoefficientOverlap
from app.evaluation.utility.tstr import TrainSyntheticTestReal
from app.evaluation.utility.verdict import utility_verdict

__all__ = ["CoefficientOverlap", "TrainSyntheticTestReal", "utility_verdict"]
