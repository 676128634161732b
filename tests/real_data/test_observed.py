"""What votes of three public sets say by themselves: counts as published, and known findings."""

import json

import numpy as np
import pytest
from people.data import load

from hidden_context.check import CheckConfig, check
from hidden_context.data.votes.items import votes_of
from hidden_context.data.votes.observed import Observing, observed
from hidden_context.statistics.votes.contested import compare_measures
from hidden_context.statistics.votes.losses import entropy_floor

pytestmark = [pytest.mark.real_data, pytest.mark.slow]

QUICK = Observing(resamples=199, test_resamples=99)
DEBATES = ("TV is better than Books", "Is it better to have a lousy father or to be fatherless?")


def seen(name, folder):
    data = load(name, folder)
    return observed(data.examples, data.groups, QUICK)


def test_arguments(real_data):
    found = seen("ukp", real_data).comparisons
    assert (found.items, found.votes, found.annotators) == (16_927, 84_445, 3_815)
    assert round(found.split.estimate * found.items) == 13_598
    assert round(found.answers["equal"] * found.votes) == 19_105
    kinds = {"equal": 127, "conflict": 2_208, "indifference": 1_075}
    assert {name: found.kinds[name].items for name in kinds} == kinds
    assert found.alpha.estimate == pytest.approx(0.267, abs=1e-3)
    assert found.differ.estimate == pytest.approx(0.476, abs=1e-3)
    people = found.people
    assert people.readiness.spread.low > 0.7
    assert people.readiness.above + people.readiness.below > 200
    assert people.position.above + people.position.below < 5
    assert people.readiness.wrong_sign < 5
    (test,) = found.tests
    assert test.p_value == 0.01
    assert found.repeated.answers == 168


def test_safety_of_conversations_and_harm_of_prompts(real_data):
    found = seen("dices", real_data)
    assert found.abstentions == 350 * 123 - 40_356
    assert (found.ratings.ratings, found.ratings.votes.items) == (40_356, 350)
    assert found.ratings.alpha.estimate == pytest.approx(0.201, abs=1e-3)
    # of two ratings the nominal α is the same
    assert found.ratings.votes.alpha.estimate == pytest.approx(found.ratings.alpha.estimate)
    assert found.ratings.votes.contested.estimate == pytest.approx(103 / 350)
    harm = seen("pluriharms", real_data).ratings
    assert (harm.ratings, harm.middle) == (14_725, 50)
    assert harm.alpha.estimate == pytest.approx(0.413, abs=1e-3)
    assert harm.difference.estimate == pytest.approx(30.2, abs=0.05)
    assert harm.votes.people.position.spread.low > 0.9


@pytest.fixture(scope="module")
def arguments(real_data):
    return load("ukp", real_data)


def test_entropy_floor_and_what_length_alone_finds(arguments):
    found = votes_of(arguments.examples, arguments.groups)
    counts = found.table.counts
    floors = entropy_floor(counts)
    averages = [np.average(floor, weights=counts.votes) for floor in floors]
    assert averages == pytest.approx([0.457, 0.599], abs=0.005)
    sides = [arguments.examples[place].responses for place in found.example]
    length = np.array([abs(len(one) - len(other)) for one, other in sides], float)
    group = found.group
    assert group.max() == 15
    (some,) = compare_measures({"length": -length}, counts.contested, group)
    assert 0.54 < some.auroc.low < some.auroc.estimate < some.auroc.high < 0.63
    # length tells conflict from indifference
    either = counts.conflict | counts.indifference
    (apart,) = compare_measures({"length": length[either]}, counts.conflict[either], group[either])
    assert apart.auroc.estimate == pytest.approx(0.716, abs=0.01)


def test_the_debate_about_fathers_is_more_split_than_that_about_books(arguments, tmp_path):
    rows = []
    for example in arguments.examples:
        if example.columns["topic"] in DEBATES:
            votes = [
                {
                    "annotator": by.annotator,
                    "comparison": [0, 1],
                    "preference": by.answer.preference,
                }
                for by in example.judgements
            ]
            row = {"prompt": example.prompt, "responses": example.responses, "judgements": votes}
            rows.append(json.dumps({**row, "topic": example.columns["topic"]}))
    path = tmp_path / "votes.jsonl"
    path.write_text("\n".join(rows))
    found = check(CheckConfig(data_path=str(path), split_by="topic", predict=False))
    shares = {topic.name: topic.observed.estimate for topic in found.predicted.topics}
    assert [shares[topic] for topic in DEBATES] == pytest.approx([0.193, 0.429], abs=0.005)
    assert found.observed.annotator_test.p_value < 0.01
    assert "lousy father" in found.answer.sentences[1]
