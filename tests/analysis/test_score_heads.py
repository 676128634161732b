from __future__ import annotations

import pytest

from hidden_context import heads
from hidden_context.analysis.score_heads import (
    choose_head,
    guess_head_type,
    head_for_width,
    saved_head,
)
from hidden_context.errors import CheckpointError, ConfigError, DataError
from hidden_context.models.head_file import HeadFile

FOLDER = "runs/{}_Llama-2-7b-hf__0_3e-06_cosine_1_peft_last_checkpoint/eval_results_both.jsonl"


@pytest.mark.parametrize(
    ("width", "file", "name", "head_type"),
    [
        (1, "s.jsonl", "", "base"),
        (2, "s.jsonl", "", "mean_and_variance"),
        (3, "s.jsonl", "", "categorical"),
        (2, "s.jsonl", "both_categorical", "categorical"),
        (2, "s.jsonl", "categorical", "categorical"),
        (10, "s.jsonl", "both_mean_and_variance", "mean_and_variance"),
        (2, "s.jsonl", "chat_vs_base", "mean_and_variance"),
        (2, FOLDER.format("categorical"), "", "categorical"),
        (2, FOLDER.format("base"), "both_categorical", "categorical"),
        (2, "base_runs/s.jsonl", "", "mean_and_variance"),
    ],
)
def test_the_head_is_read_off_name_folder_or_width(width, file, name, head_type):
    assert guess_head_type(width, file=file, name=name) == head_type


def test_the_head_has_the_width_of_the_file_and_the_likelihood_asked_for():
    assert head_for_width("categorical", 7, file="f", field="c").num_outputs == 7
    assert head_for_width("scalar", 1, file="f", field="c", likelihood="logistic").type == "base"
    default = head_for_width("mean_and_variance", 2, file="f", field="c")
    logistic = head_for_width("mean_and_variance", 2, file="f", field="c", likelihood="logistic")
    assert default.to_dict()["likelihood"] == "probit"
    assert logistic.to_dict()["likelihood"] == "logistic"


@pytest.mark.parametrize(
    ("head_type", "width", "words"),
    [
        ("base", 2, "f, field 'c': 2 numbers per text, but a base head writes 1."),
        ("mean_and_variance", 1, "1 number per text, but a mean_and_variance head writes 2."),
        ("categorical", 1, "1 number per text, but a categorical head writes at least 2."),
    ],
)
def test_a_width_that_no_such_head_writes_is_refused(head_type, width, words):
    with pytest.raises(DataError) as caught:
        head_for_width(head_type, width, file="f", field="c")
    assert words in str(caught.value)


def test_an_unknown_head_is_refused():
    with pytest.raises(ConfigError, match="ensemble"):
        head_for_width("ensemble", 1, file="f", field="c")


def test_the_head_beside_the_file_goes_before_a_guess_and_after_what_is_asked_for(tmp_path):
    file = str(tmp_path / "scores.jsonl")
    assert saved_head(file) is None
    saved = heads.make("categorical", num_atoms=2, entropy_coeff=0.3)
    HeadFile(saved).save(tmp_path)
    assert saved_head(file) == saved

    def choose(width, **options):
        return choose_head(width, file=file, field="c", **options)

    assert choose(2).type == "mean_and_variance"
    assert choose(2, saved=saved) == saved
    assert choose(2, saved=saved, head_type="categorical", likelihood="logistic") == saved
    assert choose(2, saved=saved, head_type="mean_and_variance").type == "mean_and_variance"
    with pytest.raises(DataError, match=r"3 numbers .*reward_head\.json writes 2"):
        choose(3, saved=saved)
    logistic = heads.make("mean_and_variance", likelihood="logistic")
    assert choose(2, saved=logistic) == logistic
    assert choose(2, saved=logistic, likelihood="probit").likelihood == "probit"
    scalar = heads.make("base")
    assert choose(1, saved=scalar, head_type="scalar") == scalar


def test_a_damaged_head_beside_the_file_is_an_error(tmp_path):
    (tmp_path / "reward_head.json").write_text("{}")
    with pytest.raises(CheckpointError, match="the field 'head' is missing"):
        saved_head(tmp_path / "scores.jsonl")
