"""Options of training, and what becomes of them."""

import dataclasses
import json
import math
import re
import warnings

import pytest
import torch
import yaml

from hidden_context.errors import CheckpointError, ConfigError, MissingFileError
from hidden_context.models.network import precision
from hidden_context.models.network.precision import Timings
from hidden_context.training import TrainConfig, run, settle
from hidden_context.training.finetune import training_arguments
from hidden_context.training.resume import resume_point
from hidden_context.training.settle import threads_of, with_precision
from support.builders import preference_rows, train_config
from support.runs import losses


def test_arguments_are_passed_through(tmp_path):
    """And the paper's optimiser is taken for its successor."""
    given = {"warmup_steps": 7, "max_grad_norm": 0.5}
    options = {"optim": "adamw_hf", "learning_rate": 3e-6, "weight_decay": 0.001}
    config = train_config("x", tmp_path, training_arguments=given, **options)
    arguments = training_arguments(config, validated=False, has_eval=False)
    assert {name: getattr(arguments, name) for name in given} == given
    assert (arguments.optim, arguments.eval_strategy) == ("adamw_torch", "no")
    assert (arguments.learning_rate, arguments.weight_decay) == (3e-6, 0.001)
    config = train_config("x", tmp_path, eval_steps=3, save_steps=4)
    with pytest.raises(ConfigError, match="cannot work together"):
        training_arguments(config, validated=True, has_eval=True)


def test_where_to_resume(tmp_path):
    def config(value):
        return train_config("x", tmp_path / "out", resume_from_checkpoint=value)

    for value, message in (("true", "Nothing to resume"), (str(tmp_path / "gone"), "gone does")):
        with pytest.raises(MissingFileError, match=message):
            resume_point(config(value))
    for step in (5, 40, 9):
        (tmp_path / "out" / f"checkpoint-{step}").mkdir(parents=True)
    named, last = (str(tmp_path / "out" / f"checkpoint-{step}") for step in (9, 40))
    points = {None: None, "false": None, "True": last, named: named}
    assert {value: resume_point(config(value)) for value in points} == points


def test_values_out_of_bounds_are_refused_by_name():
    """Below its smallest value, or against its rule, whichever option it is."""
    assert TrainConfig(num_train_epochs=0, max_steps=3, probe_weight_decay=0.0).max_steps == 3
    bounded = [f for f in dataclasses.fields(TrainConfig) if {"least", "must"} & {*f.metadata}]
    assert len(bounded) > 25
    for field in bounded:
        least, (_, must) = field.metadata.get("least"), field.metadata.get("must", (None, None))
        for value in (-0.1,) if must else (least - 1, math.nan):
            said = f"--{field.name} is {value}; it must {must or f'be at least {least}'}."
            with pytest.raises(ConfigError, match=re.escape(said)):
                TrainConfig(**{field.name: value})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"early_stopping_patience": 2}, "needs --validation_fraction"),
        ({"num_train_epochs": 0}, "--num_train_epochs is 0; it must be positive"),
        ({"num_train_epochs": math.nan}, "--num_train_epochs is nan; it must be positive"),
        ({"annotator_warmup": 1.5}, r"--annotator_warmup is 1\.5; it must lie in \[0, 1\]"),
        ({"ensemble": "lora", "tuning": "full"}, r"--tuning full does not fit.*lora or qlora"),
        ({"ensemble": "lora", "freeze_backbone": True}, "already, so take --ensemble heads"),
    ],
)
def test_impossible_options(options, message):
    with pytest.raises(ConfigError, match=message):
        TrainConfig(**options)


# ---- Precision and threads of a run: chosen once, written down, and kept by the run that goes on


ROWS = preference_rows(16, seed=3, words=2)


@pytest.fixture
def bfloat16_takes(monkeypatch):
    """Make models of any width be measured, float32 at 1 ms and bfloat16 as given."""
    monkeypatch.setattr(precision, "MIN_WIDTH", 0)

    def takes(milliseconds):
        def measure(device, name="bfloat16", *, backward=False):
            return Timings(device.type, 1, {"float32": 1e-3, name: milliseconds / 1000}, backward)

        monkeypatch.setattr(precision, "measure", measure)

    monkeypatch.setattr(settle, "resolve_device", lambda: torch.device("cpu"))
    return takes


def go(backbone, out, *, goes_on=False, **options):
    steps = {"max_steps": 4, "resume_from_checkpoint": "true"} if goes_on else {"max_steps": 2}
    options = {"save_steps": 2, "tuning": "lora", "lora_r": 2, **steps, **options}
    return run(train_config(backbone, out, **options), ROWS)


def stored(out, step=2):
    return json.loads((out / f"checkpoint-{step}" / "run.json").read_text())


def precision_of(result):
    """What the frozen weights of the backbone are in."""
    module = result.model.module.get_base_model()
    kinds = {p.dtype for n, p in module.named_parameters() if "base_layer" in n}
    assert len(kinds) == 1
    return str(kinds.pop()).removeprefix("torch.")


@pytest.mark.parametrize(("milliseconds", "chosen"), [(0.25, "bfloat16"), (4.0, "float32")])
def test_what_is_measured_is_trained_in_and_written_down(
    backbones, tmp_path, capsys, bfloat16_takes, milliseconds, chosen
):
    bfloat16_takes(milliseconds)
    result = go(backbones("gpt2"), tmp_path)
    assert precision_of(result) == chosen
    assert stored(tmp_path)["options"]["precision"] == chosen
    for file in (tmp_path / "config.yaml", result.path / "training_config.yaml"):
        assert yaml.safe_load(file.read_text())["precision"] == chosen
    assert f"- Trained with the backbone in {chosen}\n" in (result.path / "README.md").read_text()
    said = (
        "precision: bfloat16, 4.0 times as fast as float32 (measured: a layer forward and backward "
        "on 1 thread: float32 1 ms, bfloat16 0.25 ms)\n"
    )
    assert (said in capsys.readouterr().err) == (chosen == "bfloat16")
    assert losses(go(backbones("gpt2"), tmp_path / "b", precision=chosen)) == losses(result)


ENSEMBLE = {"ensemble": "lora", "ensemble_members": 2}


@pytest.mark.parametrize(
    ("then", "now", "bf16", "options"),
    [
        (0.25, 4.0, None, {}),
        (0.25, 4.0, None, ENSEMBLE),
        (0.25, 4.0, True, {}),
        (4.0, 0.25, None, {}),
        (4.0, 0.25, False, {}),
    ],
)
def test_a_run_that_goes_on_keeps_its_precision_where_another_would_be_chosen(
    backbones, tmp_path, bfloat16_takes, capsys, then, now, bf16, options
):
    """As on another machine; a run of an earlier version as its bf16 said."""
    bfloat16_takes(then)
    kept, other = ("bfloat16", "float32") if then < now else ("float32", "bfloat16")
    go(backbones("gpt2"), tmp_path, **options)
    if bf16 is not None:
        record = stored(tmp_path)
        del record["options"]["precision"], record["threads"]
        record["options"]["bf16"] = bf16
        (tmp_path / "checkpoint-2" / "run.json").write_text(json.dumps(record))
    bfloat16_takes(now)
    capsys.readouterr()
    more = {name: 3 for name in options if name == "ensemble_members"}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = go(backbones("gpt2"), tmp_path, goes_on=True, **options | more)
    assert precision_of(result) == kept
    slow = [str(each.message) for each in caught if "times slower" in str(each.message)]
    told = (
        "bfloat16 is 4.0 times slower than float32 on this processor (measured: a layer forward "
        "and backward on 1 thread: float32 1 ms, bfloat16 4 ms); a resumed run keeps its precision."
    )
    assert slow == ([told] if kept == "bfloat16" else [])
    assert "threads" not in capsys.readouterr().err
    with pytest.raises(CheckpointError, match=f"--precision was {kept}, is {other}"):
        go(backbones("gpt2"), tmp_path, goes_on=True, precision=other, **options)


def test_a_slow_precision_that_was_asked_for_is_obeyed_with_one_warning(
    backbones, tmp_path, bfloat16_takes
):
    bfloat16_takes(7.9)
    with pytest.warns(
        match=r"^bfloat16 is 7\.9 times slower .*; take --precision float32\.$"
    ) as said:
        result = go(backbones("gpt2"), tmp_path, precision="bfloat16")
    assert precision_of(result) == "bfloat16"
    assert sum("times slower" in str(each.message) for each in said) == 1


@pytest.mark.parametrize(
    "options",
    [
        {"freeze_backbone": True},
        {"deepspeed": "d.json"},
        {"training_arguments": {"fp16": True}},
        {"model_name": "nothing/there"},  # left to the error of loading it
    ],
)
def test_where_something_else_decides_nothing_is_measured(
    backbones, tmp_path, bfloat16_takes, options
):
    bfloat16_takes(0.1)
    options = {"model_name": backbones("gpt2"), "output_dir": tmp_path} | options
    assert with_precision(train_config(**options)).precision == "float32"


def test_several_processes_take_what_all_of_them_find(
    backbones, tmp_path, bfloat16_takes, monkeypatch
):
    bfloat16_takes(0.1)
    monkeypatch.setenv("WORLD_SIZE", "2")
    config = train_config(backbones("gpt2"), tmp_path)
    assert with_precision(config).precision == "float32"
    assert threads_of(config) is None  # as the launcher divides them
    monkeypatch.setenv("RANK", "1")
    bfloat16_takes(9.0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # the first process says it
        with_precision(train_config(backbones("gpt2"), tmp_path, precision="bfloat16"))


@pytest.mark.parametrize(
    ("cpus", "asked", "used", "said"),
    [(2, None, 2, ""), (1, None, 1, "threads was 2, is 1"), (2, 1, 1, "threads was 2, is 1")],
)
def test_a_run_that_goes_on_keeps_its_threads_as_far_as_they_are_there(
    backbones, tmp_path, monkeypatch, capsys, cpus, asked, used, said
):
    monkeypatch.setattr("hidden_context.models.network.threads.usable_cpus", lambda: 2)
    go(backbones("gpt2"), tmp_path, threads=2)
    assert stored(tmp_path)["threads"] == 2
    assert torch.get_num_threads() == 1
    assert yaml.safe_load((tmp_path / "config.yaml").read_text())["threads"] == 2
    monkeypatch.setattr(settle, "usable_cpus", lambda: cpus)
    capsys.readouterr()
    go(backbones("gpt2"), tmp_path, goes_on=True, threads=asked)
    assert stored(tmp_path, 4)["threads"] == used
    printed = capsys.readouterr().err
    assert said in printed
    assert bool(said) == ("threads was" in printed)
