"""What cannot work is refused before anything is scored: options, groups, and whose rewards."""

import json
import warnings
from pathlib import Path

import pytest

from hidden_context import heads, risk, scoring
from hidden_context.errors import ConfigError, DataError, HiddenContextWarning, MissingFileError
from hidden_context.likelihood import LikelihoodOptions, make_likelihood
from hidden_context.models.checkpoint.likelihood_file import save_likelihood
from hidden_context.scoring import EvaluateConfig, ScoreConfig
from hidden_context.scoring.people import check_people, read_groups
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
        ({"annotator": "ann"}, "--annotator need risk measures, but none is named"),
        ({"annotator": "ann", "groups": "g.json"}, "--annotator and --groups need risk"),
        (
            {"groups": "g.json", "risk": ["mean"], "names": ["a", "groups_a"]},
            "one model's name is another's after 'groups_'",
        ),
        ({"workers": 2}, "--workers needs --engine_cluster ray"),
        ({"cluster_address": "a"}, "--cluster_address needs --engine_cluster ray"),
        ({"worker_gpus": 1.0}, "--worker_gpus needs --engine_cluster ray"),
    ],
)
def test_options_that_cannot_work_are_refused(options, words):
    with pytest.raises(ConfigError, match=words):
        score_config(**options)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"checkpoint": ""}, "evaluate needs a checkpoint"),
        ({"output": "scores.parquet"}, "evaluate writes JSON Lines"),
        ({"eval_dataset_size": -2}, "--eval_dataset_size is -2; it must be at least 0"),
    ],
)
def test_options_of_an_evaluation_that_cannot_work_are_refused(options, words):
    with pytest.raises(ConfigError, match=words):
        EvaluateConfig(**{"checkpoint": "run/final", **options})


def test_public_names_load_lazily_and_unknown_ones_are_refused():
    assert all(callable(getattr(scoring, name)) for name in scoring.__all__)
    with pytest.raises(AttributeError, match="nothing"):
        _ = scoring.nothing


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ([], "a JSON object of groups is needed"),
        ({}, "a JSON object of groups is needed"),
        ({"old": []}, "field 'old': a list of at least one annotator is needed"),
        ({"old": "ann"}, "field 'old': a list of at least one annotator"),
        ({"old": ["ann", None]}, "field 'old': an annotator is a name or a number"),
        ({"old": [True]}, "field 'old': an annotator is"),
        ({"worst_group": ["ann"]}, "this name stands for the group that fares worst"),
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
         "--groups g.json, .*normal: this model knows no annot"),
        (["factor"], {"groups": {"old": ["ann", "zoe"]}}, "--groups g.json, .*does not know: zoe"),
        (["habits"], {"annotator": "ann"}, "knows how annotators answer, but not what each"),
    ],
)  # fmt: skip
def test_models_that_cannot_give_the_risk_measures(request, habits, names, options, words):
    models = [request.getfixturevalue(name) for name in names]
    with pytest.raises(ConfigError, match=words):
        check(models, **options)


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
