"""Reward distributions: one ``torch.distributions.Distribution`` per file."""

from hidden_context.distributions.base import Components, RewardDistribution
from hidden_context.distributions.categorical import CategoricalReward
from hidden_context.distributions.components import ComponentReward
from hidden_context.distributions.difference import RewardDifference
from hidden_context.distributions.ensemble import EnsembleReward
from hidden_context.distributions.factor import FactorReward
from hidden_context.distributions.log_space import LIKELIHOODS, log_comparison, log_ndtr
from hidden_context.distributions.mixture import MixtureReward
from hidden_context.distributions.normal import NormalReward
from hidden_context.distributions.point_mass import PointMassReward
from hidden_context.distributions.quantiles import QuantileReward

__all__ = [
    "LIKELIHOODS",
    "CategoricalReward",
    "ComponentReward",
    "Components",
    "EnsembleReward",
    "FactorReward",
    "MixtureReward",
    "NormalReward",
    "PointMassReward",
    "QuantileReward",
    "RewardDifference",
    "RewardDistribution",
    "log_comparison",
    "log_ndtr",
]
