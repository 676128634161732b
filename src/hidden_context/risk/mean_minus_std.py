"""The mean less so many standard deviations."""

from typing import Final

from hidden_context.risk.measure import Measure

MEAN_MINUS_STD: Final = Measure(
    "mean_minus_std",
    lambda rewards, factor, method: rewards.mean - factor * rewards.stddev,
    "number of standard deviations ≥ 0, as in mean_minus_std:1",
    lambda factor: 0 <= factor < float("inf"),
)
