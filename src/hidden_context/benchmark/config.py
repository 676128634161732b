"""Configuration of ``benchmark``; every field is also a flag."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Literal

from hidden_context.config import check_given, option
from hidden_context.errors import ConfigError
from hidden_context.scoring.config import ScoreConfig, StreamOptions


@dataclasses.dataclass(frozen=True)
class BenchmarkConfig(StreamOptions):
    """Options of ``benchmark.run``."""

    benchmark: str = option("", "reward_bench_2, rm_bench or judge_bench", positional=True)
    input: str = option(
        "",
        "file with the published rows: JSON Lines, a JSON array or parquet",
        positional=True,
    )
    output: str = option("", "JSON file to write; scores are kept beside it")
    models: list[str] = option([], "checkpoints, one or more")
    names: list[str] = option([], "the checkpoints' names in the output (default: their folders')")
    risk: list[str] = option(["mean"], "risk measures whose values are the scores, one or more")
    over_length: Literal["null", "truncate"] = option(
        "null",
        "texts that are too long: their rows are left out and named, or their beginning is cut",
    )
    chat_template: str | None = option(
        None, "Jinja template of chats, or a file with one, in place of the tokenizer's own"
    )
    seed: int = option(0, "seed of the intervals' bootstrap")

    def __post_init__(self) -> None:
        super().__post_init__()
        needed = {
            "a benchmark": self.benchmark,
            "a file": self.input,
            "--output": self.output,
            "--models": self.models,
            "--risk": self.risk,
        }
        check_given(needed, "benchmark rm_bench FILE --models CHECKPOINT --output FILE.json")
        if len(set(self.risk)) != len(self.risk):
            raise ConfigError(f"--risk names a measure twice ({' '.join(self.risk)}).")
        self.scoring()  # checks the models' names

    @property
    def scores_path(self) -> Path:
        """Where the scores are kept: beside the output."""
        output = Path(self.output)
        return output.with_name(f"{output.name.removesuffix('.json')}.scores.jsonl")

    def scoring(self) -> ScoreConfig:
        """Return the options of the scoring alone."""
        shared = {
            field.name: getattr(self, field.name) for field in dataclasses.fields(StreamOptions)
        }
        own = {name: getattr(self, name) for name in ("input", "models", "names", "risk")}
        return ScoreConfig(**shared, **own, output=str(self.scores_path))
