"""Configuration of a training run; every field is also a flag of ``hidden-context train``."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, Literal

from hidden_context.config import (
    FORMERLY_BF16,
    SPLIT_BALANCE_HELP,
    SPLIT_BY_HELP,
    THREADS_HELP,
    check_options,
    option,
)
from hidden_context.errors import ConfigError


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """Options of ``training.run``. Fields are described by their help texts."""

    # data
    data_path: str = option(
        "Anthropic/hh-rlhf", "hub id, folder or file of preference data (JSONL, parquet, csv)"
    )
    data_subset: str = option("both", "both, helpful or harmless, or another subset's name")
    train_split: str = option("train", "split to train on")
    eval_split: str = option("test", "split to evaluate on")
    eval_fraction: float | None = option(
        None,
        "share of prompts held out for evaluation where one split is all there is; 0 for none, "
        "a tenth of a single table if unset",
    )
    validation_fraction: float = option(
        0.0, "share of training prompts held out to choose the best checkpoint"
    )
    split_by: str | None = option(None, SPLIT_BY_HELP)
    split_balance: str | None = option(None, SPLIT_BALANCE_HELP, bare="true")
    min_judgements: int = option(
        0, "stop where fewer votes are left to train on; 0 for off", least=0
    )
    train_dataset_size: int = option(0, "number of training examples; 0 for all", least=0)
    eval_dataset_size: int = option(0, "number of evaluation examples; 0 for all", least=0)
    on_malformed: Literal["error", "skip"] = option(
        "error", "what to do at a malformed row: stop, or skip it and count"
    )
    max_length: int = option(1024, "longest text in tokens", least=1)
    over_length: Literal["drop", "truncate"] = option(
        "drop", "what to do with longer responses (counted either way)"
    )
    merge_prompts: bool = option(
        True, "run the responses of all training rows with one prompt together, each once"
    )
    chat_template: str | None = option(
        None, "chat template (text or file) for tokenizers that have none"
    )

    # model
    model_name: str = option("gpt2", "hub id or folder of the backbone")
    tokenizer_name: str | None = option(None, "tokenizer, if not the backbone's own")
    revision: str | None = option(None, "branch, tag or commit of the backbone")
    trust_remote_code: bool = option(False, "let code from the model's repository run")
    reward_model_type: str = option(
        "base", "head: base, mean_and_variance, categorical, factor, mixture or quantile"
    )
    num_atoms: int = option(10, "atoms of a categorical or quantile head")
    num_factors: int = option(1, "factors of a factor head")
    num_components: int = option(3, "normal components of a mixture head")
    entropy_coeff: float = option(0.1, "entropy bonus of a categorical head's batch mean")
    variance_penalty: float = option(
        0.0, "penalty on the variance of a mean-and-variance or factor head"
    )
    likelihood: Literal["probit", "logistic"] = option(
        "probit", "comparison of a mean-and-variance head: exact, or as the paper's code has it"
    )
    head_options: dict[str, Any] = option(
        {}, 'further options of the head as JSON, such as {"smoothing": 0.1}'
    )
    ensemble: Literal["none", "heads", "lora"] = option(
        "none",
        "several members to tell what the model does not know: heads on one network, or adapters "
        "trained apart",
    )
    ensemble_members: int = option(5, "members of an ensemble", least=1)
    ensemble_prior_scale: float = option(1.0, "scale of the members' random start")
    ensemble_bootstrap: bool = option(True, "give each member a bootstrap sample of the prompts")

    # labels
    outcomes: Literal["preference", "ties", "five_levels", "seven_levels"] = option(
        "preference",
        "answers annotators could give: a side, a side or a tie, or strengths (column strength)",
    )
    margin_scale: float = option(
        0.0, "reward units per unit of the column margin; 0 leaves margins out, TRL's way is 1"
    )
    annotators: Literal["ignore", "variational", "map"] = option(
        "ignore", "learn how each annotator differs from the others: see --annotator_effects"
    )
    annotator_effects: list[str] = option(
        [],
        "what differs between annotators: taste (what each cares for; a factor head), sharpness, "
        "readiness (to say equal; --outcomes ties), position (of the response shown first). Unset: "
        "taste with a factor head, readiness with ties",
    )
    annotator_covariates: str | None = option(
        None,
        "file of what else is known of annotators, a JSON row for each: a new annotator starts "
        "from people like them",
    )
    annotator_warmup: float = option(
        0.25,
        "share of training over which the annotators' prior sets in; at once it may keep them "
        "from ever being told apart",
    )
    annotator_column: str = option("annotator", "column that says who judged")
    weigh_by: Literal["vote", "example"] = option(
        "vote", "what counts alike in the loss: every vote, or every example however many it has"
    )
    anchor_weight: float | None = option(
        None,
        "weight of a rating beside a comparison; unset: 1 where the data hold ratings alone, else "
        "0. Ratings pin the level and unit of rewards",
        least=0,
    )
    ratings: Literal["gaussian", "ordinal"] = option(
        "gaussian", "read ratings as noisy numbers, or as grades of which only the order counts"
    )
    rating_styles: bool = option(
        True, "learn each annotator's own level and unit of ratings, where they are named"
    )
    max_comparisons: int = option(
        0,
        "compare responses that one annotator rated, at most so many pairs a step; 0 for none",
        least=0,
    )
    objective_learning_rate: float = option(
        0.02, "learning rate of thresholds, annotators and the noise of ratings"
    )

    tuning: Literal["lora", "full", "qlora"] = option("lora", "what is trained besides the head")
    lora_r: int = option(8, "rank of LoRA adapters")
    lora_alpha: int = option(32, "scale of LoRA adapters")
    lora_dropout: float = option(0.0, "dropout before LoRA adapters")
    lora_target_modules: list[str] = option(
        [], "layers to adapt, or all-linear; PEFT's defaults if empty"
    )

    disable_dropout: bool = option(
        True, "switch the backbone's own dropout off, which costs time and adds noise to rewards"
    )

    # how examples are run
    engine: Literal["auto", "tree", "padded"] = option(
        "auto",
        "tree runs a prompt once, padded once for each response; auto takes the tree "
        "where it is right for the model",
    )
    tokens_per_batch: int | None = option(
        None,
        "most tokens of a forward pass, halved where memory runs out; set by the device, and tuned "
        "on a GPU, if unset",
        least=1,
    )
    length_window: int = option(
        50,
        "optimiser steps whose examples are sorted by length together; 0 for random order",
        least=0,
    )

    # a frozen backbone
    freeze_backbone: bool = option(
        False, "train only a small network on cached features of the frozen backbone"
    )
    pooling: Literal["mean", "last"] = option("mean", "pooling of a frozen backbone's features")
    embed: Literal["apart", "response", "together"] = option(
        "apart", "embed last human turn and response apart, the response alone, or all together"
    )
    feature_layer: int | None = option(
        None, "hidden states that are pooled (-1: the last layer's); two thirds deep if unset"
    )
    baselines: bool = option(
        True,
        "report a constant, length, logistic and ridge regression on the same features beside a "
        "probe on a frozen backbone",
    )
    probe_linear: bool = option(
        True, "start the probe from a logistic regression; its network learns what is left"
    )
    probe_hidden: int = option(64, "hidden units of the probe; 0 for a linear one")
    probe_dropout: float = option(0.5, "dropout of the probe's hidden layer")
    probe_members: int = option(
        5, "number of probes averaged; each holds out other prompts", least=1
    )
    probe_learning_rate: float = option(5e-4, "learning rate of the probe")
    probe_weight_decay: float = option(1.0, "weight decay of the probe's weights", least=0)
    probe_batch_size: int = option(
        256, "votes per step of the probe; more where an epoch has over 256 steps", least=1
    )
    probe_epochs: int = option(40, "most passes over the training examples", least=1)
    probe_early_stopping: bool = option(
        True, "choose each member's epoch by prompts it holds out, or by the validation examples"
    )
    probe_patience: int = option(
        6, "epochs without a better validation loss before stopping", least=1
    )
    cache_dir: str | None = option(
        None,
        "folder of caches: token ids of large data sets, and features of a frozen backbone",
    )

    # optimisation
    per_device_train_batch_size: int = option(
        8,
        "votes per device; times gradient_accumulation_steps they make an optimiser step",
        least=1,
    )
    per_device_eval_batch_size: int = option(16, "examples per device in evaluation", least=1)
    gradient_accumulation_steps: int = option(
        1,
        "factor on the votes of an optimiser step; memory depends on tokens_per_batch alone",
        least=1,
    )
    learning_rate: float = option(1e-4, "peak learning rate")
    weight_decay: float = option(0.001, "weight decay")
    num_train_epochs: float = option(1, "passes over the training examples")
    max_steps: int = option(-1, "optimiser steps, overriding epochs if positive")
    lr_scheduler_type: str = option(
        "cosine", "cosine (to a tenth), step (1, 0.1, 0.01), or any name Transformers knows"
    )
    optim: str = option("adamw_torch", "optimiser, by Transformers' names")
    precision: Literal["auto", "float32", "bfloat16"] = option(
        "auto",
        "what the backbone computes in; auto: bfloat16 where it is measured to be faster. The head "
        "stays float32",
        formerly=FORMERLY_BF16,
    )
    threads: int | None = option(None, THREADS_HELP, least=1, unset="auto")
    gradient_checkpointing: bool = option(False, "trade compute for memory")
    seed: int = option(0, "seed of weights, order and dropout")
    pad_to_multiple_of: int = option(
        8, "pad to a multiple of this many tokens (engine padded)", least=1
    )

    # the run
    output_dir: str = option("results/train", "folder of checkpoints, logs and metrics")
    final_dir: str | None = option(None, "folder of the trained model; OUTPUT_DIR/final if unset")
    logging_steps: int = option(10, "steps between log lines", least=1)
    eval_steps: int = option(1000, "steps between evaluations", least=1)
    save_steps: int = option(1000, "steps between checkpoints", least=1)
    save_total_limit: int | None = option(None, "number of checkpoints kept")
    eval_first_step: bool = option(False, "evaluate before training too")
    evaluate_at_end: bool = option(True, "evaluate the final model on the evaluation examples")
    early_stopping_patience: int = option(
        0, "evaluations without improvement before stopping; needs a validation fraction", least=0
    )
    resume_from_checkpoint: str | None = option(
        None, "true for the last checkpoint of OUTPUT_DIR, or a checkpoint's folder"
    )
    report_to: list[str] = option([], "experiment trackers, as Transformers names them")
    disable_tqdm: bool = option(False, "no progress bars")
    quiet: bool = option(False, "no progress bars and no log lines on the terminal")
    deepspeed: str | None = option(None, "DeepSpeed configuration file")
    local_rank: int = option(-1, "set by launchers; kept for compatibility")
    push_to_hub: bool = option(False, "upload the trained model")
    hub_model_id: str | None = option(None, "repository to upload to")
    training_arguments: dict[str, Any] = option(
        {}, 'further TrainingArguments as JSON, such as {"warmup_steps": 100}'
    )

    def __post_init__(self) -> None:
        check_options(self)
        for name in ("eval_fraction", "validation_fraction"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < 1:
                raise ConfigError(f"--{name} is {value}; it must lie in [0, 1).")
        if not self.margin_scale >= 0 or (self.margin_scale and self.outcomes != "preference"):
            raise ConfigError(
                f"--margin_scale is {self.margin_scale}; it has to be ≥ 0, and 0 with more than 2 "
                "levels (--outcomes)."
            )
        if not 0 <= self.annotator_warmup <= 1:
            raise ConfigError(
                f"--annotator_warmup is {self.annotator_warmup}; it must lie in [0, 1]."
            )
        self._check_signs()
        self._check_ensemble()
        if self.early_stopping_patience and not self.validation_fraction:
            raise ConfigError(
                "--early_stopping_patience needs --validation_fraction: stopping on the test set "
                "would choose the model by what it is judged on."
            )

    def _check_signs(self) -> None:
        for name in ("learning_rate", "probe_learning_rate", "objective_learning_rate"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"--{name} is {getattr(self, name)}; it must be positive.")
        if not self.num_train_epochs > 0 and self.max_steps <= 0:
            raise ConfigError(
                f"--num_train_epochs is {self.num_train_epochs}; it must be positive, unless "
                "--max_steps is."
            )

    def _check_ensemble(self) -> None:
        if self.ensemble != "lora":
            return
        if self.freeze_backbone:
            raise ConfigError(
                "--ensemble lora has no adapters to train with --freeze_backbone, where a probe's "
                "members are networks of their own already: take --ensemble heads."
            )
        if self.tuning not in ("lora", "qlora"):
            raise ConfigError(
                f"--ensemble lora trains adapters, so --tuning {self.tuning} does not fit it: take "
                "--tuning lora or qlora, or --ensemble heads."
            )

    @property
    def bf16(self) -> bool:
        """Whether the backbone computes in bfloat16; not before ``auto`` is settled."""
        return self.precision == "bfloat16"

    @property
    def final_path(self) -> Path:
        """Folder of the trained model."""
        return Path(self.final_dir) if self.final_dir else Path(self.output_dir) / "final"
