"""Which reward head wrote a column of raw outputs.

Told, saved beside the file by its checkpoint, read off a name, or off the width.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

from hidden_context.errors import DataError

if TYPE_CHECKING:
    from hidden_context.heads import Head
    from hidden_context.likelihood import Likelihood

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

    options = {} if likelihood is None else {"likelihood": likelihood}
    head = heads.for_width(head_type, width, **options)
    if head.num_outputs == width:
        return head
    if not head.options_for_width(width):
        writes = f"writes {head.num_outputs}"
    elif head.num_outputs > width:
        writes = f"writes at least {head.num_outputs}"
    else:
        writes = f"writes {head.num_outputs} or some more, never {width}"
    remedy = "Check which reward model wrote this file, and name its own type of head"
    if head.num_members:
        remedy = (
            "What its members are stands in its checkpoint's reward_head.json: put the file "
            "beside that one, or name another head"
        )
    raise DataError(
        f"{width} {'number' if width == 1 else 'numbers'} per text, but {_a(head.type)} head "
        f"{writes}",
        file=file,
        field=field,
        remedy=remedy,
    )


def _a(head_type: str) -> str:
    return f"an {head_type}" if head_type[0] in "aeiou" else f"a {head_type}"


def head_file_beside(file: str | Path) -> Path:
    """Return where a checkpoint whose folder a score file lies in keeps its head."""
    from hidden_context.models.head_file import HEAD_FILE

    return Path(file).parent / HEAD_FILE


def checkpoint_files_beside(file: str | Path) -> list[Path]:
    """Return the files of the checkpoint around a score file that an analysis reads."""
    from hidden_context.models.likelihood_file import FILES

    return [head_file_beside(file), *(Path(file).parent / name for name in FILES)]


def saved_head(file: str | Path) -> Head | None:
    """Read the head of the checkpoint whose folder a score file lies in, if it lies in one.

    Raises:
        CheckpointError: If the checkpoint's head file is damaged or of a later version.
    """
    from hidden_context.models.head_file import HeadFile

    path = head_file_beside(file)
    return HeadFile.load(path).head if path.is_file() else None


def saved_likelihood(file: str | Path) -> Likelihood | None:
    """Read what the checkpoint whose folder a score file lies in learned beside its network.

    Returns:
        The likelihood, of the checkpoint's head; None where there is no checkpoint.

    Raises:
        CheckpointError: If the checkpoint's files are damaged or of a later version.
    """
    from hidden_context.models.likelihood_file import load_likelihood

    head = saved_head(file)
    return None if head is None else load_likelihood(Path(file).parent, head)


def choose_head(
    width: int,
    *,
    file: str,
    field: str,
    name: str = "",
    saved: Head | None = None,
    head_type: str | None = None,
    likelihood: str | None = None,
) -> Head:
    """Choose the head that reads ``width`` numbers per text.

    Args:
        width: Numbers per text in the file, K.
        file: The score file.
        field: Its column, for errors.
        name: The name given to the reward model, if it has one.
        saved: The head that the checkpoint beside the file says it has.
        head_type: The type that was asked for, which goes before all else.
        likelihood: The likelihood that was asked for, likewise.

    Returns:
        The saved head unless another type was asked for; without one, one of the guessed type.

    Raises:
        ConfigError: If the type is unknown.
        DataError: If such a head cannot have written ``width`` numbers.
    """
    from hidden_context import heads

    told = None if head_type is None else heads.make(head_type).type
    if saved is None or told not in (None, saved.type):
        kind = told or guess_head_type(width, file=file, name=name)
        return head_for_width(kind, width, file=file, field=field, likelihood=likelihood)
    if saved.num_outputs != width:
        path = head_file_beside(file)
        raise DataError(
            f"{width} {'number' if width == 1 else 'numbers'} per text, but the {saved.type} head "
            f"in {path} writes {saved.num_outputs}",
            file=file,
            field=field,
            remedy="Another reward model wrote this file; move it out of this one's folder",
        )
    return saved if likelihood is None else _with_likelihood(saved, likelihood)


def _with_likelihood(head: Head, likelihood: str) -> Head:
    """Let a head, or an ensemble's members, compare by another likelihood where they have one."""
    from hidden_context import heads
    from hidden_context.heads.registry import options_for

    if head.num_members:
        member = _with_likelihood(head.member, likelihood)
        return heads.from_dict({**head.to_dict(), "member": member.to_dict()})
    return dataclasses.replace(head, **options_for(head.type, {"likelihood": likelihood}))
