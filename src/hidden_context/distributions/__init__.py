"""What a reward is: one ``torch.distributions.Distribution`` per file."""

from hidden_context.distributions.base import RewardDistribution
from hidden_context.distributions.categorical import CategoricalReward
from hidden_context.distributions.log_space import LIKELIHOODS, log_comparison, log_ndtr
from hidden_context.distributions.normal import NormalReward
from hidden_context.distributions.point_mass import PointMassReward

__all__ = [
    "LIKELIHOODS",
    "CategoricalReward",
    "NormalReward",
    "PointMassReward",
    "RewardDistribution",
    "log_comparison",
    "log_ndtr",
]
