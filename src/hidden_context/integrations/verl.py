"""verl: ``compute_score`` for ``reward.custom_reward_function``.

verl hands over the response and what the data set says of its row, but not the prompt. So the data
set has to repeat the prompt in ``extra_info``, as ``{"prompt": [messages]}``.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from hidden_context.data.dialogue import Conversation
from hidden_context.errors import ConfigError, DataError
from hidden_context.integrations.reward import Batch, score, score_async, single_measure
from hidden_context.integrations.sources import Model, shared_source
from hidden_context.scoring.guard import Guard, parse_guard


def compute_score(
    data_source: Any = None,
    solution_str: str = "",
    ground_truth: Any = None,
    extra_info: Mapping[str, Any] | None = None,
    *,
    model: str = "",
    risk: str = "mean",
    name: str | None = None,
    prompt_key: str = "prompt",
    guard: str | None = None,
    **_: Any,
) -> dict[str, float]:
    """Score one response; the keyword arguments come from ``reward_kwargs`` of the configuration.

    Args:
        data_source: Not needed.
        solution_str: The response.
        ground_truth: Not needed.
        extra_info: The row's facts, with the prompt.
        model: A checkpoint, or the address of a server, which scores what arrives together.
        risk: Name of the risk measure, such as ``cvar:0.05``.
        name: Name of one of a server's models.
        prompt_key: Where the prompt stands in ``extra_info``.
        guard: Warns, or stops with an error, where the responses that this process scores become
            more contested than the data, as text: ``warn``, ``stop:bound=0.2``.

    Returns:
        ``score``, which is optimised; ``mean``, ``stddev``, ``log_sigma`` and the shares of the
        variance, NaN where nothing varies, are logged, and ``distance``, the percentile of the
        distance to the training texts, where the model has a reference.

    Raises:
        ConfigError: If no model is named, the measure compares responses with each other, or there
            is a guard, but no reference.
        DataError: If there is no prompt, or the response cannot be scored.
        OverOptimisedError: If the guard stops.
    """
    asked, own = _asked(solution_str, extra_info, model, risk, name, prompt_key, guard)
    return _logged(score(*asked, guard=own))


async def compute_score_async(
    data_source: Any = None,
    solution_str: str = "",
    ground_truth: Any = None,
    extra_info: Mapping[str, Any] | None = None,
    **options: Any,
) -> dict[str, float]:
    """Do what ``compute_score`` does, with the same options, beside verl's other requests."""
    asked, own = _asked(solution_str, extra_info, **options)
    return _logged(await score_async(*asked, guard=own))


def _asked(
    response: str,
    extra_info: Mapping[str, Any] | None,
    model: str = "",
    risk: str = "mean",
    name: str | None = None,
    prompt_key: str = "prompt",
    guard: str | None = None,
    **_: Any,
) -> tuple[tuple[Model, list[Conversation], list[Conversation], str], Guard | None]:
    """Return the arguments of ``score`` (model, prompt, response and measure) and the guard."""
    measure, prompt = single_measure(risk), _prompt(extra_info, prompt_key)
    if not model:
        raise ConfigError(
            "no reward model is named. Set reward.custom_reward_function.reward_kwargs.model to a "
            "checkpoint or to the address of a server."
        )
    text = isinstance(prompt, str)
    answer: Conversation = response if text else [{"role": "assistant", "content": response}]
    source = shared_source(model, name=name)
    return (source, [prompt], [answer], measure), _guard(model, name, guard)


@lru_cache(maxsize=8)
def _guard(model: str, name: str | None, guard: str | None) -> Guard | None:
    """Return the guard of all responses that this process scores with a model."""
    return None if guard is None else parse_guard(guard)


def _prompt(extra_info: Mapping[str, Any] | None, key: str) -> Conversation:
    """Return the prompt of a row; its messages come from Parquet as an array."""
    prompt = (extra_info or {}).get(key)
    if prompt is None:
        raise DataError(
            "verl does not hand over the prompt",
            field=f"extra_info.{key}",
            remedy="Write the prompt, text or messages, into this field of the data set's rows",
        )
    return prompt if isinstance(prompt, str) else [dict(message) for message in prompt]


def _logged(batch: Batch) -> dict[str, float]:
    columns = {"score": batch.values, "mean": batch.mean, "stddev": batch.stddev}
    columns["log_sigma"] = batch.log_sigma
    if batch.has_reference:
        columns["distance"] = batch.distance
    # verl expects the first response's keys in all responses, so an undefined share stays, as NaN
    columns |= {f"share_{name}": share for name, share in batch.shares.items()}
    return {name: values[0] for name, values in columns.items()}
