"""OpenRLHF: ``reward_func`` for the Python file that ``--reward.remote_url`` may name.

OpenRLHF asks a server by itself: ``--reward.remote_url http://127.0.0.1:8000/get_reward``. The
function here is for a model in the trainer's own processes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from hidden_context import risk as risks
from hidden_context.errors import ConfigError, DataError
from hidden_context.integrations.reward import single_measure
from hidden_context.integrations.sources import LocalSource, Model, open_source
from hidden_context.risk import RiskMeasure
from hidden_context.scoring.prepare import MarkedText
from hidden_context.scoring.requests import Described

RewardFunction = Callable[
    [Sequence[str], Sequence[str], Sequence[Any]], "dict[str, Tensor | dict[str, Tensor]]"
]


def reward_function(
    model: Model, risk: str = "mean", *, annotator: str | None = None
) -> RewardFunction:
    """Make ``reward_func(queries, prompts, labels)``.

    A query is the prompt and the response as they were decoded, special tokens included; none are
    added. ``extra_logs`` holds ``mean``, ``stddev`` and the shares of the variance.

    Args:
        model: A checkpoint or a ``RewardModel``.
        risk: Name of the risk measure, such as ``cvar:0.05``.
        annotator: Whose rewards; None for the population's.

    Returns:
        The function. OpenRLHF takes an error of it as "no reward" and stops at the batch; its log
        names the item.

    Raises:
        ConfigError: If the model is a server, or the measure compares responses with each other.
    """
    measure = risks.parse(single_measure(risk))
    source = open_source(model, annotator=annotator)
    if not isinstance(source, LocalSource):
        raise ConfigError(
            "OpenRLHF asks a server by itself: give --reward.remote_url URL/get_reward, and the "
            "risk measure to hidden-context serve --risk."
        )
    local = source

    def reward_func(
        queries: Sequence[str], prompts: Sequence[str], labels: Sequence[Any]
    ) -> dict[str, Tensor | dict[str, Tensor]]:
        raw, reasons = local.raw([MarkedText(query) for query in queries])
        for item, reason in enumerate(reasons):
            if reason is not None:
                raise DataError(f"item {item} cannot be scored: {reason}")
        found = [_one(local, row[None], measure) for row in raw]
        rewards = torch.cat([one.values[str(measure)] for one in found]).float()
        logs = {
            "mean": torch.cat([one.mean for one in found]).float(),
            "stddev": torch.cat([one.stddev for one in found]).float(),
        }
        for name in found[0].shares if found else {}:
            share = torch.cat([one.shares[name] for one in found]).float()
            if bool(share.isfinite().all()):  # a share of nothing is no number to be logged
                logs[f"share_{name}"] = share
        return {"rewards": rewards, "scores": rewards, "extra_logs": logs}

    return reward_func


def _one(source: LocalSource, raw: Tensor, measure: RiskMeasure) -> Described:
    """Describe one query by itself: others of the batch are no candidates of its prompt."""
    return source.scorer.describe(raw, measure, annotator=source.annotator)
