from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from hidden_context import scoring
from hidden_context.errors import ConfigError
from hidden_context.scoring import EvaluateConfig, ScoreConfig


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
        (
            {"names": ["x"]},
            r"names and models differ in number \(1 and 2\); give each model a name",
        ),
        ({"models": ["a/final", "b/final"]}, r"not distinct \(final, final\)"),
        ({"batch_size": 0}, "--batch_size is 0; it must be at least 1"),
        ({"window": 0}, "--window is 0"),
        ({"max_length": -1}, "--max_length is -1"),
        ({"num_outputs": 0}, "--num_outputs is 0"),
        ({"annotator": "ann"}, "--annotator say whose risk measures are written, but none is"),
        ({"annotator": "ann", "groups": "g.json"}, "--annotator and --groups say whose"),
        (
            {"groups": "g.json", "risk": ["mean"], "names": ["a", "groups_a"]},
            "one model's name is another's after 'groups_'",
        ),
    ],
)
def test_options_that_cannot_work_are_refused(options, words):
    with pytest.raises(ConfigError, match=words):
        score_config(**options)


def test_results_of_an_evaluation_lie_in_the_checkpoint():
    assert EvaluateConfig(checkpoint="run/final").output_path == Path(
        "run/final/eval_results_both.jsonl"
    )
    harmless = EvaluateConfig(checkpoint="run/final", data_subset="harmless")
    assert harmless.output_path.name == "eval_results_harmless.jsonl"
    assert EvaluateConfig(checkpoint="run/final", output="x.jsonl").output_path == Path("x.jsonl")
    with pytest.raises(ConfigError, match="evaluate needs a checkpoint"):
        EvaluateConfig()
    with pytest.raises(ConfigError, match="evaluate writes JSON Lines"):
        EvaluateConfig(checkpoint="run/final", output="scores.parquet")
    with pytest.raises(ConfigError, match="--eval_dataset_size is -2; it must be at least 0"):
        EvaluateConfig(checkpoint="run/final", eval_dataset_size=-2)


def test_both_share_the_options_of_models():
    shared = {field.name for field in dataclasses.fields(scoring.config.StreamOptions)}
    for config in (ScoreConfig, EvaluateConfig):
        assert shared <= {field.name for field in dataclasses.fields(config)}


def test_public_names_load_lazily_and_unknown_ones_are_refused():
    assert {name for name in scoring.__all__ if not callable(getattr(scoring, name))} == set()
    with pytest.raises(AttributeError, match="nothing"):
        _ = scoring.nothing
