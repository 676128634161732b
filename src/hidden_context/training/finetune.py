"""Fine-tuning a sequence classifier: LoRA, QLoRA or all weights."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import (
    EarlyStoppingCallback,
    TrainerCallback,
    TrainingArguments,
    set_seed,
)

from hidden_context.data.example import Example
from hidden_context.data.splits.held_out import Splits
from hidden_context.data.tokens.cache import TokenCache
from hidden_context.data.tokens.tokenize import tokenize_examples
from hidden_context.errors import ConfigError, DataError
from hidden_context.heads import Head
from hidden_context.likelihood import Likelihood
from hidden_context.models.network.backbone import LoraOptions, build_model
from hidden_context.models.network.tokenizer import length_limit, padding_id
from hidden_context.models.sequence import SequenceRewardModel
from hidden_context.training import fitted
from hidden_context.training import labels as labelling
from hidden_context.training.config import TrainConfig
from hidden_context.training.dataset import ExampleDataset, load_run_tokenizer
from hidden_context.training.loop import TrainingLoop
from hidden_context.training.resume import resume_point
from hidden_context.training.schedules import PAPER_SCHEDULES

# Names that Transformers has dropped but the paper's commands use.
_OPTIMIZERS = {"adamw_hf": "adamw_torch"}
# Arguments that Transformers' own Trainer uses, but that would change nothing here.
_NOT_TAKEN = {
    *("fsdp", "fsdp_config", "parallelism_config", "accelerator_config"),
    *("torch_compile", "torch_compile_backend", "torch_compile_mode"),
    *("use_liger_kernel", "liger_kernel_config", "neftune_noise_alpha", "label_smoothing_factor"),
    *("auto_find_batch_size", "train_sampling_strategy", "full_determinism", "ignore_data_skip"),
    *("save_only_model", "enable_jit_checkpoint", "bf16_full_eval", "fp16_full_eval"),
    "bf16",
}
# Options that become Transformers' arguments of the same name.
_SAME_NAME = (
    *("output_dir", "per_device_eval_batch_size", "learning_rate", "weight_decay", "max_steps"),
    *("num_train_epochs", "bf16", "seed", "logging_steps", "eval_steps", "save_steps"),
    *("save_total_limit", "deepspeed"),
)
# Number of examples that set the members' units: root mean squares then vary by a few per cent.
_UNIT_EXAMPLES = 512


def build_reward_model(config: TrainConfig, likelihood: Likelihood) -> SequenceRewardModel:
    """Build the untrained reward model of a configuration, on the CPU."""
    tokenizer = load_run_tokenizer(config)
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
            arguments contradict each other.
    """
    paper = config.lr_scheduler_type in PAPER_SCHEDULES
    values: dict[str, Any] = {name: getattr(config, name) for name in _SAME_NAME} | {
        # an optimiser step is this many votes; the token budget divides it into passes
        "per_device_train_batch_size": config.per_device_train_batch_size
        * config.gradient_accumulation_steps,
        "lr_scheduler_type": "constant" if paper else config.lr_scheduler_type,
        "optim": _OPTIMIZERS.get(config.optim, config.optim),
        "eval_strategy": "steps" if has_eval else "no",
        "eval_on_start": config.eval_first_step and has_eval,
        "save_strategy": "steps",
        "load_best_model_at_end": validated,
        "metric_for_best_model": "eval_loss" if validated else None,
        "greater_is_better": False if validated else None,
        "remove_unused_columns": False,
        "use_cpu": not torch.accelerator.is_available(),
        "report_to": config.report_to or "none",
        "dataloader_pin_memory": torch.cuda.is_available(),
        "disable_tqdm": config.disable_tqdm or config.quiet,
    }
    known = set(inspect.signature(TrainingArguments).parameters)
    unknown = sorted(set(config.training_arguments) - known)
    if unknown:
        raise ConfigError(f"TrainingArguments has no argument {', '.join(unknown)}.")
    not_taken = sorted(_NOT_TAKEN & set(config.training_arguments))
    if not_taken:
        instead = "; bfloat16 is --precision bfloat16" if "bf16" in not_taken else ""
        raise ConfigError(f"this training loop does not take {', '.join(not_taken)}{instead}.")
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


def fit(
    config: TrainConfig,
    head: Head,
    splits: Splits,
    callbacks: Sequence[TrainerCallback] = (),
    description: Mapping[str, Any] | None = None,
    *,
    draws: Tensor | None = None,
) -> fitted.Fitted:
    """Fine-tune a reward model; see ``training.run``.

    Args:
        config: The options.
        head: The head.
        splits: The examples.
        callbacks: Further callbacks of Transformers' kind.
        description: Options and data of the run, kept in its checkpoints.
        draws: How often each of M members sees each of E training examples, ``(E, M)``; None draws
            it as the configuration has it.
    """
    resume = resume_point(config)
    model = build_reward_model(
        config, labelling.make_training_likelihood(config, head, splits.train)
    )
    if draws is None:
        draws = labelling.member_draws(config, head, splits.train)
    datasets = tokenize_splits(config, splits, model, draws)
    left = {name: dataset.examples for name, dataset in datasets.items()}
    fitted.check_remaining(config, model.likelihood, splits, left)
    chosen_by = datasets.get("validation") or datasets.get("test")
    arguments = training_arguments(
        config, validated="validation" in datasets, has_eval=chosen_by is not None
    )
    judged = chosen_by is not None and chosen_by.labels.num_judgements > 0
    if arguments.load_best_model_at_end and not judged:
        raise DataError(
            "no validation example has a judgement that the model learns from, so no checkpoint "
            "can be chosen",
            remedy="Leave --validation_fraction out, or give ratings an --anchor_weight",
        )
    patience = config.early_stopping_patience
    stopping = [EarlyStoppingCallback(patience)] if patience else []
    loop = TrainingLoop(
        model,
        arguments,
        config,
        datasets["train"],
        chosen_by,
        [*callbacks, *stopping],
        description,
    )
    loop.train(resume)
    if model.head.num_members:
        train = datasets["train"]
        rows = range(0, len(train), -(-len(train) // _UNIT_EXAMPLES))
        raw = loop.runner.raw_outputs_of(train, len(rows), rows)
        fitted.bring_to_one_unit(model.likelihood, raw, train.batch(rows).labels)
    metrics: dict[str, float] = {}
    if config.evaluate_at_end and "test" in datasets:
        metrics = loop.metrics_of(datasets["test"])
        model.reward_scale = fitted.reward_scale(model.head, loop.raw_outputs_of(datasets["test"]))
    loop.finish()
    model.likelihood.cpu()
    return fitted.Fitted(
        model,
        metrics,
        [dict(line) for line in loop.state.log_history],
        {name: len(part) for name, part in datasets.items()},
    )


def tokenize_splits(
    config: TrainConfig,
    splits: Splits,
    model: SequenceRewardModel,
    draws: Tensor | None = None,
) -> dict[str, ExampleDataset]:
    """Tokenize the splits of a run and update their reports.

    Args:
        config: The options.
        splits: The examples.
        model: Model whose tokenizer, maximum length and likelihood are used.
        draws: How often each member of an ensemble sees each training example.

    Returns:
        The sets that have examples left.

    Raises:
        DataError: If no training examples are left.
    """
    cache = TokenCache(config.cache_dir)

    def tokenize(name: str, examples: Sequence[Example]) -> ExampleDataset:
        tokens = tokenize_examples(
            examples,
            model.tokenizer,
            model.max_length,
            config.over_length,
            report=splits.reports.get(name),
            cache=cache,
            on_malformed=config.on_malformed,
        )
        if name != "train":
            labels = labelling.read_labels(model.likelihood, tokens.examples)
            return ExampleDataset(tokens, labels, sort_by_length=True)
        labels = labelling.training_labels(config, model.likelihood, tokens.examples)
        if draws is not None:
            labels = dataclasses.replace(
                labels, draws=draws[torch.tensor(tokens.indices, dtype=torch.long)]
            )
        linker = labelling.make_linker(config, model.likelihood, tokens.examples)
        return ExampleDataset(tokens, labels, linker)

    parts = {"train": splits.train, "validation": splits.validation, "test": splits.test}
    datasets = {name: tokenize(name, examples) for name, examples in parts.items() if examples}
    fitted.check_trainable(splits, datasets)
    return {name: part for name, part in datasets.items() if len(part)}
