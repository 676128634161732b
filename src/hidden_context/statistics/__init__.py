"""Statistics of reward distributions and comparisons; pure functions of arrays and tensors."""

from hidden_context.statistics.pair_metrics import grouped_pair_metrics, pair_metrics
from hidden_context.statistics.tabular import fit_tabular
from hidden_context.statistics.variance import explained_variance
from hidden_context.statistics.wins import win_rate

__all__ = ["explained_variance", "fit_tabular", "grouped_pair_metrics", "pair_metrics", "win_rate"]
