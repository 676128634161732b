"""Options, groups and models that score: what is taken, and what is refused before any scoring."""

import json
import warnings
from pathlib import Path

import pytest
import torch

from hidden_context import heads, risk
from hidden_context.errors import (
    CheckpointError,
    ConfigError,
    DataError,
    HiddenContextWarning,
    MissingFileError,
)
from hidden_context.likelihood import LikelihoodOptions, make_likelihood
from hidden_context.models.checkpoint.likelihood_file import save_likelihood
from hidden_context.scoring import EvaluateConfig, ScoreConfig, loading
from hidden_context.scoring.columns import check_people, read_groups
from hidden_context.scoring.config import ModelOptions
from hidden_context.scoring.loading import load_model, read_likelihood, settle, wanted_head
from hidden_context.scoring.record import PartialScores
from support.builders import tiny_backbone
from support.paper_layout import reward_checkpoint


def score_config(**options):
    return ScoreConfig(**{"input": "in", "output": "out", "models": ["a/b", "c"], **options})


def test_models_are_named_after_their_folders():
    assert score_config(models=["runs/a/", "org/b"]).model_names == ["a", "b"]
    assert score_config(models=["."]).model_names == [Path.cwd().name]
    assert score_config(names=["x", "y"]).model_names == ["x", "y"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"input": ""}, "score needs an input file, as in: score INPUT"),
        ({"output": ""}, "score needs --output,"),
        ({"input": "", "models": []}, "score needs an input file and --models,"),
        ({"names": ["x"]}, r"names and models differ in number \(1 and 2\); give each model a n"),
        ({"models": ["a/final", "b/final"]}, r"not distinct \(final, final\)"),
        ({"batch_size": 0}, "--batch_size is 0; it must be at least 1"),
        ({"tokens_per_batch": 0}, "--tokens_per_batch is 0; it must be at least 1"),
        ({"window": 0}, "--window is 0"),
        ({"max_length": -1}, "--max_length is -1"),
        ({"num_outputs": 0}, "--num_outputs is 0"),
        ({"annotator": "ann"}, "name risk measures for --annotator, as in"),
        ({"annotator": "ann", "groups": "g.json"}, "measures for --annotator and --groups, as"),
        (
            {"groups": "g.json", "risk": ["mean"], "names": ["a", "groups_a"]},
            "like the columns of --groups for another model",
        ),
        ({"workers": 2}, "--workers needs --engine_cluster ray"),
        ({"cluster_address": "a"}, "--cluster_address needs --engine_cluster ray"),
        ({"worker_gpus": 1.0}, "--worker_gpus needs --engine_cluster ray"),
        ({"checkpoint": ""}, "evaluate needs a checkpoint"),
        ({"checkpoint": "m", "output": "scores.parquet"}, "evaluate writes JSON Lines"),
        ({"checkpoint": "m", "eval_dataset_size": -2}, "--eval_dataset_size is -2; it must be at"),
    ],
)
def test_options_that_cannot_work_are_refused(options, words):
    make = EvaluateConfig if "checkpoint" in options else score_config
    with pytest.raises(ConfigError, match=words):
        make(**options)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ([], "a JSON object of groups is needed"),
        ({}, "a JSON object of groups is needed"),
        ({"old": []}, "field 'old': a list of at least one annotator is needed"),
        ({"old": "ann"}, "field 'old': a list of at least one annotator"),
        ({"old": ["ann", None]}, "field 'old': an annotator is a name or a number"),
        ({"old": [True]}, "field 'old': an annotator is"),
        ({"worst_group": ["ann"]}, "this name is reserved for the group with the lowest value"),
    ],
)
def test_a_file_of_something_else_is_refused_by_file_and_group(tmp_path, content, words):
    path = tmp_path / "groups.json"
    with pytest.raises(MissingFileError):
        read_groups(path)
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match=words) as caught:
        read_groups(path)
    assert str(caught.value).startswith(str(path))
    path.write_text('{"old": ["ann", 7], "young": ["bob"]}')
    assert read_groups(path) == {"old": ["ann", "7"], "young": ["bob"]}  # names are texts


def check(models, kind="pair", groups=None, **options):
    options["groups"] = groups and "g.json"
    config = score_config(models=models, **{"risk": ["mean"], **options})
    check_people(config, kind, [risk.parse(name) for name in config.risk], groups)


RELATIVE = {"risk": ["mean", "relative_cvar:0.1"]}


@pytest.mark.parametrize(
    ("names", "options", "words"),
    [
        (["factor"], {"kind": "text", **RELATIVE}, "relative_cvar:0.1 compares .* in holds single"),
        (["factor", "checkpoint"], RELATIVE, r"normal has a mean_and_variance head\.$"),
        (["checkpoint"], {"annotator": "ann"}, "--annotator ann: .*normal knows no annotators"),
        (["factor", "checkpoint"], {"groups": {"old": ["ann"]}},
         "--groups g.json, .*normal: this model has not learned annot"),
        (["factor"], {"groups": {"old": ["ann", "zoe"]}}, "--groups g.json, .*does not know: zoe"),
        (["habits"], {"annotator": "ann"}, "knows how annotators answer, but not what each"),
    ],
)  # fmt: skip
def test_models_that_cannot_give_the_risk_measures(request, habits, names, options, words):
    with pytest.raises(ConfigError, match=words):
        check([request.getfixturevalue(name) for name in names], **options)


@pytest.fixture
def habits(tmp_path):
    """A model that knows how annotators answer, but not what each of them prefers."""
    options = LikelihoodOptions(
        levels=3, inference="variational", taste=False, habits=("readiness",), names=("ann",)
    )
    folder = reward_checkpoint(tmp_path / "habits")
    save_likelihood(folder, make_likelihood(heads.make("mean_and_variance"), options))
    return folder


def test_an_annotator_who_is_not_known_is_told_once(factor, checkpoint):
    with pytest.warns(HiddenContextWarning, match=r"does not know the annotator zoe") as caught:
        check([factor], annotator="zoe")
    assert len(caught) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check([factor], annotator="7", groups={"a": ["7", "ann"]})
        check([factor, checkpoint])
        for kind in ("pair", "responses"):
            check([factor], kind, **RELATIVE)


@pytest.mark.parametrize(
    ("options", "head"),
    [
        ({}, None),
        (
            {"num_outputs": 2, "likelihood": "logistic"},
            heads.make("mean_and_variance", likelihood="logistic"),
        ),
        ({"head": "quantile"}, heads.make("quantile")),
        ({"head": "factor", "num_outputs": 5}, heads.make("factor", num_factors=3)),
    ],
)
def test_the_head_that_options_name(options, head):
    assert wanted_head(ModelOptions(**options)) == head


@pytest.mark.parametrize(
    ("model", "options"),
    [
        # the checkpoint's own likelihood holds, and a name alone asks for no size
        ("checkpoint", {"num_outputs": 2, "likelihood": "logistic"}),
        ("checkpoint", {"head": "mean_and_variance"}),
        ("categorical", {"head": "categorical"}),
        ("categorical", {"num_outputs": 5}),
    ],
)
def test_what_the_checkpoint_says_of_its_head_holds(request, model, options):
    folder = request.getfixturevalue(model)
    found = load_model(folder, ModelOptions(**options)).head
    assert found == load_model(folder, ModelOptions()).head


def test_what_was_learned_beside_the_network_is_read_without_it(factor, checkpoint, tmp_path):
    known = read_likelihood(factor, ModelOptions())
    assert known.head == heads.make("factor", num_factors=2)
    assert known.names.names == ("7", "ann", "bob")
    assert load_model(factor, ModelOptions()).likelihood.names.names == known.names.names
    assert read_likelihood(checkpoint, ModelOptions()).options == LikelihoodOptions()
    with pytest.raises(MissingFileError):
        read_likelihood(str(tmp_path / "absent"), ModelOptions())
    with pytest.raises(CheckpointError, match=r"a factor head \(num_outputs 4\), but factor \(num"):
        load_model(factor, ModelOptions(head="factor", num_outputs=3))


def test_a_ready_made_model_without_a_head_file_needs_no_name(tmp_path):
    ready = tiny_backbone(tmp_path / "ready", num_labels=1)
    assert load_model(ready, ModelOptions()).head == heads.make("base")
    assert read_likelihood(ready, ModelOptions()).head == heads.make("base")
    assert read_likelihood(ready, ModelOptions(num_outputs=2)).head.type == "mean_and_variance"
    with pytest.raises(CheckpointError, match="num_outputs 1, not 2"):
        load_model(ready, ModelOptions(num_outputs=2))


def test_paths_without_a_checkpoint_are_told_apart(checkpoint, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run" / "notes").mkdir(parents=True)
    with pytest.raises(MissingFileError, match=r"run/final does not exist. Give the folder of"):
        load_model("run/final", ModelOptions())
    Path("run/final").symlink_to(checkpoint)
    with pytest.raises(CheckpointError, match=r"is in it. There is one in run/final\.$"):
        load_model("run", ModelOptions())
    with pytest.raises(CheckpointError, match=r"config.json is a file; give the folder"):
        load_model(f"{checkpoint}/config.json", ModelOptions())


def test_a_precision_that_is_asked_for_is_obeyed_and_warned_of_if_slow(checkpoint, monkeypatch):
    warned = []
    monkeypatch.setattr(loading, "warn_if_slow", lambda *given: warned.append(given))
    for name in ("auto", "bfloat16"):
        model = load_model(checkpoint, ModelOptions(device="cpu", precision=name, max_length=17))
    assert warned == [(torch.bfloat16, torch.device("cpu"), 32)]
    assert model.max_length == 17
    assert {p.dtype for p in model.module.transformer.parameters()} == {torch.bfloat16}


BF16, CUDA = {"dtype": "torch.bfloat16", "device": "cpu"}, {"device": "cuda"}


@pytest.mark.parametrize(
    ("record", "threads", "options", "here", "expected"),
    [
        (BF16, None, {}, {}, ("bfloat16", 1)),
        (BF16 | {"dtype": "torch.float16"}, None, {}, {}, ("float16", 1)),
        (BF16 | CUDA, None, {}, {}, ("float32", 1)),  # all is scored anew there anyway
        (BF16 | {"dtype": "torch.int8"}, None, {}, {}, ("float32", 1)),
        (None, None, {}, {}, ("float32", 1)),
        # what is asked for stands above a record, whose threads hold as far as there are so many
        (BF16, 2, {"precision": "float32", "threads": 3}, {"cpus": 4}, ("float32", 3)),
        (BF16, 2, {}, {"cpus": 4}, ("bfloat16", 2)),
        (BF16, 2, {}, {"cpus": 1}, ("bfloat16", 1)),
        # elsewhere only what a record says is named
        (BF16 | CUDA, 1, {}, {"here": False}, ("bfloat16", None)),
        (None, None, {}, {"here": False}, ("auto", None)),
        # a GPU is given no threads unless asked
        (None, None, {}, CUDA, ("bfloat16", None)),
        (None, None, {"threads": 2}, {**CUDA, "cpus": 4}, ("bfloat16", 2)),
    ],
)
def test_precision_and_threads_are_those_asked_for_or_begun_with_or_a_choice(
    tmp_path, monkeypatch, record, threads, options, here, expected
):
    device = torch.device(here.get("device", "cpu"))
    monkeypatch.setattr(loading, "resolve_device", lambda _: device)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: True)
    for module in ("scoring.loading", "models.network.threads"):
        monkeypatch.setattr(f"hidden_context.{module}.usable_cpus", lambda: here.get("cpus", 1))
    records = [tmp_path / "none", tmp_path / "a.partial"]
    if record is not None:
        with PartialScores(records[1], record, threads=threads) as partial:
            partial.append([{"row": 0, "raw": [[0.0]], "tokens": "x"}])
    found, used = settle(ModelOptions(**options), records, here=here.get("here", True))
    assert (found.precision, used) == expected
