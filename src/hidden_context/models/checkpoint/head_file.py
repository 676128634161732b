"""``reward_head.json``: the meaning of raw outputs, saved beside weights or a score file.

A score file keeps the heads of its models in the folder ``FILE.heads``.
"""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from hidden_context import heads
from hidden_context.data.storage.files import write_json
from hidden_context.errors import CheckpointError, ConfigError, first_line
from hidden_context.likelihood import Likelihood
from hidden_context.models.checkpoint import contents
from hidden_context.models.checkpoint.likelihood_file import save_likelihood

HEAD_FILE: Final = "reward_head.json"
_FORMAT: Final = 1


@dataclasses.dataclass(frozen=True)
class RewardScale:
    """Location and scale of a model's mean rewards on its evaluation set, in reward units.

    Comparisons do not identify the unit of reward. Rewards of different models are therefore
    standardised with these numbers before they are compared.

    Args:
        mean: Mean of the mean rewards over all texts.
        stddev: Their standard deviation.
        texts: Number of texts.
    """

    mean: float
    stddev: float
    texts: int


@dataclasses.dataclass(frozen=True)
class HeadFile:
    """Contents of ``reward_head.json``.

    Args:
        head: The head.
        max_length: Longest text, in tokens, that the model was trained on.
        base_model: Id or path of the backbone.
        reward_scale: Location and scale on the evaluation set, where there was one.
    """

    head: heads.Head
    max_length: int | None = None
    base_model: str | None = None
    reward_scale: RewardScale | None = None

    def save(self, folder: str | Path) -> None:
        """Write the file into a checkpoint's folder."""
        likelihood = getattr(self.head, "likelihood", None)
        content = {
            "format": _FORMAT,
            "head": self.head.to_dict(),
            "max_length": self.max_length,
            "base_model": self.base_model,
            "reward_scale": self.reward_scale and dataclasses.asdict(self.reward_scale),
        }
        if likelihood is not None:
            content["comparison"] = "paper" if likelihood == "logistic" else "exact"
        write_json(Path(folder) / HEAD_FILE, content)

    @classmethod
    def load(cls, path: str | Path) -> HeadFile:
        """Read the file.

        Raises:
            CheckpointError: If it is damaged or of a later version.
        """
        content = contents.read_checkpoint_json(path)
        if not isinstance(content.get("head"), dict):
            raise CheckpointError(f"{path}: the field 'head' is missing; the file is damaged.")
        contents.check_format(path, content.get("format", _FORMAT), _FORMAT)
        try:
            head = heads.from_dict(content["head"])
            scale = content.get("reward_scale")
            reward_scale = RewardScale(**scale) if scale else None
        except ConfigError as error:
            raise CheckpointError(f"{path}: {error}") from error
        except TypeError as error:
            raise CheckpointError(f"{path} is damaged ({first_line(error)}).") from error
        return cls(head, content.get("max_length"), content.get("base_model"), reward_scale)


def resolve_head(head: heads.Head | dict[str, Any] | str | None) -> heads.Head | None:
    """Make a head from its JSON form or type name; return a head or None unchanged."""
    if head is None or isinstance(head, heads.Head):
        return head
    return heads.make(head) if isinstance(head, str) else heads.from_dict(head)


def agreed_head(
    name: str, wanted: heads.Head | dict[str, Any] | str | None, stored: heads.Head
) -> heads.Head:
    """Return the requested head if it fits the stored one; a name keeps the stored options.

    Args:
        name: The checkpoint, for errors.
        wanted: The requested head (see ``resolve_head``).
        stored: What the checkpoint says.

    Raises:
        CheckpointError: If they differ in type or size.
    """
    head = resolve_head(wanted)
    if head is None or (isinstance(wanted, str) and head.type == stored.type):
        return stored
    if head.type != stored.type or head.num_outputs != stored.num_outputs:
        raise CheckpointError(
            f"the head of {name} is {stored.type} (num_outputs {stored.num_outputs}), but "
            f"{head.type} (num_outputs {head.num_outputs}) was requested. Leave the head out, or "
            "give the checkpoint's head."
        )
    return head


def heads_folder(file: str | Path) -> Path:
    """Return the folder that keeps the heads of a score file, one folder for each model."""
    return Path(f"{file}.heads")


def head_folder(file: str | Path, name: str = "") -> Path | None:
    """Return the folder that keeps the head of one set of scores in a file.

    Args:
        file: The score file.
        name: The name given to the model; empty where it was the only one.

    Returns:
        A folder with ``reward_head.json``, and ``likelihood.json`` where more was learned; None
        where none is kept.
    """
    kept = head_folders(file)
    if not name:
        return kept[0] if len(kept) == 1 else None
    folder = heads_folder(file) / _folder_name(name)
    return folder if folder in kept else None


def head_folders(file: str | Path) -> list[Path]:
    """List the head folders beside a score file."""
    return sorted(path.parent for path in heads_folder(file).glob(f"*/{HEAD_FILE}"))


def forget_heads(file: str | Path) -> None:
    """Remove a score file's heads before it is written again, perhaps by other models."""
    shutil.rmtree(heads_folder(file), ignore_errors=True)


def save_heads(file: str | Path, likelihoods: Mapping[str, Likelihood]) -> None:
    """Write the head of each model beside the score file.

    Args:
        file: The score file.
        likelihoods: By the model's name, its head and what was learned beside its network.

    Raises:
        StorageError: If they cannot be written.
    """
    with contents.replace_folder(heads_folder(file)) as kept:
        for name, likelihood in likelihoods.items():
            folder = kept / _folder_name(name)
            folder.mkdir()
            HeadFile(likelihood.head).save(folder)
            save_likelihood(folder, likelihood)


def _folder_name(name: str) -> str:
    """Make a folder name from a model's name, which may contain any character."""
    return quote(name, safe="").replace(".", "%2E")
