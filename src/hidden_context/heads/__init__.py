"""Heads: each reads raw outputs ``(…, K)`` as reward distributions. One file per head."""

from hidden_context.heads.base import Head, LinearMean
from hidden_context.heads.categorical import CategoricalHead
from hidden_context.heads.ensemble import EnsembleHead
from hidden_context.heads.factor import FactorHead
from hidden_context.heads.mean_and_variance import MeanAndVarianceHead
from hidden_context.heads.mixture import MixtureHead
from hidden_context.heads.quantile import QuantileHead
from hidden_context.heads.registry import (
    PAPER_TYPES,
    for_num_outputs,
    for_width,
    from_dict,
    make,
    register,
    types,
)
from hidden_context.heads.scalar import ScalarHead

__all__ = [
    "PAPER_TYPES",
    "CategoricalHead",
    "EnsembleHead",
    "FactorHead",
    "Head",
    "LinearMean",
    "MeanAndVarianceHead",
    "MixtureHead",
    "QuantileHead",
    "ScalarHead",
    "for_num_outputs",
    "for_width",
    "from_dict",
    "make",
    "register",
    "types",
]
