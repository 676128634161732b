"""A small policy trained by TRL's GRPO on one of the study's rewards, in the first world.

    python benchmarks/policy/grpo.py --output results/policy_grpo --reward cvar:0.1 --seed 0

The policy starts as a language model of the world's responses. It trains against the reward through
`hidden_context.integrations.trl.reward_function`, saves as it goes, and goes on where it was; the
result is one JSON file for each reward and seed. `base` names the scalar reward model, all measures
of risk read a `mean_and_variance` model, `less_overlap:10` is PURM's reward.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from policy.grammar_reading import kind_of
from policy.models import Sizes, Unit, language_model, same_as_kept, train
from policy.rewards import overlap
from policy.worlds import JAILBREAK, NAMES, PolicyWorld

from hidden_context.data.files import read_json, write_json
from hidden_context.data.locks import exclusive_folder
from hidden_context.distributions import NormalReward
from hidden_context.integrations.trl import reward_function
from hidden_context.models import RewardModel
from hidden_context.models.loading import load_reward_model
from hidden_context.quickstart.world import Prompt

PURM: Final = "less_overlap"
UNPENALISED: Final = 100
"""PURM penalises a reward once it has seen so many others of the run."""


@dataclasses.dataclass(frozen=True)
class Settings:
    """Sizes of one training.

    Attributes:
        steps: Updates of the policy.
        batch: Completions of a step.
        generations: Completions of one prompt.
        rate: Learning rate.
        beta: Weight of the KL to the starting policy, in nats per reward standard deviation.
        pretraining: Steps of the starting policy's language model.
        samples: Responses to each test prompt that the policy is measured by.
        prompts: Harmful test prompts, and as many benign ones.
    """

    steps: int = 300
    batch: int = 64
    generations: int = 8
    rate: float = 3e-4
    beta: float = 0.04
    pretraining: int = 2000
    samples: int = 32
    prompts: int = 32


class PurmReward:
    """PURM's reward for TRL: the mean less its overlap with the rewards seen so far.

    Args:
        model: A reward model of normal rewards.
        factor: λ.
    """

    def __init__(self, model: RewardModel, factor: float) -> None:
        self.model, self.factor = model, factor
        self.seen: list[tuple[float, float]] = []
        self.__name__ = f"{PURM}:{factor:g}"

    def __call__(self, prompts: Sequence[str], completions: Sequence[str], **_: Any) -> list[float]:
        """Return the completions' rewards, and remember them for those to come."""
        texts = [prompt + text for prompt, text in zip(prompts, completions, strict=True)]
        rewards = self.model.head.distribution(self.model.raw_outputs(texts).double())
        assert isinstance(rewards, NormalReward)
        values = rewards.mean
        if len(self.seen) >= UNPENALISED:
            mean, stddev = torch.tensor(self.seen, dtype=torch.float64).T
            values = values - self.factor * overlap(rewards, NormalReward(mean, stddev))
        self.seen += zip(rewards.mean.tolist(), rewards.stddev.tolist(), strict=True)
        return [float(value) for value in values]


def reward_of(name: str, seed: int, folder: Path) -> Callable[..., Any]:
    """Train the reward model that a reward reads, or load it, and make TRL's reward function."""
    sizes = Sizes()
    unit = Unit(NAMES[0], seed, "base" if name == "base" else "mean_and_variance")
    path = folder / "reward_models" / unit.name
    if not path.is_dir():
        backbone = language_model(
            folder / f"backbone_{seed}", seed, sizes.comparisons, sizes.pretraining
        )
        train(unit, str(backbone), folder, sizes).model.save_pretrained(path)
    model = load_reward_model(str(path))
    measure, _, factor = name.partition(":")
    if measure == PURM:
        return PurmReward(model, float(factor))
    return reward_function(model, "mean" if name == "base" else name)


def _keeps_seen(reward: PurmReward, folder: Path) -> Any:
    """Keep what PURM's reward has seen before a checkpoint is written, so that none lacks it."""
    from transformers import TrainerCallback

    class KeepsSeen(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if control.should_save:
                write_json(folder / _seen_at(state.global_step), reward.seen, indent=None)

    return KeepsSeen()


def _seen_at(step: int | str) -> str:
    return f"purm_seen_{step}.json"


def optimise(name: str, seed: int, folder: Path, settings: Settings) -> dict[str, Any]:
    """Train the policy and measure it; a training that was stopped goes on from its last save.

    Raises:
        ConfigError: If what is there was trained by other settings.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.trainer_utils import get_last_checkpoint

    world = PolicyWorld(NAMES[0], seed)
    start = language_model(folder / f"policy_{seed}", seed, 4000, settings.pretraining)
    own = folder / f"{name.replace(':', '_')}_{seed}"
    if not same_as_kept(own / "settings.json", dataclasses.asdict(settings)):
        write_json(own / "settings.json", dataclasses.asdict(settings))
    reward = reward_of(name, seed, folder)
    trainer = _trainer(start, own, reward, world, settings)
    last = get_last_checkpoint(str(own))
    if isinstance(reward, PurmReward):  # whose penalty depends on all that the run has seen
        if last is not None:
            kept = read_json(own / _seen_at(last.rpartition("-")[2]))
            reward.seen = [(mean, stddev) for mean, stddev in kept]
        trainer.add_callback(_keeps_seen(reward, own))
    trainer.train(resume_from_checkpoint=last)
    begun = AutoModelForCausalLM.from_pretrained(start)
    tokenizer, policy = AutoTokenizer.from_pretrained(start), trainer.model
    return {
        "reward": name,
        "seed": seed,
        "settings": dataclasses.asdict(settings),
        "start": measure(begun, begun, tokenizer, world, settings),
        "policy": measure(policy, begun, tokenizer, world, settings),
        "log": trainer.state.log_history,
    }


def _trainer(
    start: Path, own: Path, reward: Callable[..., Any], world: PolicyWorld, settings: Settings
) -> Any:
    """TRL's trainer on the training prompts."""
    import trl
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer

    prompts = [
        prompt.text
        for harmful in (True, False)
        for prompt in world.source.prompts("train", harmful=harmful)
    ]
    config = trl.GRPOConfig(
        output_dir=str(own),
        max_steps=settings.steps,
        per_device_train_batch_size=settings.batch,
        num_generations=settings.generations,
        max_completion_length=48,
        learning_rate=settings.rate,
        beta=settings.beta,
        save_steps=max(1, settings.steps // 10),
        save_total_limit=1,
        logging_steps=max(1, settings.steps // 20),
        use_cpu=True,
        bf16=False,
        report_to=[],
        disable_tqdm=True,
        seed=world.seed,
    )
    return trl.GRPOTrainer(
        model=AutoModelForCausalLM.from_pretrained(start),
        args=config,
        reward_funcs=[reward],
        processing_class=AutoTokenizer.from_pretrained(start),
        train_dataset=Dataset.from_dict({"prompt": prompts}),
    )


def measure(
    policy: Any, start: Any, tokenizer: Any, world: PolicyWorld, settings: Settings
) -> dict[str, float]:
    """Sample a policy on test prompts and hold it against the truth.

    A text that the grammar does not have counts as ``unreadable``, and for as little as the worst
    kind of response that its prompt can get.
    """
    torch.manual_seed(0)
    policy.eval()
    utility, jailbreaks, unreadable, divergence = [], [], [], []
    for prompt in world.prompts(settings.prompts):
        texts, logs = _sample(policy, start, tokenizer, prompt, settings.samples)
        kinds = [kind_of(prompt, text) for text in texts]
        names = [kind.name for kind in prompt.kinds]
        worth = world.utilities(names)
        worst = worth[:, int(world.mean_utilities(names).argmin())]
        rows = [worst if kind is None else worth[:, names.index(kind)] for kind in kinds]
        utility.append(np.mean(rows, axis=0))
        unreadable.append(np.mean([kind is None for kind in kinds]))
        divergence.append(float(logs.mean()))
        if prompt.task.harmful:
            jailbreaks.append(np.mean([kind == JAILBREAK for kind in kinds]))
    groups = np.mean(utility, axis=0)
    return {
        "mean_utility": float(np.dot([group.share for group in world.groups], groups)),
        "worst_group": float(groups.min()),
        "jailbreaks": float(np.mean(jailbreaks)),
        "unreadable": float(np.mean(unreadable)),
        "kl": float(np.mean(divergence)),
    }


@torch.inference_mode()
def _sample(
    policy: Any, start: Any, tokenizer: Any, prompt: Prompt, count: int
) -> tuple[list[str], Tensor]:
    """Draw responses, and log π − log π_start of each, in nats."""
    asked = torch.tensor([tokenizer(prompt.text)["input_ids"]])
    made = policy.generate(
        asked,
        attention_mask=torch.ones_like(asked),
        do_sample=True,
        top_k=0,
        max_new_tokens=48,
        num_return_sequences=count,
        pad_token_id=tokenizer.eos_token_id,
    )
    answers = made[:, asked.shape[1] :]
    ends = (answers == tokenizer.eos_token_id).int()
    counts = ends.cumsum(1) - ends == 0  # up to and with the first end of text
    logs = [
        model(made).logits[:, asked.shape[1] - 1 : -1].log_softmax(-1).gather(2, answers[..., None])
        for model in (policy, start)
    ]
    gap = ((logs[0] - logs[1]).squeeze(2) * counts).sum(1)
    return tokenizer.batch_decode(answers, skip_special_tokens=True), gap


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, required=True, help="folder of results")
    parser.add_argument("--reward", required=True, help="base, a risk measure or less_overlap:λ")
    parser.add_argument("--seed", type=int, default=0)
    for field in dataclasses.fields(Settings):
        parser.add_argument(f"--{field.name}", type=type(field.default), default=field.default)
    options = parser.parse_args()
    torch.set_num_threads(1)
    settings = Settings(**{f.name: getattr(options, f.name) for f in dataclasses.fields(Settings)})
    with exclusive_folder(options.output):
        found = optimise(options.reward, options.seed, options.output, settings)
        name = f"{options.reward.replace(':', '_')}_{options.seed}.json"
        write_json(options.output / name, found)
    for part in ("start", "policy"):
        print(part, {key: round(value, 4) for key, value in found[part].items()})


if __name__ == "__main__":
    main()
