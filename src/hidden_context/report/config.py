"""Options of the report."""

from __future__ import annotations

from dataclasses import dataclass

from hidden_context.analysis.config import ScoreFileOptions
from hidden_context.config import check_options, option
from hidden_context.errors import ConfigError


@dataclass(frozen=True)
class ReportConfig(ScoreFileOptions):
    """Options of ``hidden-context report``.

    Raises:
        ConfigError: If there is nothing to report on, a number is too small, or an option has no
            use beside another.
    """

    files: list[str] = option(
        [], "score files (.jsonl or .jsonl.gz); the first with pairs is shown", positional=True
    )
    output: str = option("report.html", "HTML file to write")
    title: str = option("Hidden context report", "title of the page")
    data_dir: str | None = option(None, "folder with evaluations for the paper's two tables")
    analysis: str | None = option(
        None, "analysis.json of the same files, written by analyze --contexts (default: make it)"
    )
    max_pairs: int = option(
        10_000, "most comparisons in the page; a larger file is sampled with --seed", least=1
    )
    max_text: int = option(
        4_000, "most characters of one text; longer texts are cut and marked", least=40
    )

    def __post_init__(self) -> None:
        if not (self.files or self.compare or self.data_dir):
            raise ConfigError("no score file is named, and no --data_dir for the paper's tables.")
        if self.analysis and not self.files:
            raise ConfigError("--analysis needs the score files that it was made from.")
        for name in ("compare", "head", "likelihood"):
            if self.analysis and getattr(self, name):
                raise ConfigError(f"--analysis was made without --{name}; leave one of them out.")
        check_options(self)
