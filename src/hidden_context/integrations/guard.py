"""Guards of a training run: reading ``guard=``, warning, and stopping a trainer."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterable, Sequence
from typing import Any, TypeAlias

from hidden_context.errors import ConfigError, HiddenContextWarning, OverOptimisedError
from hidden_context.integrations.sources import Answered, LocalSource, RewardSource
from hidden_context.scoring.guard import Guard, Seen, parse_guard
from hidden_context.scoring.requests import Answers, Scorer

__all__ = ["Guard", "GuardLike", "check_guard", "observe", "observe_each", "seen_of"]

GuardLike: TypeAlias = "str | Guard | None"
"""A guard, its text form such as ``stop:bound=0.2``, or None for none."""


def check_guard(guard: GuardLike, source: RewardSource) -> Guard | None:
    """Read a guard, and check that the model has a reference.

    Args:
        guard: The guard.
        source: Where rewards come from; whether a server's model has a reference shows at its
            first answer.

    Returns:
        The guard; None for none.

    Raises:
        ConfigError: If the guard cannot be read, or the model has no reference.
    """
    if guard is None:
        return None
    found = parse_guard(guard)
    if isinstance(source, LocalSource) and source.scorer.model.reference is None:
        raise ConfigError(f"the guard needs the model's reference, but it has none. {_REMEDY}")
    return found


def seen_of(answered: Iterable[Answered]) -> list[Seen]:
    """Extract the percentiles that a guard looks at from answers.

    Raises:
        ConfigError: If a server answers without percentiles.
    """
    seen = []
    for found in answered:
        where = found.rewards.percentiles
        if not found.candidates.items:
            continue
        if where is None:
            raise ConfigError(
                "the guard needs percentiles, but the server returns none: its model has no "
                f"reference, or it runs an earlier release. {_REMEDY}"
            )
        prompt = found.candidates.prompt
        key = prompt_key(found.candidates.responses[0] if prompt is None else prompt)
        seen.append(Seen(key, where.sigma, where.distance, where.disagreement))
    return seen


def observe(guard: Guard, seen: Iterable[Seen]) -> None:
    """Show responses to a guard, and warn or stop.

    Raises:
        OverOptimisedError: If the guard stops, and nobody stops gracefully for it.
    """
    alarm = guard.take(seen)
    if alarm is None:
        return
    if guard.action == "stop" and not guard.stops_gracefully:
        raise OverOptimisedError(alarm.message)
    if alarm.begins:
        warnings.warn(alarm.message, HiddenContextWarning, stacklevel=3)


def observe_each(
    guard: Guard | None, keys: Sequence[str], scorer: Scorer, answers: Answers
) -> None:
    """Show texts to a guard one by one, because nobody says which texts answer the same prompt.

    Args:
        guard: The guard; None for none.
        keys: What identifies the prompt of each text.
        scorer: The model.
        answers: The texts' raw outputs, all finite.

    Raises:
        OverOptimisedError: If the guard stops, and nobody stops gracefully for it.
    """
    reference = scorer.model.reference
    if guard is None or reference is None or answers.distance is None:
        return
    sigma = reference.percentiles("sigma", scorer.rewards(answers.raw).stddev).tolist()
    each = zip(keys, sigma, answers.distance.tolist(), strict=True)
    observe(guard, [Seen(key, [s], [d]) for key, s, d in each])


def prompt_key(prompt: Any) -> str:
    """Write a prompt, perhaps with its tools, as a key that equal prompts share."""
    return json.dumps(prompt, sort_keys=True, default=repr)


def stop_callback(guard: Guard) -> Any:
    """Make a ``TrainerCallback`` that saves and stops when a guard with ``stop`` raises its alarm.

    In distributed training, all processes stop at the step where one process has an alarm.

    Args:
        guard: The guard that the reward function has too.

    Returns:
        What ``callbacks`` of a trainer of Transformers or TRL takes.

    Raises:
        ConfigError: If the guard only warns.
    """
    from accelerate.utils import gather_object
    from transformers import TrainerCallback

    if guard.action != "stop":
        raise ConfigError("this guard only warns; make it Guard('stop') to stop the training.")

    class StopOverOptimisation(TrainerCallback):
        """A callback that saves and stops at the end of a step."""

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> Any:
            if any(gather_object([guard.alarm is not None])):
                control.should_save = control.should_training_stop = True
            return control

    guard.stops_gracefully = True
    return StopOverOptimisation()


_REMEDY = "Make it once: hidden-context reference CHECKPOINT DATA (docs/guides/guard.md)."
