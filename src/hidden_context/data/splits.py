"""Splitting by prompt: which side an example falls on depends on its prompt's hash alone.

So no prompt stands on both sides, the split is the same in every program and for ever, and rows
added later move no row that was there before.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from hidden_context.data.example import Example
from hidden_context.errors import ConfigError

EVALUATION_SALT = "evaluation"
VALIDATION_SALT = "validation"
FOLD_SALT = "fold"


def prompt_fraction(prompt_key: str, salt: str = "") -> float:
    """Map a prompt to a number that is uniform on [0, 1) over prompts.

    The first 53 bits of SHA-256(salt, NUL, prompt) divided by 2^53; stable for ever.

    Args:
        prompt_key: ``Example.prompt_key``.
        salt: Different salts give independent numbers.

    Returns:
        A float in [0, 1).
    """
    content = f"{salt}\0{prompt_key}".encode("utf-8", "surrogatepass")
    digest = hashlib.sha256(content).digest()
    return (int.from_bytes(digest[:8], "big") >> 11) / (1 << 53)


def split_by_prompt(
    examples: Sequence[Example], fraction: float, salt: str = EVALUATION_SALT
) -> tuple[list[Example], list[Example]]:
    """Hold out the examples of about a fraction of all prompts.

    Args:
        examples: The examples.
        fraction: Share of prompts to hold out, from 0 to 1.
        salt: Names the purpose; other purposes hold out independently.

    Returns:
        The rest and the held-out examples, each in the given order. Raising the fraction only moves
        examples from the rest to the held-out side.

    Raises:
        ConfigError: If the fraction is not between 0 and 1.
    """
    if not 0.0 <= fraction <= 1.0:
        raise ConfigError(f"A fraction between 0 and 1 is needed to split by, not {fraction}.")
    rest: list[Example] = []
    held_out: list[Example] = []
    for example in examples:
        inside = prompt_fraction(example.prompt_key, salt) < fraction
        (held_out if inside else rest).append(example)
    return rest, held_out


def fold_of(prompt_key: str, k: int, salt: str = FOLD_SALT) -> int:
    """Return the fold, from 0 to k − 1, that a prompt belongs to."""
    return int(prompt_fraction(prompt_key, salt) * k)


def folds(
    examples: Sequence[Example], k: int, salt: str = FOLD_SALT
) -> list[tuple[list[Example], list[Example]]]:
    """Divide examples into k folds by prompt, for cross-validation.

    Args:
        examples: The examples.
        k: The number of folds, at least 2.
        salt: Another salt gives another division.

    Returns:
        For each fold ``(rest, held out)``; every example is held out exactly once.

    Raises:
        ConfigError: If k is below 2.
    """
    if k < 2:
        raise ConfigError(f"At least 2 folds are needed, not {k}.")
    fold_numbers = [fold_of(example.prompt_key, k, salt) for example in examples]
    return [
        (
            [p for p, number in zip(examples, fold_numbers, strict=True) if number != fold],
            [p for p, number in zip(examples, fold_numbers, strict=True) if number == fold],
        )
        for fold in range(k)
    ]


def prompt_overlap(train: Sequence[Example], test: Sequence[Example]) -> int:
    """Count the distinct prompts that stand in both sets."""
    return len({p.prompt_key for p in train} & {p.prompt_key for p in test})
