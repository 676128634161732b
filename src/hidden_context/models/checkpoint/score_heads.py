"""``FILE.heads``: what the raw outputs in a score file mean, kept beside the file."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

from hidden_context.likelihood import Likelihood
from hidden_context.models.checkpoint.contents import replace_folder
from hidden_context.models.checkpoint.head_file import HEAD_FILE, HeadFile
from hidden_context.models.checkpoint.likelihood_file import save_likelihood


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
    """List the folders of the heads that are kept beside a score file."""
    return sorted(path.parent for path in heads_folder(file).glob(f"*/{HEAD_FILE}"))


def forget_heads(file: str | Path) -> None:
    """Remove the heads of a score file before it is written again, perhaps by other models."""
    shutil.rmtree(heads_folder(file), ignore_errors=True)


def save_heads(file: str | Path, likelihoods: Mapping[str, Likelihood]) -> None:
    """Write the head of each model beside the score file.

    Args:
        file: The score file.
        likelihoods: By the model's name, its head and what was learned beside its network.

    Raises:
        StorageError: If they cannot be written.
    """
    with replace_folder(heads_folder(file)) as kept:
        for name, likelihood in likelihoods.items():
            folder = kept / _folder_name(name)
            folder.mkdir()
            HeadFile(likelihood.head).save(folder)
            save_likelihood(folder, likelihood)


def _folder_name(name: str) -> str:
    """Make a folder name from a model's name, which may contain any character."""
    return quote(name, safe="").replace(".", "%2E")
