"""A network divided over two processes trains like a whole one, and goes on with another number."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from hidden_context.models.loading import load_reward_model
from hidden_context.training import TrainConfig, run
from support.builders import train_config
from support.paper_layout import one_thread
from support.processes import labelled_rows, losses

__all__ = ["one_thread"]

CONFIGS = Path(__file__).parents[2] / "configs" / "accelerate"
# two epochs of steps with 8, 8 and 5 pairs; the state is saved within the second one
ROWS, STEPS, SAVED = 21, 6, 4
CASES = {
    "full": {"reward_model_type": "mean_and_variance", "variance_penalty": 0.1}
    | {"annotators": "variational", "annotator_effects": ["sharpness", "readiness"]}
    | {"outcomes": "five_levels", "tokens_per_batch": 150, "eval_steps": 3},
    "lora": {"kind": "llama", "tuning": "lora", "reward_model_type": "mean_and_variance"}
    | {"annotators": "variational", "annotator_effects": ["readiness", "sharpness"]}
    | {"outcomes": "ties", "tokens_per_batch": 200, "gradient_checkpointing": True},
    # the best checkpoint's weights are loaded again, members brought to one unit, and a parameter
    # is a single number, which DeepSpeed does not take
    "best": {"ensemble": "heads", "ensemble_members": 2, "validation_fraction": 0.3}
    | {"annotators": "map", "annotator_effects": ["position"]}
    | {"eval_steps": 2, "save_steps": 2, "optim": "sgd", "learning_rate": 1e-2}
    | {"training_arguments": {"greater_is_better": True}},  # so that the best is not the last
}
SCRIPT = """
import json, os, sys
from pathlib import Path

if os.environ.get("ACCELERATE_USE_DEEPSPEED") == "true":
    import deepspeed.ops

    # it would compile a way through shared memory; Gloo does without
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False

from transformers import TrainerCallback
from hidden_context.training import TrainConfig, run

class Held(TrainerCallback):
    def on_train_end(self, arguments, state, control, optimizer=None, **others):
        while hasattr(optimizer, "optimizer"):
            optimizer = optimizer.optimizer
        values = [v for each in optimizer.state.values() for v in each.values()]
        parts = [v.to_local() if hasattr(v, "to_local") else v for v in values]
        self.count = sum(part.numel() for part in parts if part.ndim)

rank, rows = int(os.environ["RANK"]), json.loads(Path("rows.json").read_text())
for line in Path("cases.jsonl").read_text().splitlines():
    options, held = json.loads(line), Held()
    result = run(TrainConfig(**options), rows["train"], rows["test"], [held])
    named = [*result.model.module.named_parameters(), *result.model.likelihood.named_parameters()]
    weights = {name: float(values.detach().double().sum()) for name, values in named}
    raw = result.model.raw_outputs([row["chosen"] for row in rows["test"]]).tolist()
    report = {"history": result.history, "metrics": result.metrics, "weights": weights,
              "raw": raw, "held": held.count}
    name = f"{Path(options['output_dir']).name}-{rank}.json"
    Path(name).write_text(json.dumps(report))
"""


def options_of(backbones, folder: Path, processes: int, case: str) -> dict:
    options = {"per_device_train_batch_size": 8, "num_train_epochs": 2, "save_steps": SAVED}
    options |= {"objective_learning_rate": 0.05, "annotator_warmup": 0.5, "quiet": True}
    options |= CASES[case]
    options["per_device_train_batch_size"] //= processes
    config = train_config(backbones(options.pop("kind", "gpt2")), folder / case, **options)
    return {name: value for name, value in vars(config).items() if value is not None}


def train(options: dict):
    return run(TrainConfig(**options), labelled_rows(ROWS, seed=3), labelled_rows(7, seed=4))


@pytest.fixture(scope="module")
def alone(backbones, tmp_path_factory):
    """All cases, trained by this process."""
    folder = tmp_path_factory.mktemp("alone")
    return {case: train(options_of(backbones, folder, 1, case)) for case in CASES}, folder


@pytest.fixture(scope="module", params=["fsdp2", "zero2", "zero3"])
def divided(request, backbones, alone, tmp_path_factory):
    """All cases, trained by two processes; two of them go on from one process's checkpoint."""
    if request.param != "fsdp2" and importlib.util.find_spec("deepspeed") is None:
        pytest.skip("deepspeed is not installed (DS_ACCELERATOR=cpu pip install deepspeed)")
    folder = tmp_path_factory.mktemp(request.param)
    rows = {"train": labelled_rows(ROWS, seed=3), "test": labelled_rows(7, seed=4)}
    names = [case for case in CASES if case != "best" or request.param == "fsdp2"]
    cases = [options_of(backbones, folder, 2, case) for case in names]
    for case in ("full", "lora"):
        start = {"resume_from_checkpoint": str(alone[1] / case / f"checkpoint-{SAVED}")}
        options = options_of(backbones, folder, 2, case) | start
        cases.append(options | {"output_dir": f"{options['output_dir']}-resumed"})
    for name, text in {
        "script.py": SCRIPT,
        "rows.json": json.dumps(rows),
        "cases.jsonl": "\n".join(map(json.dumps, cases)),
    }.items():
        (folder / name).write_text(text)
    launcher = ["-m", "accelerate.commands.launch", "--num_processes=2", "--main_process_port=0"]
    config = f"--config_file={CONFIGS / request.param}.yaml"
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, *launcher, config, "script.py"],
        cwd=folder,
        env=environment | {"DS_ACCELERATOR": "cpu"},
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return {
        name: [json.loads((folder / f"{name}-{rank}.json").read_text()) for rank in (0, 1)]
        for name in (*names, "full-resumed", "lora-resumed")
    }, folder


def of(alone, divided, case):
    """The case's run by one process, and the reports of two."""
    if case not in divided[0]:
        pytest.skip("DeepSpeed refuses parameters that are single numbers")
    return alone[0][case], divided[0][case]


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_two_processes_train_like_one(alone, divided, case):
    one, (first, second) = of(alone, divided, case)
    curve = losses(one.history)
    assert len(curve) == STEPS
    assert losses(first["history"]) == pytest.approx(curve, abs=1e-4)
    for name in ("grad_norm", "eval_loss"):
        expected = [line[name] for line in one.history if name in line]
        found = [line[name] for line in first["history"] if name in line]
        assert found == pytest.approx(expected, abs=1e-3 if name == "grad_norm" else 1e-4), name
    for name, value in one.metrics.items():
        assert first["metrics"][name] == pytest.approx(value, abs=1e-4), name
    if case == "best":
        losses_of_states = [line["eval_loss"] for line in one.history if "eval_loss" in line]
        assert losses_of_states[0] == max(losses_of_states)
    # every process ends with the same model, put together
    assert first["weights"] == second["weights"]
    assert first["raw"] == second["raw"]


@pytest.mark.slow
@pytest.mark.parametrize("case", ["full", "lora"])
def test_each_process_holds_half_of_the_optimisers_state(alone, divided, case):
    one = torch.load(alone[1] / case / f"checkpoint-{SAVED}" / "optimizer.pt")["state"].values()
    whole = sum(value.numel() for each in one for value in each.values() if value.ndim)
    likelihood = sum(v.numel() for v in alone[0][case].model.likelihood.state_dict().values())
    for report in divided[0][case]:
        # rows that two do not divide, and what is learned beside the network, are in both
        assert whole / 2 - likelihood <= report["held"] <= 0.52 * whole + 2 * likelihood


@pytest.mark.slow
@pytest.mark.parametrize("case", ["full", "lora"])
def test_one_process_goes_on_with_two(alone, divided, case):
    curve = losses(divided[0][f"{case}-resumed"][0]["history"])
    assert len(curve) == STEPS
    assert curve[SAVED:] == pytest.approx(losses(alone[0][case].history)[SAVED:], abs=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("case", ["full", "lora"])
def test_two_processes_go_on_with_one(backbones, alone, divided, tmp_path, case):
    start = str(divided[1] / case / f"checkpoint-{SAVED}")
    resumed = train(options_of(backbones, tmp_path, 1, case) | {"resume_from_checkpoint": start})
    curve = losses(resumed.history)
    assert len(curve) == STEPS
    assert curve[SAVED:] == pytest.approx(losses(alone[0][case].history)[SAVED:], abs=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_the_folder_is_that_of_one_process(alone, divided, case):
    of(alone, divided, case)
    last = f"checkpoint-{2 if case == 'best' else SAVED}"
    texts = [row["chosen"] for row in labelled_rows(7, seed=4)]
    for part in ("final", last):
        places = [where / case / part for where in (alone[1], divided[1])]
        names = [
            {path.name.replace("_0", "").replace("_1", "") for path in place.iterdir()}
            for place in places
        ]
        assert names[0] == names[1]
        first, second = (load_reward_model(str(place)) for place in places)
        difference = first.raw_outputs(texts) - second.raw_outputs(texts)
        assert float(difference.abs().max()) < 1e-4
        learned = [place / "likelihood.safetensors" for place in places]
        weights, others = map(load_file, learned)
        assert set(weights) == set(others)
        for name, values in weights.items():
            assert float((values - others[name]).abs().max()) < 1e-4, name
