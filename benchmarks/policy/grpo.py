"""Small policies trained by TRL's GRPO on the study's rewards, in the first world.

    python benchmarks/policy/grpo.py --output results/grpo
    python benchmarks/policy/grpo.py --output results/grpo --report grpo.md --figures figures

A policy starts as a language model of the world's responses. It trains against a reward through
`hidden_context.integrations.trl.reward_function`, is measured as it goes, and goes on where it was
if it is stopped. Each reward and seed has one JSON file. `base` names the scalar reward model, all
measures of risk read a `mean_and_variance` model, and `less_overlap:3` is PURM's reward.
"""

from __future__ import annotations

import dataclasses
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from kit import script_parser
from policy.models import Sizes, Unit, check_kept, language_model, saved_model
from policy.rewards import PURM, PurmReward
from policy.sampled import MOST_TOKENS, Scores, measure
from policy.training import Settings, add_settings, file_name, go_on, make_trainer, settings_of
from policy.worlds import NAMES, SEEDS, PolicyWorld

from hidden_context.cli.main import run_safely
from hidden_context.data.storage.files import read_json, write_json
from hidden_context.data.storage.locks import exclusive_folder
from hidden_context.integrations.trl import reward_function
from hidden_context.models import RewardModel

REWARDS: Final = ("base", "mean", "quantile:0.01", "cvar:0.05", "less_overlap:3", "entropic:2")
"""What best-of-n was tuned to on its own seeds."""
POINTS: Final = "points.json"


@dataclasses.dataclass(frozen=True)
class WorldSettings(Settings):
    """Sizes of one training in a generated world.

    Attributes:
        pretraining: Steps of the starting policy's language model.
        prompts: Harmful test prompts that the policy is measured on, and as many benign ones.
    """

    pretraining: int = 4000
    prompts: int = 16


def reward_of(name: str, seed: int, folder: Path) -> Callable[..., Any]:
    """Train the reward model that a reward reads, or load it, and make TRL's reward function."""
    unit = Unit(NAMES[0], seed, "base" if name == "base" else "mean_and_variance")
    path = saved_model(unit, folder, Sizes())
    model = RewardModel.from_pretrained(path)
    measure, _, factor = name.partition(":")
    if measure == PURM:
        return PurmReward(model, float(factor))
    return reward_function(model, "mean" if name == "base" else name, unscored="none")


def optimise(name: str, seed: int, folder: Path, settings: WorldSettings) -> dict[str, Any]:
    """Train the policy; a training that was stopped goes on from its last save.

    Raises:
        ConfigError: If what is there was trained by other settings.
    """
    begun = time.perf_counter()
    world = PolicyWorld(NAMES[0], seed)
    start = language_model(folder / f"policy_{seed}", seed, 4000, settings.pretraining)
    own = folder / file_name(name, seed).removesuffix(".json")
    reward = reward_of(name, seed, folder)
    source = world.source
    prompts = [p.text for h in (True, False) for p in source.prompts("train", harmful=h)]
    trainer, last = make_trainer(
        start, own, reward, prompts, settings, tokens=MOST_TOKENS, seed=seed
    )
    if isinstance(reward, PurmReward):  # whose penalty depends on all that the run has seen
        trainer.add_callback(reward.keeper(own, last))
    trainer.add_callback(_measurements(own, start, reward, world, settings))
    go_on(trainer, last, settings.steps)
    return {
        "reward": name,
        "seed": seed,
        "settings": dataclasses.asdict(settings),
        "points": read_json(own / POINTS),
        "seconds": time.perf_counter() - begun,
    }


def _measurements(
    own: Path, start: Path, reward: Callable[..., Any], world: PolicyWorld, settings: WorldSettings
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


def main(argv: Sequence[str] | None = None) -> int:
    """Train the missing policies, or write the report."""
    parser = script_parser(__doc__)
    parser.add_argument("--output", type=Path, required=True, help="folder of results")
    parser.add_argument("--rewards", nargs="+", default=REWARDS)
    parser.add_argument("--seeds", nargs="+", type=int, default=SEEDS)
    parser.add_argument("--report", type=Path, help="write the tables here instead of training")
    parser.add_argument("--figures", type=Path, help="folder of the report's figure")
    add_settings(parser, WorldSettings)
    options = parser.parse_args(argv)
    if options.report:
        from policy.grpo_report import write_report

        write_report(
            options.output, options.rewards, options.seeds, options.report, options.figures
        )
        return 0
    torch.set_num_threads(1)
    settings = settings_of(options, WorldSettings())
    with exclusive_folder(options.output):
        for seed in options.seeds:
            for name in options.rewards:
                path = options.output / file_name(name, seed)
                if path.is_file():
                    check_kept(path, read_json(path).get("settings"), dataclasses.asdict(settings))
                    continue
                found = optimise(name, seed, options.output, settings)
                write_json(path, found)
                print(f"{name}, seed {seed}: {found['seconds']:.0f} s", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(run_safely(main, None))
