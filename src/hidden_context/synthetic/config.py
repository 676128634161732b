"""Options of the synthetic experiments."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from hidden_context.config import changed, check_options, option
from hidden_context.errors import ConfigError

FIGURE_FORMATS = ("png", "pgf", "svg", "pdf")


@dataclass(frozen=True)
class SyntheticConfig:
    """Options of the synthetic experiments; names and defaults follow the paper."""

    env: Literal["1d", "2d"] = option("1d", "environment: 1d or 2d")
    batch_size: int = option(128, "pairs per training step", least=1)
    lr: float = option(1e-4, "first learning rate of Adam; decays exponentially to 1e-5")
    num_iterations: int = option(1000, "training steps per network", least=1)
    out_dir: str = option("results", "results go to {out_dir}/{env}/{batch_size}_{lr}_{steps}")
    seed: int = option(0, "seed of initial weights and data")
    likelihood: Literal["probit", "logistic"] = option(
        "probit", "comparison of two normal rewards: exact (probit) or the paper's code (logistic)"
    )
    width: int = option(512, "width of the hidden layers", least=1)
    precision: Literal["auto", "float32", "folded", "mixed", "bfloat16"] = option(
        "auto",
        "precision of the hidden layers in training: float32 layer by layer; folded, float32 by "
        "fewer operations; mixed, float32 forward and bfloat16 backward; bfloat16; auto: the "
        "fastest here that learns the same curve",
    )
    num_threads: int = option(0, "CPU threads for training; 0 leaves PyTorch's choice", least=0)
    figure_formats: list[str] = option(
        ["png", "pgf", "svg"], f"figure files to write, of {', '.join(FIGURE_FORMATS)}"
    )

    def __post_init__(self) -> None:
        check_options(self)
        if not (math.isfinite(self.lr) and self.lr > 0):
            raise ConfigError(f"--lr is {self.lr}; a learning rate must be positive and finite.")
        if not 0 <= self.seed < 2**63:
            raise ConfigError(f"--seed is {self.seed}; it must lie between 0 and 2**63 - 1.")
        unknown = [name for name in self.figure_formats if name not in FIGURE_FORMATS]
        if unknown:
            raise ConfigError(
                f"--figure_formats has {', '.join(map(repr, unknown))}; "
                f"choose from {', '.join(FIGURE_FORMATS)}."
            )

    @property
    def folder(self) -> Path:
        """The folder of the results, named as in the paper.

        >>> SyntheticConfig(batch_size=2048, lr=0.001).folder.as_posix()
        'results/1d/2048_0.001_1000'
        """
        return Path(self.out_dir) / self.env / f"{self.batch_size}_{self.lr}_{self.num_iterations}"


@dataclass(frozen=True)
class PaperConfig(SyntheticConfig):
    """The same options with the default likelihood of the paper's code."""

    likelihood: Literal["probit", "logistic"] = changed(SyntheticConfig, "likelihood", "logistic")
