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
from hidden_context.integrations.guard import GuardLike, check_guard, observe, prompt_key
from hidden_context.integrations.reward import single_measure
from hidden_context.integrations.sources import LocalSource, Model, open_source
from hidden_context.risk import RiskMeasure
from hidden_context.scoring.guard import Seen
from hidden_context.scoring.prepare import MarkedText
from hidden_context.scoring.requests import Answers, Described

RewardFunction = Callable[
    [Sequence[str], Sequence[str], Sequence[Any]], "dict[str, Tensor | dict[str, Tensor]]"
]


def reward_function(
    model: Model,
    risk: str = "mean",
    *,
    annotator: str | None = None,
    guard: GuardLike = None,
) -> RewardFunction:
    """Make ``reward_func(queries, prompts, labels)``.

    A query is the prompt and the response as they were decoded, special tokens included; none are
    added. ``extra_logs`` holds ``mean``, ``stddev``, ``log_sigma`` and the shares of the variance,
    and ``distance``, the percentile of the distance to the training texts, where the model has a
    reference.

    Args:
        model: A checkpoint or a ``RewardModel``.
        risk: Name of the risk measure, such as ``cvar:0.05``.
        annotator: Whose rewards; None for the population's.
        guard: Warns, or stops with an error, where responses become more contested than the data:
            ``warn``, ``stop``, or a ``Guard``. Each query is a candidate by itself here, so it
            watches σ and distance, no disagreement.

    Returns:
        The function. OpenRLHF takes an error of it as "no reward" and stops at the batch; its log
        names the item.

    Raises:
        ConfigError: If the model is a server, the measure compares responses with each other, or
            there is a guard, but the model has no reference.
    """
    measure = risks.parse(single_measure(risk))
    source = open_source(model, annotator=annotator)
    if not isinstance(source, LocalSource):
        raise ConfigError(
            "OpenRLHF asks a server by itself: give --reward.remote_url URL/get_reward, and the "
            "risk measure to hidden-context serve --risk."
        )
    local, own = source, check_guard(guard, source)

    def reward_func(
        queries: Sequence[str], prompts: Sequence[str], labels: Sequence[Any]
    ) -> dict[str, Tensor | dict[str, Tensor]]:
        answers = local.raw([MarkedText(query) for query in queries])
        for item, reason in enumerate(answers.reasons):
            if reason is not None:
                raise DataError(f"item {item} cannot be scored: {reason}")
        found = [_one(local, answers.part(n, n + 1), measure) for n in range(len(queries))]
        rewards = torch.cat([one.values[str(measure)] for one in found]).float()
        logs = {
            "mean": torch.cat([one.mean for one in found]).float(),
            "stddev": torch.cat([one.stddev for one in found]).float(),
        }
        log_sigma = logs["stddev"].log()
        if bool(log_sigma.isfinite().all()):
            logs["log_sigma"] = log_sigma
        where = [one.percentiles for one in found if one.percentiles is not None]
        if where:
            logs["distance"] = torch.tensor([one.distance[0] for one in where])
        if own is not None:
            keys = [prompt_key(p or q) for p, q in zip(prompts, queries, strict=True)]
            each = zip(keys, where, strict=True)
            observe(own, [Seen(key, one.sigma, one.distance) for key, one in each])
        for name in found[0].shares if found else {}:
            share = torch.cat([one.shares[name] for one in found]).float()
            if bool(share.isfinite().all()):  # a share of nothing is no number to be logged
                logs[f"share_{name}"] = share
        return {"rewards": rewards, "scores": rewards, "extra_logs": logs}

    return reward_func


def _one(source: LocalSource, answers: Answers, measure: RiskMeasure) -> Described:
    """Describe one query by itself: others of the batch are no candidates of its prompt."""
    return source.scorer.describe(
        answers.raw, measure, annotator=source.annotator, distance=answers.distance
    )
