"""Fine-tuning on Transformers' Trainer: LoRA, QLoRA or all weights."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import (
    EarlyStoppingCallback,
    PrinterCallback,
    TrainerCallback,
    TrainingArguments,
    set_seed,
)
from transformers.trainer_utils import get_last_checkpoint

from hidden_context.data.chat import install_chat_template
from hidden_context.data.held_out import Splits
from hidden_context.data.labels import labels_for
from hidden_context.data.token_cache import TokenCache
from hidden_context.errors import ConfigError, DataError, MissingFileError
from hidden_context.heads import EnsembleHead, Head
from hidden_context.models.backbone import LoraOptions, build_model
from hidden_context.models.sequence import SequenceRewardModel
from hidden_context.models.tokenizer import length_limit, load_tokenizer, padding_id
from hidden_context.training.config import TrainConfig
from hidden_context.training.dataset import PreferenceDataset
from hidden_context.training.fitted import Fitted, reward_scale
from hidden_context.training.objective import make_objective, member_weights
from hidden_context.training.schedules import PAPER_SCHEDULES
from hidden_context.training.trainer import EngineOptions, PreferenceTrainer

# Names that Transformers has dropped but the paper's commands use.
_OPTIMIZERS = {"adamw_hf": "adamw_torch"}
# Pairs that tell the members' units: their root mean squares vary by a few per cent.
_UNIT_PAIRS = 512


def build_reward_model(config: TrainConfig, head: Head) -> SequenceRewardModel:
    """Build the untrained reward model of a configuration, on the CPU."""
    tokenizer = load_tokenizer(
        config.tokenizer_name or config.model_name,
        revision=None if config.tokenizer_name else config.revision,
        trust_remote_code=config.trust_remote_code,
    )
    install_chat_template(tokenizer, config.chat_template)
    set_seed(config.seed)
    module = build_model(
        config.model_name,
        head,
        tuning=config.tuning,
        lora=LoraOptions(
            config.lora_r,
            config.lora_alpha,
            config.lora_dropout,
            config.lora_target_modules or None,
        ),
        dtype=torch.bfloat16 if config.bf16 else torch.float32,
        revision=config.revision,
        trust_remote_code=config.trust_remote_code,
        pad_token_id=padding_id(tokenizer),
        disable_dropout=config.disable_dropout,
    )
    max_length = length_limit(tokenizer, module.config, config.max_length)
    return SequenceRewardModel(module, tokenizer, head, max_length, base_model=config.model_name)


def training_arguments(
    config: TrainConfig, *, validated: bool, has_eval: bool
) -> TrainingArguments:
    """Translate a configuration into Transformers' arguments.

    Raises:
        ConfigError: If ``training_arguments`` names an unknown argument, or they contradict.
    """
    strategy = "steps" if has_eval else "no"
    values: dict[str, Any] = {
        "output_dir": config.output_dir,
        # one batch of the Trainer is one optimiser step; it is divided by tokens, not by pairs
        "per_device_train_batch_size": config.per_device_train_batch_size
        * config.gradient_accumulation_steps,
        "gradient_accumulation_steps": 1,
        "lr_scheduler_type": (
            "constant" if config.lr_scheduler_type in PAPER_SCHEDULES else config.lr_scheduler_type
        ),
        "optim": _OPTIMIZERS.get(config.optim, config.optim),
        "eval_strategy": strategy,
        "eval_on_start": config.eval_first_step and has_eval,
        "save_strategy": "steps",
        "load_best_model_at_end": validated,
        "metric_for_best_model": "eval_loss" if validated else None,
        "greater_is_better": False if validated else None,
        "remove_unused_columns": False,
        "label_names": ["row"],
        "use_cpu": not torch.accelerator.is_available(),
        "report_to": config.report_to or "none",
        "dataloader_pin_memory": torch.cuda.is_available(),
        "push_to_hub": False,
    }
    for name in (
        "per_device_eval_batch_size",
        "learning_rate",
        "weight_decay",
        "num_train_epochs",
        "max_steps",
        "bf16",
        "seed",
        "logging_steps",
        "eval_steps",
        "save_steps",
        "save_total_limit",
        "disable_tqdm",
        "deepspeed",
    ):
        values[name] = getattr(config, name)
    values["disable_tqdm"] = config.disable_tqdm or config.quiet
    known = set(inspect.signature(TrainingArguments).parameters)
    # Transformers is renaming gradient to activation checkpointing
    checkpointing = "activation" if "activation_checkpointing" in known else "gradient"
    values[f"{checkpointing}_checkpointing"] = config.gradient_checkpointing
    values[f"{checkpointing}_checkpointing_kwargs"] = {"use_reentrant": False}
    unknown = sorted(set(config.training_arguments) - known)
    if unknown:
        raise ConfigError(f"TrainingArguments has no argument {', '.join(unknown)}.")
    values.update(config.training_arguments)
    try:
        return TrainingArguments(**values)
    except ValueError as error:
        raise ConfigError(f"these training arguments cannot work together: {error}") from error


def resume_wanted(config: TrainConfig) -> bool | str:
    """Read ``resume_from_checkpoint``: whether to go on from the last checkpoint, or which one."""
    wanted = str(config.resume_from_checkpoint or "false")
    if wanted.lower() in ("false", "no", "0", "none"):
        return False
    return wanted.lower() in ("true", "yes", "1") or wanted


def last_checkpoint(folder: str | Path) -> str | None:
    """Folder of the last checkpoint within a run's folder, or None."""
    return get_last_checkpoint(str(folder)) if Path(folder).is_dir() else None


def resume_point(config: TrainConfig) -> str | None:
    """Folder of the checkpoint to go on from, or None.

    Raises:
        MissingFileError: If there is none where one was asked for.
    """
    wanted = resume_wanted(config)
    if wanted is False:
        return None
    if wanted is True:
        last = last_checkpoint(config.output_dir)
        if last is None:
            raise MissingFileError(
                f"{config.output_dir}/checkpoint-*", "Nothing to resume: train without it first"
            )
        return last
    if not Path(wanted).is_dir():
        raise MissingFileError(wanted, "Give --resume_from_checkpoint a checkpoint's folder")
    return wanted


def fit(
    config: TrainConfig,
    head: Head,
    splits: Splits,
    callbacks: Sequence[TrainerCallback] = (),
    *,
    member_weight: Tensor | None = None,
) -> Fitted:
    """Fine-tune a reward model; see ``training.run``.

    Args:
        config: The options.
        head: The head.
        splits: The pairs.
        callbacks: Further Trainer callbacks.
        member_weight: How often each of M members sees each of N training pairs, ``(N, M)``; None
            draws it as the configuration has it.
    """
    resume = resume_point(config)
    model = build_reward_model(config, head)
    model.objective = make_objective(config, head, splits.train)
    if member_weight is None:
        member_weight = member_weights(config, head, splits.train)
    datasets = tokenize_splits(config, splits, model, member_weight)
    chosen_by = datasets.get("validation") or datasets.get("test")
    arguments = training_arguments(
        config, validated="validation" in datasets, has_eval=chosen_by is not None
    )
    stopping = (
        [EarlyStoppingCallback(config.early_stopping_patience)]
        if config.early_stopping_patience
        else []
    )
    trainer = PreferenceTrainer(
        model,
        EngineOptions(
            config.engine,
            config.tokens_per_batch,
            config.length_window,
            config.pad_to_multiple_of,
        ),
        schedule=config.lr_scheduler_type,
        objective_learning_rate=config.objective_learning_rate,
        annotator_warmup=config.annotator_warmup,
        args=arguments,
        train_dataset=datasets["train"],
        eval_dataset=chosen_by,
        callbacks=[*callbacks, *stopping],
    )
    if config.quiet:
        trainer.remove_callback(PrinterCallback)
    trainer.train(resume_from_checkpoint=resume)
    if isinstance(model.head, EnsembleHead):
        model.set_head(_in_one_unit(model.head, model, datasets["train"]))
    metrics = _final_metrics(config, trainer, datasets, model)
    model.objective.cpu()
    return Fitted(
        model,
        metrics,
        [dict(line) for line in trainer.state.log_history],
        {name: len(part) for name, part in datasets.items()},
    )


def tokenize_splits(
    config: TrainConfig,
    splits: Splits,
    model: SequenceRewardModel,
    member_weight: Tensor | None = None,
) -> dict[str, PreferenceDataset]:
    """Tokenize the sets of a run, bringing their reports up to date.

    Args:
        config: The options.
        splits: The pairs.
        model: Whose tokenizer, longest text and objective they are made for.
        member_weight: How often each member of an ensemble sees each training pair.

    Returns:
        The sets that have pairs left.

    Raises:
        DataError: If no training pairs are left.
    """
    cache = TokenCache(config.cache_dir)
    parts = {"train": splits.train, "validation": splits.validation, "test": splits.test}
    datasets = {
        name: PreferenceDataset(
            pairs,
            model.tokenizer,
            model.max_length,
            config.over_length,
            report=splits.reports.get(name),
            sort_by_length=name != "train",
            cache=cache,
            labels=labels_for(model.objective, pairs),
            member_weight=member_weight if name == "train" else None,
        )
        for name, pairs in parts.items()
        if pairs
    }
    if not len(datasets.get("train", ())):
        report = splits.reports.get("train")
        raise DataError(
            "no training pairs are left" + (f": {report}" if report else ""),
            remedy="Raise --max_length, or look at what was dropped and why",
        )
    return {name: part for name, part in datasets.items() if len(part)}


def _in_one_unit(
    head: EnsembleHead, model: SequenceRewardModel, dataset: PreferenceDataset
) -> EnsembleHead:
    """Bring an ensemble's members to one unit by a sample of the training pairs."""
    places = range(0, len(dataset), -(-len(dataset) // _UNIT_PAIRS))
    items = [dataset[place] for place in places]
    raw = [
        model.raw_outputs_of_tokens([item[side] for item in items])
        for side in ("chosen", "rejected")
    ]
    return head.in_one_unit(*raw)


def _final_metrics(
    config: TrainConfig,
    trainer: PreferenceTrainer,
    datasets: Mapping[str, PreferenceDataset],
    model: SequenceRewardModel,
) -> dict[str, float]:
    if not config.evaluate_at_end or "test" not in datasets:
        return {}
    metrics = trainer.evaluate(datasets["test"], metric_key_prefix="test")
    model.reward_scale = reward_scale(model.head, trainer.last_raw_outputs.flatten(0, 1))
    skipped = ("runtime", "per_second", "epoch")
    return {
        name.removeprefix("test_"): float(value)
        for name, value in metrics.items()
        if not any(word in name for word in skipped)
    }
