"""Two processes train like one of the same step: same examples, losses and weights."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file

from hidden_context.training import TrainConfig, run
from hidden_context.training.labels import make_training_likelihood
from hidden_context.training.workflow import as_examples
from support.builders import preference_rows, train_config
from support.paper_layout import one_thread
from support.processes import labelled_rows, losses

__all__ = ["one_thread"]

ROWS = 21  # in steps of 8, 8 and 5
VOTES = {"beside": 21 + 10 + 21}  # ratings are votes too where they are learned from
CASES = {
    # one pass a process, or two; the processes differ in number
    "uneven": {"tokens_per_batch": 100, "optim": "sgd", "learning_rate": 1e-2, "eval_steps": 2}
    | {"reward_model_type": "mean_and_variance", "variance_penalty": 0.3},
    # a pass for each pair: the last step has 3 in one process and 2 in the other
    "pairs": {"tokens_per_batch": 1, "engine": "padded", "optim": "sgd", "learning_rate": 1e-2},
    "adapters": {"tuning": "lora", "kind": "llama", "gradient_checkpointing": True},
    # the last step has a single pair, which both processes run
    "single": {"per_device_train_batch_size": 20, "optim": "sgd", "learning_rate": 1e-2},
    # thresholds, annotators and the noise of ratings, which no wrapper averages over processes
    "beside": {"tokens_per_batch": 100, "optim": "sgd", "learning_rate": 1e-2}
    | {"reward_model_type": "factor", "ensemble": "heads", "ensemble_members": 2}
    | {"outcomes": "five_levels", "annotators": "variational", "anchor_weight": 0.3}
    | {"objective_learning_rate": 1.0, "annotator_warmup": 0.5},
}
# single rated texts that three annotators rated; each process compares its own share of a step
LINKED = {"max_comparisons": 6, "tokens_per_batch": 1, "optim": "sgd", "learning_rate": 1e-2}
SCRIPT = """
import json, os, sys
from pathlib import Path

rank, folder, rows = int(os.environ["RANK"]), sys.argv[1], json.loads(Path(sys.argv[2]).read_text())
written = []

def watch(event, arguments):
    if event == "open" and isinstance(arguments[0], (str, bytes, os.PathLike)):
        path, mode = os.fsdecode(arguments[0]), arguments[1] or ""
        if path.startswith(folder) and set(mode) & set("wax+"):
            written.append(path)

sys.addaudithook(watch)
from hidden_context.training import TrainConfig, run
from hidden_context.training.runner import StepRunner

original, passes = StepRunner.passes, []

def counted(self, batch):
    found = original(self, batch)
    passes.append([sum(each.weight > 0 for each in found), len(found)])
    return found

StepRunner.passes = counted
for line in Path(sys.argv[3]).read_text().splitlines():
    options = json.loads(line)
    passes.clear()
    written.clear()
    train, test = ("rated", None) if options["max_comparisons"] else ("train", "test")
    result = run(TrainConfig(**options), rows[train], rows.get(test))
    parameters = [*result.model.module.named_parameters()]
    parameters += result.model.likelihood.named_parameters()
    weights = {name: float(values.detach().double().sum()) for name, values in parameters}
    report = {"history": result.history, "metrics": result.metrics, "weights": weights,
              "passes": passes, "written": written}
    Path(sys.argv[2]).with_name(f"{Path(options['output_dir']).name}-{rank}.json").write_text(
        json.dumps(report))
"""


def rated_rows(count: int) -> list[dict]:
    """Single texts with a rating each."""
    return [
        {"text": row["chosen"], "rating": float(number % 5), "annotator": "abc"[number % 3]}
        for number, row in enumerate(preference_rows(count, seed=5))
    ]


def options_of(backbones, folder: Path, processes: int, case: str) -> dict:
    options = {"per_device_train_batch_size": 8, "num_train_epochs": 2}
    options |= CASES.get(case, LINKED)
    options["per_device_train_batch_size"] //= processes
    config = train_config(backbones(options.pop("kind", "gpt2")), folder / case, **options)
    return {name: value for name, value in vars(config).items() if value is not None}


@pytest.fixture(scope="module")
def two(backbones, tmp_path_factory):
    """All cases, trained by two processes that were started once; a report of each process."""
    folder = tmp_path_factory.mktemp("two")
    rows = {"train": labelled_rows(ROWS, seed=3), "test": labelled_rows(7, seed=4)}
    rows["rated"] = rated_rows(ROWS)
    for name, text in {
        "script.py": SCRIPT,
        "rows.json": json.dumps(rows),
        "cases.jsonl": "\n".join(
            json.dumps(options_of(backbones, folder / "out", 2, case))
            for case in (*CASES, "linked")
        ),
    }.items():
        (folder / name).write_text(text)
    names = ("script.py", str(folder / "out"), "rows.json", "cases.jsonl")
    # what accelerate calls several GPUs are several processes; without a GPU Gloo connects them
    launcher = ["-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes=2"]
    options = ["--num_machines=1", "--mixed_precision=no", "--dynamo_backend=no"]
    command = [*launcher, *options, "--main_process_port=0", *names]
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, *command],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return {
        case: [json.loads((folder / f"{case}-{rank}.json").read_text()) for rank in (0, 1)]
        for case in (*CASES, "linked")
    }, folder / "out"


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_two_processes_train_like_one(backbones, tmp_path, two, case):
    reports, folder = two
    config = options_of(backbones, tmp_path, 1, case)
    alone = run(TrainConfig(**config), labelled_rows(ROWS, seed=3), labelled_rows(7, seed=4))
    curve = losses(alone.history)
    assert len(curve) == 2 * -(-VOTES.get(case, ROWS) // config["per_device_train_batch_size"])
    for name, value in alone.metrics.items():
        assert reports[case][0]["metrics"][name] == pytest.approx(value, abs=1e-4), name
    assert losses(reports[case][0]["history"]) == pytest.approx(curve, abs=1e-4)
    evaluations = [
        [line["eval_loss"] for line in history if "eval_loss" in line]
        for history in (alone.history, reports[case][0]["history"])
    ]
    assert evaluations[0] == pytest.approx(evaluations[1], abs=1e-4)
    # both processes end with the same weights, which are those of one process
    assert reports[case][0]["weights"] == reports[case][1]["weights"]
    file = "adapter_model.safetensors" if case == "adapters" else "model.safetensors"
    first, second = (load_file(place / case / "final" / file) for place in (folder, tmp_path))
    assert set(first) == set(second)
    for name, weight in first.items():
        assert float((weight - second[name]).abs().max()) < 1e-4, name
    learned = [place / case / "final" / "likelihood.safetensors" for place in (folder, tmp_path)]
    assert [path.is_file() for path in learned] == [case == "beside"] * 2
    if case == "beside":
        first, second = map(load_file, learned)
        start = make_training_likelihood(
            TrainConfig(**config), alone.model.head, as_examples(labelled_rows(ROWS, seed=3))
        ).state_dict()
        for name, values in first.items():
            assert float((values - second[name]).abs().max()) < 1e-4, name
            least = 1e-4 if "log_prior_scale" in name else 1e-2
            assert float((values - start[name]).abs().max()) > least, name


@pytest.mark.slow
def test_processes_run_equally_many_passes(two):
    reports, _ = two
    for case in (*CASES, "linked"):
        first, second = (report["passes"] for report in reports[case])
        assert [all_of for _, all_of in first] == [all_of for _, all_of in second]
    own = [[own for own, _ in report["passes"]] for report in reports["pairs"]]
    # 4 and 4 pairs, and in the last step of an epoch 3 and 2: a pass there counts nothing
    assert own == [[4, 4, 3] * 2, [4, 4, 2] * 2]
    assert [len(report["passes"]) for report in reports["uneven"]] == [6, 6]
    assert max(total for _, total in reports["uneven"][0]["passes"]) > 1


@pytest.mark.slow
def test_linked_examples_of_processes_train_the_same_weights(two):
    """Texts that are compared stay in one pass where the other process has more passes."""
    first, second = two[0]["linked"]
    curve = losses(first["history"])
    # 21 texts, each with a vote of its own, in steps of 8
    assert len(curve) == 2 * 3
    assert all(0 < loss < 10 for loss in curve)
    assert first["weights"] == second["weights"]
    assert any(own < 4 for own, _ in first["passes"])  # of 4 texts of its own


@pytest.mark.slow
def test_only_one_process_writes(two):
    reports, folder = two
    for case in CASES:
        assert any(path.endswith("metrics.json.partial") for path in reports[case][0]["written"])
        assert reports[case][1]["written"] == []
        assert (folder / case / "final" / "reward_head.json").is_file()
