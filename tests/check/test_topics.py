import numpy as np
import pytest

from check.people import items_of, pair, two_camps
from hidden_context.check.split_items import most_split
from hidden_context.check.topics import Topics, find_topics, rank_topics
from hidden_context.check.words import p_value, percent, shortened


def test_groups_of_few_values_are_the_topics(tmp_path):
    items = items_of(tmp_path / "d.jsonl", two_camps(), by="topic")
    topics = find_topics(items)
    assert topics.by == "column"
    ranked, hidden = rank_topics(items, topics, np.full(60, 0.25))
    assert hidden == 0
    assert [(each.name, each.items, each.votes) for each in ranked] == [
        ("taxes", 30, 300),
        ("weather", 30, 300),
    ]
    assert [each.observed.estimate for each in ranked] == [1.0, 0.0]
    assert ranked[0].observed.low < 1.0  # Wilson's, of as many draws as prompts
    assert ranked[0].predicted.estimate == 0.25
    assert ranked[0].conflict == 1.0
    assert ranked[0].example.startswith("about taxes, question 1?")
    assert topics.name(1) == "taxes"


def test_contexts_are_found_in_prompts_where_groups_are_many(tmp_path):
    items = items_of(tmp_path / "d.jsonl", two_camps(80))
    topics = find_topics(items)
    assert topics.by == "context"
    assert topics.contexts_by == "split"
    assert [round(each.split, 2) for each in topics.contexts] == [1.0, 0.0]
    assert "taxes" in topics.contexts[0].name
    ranked, _ = rank_topics(items, topics, None)
    assert [each.items for each in ranked] == [40, 40]
    assert np.isnan(ranked[0].predicted.estimate)


def test_few_prompts_have_no_contexts(tmp_path):
    items = items_of(tmp_path / "d.jsonl", two_camps(8))
    topics = find_topics(items)
    assert (topics.by, topics.names, topics.contexts) == ("none", [], [])
    assert topics.name(0) == ""
    assert rank_topics(items, topics, None) == ([], 0)


def test_prompts_that_are_all_alike_have_no_contexts(tmp_path):
    rows = [pair(n, {"a": 1.0, "b": 0.0}) for n in range(12)]
    for row in rows:
        row["prompt"] = "?" * (1 + int(row["responses"][0].split()[1]))
    topics = find_topics(items_of(tmp_path / "d.jsonl", rows))
    assert topics.by == "none"


def test_topics_of_fewer_than_five_people_are_hidden(tmp_path):
    rows = []
    for number in range(40):
        people = 4 if number < 20 else 5
        topic = f"t{number // 20}"
        rows.append(pair(number, {f"{topic}{k}": float(k % 2) for k in range(people)}, topic=topic))
    items = items_of(tmp_path / "d.jsonl", rows, by="topic")
    ranked, hidden = rank_topics(items, find_topics(items), None)
    assert ([each.name for each in ranked], hidden) == (["t1"], 1)


def test_people_without_names_do_not_hide_a_topic(tmp_path):
    rows = [
        {
            **pair(n, {}, topic=f"t{n % 2}"),
            "judgements": [{"comparison": [0, 1], "preference": v} for v in (1.0, 0.0)],
        }
        for n in range(20)
    ]
    items = items_of(tmp_path / "d.jsonl", rows, by="topic")
    assert rank_topics(items, find_topics(items), None)[1] == 0


def test_topics_without_a_judged_item_are_left_out_and_equal_names_are_told_apart(tmp_path):
    items = items_of(tmp_path / "d.jsonl", two_camps(20), by="topic")
    topic = np.where(np.arange(20) % 2, 0, 2)
    ranked, hidden = rank_topics(
        items, Topics("column", ["x", "empty", "z"], topic, [], "none"), None
    )
    assert ([each.name for each in ranked], hidden) == (["x", "z"], 0)
    rows = [
        pair(n, {"a": 1.0, "b": 0.0}, topic=" ".join(["long"] * 30) + str(n % 2)) for n in range(20)
    ]
    names = find_topics(items_of(tmp_path / "e.jsonl", rows, by="topic")).names
    assert names[1] == f"{names[0]} (2)"


def test_the_most_split_items_come_first_and_one_of_each_prompt(tmp_path):
    rows = [
        pair(0, {"a": 1.0, "b": 1.0, "c": 0.0, "d": 0.0}),
        pair(1, {"a": 1.0, "b": 0.0, "c": 0.5, "d": 0.5}),
        pair(2, {"a": 1.0, "b": 1.0, "c": 1.0, "d": 0.0}),  # a majority: not split
        pair(3, {"a": 0.5, "b": 0.5, "c": 0.5, "d": 0.5}),  # all equal: not split
    ]
    items = items_of(tmp_path / "d.jsonl", rows)
    topics = Topics("none", [], np.full(4, -1), [], "none")
    top = most_split(items, topics, None)
    assert [each.place for each in top] == ["line 1", "line 2"]
    assert (top[0].first, top[0].equal, top[0].second) == (2, 0, 2)
    assert top[0].prompt == "question 0?"
    assert top[0].responses == ["short 0", "a good deal longer answer 0"]
    assert top[0].predicted == []
    assert 0 < top[1].opposite < top[0].opposite < 1
    known = most_split(items, topics, np.full((4, 3), 1 / 3))
    assert known[0].predicted == pytest.approx([1 / 3] * 3)
    many = [
        {**pair(n, {"a": 1.0, "b": 0.0}), "prompt": "one" if n < 30 else f"other {n}"}
        for n in range(34)
    ]
    items = items_of(tmp_path / "e.jsonl", many)
    top = most_split(items, Topics("none", [], np.full(34, -1), [], "none"), None)
    assert len(top) == 10
    assert len({each.prompt for each in top}) == 5


def test_words_for_numbers():
    assert shortened("a   long word", 8) == "a long…"
    assert p_value(0.05) == "p = 0.050"
    assert p_value(0.0004) == "p < 0.001"
    assert percent(float("nan")) == "–"


def test_a_topic_of_few_prompts_has_an_interval_by_item(tmp_path):
    rows = [
        pair(n, {"a": 1.0, "b": 1.0, "c": 0.0, "d": n % 2}, topic=f"t{n // 20}") for n in range(40)
    ]
    for row in rows:
        row["prompt"] = f"the prompt of {row['topic']}"
        row["judgements"] += [{"comparison": [0, 1], "preference": 0.5}]
    items = items_of(tmp_path / "d.jsonl", rows, by="topic")
    ranked, _ = rank_topics(items, find_topics(items), None)
    assert ranked[0].observed.estimate == 0.5
    assert 0.2 < ranked[0].observed.low < 0.5 < ranked[0].observed.high < 0.8
