"""The entropic risk, −(1/θ)·log E e^(−θu)."""

from typing import Final

from hidden_context.risk.measure import Measure

ENTROPIC: Final = Measure(
    "entropic",
    lambda rewards, aversion, method: rewards.entropic(aversion),
    "aversion > 0, as in entropic:2",
    lambda aversion: 0 < aversion < float("inf"),
)
