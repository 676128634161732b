"""Which reward head wrote a column of raw outputs: told, read off a name, or off the width."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from hidden_context.errors import DataError

if TYPE_CHECKING:
    from hidden_context.heads import Head

CHECKPOINT_SUFFIX = "_peft_last_checkpoint"


def guess_head_type(width: int, *, file: str, name: str = "") -> str:
    """Guess the type of head behind raw outputs.

    In this order: the end of the column's name (``reward_outputs_both_categorical``), the
    checkpoint folder that the file lies in (``categorical_…_peft_last_checkpoint``), the width:
    one number is ``base``, two are ``mean_and_variance``, more are ``categorical``.

    >>> guess_head_type(2, file="scores.jsonl", name="both")
    'mean_and_variance'
    >>> guess_head_type(2, file="scores.jsonl", name="both_categorical")
    'categorical'
    """
    from hidden_context import heads

    folder = Path(file).parent.name
    for head_type in heads.types():
        # The paper gives base models a bare name, so a name that ends in "base" says nothing.
        if head_type != "base" and (name == head_type or name.endswith(f"_{head_type}")):
            return head_type
    for head_type in heads.types():
        if folder.startswith(f"{head_type}_") and folder.endswith(CHECKPOINT_SUFFIX):
            return head_type
    return {1: "base", 2: "mean_and_variance"}.get(width, "categorical")


def head_for_width(
    head_type: str, width: int, *, file: str, field: str, likelihood: str | None = None
) -> Head:
    """Make the head of a type that reads ``width`` numbers per text.

    Args:
        head_type: Type of the head, as ``heads.make`` takes it.
        width: Numbers per text in the file, K.
        file: The score file, for the error.
        field: Its column, for the error.
        likelihood: Likelihood of the head, if it has a choice; None for its default.

    Returns:
        The head.

    Raises:
        ConfigError: If the type is unknown.
        DataError: If such a head cannot have written ``width`` numbers.
    """
    from hidden_context import heads
    from hidden_context.heads.registry import options_for

    available: dict[str, object] = {"num_atoms": max(width, 2)}
    if likelihood is not None:
        available["likelihood"] = likelihood
    head = heads.make(head_type, **options_for(head_type, available))
    if head.num_outputs == width:
        return head
    at_least = "at least " if "num_atoms" in options_for(head_type, available) else ""
    raise DataError(
        f"{width} {'number' if width == 1 else 'numbers'} per text, but a {head.type} head writes "
        f"{at_least}{head.num_outputs}",
        file=file,
        field=field,
        remedy="Check which reward model wrote this file, and name its own type of head",
    )
