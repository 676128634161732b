"""What a checkpoint's folder holds, and which kind of model that makes it."""

from __future__ import annotations

from pathlib import Path
from typing import Final, Literal

from hidden_context.errors import MissingFileError
from hidden_context.models.repository import find_file

CLASSIFIER_CONFIG: Final = "config.json"
ADAPTER_CONFIG: Final = "adapter_config.json"
ENSEMBLE_CONFIG: Final = "adapter_ensemble.json"
FROZEN_CONFIG: Final = "frozen_backbone.json"
ADAPTER_WEIGHTS: Final = ("adapter_model.safetensors", "adapter_model.bin")
PROBE_WEIGHTS: Final = "probe.safetensors"
# In a folder of its own: vLLM and SGLang take every .safetensors file beside a network for weights.
REFERENCE_FILE: Final = "reference/reference.safetensors"
CONFIGS: Final = (CLASSIFIER_CONFIG, ADAPTER_CONFIG, ENSEMBLE_CONFIG, FROZEN_CONFIG)

Kind = Literal["frozen", "ensemble", "adapter", "classifier"]


def kind_of(name: str, revision: str | None = None) -> Kind:
    """Tell what a folder or hub repository holds; what is nothing else is a classifier.

    Args:
        name: Folder or hub id.
        revision: Branch, tag or commit of a hub repository.
    """
    if find_file(name, FROZEN_CONFIG, revision) is not None:
        return "frozen"
    if find_file(name, ENSEMBLE_CONFIG, revision) is not None:
        return "ensemble"
    return "classifier" if find_file(name, ADAPTER_CONFIG, revision) is None else "adapter"


def existing(path_or_id: str | Path) -> str:
    """Return the name of a folder that is there, or else of what can only be a hub id.

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


def whole_folder(name: str, revision: str | None = None) -> Path:
    """Return a local folder, or fetch all files of a hub repository into one."""
    if Path(name).is_dir():
        return Path(name)
    from huggingface_hub import snapshot_download

    return Path(snapshot_download(name, revision=revision))
