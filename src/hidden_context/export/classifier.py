"""Exports as one ordinary classifier: adapters merged, all raw outputs or their mean alone."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from hidden_context import heads
from hidden_context.errors import ConfigError, first_line
from hidden_context.export.check import Agreement, Sample, classifier_outputs, compare
from hidden_context.export.config import ExportConfig
from hidden_context.export.output_layer import make_scalar, settle_bias, settle_padding
from hidden_context.heads import Head, LinearMean
from hidden_context.likelihood import LikelihoodOptions, make_likelihood
from hidden_context.models.engine.forward import quiet_loading
from hidden_context.models.sequence import SequenceRewardModel


def linear_mean_of(head: Head) -> LinearMean:
    """Return a head's mean reward as a linear function of its raw outputs.

    Raises:
        ConfigError: If it is not.
    """
    mean = head.linear_mean
    if mean is None:
        kind = head.type if head.member is head else f"{head.type} of {head.member.type}"
        raise ConfigError(
            f"the mean reward of its {kind} head is no linear function of its {head.num_outputs} "
            "raw outputs, so no classifier with one output computes it. Export them all with "
            "--form full, or serve the mean with `hidden-context serve`."
        )
    return mean


def make_plain(
    source: SequenceRewardModel, sample: Sample, config: ExportConfig
) -> tuple[SequenceRewardModel, float, list[str]]:
    """Turn a reward model into an ordinary classifier; its network is used up.

    Args:
        source: The reward model, of one network.
        sample: What it made of some texts.
        config: What is asked for.

    Returns:
        The model to write, the constant that its reward lacks, and what was done, for people.

    Raises:
        ConfigError: If the form does not fit the head, or a bias has no place.
    """
    module = _merged(source.module)
    notes: list[str | None] = []
    likelihood, scale = source.likelihood, source.reward_scale
    if config.form == "scalar":
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
    return plain, dropped, [note for note in notes if note]


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


def name_outputs(module: Any) -> None:
    """Mark the outputs as numbers, not classes, and name them, for servers.

    vLLM applies softmax or sigmoid to whatever is not called a regression; other servers refuse
    folders without names of outputs.
    """
    count = int(module.config.num_labels)
    names = ["reward"] if count == 1 else [f"raw_{number}" for number in range(count)]
    module.config.id2label = dict(enumerate(names))
    module.config.label2id = {name: number for number, name in enumerate(names)}
    module.config.problem_type = "regression"


def write_classifier(
    source: SequenceRewardModel, sample: Sample, config: ExportConfig, folder: Path
) -> tuple[Agreement, list[str]]:
    """Write a classifier into a folder, and check it there.

    Args:
        source: The reward model; its network is used up.
        sample: What it made of some texts.
        config: What is asked for.
        folder: An empty folder.

    Returns:
        How far the folder's outputs are from the checkpoint's, and what was done, for people.

    Raises:
        ConfigError: If the form does not fit the model.
        CheckpointError: If the folder does not give the checkpoint's rewards.
    """
    expected = sample.raw
    if config.form == "scalar":
        expected = source.head.distribution(sample.raw).mean.unsqueeze(-1)
    plain, dropped, notes = make_plain(source, sample, config)
    with quiet_loading():
        plain.write_weights(folder)
    found = classifier_outputs(folder, sample, source.device)
    agreement = compare(found, expected - dropped, sample)
    plain.card = {"data": card_facts(config, agreement, notes)}
    plain.write_card(folder)
    return agreement, notes


def card_facts(config: ExportConfig, agreement: Agreement, notes: list[str]) -> dict[str, str]:
    """Return what the model card says of an export."""
    facts = {
        "exported from": config.checkpoint,
        "form": config.form,
        "precision of the backbone": config.dtype,
        "loads with": "AutoModelForSequenceClassification; its logits are the raw outputs, and "
        "no softmax or sigmoid belongs on them",
        "checked": f"by Transformers alone, {agreement}",
    }
    if config.form == "adapters":
        facts["loads with"] = "PEFT, each member's folder on the backbone as a classifier"
    return facts | {f"note {number}": note for number, note in enumerate(notes, 1)}
