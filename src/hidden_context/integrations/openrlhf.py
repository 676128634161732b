"""OpenRLHF: ``reward_func`` for the Python file that ``--reward.remote_url`` may name.

OpenRLHF queries a server directly: ``--reward.remote_url http://127.0.0.1:8000/get_reward``. The
function here is for a model in the trainer's own processes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from hidden_context import risk as risks
from hidden_context.errors import ConfigError
from hidden_context.integrations.guard import GuardLike, check_guard, observe_each, prompt_key
from hidden_context.integrations.reward import single_measure
from hidden_context.integrations.sources import LocalSource, Model, open_source
from hidden_context.scoring.prepare import MarkedText
from hidden_context.scoring.requests import extra_logs

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
        The function. OpenRLHF takes an error from it as "no reward" and stops at the batch; its log
        names the item.

    Raises:
        ConfigError: If the model is a server, the measure compares responses with each other, or
            there is a guard, but the model has no reference.
    """
    measure = risks.parse(single_measure(risk))
    source = open_source(model, annotator=annotator)
    if not isinstance(source, LocalSource):
        raise ConfigError(
            "OpenRLHF queries a server directly: give --reward.remote_url URL/get_reward, and the "
            "risk measure to hidden-context serve --risk."
        )
    local, own = source, check_guard(guard, source)

    def reward_func(
        queries: Sequence[str], prompts: Sequence[str], labels: Sequence[Any]
    ) -> dict[str, Tensor | dict[str, Tensor]]:
        answers = local.raw([MarkedText(query) for query in queries])
        found = local.scorer.rewards(answers.complete("item"), annotator)
        keys = [prompt_key(p or q) for p, q in zip(prompts, queries, strict=True)]
        observe_each(own, keys, local.scorer, answers)
        rewards, logs = measure(found).float(), extra_logs(found, answers.distance)
        floats = {name: values.float() for name, values in logs.items()}
        return {"rewards": rewards, "scores": rewards, "extra_logs": floats}

    return reward_func
