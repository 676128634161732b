"""Configuration of a training run; every field is also a flag of ``hidden-context train``."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, Final, Literal

from hidden_context.config import (
    FORMERLY_BF16,
    POSITIVE,
    SHARE,
    SPLIT_BALANCE_HELP,
    ComputeOptions,
    ReadOptions,
    check_options,
    option,
)
from hidden_context.errors import ConfigError

UP_TO_ONE: Final = (lambda value: 0 <= value <= 1, "lie in [0, 1]")


@dataclasses.dataclass(frozen=True)
class DataOptions(ReadOptions):
    """Data and splits."""

    data_path: str = option(
        "Anthropic/hh-rlhf",
        "hub id, folder or file of preference data (JSONL, parquet, csv)",
        common=True,
    )
    train_split: str = option("train", "split to train on")
    eval_split: str = option("test", "split to evaluate on")
    eval_fraction: float | None = option(
        None, "share of prompts held out; if unset, a tenth of a single table", must=SHARE
    )
    validation_fraction: float = option(
        0.0, "share of training prompts held out to choose the best checkpoint", must=SHARE
    )
    split_balance: str | None = option(None, SPLIT_BALANCE_HELP, bare="true")
    min_judgements: int = option(0, "stop with fewer judgements than this; 0 for off", least=0)
    train_dataset_size: int = option(0, "number of training examples; 0 for all", least=0)
    eval_dataset_size: int = option(0, "number of evaluation examples; 0 for all", least=0)


@dataclasses.dataclass(frozen=True)
class BackboneOptions:
    """Backbone, texts and what is trained."""

    model_name: str = option("gpt2", "hub id or folder of the backbone", common=True)
    tokenizer_name: str | None = option(None, "tokenizer; the backbone's if unset")
    revision: str | None = option(None, "branch, tag or commit of the backbone")
    trust_remote_code: bool = option(False, "run code from the model's repository")
    chat_template: str | None = option(None, "template (text or file) if the tokenizer has none")
    max_length: int = option(1024, "longest text in tokens", least=1)
    over_length: Literal["drop", "truncate"] = option(
        "drop", "what to do with longer responses, which are counted"
    )
    tuning: Literal["lora", "full", "qlora"] = option("lora", "what is trained", common=True)
    lora_r: int = option(8, "rank of LoRA adapters")
    lora_alpha: int = option(32, "scale of LoRA adapters")
    lora_dropout: float = option(0.0, "dropout before LoRA adapters")
    lora_target_modules: list[str] = option([], "layers to adapt, or all-linear; else PEFT's")
    disable_dropout: bool = option(True, "switch off the backbone's dropout")


@dataclasses.dataclass(frozen=True)
class HeadOptions:
    """Head and ensembles."""

    reward_model_type: str = option(
        "base", "head: base, mean_and_variance, categorical, factor, mixture, quantile", common=True
    )
    num_atoms: int = option(10, "atoms of a categorical or quantile head")
    num_factors: int = option(1, "factors of a factor head")
    num_components: int = option(3, "normal components of a mixture head")
    entropy_coeff: float = option(0.1, "entropy bonus of a categorical head's batch mean")
    variance_penalty: float = option(0.0, "penalty on variance (mean_and_variance, factor)")
    likelihood: Literal["probit", "logistic"] = option(
        "probit",
        "comparisons by a mean-and-variance head: exact (probit), or logistic as the paper",
    )
    head_options: dict[str, Any] = option({}, "further options of the head, as JSON")
    ensemble: Literal["none", "heads", "lora"] = option(
        "none", "members that measure model uncertainty: heads, or LoRA adapters"
    )
    ensemble_members: int = option(5, "members of an ensemble", least=1)
    ensemble_prior_scale: float = option(1.0, "scale of the members' random start")
    ensemble_bootstrap: bool = option(True, "give each member a bootstrap sample of the prompts")


@dataclasses.dataclass(frozen=True)
class LabelOptions:
    """Labels and annotators."""

    outcomes: Literal["preference", "ties", "five_levels", "seven_levels"] = option(
        "preference", "possible answers: a side, a side or a tie, or a strength"
    )
    margin_scale: float = option(
        0.0, "reward units per unit of the column margin; 0 ignores margins, 1 is TRL's way"
    )
    annotators: Literal["ignore", "variational", "map"] = option(
        "ignore", "learn how annotators differ: see --annotator_effects", common=True
    )
    annotator_effects: list[str] = option(
        [],
        "what differs between annotators: taste (what each cares for; a factor head), sharpness, "
        "readiness (to say equal; --outcomes ties), position (of the response shown first). If "
        "unset: taste with a factor head, readiness with ties",
    )
    annotator_covariates: str | None = option(
        None, "file of known facts about annotators, one JSON row for each annotator"
    )
    annotator_warmup: float = option(
        0.25, "share of training over which the annotators' prior sets in", must=UP_TO_ONE
    )
    annotator_column: str = option("annotator", "column that says who judged")
    weigh_by: Literal["vote", "example"] = option(
        "vote", "what counts equally in the loss: every vote or every example"
    )
    anchor_weight: float | None = option(
        None,
        "weight of a rating beside a comparison; if unset, 1 where the data hold only ratings, "
        "else 0",
        least=0,
    )
    ratings: Literal["gaussian", "ordinal"] = option(
        "gaussian", "read ratings as noisy numbers, or as grades with nothing but an order"
    )
    rating_styles: bool = option(True, "learn the level and unit of each named annotator's ratings")
    max_comparisons: int = option(
        0, "pairs of one annotator's ratings compared in a step; 0 for none", least=0
    )
    objective_learning_rate: float = option(
        0.02, "learning rate of thresholds, annotators and the noise of ratings", must=POSITIVE
    )


@dataclasses.dataclass(frozen=True)
class EngineOptions(ComputeOptions):
    """Speed, memory and precision."""

    engine: Literal["auto", "tree", "padded"] = option(
        "auto",
        "tree runs a prompt once, padded once for each response; auto takes tree if it is right "
        "for the model",
    )
    merge_prompts: bool = option(True, "run all responses to one prompt together, each once")
    length_window: int = option(
        50, "steps whose examples are sorted by length together; 0 for random order", least=0
    )
    precision: Literal["auto", "float32", "bfloat16"] = option(
        "auto",
        "what the backbone computes in; auto: bfloat16 where it is measured to be faster. The head "
        "stays float32",
        formerly=FORMERLY_BF16,
    )
    gradient_checkpointing: bool = option(False, "trade compute for memory")
    pad_to_multiple_of: int = option(8, "tokens to pad to a multiple of (padded)", least=1)
    deepspeed: str | None = option(None, "DeepSpeed configuration file")
    local_rank: int = option(-1, "set by launchers; kept for compatibility")
    cache_dir: str | None = option(None, "folder of cached token ids and features")


@dataclasses.dataclass(frozen=True)
class FrozenOptions:
    """A probe on a frozen backbone."""

    freeze_backbone: bool = option(
        False, "train only a small network on cached features of the frozen backbone", common=True
    )
    pooling: Literal["mean", "last"] = option("mean", "pooling of a frozen backbone's features")
    embed: Literal["apart", "response", "together"] = option(
        "apart", "embed last human turn and response separately, the response, or both together"
    )
    feature_layer: int | None = option(
        None, "hidden states that are pooled (-1: the last layer's); if unset, two thirds deep"
    )
    baselines: bool = option(
        True, "report a constant, length, logistic and ridge regression on the same features"
    )
    probe_linear: bool = option(True, "start the probe from a logistic regression")
    probe_hidden: int = option(64, "hidden units of the probe; 0 for a linear one")
    probe_dropout: float = option(0.5, "dropout of the probe's hidden layer")
    probe_members: int = option(5, "probes averaged; each holds out other prompts", least=1)
    probe_learning_rate: float = option(5e-4, "learning rate of the probe", must=POSITIVE)
    probe_weight_decay: float = option(1.0, "weight decay of the probe's weights", least=0)
    probe_batch_size: int = option(256, "votes per step of the probe", least=1)
    probe_epochs: int = option(40, "maximum number of passes over the training examples", least=1)
    probe_early_stopping: bool = option(True, "choose each member's epoch by held-out prompts")
    probe_patience: int = option(6, "epochs without improvement before stopping", least=1)


@dataclasses.dataclass(frozen=True)
class OptimisationOptions:
    """Optimisation."""

    per_device_train_batch_size: int = option(
        8, "votes per device; times gradient_accumulation_steps for a step", least=1, common=True
    )
    per_device_eval_batch_size: int = option(16, "examples per device in evaluation", least=1)
    gradient_accumulation_steps: int = option(1, "multiplies the votes of a step", least=1)
    learning_rate: float = option(1e-4, "peak learning rate", must=POSITIVE, common=True)
    weight_decay: float = option(0.001, "weight decay")
    num_train_epochs: float = option(1, "passes over the training examples", common=True)
    max_steps: int = option(-1, "optimiser steps, overriding epochs if positive")
    lr_scheduler_type: str = option(
        "cosine", "cosine (to a tenth), step (1, 0.1, 0.01), or any name Transformers knows"
    )
    optim: str = option("adamw_torch", "optimiser, by Transformers' names")
    seed: int = option(0, "seed of weights, order and dropout")
    early_stopping_patience: int = option(
        0, "evaluations without improvement before stopping; needs a validation fraction", least=0
    )
    training_arguments: dict[str, Any] = option(
        {}, 'further TrainingArguments as JSON, such as {"warmup_steps": 100}'
    )


@dataclasses.dataclass(frozen=True)
class OutputOptions:
    """Output, logs and checkpoints."""

    output_dir: str = option("results/train", "folder of checkpoints and logs", common=True)
    final_dir: str | None = option(None, "folder of the trained model; OUTPUT_DIR/final if unset")
    logging_steps: int = option(10, "steps between log lines", least=1)
    eval_steps: int = option(1000, "steps between evaluations", least=1)
    save_steps: int = option(1000, "steps between checkpoints", least=1)
    save_total_limit: int | None = option(None, "number of checkpoints kept")
    eval_first_step: bool = option(False, "evaluate before training too")
    evaluate_at_end: bool = option(True, "evaluate the final model on the evaluation examples")
    resume_from_checkpoint: str | None = option(
        None, "true for the last checkpoint of OUTPUT_DIR, or a checkpoint's folder"
    )
    report_to: list[str] = option([], "experiment trackers, as Transformers names them")
    disable_tqdm: bool = option(False, "no progress bars")
    quiet: bool = option(False, "no progress bars and no log lines on the terminal")
    push_to_hub: bool = option(False, "upload the trained model")
    hub_model_id: str | None = option(None, "repository to upload to")


@dataclasses.dataclass(frozen=True)
class TrainConfig(
    # a dataclass takes the fields of its last base first
    OutputOptions,
    OptimisationOptions,
    FrozenOptions,
    EngineOptions,
    LabelOptions,
    HeadOptions,
    BackboneOptions,
    DataOptions,
):
    """Options of ``training.run``; the help texts describe the fields."""

    def __post_init__(self) -> None:
        check_options(self)
        if not self.margin_scale >= 0 or (self.margin_scale and self.outcomes != "preference"):
            raise ConfigError(
                f"--margin_scale is {self.margin_scale}; it has to be ≥ 0, and 0 with more than 2 "
                "levels (--outcomes)."
            )
        if not self.num_train_epochs > 0 and self.max_steps <= 0:
            raise ConfigError(
                f"--num_train_epochs is {self.num_train_epochs}; it must be positive, unless "
                "--max_steps is."
            )
        if self.early_stopping_patience and not self.validation_fraction:
            raise ConfigError(
                "--early_stopping_patience needs --validation_fraction: stopping on the test set "
                "would choose the model by the data it is judged on."
            )
        if self.ensemble == "lora" and self.freeze_backbone:
            raise ConfigError(
                "--ensemble lora trains adapters, and --freeze_backbone has none: a probe's "
                "members are separate networks already, so take --ensemble heads."
            )
        if self.ensemble == "lora" and self.tuning == "full":
            raise ConfigError(
                "--ensemble lora trains adapters, so --tuning full does not fit: take --tuning "
                "lora or qlora, or --ensemble heads."
            )

    @property
    def bf16(self) -> bool:
        """Whether the backbone computes in bfloat16; False while ``precision`` is ``auto``."""
        return self.precision == "bfloat16"

    @property
    def final_path(self) -> Path:
        """Folder of the trained model."""
        return Path(self.final_dir) if self.final_dir else Path(self.output_dir) / "final"
