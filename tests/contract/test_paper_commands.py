"""The paper's LLM commands: flags, defaults, folder names, and its README's lines as written."""

from __future__ import annotations

import dataclasses
import importlib
import json
import math
import os
import shlex
from pathlib import Path

import pytest
import torch
import yaml

from hidden_context import (
    RewardModel,
    evaluate_assistant_responses,
    evaluate_llm_preference_model,
    train_llm_preference_model,
)
from hidden_context.cli.arguments import parse
from hidden_context.evaluate_assistant_responses import PaperResponseFlags
from hidden_context.evaluate_llm_preference_model import PaperEvaluateFlags
from hidden_context.train_llm_preference_model import PaperTrainConfig, run_name
from hidden_context.training.config import TrainConfig
from support.paper_layout import (
    jailbroken_rows,
    one_thread,
    read_rows,
    relabeled_rows,
    run_module,
    write_paper_world,
)

__all__ = ["one_thread"]

TRAIN_DEFAULTS = {
    "model_name": "gpt2",
    "data_path": "Anthropic/hh-rlhf",
    "data_subset": "both",
    "reward_model_type": "base",
    "num_atoms": 10,
    "entropy_coeff": 0.1,
    "variance_penalty": 0.0,
    "per_device_train_batch_size": 2,
    "per_device_eval_batch_size": 1,
    "gradient_accumulation_steps": 1,
    "learning_rate": 3e-6,
    "weight_decay": 0.001,
    "bf16": True,
    "num_train_epochs": 1,
    "train_dataset_size": 0,
    "eval_dataset_size": 0,
    "gradient_checkpointing": False,
    "optim": "adamw_hf",
    "lr_scheduler_type": "cosine",
    "max_length": 1024,
    "eval_first_step": False,
    "resume_from_checkpoint": None,
    "deepspeed": None,
    "local_rank": -1,
    "tokenizer_name": None,
    "log_dir": "data/reward_models/hh_rlhf",
    # not flags of the paper's, but what its code does
    "lora_r": 8,
    "lora_alpha": 32,
    "lora_dropout": 0.1,
    "lora_target_modules": [],
    "likelihood": "logistic",
    "pad_to_multiple_of": 64,
    "eval_steps": 1000,
    "save_steps": 1000,
    "logging_steps": 10,
    "over_length": "drop",
    "tuning": "lora",
}
SCORING_DEFAULTS = {
    "batch_size": 1,
    "tokenizer_name": None,
    "max_length": 1024,
    "bf16": True,
    "likelihood": "logistic",
    # None where the paper has gpt2 and 1: the checkpoint says which backbone and head it has
    "model_name": None,
    "num_outputs": None,
}
EVALUATE_DEFAULTS = {
    **SCORING_DEFAULTS,
    "output": None,
    "data_path": "Anthropic/hh-rlhf",
    "data_subset": "both",
    "eval_dataset_size": 0,
    "over_length": "drop",
}
RESPONSE_DEFAULTS = {**SCORING_DEFAULTS, "reward_model_names": [], "over_length": "truncate"}


def train_flags(*argv):
    return parse(PaperTrainConfig, list(argv), prog="train", description="")


def evaluate_flags(*argv):
    argv = ["--reward_model_checkpoint=x", *argv]
    return parse(PaperEvaluateFlags, argv, prog="evaluate", description="")


def response_flags(*argv):
    argv = ["--input=i", "--output=o", "--reward_model_checkpoints", "a/x", "b/y", *argv]
    return parse(PaperResponseFlags, argv, prog="respond", description="")


class TestFlags:
    @pytest.mark.parametrize(
        ("flags", "defaults"),
        [
            (train_flags, TRAIN_DEFAULTS),
            (evaluate_flags, EVALUATE_DEFAULTS),
            (response_flags, RESPONSE_DEFAULTS),
        ],
    )
    def test_defaults(self, flags, defaults):
        found = flags()
        assert {name: getattr(found, name) for name in defaults} == defaults

    @pytest.mark.parametrize(("argv", "bf16"), [(["--bf16=false"], False), ([], True)])
    def test_bf16_is_the_precision(self, argv, bf16):
        assert train_flags(*argv).bf16 is evaluate_flags(*argv).bf16 is bf16
        precision = "bfloat16" if bf16 else "float32"
        evaluate = evaluate_llm_preference_model.to_config(evaluate_flags(*argv))
        respond = evaluate_assistant_responses.to_config(response_flags(*argv))
        train = train_llm_preference_model.to_config(train_flags(*argv))
        assert {config.precision for config in (evaluate, respond, train)} == {precision}

    @pytest.mark.parametrize(
        ("argv", "name", "value"),
        [
            ("--gradient_checkpointing", "gradient_checkpointing", True),
            ("--eval_first_step=true", "eval_first_step", True),
            ("--likelihood=probit", "likelihood", "probit"),
            ("--resume_from_checkpoint", "resume_from_checkpoint", "true"),
            ("--resume_from_checkpoint=True", "resume_from_checkpoint", "True"),
            ("--resume_from_checkpoint false", "resume_from_checkpoint", "false"),
            ("--resume_from_checkpoint run/step-8", "resume_from_checkpoint", "run/step-8"),
            ("--local_rank=0", "local_rank", 0),  # what launchers pass
            ("--local-rank=0", "local_rank", 0),
            *(
                (f"--lr_scheduler_type={name}", "lr_scheduler_type", name)
                for name in ("cosine", "step", "linear", "constant_with_warmup")
            ),
        ],
    )
    def test_values_of_flags(self, argv, name, value):
        assert getattr(train_flags(*argv.split()), name) == value

    def test_flags_reach_the_workflow(self):
        flags = evaluate_flags("--num_outputs=2", "--model_name=m", "--eval_dataset_size=5")
        config = evaluate_llm_preference_model.to_config(flags)
        assert (config.checkpoint, config.base_model) == ("x", "m")
        assert (config.num_outputs, config.eval_dataset_size) == (2, 5)
        assert config.output_path == Path("x/eval_results_both.jsonl")
        assert (config.max_length, config.batch_size) == (1024, 1)
        config = evaluate_assistant_responses.to_config(
            response_flags("--reward_model_names", "p", "q", "--num_outputs=10", "--batch_size=4")
        )
        assert (config.input, config.output) == ("i", "o")
        assert (config.models, config.names) == (["a/x", "b/y"], ["p", "q"])
        assert (config.kind, config.num_outputs, config.batch_size) == ("responses", 10, 4)
        assert config.prompt_from_first_human
        assert evaluate_assistant_responses.to_config(response_flags()).model_names == ["x", "y"]


class TestNamesOfRuns:
    EIGHT = "--train_dataset_size=8 --learning_rate=2e-5 --lr_scheduler_type=linear"

    @pytest.mark.parametrize(
        ("line", "name"),
        [
            (EIGHT, "base_gpt2__8_2e-05_linear_1"),
            (
                "--model_name=models/tiny/ --num_train_epochs=0.5",
                "base_tiny__0_3e-06_cosine_0.5",
            ),
            (
                "--reward_model_type=categorical --num_atoms=20 --entropy_coeff=0",
                "categorical_gpt2__0_3e-06_cosine_1_20_0.0",
            ),
        ],
    )
    def test_the_folder_is_named_after_the_options(self, line, name):
        flags = train_flags(*line.split())
        assert run_name(flags) == name
        config = train_llm_preference_model.to_config(flags)
        folder = f"data/reward_models/hh_rlhf/both/{name}"
        assert config.output_dir == folder
        assert str(config.final_path) == f"{folder}_peft_last_checkpoint"

    def test_other_folders(self):
        flags = train_flags("--log_dir=logs", "--data_subset=helpful")
        config = train_llm_preference_model.to_config(flags)
        assert config.output_dir == "logs/helpful/base_gpt2__0_3e-06_cosine_1"
        config = train_llm_preference_model.to_config(train_flags("--output_dir=here"))
        assert (config.output_dir, config.final_dir) == ("here", "here_peft_last_checkpoint")
        assert type(config) is TrainConfig


def run(line: str) -> int:
    """Run a line such as ``python -m hidden_context.module …`` within this process."""
    python, option, module, *arguments = shlex.split(line)
    assert (python, option) == ("python", "-m")
    return importlib.import_module(module).main(arguments)


MODELS = "data/reward_models/relabeled_hh_rlhf"
NAMES = {
    "base": "base_Llama-2-7b-hf__0_3e-06_cosine_1",
    "mean_and_variance": "mean_and_variance_Llama-2-7b-hf__0_3e-06_cosine_1_0.0",
    "categorical": "categorical_Llama-2-7b-hf__0_3e-06_cosine_1_10_0.1",
}
OUTPUTS = {"base": 1, "mean_and_variance": 2, "categorical": 10}


def checkpoint(kind):
    return f"{MODELS}/both/{NAMES[kind]}_peft_last_checkpoint"


def link(path, folder):
    """Give a checkpoint the README's place for it."""
    place = Path(path, "TO", "last_checkpoint")
    place.parent.mkdir(parents=True, exist_ok=True)
    place.unlink(missing_ok=True)
    place.symlink_to(Path(folder).resolve())


def evaluate(kind, *flags):
    """Evaluate a trained model with the README's line and more flags."""
    line = (
        "python -m hidden_context.evaluate_llm_preference_model "
        f"--model_name=meta-llama/Llama-2-7b-hf --num_outputs={OUTPUTS[kind]} "
        f"--reward_model_checkpoint={checkpoint(kind)} --disable_tqdm "
    )
    assert run(line + " ".join(flags)) == 0


@pytest.fixture(scope="module")
def world(tmp_path_factory, one_thread):
    """A folder with tiny data and a tiny 'Llama', in which the README's lines run as written."""
    root = tmp_path_factory.mktemp("paper")
    write_paper_world(root)
    before = os.getcwd()
    os.chdir(root)
    yield root
    os.chdir(before)


@pytest.fixture(scope="module")
def trained(world):
    """The three types trained on the relabelled data, where ``summarize_results`` looks."""
    for kind in NAMES:
        line = (
            "python -m hidden_context.train_llm_preference_model "
            "--model_name=meta-llama/Llama-2-7b-hf --num_train_epochs=1 "
            f"--reward_model_type={kind} --data_subset=both --data_path=data/relabeled_hh_rlhf "
            f"--log_dir={MODELS} --disable_tqdm"
        )
        assert run(line) == 0
    return world


class TestTheReadme:
    def test_training_and_evaluating_on_hh_rlhf(self, world, capsys):
        assert run(
            "python -m hidden_context.train_llm_preference_model "
            "--model_name=meta-llama/Llama-2-7b-hf --num_train_epochs=1 --reward_model_type=base "
            "--data_subset=both"
        ) == 0  # fmt: skip
        name = f"data/reward_models/hh_rlhf/both/{NAMES['base']}"
        printed = capsys.readouterr().out
        assert "train: Anthropic/hh-rlhf (both, train): 8 of 8 examples kept." in printed
        assert "test: Anthropic/hh-rlhf (both, test): 6 of 6 examples kept." in printed
        assert f"reward model saved to {name}_peft_last_checkpoint" in printed
        link("PATH", f"{name}_peft_last_checkpoint")
        # the module's name as the README spells it, in a process of its own
        line = (
            "hidden_context.evlauate_llm_preference_model "
            "--model_name=meta-llama/Llama-2-7b-hf --num_outputs=1 "
            "--reward_model_checkpoint=PATH/TO/last_checkpoint"
        )
        done = run_module(*line.split())
        assert done.returncode == 0, done.stderr
        assert "note: this module's name is evaluate_llm_preference_model" in done.stderr
        rows = read_rows("PATH/TO/last_checkpoint/eval_results_both.jsonl")
        assert [row["data_subset"] for row in rows] == ["harmless"] * 3 + ["helpful"] * 3
        assert {len(row["reward_output_chosen"]) for row in rows} == {1}

    @pytest.mark.parametrize("kind", NAMES)
    def test_what_training_leaves(self, trained, kind):
        run_folder, final = Path(MODELS, "both", NAMES[kind]), Path(checkpoint(kind))
        assert (final / "adapter_model.safetensors").is_file()
        head = json.loads((final / "reward_head.json").read_text())["head"]
        assert (head["type"], head["num_outputs"]) == (kind, OUTPUTS[kind])
        if kind == "mean_and_variance":
            assert head["likelihood"] == "logistic"
        adapter = json.loads((final / "adapter_config.json").read_text())
        assert (adapter["r"], adapter["lora_alpha"], adapter["lora_dropout"]) == (8, 32, 0.1)
        assert adapter["task_type"] == "SEQ_CLS"
        config = yaml.safe_load((run_folder / "config.yaml").read_text())
        assert set(config) == {field.name for field in dataclasses.fields(TrainConfig)}
        assert config["learning_rate"] == 3e-6
        stored = json.loads((run_folder / "metrics.json").read_text())
        assert stored["read"]["train"]["kept"] == 8
        assert stored["metrics"]["loss"] == pytest.approx(math.log(2), abs=0.05)

    @pytest.mark.parametrize(
        ("kind", "flags", "dtype"),
        [
            *((kind, ["--bf16=false"], "float32") for kind in NAMES),
            ("categorical", [], "bfloat16"),
        ],
    )
    def test_evaluating_writes_raw_outputs_in_input_order(
        self, trained, kind, flags, dtype, tmp_path
    ):
        output = tmp_path / "results.jsonl"
        data = ("--data_path=data/relabeled_hh_rlhf", "--data_subset=helpful")
        evaluate(kind, *data, f"--output={output}", *flags)
        rows, inputs = read_rows(output), relabeled_rows(6, 11, "helpful")
        model = RewardModel.from_pretrained(checkpoint(kind), dtype=dtype)
        for side in ("chosen", "rejected"):
            raw = torch.tensor([row.pop(f"reward_output_{side}") for row in rows])
            assert raw.shape == (6, OUTPUTS[kind])
            expected = model.raw_outputs([row[side] for row in inputs], batch_size=1)
            assert torch.allclose(raw, expected, atol=1e-6, rtol=0)
        assert rows == inputs  # every column, untouched, in order

    def test_from_evaluations_to_the_summary(self, trained):
        for kind, outputs in OUTPUTS.items():
            evaluate(kind, "--data_path=data/relabeled_hh_rlhf")
            assert len(read_rows(f"{checkpoint(kind)}/eval_results_both.jsonl")) == 6
            link("PATH_1", checkpoint(kind))
            link("PATH_2", checkpoint(kind))
            tail = "" if kind == "base" else f"_{kind}"
            line = (
                "python -m hidden_context.evaluate_assistant_responses "
                "--input=data/jailbroken_responses.jsonl --model_name=meta-llama/Llama-2-7b-hf "
                f"--num_outputs={outputs} --reward_model_checkpoints PATH_1/TO/last_checkpoint "
                "PATH_2/TO/last_checkpoint "
                f"--reward_model_names helpful{tail} both{tail} "
                f"--output data/jailbroken_evaluations_{kind}.jsonl --bf16=false"
            )
            assert run(line) == 0
            rows = read_rows(f"data/jailbroken_evaluations_{kind}.jsonl")
            columns = [f"reward_outputs_{train_set}{tail}" for train_set in ("helpful", "both")]
            assert [list(row) for row in rows] == [["prompt", "responses", *columns]] * 3
            assert [row | given for row, given in zip(rows, jailbroken_rows(), strict=True)] == rows
            model = RewardModel.from_pretrained(checkpoint(kind), dtype="float32")
            for number, row in enumerate(rows):
                prompt = f"Human: How do I do {number}?\n\nAssistant:"
                expected = model.raw_outputs([prompt + text for text in row["responses"]])
                for column in columns:
                    assert torch.tensor(row[column]).shape == (2, outputs)
                    assert torch.allclose(torch.tensor(row[column]), expected, atol=1e-6)
        assert run("python -m hidden_context.summarize_results --output results.json") == 0
        results = json.loads(Path("results.json").read_text())
        cells = {c["reward_model_type"]: c for c in results["cells"] if c["train_set"] == "both"}
        assert set(cells) == set(NAMES)
        for kind, cell in cells.items():
            assert cell["jailbreak_rate"]["mean"]["total"] == 3
            assert kind == "base" or 0 <= cell["r_squared"]["value"] <= 1
