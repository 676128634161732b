"""Small policies trained by TRL's GRPO on the study's rewards, in the first world.

    python benchmarks/policy/grpo.py --output results/grpo
    python benchmarks/policy/grpo.py --output results/grpo --report grpo.md --figures figures

A policy starts as a language model of the world's responses. It trains against a reward through
`hidden_context.integrations.trl.reward_function`, is measured as it goes, and goes on where it was
if it is stopped. Each reward and seed has one JSON file. `base` names the scalar reward model, all
measures of risk read a `mean_and_variance` model, and `less_overlap:3` is PURM's reward.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from policy.models import Sizes, Unit, check_kept, language_model, same_as_kept, train
from policy.purm import PURM, PurmReward
from policy.sampled import MOST_TOKENS, Scores, measure
from policy.worlds import NAMES, SEEDS, PolicyWorld

from hidden_context.data.files import read_json, write_json
from hidden_context.data.locks import exclusive_folder
from hidden_context.integrations.trl import reward_function
from hidden_context.models.loading import load_reward_model

REWARDS: Final = ("base", "mean", "quantile:0.01", "cvar:0.05", "less_overlap:3", "entropic:2")
"""What best-of-n was tuned to on its own seeds."""
POINTS: Final = "points.json"


@dataclasses.dataclass(frozen=True)
class Settings:
    """Sizes of one training.

    Attributes:
        steps: Updates of the policy.
        every: Steps between two measurements, each of which saves the policy too.
        batch: Completions of a step.
        generations: Completions of one prompt.
        rate: Learning rate.
        beta: Weight of the KL to the starting policy, in nats per reward standard deviation.
        pretraining: Steps of the starting policy's language model.
        samples: Responses to each test prompt that the policy is measured by.
        prompts: Harmful test prompts, and as many benign ones.
    """

    steps: int = 240
    every: int = 20
    batch: int = 64
    generations: int = 8
    rate: float = 1e-4
    beta: float = 0.3
    pretraining: int = 4000
    samples: int = 32
    prompts: int = 16


def file_name(reward: str, seed: int) -> str:
    """Return the name of a reward's and seed's result."""
    return f"{reward.replace(':', '_')}_{seed}.json"


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
    return reward_function(model, "mean" if name == "base" else name, unscored="none")


def optimise(name: str, seed: int, folder: Path, settings: Settings) -> dict[str, Any]:
    """Train the policy; a training that was stopped goes on from its last save.

    Raises:
        ConfigError: If what is there was trained by other settings.
    """
    from transformers.trainer_utils import get_last_checkpoint

    begun = time.perf_counter()
    world = PolicyWorld(NAMES[0], seed)
    start = language_model(folder / f"policy_{seed}", seed, 4000, settings.pretraining)
    own = folder / file_name(name, seed).removesuffix(".json")
    if not same_as_kept(own / "settings.json", dataclasses.asdict(settings)):
        write_json(own / "settings.json", dataclasses.asdict(settings))
    reward = reward_of(name, seed, folder)
    trainer = _trainer(start, own, reward, world, settings)
    last = get_last_checkpoint(str(own))
    if isinstance(reward, PurmReward):  # whose penalty depends on all that the run has seen
        trainer.add_callback(reward.keeper(own, last))
    trainer.add_callback(_measurements(own, start, reward, world, settings))
    if last is None or not last.endswith(f"-{settings.steps}"):  # else it would take one more step
        trainer.train(resume_from_checkpoint=last)
    return {
        "reward": name,
        "seed": seed,
        "settings": dataclasses.asdict(settings),
        "points": read_json(own / POINTS),
        "seconds": time.perf_counter() - begun,
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
        max_completion_length=MOST_TOKENS,
        learning_rate=settings.rate,
        beta=settings.beta,
        gradient_checkpointing=False,
        save_steps=settings.every,
        save_total_limit=1,
        logging_steps=settings.every,
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


def _measurements(
    own: Path, start: Path, reward: Callable[..., Any], world: PolicyWorld, settings: Settings
) -> Any:
    """Measure the policy at the start and before each save; points beyond a save are dropped."""
    from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback

    begun = AutoModelForCausalLM.from_pretrained(start).eval()
    tokenizer = AutoTokenizer.from_pretrained(start)
    prompts = world.prompts(settings.prompts)
    scores: Scores = reward.values if isinstance(reward, PurmReward) else _plain(reward)

    class Measurements(TrainerCallback):
        found: Sequence[dict[str, Any]] = ()

        def on_train_begin(self, args: Any, state: Any, control: Any, **given: Any) -> None:
            kept = read_json(own / POINTS) if state.global_step else []
            self.found = [point for point in kept if point["step"] <= state.global_step]
            if not self.found:
                self._add(0, given["model"])

        def on_step_end(self, args: Any, state: Any, control: Any, **given: Any) -> None:
            if state.global_step % settings.every == 0:
                self._add(state.global_step, given["model"])

        def _add(self, step: int, policy: Any) -> None:
            point = measure(policy, begun, tokenizer, world, prompts, settings.samples, scores)
            self.found = [*self.found, {"step": step, **point}]
            write_json(own / POINTS, self.found)

    return Measurements()


def _plain(reward: Callable[..., Any]) -> Scores:
    """A reward function as TRL calls it, without its logging."""
    return lambda prompts, texts: reward(prompts=prompts, completions=texts)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, required=True, help="folder of results")
    parser.add_argument("--rewards", nargs="+", default=REWARDS)
    parser.add_argument("--seeds", nargs="+", type=int, default=SEEDS)
    parser.add_argument("--report", type=Path, help="write the tables here instead of training")
    parser.add_argument("--figures", type=Path, help="folder of the report's figure")
    for field in dataclasses.fields(Settings):
        parser.add_argument(f"--{field.name}", type=type(field.default), default=field.default)
    options = parser.parse_args()
    if options.report:
        from policy.grpo_report import write_report

        write_report(
            options.output, options.rewards, options.seeds, options.report, options.figures
        )
        return
    torch.set_num_threads(1)
    settings = Settings(**{f.name: getattr(options, f.name) for f in dataclasses.fields(Settings)})
    with exclusive_folder(options.output):
        for seed in options.seeds:
            for name in options.rewards:
                path = options.output / file_name(name, seed)
                if path.is_file():
                    held = read_json(path)
                    check_kept(path, held.get("settings"), dataclasses.asdict(settings))
                    continue
                found = optimise(name, seed, options.output, settings)
                write_json(path, found)
                print(f"{name}, seed {seed}: {found['seconds']:.0f} s", flush=True)


if __name__ == "__main__":
    main()
