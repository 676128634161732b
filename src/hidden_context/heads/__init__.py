"""Heads: raw network output of shape ``(…, K)`` to a reward distribution. One file per head."""

from hidden_context.heads.base import Head
from hidden_context.heads.categorical import CategoricalHead
from hidden_context.heads.mean_and_variance import MeanAndVarianceHead
from hidden_context.heads.registry import for_num_outputs, from_dict, make, types
from hidden_context.heads.scalar import ScalarHead

__all__ = [
    "CategoricalHead",
    "Head",
    "MeanAndVarianceHead",
    "ScalarHead",
    "for_num_outputs",
    "from_dict",
    "make",
    "types",
]
