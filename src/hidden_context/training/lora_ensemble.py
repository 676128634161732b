"""Ensembles of adapters: members trained separately on one backbone, then combined."""

from __future__ import annotations

import copy
import dataclasses
import gc
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import torch
from transformers import TrainerCallback

from hidden_context.data.splits.held_out import Splits
from hidden_context.data.storage.files import write_json
from hidden_context.errors import CheckpointError, ConfigError, MissingFileError
from hidden_context.heads import EnsembleHead, Head
from hidden_context.likelihood import make_likelihood
from hidden_context.models.adapter_ensemble import AdapterEnsembleRewardModel, adapter_name
from hidden_context.models.checkpoint.contents import read_checkpoint_json
from hidden_context.models.checkpoint.head_file import HEAD_FILE, HeadFile
from hidden_context.models.checkpoint.likelihood_file import load_likelihood
from hidden_context.models.engine.budget import release_memory
from hidden_context.models.network.adapters import add_adapter
from hidden_context.training import finetune
from hidden_context.training.config import TrainConfig
from hidden_context.training.fitted import Fitted, is_first_process, test_metrics
from hidden_context.training.labels import make_training_likelihood, member_draws
from hidden_context.training.resume import MEMBERS_FILE, last_checkpoint, resume_wanted

# Distance between the seeds of members, so that ensembles of neighbouring seeds share no seed.
_SEED_STEP: Final = 10_007


def fit(
    config: TrainConfig,
    head: Head,
    splits: Splits,
    callbacks: Sequence[TrainerCallback] = (),
    description: Mapping[str, Any] | None = None,
) -> Fitted:
    """Train the members one after the other, each like a single model; see ``training.run``.

    Each member has its own seed and random start, and sees each prompt as often as the prompt
    stands in its bootstrap sample. It is trained in ``OUTPUT_DIR/member_{m}``, and then kept only
    in the ``final`` folder there, so that memory never holds more than one backbone.

    Args:
        config: The options.
        head: The members' head.
        splits: The examples.
        callbacks: Further callbacks, of every member.
        description: Options and data of the run, kept beside the members.

    Returns:
        The ensemble; the lines of its history say of which ``member`` they are.
    """
    count = config.ensemble_members
    ensemble = EnsembleHead(head, count, config.ensemble_prior_scale)
    single = dataclasses.replace(ensemble, num_members=1)
    progress = _Progress(config, description)
    draws = member_draws(config, ensemble, splits.train)
    for number in range(count):
        own, progress.number = member_config(config, number), number
        if progress.is_finished(number, own):
            _unit_of(own.final_path, single)  # refuses another head before hours of training
            continue
        last = last_checkpoint(own.output_dir) if progress.has_begun(number) else None
        fitted = finetune.fit(
            dataclasses.replace(own, resume_from_checkpoint=last),
            single,
            dataclasses.replace(splits, reports=copy.deepcopy(splits.reports)),
            [*callbacks, progress],
            draws=None if draws is None else draws[:, [number]],
        )
        if is_first_process():
            fitted.model.save_pretrained(own.final_path)
        progress.note(number, fitted.history)
        del fitted
        gc.collect()  # a Trainer and its model refer to each other
        release_memory()
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.barrier()  # until the first process has written what the others read
    model = _assemble(config, ensemble, single, splits)
    datasets = finetune.tokenize_splits(config, splits, model)
    metrics: dict[str, float] = {}
    if config.evaluate_at_end and "test" in datasets:
        test = datasets["test"]
        raw = model.raw_outputs_of_tokens(
            [ids for tokens in test.batch(range(len(test))).tokens for ids in tokens],
            config.per_device_eval_batch_size,
            engine=config.engine,
            tokens_per_batch=config.tokens_per_batch,
        )
        metrics = test_metrics(model, raw, test.labels, test.examples)
    sizes = {name: len(part) for name, part in datasets.items()}
    return Fitted(model, metrics, progress.history(count), sizes)


def member_config(config: TrainConfig, number: int) -> TrainConfig:
    """Return the configuration of one member's training."""
    return dataclasses.replace(
        config,
        seed=config.seed + _SEED_STEP * number,
        output_dir=str(Path(config.output_dir) / f"member_{number}"),
        final_dir=None,
        evaluate_at_end=False,
        resume_from_checkpoint=None,
    )


class _Progress(TrainerCallback):
    """Record of the members that have begun or finished, kept in a file for resuming.

    A member has begun once all processes have read the file.

    Args:
        config: The options.
        description: Options and data of the run.

    Raises:
        ConfigError: If a checkpoint's folder is to be resumed from.
        MissingFileError: If there is nothing to resume.
    """

    def __init__(self, config: TrainConfig, description: Mapping[str, Any] | None) -> None:
        self.path = Path(config.output_dir) / MEMBERS_FILE
        self.members: list[dict[str, Any]] = []
        self.description, self.number = description, 0
        wanted = resume_wanted(config)
        if isinstance(wanted, str):
            raise ConfigError(
                f"--resume_from_checkpoint {wanted} names one checkpoint, but the members of an "
                "ensemble each have their own; take --resume_from_checkpoint true."
            )
        if wanted:
            if not self.path.is_file():
                raise MissingFileError(self.path, "Nothing to resume: train without it first")
            self.members = list(read_checkpoint_json(self.path).get("members", ()))

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.note(self.number)

    def has_begun(self, number: int) -> bool:
        """Tell whether the resumed run has begun to train a member."""
        return number < len(self.members)

    def is_finished(self, number: int, config: TrainConfig) -> bool:
        """Tell whether a member is trained and its adapter saved."""
        is_there = (config.final_path / HEAD_FILE).is_file()
        return is_there and self.has_begun(number) and bool(self.members[number]["finished"])

    def note(self, number: int, history: list[dict[str, Any]] | None = None) -> None:
        """Record that a member begins or, if its log is given, that it is finished."""
        state = {"finished": False} if history is None else {"finished": True, "history": history}
        self.members[number : number + 1] = [state]
        if is_first_process():
            write_json(self.path, {"members": self.members, "run": self.description})

    def history(self, count: int) -> list[dict[str, Any]]:
        """Return the log lines of the members."""
        return [
            {"member": number, **line}
            for number in range(count)
            for line in self.members[number]["history"]
        ]


def _assemble(
    config: TrainConfig, ensemble: EnsembleHead, single: EnsembleHead, splits: Splits
) -> AdapterEnsembleRewardModel:
    """Put the members' adapters on one backbone, with their rewards in one unit.

    Each member got its unit during training, from the same sample of training pairs.
    """
    configs = [member_config(config, number) for number in range(ensemble.num_members)]
    folders = [own.final_path for own in configs]
    units = [_unit_of(folder, single) for folder in folders]
    blank = finetune.build_reward_model(configs[0], make_likelihood(single))
    module = blank.module
    for number, folder in enumerate(folders):
        add_adapter(module, str(folder), config.model_name, single, adapter_name(number))
    module.set_adapter(adapter_name(0))
    module.delete_adapter("default")
    if config.tuning != "qlora":  # a quantised backbone is on its device already
        module.to(finetune.training_arguments(configs[0], validated=False, has_eval=False).device)
    head = dataclasses.replace(
        ensemble,
        location=tuple(value for unit in units for value in unit.location),
        scale=tuple(value for unit in units for value in unit.scale),
    )
    likelihood = make_training_likelihood(config, head, splits.train)
    learned = [load_likelihood(folder, single) for folder in folders]
    likelihood.load_state_dict(
        {
            name.replace("members.0.", f"members.{number}."): value
            for number, part in enumerate(learned)
            for name, value in part.state_dict().items()
        }
    )
    return AdapterEnsembleRewardModel(
        module.eval(),
        blank.tokenizer,
        likelihood,
        blank.max_length,
        base_model=blank.base_model,
    )


def _unit_of(folder: Path, single: EnsembleHead) -> EnsembleHead:
    """Read a trained member's head, with its location and scale."""
    head = HeadFile.load(folder / HEAD_FILE).head
    if head.num_members != 1 or head.member != single.member:
        raise CheckpointError(
            f"{folder} was trained with another head ({head.meaning}) than this run asks for "
            f"({single.meaning}). Train without --resume_from_checkpoint, or give the member's "
            "original options."
        )
    assert isinstance(head, EnsembleHead)
    return head
