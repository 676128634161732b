"""Options of the analyses."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from hidden_context.config import check_options, default_of, option
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
        """Return the folder of the nine evaluated checkpoints."""
        return self.reward_models_dir or os.path.join(
            self.data_dir, "reward_models", "relabeled_hh_rlhf"
        )

    def jailbreak_folder(self) -> str:
        """Return the folder of the three jailbreak files."""
        return self.jailbreak_dir or self.data_dir


@dataclass(frozen=True)
class ScoreFileOptions:
    """Reading score files, and intervals."""

    head: str | None = option(
        None, "reward head of the files, e.g. base (default: the checkpoint's, else by name, width)"
    )
    likelihood: Literal["probit", "logistic"] | None = option(
        None, "how a mean_and_variance head compares rewards (default: the checkpoint's, or probit)"
    )
    by: list[str] = option(
        ["data_subset", "objective"],
        "columns that split rows into groups, with spaces or commas between; length_bin: quarters "
        "by characters",
    )
    compare: list[str] = option(
        [], "two score files of the same rows: the second model's numbers minus the first's"
    )
    resamples: int = option(999, "resamples of bootstraps and permutations", least=99)
    seed: int = option(0, "random seed", least=0)


@dataclass(frozen=True)
class AnalyzeConfig(ScoreFileOptions, SummarizeConfig):
    """Options of ``hidden-context analyze``: for score files, or for the paper's tables if none.

    Raises:
        ConfigError: If an option belongs to the other use.
    """

    files: list[str] = option(
        [], "score files (.jsonl or .jsonl.gz); none: the paper's tables", positional=True
    )
    risk: list[str] = option(
        ["mean", "quantile:0.01"], "risk measures by which responses are compared"
    )
    contexts: bool = option(
        False, "find where the variance lies: cluster the prompts by their words"
    )
    max_contexts: int = option(12, "maximum number of prompt clusters", least=2)
    card: bool = option(
        False, "write the numbers into the model card of the checkpoint in the file's folder"
    )
    level: float = option(0.95, "confidence level of intervals")

    def __post_init__(self) -> None:
        super().__post_init__()
        names = [name for text in self.by for name in text.replace(",", " ").split()]
        object.__setattr__(self, "by", list(dict.fromkeys(names)))
        more = [path for path in self.compare if path not in self.files]
        object.__setattr__(self, "files", [*self.files, *more])
        if len(self.compare) not in (0, 2) or len(set(self.compare)) < len(self.compare):
            raise ConfigError("--compare takes two score files, such as --compare a.jsonl b.jsonl.")
        if not 0.5 <= self.level < 1.0:
            raise ConfigError(f"level is {self.level}; it has to be at least 0.5 and below 1.")
        check_options(self)
        of_tables = [field.name for field in dataclasses.fields(SummarizeConfig)]
        given = ", ".join(
            f"--{field.name}"
            for field in dataclasses.fields(self)
            if field.name not in ("files", "output")
            and (field.name in of_tables) == bool(self.files)
            and getattr(self, field.name) != default_of(field)
        )
        if given and self.files:
            raise ConfigError(
                f"only the paper's tables use {given}, and these tables are made without score "
                "files; leave out the option or the files. Risk measures for score files are "
                "chosen by --risk, e.g. --risk quantile:0.05."
            )
        if given:
            raise ConfigError(
                f"only score files use {given}, but none is named; name score files, or leave the "
                "option out for the paper's tables."
            )


def check_output(output: str | Path, inputs: Iterable[str | Path]) -> None:
    """Check that the output is not an input.

    Args:
        output: The file to write.
        inputs: The files to read, whether or not they exist.

    Raises:
        ConfigError: If the output is an input, even under a different path.
    """
    resolved = Path(output).resolve()
    if any(Path(path).resolve() == resolved for path in inputs):
        raise ConfigError(f"{output} is an input too; name another file with --output.")
