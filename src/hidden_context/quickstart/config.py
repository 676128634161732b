"""Configuration of the quickstart; every field is also a flag."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Literal

from hidden_context.config import check_options, option
from hidden_context.errors import ConfigError


@dataclasses.dataclass(frozen=True)
class QuickstartConfig:
    """Options of ``quickstart.run``."""

    output_dir: str = option("results/quickstart", "folder of data, models, scores and figures")
    seed: int = option(0, "seed of the world, the backbone and training")
    comparisons: int = option(4000, "training comparisons per set of annotators", least=1)
    test_comparisons: int = option(1000, "test comparisons, on other prompts", least=1)
    jailbreaks: int = option(
        200, "harmful test prompts with a safe and a compliant response", least=1
    )
    helpful_share: float = option(0.57, "share of comparisons judged by helpfulness in 'both'")
    likelihood: Literal["probit", "logistic"] = option(
        "probit", "comparison of the mean-and-variance head"
    )
    alpha: float = option(0.01, "level of the cautious quantile")
    epochs: float = option(2.0, "passes over the training comparisons")
    learning_rate: float = option(3e-3, "peak learning rate")
    batch_size: int = option(32, "comparisons per step", least=1)
    evaluations: int = option(5, "evaluations on validation prompts per training", least=1)
    pretraining_steps: int = option(200, "steps of the backbone's language-model pretraining")
    num_threads: int = option(
        1, "threads of PyTorch, 0 for its own choice; models this small gain nothing from a second"
    )
    disable_progress: bool = option(False, "no progress bar")

    def __post_init__(self) -> None:
        check_options(self)
        if not 0 < self.alpha < 1:
            raise ConfigError(f"--alpha is {self.alpha}; it must lie in (0, 1).")
        if not self.epochs > 0 or not self.learning_rate > 0:
            raise ConfigError("--epochs and --learning_rate must be positive.")

    @property
    def folder(self) -> Path:
        """The folder of data, models, scores and figures."""
        return Path(self.output_dir)

    @property
    def total_steps(self) -> int:
        """The optimiser steps of one training; a tenth of the comparisons is for validation."""
        return max(1, round(self.epochs * 0.9 * self.comparisons / self.batch_size))
