"""What is known of every registered metric where the synthetic table is a second sample of the population.

A metric that is not in this table fails the suite: whoever adds one says here what its truth is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Truth:
    """What a metric's figures should be, over many draws of the same population.

    Parameters
    ----------
    value : float or None
        What its interval should cover; None: the mean over draws, which no formula gives.
    interval : bool
        Whether it states an interval.
    yardstick : bool
        Whether its mean should be that of its yardstick, holdout and synthetic table being of one size.
    copies : "exact", "jittered" or ""
        Whether it should find copies of training rows: none, exact ones, or those with some noise too.
    copies_from : float
        The share of copies, 0.05 or 1, from which on the figure must rise.
    """

    value: float | None = None
    interval: bool = True
    yardstick: bool = True
    copies: Literal["", "exact", "jittered"] = ""
    copies_from: float = 0.05


TRUTHS: Mapping[str, Truth] = {
    "adherence": Truth(1.0, interval=False, yardstick=False),
    "declared_statistics": Truth(interval=False),
    "ks_complement": Truth(),
    "tv_complement": Truth(),
    "association_similarity": Truth(),
    "correlation_similarity": Truth(),
    "contingency_similarity": Truth(),
    "wasserstein_in_sd": Truth(),
    "missingness": Truth(),
    "level_coverage": Truth(),
    "c2st": Truth(0.5),
    "subgroup_similarity": Truth(),
    "study_protocol": Truth(interval=False),
    "tstr": Truth(),
    "coefficient_overlap": Truth(),
    "identical_match_share": Truth(copies="exact"),
    "repeated_row_share": Truth(interval=False),
    "near_match_share": Truth(copies="jittered"),
    "dcr_share": Truth(0.5, copies="jittered"),
    "nndr_share": Truth(0.5, copies="jittered"),
    "membership_inference": Truth(0.5, copies="jittered"),
    "singling_out_advantage": Truth(0.0, copies="exact"),
    "linkability": Truth(0.0, copies="jittered"),
    "attribute_inference": Truth(0.0, copies="jittered"),
    # A twentieth of all is lost among those who are unique in both tables by chance.
    "replicated_uniques": Truth(copies="jittered", copies_from=1.0),
    "disco": Truth(copies="jittered"),
}
