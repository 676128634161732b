"""The expected reward."""

from typing import Final

from hidden_context.risk.measure import Measure

MEAN: Final = Measure("mean", lambda rewards, parameter, method: rewards.mean)
