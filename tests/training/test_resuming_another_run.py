"""A run goes on with the data, options and models that it was begun with, or is refused."""

import json
import os
import shutil

import pytest
import yaml

from hidden_context import errors
from hidden_context.data.storage.locks import exclusive, exclusive_folder
from hidden_context.training import resume, run
from hidden_context.training.schedules import cosine_factor
from support.builders import (
    CHAT_TEMPLATE,
    preference_rows,
    tiny_backbone,
    tiny_tokenizer,
    train_config,
)
from support.paper_layout import write_rows
from support.runs import logged, losses

ROWS = preference_rows(16, seed=3, words=2)


@pytest.fixture(scope="module")
def begun(tmp_path_factory):
    """A run of two steps: its folder with the checkpoint, and its backbone."""
    folder = tmp_path_factory.mktemp("begun")
    tokenizer = tiny_tokenizer(chat_template=CHAT_TEMPLATE)
    backbone = tiny_backbone(folder / "backbone", "gpt2", tokenizer=tokenizer)
    run(train_config(backbone, folder / "run", **options_of()), ROWS)
    return folder


def options_of(**options):
    return {"max_steps": 2, "save_steps": 2, "tuning": "lora", "lora_r": 2} | options


def go_on(begun, folder, rows=ROWS, **options):
    """Go on with a copy of the run."""
    if not folder.joinpath("run").exists():
        shutil.copytree(begun, folder, dirs_exist_ok=True)
    options = {"model_name": str(folder / "backbone"), "max_steps": 4} | options
    options = options_of(resume_from_checkpoint="true", output_dir=folder / "run", **options)
    return run(train_config(**options), rows)


def text_of(path):
    return (path / "run" / "config.yaml").read_text()


OTHER_ROWS = [
    preference_rows(16, seed=4),
    ROWS[:-1],
    ROWS[::-1],
    *([ROWS[0] | change, *ROWS[1:]]
      for change in ({"annotator": "ann"}, {"weight": 2.0}, {"preference": 0.5})),
]  # fmt: skip


@pytest.mark.parametrize(
    ("change", "message"),
    [
        *(({"rows": rows}, "the training data differ (in content)") for rows in OTHER_ROWS),
        ({"learning_rate": 1e-5}, "--learning_rate was 0.003, is 1e-05"),
        ({"seed": 4}, "--seed was 0, is 4"),
        ({"reward_model_type": "categorical"}, "--reward_model_type was base, is categorical"),
        ({"lora_r": 4}, "--lora_r was 2, is 4"),
        ({"lr_scheduler_type": "linear"}, "--lr_scheduler_type was cosine, is linear"),
        ({"per_device_train_batch_size": 4}, "--per_device_train_batch_size was 8, is 4"),
        ({"max_length": 64}, "--max_length was 128, is 64"),
        ({"training_arguments": {"warmup_steps": 3}}, "--warmup_steps was None, is 3"),
        ({"tuning": "full", "weight_decay": 0.1}, "--tuning was lora, is full; --weight_decay was"),
    ],
)
def test_other_data_and_options_are_refused_by_name(begun, tmp_path, change, message):
    with pytest.raises(errors.CheckpointError) as caught:
        go_on(begun, tmp_path, **change)
    said = str(caught.value)
    assert "checkpoint-2 was trained with other options or data: " in said
    assert message in said or set(message.split("; ")) <= set(said.split("; "))
    assert "To resume it, give its original options; to start again, leave out --resume" in said
    assert text_of(tmp_path) == text_of(begun)  # what never acted is not written down
    assert not (tmp_path / "run" / "checkpoint-4").exists()


def test_other_files_and_shares_of_data_are_named(fit, tmp_path):
    first = write_rows(tmp_path / "first.jsonl", ROWS)
    second = write_rows(tmp_path / "second.jsonl", ROWS[::-1])
    same = write_rows(tmp_path / "copy.jsonl", ROWS)
    options = options_of(validation_fraction=0.25, eval_steps=2, save_total_limit=1)
    fit(data_path=first, **options)
    options |= {"max_steps": 4, "resume_from_checkpoint": "true"}
    message = rf"the .*training and validation data differ \(--data_path was {first}, is {second}"
    with pytest.raises(errors.CheckpointError, match=message):
        fit(data_path=second, **options)
    message = r"the training and validation data differ \(--validation_fraction was 0.25, is 0.5\)"
    with pytest.raises(errors.CheckpointError, match=message):
        fit(data_path=first, **options | {"validation_fraction": 0.5})
    assert len(losses(fit(data_path=same, **options))) == 4  # the same content elsewhere


def test_another_tokenizer_template_or_backbone_is_refused(begun, tmp_path):
    other = tiny_tokenizer(chat_template=CHAT_TEMPLATE.replace("<", "["))
    other.save_pretrained(tmp_path / "other")
    shutil.copytree(begun, tmp_path / "b")
    other.save_pretrained(tmp_path / "b" / "backbone")
    tokenizer = tiny_tokenizer(chat_template=CHAT_TEMPLATE)
    retrained = tiny_backbone(tmp_path / "retrained", "gpt2", tokenizer=tokenizer, seed=8)
    named, elsewhere = {"tokenizer_name": str(tmp_path / "other")}, {"model_name": retrained}
    for place, part, options, change in (
        ("a", "tokenizer", named, "--tokenizer_name was None"),
        ("b", "tokenizer", {}, r"in content\)"),
        ("c", "backbone", elsewhere, r"--model_name was .*backbone, is .*retrained, model\.safe"),
    ):
        with pytest.raises(errors.CheckpointError, match=rf"the {part} differs \({change}"):
            go_on(begun, tmp_path / place, **options)


def test_length_intervals_and_how_examples_are_run_may_change_and_are_printed(
    begun, tmp_path, capsys
):
    changes = {
        "max_steps": 5, "save_steps": 3, "logging_steps": 2, "tokens_per_batch": 200,
        "training_arguments": {"logging_first_step": True},
    }  # fmt: skip
    assert len(losses(go_on(begun, tmp_path, **changes))) == 3
    printed = capsys.readouterr().err
    assert "checkpoint-2 with other options: " in printed
    for part in ("--max_steps was 2, is 5", "--save_steps was 2, is 3", "--tokens_per_batch was"):
        assert part in printed
    assert "output_dir" not in printed
    assert yaml.safe_load(text_of(tmp_path))["max_steps"] == 5


def test_the_first_step_of_a_longer_run_has_the_rate_of_its_schedule(begun, tmp_path):
    with pytest.raises(
        errors.ConfigError, match="saved at step 2, but the run ends at step 1; rai"
    ):
        go_on(begun, tmp_path, max_steps=1)
    rates = logged(go_on(begun, tmp_path), "learning_rate")
    short, long = [[3e-3 * cosine_factor(step, n) for step in range(n)] for n in (2, 4)]
    assert rates == pytest.approx([*short, *long[2:]])


def test_a_checkpoint_that_does_not_say_is_gone_on_with_after_a_word(begun, tmp_path):
    shutil.copytree(begun, tmp_path, dirs_exist_ok=True)
    file = tmp_path / "run" / "checkpoint-2" / "run.json"
    for text, message in (
        ('{"format": 99}', "has format 99, but this version reads 1; upgrade"),
        ('{"format": 1, "options": 3}', "is damaged: its record is incomplete"),
    ):
        file.write_text(text)
        with pytest.raises(errors.CheckpointError, match=message):
            go_on(begun, tmp_path, max_steps=3)
    file.unlink()
    with pytest.warns(errors.HiddenContextWarning, match="has no record of its options"):
        go_on(begun, tmp_path, max_steps=3)


@pytest.mark.parametrize(
    ("size", "accumulation", "processes", "refused"),
    [(8, 1, 2, []), (4, 1, 2, []), (4, 2, 2, []), (4, 1, 1, ["size"]), (2, 1, 2, ["size"])],
)
def test_processes_may_change_with_the_votes_of_a_step_or_without(
    size, accumulation, processes, refused
):
    record = {"data": {}, "tokenizer": "", "backbone": {}, "processes": 1}
    record["options"] = {"per_device_train_batch_size": 8, "gradient_accumulation_steps": 1}
    names = dict(zip(record["options"], (size, accumulation), strict=True))
    after = record | {"options": names, "processes": processes}
    differing, printed = resume._compare(record, after, grows=False)
    assert [error.split(" ")[0][-4:] for error in differing] == refused
    assert ("processes was 1, is 2" in printed) == (processes == 2)


def test_an_ensemble_s_finished_members_are_of_the_same_run(fit, tmp_path):
    options = options_of(ensemble="lora", ensemble_members=2)
    fit(ROWS, **options)
    before = (tmp_path / "config.yaml").read_text()
    for rows, change, message in (
        (ROWS[::-1], {}, r"the training data differ"),
        (ROWS, {"learning_rate": 1e-5}, "--learning_rate was 0.003, is 1e-05"),
        (ROWS, {"seed": 1}, "--seed was 0, is 1"),
    ):
        with pytest.raises(
            errors.CheckpointError, match=rf"members\.json was trained with.*{message}"
        ):
            fit(rows, resume_from_checkpoint="true", **options, **change)
    assert (tmp_path / "config.yaml").read_text() == before
    assert "run" in json.loads((tmp_path / "members.json").read_text())


def test_two_trainings_do_not_write_into_one_folder(fit, tmp_path):
    out, final = tmp_path / "run", tmp_path / "model"
    options = options_of(max_steps=1, final_dir=str(final), into="run")
    for held, place in ((exclusive_folder(out), out), (exclusive(final), final)):
        message = rf"{place} is being written by process {os.getpid()} on"
        with held, pytest.raises(errors.StorageError, match=message):
            fit(ROWS, **options)
    assert not (out / "config.yaml").exists()
    fit(ROWS, **options)
    assert not list(tmp_path.rglob("*.lock"))


def test_a_tracker_that_cannot_be_used_is_found_before_anything_is_read(fit, tmp_path, monkeypatch):
    from transformers.integrations import integration_utils

    monkeypatch.setattr(integration_utils, "is_wandb_available", lambda: False)
    options = {"backbone": "no/model", "into": "run", "data_path": "no/data.jsonl"}
    missing = (
        r"--report_to wandb cannot be used: WandbCallback requires wandb to be installed.*, "
        r"or leave --report_to out\."
    )
    for way in ({"report_to": ["wandb"]}, {"training_arguments": {"report_to": "wandb"}}):
        with pytest.raises(errors.MissingDependencyError, match=missing):
            fit(**options, **way)
    with pytest.raises(errors.ConfigError, match="report_to wandbb: wandbb is not supported, on"):
        fit(**options, report_to=["wandbb"])
    assert not (tmp_path / "run").exists()
