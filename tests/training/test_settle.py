"""Precision and threads of a run: chosen once, written down, and kept by the run that goes on."""

from __future__ import annotations

import json
import warnings

import pytest
import torch
import yaml

from hidden_context.errors import CheckpointError, ConfigError, HiddenContextWarning
from hidden_context.models import precision
from hidden_context.models.precision import Timings
from hidden_context.models.weights import load_config
from hidden_context.training import run, settle
from hidden_context.training.settle import threads_of, with_precision
from support.builders import preference_rows, train_config
from support.paper_layout import one_thread

__all__ = ["one_thread"]

ROWS = preference_rows(16, seed=3, words=2)


@pytest.fixture
def bfloat16_takes(monkeypatch):
    """Make models of any width be measured, float32 at 1 ms and bfloat16 as given."""
    monkeypatch.setattr(precision, "MIN_WIDTH", 0)

    def takes(milliseconds):
        def measure(device, name="bfloat16", *, backward=False):
            seconds = {"float32": 1e-3, name: milliseconds / 1000}
            return Timings(device.type, 1, seconds, backward)

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


def test_a_choice_is_the_same_run_as_its_name(backbones, tmp_path, bfloat16_takes):
    bfloat16_takes(0.25)
    found = [
        go(backbones("gpt2"), tmp_path / name, precision=name) for name in ("auto", "bfloat16")
    ]
    assert found[0].history[0]["loss"] == found[1].history[0]["loss"]
    bfloat16_takes(4.0)
    found = [go(backbones("gpt2"), tmp_path / f"{n}2", precision=n) for n in ("auto", "float32")]
    assert found[0].history[0]["loss"] == found[1].history[0]["loss"]


def test_a_run_that_goes_on_keeps_its_precision_where_another_would_be_chosen(
    backbones, tmp_path, bfloat16_takes
):
    bfloat16_takes(0.25)
    go(backbones("gpt2"), tmp_path)
    bfloat16_takes(4.0)  # as on another machine
    with pytest.warns(HiddenContextWarning) as caught:
        result = go(backbones("gpt2"), tmp_path, goes_on=True)
    assert precision_of(result) == stored(tmp_path, 4)["options"]["precision"] == "bfloat16"
    slow = [str(each.message) for each in caught if "times slower" in str(each.message)]
    assert slow == [
        "bfloat16 is 4.0 times slower than float32 on this processor (measured: a layer forward "
        "and backward on 1 thread: float32 1 ms, bfloat16 4 ms); the run keeps what it was begun "
        "with."
    ]
    with pytest.raises(CheckpointError, match="--precision was bfloat16, is float32"):
        go(backbones("gpt2"), tmp_path, goes_on=True, max_steps=6, precision="float32")


def test_a_run_that_was_begun_in_float32_stays_so(backbones, tmp_path, bfloat16_takes):
    bfloat16_takes(4.0)
    go(backbones("gpt2"), tmp_path)
    bfloat16_takes(0.25)
    assert precision_of(go(backbones("gpt2"), tmp_path, goes_on=True)) == "float32"


@pytest.mark.parametrize(("bf16", "kept"), [(True, "bfloat16"), (False, "float32")])
def test_a_run_of_an_earlier_version_keeps_what_its_bf16_said(
    backbones, tmp_path, bfloat16_takes, capsys, bf16, kept
):
    bfloat16_takes(1.0)
    go(backbones("gpt2"), tmp_path, precision=kept)
    record = stored(tmp_path)
    del record["options"]["precision"], record["threads"]
    record["options"]["bf16"] = bf16
    (tmp_path / "checkpoint-2" / "run.json").write_text(json.dumps(record))
    assert precision_of(go(backbones("gpt2"), tmp_path, goes_on=True)) == kept
    assert "threads" not in capsys.readouterr().err


def test_members_of_an_ensemble_share_one_choice(backbones, tmp_path, bfloat16_takes):
    bfloat16_takes(0.25)
    options = {"ensemble": "lora", "ensemble_members": 2}
    result = go(backbones("gpt2"), tmp_path, **options)
    assert precision_of(result) == "bfloat16"
    bfloat16_takes(4.0)
    with pytest.warns(HiddenContextWarning, match="the run keeps what it was begun with"):
        again = go(backbones("gpt2"), tmp_path, goes_on=True, **options | {"ensemble_members": 3})
    assert precision_of(again) == "bfloat16"
    assert json.loads((tmp_path / "members.json").read_text())["run"]["options"]["precision"] == (
        "bfloat16"
    )


def test_a_slow_precision_that_was_asked_for_is_obeyed_with_one_warning(
    backbones, tmp_path, bfloat16_takes
):
    bfloat16_takes(7.9)
    with pytest.warns(HiddenContextWarning) as caught:
        result = go(backbones("gpt2"), tmp_path, precision="bfloat16")
    assert precision_of(result) == "bfloat16"
    (slow,) = [str(each.message) for each in caught if "times slower" in str(each.message)]
    assert slow.startswith("bfloat16 is 7.9 times slower than float32 on this processor")
    assert slow.endswith("; take --precision float32.")


@pytest.mark.parametrize(
    "options",
    [{"freeze_backbone": True}, {"deepspeed": "d.json"}, {"training_arguments": {"fp16": True}}],
)
def test_where_something_else_decides_nothing_is_measured(
    backbones, tmp_path, bfloat16_takes, options
):
    bfloat16_takes(0.1)
    config = train_config(backbones("gpt2"), tmp_path, **options)
    assert with_precision(config).precision == "float32"


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


def test_a_backbone_that_is_not_there_is_left_to_its_own_error(tmp_path, bfloat16_takes):
    bfloat16_takes(0.1)
    config = train_config(str(tmp_path / "nothing"), tmp_path)
    assert with_precision(config).precision == "float32"


def test_bf16_among_the_training_arguments_is_refused_with_the_option(backbones, tmp_path):
    message = "does not take bf16; bfloat16 is --precision bfloat16."
    with pytest.raises(ConfigError, match=message):
        go(backbones("gpt2"), tmp_path, training_arguments={"bf16": True})


def test_tiny_models_are_not_measured(backbones, tmp_path, monkeypatch):
    def measure(*_, **__):
        raise AssertionError("nothing is to be measured")

    monkeypatch.setattr(precision, "measure", measure)
    assert load_config(backbones("gpt2")).hidden_size < precision.MIN_WIDTH
    config = train_config(backbones("gpt2"), tmp_path)
    assert with_precision(config).precision == "float32"


def test_threads_are_those_asked_for_and_as_before_afterwards(backbones, tmp_path, monkeypatch):
    monkeypatch.setattr("hidden_context.models.threads.usable_cpus", lambda: 2)
    go(backbones("gpt2"), tmp_path, threads=2)
    assert stored(tmp_path)["threads"] == 2
    assert torch.get_num_threads() == 1
    assert yaml.safe_load((tmp_path / "config.yaml").read_text())["threads"] == 2


@pytest.mark.parametrize(
    ("cpus", "asked", "used", "said"),
    [(2, None, 2, ""), (1, None, 1, "threads was 2, is 1"), (2, 1, 1, "threads was 2, is 1")],
)
def test_a_run_that_goes_on_keeps_its_threads_as_far_as_they_are_there(
    backbones, tmp_path, monkeypatch, capsys, cpus, asked, used, said
):
    monkeypatch.setattr("hidden_context.models.threads.usable_cpus", lambda: 2)
    go(backbones("gpt2"), tmp_path, threads=2)
    monkeypatch.setattr(settle, "usable_cpus", lambda: cpus)
    capsys.readouterr()
    go(backbones("gpt2"), tmp_path, goes_on=True, threads=asked)
    assert stored(tmp_path, 4)["threads"] == used
    printed = capsys.readouterr().err
    assert said in printed
    assert bool(said) == ("threads was" in printed)
