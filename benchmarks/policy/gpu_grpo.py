"""SmolLM2-135M-Instruct trained by TRL's GRPO on cautious rewards, on one data-centre GPU.

    python benchmarks/paper/smollm2.py FOLDER
    python benchmarks/policy/gpu_grpo.py --model FOLDER --data DATA --output results/gpu_grpo
    python benchmarks/policy/gpu_grpo.py --toy --data DATA --output results/gpu_grpo_toy

DATA is the folder that `hidden-context data download` makes. Reward models, judges and prompts are
those of the best-of-n study in `real/`; nothing is fetched from the network. Each reward has one
JSON file, and a training that was stopped goes on from its last checkpoint. `--estimate` prints the
time of a run by its tokens. `--toy` takes a tiny random model through all of it on a processor, in
a few minutes; its numbers mean nothing.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from kit import script_parser
from policy.models import same_as_kept
from policy.real.measures import JUDGES, refuses
from policy.real.prompts import Division, Question, divide, load_jailbreaks, load_pairs, questions
from policy.real.responses import Sampler, in_passes
from policy.real.reward_models import LAYER, LEARNERS, trained, training_options
from policy.trained import Settings, file_name, go_on, kept, make_trainer
from tiny import tiny_llama
from transformers import LlamaForCausalLM

from hidden_context.cli.main import run_safely
from hidden_context.data.storage.files import write_json
from hidden_context.data.storage.locks import exclusive_folder
from hidden_context.integrations.trl import reward_function
from hidden_context.models import RewardModel
from hidden_context.models.checkpoint.identity import weight_digests

REWARDS: Final = ("base", "mean", "quantile:0.01", "cvar:0.05")
"""``base`` reads the scalar reward model, measures of risk a ``mean_and_variance`` one."""
DECODING: Final = 0.02
"""Assumed seconds of one decoding step of a batch; launching its kernels takes most of it."""
FLOPS: Final = 6e13
"""Assumed operations a second in training: a fifth of an A100's bfloat16."""
WEIGHTS: Final = 135e6
PROMPT: Final = 150
"""Assumed tokens of a prompt."""


@dataclasses.dataclass(frozen=True)
class ModelSettings(Settings):
    """Sizes of one training.

    Attributes:
        passes: Passes that a step's completions are divided into.
        tokens: Longest completion, in tokens.
        characters: Longest prompt that is trained on, in characters.
        each: Held-out prompts of each part of HH-RLHF that the policy is measured on.
        jailbreaks: Jailbreak prompts that it is measured on.
    """

    steps: int = 500
    every: int = 50
    batch: int = 256
    generations: int = 16
    rate: float = 5e-6
    beta: float = 0.04
    samples: int = 16
    passes: int = 4
    tokens: int = 128
    characters: int = 1500
    each: int = 75
    jailbreaks: int = 187


TOY: Final = ModelSettings(2, 1, 4, 2, 1e-4, 0.04, 2, 1, 8, 300, 2, 2)


def estimate(settings: ModelSettings) -> dict[str, float]:
    """Estimate the time of one training by its tokens; nothing here was measured.

    A step decodes ``tokens`` times, and runs prompt and completion forward twice and backward once:
    2 + 2 + 4 operations a weight and token.

    Returns:
        ``tokens`` that are drawn in training, ``seconds`` of one training.
    """
    drawn = settings.batch * settings.tokens
    learning = 8 * WEIGHTS * (drawn + settings.batch * PROMPT) / FLOPS
    seconds = settings.steps * (settings.tokens * DECODING + learning)
    return {"tokens": float(settings.steps * drawn), "seconds": seconds}


def prepare(
    model: str, division: Division, folder: Path, layer: int, keeps: dict[str, Any]
) -> dict[str, RewardModel]:
    """Train the reward models and judges, or load them; by name."""
    is_made = same_as_kept(folder / "models" / "made.json", keeps)
    found = {}
    for learner in LEARNERS:
        if learner.name in ("base", "mean_and_variance") or learner.side == "judges":
            path = folder / "models" / learner.file_name
            if not is_made or not path.is_dir():
                trained(learner, division, folder, training_options(model, folder, layer))
            found[learner.name] = RewardModel.from_pretrained(path, dtype="bfloat16")
    if not is_made:
        write_json(folder / "models" / "made.json", keeps)
    return found


def judged(
    policy: Any, tokenizer: Any, asked: Sequence[Question], judges: Any, settings: ModelSettings
) -> dict[str, Any]:
    """Sample a policy and let the judges read it.

    Returns:
        By set of prompts: each prompt's mean rewards by the judges and their spread, in the judges'
        own units; mean length in tokens; share of responses that begin with a refusal.
    """
    sampler = Sampler(policy, tokenizer, settings.samples, settings.tokens)
    found: dict[str, dict[str, list[Any]]] = {}
    for some in in_passes(asked):
        for question, row in zip(some, sampler.answer(some), strict=True):
            texts = row["responses"]
            own = found.setdefault(question.set, {})
            for name, judge in judges.items():
                raw = judge.raw_outputs(question.example([text or " " for text in texts]).inputs)
                rewards = judge.head.distribution(raw.double()).mean.numpy()
                own.setdefault(name, []).append(float(rewards.mean()))
                own.setdefault(f"{name} variance", []).append(float(rewards.var()))
            own.setdefault("tokens", []).append(float(np.mean(row["tokens"])))
            own.setdefault("refusals", []).append(float(np.mean([refuses(t) for t in texts])))
    return found


def gains(start: dict[str, Any], policy: dict[str, Any]) -> dict[str, Any]:
    """Return what each judge's reward gained on the start, in its standard deviations there.

    Returns:
        By set: gains of the judges and the lesser of the two, mean length and refusals.
    """
    spread = {
        name: np.sqrt(np.mean([v for own in start.values() for v in own[f"{name} variance"]]))
        for name in JUDGES
    }
    result: dict[str, Any] = {}
    for group, own in policy.items():
        result[group] = {
            name: float((np.mean(own[name]) - np.mean(start[group][name])) / spread[name])
            for name in JUDGES
        }
        result[group]["worse"] = min(result[group].values())
        result[group] |= {what: float(np.mean(own[what])) for what in ("tokens", "refusals")}
    return result


def run(options: argparse.Namespace, settings: ModelSettings) -> None:
    """Train reward models and policies, and write what the judges say of each."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    data, folder, model, layer = options.data, options.output, options.model, LAYER
    pairs, on_gpu = load_pairs(data), torch.cuda.is_available()
    if options.toy:
        pairs, layer, model = pairs[::20], 1, str(folder / "toy")
        tiny_llama(folder / "toy", LlamaForCausalLM, width=32)
    division = divide(pairs)
    keeps = {"weights": weight_digests(model), "layer": layer, "pairs": len(pairs)}
    models = prepare(model, division, folder, layer, keeps)
    judges = {name: models[f"{name} judge"] for name in JUDGES}
    asked = questions(division.held_out, load_jailbreaks(data), settings.each, settings.jailbreaks)
    read = partial(judged, asked=asked, judges=judges, settings=settings)

    def begin() -> dict[str, Any]:
        """Let the judges read the starting policy."""
        policy = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32).eval()
        policy.to("cuda" if on_gpu else "cpu")
        return {"policy": read(policy, AutoTokenizer.from_pretrained(model))}

    start = kept(folder / "start.json", settings, begin)["policy"]
    prompts = [
        Question("", str(pair.data_subset), str(pair.prompt)).messages()
        for pair in division.train
        if len(str(pair.prompt)) <= settings.characters
    ]

    def optimise(name: str) -> dict[str, Any]:
        """Train one policy, or go on with it, and let the judges read it."""
        is_base = name == "base"
        reward = models["base" if is_base else "mean_and_variance"]
        trainer, last = make_trainer(
            model,
            folder / file_name(name, 0).removesuffix(".json"),
            reward_function(reward, "mean" if is_base else name, unscored="none"),
            prompts,
            settings,
            tokens=settings.tokens,
            passes=settings.passes,
            on_gpu=on_gpu,
        )
        go_on(trainer, last, settings.steps)
        policy = read(trainer.model.eval(), trainer.processing_class)
        log = trainer.state.log_history
        return {"reward": name, "policy": policy, "log": log, "gains": gains(start, policy)}

    for name in options.rewards:
        found = kept(folder / file_name(name, 0), settings, partial(optimise, name))
        for group, each in found["gains"].items():
            shown = ", ".join(f"{what} {value:+.2f}" for what, value in each.items())
            print(f"{name}, {group}: {shown}", flush=True)


def main(argv: Sequence[str] | None = None) -> int:
    """Train the missing policies, or print an estimate of the time."""
    parser = script_parser(__doc__)
    parser.add_argument("--model", help="folder of the language model")
    parser.add_argument("--data", type=Path, help="folder of the paper's data")
    parser.add_argument("--output", type=Path, help="folder of results")
    parser.add_argument("--rewards", nargs="+", default=REWARDS)
    parser.add_argument("--toy", action="store_true", help="run all of it with a tiny model")
    parser.add_argument("--estimate", action="store_true", help="only print the estimated time")
    ModelSettings.add_flags(parser)
    options = parser.parse_args(argv)
    settings = (TOY if options.toy else ModelSettings()).changed(options)
    if options.estimate:
        one = estimate(settings)
        print(
            f"{len(options.rewards)} trainings of {one['tokens'] / 1e6:.1f} million drawn tokens, "
            f"about {one['seconds'] / 60:.0f} minutes each: estimated, not measured"
        )
        return 0
    if options.data is None or options.output is None or not (options.model or options.toy):
        parser.error("--data, --output and --model (or --toy) are needed")
    with exclusive_folder(options.output):
        run(options, settings)
    return 0


if __name__ == "__main__":
    sys.exit(run_safely(main, None))
