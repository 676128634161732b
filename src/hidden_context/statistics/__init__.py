"""Statistics of reward distributions and comparisons; pure functions of arrays and tensors."""

from hidden_context.statistics.agreement import (
    auroc,
    contested,
    diverging_auroc,
    rank_correlation,
    vote_correlation,
)
from hidden_context.statistics.borda import borda_counts, pairwise_probabilities
from hidden_context.statistics.calibration import (
    ReliabilityBin,
    brier_score,
    expected_calibration_error,
    reliability_bins,
    sharpness,
)
from hidden_context.statistics.context_tests import (
    TestResult,
    annotator_permutation_test,
    common_sigma_test,
)
from hidden_context.statistics.interval import Interval, cluster_interval, cluster_sums
from hidden_context.statistics.judgement_metrics import (
    grouped_judgement_metrics,
    judgement_metrics,
    judgement_values,
)
from hidden_context.statistics.paired import mcnemar_test, paired_difference
from hidden_context.statistics.tabular import fit_tabular
from hidden_context.statistics.variance import explained_variance
from hidden_context.statistics.wins import win_rate

__all__ = [
    "Interval",
    "ReliabilityBin",
    "TestResult",
    "annotator_permutation_test",
    "auroc",
    "borda_counts",
    "brier_score",
    "cluster_interval",
    "cluster_sums",
    "common_sigma_test",
    "contested",
    "diverging_auroc",
    "expected_calibration_error",
    "explained_variance",
    "fit_tabular",
    "grouped_judgement_metrics",
    "judgement_metrics",
    "judgement_values",
    "mcnemar_test",
    "paired_difference",
    "pairwise_probabilities",
    "rank_correlation",
    "reliability_bins",
    "sharpness",
    "vote_correlation",
    "win_rate",
]
