"""The choice of the reward head that wrote a column of raw outputs.

The head is given, kept beside the file, saved by the checkpoint, or guessed from a name or the
width.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

from hidden_context.data.checks import Place
from hidden_context.errors import DataError
from hidden_context.models.checkpoint import head_file
from hidden_context.models.checkpoint.likelihood_file import FILES, load_likelihood

if TYPE_CHECKING:
    from hidden_context.heads import Head
    from hidden_context.likelihood import Likelihood

CHECKPOINT_SUFFIX = "_peft_last_checkpoint"


def guess_head_type(width: int, *, file: str, name: str = "", field: str | None = None) -> str:
    """Guess the type of head behind raw outputs.

    The guess uses, in this order: the end of the column's name
    (``reward_outputs_both_categorical``), the checkpoint folder that holds the file
    (``categorical_…_peft_last_checkpoint``), and the width: one number is ``base``, two are
    ``mean_and_variance``. Three or more numbers could come from any head.

    Args:
        width: Numbers per text in the file, K.
        file: The score file.
        name: The name given to the reward model, if it has one.
        field: The reward model's column, for the error.

    Returns:
        The type.

    Raises:
        DataError: If K is above 2, and no name tells the type of the head.

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
    if width > 2:
        remedy = (
            f"Name it with --head; or put the file beside {head_file.heads_folder(file).name}, "
            "which evaluate and score write, or into its checkpoint's folder"
        )
        problem = f"{_numbers(width)}, and the head that wrote them is unknown"
        raise DataError(problem, file=file, field=field, remedy=remedy)
    return "base" if width == 1 else "mean_and_variance"


def head_for_width(
    head_type: str, width: int, *, file: str, field: str, likelihood: str | None = None
) -> Head:
    """Make the head of a given type that reads ``width`` numbers per text.

    Args:
        head_type: Type of the head, as ``heads.make`` takes it.
        width: Numbers per text in the file, K.
        file: The score file, for the error.
        field: The column of the raw outputs, for the error.
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
        writes = f"writes {head.num_outputs} or certain larger numbers, not {width}"
    remedy = "Check which reward model wrote this file, and name the type of its head"
    if head.num_members:
        remedy = (
            "Its members are described in its checkpoint's reward_head.json: put the file "
            "beside it, evaluate again, or name another head"
        )
    article = "an" if head.type[0] in "aeiou" else "a"
    problem = f"{_numbers(width)}, but {article} {head.type} head {writes}"
    raise Place(file).error(problem, field, remedy)


def _numbers(width: int) -> str:
    return f"{width} {'number' if width == 1 else 'numbers'} per text"


def head_file_beside(file: str | Path) -> Path:
    """Return the head file of the checkpoint whose folder holds a score file."""
    return Path(file).parent / head_file.HEAD_FILE


def head_files_of(file: str | Path) -> list[Path]:
    """Return all files in which an analysis looks for the heads of a score file."""
    folders = [Path(file).parent, *head_file.head_folders(file)]
    return [folder / name for folder in folders for name in (head_file.HEAD_FILE, *FILES)]


def saved_head(file: str | Path, name: str = "", *, alone: bool = True) -> Head | None:
    """Read the head kept beside a score file, or the head of the checkpoint around it.

    Args:
        file: The score file.
        name: The name given to the reward model; empty if it was the only one.
        alone: Whether the file has no other scores. A checkpoint writes a single set of scores.

    Returns:
        The head; None if no head was saved.

    Raises:
        CheckpointError: If the file of the head is damaged or of a later version.
    """
    folder = _folder_of(file, name, alone)
    return None if folder is None else head_file.HeadFile.load(folder / head_file.HEAD_FILE).head


def saved_likelihood(file: str | Path, name: str = "", *, alone: bool = True) -> Likelihood | None:
    """Read a model's likelihood: its head, and what was learned beside the network.

    See ``saved_head`` for the arguments.

    Raises:
        CheckpointError: If its files are damaged or of a later version.
    """
    folder = _folder_of(file, name, alone)
    return None if folder is None else _likelihood_in(folder)


def _likelihood_in(folder: Path) -> Likelihood:
    return load_likelihood(folder, head_file.HeadFile.load(folder / head_file.HEAD_FILE).head)


def _folder_of(file: str | Path, name: str, alone: bool) -> Path | None:
    folder = head_file.head_folder(file, name)
    around = Path(file).parent if alone and head_file_beside(file).is_file() else None
    return folder or around


def known_column(file: str | Path) -> str | None:
    """Return the column by which a score file's models know annotators, if any.

    Raises:
        CheckpointError: If the files of a head are damaged or of a later version.
        DataError: If two models know annotators by different columns.
    """
    around = [Path(file).parent] if head_file_beside(file).is_file() else []
    folders = head_file.head_folders(file) or around
    names = [_likelihood_in(each).names for each in folders]
    columns = sorted({each.column for each in names if each.names})
    if len(columns) > 1:
        problem = f"its models know annotators by different columns ({', '.join(columns)})"
        raise DataError(problem, file=file, remedy="Score the file with each model separately")
    return columns[0] if columns else None


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
        field: The column of the raw outputs, for errors.
        name: The name given to the reward model, if it has one.
        saved: The head that ``saved_head`` found.
        head_type: The requested type, which takes precedence.
        likelihood: The requested likelihood, which takes precedence.

    Returns:
        The saved head unless another type was requested; without a saved head or a requested type,
        a head of the guessed type.

    Raises:
        ConfigError: If the type is unknown.
        DataError: If such a head cannot have written ``width`` numbers, or the type cannot be told.
    """
    from hidden_context import heads

    told = None if head_type is None else heads.make(head_type).type
    if saved is None or told not in (None, saved.type):
        kind = told or guess_head_type(width, file=file, name=name, field=field)
        return head_for_width(kind, width, file=file, field=field, likelihood=likelihood)
    if saved.num_outputs != width:
        folder = _folder_of(file, name, True) or Path(file).parent
        place = folder / head_file.HEAD_FILE
        writes = f"the {saved.type} head in {place} writes {saved.num_outputs}"
        remedy = "Another reward model wrote this file; move it away from this head"
        raise Place(file).error(f"{_numbers(width)}, but {writes}", field, remedy)
    return saved if likelihood is None else _with_likelihood(saved, likelihood)


def _with_likelihood(head: Head, likelihood: str) -> Head:
    """Change the likelihood of a head, or of an ensemble's members, if they have one."""
    from hidden_context import heads

    if head.num_members:
        member = _with_likelihood(head.member, likelihood)
        return heads.from_dict({**head.to_dict(), "member": member.to_dict()})
    return dataclasses.replace(head, **heads.options_for(head.type, {"likelihood": likelihood}))
