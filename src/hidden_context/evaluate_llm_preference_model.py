"""The paper's evaluation command: its flags and defaults, mapped onto ``scoring.evaluate``."""

from __future__ import annotations

import dataclasses
import sys
from typing import Any, Literal

from hidden_context.cli.arguments import command
from hidden_context.cli.evaluate import run_evaluation
from hidden_context.cli.main import safe
from hidden_context.config import changed, option
from hidden_context.scoring.config import EvaluateConfig, OverLength


@dataclasses.dataclass(frozen=True, kw_only=True)
class PaperModelFlags:
    """The flags that the paper's two scoring commands share."""

    batch_size: int = changed(EvaluateConfig, "batch_size", 1)
    model_name: str | None = option(None, "backbone, if not the one that the checkpoint names")
    tokenizer_name: str | None = changed(EvaluateConfig, "tokenizer_name", None)
    num_outputs: int | None = option(None, "outputs of the model: 1, 2 or the number of atoms")
    max_length: int = changed(EvaluateConfig, "max_length", 1024)
    bf16: bool = option(True, "run the backbone in bfloat16; the head stays float32")
    likelihood: Literal["probit", "logistic"] = changed(EvaluateConfig, "likelihood", "logistic")
    over_length: OverLength = option("drop", "pairs with a too long side: drop, null or truncate")
    trust_remote_code: bool = changed(EvaluateConfig, "trust_remote_code", False)
    disable_tqdm: bool = changed(EvaluateConfig, "disable_tqdm", False)

    def shared_with(self, config: type) -> dict[str, Any]:
        """Return the workflow options that these flags set."""
        names = {field.name for field in dataclasses.fields(config)}
        return {name: value for name, value in vars(self).items() if name in names} | {
            "base_model": self.model_name,
            "precision": "bfloat16" if self.bf16 else "float32",
        }


@dataclasses.dataclass(frozen=True, kw_only=True)
class PaperEvaluateFlags(PaperModelFlags):
    """The paper's flags, with further flags for the held-out pairs."""

    reward_model_checkpoint: str = option(dataclasses.MISSING, "checkpoint to evaluate")
    output: str | None = changed(EvaluateConfig, "output", None)
    data_path: str = changed(EvaluateConfig, "data_path", "Anthropic/hh-rlhf")
    data_subset: str = option("both", "both, helpful or harmless")
    eval_dataset_size: int = changed(EvaluateConfig, "eval_dataset_size", 0)
    eval_split: str = changed(EvaluateConfig, "eval_split", "test")
    train_split: str = changed(EvaluateConfig, "train_split", "train")
    eval_fraction: float = changed(EvaluateConfig, "eval_fraction", 0.0)
    split_by: str | None = changed(EvaluateConfig, "split_by", None)
    split_balance: str | None = changed(EvaluateConfig, "split_balance", None)


def to_config(flags: PaperEvaluateFlags) -> EvaluateConfig:
    """Map the paper's flags onto the workflow's configuration."""
    return EvaluateConfig(
        **flags.shared_with(EvaluateConfig), checkpoint=flags.reward_model_checkpoint
    )


@safe
@command(
    PaperEvaluateFlags,
    "python -m hidden_context.evaluate_llm_preference_model",
    "Evaluate a reward model on preference pairs; see docs/guides/evaluate.md.",
)
def main(flags: PaperEvaluateFlags) -> None:
    """Evaluate with the paper's flags."""
    run_evaluation(to_config(flags))


if __name__ == "__main__":
    sys.exit(main())
