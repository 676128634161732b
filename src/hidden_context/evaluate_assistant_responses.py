"""The paper's command for responses to prompts, mapped onto ``scoring.score_file``."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence
from typing import Literal

from hidden_context.cli.arguments import parse
from hidden_context.cli.main import run_safely
from hidden_context.cli.score import run_scoring
from hidden_context.config import option
from hidden_context.scoring.config import OverLength, ScoreConfig


@dataclasses.dataclass(frozen=True)
class PaperResponseFlags:
    """The paper's flags."""

    input: str = option(dataclasses.MISSING, "JSON Lines file of prompts with responses")
    output: str = option(dataclasses.MISSING, "JSON Lines file to write")
    reward_model_checkpoints: list[str] = option(dataclasses.MISSING, "checkpoints, one or more")
    reward_model_names: list[str] = option([], "name of each checkpoint in the output")
    batch_size: int = option(1, "most texts of a padded forward pass")
    model_name: str | None = option(None, "backbone, if not the one the checkpoints name")
    tokenizer_name: str | None = option(None, "tokenizer, if not the backbone's own")
    num_outputs: int | None = option(None, "outputs of the models: 1, 2 or the number of atoms")
    max_length: int = option(1024, "longest text in tokens")
    bf16: bool = option(True, "run the backbone in bfloat16; the head stays float32")
    likelihood: Literal["probit", "logistic"] = option(
        "logistic", "comparison of mean-and-variance heads whose checkpoints do not say"
    )
    over_length: OverLength = option("truncate", "texts that are too long: truncate, null or drop")
    trust_remote_code: bool = option(False, "let code from the models' repositories run")
    disable_tqdm: bool = option(False, "no progress bars")


def to_config(flags: PaperResponseFlags) -> ScoreConfig:
    """Map the paper's flags onto the workflow's configuration."""
    shared = {field.name for field in dataclasses.fields(ScoreConfig)}
    values = {name: value for name, value in vars(flags).items() if name in shared}
    return ScoreConfig(
        **values,
        models=flags.reward_model_checkpoints,
        names=flags.reward_model_names,
        kind="responses",
        prompt_from_first_human=True,
        base_model=flags.model_name,
        precision="bfloat16" if flags.bf16 else "float32",
    )


def _score(argv: Sequence[str] | None) -> int:
    flags = parse(
        PaperResponseFlags,
        argv,
        prog="python -m hidden_context.evaluate_assistant_responses",
        description="Score responses to prompts with several reward models; see docs/score.md.",
    )
    return run_scoring(to_config(flags))


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the paper's flags and score; return the exit code."""
    return run_safely(_score, argv)


if __name__ == "__main__":
    sys.exit(main())
