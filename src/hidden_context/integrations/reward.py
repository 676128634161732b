"""One function behind all adapters: prompts, responses and a risk measure in, rewards out."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Literal

from hidden_context import risk as risks
from hidden_context.data.dialogue import Conversation
from hidden_context.data.example import Tools
from hidden_context.errors import ConfigError, DataError
from hidden_context.integrations.guard import Guard, check_guard, observe, prompt_key, seen_of
from hidden_context.integrations.sources import Answered, Candidates, Model, open_source

Unscored = Literal["error", "none"]


@dataclass(frozen=True)
class Batch:
    """Rewards of N responses to any number of prompts, in the order given.

    Attributes:
        answered: What is known of each prompt's candidates.
        reasons: Why a response has no reward, by its place; its numbers are NaN.
        values: The risk measure's value of each response, in reward units.
        mean: Expected reward of each response.
        stddev: Standard deviation of each response's reward, in reward units.
        log_sigma: Logarithm of each standard deviation; NaN where nothing varies.
        distance: Percentile of each response's distance to the training texts, in [0, 1].
        disagreement: Disagreement about the candidates of each response's prompt, in [0, ½].
        shares: Share of each response's variance by its cause.
    """

    answered: Sequence[Answered]
    reasons: dict[int, str]
    values: list[float]
    mean: list[float]
    stddev: list[float]
    log_sigma: list[float]
    distance: list[float]
    disagreement: list[float]
    shares: dict[str, list[float]]

    @classmethod
    def of(cls, answered: Sequence[Answered]) -> Batch:
        """Put the candidates of all prompts into the order of the request."""
        reasons = {item: why for found in answered for item, why in found.reasons.items()}
        items = [item for found in answered for item in found.candidates.items]
        rewards = [found.rewards for found in answered]

        def column(values: Iterable[Sequence[float]]) -> list[float]:
            result = [math.nan] * (len(items) + len(reasons))
            for item, value in zip(items, chain.from_iterable(values), strict=True):
                result[item] = value
            return result

        named = ("values", "mean", "stddev", "log_sigma", "distance")
        columns = {name: column(getattr(own, name) for own in rewards) for name in named}
        divided = column([own.disagreement] * len(own.mean) for own in rewards)
        causes = dict.fromkeys(name for own in rewards for name in own.shares)
        shares = {name: column(own.shares.get(name, []) for own in rewards) for name in causes}
        return cls(answered, reasons, **columns, disagreement=divided, shares=shares)

    @property
    def has_reference(self) -> bool:
        """Whether the model has a reference, so that distances are known."""
        return any(found.rewards.percentiles is not None for found in self.answered)


def finite_mean(values: Sequence[float]) -> float | None:
    """Return the mean of the finite values, or None if there are none."""
    numbers = [value for value in values if not math.isnan(value)]
    return math.fsum(numbers) / len(numbers) if numbers else None


def group_by_prompt(
    prompts: Sequence[Conversation | None],
    responses: Sequence[Conversation],
    tools: Sequence[Tools | None] | None = None,
) -> list[Candidates]:
    """Put responses to equal prompts together, in the order of their first occurrence.

    Args:
        prompts: N prompts, in any order.
        responses: The N responses.
        tools: The tools of each prompt, where there are some.

    Raises:
        DataError: If their numbers differ.
    """
    if not len(prompts) == len(responses) == len(tools if tools is not None else prompts):
        raise DataError(
            f"there are {len(prompts)} prompts for {len(responses)} responses",
            remedy="Give one prompt, and tools if any, for each response",
        )
    groups: dict[str, list[int]] = {}
    for item, prompt in enumerate(prompts):
        groups.setdefault(prompt_key([prompt, tools and tools[item]]), []).append(item)
    return [
        Candidates(
            prompts[own[0]], [responses[n] for n in own], own, tools[own[0]] if tools else None
        )
        for own in groups.values()
    ]


def score(
    model: Model,
    prompts: Sequence[Conversation | None],
    responses: Sequence[Conversation],
    risk: str = "mean",
    *,
    tools: Sequence[Tools | None] | None = None,
    unscored: Unscored = "error",
    guard: Guard | None = None,
) -> Batch:
    """Score responses; equal prompts are put together and run once.

    Args:
        model: A checkpoint, the address of a server, or either opened already.
        prompts: N prompts, texts or chat messages; None where a response is a whole text.
        responses: The N responses.
        risk: Name of the risk measure, such as ``mean`` or ``cvar:0.05``.
        tools: The tools of each prompt.
        unscored: Whether a response that cannot be scored is an error, or has no reward.
        guard: What watches the responses (see ``Guard``).

    Returns:
        Values, σ and shares in the order given.

    Raises:
        ConfigError: If the risk measure is not known or not defined for the model, or there is a
            guard, but no reference.
        DataError: If a response cannot be scored; the message names the item.
        OverOptimisedError: If the guard stops.
    """
    groups, source = _groups(prompts, responses, tools, risk), open_source(model)
    guard = check_guard(guard, source)
    return _batch(source.answer(groups, risk), unscored, guard)


async def score_async(
    model: Model,
    prompts: Sequence[Conversation | None],
    responses: Sequence[Conversation],
    risk: str = "mean",
    *,
    tools: Sequence[Tools | None] | None = None,
    unscored: Unscored = "error",
    guard: Guard | None = None,
) -> Batch:
    """Do what ``score`` does without blocking the event loop."""
    groups, source = _groups(prompts, responses, tools, risk), open_source(model)
    guard = check_guard(guard, source)
    return _batch(await source.answer_async(groups, risk), unscored, guard)


def single_measure(risk: str) -> str:
    """Read the name of a risk measure for trainers that ask for one response at a time.

    Raises:
        ConfigError: If it is not known, or compares a prompt's responses with each other.
    """
    measure = risks.parse(risk)
    if measure.is_relative:
        raise ConfigError(
            f"{measure} compares the responses to a prompt, but this trainer asks for one at a "
            "time. Choose a measure that is not relative, such as cvar:0.05."
        )
    return str(measure)


def _groups(
    prompts: Sequence[Conversation | None],
    responses: Sequence[Conversation],
    tools: Sequence[Tools | None] | None,
    risk: str,
) -> list[Candidates]:
    groups = group_by_prompt(prompts, responses, tools)
    alone = next((group for group in groups if len(group.items) == 1), None)
    if alone is not None and risks.parse(risk).is_relative:
        raise ConfigError(
            f"{risk} compares the responses to a prompt, but item {alone.items[0]} is the only "
            "response to its prompt. Ask for all responses to a prompt together, or choose another "
            "measure."
        )
    return groups


def _batch(answered: Sequence[Answered], unscored: Unscored, guard: Guard | None) -> Batch:
    """Put answers together and show them to the guard; an item without a reward may be an error."""
    batch = Batch.of(answered)
    if batch.reasons and unscored == "error":
        item = min(batch.reasons)
        raise DataError(
            f"item {item} cannot be scored: {batch.reasons[item]}",
            remedy="Leave it out, or pass unscored='none' if the trainer takes None for a reward",
        )
    if guard is not None:
        observe(guard, seen_of(answered))
    return batch
