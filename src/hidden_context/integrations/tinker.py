"""tinker-cookbook: a preference model for reinforcement learning from comparisons."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from hidden_context.data.dialogue import Message
from hidden_context.errors import DataError
from hidden_context.integrations.guard import Guard, GuardLike, check_guard
from hidden_context.integrations.reward import score_async
from hidden_context.integrations.sources import Model, RewardSource, open_source
from hidden_context.scoring.guard import parse_guard

_KEPT = ("role", "content", "tool_call_id", "name")


class Comparison(Protocol):
    """A comparison of tinker-cookbook: two completions of one conversation."""

    prompt_conversation: Sequence[Mapping[str, Any]]
    completion_A: Sequence[Mapping[str, Any]]  # noqa: N815 - the cookbook's names
    completion_B: Sequence[Mapping[str, Any]]  # noqa: N815


class DistributionPreferenceModel:
    """A replacement for tinker-cookbook's ``PreferenceModel``; see ``preference_model``."""

    def __init__(self, source: RewardSource, guard: Guard | None = None) -> None:
        self.source, self.guard = source, guard

    async def __call__(self, comparison: Comparison) -> float:
        """Compare two completions.

        Args:
            comparison: The conversation with its two completions.

        Returns:
            P(B ≻ A) − P(A ≻ B), in [−1, 1]: 0 where people would be divided evenly.

        Raises:
            DataError: If a completion cannot be scored: item 0 is A, item 1 is B.
            OverOptimisedError: If the guard stops.
        """
        conversations = comparison.completion_A, comparison.completion_B
        prompt = list(map(_message, comparison.prompt_conversation))
        sides = [list(map(_message, side)) for side in conversations]
        batch = await score_async(self.source, [prompt, prompt], sides, guard=self.guard)
        preferred = batch.answered[0].rewards.preferred
        return preferred[1][0] - preferred[0][1]


def preference_model(
    model_or_url: Model,
    *,
    name: str | None = None,
    annotator: str | None = None,
    guard: GuardLike = None,
) -> DistributionPreferenceModel:
    """Make a preference model that answers with probabilities instead of one verdict.

    Args:
        model_or_url: A checkpoint, a ``RewardModel``, or the address of a server.
        name: Name of one of a server's models.
        annotator: Whose rewards; None for the population's.
        guard: Warns, or stops with an error, where completions become more contested than the data:
            ``warn``, ``stop``, or a ``Guard``.

    Raises:
        ConfigError: If there is a guard, but the model has no reference.
    """
    source = open_source(model_or_url, name=name, annotator=annotator)
    return DistributionPreferenceModel(source, check_guard(guard, source))


def preference_model_builder(
    model_or_url: Model,
    *,
    name: str | None = None,
    annotator: str | None = None,
    guard: GuardLike = None,
) -> Callable[[], DistributionPreferenceModel]:
    """Make the ``preference_model_builder`` of the cookbook's data set builders.

    All models that it builds share one guard.
    """
    own = None if guard is None else parse_guard(guard)
    return lambda: preference_model(model_or_url, name=name, annotator=annotator, guard=own)


def _message(message: Mapping[str, Any]) -> Message:
    """Return a message in the form of chat templates, without its thinking."""
    result = {key: message[key] for key in _KEPT if message.get(key) is not None}
    content = message.get("content")
    if content is not None and not isinstance(content, str):
        for part in content:
            if part["type"] not in ("text", "thinking"):
                raise DataError(f"a reward model reads text, and a message holds {part['type']!r}")
        result["content"] = "".join(part["text"] for part in content if part["type"] == "text")
    calls = message.get("tool_calls") or ()
    if calls:
        result["tool_calls"] = [
            call.model_dump() if hasattr(call, "model_dump") else call for call in calls
        ]
    return result
