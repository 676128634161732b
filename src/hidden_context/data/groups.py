"""Groups of examples that a split leaves together: one first question, or one value of a column."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from hidden_context.data.dialogue import canonical_prompt, first_user_turn
from hidden_context.data.example import Example
from hidden_context.data.files import to_plain
from hidden_context.data.rows import drop_nulls
from hidden_context.errors import ConfigError, DataError


@dataclass(frozen=True)
class SplitOptions:
    """What stays on one side, and who says on which.

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
            ConfigError: If the manifest is to lie beside data that is no local file or folder.
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
            raise DataError(
                f"{len(without)} of {len(examples)} examples have no value to divide by",
                file=without[0].source_file or source,
                line=next(iter(without[0].source_lines), None),
                field=self.by,
                remedy="Give --split_by a column that every row fills (there: "
                f"{', '.join(there) or 'none'})",
            )
        return keys


BY_FIRST_TURN: Final = SplitOptions()


def first_question(example: Example) -> str:
    """Return the first user turn of an example, spelt the same whatever format it came in.

    Where the prompt has none, the first turns of the whole conversations are it.
    """
    turn = first_user_turn(example.prompt)
    if turn:
        return turn
    turns = {first_user_turn(text) for text in example.texts} - {""}
    return "\0".join(sorted(turns)) or example.prompt_key


def _value_of(example: Example, column: str, source: str | None) -> str:
    """Spell an example's value of a column; empty where it has none."""
    value = _spelt(example.columns.get(column))
    if value:
        return value
    said = {_spelt(judgement.columns.get(column)) for judgement in example.judgements} - {""}
    if len(said) > 1:
        raise DataError(
            f"the judgements of this example differ in it ({', '.join(sorted(said)[:3])})",
            file=example.source_file or source,
            line=next(iter(example.source_lines), None),
            field=column,
            remedy="Write a row for each judgement, or divide by another column with --split_by",
        )
    if not said and column == "response":
        return _spelt(sorted(canonical_prompt(response) for response in example.responses))
    return next(iter(said), "")


def _spelt(value: Any) -> str:
    """Write a value alike whatever file it came from; nothing for null, NaN and empty text."""
    if value is None or value != value:
        return ""
    if isinstance(value, str):
        return " ".join(value.split())
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return json.dumps(drop_nulls(to_plain(value)), sort_keys=True, ensure_ascii=False)
