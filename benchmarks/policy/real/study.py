"""Best of 16 responses of SmolLM2-135M-Instruct by cautious rewards, on one processor core.

    python benchmarks/paper/smollm2.py FOLDER
    python benchmarks/policy/real/study.py --model FOLDER --data DATA --output results/policy_real
    python benchmarks/policy/real/study.py --model FOLDER --data DATA --output results/policy_real \
        --report policy_real.md

DATA is the folder that `hidden-context data download` makes. Responses are written as they come,
features and rewards are kept: a run that was stopped goes on where it was, and one of more prompts
begins with those that are answered. The second command writes the tables and their numbers as JSON.
"""

from __future__ import annotations

import hashlib
import json
import sys
import time
from argparse import Namespace
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from kit import script_parser, write_tables
from policy.real.prompts import Division, divide, load_jailbreaks, load_pairs, questions
from policy.real.responses import Sampler, answer_all
from policy.real.reward_models import LAYER, LEARNERS, Said, prepare, said, training_options
from policy.real.summary import summarise, tables

from hidden_context.cli.main import run_safely
from hidden_context.data.storage.locks import exclusive_folder
from hidden_context.models.checkpoint.identity import weight_digests

SAMPLING: Final[dict[str, Any]] = {"count": 16, "max_new_tokens": 48, "dtype": "bfloat16"}
"""Responses to each prompt, and their most tokens; longer ones are cut off there."""


def rewards_for(
    options: Namespace, division: Division, asked: Any, rows: Any, say: Callable[[str], Any]
) -> dict[str, Said]:
    """Train all reward models and judges on the frozen model, and read the responses by them."""
    model, folder = options.model, options.output
    answered = [
        question.example(row["responses"]) for question, row in zip(asked, rows, strict=True)
    ]
    texts = [*division.train, *division.judges, *division.held_out, *answered]
    prepare(model, [text for each in texts for text in each.inputs], folder / "cache", say)
    contents = {"responses": [row["responses"] for row in rows]}
    for side in ("train", "judges"):
        pairs = getattr(division, side)
        contents[side] = [[pair.prompt, pair.responses, pair.objective] for pair in pairs]
    depends = {"weights": weight_digests(model), "layer": LAYER}
    for name, content in contents.items():
        text = json.dumps(content, sort_keys=True)
        depends[name] = hashlib.sha256(text.encode()).hexdigest()
    training = training_options(model, folder)
    found = {}
    for learner in LEARNERS:
        found[learner.name] = said(learner, division, answered, folder, depends, training)
        say(f"{learner.name}: trained on {len(learner.pairs(division))} pairs")
    return found


def load_sampler(folder: str) -> Sampler:
    """Load the language model of a folder."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    return Sampler(model, tokenizer, SAMPLING["count"], SAMPLING["max_new_tokens"])


def main(argv: Sequence[str] | None = None) -> int:
    """Draw responses, train reward models, and write the tables."""
    parser = script_parser(__doc__)
    parser.add_argument("--model", required=True, help="folder of the language model")
    parser.add_argument("--data", type=Path, required=True, help="folder of the paper's data")
    parser.add_argument("--output", type=Path, required=True, help="folder of results")
    parser.add_argument("--each", type=int, default=75, help="held-out prompts of each part")
    parser.add_argument("--jailbreaks", type=int, default=187, help="jailbreak prompts")
    parser.add_argument("--report", type=Path, help="write tables and JSON here too")
    options = parser.parse_args(argv)
    torch.set_num_threads(1)
    started = time.perf_counter()

    def say(line: str) -> None:
        print(f"{time.perf_counter() - started:6.0f} s  {line}", flush=True)

    division = divide(load_pairs(options.data))
    jailbreaks = load_jailbreaks(options.data)
    asked = questions(division.held_out, jailbreaks, options.each, options.jailbreaks)
    with exclusive_folder(options.output):
        rows = answer_all(
            asked,
            options.output / "responses.jsonl",
            {**SAMPLING, "weights": weight_digests(options.model)},
            lambda: load_sampler(options.model).answer,
            say,
        )
        found = rewards_for(options, division, asked, rows, say)
    if options.report:
        numbers = summarise(rows, found, division)
        write_tables(options.report, tables(numbers), numbers)
        say(f"{options.report} written")
    return 0


if __name__ == "__main__":
    sys.exit(run_safely(main, None))
