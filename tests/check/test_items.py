"""Items read from rows, their topics, and the most split ones."""

import numpy as np
import pytest

from check.people import items_of, pair, rated, two_camps
from hidden_context.check.items import read_items
from hidden_context.check.scores import most_split
from hidden_context.check.topics import Topics, find_topics, rank_topics
from hidden_context.data.example import Example
from hidden_context.errors import DataError


def test_groups_of_few_values_are_the_topics():
    items = items_of(two_camps(), by="topic")
    topics = find_topics(items)
    assert (topics.by, topics.name(1)) == ("column", "taxes")
    ranked, hidden = rank_topics(items, topics, np.full(60, 0.25))
    assert hidden == 0
    assert [(each.name, each.items, each.votes, each.observed.estimate) for each in ranked] == [
        ("taxes", 30, 300, 1.0),
        ("weather", 30, 300, 0.0),
    ]
    assert ranked[0].observed.low < 1.0  # Wilson's, of as many draws as prompts
    assert (ranked[0].predicted.estimate, ranked[0].conflict) == (0.25, 1.0)
    assert ranked[0].example.startswith("about taxes, question 1?")


def test_contexts_are_found_in_prompts_where_groups_are_many():
    items = items_of(two_camps(80))
    topics = find_topics(items)
    assert (topics.by, topics.contexts_by) == ("context", "split")
    assert [round(each.split, 2) for each in topics.contexts] == [1.0, 0.0]
    assert "taxes" in topics.contexts[0].name
    ranked, _ = rank_topics(items, topics, None)
    assert [each.items for each in ranked] == [40, 40]
    assert np.isnan(ranked[0].predicted.estimate)


ALIKE = [pair(n, [1, 0], prompt="?" * (n + 1)) for n in range(12)]


@pytest.mark.parametrize("rows", [two_camps(8), ALIKE])
def test_few_prompts_and_prompts_that_are_all_alike_have_no_contexts(rows):
    items = items_of(rows)
    topics = find_topics(items)
    assert (topics.by, topics.names, topics.contexts, topics.name(0)) == ("none", [], [], "")
    assert rank_topics(items, topics, None) == ([], 0)


def test_topics_of_fewer_than_five_people_are_hidden_unless_people_have_no_names():
    rows = [
        pair(n, {f"t{n // 20}-{k}": k % 2 for k in range(4 + n // 20)}, topic=f"t{n // 20}")
        for n in range(40)
    ]
    items = items_of(rows, by="topic")
    ranked, hidden = rank_topics(items, find_topics(items), None)
    assert ([each.name for each in ranked], hidden) == (["t1"], 1)
    said = [{"comparison": [0, 1], "preference": v} for v in (1.0, 0.0)]
    items = items_of([{**row, "judgements": said} for row in rows], by="topic")
    assert rank_topics(items, find_topics(items), None)[1] == 0


def test_topics_without_a_judged_item_are_left_out_and_equal_names_are_told_apart():
    items = items_of(two_camps(20), by="topic")
    topic = np.where(np.arange(20) % 2, 0, 2)
    topics = Topics("column", ["x", "empty", "z"], topic, [], "none")
    ranked, hidden = rank_topics(items, topics, None)
    assert ([each.name for each in ranked], hidden) == (["x", "z"], 0)
    long = "long " * 30
    rows = [pair(n, {"a": 1.0, "b": 0.0}, topic=f"{long}{n % 2}") for n in range(20)]
    names = find_topics(items_of(rows, by="topic")).names
    assert names[1] == f"{names[0]} (2)"


def test_the_most_split_items_come_first_and_one_of_each_prompt():
    # a majority is not split, and where all say equal neither
    shares = [[1, 1, 0, 0], [1, 0, 0.5, 0.5], [1, 1, 1, 0], [0.5] * 4]
    rows = [pair(n, votes) for n, votes in enumerate(shares)]
    items, nothing = items_of(rows), Topics("none", [], np.full(34, -1), [], "none")
    top = most_split(items, nothing, None)
    assert [each.place for each in top] == ["line 1", "line 2"]
    assert (top[0].first, top[0].equal, top[0].second) == (2, 0, 2)
    assert (top[0].prompt, top[0].predicted) == ("question 0?", [])
    assert top[0].responses == ["short 0", "a good deal longer answer 0"]
    assert 0 < top[1].opposite < top[0].opposite < 1
    known = most_split(items, nothing, np.full((4, 3), 1 / 3))
    assert known[0].predicted == pytest.approx([1 / 3] * 3)
    many = [pair(n, [1, 0], prompt="one" if n < 30 else f"other {n}") for n in range(34)]
    top = most_split(items_of(many), nothing, None)
    assert (len(top), len({each.prompt for each in top})) == (10, 5)


def test_a_topic_of_few_prompts_has_an_interval_by_item():
    topic = [f"t{n // 20}" for n in range(40)]
    rows = [pair(n, [1, 1, 0, n % 2], topic=topic[n], prompt=topic[n]) for n in range(40)]
    for row in rows:
        row["judgements"].append({"comparison": [0, 1], "preference": 0.5})
    items = items_of(rows, by="topic")
    observed = rank_topics(items, find_topics(items), None)[0][0].observed
    assert 0.2 < observed.low < observed.estimate == 0.5 < observed.high < 0.8


def test_rows_of_one_pair_are_one_item_whichever_side_is_chosen():
    sides = [("one", "two", "a"), ("two", "one", "b"), ("one", "two", "c"), ("two", "one", "a")]
    names = ("chosen", "rejected", "annotator")
    items = items_of([{"prompt": "q?", **dict(zip(names, row, strict=True))} for row in sides])
    assert items.counts.tolist() == [[2, 0, 1]]  # an annotator counts once on an item
    assert (items.are_pairs, items.places) == (True, ["line 1"])
    assert [each.shown for each in items.responses] == ["one", "two"]
    assert items.length.tolist() == pytest.approx([1.3862943611, 1.3862943611])


def test_ratings_are_high_or_low_and_keep_their_values():
    rows = [rated(0, {"a": 0, "b": 100, "c": 50, "d": None}), rated(1, {"a": 60, "b": 20})]
    items = items_of(rows)
    assert (items.are_pairs, items.votes.middle) == (False, 50)
    assert items.counts.tolist() == [[1, 1, 1], [1, 0, 1]]
    assert items.value.tolist() == [0, 1, 0.5, 0.6, 0.2]
    assert items.second.tolist() == [-1, -1]
    assert items.prompts == ["text number 0", "text number 1"]  # a text is its own prompt


def test_data_that_nobody_judged_is_an_error():
    with pytest.raises(DataError, match="nobody judged any example"):
        read_items([Example("q", ("a", "b"))], source="file.jsonl")
