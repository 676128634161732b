"""The mean of the worst share of rewards."""

from typing import Final

from hidden_context.risk.measure import Measure

CVAR: Final = Measure(
    "cvar",
    lambda rewards, share, method: rewards.cvar(share),
    "share in (0, 1], as in cvar:0.05",
    lambda share: 0 < share <= 1,
)
