"""The paper's evaluation command: its flags and defaults, mapped onto ``scoring.evaluate``."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence
from typing import Literal

from hidden_context.cli.arguments import parse
from hidden_context.cli.evaluate import run_evaluation
from hidden_context.cli.main import run_safely
from hidden_context.config import SPLIT_BALANCE_HELP, SPLIT_BY_HELP, option
from hidden_context.scoring.config import EvaluateConfig, OverLength


@dataclasses.dataclass(frozen=True)
class PaperEvaluateFlags:
    """The paper's flags, and those that say which pairs were held out."""

    reward_model_checkpoint: str = option(dataclasses.MISSING, "checkpoint to evaluate")
    output: str | None = option(
        None, "file to write; CHECKPOINT/eval_results_SUBSET.jsonl if unset"
    )
    batch_size: int = option(1, "most texts of a padded forward pass")
    model_name: str | None = option(None, "backbone, if not the one the checkpoint names")
    tokenizer_name: str | None = option(None, "tokenizer, if not the backbone's own")
    data_path: str = option("Anthropic/hh-rlhf", "hub id, folder or file of preference pairs")
    data_subset: str = option("both", "both, helpful or harmless")
    eval_dataset_size: int = option(0, "number of pairs; 0 for all")
    num_outputs: int | None = option(None, "outputs of the model: 1, 2 or the number of atoms")
    max_length: int = option(1024, "longest text in tokens")
    bf16: bool = option(True, "run the backbone in bfloat16; the head stays float32")
    likelihood: Literal["probit", "logistic"] = option(
        "logistic", "comparison of a mean-and-variance head whose checkpoint does not say"
    )
    eval_split: str = option("test", "split to evaluate on")
    train_split: str = option("train", "split that training divided, where there is no other")
    eval_fraction: float = option(0.0, "share of prompts that training held out, if it did")
    split_by: str | None = option(None, SPLIT_BY_HELP)
    split_balance: str | None = option(None, SPLIT_BALANCE_HELP, bare="true")
    over_length: OverLength = option("drop", "pairs with a too long side: drop, null or truncate")
    trust_remote_code: bool = option(False, "let code from the model's repository run")
    disable_tqdm: bool = option(False, "no progress bars")


def to_config(flags: PaperEvaluateFlags) -> EvaluateConfig:
    """Map the paper's flags onto the workflow's configuration."""
    shared = {field.name for field in dataclasses.fields(EvaluateConfig)}
    values = {name: value for name, value in vars(flags).items() if name in shared}
    return EvaluateConfig(
        **values,
        checkpoint=flags.reward_model_checkpoint,
        base_model=flags.model_name,
        precision="bfloat16" if flags.bf16 else "float32",
    )


def _evaluate(argv: Sequence[str] | None) -> int:
    flags = parse(
        PaperEvaluateFlags,
        argv,
        prog="python -m hidden_context.evaluate_llm_preference_model",
        description="Evaluate a reward model on preference pairs; see docs/evaluate.md.",
    )
    return run_evaluation(to_config(flags))


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the paper's flags and evaluate; return the exit code."""
    return run_safely(_evaluate, argv)


if __name__ == "__main__":
    sys.exit(main())
