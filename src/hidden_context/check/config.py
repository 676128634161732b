"""Options of a check; every field is also a flag of ``hidden-context check``."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from hidden_context.config import ReadOptions, check_options, option


@dataclasses.dataclass(frozen=True, kw_only=True)
class CheckConfig(ReadOptions):
    """Options of ``check.run``. Fields are described by their help texts."""

    data_path: str = option(
        dataclasses.MISSING,
        "file, folder or hub id of judged data: pairs, rankings or ratings, with who said what",
        positional=True,
    )
    split: str = option("train", "split to check; of no effect for a single file")
    size: int = option(0, "number of examples; 0 for all", least=0)
    annotators: str | None = option(
        None,
        "table of annotators: a row for each, with what is known about them in columns; "
        "DATA.annotators.jsonl beside the data if unset",
    )
    embed: str | None = option(
        None, "embedding model, a hub id or folder; words and length if unset"
    )
    max_length: int = option(512, "longest text of the embedding model, in tokens", least=1)
    predict: bool = option(True, "predict votes on new items, which takes most of the time")
    anonymise: bool = option(False, "replace annotators' names everywhere; texts stay")
    output_dir: str = option("results/check", "folder for check.json and check.html")
    seed: int = option(0, "seed of folds, models, resamples and permutations")
    quiet: bool = option(False, "no progress lines on the terminal")

    def __post_init__(self) -> None:
        check_options(self)

    @property
    def folder(self) -> Path:
        """The output folder."""
        return Path(self.output_dir)
