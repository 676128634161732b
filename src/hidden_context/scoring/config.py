"""Configurations of scoring; every field is also a flag of ``score`` or ``evaluate``."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Literal

from hidden_context.config import (
    SPLIT_BALANCE_HELP,
    ComputeOptions,
    ReadOptions,
    check_given,
    check_options,
    option,
)
from hidden_context.errors import ConfigError

OverLength = Literal["null", "truncate", "drop"]
Precision = Literal["float32", "bfloat16", "float16", "float64"]

WORST_GROUP: Final = "worst_group"
"""Name, beside the groups of annotators, of the group with the lowest value."""

# With fewer texts in a half, two or three texts decide its 95th percentile.
LEAST_TEXTS: Final = 50


@dataclasses.dataclass(frozen=True)
class ModelOptions(ComputeOptions):
    """Loading and running checkpoints."""

    head: str | None = option(
        None,
        "head, for checkpoints that do not record it: base, mean_and_variance, categorical, "
        "factor, mixture, quantile",
    )
    num_outputs: int | None = option(
        None,
        "outputs, for checkpoints that do not record them: 1, 2, the number of atoms …",
        least=1,
    )
    likelihood: Literal["probit", "logistic"] = option(
        "probit", "comparison of a mean-and-variance head, for checkpoints that do not record it"
    )
    base_model: str | None = option(None, "backbone, instead of the one the checkpoint names")
    tokenizer_name: str | None = option(None, "tokenizer, instead of the checkpoint's")
    revision: str | None = option(None, "branch, tag or commit of a hub checkpoint")
    trust_remote_code: bool = option(False, "let code from the model's repository run")
    precision: Literal["auto", Precision] = option(
        "auto",
        "what the backbone computes in; auto: bfloat16 on a GPU that has it, else float32. The "
        "head stays float32",
        formerly={"dtype": {"fp32": "float32", "bf16": "bfloat16"}},
    )
    device: str = option("auto", "auto, cpu, cuda, cuda:0 …")
    max_length: int | None = option(
        None, "longest text in tokens; the checkpoint's if unset", least=1
    )
    engine: Literal["auto", "tree", "cache", "padded"] = option(
        "auto",
        "tree and cache run a beginning that texts share once, padded every text by itself; auto "
        "takes the fastest that is right for the model",
    )
    batch_size: int = option(16, "most texts of a padded forward pass", least=1)
    compile: bool = option(False, "let torch.compile build kernels for the backbone")

    def __post_init__(self) -> None:
        check_options(self)


@dataclasses.dataclass(frozen=True)
class StreamOptions(ModelOptions):
    """Going through a file."""

    over_length: OverLength = option(
        "null", "texts that are too long: a null reward and a reason, cut on the left, or dropped"
    )
    window: int = option(512, "rows that are sorted by length and written together", least=1)
    resume: bool = option(True, "go on where an interrupted run stopped")
    disable_tqdm: bool = option(False, "no progress bars")


def names_of_models(models: Sequence[str], names: Sequence[str]) -> list[str]:
    """Return the given names of models, or the names of their folders.

    Raises:
        ConfigError: If their numbers differ, or two have one name.
    """
    if names and len(names) != len(models):
        raise ConfigError(
            f"names and models differ in number ({len(names)} and {len(models)}); "
            "give each model a name, or give no names."
        )
    found = list(names) or [Path(m).name or Path(m).resolve().name for m in models]
    if len(set(found)) != len(models):
        raise ConfigError(
            f"the models' names are not distinct ({', '.join(found)}); give each model a "
            "different name with --names."
        )
    return found


@dataclasses.dataclass(frozen=True)
class ScoreConfig(StreamOptions):
    """Options of ``scoring.score_file``."""

    input: str = option("", "file of pairs, prompts with responses, or texts", positional=True)
    output: str = option(
        "", "file to write, here or at an address: JSON Lines, or Parquet where it ends in .parquet"
    )
    models: list[str] = option([], "checkpoints, one or more")
    names: list[str] = option([], "names of the checkpoints in the output; their folders' if unset")
    kind: Literal["pair", "responses", "text"] | None = option(
        None, "what a row is; found from the columns if unset"
    )
    prompt_from_first_human: bool = option(
        False, "drop the text before a prompt's first 'Human: ', as the paper does"
    )
    risk: list[str] = option([], "risk measures to add, such as mean quantile:0.01 cvar:0.05")
    annotator: str | None = option(None, "whose rewards --risk measures; the population's if unset")
    groups: str | None = option(
        None,
        'JSON file of annotators by group, {"group": ["annotator", …], …}: adds the risk measures '
        "of each group and of the group with the lowest value",
    )

    backend: Literal["own", "vllm"] = option(
        "own", "what runs the network: this package, or vLLM's offline pooling, checked against it"
    )
    engine_cluster: Literal["ray"] | None = option(None, "cluster to score on; none if unset")
    cluster_address: str | None = option(
        None, "address of a running cluster, such as auto; one is started here if unset"
    )
    workers: int | None = option(
        None,
        "workers, each with the model and --threads (1 if unset); as many as fit if unset",
        least=1,
    )
    worker_gpus: float | None = option(
        None, "GPUs of each worker; one where there are any, unless --device is cpu", least=0
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        needed = {"an input file": self.input, "--output": self.output, "--models": self.models}
        check_given(needed, "score INPUT --models CHECKPOINT --output FILE")
        if self.backend == "vllm":
            others = ["engine", "tokens_per_batch", "compile", "base_model", "num_outputs", "head"]
            given = [name for name in others if getattr(self, name) != getattr(ScoreConfig, name)]
            if given:
                raise ConfigError(f"--{given[0]} does not fit --backend vllm; leave it out.")
        if self.engine_cluster is None:
            for name in ("cluster_address", "workers", "worker_gpus"):
                if getattr(self, name) is not None:
                    raise ConfigError(f"--{name} needs --engine_cluster ray.")
        names = self.model_names
        if self.groups and {f"groups_{name}" for name in names} & {*names}:
            raise ConfigError(
                "a model is named like the columns of --groups for another model (groups_NAME); "
                "rename one of them with --names."
            )
        given = [f"--{name}" for name in ("annotator", "groups") if getattr(self, name) is not None]
        if given and not self.risk:
            raise ConfigError(f"name risk measures for {' and '.join(given)}, as in --risk mean.")

    @property
    def model_names(self) -> list[str]:
        """Name of each model in the output."""
        return names_of_models(self.models, self.names)


@dataclasses.dataclass(frozen=True)
class EvaluateConfig(StreamOptions, ReadOptions):
    """Options of ``scoring.evaluate``."""

    checkpoint: str = option("", "checkpoint to evaluate", positional=True)
    output: str | None = option(None, "output file; CHECKPOINT/eval_results_SUBSET.jsonl if unset")
    data_path: str = option("Anthropic/hh-rlhf", "hub id, folder or file of preference pairs")
    eval_split: str = option("test", "split to evaluate on")
    train_split: str = option("train", "split that training divided, if there is no other split")
    eval_fraction: float = option(0.0, "share of prompts that training held out of a single split")
    split_balance: str | None = option(None, SPLIT_BALANCE_HELP, bare="true")
    eval_dataset_size: int = option(0, "number of pairs; 0 for all", least=0)
    over_length: OverLength = option(
        "drop", "pairs with a too long side: dropped with a count, null, or cut on the left"
    )
    seed: int = option(0, "seed for drawing --eval_dataset_size pairs")

    def __post_init__(self) -> None:
        super().__post_init__()
        given = [n for n in ("split_by", "split_balance") if getattr(self, n) is not None]
        if given and not self.eval_fraction:
            raise ConfigError(f"--{given[0]} needs --eval_fraction, the share that was held out.")
        check_given({"a checkpoint": self.checkpoint}, "evaluate CHECKPOINT")
        if self.output_path.suffix == ".parquet":
            raise ConfigError("evaluate writes JSON Lines; name an --output that ends in .jsonl.")

    @property
    def output_path(self) -> Path:
        """The file that is written."""
        name = f"eval_results_{self.data_subset}.jsonl"
        return Path(self.output) if self.output else Path(self.checkpoint) / name


@dataclasses.dataclass(frozen=True)
class ReferenceConfig(ModelOptions):
    """Options of ``hidden-context reference``."""

    checkpoint: str = option("", "folder of the model, which gets the reference", positional=True)
    data_path: str = option(
        "", "hub id, folder or file of the model's training data, or similar data", positional=True
    )
    data_subset: str = option("both", "both, helpful or harmless, or another subset's name")
    split: str = option("train", "split to read; of no effect for a single file")
    texts: int = option(4000, "most texts, of as many prompts as there are", least=4 * LEAST_TEXTS)
    on_malformed: Literal["error", "skip"] = option(
        "error", "malformed rows: an error, or skipped and counted"
    )
    seed: int = option(0, "seed of the draw, and of the division into halves")

    def __post_init__(self) -> None:
        super().__post_init__()
        needed = {"a model": self.checkpoint, "its data": self.data_path}
        check_given(needed, "reference CHECKPOINT DATA")
