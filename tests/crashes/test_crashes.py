"""Every verb that writes: killed at any moment, twice at a time, and on a full disk.

Whatever happens, the same command ends like one that was left alone, and before that nothing but
whole files of a former or of this run stands where results are looked for.
"""

from __future__ import annotations

import json
import multiprocessing
import random
import shutil
import signal
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from support import crashes
from support.builders import preference_rows, tiny_backbone
from support.crashes import kill_self
from support.paper_layout import reward_checkpoint, write_rows

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Verb:
    """A command, run in a folder that holds its inputs.

    Attributes:
        command: Its arguments.
        results: Files that it writes, compared byte by byte.
        numbers: Reads what is compared with a tolerance, of the folder it ran in.
        resumed: Where an earlier run left a file of this name, it is gone on with.
        code: Its exit code.
    """

    command: str
    results: tuple[str, ...] = ()
    numbers: Callable[[Path], dict[str, Any]] | None = None
    resumed: str = ""
    code: int = 0

    @property
    def argv(self) -> list[str]:
        return self.command.split()

    def again(self, folder: Path) -> list[str]:
        """The command's arguments, to go on where there is something to go on from."""
        there = self.resumed and any(folder.glob(self.resumed))
        return [*self.argv, "--resume_from_checkpoint", "true"] if there else self.argv


def weights(folder: Path) -> dict[str, Any]:
    """What a training gave: weights, and the losses on the way."""
    from safetensors.numpy import load_file

    found: dict[str, Any] = {}
    for path in sorted((folder / "run" / "final").rglob("*.safetensors")):
        found |= {f"{path.parent.name}/{name}": each for name, each in load_file(path).items()}
    history = json.loads((folder / "run" / "metrics.json").read_text())["history"]
    return found | {"loss": np.array([line["loss"] for line in history if "loss" in line])}


def losses(folder: Path) -> dict[str, Any]:
    with np.load(next(folder.rglob("losses.npz"))) as arrays:
        return dict(arrays)


TRAIN = (
    "train --model_name backbone --data_path pairs.jsonl --eval_fraction 0 --output_dir run "
    "--max_length 64 --disable_tqdm --quiet --engine padded --min_judgements 0 "
)
VERBS = {
    "score": Verb(
        "score pairs.jsonl --models model --output out/s.jsonl --window 8 --disable_tqdm",
        ("out/s.jsonl", "out/s.jsonl.config.yaml"),
    ),
    "evaluate": Verb(
        "evaluate model --data_path pairs.jsonl --output out/e.jsonl --window 8 --disable_tqdm "
        "--eval_split train",
        ("out/e.jsonl", "out/e.jsonl.metrics.json", "out/e.jsonl.config.yaml"),
    ),
    "train": Verb(
        TRAIN + "--tuning full --max_steps 4 --save_steps 2 --save_total_limit 1",
        numbers=weights,
        resumed="run/checkpoint-[0-9]",
    ),
    "train-ensemble": Verb(
        TRAIN + "--ensemble lora --ensemble_members 2 --max_steps 2 --save_steps 1",
        numbers=weights,
        resumed="run/members.json",
    ),
    "train-frozen": Verb(
        TRAIN + "--freeze_backbone --probe_epochs 3 --probe_members 2 --cache_dir cache",
        numbers=weights,
    ),
    "analyze": Verb(
        "analyze scored.jsonl --output out/a.json --resamples 99 --contexts", ("out/a.json",)
    ),
    "card": Verb(
        "analyze model/eval_results_both.jsonl --card --resamples 99", ("model/README.md",)
    ),
    "report": Verb("report scored.jsonl --output out/r.html --resamples 99", ("out/r.html",)),
    "figure": Verb(
        "figure reliability analysis.json --output out/f --formats svg png",
        ("out/f.svg", "out/f.png"),
    ),
    "split": Verb(
        "data split pairs.jsonl --output out --eval_fraction 0.3",
        ("out/both/train.jsonl.gz", "out/both/test.jsonl.gz"),
    ),
    "download": Verb(
        "data download --only evaluations --mirror mirror --output out",
        ("out/manifest.json",),
        code=1,  # the mirror lacks some of the files
    ),
    "synthetic": Verb(
        "synthetic --num_iterations 20 --width 8 --out_dir out --figure_formats svg "
        "--num_threads 1",
        numbers=losses,
    ),
}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """The folder that every command begins with."""
    from hidden_context.data.storage.download import files_of

    folder = tmp_path_factory.mktemp("inputs") / "inputs"
    rows = preference_rows(40, 3, words=2)
    write_rows(folder / "pairs.jsonl", rows)
    reward_checkpoint(folder / "model")
    tiny_backbone(folder / "backbone", "gpt2")
    draw = random.Random(0)
    for row in rows:
        for side in ("chosen", "rejected"):
            row[f"reward_output_{side}"] = [draw.gauss(0, 1), draw.gauss(side == "chosen", 1)]
    for name in ("scored.jsonl", "model/eval_results_both.jsonl"):
        write_rows(folder / name, rows)
    (folder / "model" / "README.md").write_text("# A model\n\n## Use\n\nLike this.\n")
    for number, (name, blob) in enumerate(files_of("evaluations").items()):
        if blob is not None:
            continue
        path = folder / "mirror" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"%d" % number * 1000)
    head = ["--head", "mean_and_variance"]
    assert crashes.run(["analyze", "scored.jsonl", "--output", "analysis.json", *head], folder) == 0
    return folder


@dataclass
class World:
    """A verb, what it gives when it is left alone, and copies of its inputs to disturb it in."""

    verb: Verb
    inputs: Path
    root: Path
    draw: random.Random

    def __post_init__(self) -> None:
        self.whole = self.fresh("whole")
        code = crashes.run(self.verb.argv, self.whole)
        assert code == self.verb.code, crashes.printed(self.whole)
        self.events = Path(f"{self.whole}.events").read_text().splitlines()

    def fresh(self, name: str) -> Path:
        return Path(shutil.copytree(self.inputs, self.root / name))

    def check_whole(self, folder: Path) -> None:
        """What stands where results are looked for is a former run's or this one's, in full."""
        for name in self.verb.results:
            if (folder / name).exists():
                wanted = [each / name for each in (self.whole, self.inputs)]
                contents = [path.read_bytes() for path in wanted if path.exists()]
                assert (folder / name).read_bytes() in contents, name

    def check_finished(self, folder: Path) -> None:
        """Run the command again, which ends like the one that was left alone."""
        code = crashes.run(self.verb.again(folder), folder)
        assert code == self.verb.code, crashes.printed(folder)
        self.check_result(folder)

    def check_result(self, folder: Path) -> None:
        for name in self.verb.results:
            assert (folder / name).read_bytes() == (self.whole / name).read_bytes(), name
        if self.verb.numbers is not None:
            found, wanted = self.verb.numbers(folder), self.verb.numbers(self.whole)
            assert found.keys() == wanted.keys()
            for name, value in wanted.items():
                np.testing.assert_allclose(found[name], value, atol=1e-5, err_msg=name)
        ends = (".partial", ".previous", ".lock")
        assert [path for path in folder.rglob("*") if path.name.endswith(ends)] == []


@pytest.fixture(scope="module")
def worlds(inputs, tmp_path_factory):
    """The world of each verb, made once."""

    def make(name: str) -> World:
        return World(VERBS[name], inputs, tmp_path_factory.mktemp(name), random.Random(name))

    return cache(make)


@pytest.mark.parametrize("name", VERBS)
def test_killed_at_any_moment(worlds, name):
    world = worlds(name)
    folder, last = world.fresh("killed"), len(world.events) - 1
    for event in (*world.draw.sample(range(last), min(last, 2)), last):
        code = crashes.run(world.verb.again(folder), folder, (event, kill_self))
        assert code in (-signal.SIGKILL, world.verb.code)  # going on it may have less to do
        world.check_whole(folder)
    world.check_finished(folder)


@pytest.mark.parametrize("name", VERBS)
def test_two_at_a_time(worlds, name):
    """The second is refused while the first is about to give its result a name, then goes on."""
    world = worlds(name)
    folder, context = world.fresh("both"), multiprocessing.get_context("forkserver")
    renames = [n for n, event in enumerate(world.events) if event.startswith("os.rename")]
    here, go = context.Event(), context.Event()
    first = crashes.start(world.verb.argv, folder, (renames[-1], partial(wait_there, here, go)))
    assert here.wait(120)
    assert crashes.run(world.verb.argv, folder) == 2, crashes.printed(folder)
    assert f" is being written by process {first.pid} on " in crashes.printed(folder)
    go.set()
    first.join()
    assert first.exitcode == world.verb.code
    world.check_result(folder)


def wait_there(here: Any, go: Any) -> None:
    """Say that it is there, and wait until it may go on."""
    here.set()
    go.wait(120)


@pytest.mark.parametrize("share", [0.3, 0.9])
@pytest.mark.parametrize("name", ["score", "train", "analyze", "report"])
def test_a_full_disk(worlds, name, share):
    """One sentence and exit code 2; once there is room again the command ends as ever."""
    world = worlds(name)
    folder = world.fresh(f"full-{share}")
    new = [p for p in world.whole.rglob("*") if not (folder / p.relative_to(world.whole)).exists()]
    largest = max(path.stat().st_size for path in new if path.is_file())
    code = crashes.run(world.verb.argv, folder, limit=int(largest * share))
    said = crashes.printed(folder)
    assert code == 2, said
    assert "could not be written" in said.splitlines()[-1]
    assert "Traceback" not in said
    world.check_whole(folder)
    world.check_finished(folder)
