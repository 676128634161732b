"""A lower quantile of the reward."""

from typing import Final, cast

from hidden_context.distributions.base import QuantileMethod
from hidden_context.risk.measure import Measure

QUANTILE: Final = Measure(
    "quantile",
    lambda rewards, level, method: rewards.quantile(level, cast(QuantileMethod, method)),
    "level in (0, 1), as in quantile:0.01",
    lambda level: 0 < level < 1,
    has_readings=True,
)
