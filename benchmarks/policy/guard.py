r"""What the guard against over-optimisation finds in a generated world, and of real texts.

    python benchmarks/policy/guard.py --output results/guard
    python benchmarks/policy/guard.py --output results/grpo --policies
    python benchmarks/policy/guard.py --output results/guard --backbone FOLDER --pairs FOLDER \
        --jailbreaks FILE

The first trains the study's reward model of one seed, makes its reference, and lets guards look at
the starting policy's responses, at the same responses spoilt, and at other prompts. The last does
the like with a backbone and the ``test`` split of preference pairs that are there. All print JSON.

With ``--policies`` the output is a folder of ``grpo.py``: guards look at samples of the starting
policy of each seed, and of the last checkpoint of each reward.
"""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from transformers.trainer_utils import get_last_checkpoint

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from kit import fit, script_parser
from policy.models import Sizes, Unit, saved_model
from policy.worlds import NAMES, PolicyWorld

from hidden_context.data.dialogue import Conversation
from hidden_context.data.example import Example
from hidden_context.data.importers import read_row
from hidden_context.data.sources import load_examples
from hidden_context.data.splits.division import split_by_prompt
from hidden_context.data.storage.files import iter_jsonl
from hidden_context.integrations.guard import Guard, seen_of
from hidden_context.integrations.reward import score
from hidden_context.models.featurizer import FeatureCache
from hidden_context.models.reward_model import RewardModel
from hidden_context.scoring.guard import Seen
from hidden_context.scoring.reference import draw, reference_of

PROMPTS: Final = 32
RESPONSES: Final = 8
"""Responses to a prompt: a window of 256 are those of 32 prompts."""
WINDOWS: Final = 200
TEXTS: Final = 4000
LOOKED_AT: Final = 64
"""Held-out pairs of a subset, or jailbreaks, that guards look at."""

Asked = Sequence[tuple[Conversation, Sequence[str]]]
"""Prompts and responses to each."""


def with_reference(
    path: Path, folder: Path, examples: Sequence[Example], seed: int = 0
) -> RewardModel:
    """Load a model, with its reference, made of examples unless there is one."""
    model = RewardModel.from_pretrained(path)
    model.featurizer.cache = FeatureCache(folder / "cache")
    if model.reference is None:
        model.reference = reference_of(model, draw(examples, TEXTS, seed), seed=seed)
        model.reference.save(path)
    return model


def world_model(seed: int, folder: Path) -> RewardModel:
    """Train the study's reward model of a seed, or load it, and give it its reference."""
    sizes = Sizes()
    path = saved_model(Unit(NAMES[0], seed, "mean_and_variance"), folder, sizes)
    rows = PolicyWorld(NAMES[0], seed).comparisons(sizes.comparisons)
    examples = [read_row(row, file="comparisons", line=n) for n, row in enumerate(rows, 1)]
    return with_reference(path, folder, examples)


def shuffled(text: str, generator: np.random.Generator) -> str:
    """Return a text's words in another order."""
    return " ".join(generator.permutation(text.split()))


def repeated(text: str, generator: np.random.Generator) -> str:
    """Return a text whose last five words are said four times."""
    words = text.split()
    return " ".join(words + words[-5:] * 3)


Spoil = Callable[[str, np.random.Generator], str]
SPOILT: Final[dict[str, Spoil]] = {"words shuffled": shuffled, "ends repeated": repeated}


def seen_by(model: RewardModel, asked: Asked) -> list[Seen]:
    """Score responses, and place them in the reference, prompt by prompt."""
    prompts = [prompt for prompt, own in asked for _ in own]
    batch = score(model, prompts, [text for _, own in asked for text in own], unscored="none")
    return seen_of(batch.answered)


def looked_at(seen: Sequence[Seen], windows: int = WINDOWS, seed: int = 0) -> dict[str, Any]:
    """Let guards look at windows of prompts drawn at random.

    Args:
        seen: Of each prompt, where its responses stand.
        windows: Number of windows, of ``PROMPTS`` prompts each, or of all there are.
        seed: Seed of the draw.

    Returns:
        ``alarms``: the share of windows with an alarm of any quantity, and of each one; ``shares``:
        the share of responses above the data's 95th percentile.
    """
    generator = np.random.default_rng(seed)
    size = min(PROMPTS, len(seen))
    found: list[set[str]] = []
    for _ in range(windows):
        chosen = [seen[n] for n in generator.permutation(len(seen))[:size]]
        alarm = Guard(window=sum(len(one.sigma) for one in chosen)).take(chosen)
        found.append(set() if alarm is None else set(alarm.shares))
    responses = sum(len(one.sigma) for one in seen)
    whole = Guard(window=1 + responses)
    whole.take(seen)
    shares = whole.shares()
    return {
        "prompts": len(seen),
        "responses": responses,
        "alarms": {
            "any": float(np.mean([bool(one) for one in found])),
            **{name: float(np.mean([name in one for one in found])) for name in shares},
        },
        "shares": {name: round(share.share, 4) for name, share in shares.items()},
    }


def in_world(seed: int, folder: Path) -> dict[str, Any]:
    """Look at the starting policy of a world, at it spoilt, and at other mixtures of prompts."""
    model = world_model(seed, folder)
    world, generator = PolicyWorld(NAMES[0], seed), np.random.default_rng(seed)

    def answers(harmful: bool, alike: bool = False) -> Asked:
        """Answers of kinds at random, or to each prompt of one kind."""
        found = []
        for prompt in world.source.prompts("test", harmful=harmful):
            kinds = generator.choice(np.array(prompt.kinds, object), RESPONSES)
            kinds = kinds[:1].repeat(RESPONSES) if alike else kinds
            own = [world.source.respond(prompt, kind, generator).text for kind in kinds]
            found.append((prompt.text, [f" {text}" for text in own]))
        return found

    fresh = {harmful: answers(harmful) for harmful in (True, False)}
    both = [*fresh[True], *fresh[False]]
    pairs = [
        (row["prompt"], [row[side][len(row["prompt"]) :] for side in ("chosen", "rejected")])
        for row in world.comparisons(Sizes().test, "test")
    ]
    asked: dict[str, Asked] = {"pairs of other prompts": pairs, "starting policy": both}
    for name, spoil in SPOILT.items():
        asked[name] = [(p, [f" {spoil(text, generator)}" for text in own]) for p, own in both]
    asked["all of a kind"] = [*answers(True, alike=True), *answers(False, alike=True)]
    asked |= {"harmful prompts alone": fresh[True], "benign prompts alone": fresh[False]}
    return {name: looked_at(seen_by(model, own)) for name, own in asked.items()}


def of_policies(seeds: Sequence[int], folder: Path) -> dict[str, Any]:
    """Look at samples of the starting policies and the last checkpoints in a folder of ``grpo.py``.

    Returns:
        By policy what ``looked_at`` does, and ``unreadable``: the share of texts that the grammar
        has not.
    """
    from policy.trained import kind_of, responses
    from transformers import AutoModelForCausalLM, AutoTokenizer

    found = {}
    for seed in seeds:
        world, model = PolicyWorld(NAMES[0], seed), world_model(seed, folder)
        policies = {f"policy_{seed}": str(folder / f"policy_{seed}")}
        for own in sorted(folder.glob(f"*_{seed}")):
            last = get_last_checkpoint(str(own))
            if last is not None:
                policies[own.name] = last
        for name, path in policies.items():
            network = AutoModelForCausalLM.from_pretrained(path).eval()
            tokenizer = AutoTokenizer.from_pretrained(path)
            drawn = responses(network, network, tokenizer, world.prompts(16), 16)
            unreadable = [kind_of(p, text) is None for p, texts, _ in drawn for text in texts]
            seen = seen_by(model, [(prompt.text, texts) for prompt, texts, _ in drawn])
            found[name] = {"unreadable": float(np.mean(unreadable)), **looked_at(seen, windows=1)}
            print(json.dumps({name: found[name]}), file=sys.stderr, flush=True)
    return found


def on_pairs(backbone: str, data: str, jailbreaks: str | None, folder: Path) -> dict[str, Any]:
    """Train probes on real pairs, make their references, and look at other texts.

    Half of the prompts (first user turns) train a model and make its reference. What is looked at
    is the other half, its texts spoilt, and responses to jailbreak prompts: for a model of all
    pairs, and for models of one subset, to which the other subset is new.
    """
    generator = np.random.default_rng(0)
    rest, held_out = split_by_prompt(load_examples(data, "both", "test").examples, 0.5)
    asked: dict[str, Asked] = {}
    for subset in ("helpful", "harmless"):
        own = [one for one in held_out if one.data_subset == subset][:LOOKED_AT]
        asked[subset] = [(str(one.prompt), [*map(str, one.responses)]) for one in own]
    texts = [pair for pairs in asked.values() for pair in pairs]
    for name, spoil in SPOILT.items():
        asked[name] = [(p, [f" {spoil(text, generator)}" for text in own]) for p, own in texts]
    if jailbreaks:
        rows = [row for _, row in iter_jsonl(Path(jailbreaks))][:LOOKED_AT]
        asked["jailbreaks"] = [(row["prompt"], row["responses"]) for row in rows]
    found = {}
    for name in ("both", "helpful", "harmless"):
        own = [one for one in rest if name in ("both", one.data_subset)]
        path = folder / f"pairs_{name}"
        if not path.is_dir():
            options = {
                "model_name": backbone,
                "reward_model_type": "mean_and_variance",
                "freeze_backbone": True,
                "max_length": 256,
                "output_dir": str(folder / f"train_{name}"),
                "cache_dir": str(folder / "cache"),
                "baselines": False,
            }
            fit(options, own, held_out[:200]).model.save_pretrained(path)
        model = with_reference(path, folder, own)
        found[f"model of {name}"] = {
            "reference": (model.reference.facts if model.reference else {}),
            **{what: looked_at(seen_by(model, pairs)) for what, pairs in asked.items()},
        }
        print(json.dumps({name: found[f"model of {name}"]}), file=sys.stderr, flush=True)
    return found


def main() -> None:
    parser = script_parser(__doc__)
    parser.add_argument("--output", type=Path, required=True, help="folder of models and caches")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--policies", action="store_true", help="look at GRPO's policies")
    parser.add_argument("--backbone", help="folder of the backbone for real pairs")
    parser.add_argument("--pairs", help="folder of real preference pairs")
    parser.add_argument("--jailbreaks", help="JSON Lines file of prompts and responses")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if options.policies:
            found = of_policies(options.seeds, options.output)
        elif options.pairs:
            found = on_pairs(options.backbone, options.pairs, options.jailbreaks, options.output)
        else:
            found = {f"seed {seed}": in_world(seed, options.output) for seed in options.seeds}
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
