"""Does a cautious reward keep a policy from exploiting disagreement? Best-of-n in known worlds.

    python benchmarks/policy/study.py --output results/policy
    python benchmarks/policy/study.py --output results/policy --report policy.md --figures figures

The numbers of docs/evidence/policy.md; half an hour on two cores. Each world, seed and reward
model has a file of its own, so that a run that was stopped goes on where it was.
"""

from __future__ import annotations

import dataclasses
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from kit import script_parser
from policy.best_of_n import SIZES, gap, policy_metrics
from policy.models import Prepared, Sizes, Unit, check_kept, prepare, score
from policy.report import write_report
from policy.rewards import MODELS, REWARDS, values
from policy.worlds import NAMES, SEEDS, TUNING_SEEDS, TUNING_WORLDS, PolicyWorld

from hidden_context.cli.main import run_safely
from hidden_context.data.storage.files import read_json, write_json
from hidden_context.data.storage.locks import exclusive_folder

FORMAT: Final = {"format": "hidden_context.policy_study", "version": 1}


def is_done(unit: Unit, folder: Path, sizes: Sizes) -> bool:
    """Tell whether a unit's file is there.

    Raises:
        ConfigError: If the file is there but of other sizes, or of another program.
    """
    path = folder / f"{unit.name}.json"
    if not path.is_file():
        return False
    found = read_json(path)
    check_kept(path, found, FORMAT)
    check_kept(path, found["sizes"], dataclasses.asdict(sizes))
    return True


def run_unit(unit: Unit, prepared: Prepared, folder: Path, sizes: Sizes) -> dict[str, Any]:
    """Train one reward model, and measure the policies of every reward that it gives."""
    started = time.perf_counter()
    world = PolicyWorld(unit.world, unit.seed)
    rewards, test = score(unit, prepared, folder, sizes)
    responses, _ = prepared
    policies = {
        name: policy_metrics(world, responses, value.numpy(), SIZES)
        for reward in REWARDS
        if reward.model == unit.model
        for name, value in values(reward, rewards).items()
    }
    return {
        **FORMAT,
        "sizes": dataclasses.asdict(sizes),
        "unit": dataclasses.asdict(unit),
        "gap": gap(world, responses),
        "test": test,
        "policies": policies,
        "seconds": time.perf_counter() - started,
    }


def run_all(wanted: Sequence[Unit], folder: Path, sizes: Sizes, say: Callable[[str], Any]) -> int:
    """Run the units that are not done yet, each file written whole.

    Returns:
        How many were run.
    """
    left = [unit for unit in wanted if not is_done(unit, folder, sizes)]
    prepared: dict[int, Prepared] = {}
    with exclusive_folder(folder):
        for unit in left:
            if unit.seed not in prepared:
                started = time.perf_counter()
                prepared = {unit.seed: prepare(unit.seed, folder, sizes)}
                say(f"seed {unit.seed} prepared in {time.perf_counter() - started:.0f} s")
            found = run_unit(unit, prepared[unit.seed], folder, sizes)
            write_json(folder / f"{unit.name}.json", found)
            say(f"{unit.name}: {found['seconds']:.0f} s")
    return len(left)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the missing units, or write the report."""
    parser = script_parser(__doc__)
    parser.add_argument("--output", type=Path, required=True, help="folder of results")
    parser.add_argument("--report", type=Path, help="write the tables here instead of running")
    parser.add_argument("--figures", type=Path, help="folder of the report's figures")
    options = parser.parse_args(argv)
    torch.set_num_threads(1)
    if options.report:
        write_report(options.output, SEEDS, TUNING_SEEDS, options.report, options.figures)
        return 0
    wanted = [  # by seed, so that a seed's features are computed once
        Unit(world, seed, model)
        for seed in (*TUNING_SEEDS, *SEEDS)
        for world in (TUNING_WORLDS if seed in TUNING_SEEDS else NAMES)
        for model in MODELS
    ]
    count = run_all(wanted, options.output, Sizes(), partial(print, flush=True))
    print(f"units run: {count}; all are done")
    return 0


if __name__ == "__main__":
    sys.exit(run_safely(main, None))
