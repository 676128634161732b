"""From examples to items with votes."""

from __future__ import annotations

import numpy as np
import pytest

from hidden_context.data.importers import read_row
from hidden_context.data.votes import votes_of
from hidden_context.errors import ConfigError


def judged(responses, *entries, prompt="Human: Tea?\n\nAssistant:", **columns):
    row = {"prompt": prompt, "responses": responses, "judgements": list(entries)}
    return read_row(row | columns)


def compare(who, share, places=(0, 1)):
    return {"annotator": who, "comparison": list(places), "preference": share}


def test_items_votes_and_where_they_come_from():
    examples = [
        judged([" a", " b"], compare("ann", 1), compare("bob", 0.5), {"abstains": True}),
        judged([" c"], {"annotator": "ann", "response": 0, "rating": 3}),
        judged(
            [" a", " b", " c"],
            compare("bob", 1, (2, 0)),
            compare(7, 0.25, (0, 1)),
            {"comparison": [0, 2]},
            data_subset="more",
        ),
    ]
    found = votes_of(examples, ["g", "g", "h"])
    assert found.names == ("ann", "bob", "7")
    assert found.table.item.tolist() == [0, 0, 1, 2, 1]
    assert found.table.annotator.tolist() == [0, 1, 1, 2, -1]
    assert found.table.share.tolist() == [1, 0.5, 0, 0.25, 1]  # second of (0, 2) is better
    assert found.table.shown.tolist() == [1] * 5
    assert found.table.weight.tolist() == [1] * 5
    assert found.example.tolist() == [0, 2, 2]
    assert found.places.tolist() == [[0, 1], [0, 2], [0, 1]]
    assert found.group.tolist() == [0, 1, 1]
    assert found.group_names == ("g", "h")
    assert found.part.tolist() == [0, 1, 1]
    assert len(set(found.block)) == 3
    assert found.texts.tolist() == [0, 1, 0]  # the third item has the texts of the first
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
    # two examples with several votes each stay apart, but share their texts
    several = [
        judged([" b", " a"], compare("w", 1), compare("x", 0)),
        judged([" a", " b"], compare("w", 1), compare("y", 0)),
    ]
    apart = votes_of(several)
    assert apart.table.items == 2
    assert apart.texts.tolist() == [0, 0]
    assert apart.facing.tolist() == [-1, 1]


def test_an_order_that_turns_from_row_to_row_is_kept():
    rows = [judged([" b", " a"], compare("w", 1)), judged([" a", " b"], compare("x", 1))]
    found = votes_of(rows)
    assert found.table.item.tolist() == [0, 0]
    assert found.table.share.tolist() == [1, 0]
    assert found.table.shown.tolist() == [1, -1]  # both chose what stood first


def test_nothing_is_known_of_an_order_that_votes_made():
    rows = [
        {
            "prompt": f"Tea {n}?",
            "chosen": " a",
            "rejected": " b",
            "annotations": [{"annotator": "w", "preference": 1}, {"annotator": n, "preference": 1}],
        }
        for n in range(20)
    ]
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
        judged(
            [" a", " b"],
            {"annotator": "ann", "response": 0, "rating": 1},
            {"annotator": "bob", "response": 0, "rating": 5},
            {"annotator": "ann", "response": 1, "rating": 3},
        ),
        judged([" b"], {"annotator": "cy", "response": 0, "rating": 4}),
        judged([" c"], {"annotator": "cy", "response": 0, "rating": 2}),
        judged([" c"], {"annotator": "ann", "response": 0, "rating": 2}),
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


def test_a_group_for_each_example():
    with pytest.raises(ConfigError, match="each of 1 examples, not 2"):
        votes_of([judged([" a", " b"], compare("ann", 1))], ["a", "b"])
