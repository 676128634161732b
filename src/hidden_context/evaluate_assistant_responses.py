"""The paper's command for responses to prompts, mapped onto ``scoring.score_file``."""

from __future__ import annotations

import dataclasses
import sys

from hidden_context.cli.arguments import command
from hidden_context.cli.main import safe
from hidden_context.cli.score import run_scoring
from hidden_context.config import option
from hidden_context.evaluate_llm_preference_model import PaperModelFlags
from hidden_context.scoring.config import OverLength, ScoreConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class PaperResponseFlags(PaperModelFlags):
    """The paper's flags."""

    input: str = option(dataclasses.MISSING, "JSON Lines file of prompts with responses")
    output: str = option(dataclasses.MISSING, "JSON Lines file to write")
    reward_model_checkpoints: list[str] = option(dataclasses.MISSING, "checkpoints, one or more")
    reward_model_names: list[str] = option([], "name of each checkpoint in the output")
    over_length: OverLength = option("truncate", "texts that are too long: truncate, null or drop")


def to_config(flags: PaperResponseFlags) -> ScoreConfig:
    """Map the paper's flags onto the workflow's configuration."""
    return ScoreConfig(
        **flags.shared_with(ScoreConfig),
        models=flags.reward_model_checkpoints,
        names=flags.reward_model_names,
        kind="responses",
        prompt_from_first_human=True,
    )


@safe
@command(
    PaperResponseFlags,
    "python -m hidden_context.evaluate_assistant_responses",
    "Score responses with several reward models; see docs/guides/score.md.",
)
def main(flags: PaperResponseFlags) -> None:
    """Score responses with the paper's flags."""
    run_scoring(to_config(flags))


if __name__ == "__main__":
    sys.exit(main())
