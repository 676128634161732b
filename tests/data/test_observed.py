"""What votes say by themselves, on examples whose answers are known."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from hidden_context.data.files import to_plain
from hidden_context.data.importers import read_row
from hidden_context.data.observed import Observing, observed

QUICK = Observing(resamples=199, test_resamples=99)


def pair(number, votes, prompt=None, **columns):
    entries = [
        {"annotator": who, "comparison": [0, 1], "preference": share} for who, share in votes
    ]
    row = {"prompt": prompt or f"Human: {number}?\n\nAssistant:", "responses": [" yes", " no"]}
    return read_row(row | {"judgements": entries} | columns)


def crowd(items=120, people=20, each=5, seed=0):
    """Pairs judged by people of whom the first says ``equal`` and the second ``first`` always."""
    rng = np.random.default_rng(seed)
    examples = []
    for number in range(items):
        lean = rng.beta(1, 1)
        who = [0, 1, *(2 + rng.permutation(people - 2)[: each - 2])]
        said = [0.5, 1.0, *(rng.random(each - 2) < lean).astype(float)]
        examples.append(
            pair(number, [(f"w{n}", share) for n, share in zip(who, said, strict=True)])
        )
    return examples


def test_counts_and_shares_by_hand():
    votes = {
        "one": [("a", 1), ("b", 1), ("c", 1), ("d", 1), ("e", 1)],
        "two": [("a", 1), ("b", 1), ("c", 0), ("d", 0), ("e", 0.5)],
        "three": [("a", 0.5), ("b", 0.5), ("c", 0.5), ("d", 0), ("e", 1)],
        "four": [("a", 0.5), ("b", 0.5)],
        "five": [("a", 1), ("b", 1), ("c", 0)],
        "six": [("a", 0), ("b", 1)],
        "seven": [(None, 0)],
    }
    examples = [pair(name, said) for name, said in votes.items()]
    examples.append(read_row({**examples[0].columns, "judgements": [{"abstains": True}] * 3}))
    found = observed(examples, options=QUICK)
    assert (found.abstentions, found.ratings) == (3, None)
    seen = found.comparisons
    assert (seen.items, seen.judged, seen.votes) == (7, 6, 23)
    assert (seen.annotators, seen.unnamed) == (5, 1)
    assert seen.votes_per_item == {"fewest": 1, "median": 3, "mean": 23 / 7, "most": 5}
    assert seen.answers == pytest.approx({"first": 11 / 23, "equal": 6 / 23, "second": 6 / 23})
    assert {name: kind.items for name, kind in seen.kinds.items()} == {
        "unanimous": 1,
        "majority": 1,
        "conflict": 1,
        "mixed": 1,
        "indifference": 1,
        "equal": 1,
    }
    assert sum(kind.share.estimate for kind in seen.kinds.values()) == pytest.approx(1)
    assert seen.split.estimate == pytest.approx(4 / 6)
    assert seen.contested.estimate == pytest.approx(3 / 6)
    differ = [0, 0.8, 0.7, 0, 2 / 3, 1]
    assert seen.differ.estimate == pytest.approx(np.mean(differ))
    assert seen.opposite.estimate == pytest.approx(np.mean([0, 0.4, 0.1, 0, 2 / 3, 1]))
    assert seen.split.low < 4 / 6 < seen.split.high
    assert seen.repeated is None


def test_alpha_does_not_care_which_side_is_called_first():
    examples = crowd()
    swapped = [example.swap() if n % 2 else example for n, example in enumerate(examples)]
    one, other = (observed(each, options=Observing(people=False)) for each in (examples, swapped))
    assert one.comparisons.alpha.estimate == pytest.approx(other.comparisons.alpha.estimate)
    assert one.comparisons.kinds == other.comparisons.kinds
    assert one.comparisons.people is None
    assert one.comparisons.tests == []


def test_people_who_stand_out_are_found():
    seen = observed(crowd(), options=QUICK).comparisons
    people = seen.people
    assert people.annotators == 20
    assert people.votes["most"] == 120
    by_name = {person.name: person for person in people.who}
    assert people.who[0].name == "w0"  # says equal where nobody else does
    assert by_name["w0"].differs == 1
    assert by_name["w0"].readiness.low > 0.9
    assert by_name["w1"].position.low > 0.8
    assert by_name["w2"].readiness.high < 0.2
    assert people.deviation.above >= 1
    assert people.readiness.above == 1
    assert people.position.above == 1
    assert people.deviation.wrong_sign < 0.1
    (test,) = seen.tests
    assert test.name == "answers_within_items"
    assert test.p_value == 0.01
    assert test.parts["readiness"] == test.parts["position"] == 0.01
    assert seen.notes == []


def test_all_of_it_is_json_without_nan():
    found = to_plain(observed([*crowd(20), pair("x", [("w3", 1)])], options=QUICK))
    written = json.loads(json.dumps(found, allow_nan=False))
    assert written["comparisons"]["people"]["who"][0]["deviation"]["method"] == "posterior"
    assert set(written["comparisons"]["kinds"]["conflict"]) == {"items", "share"}


def test_fewer_than_five_people_are_not_looked_at():
    votes = [("a", 1), ("b", 0), ("c", 0.5), ("d", 1)]
    seen = observed([pair(n, votes) for n in range(10)], options=QUICK).comparisons
    assert (seen.annotators, seen.people, seen.tests) == (4, None, [])
    assert seen.notes == ["Fewer than five annotators are named, so nothing is said of annotators."]
    nobody = observed([pair(0, [(None, 1), (None, 0)])], options=QUICK).comparisons
    assert nobody.notes[0].startswith("No annotator is named")
    assert nobody.split.estimate == 1
    assert math.isnan(nobody.split.low)


def test_one_vote_on_each_item_says_nothing_of_disagreement():
    rows = [
        {"prompt": f"{n}?", "chosen": " a", "rejected": " b", "annotator": n % 6} for n in range(60)
    ]
    seen = observed([read_row(row) for row in rows], options=QUICK).comparisons
    assert (seen.judged, seen.people.deviation, seen.people.position) == (0, None, None)
    assert all(math.isnan(each.estimate) for each in (seen.split, seen.differ, seen.alpha))
    assert math.isnan(seen.people.who[0].differs)
    assert seen.people.who[0].deviation is None
    assert seen.tests == []
    assert [note.split(",")[0] for note in seen.notes] == [
        "No item was judged by several people",
        "No item has votes of two people",
        "It is not known which response stood first",
    ]


def test_single_votes_in_a_known_order_are_tested_across_items():
    rng = np.random.default_rng(1)
    examples = []
    for n in range(200):
        ready = 0.05 if n % 8 < 4 else 0.8
        share = 0.5 if rng.random() < ready else float(rng.random() < 0.5)
        examples.append(pair(n, [(f"w{n % 8}", share)], data_subset="one"))
    seen = observed(examples, options=QUICK).comparisons
    (test,) = seen.tests
    assert (test.name, test.p_value) == ("answers_across_items", 0.01)
    assert seen.people.readiness.above + seen.people.readiness.below >= 4


def test_repeated_answers_of_one_annotator():
    examples = [
        pair("a", [("w", 1), ("x", 0), ("w", 1), ("w", 0)]),
        pair("b", [("w", 1), ("y", 0)]),
        pair("b", [("w", 0.5), ("y", 0)]).swap(),
        pair("c", [("z", 0), ("v", 0)]),
    ]
    seen = observed(examples, options=QUICK).comparisons
    assert seen.votes == 8  # the later answers to the same item are left out
    # item a: the same, another; item b, its sides swapped: w says another, y the same
    assert seen.repeated.answers == 4
    assert seen.repeated.same.estimate == pytest.approx(1 / 2)


def rated(number, values):
    entries = [
        {"annotator": f"w{n}", "response": 0, "rating": value} for n, value in enumerate(values)
    ]
    row = {"prompt": f"Human: {number}?\n\nAssistant:", "responses": [" yes"]}
    return read_row(row | {"judgements": entries})


def test_ratings():
    examples = [rated(n, [0, 100, 50, 60, 20, 0]) for n in range(5)]
    examples += [rated(n, [10, 10, 10, 10, 0, 10]) for n in range(5, 10)]
    found = observed(examples, options=QUICK)
    assert found.comparisons is None
    seen = found.ratings
    assert (seen.ratings, seen.lowest, seen.highest, seen.middle) == (60, 0, 100, 50)
    differences = [
        np.abs(np.subtract.outer(v, v))[np.triu_indices(6, 1)].mean()
        for v in ([0, 100, 50, 60, 20, 0], [10, 10, 10, 10, 0, 10])
    ]
    assert seen.difference.estimate == pytest.approx(np.mean(differences))
    assert seen.votes.answers == pytest.approx({"first": 1 / 6, "equal": 1 / 12, "second": 3 / 4})
    assert seen.votes.kinds["unanimous"].items == 5
    assert seen.votes.people.position.what.startswith("rates high")
    values = np.array([[0, 100, 50, 60, 20, 0]] * 5 + [[10, 10, 10, 10, 0, 10]] * 5, float)
    within = values.var(1, ddof=1).mean()
    assert seen.alpha.estimate == pytest.approx(1 - within / values.var(ddof=1))
    again = observed([*examples, rated(0, [0, 1])], options=QUICK)
    assert again.ratings.votes.repeated.answers == 2
    assert again.ratings.votes.repeated.same.estimate == 0.5


def test_rankings_are_pairs_that_move_together():
    rng = np.random.default_rng(2)
    rows = []
    for n in range(30):
        entries = [
            {"annotator": f"w{who}", "ranks": (1 + rng.permutation(3)).tolist()}
            for who in rng.permutation(6)[:3]
        ]
        rows.append({"prompt": f"{n}?", "responses": [" a", " b", " c"], "judgements": entries})
    seen = observed([read_row(row) for row in rows], options=QUICK).comparisons
    assert (seen.items, seen.votes) == (90, 270)
    assert seen.alpha.estimate == pytest.approx(0, abs=0.15)
    assert seen.tests[0].p_value > 0.01
    assert seen.people.readiness is None
