"""Options of the analyses."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Literal

from hidden_context.config import option
from hidden_context.errors import ConfigError


@dataclass(frozen=True)
class SummarizeConfig:
    """Options of the paper's tables.

    Raises:
        ConfigError: If ``alpha`` is not strictly between 0 and 1.
    """

    data_dir: str = option("data", "folder that holds the evaluations")
    output: str | None = option(None, "JSON file to write everything to, e.g. results.json")
    alpha: float = option(0.01, "level of the quantile that risk-sensitive numbers use")
    reward_models_dir: str | None = option(
        None,
        "folder with helpful/, harmless/ and both/, each holding evaluated checkpoints "
        "(default: DATA_DIR/reward_models/relabeled_hh_rlhf)",
    )
    jailbreak_dir: str | None = option(
        None, "folder with the jailbroken_evaluations_*.jsonl files (default: DATA_DIR)"
    )

    def __post_init__(self) -> None:
        if not 0.0 < self.alpha < 1.0:
            raise ConfigError(f"alpha is {self.alpha}; it has to lie strictly between 0 and 1.")

    def reward_models_folder(self) -> str:
        """Return the folder below which the nine evaluated checkpoints are looked for."""
        return self.reward_models_dir or os.path.join(
            self.data_dir, "reward_models", "relabeled_hh_rlhf"
        )

    def jailbreak_folder(self) -> str:
        """Return the folder of the three jailbreak files."""
        return self.jailbreak_dir or self.data_dir


@dataclass(frozen=True)
class AnalyzeConfig(SummarizeConfig):
    """Options of ``hidden-context analyze``: score files, or the paper's tables without any."""

    files: list[str] = option(
        [], "score files (.jsonl or .jsonl.gz); none: the paper's tables", positional=True
    )
    head: str | None = option(
        None, "reward head of the files, e.g. mean_and_variance (default: by name and width)"
    )
    likelihood: Literal["probit", "logistic"] | None = option(
        None, "how a mean_and_variance head compares two rewards (default: probit)"
    )
    risk: list[str] = option(
        ["mean", "quantile:0.01"], "risk measures by which responses are compared"
    )
