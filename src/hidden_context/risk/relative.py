"""Measures of the reward minus the candidates' mean reward: how the people served worst fare."""

from __future__ import annotations

import dataclasses
from typing import Final

from hidden_context.risk.cvar import CVAR
from hidden_context.risk.measure import Measure
from hidden_context.risk.quantile import QUANTILE


def relative(measure: Measure, example: str) -> Measure:
    """Make the relative kind of a measure; the candidates are the last dimension."""
    plain = measure.evaluate
    return dataclasses.replace(
        measure,
        name=f"relative_{measure.name}",
        evaluate=lambda rewards, parameter, method: plain(rewards.relative(), parameter, "step"),
        parameter=f"{measure.parameter.split(',')[0]}{example}",
        has_readings=False,
        is_relative=True,
    )


RELATIVE_QUANTILE: Final = relative(QUANTILE, ", 1), as in relative_quantile:0.1")
RELATIVE_CVAR: Final = relative(CVAR, ", 1], as in relative_cvar:0.1")
