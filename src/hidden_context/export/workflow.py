"""The export workflow: check what fits the form, write the folder, and verify it."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from hidden_context import heads
from hidden_context.errors import ConfigError, first_line
from hidden_context.export.adapters import write_adapters
from hidden_context.export.check import (
    Agreement,
    Sample,
    Written,
    card_facts,
    classifier_outputs,
    compare,
    sample_of,
)
from hidden_context.export.config import ExportConfig
from hidden_context.export.output_layer import (
    make_scalar,
    name_outputs,
    settle_bias,
    settle_padding,
)
from hidden_context.heads import Head, LinearMean
from hidden_context.likelihood import LikelihoodOptions, make_likelihood
from hidden_context.models.adapter_ensemble import AdapterEnsembleRewardModel
from hidden_context.models.checkpoint.contents import replace_folder
from hidden_context.models.checkpoint.head_file import HEAD_FILE
from hidden_context.models.engine.forward import quiet_loading
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
            f"an ensemble of {source.head.num_members} adapters cannot be merged into one network. "
            "Export it with --form adapters, export one of its members' folders, or serve it with "
            "`hidden-context serve`."
        )
    if config.form == "scalar":
        linear_mean_of(source.head)
    sample = sample_of(source, config)
    write = write_adapters if config.form == "adapters" else write_classifier
    with replace_folder(config.folder) as folder:
        model, found, expected, notes = write(source, sample, config, folder)
        agreement = compare(found, expected, sample)
        model.card = {"data": card_facts(config, agreement, notes)}
        model.write_card(folder)
    return Exported(config.folder, agreement, tuple(notes))


def _check_apart(config: ExportConfig, read: str | None) -> None:
    """Refuse an output folder that overlaps with a folder that is read."""
    if read is None or not Path(read).expanduser().exists():
        return
    place, target = Path(read).expanduser().resolve(), config.folder
    if target == place or target in place.parents or place in target.parents:
        raise ConfigError(
            f"--output {config.output} overlaps with {read}, which the export reads; name another "
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
            f"--output {config.output} holds no {HEAD_FILE}, so it is not an earlier export and "
            "stays as it is; name another folder."
        )


def linear_mean_of(head: Head) -> LinearMean:
    """Return a head's mean reward as a linear function of its raw outputs.

    Raises:
        ConfigError: If it is not.
    """
    mean = head.linear_mean
    if mean is None:
        kind = head.type if head.member is head else f"{head.type} of {head.member.type}"
        raise ConfigError(
            f"the mean reward of the {kind} head is not a linear function of its "
            f"{head.num_outputs} raw outputs, so no classifier with one output computes it. Export "
            "them all with "
            "--form full, or serve the mean with `hidden-context serve`."
        )
    return mean


def _merged(module: Any) -> Any:
    """Merge an adapter into its backbone, if there is one."""
    if not hasattr(module, "peft_config"):
        return module
    try:
        return module.merge_and_unload(safe_merge=True)
    except Exception as error:  # kinds that cannot be merged, and weights that are not finite
        raise ConfigError(
            f"the adapter cannot be merged into its backbone ({first_line(error)}). Export it with "
            "--form adapters."
        ) from error


def write_classifier(
    source: SequenceRewardModel, sample: Sample, config: ExportConfig, folder: Path
) -> Written:
    """Write a reward model into a folder as an ordinary classifier, and run it there.

    Args:
        source: The reward model, of one network, which is used up.
        sample: What it made of some texts.
        config: What is asked for.
        folder: An empty folder.

    Returns:
        What the folder's outputs are, and what they have to be.

    Raises:
        ConfigError: If the form does not fit the head, or a bias has no place.
        CheckpointError: If the folder does not load.
    """
    module, expected = _merged(source.module), sample.raw
    notes: list[str | None] = []
    likelihood, scale = source.likelihood, source.reward_scale
    if config.form == "scalar":
        expected = source.head.distribution(sample.raw).mean.unsqueeze(-1)
        make_scalar(module, linear_mean_of(source.head))
        if likelihood.options != LikelihoodOptions():
            notes.append(
                "the reward is the population's mean: what was learned beside the network of "
                "annotators, ties and ratings is not in the folder"
            )
        likelihood = make_likelihood(heads.make("base"))
    dropped, note = settle_bias(module, drop_constant=config.drop_constant)
    notes += [note, settle_padding(module, source.tokenizer)]
    if scale is not None and dropped:
        scale = dataclasses.replace(scale, mean=scale.mean - dropped)
    name_outputs(module)
    module.base_model.to(sample.dtype)  # the head stays in float32
    plain = SequenceRewardModel(
        module,
        source.tokenizer,
        likelihood,
        source.max_length,
        base_model=source.base_model,
        reward_scale=scale,
    )
    if config.form == "full":  # the mean alone has other rewards and no σ
        plain.reference = source.reference
    with quiet_loading():
        plain.write_weights(folder)
    found = classifier_outputs(folder, sample, source.device)
    return plain, found, expected - dropped, [note for note in notes if note]
