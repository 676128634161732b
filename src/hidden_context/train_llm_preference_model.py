"""The paper's training command: its flags and defaults, mapped onto ``training.run``."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import Literal

from hidden_context.cli.arguments import command
from hidden_context.cli.main import safe
from hidden_context.cli.train import run_training
from hidden_context.config import FORMERLY_BF16, changed, option
from hidden_context.training.config import TrainConfig


@dataclasses.dataclass(frozen=True)
class PaperTrainConfig(TrainConfig):
    """The paper's defaults; every option of ``hidden-context train`` works too."""

    log_dir: str = option("data/reward_models/hh_rlhf", "folder of all runs of the data set")
    likelihood: Literal["probit", "logistic"] = changed(TrainConfig, "likelihood", "logistic")
    merge_prompts: bool = changed(TrainConfig, "merge_prompts", False)
    per_device_train_batch_size: int = changed(TrainConfig, "per_device_train_batch_size", 2)
    per_device_eval_batch_size: int = changed(TrainConfig, "per_device_eval_batch_size", 1)
    learning_rate: float = changed(TrainConfig, "learning_rate", 3e-6)
    lora_dropout: float = changed(TrainConfig, "lora_dropout", 0.1)
    disable_dropout: bool = changed(TrainConfig, "disable_dropout", False)
    length_window: int = changed(TrainConfig, "length_window", 0)
    precision: Literal["auto", "float32", "bfloat16"] = option(
        "bfloat16",
        "what the backbone computes in; the paper's --bf16 is bfloat16, --bf16=false float32. The "
        "head stays float32",
        formerly=FORMERLY_BF16,
    )
    optim: str = option("adamw_hf", "optimiser; the paper's name stands for adamw_torch")
    pad_to_multiple_of: int = changed(TrainConfig, "pad_to_multiple_of", 64)
    resume_from_checkpoint: str | None = option(
        None, "resume from the last checkpoint, or from the given folder", bare="true"
    )
    output_dir: str = option("", "folder of the run; if unset, in LOG_DIR, named by the options")


def run_name(config: PaperTrainConfig) -> str:
    """Return the name of a run's folder, as in the paper's code.

    >>> run_name(PaperTrainConfig(train_dataset_size=8, learning_rate=2e-5,
    ...     lr_scheduler_type="linear", reward_model_type="categorical"))
    'categorical_gpt2__8_2e-05_linear_1_10_0.1'
    """
    epochs = config.num_train_epochs
    parts = [
        config.reward_model_type,
        config.model_name.rstrip("/").split("/")[-1],
        "",
        config.train_dataset_size,
        config.learning_rate,
        config.lr_scheduler_type,
        int(epochs) if float(epochs).is_integer() else epochs,
    ]
    if config.reward_model_type == "categorical":
        parts += [config.num_atoms, config.entropy_coeff]
    if config.reward_model_type == "mean_and_variance":
        parts += [config.variance_penalty]
    return "_".join(map(str, parts))


def to_config(config: PaperTrainConfig) -> TrainConfig:
    """Map the flags onto the workflow's configuration; folders are named as in the paper's code."""
    values = {field.name: getattr(config, field.name) for field in dataclasses.fields(TrainConfig)}
    run = config.output_dir or str(Path(config.log_dir) / config.data_subset / run_name(config))
    final = config.final_dir or f"{run}_peft_last_checkpoint"
    return TrainConfig(**{**values, "output_dir": run, "final_dir": final})


@safe
@command(
    PaperTrainConfig,
    "python -m hidden_context.train_llm_preference_model",
    "Train a reward model as in the paper; see docs/guides/train.md.",
)
def main(config: PaperTrainConfig) -> None:
    """Train with the paper's flags."""
    run_training(to_config(config))


if __name__ == "__main__":
    sys.exit(main())
