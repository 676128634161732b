from __future__ import annotations

import pytest

from hidden_context import heads
from hidden_context.analysis.score_heads import (
    choose_head,
    guess_head_type,
    head_files_of,
    head_for_width,
    known_column,
    saved_head,
    saved_likelihood,
)
from hidden_context.errors import CheckpointError, ConfigError, DataError
from hidden_context.likelihood import LikelihoodOptions, make_likelihood
from hidden_context.models.head_file import HeadFile
from hidden_context.models.likelihood_file import save_likelihood
from hidden_context.models.score_heads import forget_heads, heads_folder, save_heads

FOLDER = "runs/{}_Llama-2-7b-hf__0_3e-06_cosine_1_peft_last_checkpoint/eval_results_both.jsonl"


@pytest.mark.parametrize(
    ("width", "file", "name", "head_type"),
    [
        (1, "s.jsonl", "", "base"),
        (2, "s.jsonl", "", "mean_and_variance"),
        (3, "s.jsonl", "both_categorical", "categorical"),
        (2, "s.jsonl", "both_categorical", "categorical"),
        (2, "s.jsonl", "categorical", "categorical"),
        (10, "s.jsonl", "both_mean_and_variance", "mean_and_variance"),
        (2, "s.jsonl", "chat_vs_base", "mean_and_variance"),
        (2, FOLDER.format("categorical"), "", "categorical"),
        (2, FOLDER.format("base"), "both_categorical", "categorical"),
        (2, "base_runs/s.jsonl", "", "mean_and_variance"),
        (4, "s.jsonl", "both_factor", "factor"),
        (6, FOLDER.format("mixture"), "", "mixture"),
    ],
)
def test_the_head_is_read_off_name_folder_or_width(width, file, name, head_type):
    assert guess_head_type(width, file=file, name=name) == head_type


@pytest.mark.parametrize("width", [3, 10, 15])
def test_a_wide_head_that_nothing_names_is_not_guessed(width):
    words = f"c/s.jsonl, field 'f': {width} numbers per text, and nothing says what head wrote them"
    with pytest.raises(DataError) as caught:
        choose_head(width, file="c/s.jsonl", field="f", name="both_new")
    assert words in str(caught.value)
    assert "Name it with --head; or put the file beside s.jsonl.heads" in str(caught.value)
    assert choose_head(width, file="c/s.jsonl", field="f", head_type="factor").num_outputs == width


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
        ("factor", 1, "1 number per text, but a factor head writes at least 2."),
        ("mixture", 7, "7 numbers per text, but a mixture head writes 6 or some more, never 7."),
        ("ensemble", 6, "6 numbers per text, but an ensemble head writes 5. What its members are"),
    ],
)
def test_a_width_that_no_such_head_writes_is_refused(head_type, width, words):
    with pytest.raises(DataError) as caught:
        head_for_width(head_type, width, file="f", field="c")
    assert words in str(caught.value)


def test_an_unknown_head_is_refused():
    with pytest.raises(ConfigError, match="'sparse' is not known"):
        head_for_width("sparse", 1, file="f", field="c")


def test_every_type_of_head_is_made_by_its_width():
    def made(kind, width):
        return head_for_width(kind, width, file="f", field="c")

    assert made("factor", 4) == heads.make("factor", num_factors=2)
    assert made("mixture", 6) == heads.make("mixture", num_components=2)
    assert made("quantile", 4) == heads.make("quantile", num_atoms=4)
    assert made("ensemble", 5) == heads.make("ensemble")


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
    ensemble = heads.make("ensemble", member=logistic, num_members=2)
    assert choose(4, saved=ensemble) == ensemble
    assert choose(4, saved=ensemble, likelihood="probit").member.likelihood == "probit"
    scalar = heads.make("base")
    assert choose(1, saved=scalar, head_type="scalar") == scalar


def test_what_was_learned_beside_the_network_is_read_with_the_head(tmp_path):
    file = tmp_path / "scores.jsonl"
    assert saved_likelihood(file) is None
    head = heads.make("base")
    HeadFile(head).save(tmp_path)
    assert saved_likelihood(file).options == LikelihoodOptions()
    save_likelihood(tmp_path, make_likelihood(head, LikelihoodOptions(5)))
    found = saved_likelihood(file)
    assert (found.head, found.outcomes.levels) == (head, 5)
    beside = ["reward_head.json", "likelihood.json", "likelihood.safetensors"]
    beside += ["objective.json", "objective.safetensors"]  # of the first format
    assert head_files_of(file) == [tmp_path / name for name in beside]
    (tmp_path / "likelihood.safetensors").unlink()
    with pytest.raises(CheckpointError, match="the checkpoint is damaged"):
        saved_likelihood(file)


def test_a_damaged_head_beside_the_file_is_an_error(tmp_path):
    (tmp_path / "reward_head.json").write_text("{}")
    with pytest.raises(CheckpointError, match="the field 'head' is missing"):
        saved_head(tmp_path / "scores.jsonl")


def factor(names, column="annotator"):
    options = LikelihoodOptions(inference="map", names=names, column=column)
    return make_likelihood(heads.make("factor", num_factors=2), options)


def test_each_model_s_head_is_kept_beside_the_file(tmp_path):
    file = tmp_path / "s.jsonl"
    HeadFile(heads.make("base")).save(tmp_path)  # a checkpoint around a file of other models
    likelihoods = {"a.1/..": factor(("ann", "bob")), "..": make_likelihood(heads.make("base"))}
    save_heads(file, likelihoods)
    assert {path.name for path in heads_folder(file).iterdir()} == {"a%2E1%2F%2E%2E", "%2E%2E"}
    assert saved_head(file, "..").type == "base"
    found = saved_likelihood(file, "a.1/..")
    assert (found.head, found.options) == (
        heads.make("factor", num_factors=2),
        factor(("ann", "bob")).options,
    )
    assert known_column(file) == "annotator"
    # a model that is not among them, and the only one where there are two, is not known
    assert saved_head(file, "b", alone=False) is None
    assert saved_likelihood(file, alone=False) is None
    assert saved_head(file, "b").type == "base"
    assert heads_folder(file) / "%2E%2E" / "reward_head.json" in head_files_of(file)
    with pytest.raises(DataError, match=r"5 numbers .*%2E1%2F%2E%2E/reward_head\.json writes 4"):
        choose_head(5, file=str(file), field="c", name="a.1/..", saved=found.head)
    save_heads(file, {"a": factor(("ann",), "who"), "b": factor(("ann",))})
    assert saved_head(file, "..", alone=False) is None
    with pytest.raises(DataError, match=r"by different columns \(annotator, who\)"):
        known_column(file)
    forget_heads(file)
    assert not heads_folder(file).exists()
    assert known_column(file) is None


def test_the_only_head_is_that_of_scores_without_a_name(tmp_path):
    file = tmp_path / "s.jsonl"
    save_heads(file, {"evaluation": factor(("ann",))})
    assert saved_head(file).num_outputs == 4
    assert known_column(file) == "annotator"
    assert saved_head(file, "evaluation").num_outputs == 4
