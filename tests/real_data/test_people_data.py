"""The loaders of real votes by several people, and their folds."""

import random
from collections import Counter

import pytest
from people.data import NAMES, folds, load

from hidden_context.data.example import Comparison, Ranking

pytestmark = pytest.mark.real_data

COUNTS = {  # examples, groups, judgements that are votes
    "ukp": (16927, 16, 84445),
    "pluriharms": (150, 150, 14725),
    "dices": (350, 350, 40356),
    "lamp": (205, 200, 603),
    "relabelled": (4043, 3820, 8086),
}


@pytest.mark.parametrize("name", NAMES)
def test_all_is_read_and_no_group_is_on_two_sides(real_data, name):
    data = load(name, real_data)
    votes = [not said.abstains for each in data.examples for said in each.judgements]
    assert (len(data.examples), len(set(data.groups)), sum(votes)) == COUNTS[name]
    divided = folds(data)
    assert [fold.number for fold in divided] == [0, 1, 2, 3]
    held_out = Counter()
    for fold in divided:
        train, test = (
            {key for keys in groups for key in keys}
            for groups in (fold.train_groups, fold.test_groups)
        )
        assert not train & test
        held_out.update(test)
        if data.rated:
            assert (len(fold.train), len(fold.test)) == (2000, 500)
            assert {len(keys) for keys in fold.test_groups} == {2}
        else:
            assert len(fold.train) + len(fold.test) == len(data.examples)
    assert set(held_out.values()) == {1}
    assert set(held_out) == set(data.groups)


def test_folds_are_every_fourth_of_the_shuffled_keys(real_data):
    keys = sorted(set(load("ukp", real_data).groups))
    random.Random(0).shuffle(keys)
    fold = folds(load("ukp", real_data))[1]
    assert {key for keys_of in fold.test_groups for key in keys_of} == set(keys[1::4])


def test_votes_of_ukp(real_data):
    first = load("ukp", real_data).examples[0]
    assert first.columns["topic"] == "Ban Plastic Water Bottles"
    assert [said.answer for said in first.judgements] == [
        Comparison(0, 1, share) for share in (0.0, 0.5, 0.0, 0.0, 1.0)
    ]
    assert first.judgements[0].annotator == "w0446"


def test_raters_vote_for_the_item_they_rate_higher(real_data):
    data = load("pluriharms", real_data)
    number = {group: place for place, group in enumerate(data.groups)}
    fold = folds(data)[0]
    example, (a, b) = fold.train[0], fold.train_groups[0]
    assert example.responses[0] == data.examples[number[a]].responses[0]
    for said, one, other in zip(
        example.judgements,
        data.examples[number[a]].judgements,
        data.examples[number[b]].judgements,
        strict=True,
    ):
        assert said.annotator == one.annotator == other.annotator
        assert said.abstains == (one.abstains or other.abstains)
        if not said.abstains:
            lead = one.answer.value - other.answer.value
            assert said.answer.preference == 0.5 + 0.5 * ((lead > 0) - (lead < 0))
    known = data.annotators["0"]
    assert known["Factor_1"] == pytest.approx(-8.2329, abs=1e-4)
    assert "Rating_1" not in known
    assert "Trial_1" not in known


def test_the_other_sets_say_what_they_should(real_data):
    lamp = load("lamp", real_data).examples[0]
    assert lamp.judgements[0].answer == Ranking((2, 1, 3))
    dices = load("dices", real_data).examples[1]
    assert dices.responses[0].startswith("\n\nHuman: [Playing a game")
    assert dices.responses[0].count("\n\nAssistant: ") == 1
    # every pair is judged by a person and by a model, whose sides stand as the source has them
    relabelled = load("relabelled", real_data).examples
    firsts = Counter(said.answer.preference for e in relabelled for said in e.judgements)
    assert min(firsts.values()) > 0.4 * sum(firsts.values())
    assert {said.annotator for e in relabelled for said in e.judgements} == {
        "model helpful", "model harmless", "person helpful", "person harmless"
    }  # fmt: skip
