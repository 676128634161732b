"""Whose rewards are asked for: what is refused before anything is scored."""

from __future__ import annotations

import json
import warnings

import pytest

from hidden_context import heads, risk
from hidden_context.errors import ConfigError, DataError, HiddenContextWarning, MissingFileError
from hidden_context.likelihood import LikelihoodOptions, make_likelihood
from hidden_context.models.likelihood_file import save_likelihood
from hidden_context.scoring import ScoreConfig
from hidden_context.scoring.people import check_people, read_groups
from support.paper_layout import reward_checkpoint


def check(models, kind="pair", groups=None, **options):
    models = [models] if isinstance(models, str) else models
    options["groups"] = groups and "g.json"
    config = ScoreConfig(input="in.jsonl", output="out.jsonl", models=models, **options)
    check_people(config, kind, [risk.parse(name) for name in config.risk], groups)


def test_groups_are_read_with_names_as_texts(tmp_path):
    path = tmp_path / "groups.json"
    path.write_text('{"old": ["ann", 7], "young": ["bob"]}')
    assert read_groups(path) == {"old": ["ann", "7"], "young": ["bob"]}
    with pytest.raises(MissingFileError):
        read_groups(tmp_path / "absent.json")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ([], "a JSON object of groups is needed"),
        ({}, "a JSON object of groups is needed"),
        ({"old": []}, "field 'old': a list of at least one annotator is needed"),
        ({"old": "ann"}, "field 'old': a list of at least one annotator"),
        ({"old": ["ann", None]}, "field 'old': annotators go by a name or a number"),
        ({"old": [True]}, "field 'old': annotators go by"),
        ({"worst_group": ["ann"]}, "the name is that of the group that fares worst"),
    ],
)
def test_a_file_of_something_else_is_refused_by_file_and_group(tmp_path, content, words):
    path = tmp_path / "groups.json"
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match=words) as caught:
        read_groups(path)
    assert str(caught.value).startswith(str(path))


def test_a_relative_measure_needs_candidates_and_a_shared_context(factor, checkpoint):
    measure = {"risk": ["mean", "relative_cvar:0.1"]}
    for kind in ("pair", "responses"):
        check(factor, kind, **measure)
    with pytest.raises(ConfigError, match=r"relative_cvar:0.1 compares .* in.jsonl holds single"):
        check(factor, "text", **measure)
    with pytest.raises(ConfigError, match=r"normal has a mean_and_variance head\.$"):
        check([factor, checkpoint], **measure)
    check([factor, checkpoint], risk=["mean"])


def test_a_model_without_annotators_has_no_rewards_of_one(factor, checkpoint):
    with pytest.raises(ConfigError, match=r"--annotator ann: .*normal knows no annotators"):
        check(checkpoint, risk=["mean"], annotator="ann")
    groups = {"old": ["ann"]}
    with pytest.raises(ConfigError, match=r"--groups g.json, .*normal: this model knows no annot"):
        check([factor, checkpoint], risk=["mean"], groups=groups)
    with pytest.raises(ConfigError, match=r"--groups g.json, .*does not know: zoe"):
        check(factor, risk=["mean"], groups={"old": ["ann", "zoe"]})


def test_habits_of_annotators_are_no_rewards(tmp_path):
    folder = reward_checkpoint(tmp_path / "habits")
    options = LikelihoodOptions(
        levels=3, inference="variational", taste=False, habits=("readiness",), names=("ann",)
    )
    save_likelihood(folder, make_likelihood(heads.make("mean_and_variance"), options))
    with pytest.raises(ConfigError, match=r"knows how annotators answer, not what each cares for"):
        check(folder, risk=["mean"], annotator="ann")


def test_an_annotator_who_is_not_known_is_told_once(factor):
    with pytest.warns(HiddenContextWarning, match=r"does not know the annotator zoe") as caught:
        check(factor, risk=["mean"], annotator="zoe")
    assert len(caught) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check(factor, risk=["mean"], annotator="7", groups={"a": ["7", "ann"]})
