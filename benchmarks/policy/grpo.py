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
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from kit import cell, markdown, script_parser, student_interval, write_tables
from policy import trained
from policy.models import Sizes, Unit, language_model, saved_model
from policy.report import VERDICT, Columns, draw_trained, percent, points, rewards_table, verdict
from policy.rewards import PURM, PurmReward, Reward
from policy.rewards import REWARDS as OF_STUDY
from policy.summary import Run, by_seed, intervals
from policy.worlds import NAMES, SEEDS, PolicyWorld

from hidden_context.cli.main import run_safely
from hidden_context.data.storage.files import read_json, require_file, write_json
from hidden_context.data.storage.locks import exclusive_folder
from hidden_context.integrations.trl import reward_function
from hidden_context.models import RewardModel

REWARDS: Final = ("base", "mean", "quantile:0.01", "cvar:0.05", "less_overlap:3", "entropic:2")
"""What best-of-n was tuned to on its own seeds."""
POINTS: Final = "points.json"
KLS: Final = (0.25, 0.5)
"""What every reward and seed reaches."""
END: Final = "end"
_MORE: Final = ("unreadable",)
Numbers = Mapping[str, Mapping[str, Mapping[str, Sequence[float]]]]


@dataclasses.dataclass(frozen=True)
class WorldSettings(trained.Settings):
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
    model = RewardModel.from_pretrained(saved_model(unit, folder, Sizes()))
    measure, _, factor = name.partition(":")
    if measure == PURM:
        return PurmReward(model, float(factor))
    return reward_function(model, "mean" if name == "base" else name, unscored="none")


def optimise(name: str, seed: int, folder: Path, settings: WorldSettings) -> dict[str, Any]:
    """Train the policy; a training that was stopped goes on from its last save.

    Raises:
        ConfigError: If what is there was trained by other settings.
    """
    world = PolicyWorld(NAMES[0], seed)
    start = language_model(folder / f"policy_{seed}", seed, 4000, settings.pretraining)
    own = folder / trained.file_name(name, seed).removesuffix(".json")
    reward = reward_of(name, seed, folder)
    prompts = [p.text for h in (True, False) for p in world.source.prompts("train", harmful=h)]
    trainer, last = trained.make_trainer(
        start, own, reward, prompts, settings, tokens=trained.MOST_TOKENS, seed=seed
    )
    if isinstance(reward, PurmReward):  # whose penalty depends on all that the run has seen
        trainer.add_callback(reward.keeper(own, last))
    trainer.add_callback(_measurements(own, start, reward, world, settings))
    trained.go_on(trainer, last, settings.steps)
    return {"reward": name, "seed": seed, "points": read_json(own / POINTS)}


def _measurements(
    own: Path, start: Path, reward: Callable[..., Any], world: PolicyWorld, settings: WorldSettings
) -> Any:
    """Measure the policy at the start and before each save; points beyond a save are dropped."""
    from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback

    begun = AutoModelForCausalLM.from_pretrained(start).eval()
    tokenizer = AutoTokenizer.from_pretrained(start)
    prompts = world.prompts(settings.prompts)

    def plain(prompts: Sequence[str], texts: Sequence[str]) -> Any:
        return reward(prompts=prompts, completions=texts)

    scores: trained.Scores = reward.values if isinstance(reward, PurmReward) else plain

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
            point = trained.measure(
                policy, begun, tokenizer, world, prompts, settings.samples, scores
            )
            self.found = [*self.found, {"step": step, **point}]
            write_json(own / POINTS, self.found)

    return Measurements()


def named(name: str) -> tuple[Reward, str]:
    """Return the study's reward that a name of GRPO's stands for, and the name of its try there.

    Raises:
        StopIteration: If there is none.
    """
    measure = "mean" if name == "base" else name.partition(":")[0]
    fitting = [reward for reward in OF_STUDY if reward.measure == measure]
    found = next(r for r in fitting if measure != "mean" or (r.model == "base") == (name == "base"))
    return found, "mean" if name == "base" else name


def load(folder: Path, names: Sequence[str], seed: int) -> Run:
    """Read the policies of one seed, each measured at several steps.

    Raises:
        DataError: If a file is missing.
    """
    policies, gaps = {}, {}
    for name in names:
        found = read_json(require_file(folder / trained.file_name(name, seed), "Train it first"))
        reward, own = named(name)
        points = found["points"]
        first = points[0]
        policies[reward.model, own] = [
            {**point, "reward": (point["reward"] - first["reward"]) / first["reward_std"]}
            for point in points
        ]
        best = best_utility(seed, found["settings"]["prompts"])
        gaps = {"start": first["mean_utility"], "best": best, "gap": best - first["mean_utility"]}
    return Run(gaps, {}, policies)


def best_utility(seed: int, prompts: int) -> float:
    """Return the mean utility of the best policy for it, over the measured prompts."""
    world = PolicyWorld(NAMES[0], seed)
    names = [[kind.name for kind in prompt.kinds] for prompt in world.prompts(prompts)]
    return float(np.mean([world.mean_utilities(own).max() for own in names]))


def numbers(folder: Path, names: Sequence[str], seeds: Sequence[int]) -> Numbers:
    """Return mean and interval by reward, metric and KL; at the last step under ``end``."""
    runs = [load(folder, names, seed) for seed in seeds]
    result = {}
    for name in names:
        reward, own = named(name)
        at_kls, ends = (by_seed(runs, reward, own, kls, _MORE) for kls in (KLS, None))
        result[reward.title] = {
            metric: found | {END: student_interval(ends[metric][:, -1])}
            for metric, found in intervals(at_kls, KLS).items()
        }
    return result


def write_report(
    folder: Path, names: Sequence[str], seeds: Sequence[int], path: Path, figures: Path | None
) -> None:
    """Write tables in Markdown, every number of them as JSON beside it, and the figure.

    Args:
        folder: GRPO's results.
        names: Rewards.
        seeds: Seeds.
        path: The Markdown file.
        figures: Folder of the figure; None for none.

    Raises:
        DataError: If results are missing.
    """
    found = numbers(folder, names, seeds)
    places = [(f"at KL {kl:g}", f"{kl:g}") for kl in KLS]
    places.append(("after the last step", END))
    claim = [[title, *verdict(found, at)] for title, at in places]
    tables = [markdown(["", *VERDICT], claim, "The claim")]
    tables += [rewards_table(f"GRPO, {title}", found, at, COLUMNS) for title, at in places]
    curves = {}
    for name in names:
        reward, own = named(name)
        runs = [load(folder, names, seed) for seed in seeds]
        curves[reward.title] = [run.policies[reward.model, own] for run in runs]
    seconds = [read_json(folder / trained.file_name(n, s))["seconds"] for n in names for s in seeds]
    write_tables(path, tables, {"found": found, "curves": curves, "seconds": seconds})
    if figures is not None:
        draw_trained(curves, figures)


COLUMNS: Final[Columns] = (
    ("jailbreaks", "jailbreaks", lambda value: percent(value[0])),
    ("− base", "jailbreaks_base", points),
    ("− DPL mean", "jailbreaks_dpl", points),
    ("gap reached", "reached", lambda value: percent(value[0], 0)),
    ("loss to base", "loss_base", points),
    ("loss to DPL mean", "loss_dpl", points),
    ("worst group − base", "worst_group_base", partial(cell, digits=3)),
    ("unreadable", "unreadable", lambda value: percent(value[0])),
    ("KL", "kl", lambda value: f"{value[0]:.2f}"),
)


def main(argv: Sequence[str] | None = None) -> int:
    """Train the missing policies, or write the report."""
    parser = script_parser(__doc__)
    parser.add_argument("--output", type=Path, required=True, help="folder of results")
    parser.add_argument("--rewards", nargs="+", default=REWARDS)
    parser.add_argument("--seeds", nargs="+", type=int, default=SEEDS)
    parser.add_argument("--report", type=Path, help="write the tables here instead of training")
    parser.add_argument("--figures", type=Path, help="folder of the report's figure")
    WorldSettings.add_flags(parser)
    options = parser.parse_args(argv)
    if options.report:
        write_report(
            options.output, options.rewards, options.seeds, options.report, options.figures
        )
        return 0
    torch.set_num_threads(1)
    settings = WorldSettings().changed(options)
    with exclusive_folder(options.output):
        for seed in options.seeds:
            for name in options.rewards:
                make = partial(optimise, name, seed, options.output, settings)
                found = trained.kept(options.output / trained.file_name(name, seed), settings, make)
                print(f"{name}, seed {seed}: {found['seconds']:.0f} s", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(run_safely(main, None))
