"""From examples to items with votes."""

import math

import numpy as np
import pytest

from hidden_context.data.importers import read_row
from hidden_context.data.votes.items import votes_of
from hidden_context.data.votes.observed import Observing, observed
from hidden_context.errors import ConfigError


def judged(responses, *entries, prompt="Human: Tea?\n\nAssistant:", **columns):
    row = {"prompt": prompt, "responses": responses, "judgements": list(entries)}
    return read_row(row | columns)


def compare(who, share, places=(0, 1)):
    return {"annotator": who, "comparison": list(places), "preference": share}


def rate(who, rating, response=0):
    return {"annotator": who, "response": response, "rating": rating}


def test_items_votes_and_where_they_come_from():
    examples = [
        judged([" a", " b"], compare("ann", 1), compare("bob", 0.5), {"abstains": True}),
        judged([" c"], rate("ann", 3)),
        judged(
            [" a", " b", " c"],
            compare("bob", 1, (2, 0)),
            compare(7, 0.25, (0, 1)),
            {"comparison": [0, 2]},
            data_subset="more",
        ),
    ]
    with pytest.raises(ConfigError, match="each of 3 examples, not 2"):
        votes_of(examples, ["a", "b"])
    found = votes_of(examples, ["g", "g", "h"])
    assert (found.names, found.group_names) == (("ann", "bob", "7"), ("g", "h"))
    names = ("item", "annotator", "share", "shown", "weight")  # second of (0, 2) is better
    assert list(zip(*(getattr(found.table, name).tolist() for name in names), strict=True)) == [
        (0, 0, 1, 1, 1), (0, 1, 0.5, 1, 1), (1, 1, 0, 1, 1), (2, 2, 0.25, 1, 1), (1, -1, 1, 1, 1)
    ]  # fmt: skip
    assert found.places.tolist() == [[0, 1], [0, 2], [0, 1]]
    # the third item has the texts of the first
    numbers = {"example": [0, 2, 2], "group": [0, 1, 1], "part": [0, 1, 1], "texts": [0, 1, 0]}
    assert {name: getattr(found, name).tolist() for name in numbers} == numbers
    assert len(set(found.block)) == 3
    assert (found.rating, found.middle, found.order_by_votes) == (None, None, False)


def test_rows_of_one_vote_are_one_item_whichever_side_was_chosen():
    sides = [(" b", " a"), (" a", " b"), (" a", " c"), (" b", " a")]
    rows = [
        {"prompt": "Tea?", "chosen": chosen, "rejected": rejected, "annotator": who}
        for (chosen, rejected), who in zip(sides, "wxyz", strict=True)
    ]
    found = votes_of([read_row(row) for row in rows])
    assert found.table.item.tolist() == [0, 0, 1, 0]
    assert found.table.share.tolist() == [1, 0, 1, 1]
    assert not found.table.shown.any()
    assert found.order_by_votes
    by_objective = votes_of([read_row(row | {"objective": n % 2}) for n, row in enumerate(rows)])
    assert by_objective.table.item.tolist() == [0, 1, 2, 1]
    # an order that turns from row to row is kept: both chose what stood first
    turned = [judged([" b", " a"], compare("w", 1)), judged([" a", " b"], compare("x", 1))]
    table = votes_of(turned).table
    assert (table.item.tolist(), table.share.tolist(), table.shown.tolist()) == (
        [0, 0], [1, 0], [1, -1],
    )  # fmt: skip
    # two examples with several votes each stay apart, but share their texts
    several = [
        judged([" b", " a"], compare("w", 1), compare("x", 0)),
        judged([" a", " b"], compare("w", 1), compare("y", 0)),
    ]
    apart = votes_of(several)
    assert apart.table.items == 2
    assert apart.texts.tolist() == [0, 0]
    assert apart.facing.tolist() == [-1, 1]


def test_nothing_is_known_of_an_order_that_votes_made():
    votes = [{"annotator": "w", "preference": 1}, {"annotator": "x", "preference": 1}]
    sides = {"chosen": " a", "rejected": " b", "annotations": votes}
    rows = [{"prompt": f"Tea {n}?", **sides} for n in range(20)]
    found = votes_of([read_row(row) for row in rows])
    assert found.order_by_votes
    assert not found.table.shown.any()
    for row in rows[:5]:  # some are lost by the side called chosen
        row["annotations"] = [{"annotator": "w", "preference": 0}]
    found = votes_of([read_row(row) for row in rows])
    assert not found.order_by_votes
    assert found.table.shown.all()


def test_a_ranking_is_its_pairs():
    ranking = {"annotator": "ann", "ranks": [2, 1, 2]}
    found = votes_of([judged([" a", " b", " c"], ranking), judged([" a", " b"], compare("x", 1))])
    assert found.table.item.tolist() == [0, 1, 2, 0]  # one vote on a pair each: the same pair
    assert found.table.share.tolist() == [0, 0.5, 1, 1]
    np.testing.assert_allclose(found.table.weight, [2 / 3, 2 / 3, 2 / 3, 1])
    assert len(set(found.block.tolist())) == 1


def test_ratings_are_high_or_low_about_the_middle():
    examples = [
        judged([" a", " b"], rate("ann", 1), rate("bob", 5), rate("ann", 3, 1)),
        judged([" b"], rate("cy", 4)),
        judged([" c"], rate("cy", 2)),
        judged([" c"], rate("ann", 2)),
    ]
    assert votes_of(examples) is None
    found = votes_of(examples, kind="ratings")
    assert found.table.item.tolist() == [0, 0, 1, 2, 3, 3]
    assert found.table.share.tolist() == [0, 1, 0.5, 1, 0, 0]
    assert found.rating.tolist() == [1, 5, 3, 4, 2, 2]
    assert (found.middle, found.order_by_votes) == (3, False)
    assert found.places.tolist() == [[0, -1], [1, -1], [0, -1], [0, -1]]
    assert found.texts.tolist() == [0, 1, 1, 2]
    moved = votes_of(examples, kind="ratings", middle=1.5)
    assert moved.table.share.tolist() == [0, 1, 1, 1, 1, 1]
    assert votes_of([judged([" a"], {"abstains": True})], kind="ratings") is None


QUICK = Observing(resamples=199, test_resamples=99)


def pair(number, votes, **columns):
    said = (compare(*vote) for vote in votes)
    return judged([" yes", " no"], *said, prompt=f"Human: {number}?\n\nAssistant:", **columns)


def crowd(items=120, people=20, each=5, seed=0):
    """Pairs judged by people of whom the first says ``equal`` and the second ``first`` always."""
    rng = np.random.default_rng(seed)
    examples = []
    for number in range(items):
        lean = rng.beta(1, 1)
        who = ["w0", "w1", *(f"w{2 + n}" for n in rng.permutation(people - 2)[: each - 2])]
        said = [0.5, 1.0, *(rng.random(each - 2) < lean).astype(float)]
        examples.append(pair(number, zip(who, said, strict=True)))
    return examples


def test_counts_and_shares_by_hand():
    rows = ([1] * 5, [1, 1, 0, 0, 0.5], [0.5, 0.5, 0.5, 0, 1], [0.5, 0.5], [1, 1, 0], [0, 1])
    examples = [pair(n, zip("abcde", said, strict=False)) for n, said in enumerate(rows)]
    examples.append(pair("unnamed", [(None, 0)]))
    examples.append(judged([" a"], *[{"abstains": True}] * 3))
    found = observed(examples, options=QUICK)
    assert (found.abstentions, found.ratings) == (3, None)
    seen = found.comparisons
    counts = {"items": 7, "judged": 6, "votes": 23, "annotators": 5, "unnamed": 1, "repeated": None}
    assert {name: getattr(seen, name) for name in counts} == counts
    assert seen.votes_per_item == {"fewest": 1, "median": 3, "mean": 23 / 7, "most": 5}
    assert seen.answers == pytest.approx({"first": 11 / 23, "equal": 6 / 23, "second": 6 / 23})
    kinds = ("unanimous", "majority", "conflict", "mixed", "indifference", "equal")
    assert {name: kind.items for name, kind in seen.kinds.items()} == dict.fromkeys(kinds, 1)
    assert sum(kind.share.estimate for kind in seen.kinds.values()) == pytest.approx(1)
    assert seen.split.estimate == pytest.approx(4 / 6)
    assert seen.contested.estimate == pytest.approx(3 / 6)
    assert seen.differ.estimate == pytest.approx(np.mean([0, 0.8, 0.7, 0, 2 / 3, 1]))
    assert seen.opposite.estimate == pytest.approx(np.mean([0, 0.4, 0.1, 0, 2 / 3, 1]))
    assert seen.split.low < 4 / 6 < seen.split.high


def test_alpha_does_not_care_which_side_is_called_first():
    examples = crowd()
    swapped = [example.select([1, 0]) if n % 2 else example for n, example in enumerate(examples)]
    one, other = (observed(each, options=Observing(people=False)) for each in (examples, swapped))
    assert one.comparisons.alpha.estimate == pytest.approx(other.comparisons.alpha.estimate)
    assert one.comparisons.kinds == other.comparisons.kinds
    assert one.comparisons.people is None
    assert one.comparisons.tests == []


def test_people_who_stand_out_are_found():
    seen = observed(crowd(), options=QUICK).comparisons
    people = seen.people
    assert (people.annotators, people.votes["most"], seen.notes) == (20, 120, [])
    by_name = {person.name: person for person in people.who}
    assert people.who[0].name == "w0"  # says equal where nobody else does
    assert (by_name["w0"].differs, by_name["w0"].deviation.method) == (1, "posterior")
    assert by_name["w0"].readiness.low > 0.9
    assert by_name["w1"].position.low > 0.8
    assert by_name["w2"].readiness.high < 0.2
    assert people.deviation.above >= people.readiness.above == people.position.above == 1
    assert people.deviation.wrong_sign < 0.1
    (test,) = seen.tests
    assert (test.name, test.p_value) == ("answers_within_items", 0.01)
    assert test.parts["readiness"] == test.parts["position"] == 0.01


def test_fewer_than_five_people_are_not_looked_at():
    votes = [("a", 1), ("b", 0), ("c", 0.5), ("d", 1)]
    seen = observed([pair(n, votes) for n in range(10)], options=QUICK).comparisons
    assert (seen.annotators, seen.people, seen.tests) == (4, None, [])
    assert seen.notes == ["Fewer than five annotators are named, so annotators are not compared."]
    nobody = observed([pair(0, [(None, 1), (None, 0)])], options=QUICK).comparisons
    assert nobody.notes[0].startswith("No annotator is named")
    assert nobody.split.estimate == 1
    assert math.isnan(nobody.split.low)


def test_one_vote_on_each_item_says_nothing_of_disagreement():
    rows = [
        {"prompt": f"{n}?", "chosen": " a", "rejected": " b", "annotator": n % 6} for n in range(60)
    ]
    seen = observed([read_row(row) for row in rows], options=QUICK).comparisons
    people, (first, *_) = seen.people, seen.people.who
    assert (seen.judged, people.deviation, people.position, seen.tests) == (0, None, None, [])
    assert all(math.isnan(each.estimate) for each in (seen.split, seen.differ, seen.alpha))
    assert math.isnan(first.differs)
    assert first.deviation is None
    assert [note.split(",")[0] for note in seen.notes] == [
        "No item was judged by several people",
        "No item has votes by two people",
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
        pair("b", [("w", 0.5), ("y", 0)]).select([1, 0]),
        pair("c", [("z", 0), ("v", 0)]),
    ]
    seen = observed(examples, options=QUICK).comparisons
    assert seen.votes == 8  # the later answers to the same item are left out
    # item a: the same, another; item b, its sides swapped: w says another, y the same
    assert seen.repeated.answers == 4
    assert seen.repeated.same.estimate == pytest.approx(1 / 2)


def rated(number, values):
    said = (rate(f"w{n}", value) for n, value in enumerate(values))
    return judged([" yes"], *said, prompt=f"Human: {number}?\n\nAssistant:")


def test_ratings():
    split, agreed = [0, 100, 50, 60, 20, 0], [10, 10, 10, 10, 0, 10]
    examples = [rated(n, split if n < 5 else agreed) for n in range(10)]
    found = observed(examples, options=QUICK)
    assert found.comparisons is None
    seen = found.ratings
    assert (seen.ratings, seen.lowest, seen.highest, seen.middle) == (60, 0, 100, 50)
    # 15 pairs of ratings of each response, whose differences add up to 710 and to 50
    assert seen.difference.estimate == pytest.approx((710 + 50) / 2 / 15)
    assert seen.votes.answers == pytest.approx({"first": 1 / 6, "equal": 1 / 12, "second": 3 / 4})
    assert seen.votes.kinds["unanimous"].items == 5
    assert seen.votes.people.position.what.startswith("rates high")
    values = np.array([split] * 5 + [agreed] * 5, float)
    within = values.var(1, ddof=1).mean()
    assert seen.alpha.estimate == pytest.approx(1 - within / values.var(ddof=1))
    repeated = observed([*examples, rated(0, [0, 1])], options=QUICK).ratings.votes.repeated
    assert (repeated.answers, repeated.same.estimate) == (2, 0.5)


def test_rankings_are_pairs_that_move_together():
    rng = np.random.default_rng(2)
    examples = []
    for n in range(30):
        people = rng.permutation(6)[:3]
        said = [{"annotator": f"w{w}", "ranks": (1 + rng.permutation(3)).tolist()} for w in people]
        examples.append(judged([" a", " b", " c"], *said, prompt=f"{n}?"))
    seen = observed(examples, options=QUICK).comparisons
    assert (seen.items, seen.votes) == (90, 270)
    assert seen.alpha.estimate == pytest.approx(0, abs=0.15)
    assert seen.tests[0].p_value > 0.01
    assert seen.people.readiness is None
