"""Training by two processes: the script that they run, and what is compared with one process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from support.builders import preference_rows
from support.runs import logged, losses

SCRIPT = """
import json, os, sys
from pathlib import Path

if os.environ.get("ACCELERATE_USE_DEEPSPEED") == "true":
    import deepspeed.ops

    # it would compile a way through shared memory; Gloo does without
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False

rank, written, folder = int(os.environ["RANK"]), [], os.getcwd()

def watch(event, arguments):
    if event == "open" and isinstance(arguments[0], (str, bytes, os.PathLike)):
        path, mode = os.fsdecode(arguments[0]), arguments[1] or ""
        if path.startswith(folder) and set(mode) & set("wax+"):
            written.append(path)

sys.addaudithook(watch)
from transformers import TrainerCallback
from hidden_context.training import TrainConfig, run
from hidden_context.training.runner import StepRunner

original, passes = StepRunner.passes, []

def counted(self, batch):
    found = original(self, batch)
    passes.append([sum(each.weight > 0 for each in found), len(found)])
    return found

StepRunner.passes = counted

class Held(TrainerCallback):
    def on_train_end(self, arguments, state, control, optimizer=None, **others):
        while hasattr(optimizer, "optimizer"):
            optimizer = optimizer.optimizer
        values = [v for each in optimizer.state.values() for v in each.values()]
        parts = [v.to_local() if hasattr(v, "to_local") else v for v in values]
        self.count = sum(getattr(part, "ndim", 0) and part.numel() for part in parts)

rows = json.loads(Path("rows.json").read_text())
for line in Path("cases.jsonl").read_text().splitlines():
    options, held = json.loads(line), Held()
    passes.clear()
    written.clear()
    train, test = ("rated", None) if options["max_comparisons"] else ("train", "test")
    result = run(TrainConfig(**options), rows[train], rows.get(test), [held])
    files = list(written)
    named = [*result.model.module.named_parameters(), *result.model.likelihood.named_parameters()]
    weights = {name: float(values.detach().double().sum()) for name, values in named}
    raw = result.model.raw_outputs([row["chosen"] for row in rows["test"]]).tolist()
    report = {"history": result.history, "metrics": result.metrics, "weights": weights,
              "raw": raw, "held": held.count, "passes": passes, "written": files}
    name = f"{Path(options['output_dir']).name}-{rank}.json"
    Path(name).write_text(json.dumps(report))
"""


def labelled_rows(count: int, seed: int) -> list[dict[str, Any]]:
    """Pairs with strengths, three annotators and some ratings, which most cases leave out."""
    rows = preference_rows(count, seed)
    for number, row in enumerate(rows):
        row |= {"strength": (1, 2, 0, -1)[number % 4], "annotator": "abc"[number % 3]}
        row |= {"rating_chosen": (None, 2.0, None, 0.5)[number % 4]}
        row |= {"rating_rejected": 2.0 if row["strength"] < 0 else 0.5}
    return rows


def train_in_two(
    folder: Path,
    rows: Mapping[str, Any],
    cases: Sequence[Mapping[str, Any]],
    launcher: Sequence[str],
    **environment: str,
) -> dict[str, list[dict[str, Any]]]:
    """Train cases by two processes that are started once; return the reports of both by case."""
    (folder / "script.py").write_text(SCRIPT)
    (folder / "rows.json").write_text(json.dumps(rows))
    (folder / "cases.jsonl").write_text("\n".join(map(json.dumps, cases)))
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--num_processes=2"]
    own = {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1", **environment}
    done = subprocess.run(
        [*launch, "--main_process_port=0", *launcher, "script.py"],
        cwd=folder,
        env=os.environ | own,
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    names = [Path(case["output_dir"]).name for case in cases]
    return {
        name: [json.loads((folder / f"{name}-{rank}.json").read_text()) for rank in (0, 1)]
        for name in names
    }


def assert_like_one(one: Any, reports: Sequence[Mapping[str, Any]]) -> None:
    """Two processes have the losses and metrics of one, and end with the same model."""
    first, second = reports
    assert losses(first["history"]) == pytest.approx(losses(one), abs=1e-4)
    for name in ("grad_norm", "eval_loss"):
        close = 1e-3 if name == "grad_norm" else 1e-4
        assert logged(first["history"], name) == pytest.approx(logged(one, name), abs=close), name
    for name, value in one.metrics.items():
        assert first["metrics"][name] == pytest.approx(value, abs=1e-4), name
    assert first["weights"] == second["weights"]
    assert first["raw"] == second["raw"]
