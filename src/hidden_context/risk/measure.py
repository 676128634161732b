"""What a risk measure is: a distribution to one number per text."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from hidden_context.distributions import RewardDistribution

Evaluate = Callable[[RewardDistribution, float, str], Tensor]


@dataclass(frozen=True)
class Measure:
    """One kind of risk measure.

    Args:
        name: Its name.
        evaluate: The measure of a distribution, given its parameter and the reading of discrete
            quantiles, in reward units, of the distribution's batch shape.
        parameter: What its parameter is, for errors; empty where it takes none.
        allows: Whether it works with a parameter.
        has_readings: Whether discrete rewards have two readings, ``step`` and ``bins``.
        is_relative: Whether it depends on the prompt's other candidates, in the last dimension.
    """

    name: str
    evaluate: Evaluate
    parameter: str = ""
    allows: Callable[[float], bool] = lambda parameter: True
    has_readings: bool = False
    is_relative: bool = False
