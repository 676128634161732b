"""Splitting of examples by group: each group stays on one side, decided by its hash.

A group is all conversations with the same first question, or all rows with the same value in a
column. The split is the same in every program and never changes. Rows that are added later do not
move earlier rows. With a manifest, groups are balanced by size instead.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from hidden_context.data.dialogue import canonical_prompt, first_user_turn
from hidden_context.data.example import Example
from hidden_context.data.splits.manifest import balanced_sides
from hidden_context.data.storage.files import to_plain
from hidden_context.data.storage.rows import drop_nulls
from hidden_context.errors import ConfigError, HiddenContextWarning

EVALUATION_SALT = "evaluation"
VALIDATION_SALT = "validation"
FOLD_SALT = "fold"

# Largest relative error of a side's share that gives no warning.
_SHARE_TOLERANCE: Final = 0.2


@dataclass(frozen=True)
class SplitOptions:
    """Options that define the groups and how each group gets its side.

    Attributes:
        by: The column whose value is an example's group; ``response`` stands for its responses
            where no column has that name. None takes the first user turn.
        manifest: JSON file that says on which side each group is; new groups are added so that the
            sides have their shares of the examples. None lets each group's hash say.
    """

    by: str | None = None
    manifest: Path | None = None

    @classmethod
    def of(cls, by: str | None, balance: str | None, data_path: str | Path) -> SplitOptions:
        """Make the options from flags; ``balance`` is a file, or ``true`` for one beside the data.

        Raises:
            ConfigError: If the manifest is to lie beside data that is not a local file or folder.
        """
        if balance in (None, "", "false"):
            return cls(by)
        if balance != "true":
            return cls(by, Path(str(balance)))
        if not Path(data_path).exists():
            raise ConfigError("--split_balance needs the name of a file: the data is not local.")
        beside = Path(data_path).resolve()
        return cls(by, beside.with_name(f"{beside.name}.splits"))

    @property
    def unit(self) -> str:
        """What the examples of a group have in common."""
        return "first user turn" if self.by is None else f"value of {self.by!r}"

    def keys(self, examples: Sequence[Example], source: str | None = None) -> list[str]:
        """Return the group of each example.

        Args:
            examples: The examples.
            source: Where they came from, for the error.

        Raises:
            DataError: If an example has no value of the column to divide by, or several.
        """
        if self.by is None:
            return [first_question(example) for example in examples]
        keys = [_value_of(example, self.by, source) for example in examples]
        without = [example for example, key in zip(examples, keys, strict=True) if not key]
        if without:
            there = dict.fromkeys(name for example in examples for name in example.columns)
            problem = f"{len(without)} of {len(examples)} examples have no value to divide by"
            remedy = (
                "Give --split_by a column with a value in every row (there: "
                f"{', '.join(there) or 'none'})"
            )
            raise without[0].place(source).error(problem, self.by, remedy)
        return keys


BY_FIRST_TURN: Final = SplitOptions()


def first_question(example: Example) -> str:
    """Return the first user turn of an example, in a form that does not depend on the format.

    If the prompt has no user turn, the first user turns of the whole conversations are returned.
    """
    turn = first_user_turn(example.prompt)
    if turn:
        return turn
    turns = {first_user_turn(text) for text in example.texts} - {""}
    return "\0".join(sorted(turns)) or example.prompt_key


def _value_of(example: Example, column: str, source: str | None) -> str:
    """Return an example's value in a column as text; empty if there is none."""
    value = _spelt(example.columns.get(column))
    if value:
        return value
    said = {_spelt(judgement.columns.get(column)) for judgement in example.judgements} - {""}
    if len(said) > 1:
        problem = (
            "the judgements of this example have different values in this column "
            f"({', '.join(sorted(said)[:3])})"
        )
        remedy = "Write a row for each judgement, or divide by another column with --split_by"
        raise example.place(source).error(problem, column, remedy)
    if not said and column == "response":
        return _spelt(sorted(canonical_prompt(response) for response in example.responses))
    return next(iter(said), "")


def _spelt(value: Any) -> str:
    """Format a value the same for every file type; empty for null, NaN and empty text."""
    if value is None or value != value:
        return ""
    if isinstance(value, str):
        return " ".join(value.split())
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return json.dumps(drop_nulls(to_plain(value)), sort_keys=True, ensure_ascii=False)


def prompt_fraction(prompt_key: str, salt: str = "") -> float:
    """Map a group to a number in [0, 1); the numbers are uniform over groups.

    The number is the first 53 bits of SHA-256(salt, NUL, group) divided by 2^53; it never changes.

    Args:
        prompt_key: The group, such as ``first_question`` returns it.
        salt: Different salts give independent numbers.

    Returns:
        A float in [0, 1).
    """
    digest = hashlib.sha256(f"{salt}\0{prompt_key}".encode("utf-8", "surrogatepass")).digest()
    return (int.from_bytes(digest[:8], "big") >> 11) / (1 << 53)


def split_by_prompt(
    examples: Sequence[Example],
    fraction: float,
    salt: str = EVALUATION_SALT,
    options: SplitOptions = BY_FIRST_TURN,
    source: str | None = None,
) -> tuple[list[Example], list[Example]]:
    """Hold out about a fraction of all groups; warn if the share of examples is far off.

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
        raise ConfigError(f"The fraction to hold out has to be between 0 and 1, not {fraction}.")
    shares = {"rest": 1 - fraction, "held out": fraction}
    sides = _sides(examples, shares, salt, options, source, lambda x: [*shares][x < fraction])
    return _parted(examples, sides, "held out")


def fold_of(prompt_key: str, k: int, salt: str = FOLD_SALT) -> int:
    """Return the fold, from 0 to k − 1, that a group belongs to."""
    return int(prompt_fraction(prompt_key, salt) * k)


def folds(
    examples: Sequence[Example],
    k: int,
    options: SplitOptions = BY_FIRST_TURN,
    source: str | None = None,
) -> list[tuple[list[Example], list[Example]]]:
    """Divide examples into k folds by group, for cross-validation; warn where sizes differ much.

    Args:
        examples: The examples.
        k: The number of folds, at least 2.
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
    shares = dict.fromkeys(names, 1 / k)
    sides = _sides(examples, shares, FOLD_SALT, options, source, lambda x: names[int(x * k)])
    return [_parted(examples, sides, name) for name in names]


def _parted(
    examples: Sequence[Example], sides: Sequence[str], name: str
) -> tuple[list[Example], list[Example]]:
    """Return the examples on other sides, and the examples on the named side."""
    both = list(zip(examples, sides, strict=True))
    return [one for one, side in both if side != name], [one for one, side in both if side == name]


def _sides(
    examples: Sequence[Example],
    shares: Mapping[str, float],
    salt: str,
    options: SplitOptions,
    source: str | None,
    hashed: Callable[[float], str],
) -> list[str]:
    """Return the side of each example; warn if a side is far from its share, by two or more."""
    keys = options.keys(examples, source)
    if options.manifest is not None:
        sides = balanced_sides(options.manifest, keys, shares, salt, options.by)
        most = max(Counter(keys).values(), default=0)
        reason = f"examples of one {options.unit} stay together, up to {most} of them"
    else:
        sides = [hashed(prompt_fraction(key, salt)) for key in keys]
        reason = (
            f"a hash decides the side of each {options.unit}; --split_balance balances the sides "
            "by size"
        )
    total, counts = len(keys), Counter(sides)
    sizes = [counts[side] for side in shares if side != "rest"]
    share = shares["held out"] if "rest" in shares else 1 / len(shares)
    far = max(abs(size - share * total) for size in sizes)
    if len(counts) > 1 and far >= 2 and far > _SHARE_TOLERANCE * share * total:
        found = sorted({min(sizes), max(sizes)})
        got = " to ".join(f"{count / total:.1%}" for count in found)
        rows = " to ".join(map(str, found))
        side = "Each fold" if len(sizes) > 1 else f"The {salt} set"
        warnings.warn(
            f"{side} should have {share:.1%} of the examples but has {got} ({rows} of {total}): "
            f"{reason}.",
            HiddenContextWarning,
            stacklevel=3,
        )
    return sides


def prompt_overlap(
    train: Sequence[Example], test: Sequence[Example], options: SplitOptions = BY_FIRST_TURN
) -> int:
    """Count the groups that are in both sets."""
    return len({*options.keys(train)} & {*options.keys(test)})
