"""The export workflow: check what fits the form, write the folder, and verify it."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from hidden_context.errors import ConfigError
from hidden_context.export.adapters import write_adapters
from hidden_context.export.check import Agreement, sample_of
from hidden_context.export.classifier import linear_mean_of, write_classifier
from hidden_context.export.config import ExportConfig
from hidden_context.models.adapter_ensemble import AdapterEnsembleRewardModel
from hidden_context.models.checkpoint.contents import replace_folder
from hidden_context.models.checkpoint.head_file import HEAD_FILE
from hidden_context.models.reward_model import RewardModel
from hidden_context.models.sequence import SequenceRewardModel


@dataclasses.dataclass(frozen=True)
class Exported:
    """An exported folder that was written and checked.

    Attributes:
        folder: Where it lies.
        agreement: How far its outputs are from the checkpoint's.
        notes: What was done beside it, for people.
    """

    folder: Path
    agreement: Agreement
    notes: tuple[str, ...]


def export_model(config: ExportConfig) -> Exported:
    """Export a reward model; the folder appears whole and checked, or not at all.

    Args:
        config: What is asked for.

    Returns:
        Where it lies, and how far it is from the checkpoint.

    Raises:
        ConfigError: If the form does not fit the model, or the folder may not be written.
        CheckpointError: If the checkpoint cannot be loaded, or its rewards do not come back.
        StorageError: If the folder could not be written.
    """
    _check_apart(config, config.checkpoint)
    _check_free(config)
    source = RewardModel.from_pretrained(
        config.checkpoint,
        head=config.head,
        base_model=config.base_model,
        dtype="float32",
        device=config.device,
        tokenizer_name=config.tokenizer_name,
        revision=config.revision,
        trust_remote_code=config.trust_remote_code,
    )
    if not isinstance(source, SequenceRewardModel):
        raise ConfigError(
            f"{config.checkpoint} is a probe on features of a frozen backbone: no classifier "
            "of Transformers computes that. Serve it with `hidden-context serve`."
        )
    _check_apart(config, source.base_model)
    if config.form != "adapters" and isinstance(source, AdapterEnsembleRewardModel):
        raise ConfigError(
            f"an ensemble of {source.head.num_members} adapters is as many networks, which do not "
            "merge into one. Export it with --form adapters, one of its members' folders by "
            "itself, or serve it with `hidden-context serve`."
        )
    if config.form == "scalar":
        linear_mean_of(source.head)
    sample = sample_of(source, config)
    write = write_adapters if config.form == "adapters" else write_classifier
    with replace_folder(config.folder) as folder:
        agreement, notes = write(source, sample, config, folder)
    return Exported(config.folder, agreement, tuple(notes))


def _check_apart(config: ExportConfig, read: str | None) -> None:
    """Refuse an output folder that overlaps with a folder that is read."""
    if read is None or not Path(read).expanduser().exists():
        return
    place, target = Path(read).expanduser().resolve(), config.folder
    if target == place or target in place.parents or place in target.parents:
        raise ConfigError(
            f"--output {config.output} and {read}, which is read, lie in one another; name another "
            "folder."
        )


def _check_free(config: ExportConfig) -> None:
    """Refuse an output folder that holds anything but an earlier export."""
    target = config.folder
    if target.is_file():
        raise ConfigError(f"--output {config.output} is a file; name a folder.")
    if not target.is_dir() or not any(target.iterdir()):
        return
    if not config.overwrite:
        raise ConfigError(
            f"--output {config.output} is not empty; name another folder, or give --overwrite to "
            "replace an earlier export."
        )
    if not (target / HEAD_FILE).is_file():
        raise ConfigError(
            f"--output {config.output} holds no {HEAD_FILE}, so it is no earlier export and is not "
            "replaced; name another folder."
        )
