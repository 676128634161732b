"""Checkpoint files: where they are, and which kind of model they hold."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Literal

import torch
from safetensors import SafetensorError

from hidden_context.data.storage.files import read_json, storage_error
from hidden_context.errors import CheckpointError, DataError, MissingFileError, first_line
from hidden_context.heads import Head

CLASSIFIER_CONFIG: Final = "config.json"
ADAPTER_CONFIG: Final = "adapter_config.json"
ENSEMBLE_CONFIG: Final = "adapter_ensemble.json"
FROZEN_CONFIG: Final = "frozen_backbone.json"
ADAPTER_WEIGHTS: Final = ("adapter_model.safetensors", "adapter_model.bin")
PROBE_WEIGHTS: Final = "probe.safetensors"
# The reference has its own folder: vLLM and SGLang load every .safetensors file beside a network.
REFERENCE_FILE: Final = "reference/reference.safetensors"
CONFIGS: Final = (CLASSIFIER_CONFIG, ADAPTER_CONFIG, ENSEMBLE_CONFIG, FROZEN_CONFIG)

Kind = Literal["frozen", "ensemble", "adapter", "classifier"]


@dataclasses.dataclass(frozen=True)
class LoadOptions:
    """Options for loading a reward model; ``RewardModel.from_pretrained`` explains the fields."""

    head: Head | dict[str, Any] | str | None = None
    base_model: str | None = None
    dtype: torch.dtype = torch.float32
    device: torch.device = torch.device("cpu")  # noqa: RUF009 - immutable
    max_length: int | None = None
    tokenizer_name: str | None = None
    revision: str | None = None
    trust_remote_code: bool = False


@contextmanager
def as_checkpoint_error(
    sentence: str, quoted: Callable[[Exception], str] = first_line
) -> Iterator[None]:
    """Turn any error that another library raises inside the block into a checkpoint error.

    Args:
        sentence: What is said, with ``{error}`` in the place of the other error's words.
        quoted: Gives these words.

    Raises:
        CheckpointError: If the block raises anything; its own checkpoint errors stay as they are.
    """
    try:
        yield
    except CheckpointError:
        raise
    except Exception as error:
        raise CheckpointError(sentence.replace("{error}", quoted(error))) from error


def kind_of(name: str, revision: str | None = None) -> Kind:
    """Return the kind of model in a folder or repository; by default, a classifier.

    Args:
        name: Folder or hub id.
        revision: Branch, tag or commit of a hub repository.
    """
    kinds: dict[str, Kind] = {
        FROZEN_CONFIG: "frozen",
        ENSEMBLE_CONFIG: "ensemble",
        ADAPTER_CONFIG: "adapter",
    }
    found = (kind for file, kind in kinds.items() if find_file(name, file, revision))
    return next(found, "classifier")


def existing(path_or_id: str | Path) -> str:
    """Return the name of a folder that exists, or a hub id.

    Raises:
        MissingFileError: If a local path does not exist.
    """
    name = str(path_or_id)
    looks_local = name.startswith((".", "/", "~")) or name.count("/") > 1
    if isinstance(path_or_id, Path) or looks_local:
        name = str(Path(name).expanduser())
        if not Path(name).is_dir():
            raise MissingFileError(name, "Give the folder of a checkpoint, or a hub id")
    return name


def find_file(path_or_id: str, name: str, revision: str | None = None) -> Path | None:
    """Find one file of a local folder or hub repository; return None if it is not there."""
    if Path(path_or_id).is_dir():
        file = Path(path_or_id) / name
        return file if file.is_file() else None
    from transformers.utils import cached_file

    with as_checkpoint_error(
        f"{path_or_id!r} is neither a local folder nor a model that can be reached ({{error}}). "
        "Check the path or id; offline, only local folders and cached models load."
    ):
        found = cached_file(
            path_or_id,
            name,
            revision=revision,
            _raise_exceptions_for_missing_entries=False,
            _raise_exceptions_for_connection_errors=False,
        )
    return Path(found) if found else None


def whole_folder(name: str, revision: str | None = None) -> Path:
    """Return a local folder, or fetch all files of a hub repository into one."""
    if Path(name).is_dir():
        return Path(name)
    from huggingface_hub import snapshot_download

    return Path(snapshot_download(name, revision=revision))


def read_checkpoint_json(path: str | Path) -> dict[str, Any]:
    """Read one of a checkpoint's JSON files.

    Raises:
        MissingFileError: If it does not exist.
        CheckpointError: If it is not a JSON object.
    """
    try:
        content = read_json(path)
    except DataError as error:
        raise CheckpointError(f"{error} The checkpoint is damaged.") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path}: a JSON object is needed; the checkpoint is damaged.")
    return content


def check_format(place: str | Path, found: object, *known: int) -> None:
    """Check that this version can read the format of a file or folder.

    Raises:
        CheckpointError: If the format found is not among the known ones.
    """
    if found not in known:
        raise CheckpointError(
            f"{place} has format {found}, but this version reads {' and '.join(map(str, known))}; "
            "upgrade hidden-context."
        )


def adapter_base(name: str, revision: str | None = None) -> str:
    """Return the id or path of the backbone that an adapter names.

    Raises:
        CheckpointError: If it names none.
    """
    path = find_file(name, ADAPTER_CONFIG, revision)
    base = path and read_checkpoint_json(path).get("base_model_name_or_path")
    if not base:
        raise CheckpointError(f"{name}: the adapter does not name its backbone; give base_model.")
    return str(base)


@contextmanager
def replace_folder(path: str | Path) -> Iterator[Path]:
    """Write a folder as a whole or not at all.

    Args:
        path: The folder to make or replace.

    Yields:
        A temporary folder beside it, which takes its place at the end.

    Raises:
        StorageError: If writing failed; the earlier folder at ``path`` is untouched.
    """
    target = Path(path)
    partial = target.with_name(target.name + ".partial")
    previous = target.with_name(target.name + ".previous")
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        yield partial
        if target.exists():
            shutil.rmtree(previous, ignore_errors=True)
            target.rename(previous)
        partial.rename(target)
        shutil.rmtree(previous, ignore_errors=True)
    except BaseException as error:
        shutil.rmtree(partial, ignore_errors=True)
        if previous.exists() and not target.exists():
            previous.rename(target)
        if isinstance(error, OSError):
            raise storage_error(path, error) from error
        if isinstance(error, SafetensorError):  # a full disk, in safetensors' words
            raise storage_error(path, OSError(first_line(error))) from error
        raise
