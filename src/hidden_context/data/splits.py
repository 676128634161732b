"""Splitting by group: which side an example falls on depends on its group's hash alone.

A group is the conversations of one first question, or the rows of one value of a column. So no
group stands on both sides, the split is the same in every program and for ever, and rows added
later move no row that was there before.
"""

from __future__ import annotations

import hashlib
import warnings
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from hidden_context.data.example import Example
from hidden_context.data.groups import BY_FIRST_TURN, SplitOptions
from hidden_context.data.split_manifest import balanced_sides
from hidden_context.errors import ConfigError, HiddenContextWarning

EVALUATION_SALT = "evaluation"
VALIDATION_SALT = "validation"
FOLD_SALT = "fold"

# Greatest difference of a side's share from the one asked for, as a part of it, without a warning.
_SHARE_TOLERANCE: Final = 0.2


def prompt_fraction(prompt_key: str, salt: str = "") -> float:
    """Map a group to a number that is uniform on [0, 1) over groups.

    The first 53 bits of SHA-256(salt, NUL, group) divided by 2^53; stable for ever.

    Args:
        prompt_key: The group, such as ``first_question`` returns it.
        salt: Different salts give independent numbers.

    Returns:
        A float in [0, 1).
    """
    content = f"{salt}\0{prompt_key}".encode("utf-8", "surrogatepass")
    digest = hashlib.sha256(content).digest()
    return (int.from_bytes(digest[:8], "big") >> 11) / (1 << 53)


def split_by_prompt(
    examples: Sequence[Example],
    fraction: float,
    salt: str = EVALUATION_SALT,
    options: SplitOptions = BY_FIRST_TURN,
    source: str | None = None,
) -> tuple[list[Example], list[Example]]:
    """Hold out the examples of about a fraction of all groups; warn where the share is far off.

    Args:
        examples: The examples.
        fraction: Share to hold out, from 0 to 1.
        salt: Names the purpose; other purposes hold out independently.
        options: What a group is, and whether groups are balanced by size.
        source: Where the examples came from, for errors.

    Returns:
        The rest and the held-out examples, each in the given order. Raising the fraction only moves
        examples from the rest to the held-out side, unless groups are balanced.

    Raises:
        ConfigError: If the fraction is not between 0 and 1, or the manifest is of another division.
        DataError: If an example has no value of the column to divide by.
    """
    if not 0.0 <= fraction <= 1.0:
        raise ConfigError(f"A fraction between 0 and 1 is needed to split by, not {fraction}.")
    sides = _sides(
        options.keys(examples, source),
        {"rest": 1 - fraction, "held out": fraction},
        salt,
        options,
        lambda number: "held out" if number < fraction else "rest",
    )
    divided: dict[str, list[Example]] = {"rest": [], "held out": []}
    for example, side in zip(examples, sides, strict=True):
        divided[side].append(example)
    return divided["rest"], divided["held out"]


def fold_of(prompt_key: str, k: int, salt: str = FOLD_SALT) -> int:
    """Return the fold, from 0 to k − 1, that a group belongs to."""
    return int(prompt_fraction(prompt_key, salt) * k)


def folds(
    examples: Sequence[Example],
    k: int,
    salt: str = FOLD_SALT,
    options: SplitOptions = BY_FIRST_TURN,
    source: str | None = None,
) -> list[tuple[list[Example], list[Example]]]:
    """Divide examples into k folds by group, for cross-validation; warn where sizes differ much.

    Args:
        examples: The examples.
        k: The number of folds, at least 2.
        salt: Another salt gives another division.
        options: What a group is, and whether groups are balanced by size.
        source: Where the examples came from, for errors.

    Returns:
        For each fold ``(rest, held out)``; every example is held out exactly once.

    Raises:
        ConfigError: If k is below 2, or the manifest is of another division.
        DataError: If an example has no value of the column to divide by.
    """
    if k < 2:
        raise ConfigError(f"At least 2 folds are needed, not {k}.")
    names = [f"fold {number}" for number in range(k)]
    sides = _sides(
        options.keys(examples, source),
        dict.fromkeys(names, 1 / k),
        salt,
        options,
        lambda number: names[int(number * k)],
    )
    return [
        (
            [p for p, side in zip(examples, sides, strict=True) if side != fold],
            [p for p, side in zip(examples, sides, strict=True) if side == fold],
        )
        for fold in names
    ]


def _sides(
    keys: Sequence[str],
    shares: Mapping[str, float],
    salt: str,
    options: SplitOptions,
    hashed: Callable[[float], str],
) -> list[str]:
    """Return the side of each example by its group, and warn of shares that are far off."""
    if options.manifest is not None:
        sides = balanced_sides(options.manifest, keys, shares, salt, options.by)
    else:
        sides = [hashed(prompt_fraction(key, salt)) for key in keys]
    _check_shares(keys, sides, shares, salt, options)
    return sides


def _check_shares(
    keys: Sequence[str],
    sides: Sequence[str],
    shares: Mapping[str, float],
    salt: str,
    options: SplitOptions,
) -> None:
    """Warn where a side is far from its share, by two examples or more."""
    total, counts = len(keys), Counter(sides)
    asked = [(share, counts[side]) for side, share in shares.items() if side != "rest"]
    far = max(abs(count - share * total) for share, count in asked)
    share = asked[0][0]
    if len(counts) < 2 or far < 2 or far <= _SHARE_TOLERANCE * share * total:
        return
    sizes = [count for _, count in asked]
    found = sorted({min(sizes), max(sizes)})
    got = " to ".join(f"{count / total:.1%}" for count in found)
    rows = " to ".join(map(str, found))
    reason = f"a hash decides for each {options.unit}. --split_balance balances them by size"
    if options.manifest is not None:
        most = max(Counter(keys).values())
        reason = f"examples of one {options.unit} stay together, up to {most} of them"
    side = "Each fold" if len(asked) > 1 else f"The {salt} set"
    warnings.warn(
        f"{side} was to have {share:.1%} of the examples and has {got} ({rows} of {total}): "
        f"{reason}.",
        HiddenContextWarning,
        stacklevel=4,
    )


def prompt_overlap(
    train: Sequence[Example], test: Sequence[Example], options: SplitOptions = BY_FIRST_TURN
) -> int:
    """Count the groups that stand in both sets."""
    return len({*options.keys(train)} & {*options.keys(test)})
