"""Options of the report."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from hidden_context.config import option
from hidden_context.errors import ConfigError


@dataclass(frozen=True)
class ReportConfig:
    """Options of ``hidden-context report``.

    Raises:
        ConfigError: If there is nothing to report on, a limit is too small, or an option has no
            use beside another.
    """

    files: list[str] = option(
        [], "score files (.jsonl or .jsonl.gz) whose comparisons are shown", positional=True
    )
    analysis: str | None = option(
        None, "analysis.json of these files, by analyze --output (default: analyze them now)"
    )
    output: str = option("report.html", "HTML file to write")
    title: str = option("Hidden context", "title of the page")
    max_pairs: int = option(
        10_000, "most rows in the table, of all files together; of more, as many drawn at random"
    )
    max_text: int = option(4000, "most characters of a text; longer ones are cut and marked")
    data_dir: str | None = option(
        None, "folder of the paper's evaluations: adds its two tables (see analyze)"
    )
    head: str | None = option(
        None, "reward head of the files, e.g. base (default: the checkpoint's, else by name, width)"
    )
    likelihood: Literal["probit", "logistic"] | None = option(
        None, "how a mean_and_variance head compares rewards (default: the checkpoint's, or probit)"
    )
    contexts: bool = option(
        True, "cluster the prompts to find where the variance lies, unless --analysis is given"
    )

    def __post_init__(self) -> None:
        if not self.files and self.analysis is None and self.data_dir is None:
            raise ConfigError(
                "there is nothing to report on: name score files, --analysis or --data_dir."
            )
        for name, least in (("max_pairs", 1), ("max_text", 20)):
            if getattr(self, name) < least:
                raise ConfigError(f"{name} is {getattr(self, name)}; it must be at least {least}.")
        for name in ("head", "likelihood"):
            if self.analysis is not None and getattr(self, name) is not None:
                raise ConfigError(
                    f"--{name} and --analysis were both given, but the analysis says how the files "
                    "are read; leave out the one or the other."
                )
