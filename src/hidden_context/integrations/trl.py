"""TRL: reward functions for GRPOTrainer and RLOOTrainer, which log σ and disagreement too.

The preference pairs for DPOTrainer are in ``trl_pairs``, and a reward network for trainers that
want one is in ``trl_module``; everything can be imported from here.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any

from hidden_context import risk as risks
from hidden_context.data.dialogue import Conversation
from hidden_context.integrations.guard import Guard, GuardLike, check_guard, stop_callback
from hidden_context.integrations.reward import Batch, Unscored, finite_mean, score, score_async
from hidden_context.integrations.sources import Model, open_source
from hidden_context.integrations.trl_module import check_reward_functions, reward_module
from hidden_context.integrations.trl_pairs import BuiltPairs, PairBuilder, best_of_n, pair_builder

__all__ = [
    "BuiltPairs",
    "Guard",
    "PairBuilder",
    "async_reward_function",
    "best_of_n",
    "check_reward_functions",
    "pair_builder",
    "reward_function",
    "reward_module",
    "stop_callback",
]

RewardFunction = Callable[..., list["float | None"]]
AsyncRewardFunction = Callable[..., Awaitable[list["float | None"]]]


def reward_function(
    model_or_url: Model,
    risk: str = "mean",
    *,
    name: str | None = None,
    annotator: str | None = None,
    unscored: Unscored = "error",
    guard: GuardLike = None,
) -> RewardFunction:
    """Make a reward function for ``reward_funcs`` of GRPOTrainer or RLOOTrainer.

    Completions of equal prompts are scored together, so that the prompt is run once. Prompts and
    completions are texts or chat messages, as TRL hands them over; a column ``tools`` is passed on
    to the chat template. Beside the rewards it logs, under ``rewards/{risk}/``: ``sigma``, the mean
    standard deviation, and ``log_sigma``, the mean of its logarithm; ``disagreement``, the
    probability that two people choose differently between two completions of a prompt;
    ``distance``, the mean percentile of the distance to the training texts, where the model has a
    reference; and the mean share of each part of the variance. Columns of the table of completions
    hold σ, the disagreement and the distance of each completion.

    Args:
        model_or_url: A checkpoint, a ``RewardModel``, or the address of a server.
        risk: Name of the risk measure, such as ``mean`` or ``cvar:0.05``; also the function's name.
        name: Name of one of a server's models.
        annotator: Whose rewards; None for the population's.
        unscored: A completion that cannot be scored (blank, too long) stops the training
            (``error``), or has no reward (``none``): TRL leaves it out of its baseline and gives it
            no advantage, and the number of such completions is logged.
        guard: Warns, or stops, where responses become more contested than the data: ``warn``,
            ``stop``, or a ``Guard``; None for none.
            A guard that stops raises an error, unless
            ``stop_callback(guard)`` is among the trainer's callbacks, which saves and stops.

    Returns:
        The function.

    Raises:
        ConfigError: If the risk measure is not known, the model none, or there is a guard, but the
            model has no reference.
    """
    source = open_source(model_or_url, name=name, annotator=annotator)
    title, own = str(risks.parse(risk)), check_guard(guard, source)
    ask = partial(score, source, risk=title, unscored=unscored, guard=own)

    def reward(
        prompts: Sequence[Conversation], completions: Sequence[Conversation], **columns: Any
    ) -> list[float | None]:
        return _logged(ask(prompts, completions, tools=columns.get("tools")), title, columns)

    reward.__name__ = title
    return reward


def async_reward_function(
    model_or_url: Model,
    risk: str = "mean",
    *,
    name: str | None = None,
    annotator: str | None = None,
    unscored: Unscored = "error",
    guard: GuardLike = None,
) -> AsyncRewardFunction:
    """Make a reward function that TRL runs beside other asynchronous reward functions.

    Args:
        model_or_url: A checkpoint, a ``RewardModel``, or the address of a server.
        risk: Name of the risk measure (see ``reward_function``, also for the rest).
        name: Name of one of a server's models.
        annotator: Whose rewards; None for the population's.
        unscored: What happens to a completion that cannot be scored.
        guard: What watches the completions.

    Returns:
        The coroutine function.
    """
    source = open_source(model_or_url, name=name, annotator=annotator)
    title, own = str(risks.parse(risk)), check_guard(guard, source)
    ask = partial(score_async, source, risk=title, unscored=unscored, guard=own)

    async def reward(
        prompts: Sequence[Conversation], completions: Sequence[Conversation], **columns: Any
    ) -> list[float | None]:
        return _logged(await ask(prompts, completions, tools=columns.get("tools")), title, columns)

    reward.__name__ = title
    return reward


def _logged(batch: Batch, title: str, columns: dict[str, Any]) -> list[float | None]:
    """Log the numbers beside the rewards, and return the rewards, with None for a missing one."""
    per_response = {"sigma": batch.stddev, "disagreement": batch.disagreement}
    if batch.has_reference:
        per_response["distance"] = batch.distance
    log_metric, log_extra = columns.get("log_metric"), columns.get("log_extra")
    if log_metric is not None:
        for what, values in (per_response | {"log_sigma": batch.log_sigma} | batch.shares).items():
            mean = finite_mean(values)
            if mean is not None:
                log_metric(f"rewards/{title}/{what}", mean)
        if batch.reasons:
            log_metric(f"rewards/{title}/unscored", float(len(batch.reasons)))
    if log_extra is not None:
        for what, values in per_response.items():
            log_extra(f"{title} {what}", [_or_none(value) for value in values])
    return [_or_none(value) for value in batch.values]


def _or_none(value: float) -> float | None:
    return None if math.isnan(value) else value
