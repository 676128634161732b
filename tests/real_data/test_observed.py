"""What votes of three public sets say by themselves: counts as published, and known findings."""

from __future__ import annotations

from pathlib import Path

import pytest

from hidden_context.data.observed import Observing, observed

pytestmark = [pytest.mark.real_data, pytest.mark.slow]

QUICK = Observing(resamples=199, test_resamples=99)


def seen(name: str, folder: Path):
    from people.data import load

    data = load(name, folder)
    return observed(data.examples, data.groups, QUICK)


def test_arguments(real_data):
    found = seen("ukp", real_data).comparisons
    assert (found.items, found.votes, found.annotators) == (16_927, 84_445, 3_815)
    assert round(found.split.estimate * found.items) == 13_598
    assert round(found.answers["equal"] * found.votes) == 19_105
    assert found.kinds["equal"].items == 127
    assert found.kinds["conflict"].items == 2_208
    assert found.kinds["indifference"].items == 1_075
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
