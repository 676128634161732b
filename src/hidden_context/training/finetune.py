"""Fine-tuning a sequence classifier: LoRA, QLoRA or all weights."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Sequence
from functools import partial
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

from hidden_context.data.chat import install_chat_template
from hidden_context.data.example import Example
from hidden_context.data.held_out import Splits
from hidden_context.data.token_cache import TokenCache
from hidden_context.errors import ConfigError, DataError, MissingFileError
from hidden_context.heads import Head
from hidden_context.likelihood import Labels, Likelihood
from hidden_context.models.backbone import LoraOptions, build_model
from hidden_context.models.sequence import SequenceRewardModel
from hidden_context.models.tokenizer import length_limit, load_tokenizer, padding_id
from hidden_context.training.checkpoints import last_checkpoint
from hidden_context.training.config import TrainConfig
from hidden_context.training.dataset import ExampleDataset
from hidden_context.training.fitted import Fitted, reward_scale
from hidden_context.training.labels import (
    make_linker,
    make_training_likelihood,
    member_draws,
    read_labels,
    training_labels,
)
from hidden_context.training.loop import TrainingLoop
from hidden_context.training.options import EngineOptions, LoopOptions
from hidden_context.training.schedules import PAPER_SCHEDULES

# Names that Transformers has dropped but the paper's commands use.
_OPTIMIZERS = {"adamw_hf": "adamw_torch"}
# Transformers' own Trainer knows what to do with these; here they would change nothing.
_NOT_TAKEN = {
    *("fsdp", "fsdp_config", "parallelism_config", "accelerator_config"),
    *("torch_compile", "torch_compile_backend", "torch_compile_mode"),
    *("use_liger_kernel", "liger_kernel_config", "neftune_noise_alpha", "label_smoothing_factor"),
    *("auto_find_batch_size", "train_sampling_strategy", "full_determinism", "ignore_data_skip"),
    *("save_only_model", "enable_jit_checkpoint", "bf16_full_eval", "fp16_full_eval"),
}
# Examples that tell the members' units: their root mean squares vary by a few per cent.
_UNIT_EXAMPLES = 512


def build_reward_model(config: TrainConfig, likelihood: Likelihood) -> SequenceRewardModel:
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
        likelihood.head,
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
    return SequenceRewardModel(
        module, tokenizer, likelihood, max_length, base_model=config.model_name
    )


def training_arguments(
    config: TrainConfig, *, validated: bool, has_eval: bool
) -> TrainingArguments:
    """Translate a configuration into Transformers' arguments.

    Raises:
        ConfigError: If ``training_arguments`` names an argument that is unknown or not taken, or
            they contradict.
    """
    strategy = "steps" if has_eval else "no"
    values: dict[str, Any] = {
        "output_dir": config.output_dir,
        # an optimiser step is so many votes; it is divided by tokens
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
    unknown = sorted(set(config.training_arguments) - known)
    if unknown:
        raise ConfigError(f"TrainingArguments has no argument {', '.join(unknown)}.")
    not_taken = sorted(_NOT_TAKEN & set(config.training_arguments))
    if not_taken:
        raise ConfigError(f"this training loop does not take {', '.join(not_taken)}.")
    values.update(config.training_arguments)
    try:
        arguments = TrainingArguments(**values)
    except ValueError as error:
        raise ConfigError(f"these training arguments cannot work together: {error}") from error
    if arguments.gradient_accumulation_steps != 1:
        raise ConfigError(
            "gradient_accumulation_steps has to be 1 in training_arguments: a step is a number of "
            "votes, and tokens_per_batch divides it into forward passes. "
            "--gradient_accumulation_steps multiplies the votes."
        )
    return arguments


def resume_wanted(config: TrainConfig) -> bool | str:
    """Read ``resume_from_checkpoint``: whether to go on from the last checkpoint, or which one."""
    wanted = str(config.resume_from_checkpoint or "false")
    if wanted.lower() in ("false", "no", "0", "none"):
        return False
    return wanted.lower() in ("true", "yes", "1") or wanted


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
    draws: Tensor | None = None,
) -> Fitted:
    """Fine-tune a reward model; see ``training.run``.

    Args:
        config: The options.
        head: The head.
        splits: The examples.
        callbacks: Further callbacks of Transformers' kind.
        draws: How often each of M members sees each of E training examples, ``(E, M)``; None draws
            it as the configuration has it.
    """
    resume = resume_point(config)
    model = build_reward_model(config, make_training_likelihood(config, head, splits.train))
    if draws is None:
        draws = member_draws(config, head, splits.train)
    datasets = tokenize_splits(config, splits, model, draws)
    chosen_by = datasets.get("validation") or datasets.get("test")
    arguments = training_arguments(
        config, validated="validation" in datasets, has_eval=chosen_by is not None
    )
    if arguments.load_best_model_at_end and not _can_choose(chosen_by):
        raise DataError(
            "the validation examples say nothing of the model: none has a judgement that it reads",
            remedy="Leave --validation_fraction out, or give ratings an --anchor_weight",
        )
    patience = config.early_stopping_patience
    stopping = [EarlyStoppingCallback(patience)] if patience else []
    options = LoopOptions(
        EngineOptions(
            config.engine, config.tokens_per_batch, config.length_window, config.pad_to_multiple_of
        ),
        config.lr_scheduler_type,
        config.objective_learning_rate,
        config.annotator_warmup,
        int(model.module.num_parameters(exclude_embeddings=True)),
        config.gradient_checkpointing or _checkpoints(arguments),
    )
    loop = TrainingLoop(
        model, arguments, options, datasets["train"], chosen_by, [*callbacks, *stopping]
    )
    if config.quiet:
        loop.handler.remove_callback(PrinterCallback)
    loop.train(resume)
    _bring_to_one_unit(model, datasets["train"])
    metrics: dict[str, float] = {}
    if config.evaluate_at_end and "test" in datasets:
        metrics = loop.metrics_of(datasets["test"])
        model.reward_scale = reward_scale(model.head, loop.raw_outputs_of(datasets["test"]))
    model.likelihood.cpu()
    return Fitted(
        model,
        metrics,
        [dict(line) for line in loop.state.log_history],
        {name: len(part) for name, part in datasets.items()},
    )


def _can_choose(data: ExampleDataset | None) -> bool:
    return data is not None and data.labels.num_judgements > 0


def _checkpoints(arguments: TrainingArguments) -> bool:
    """Whether ``training_arguments`` ask for gradient checkpointing, by its older or newer name."""
    names = ("activation_checkpointing", "gradient_checkpointing")
    return any(bool(getattr(arguments, name, False)) for name in names)


def tokenize_splits(
    config: TrainConfig,
    splits: Splits,
    model: SequenceRewardModel,
    draws: Tensor | None = None,
) -> dict[str, ExampleDataset]:
    """Tokenize the sets of a run, bringing their reports up to date.

    Args:
        config: The options.
        splits: The examples.
        model: Whose tokenizer, longest text and likelihood they are made for.
        draws: How often each member of an ensemble sees each training example.

    Returns:
        The sets that have examples left.

    Raises:
        DataError: If no training examples are left.
    """
    cache = TokenCache(config.cache_dir)

    def tokenize(name: str, examples: Sequence[Example]) -> ExampleDataset:
        training = name == "train"
        linked = training and config.max_comparisons > 0
        return ExampleDataset(
            examples,
            model.tokenizer,
            model.max_length,
            partial(_labels, config if training else None, model.likelihood, draws),
            config.over_length,
            report=splits.reports.get(name),
            sort_by_length=not training,
            cache=cache,
            linker=partial(make_linker, config, model.likelihood) if linked else None,
        )

    parts = {"train": splits.train, "validation": splits.validation, "test": splits.test}
    datasets = {name: tokenize(name, examples) for name, examples in parts.items() if examples}
    if not len(datasets.get("train", ())):
        report = splits.reports.get("train")
        raise DataError(
            "no training examples are left" + (f": {report}" if report else ""),
            remedy="Raise --max_length, or look at what was dropped and why",
        )
    return {name: part for name, part in datasets.items() if len(part)}


def _labels(
    config: TrainConfig | None,
    likelihood: Likelihood,
    draws: Tensor | None,
    indices: Sequence[int],
    examples: Sequence[Example],
) -> Labels:
    """Labels of the examples that are left; to train on, by a configuration, with their draws."""
    if config is None:
        return read_labels(likelihood, examples)
    labels = training_labels(config, likelihood, examples)
    if draws is None:
        return labels
    return dataclasses.replace(labels, draws=draws[torch.tensor(indices)])


def _bring_to_one_unit(model: SequenceRewardModel, dataset: ExampleDataset) -> None:
    """Bring an ensemble's members to one unit by a sample of the training comparisons."""
    if not model.head.num_members:
        return
    rows = range(0, len(dataset), -(-len(dataset) // _UNIT_EXAMPLES))
    batch = dataset.batch(rows)
    raw = model.raw_outputs_of_tokens([ids for tokens in batch.tokens for ids in tokens])
    compared = batch.labels.comparisons
    if len(compared):
        likelihood = model.likelihood
        likelihood.head = likelihood.head.in_one_unit(raw[compared.first], raw[compared.second])
