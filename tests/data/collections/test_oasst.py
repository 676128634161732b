"""Open Assistant: labels and rankings of answers, from trees, messages and tables."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from hidden_context.data.collections.oasst import SOURCE
from hidden_context.data.example import Example, Judgement, Ranking, Rating
from hidden_context.errors import DataError
from support.published import jsonl_file
from support.source_files import import_source, parquet_file

LABELS = {"quality": {"value": 0.75, "count": 3}, "spam": {"value": 0.0, "count": 2}}


def message(name: str, parent: str | None, **columns: Any) -> dict[str, Any]:
    """One message: an even number of dots in its name is a user's."""
    return {
        "message_id": name,
        "parent_id": parent,
        "text": f"text of {name}",
        "role": "prompter" if name.count(".") % 2 == 0 else "assistant",
        "lang": "en",
        "deleted": False,
        "rank": None,
        "labels": None,
        "message_tree_id": name.split(".")[0],
        **columns,
    }


MESSAGES = (
    message("t", None, labels=LABELS),
    message("t.1", "t", rank=1, labels=LABELS),
    message("t.2", "t", rank=0, labels={"quality": {"value": None, "count": 0}}),
    message("t.1.1", "t.1"),
    message("t.1.1.1", "t.1.1", labels={"humor": {"value": 0.5, "count": 1}}),
)


def tree(messages: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Put messages into the tree that they make."""
    nodes = {one["message_id"]: {**one, "replies": []} for one in messages}
    root = next(iter(nodes.values()))
    for node in nodes.values():
        node.pop("message_tree_id")
        if node["parent_id"] in nodes:
            nodes[node["parent_id"]]["replies"].append(node)
    return {"message_tree_id": "t", "tree_state": "ready_for_export", "prompt": root}


def in_lists(row: dict[str, Any]) -> dict[str, Any]:
    """Write labels as the parquet files have them: lists of names, values and counts."""
    given = row["labels"]
    if given is None:
        return row
    values = {key: [label[key] for label in given.values()] for key in ("value", "count")}
    return {**row, "labels": {"name": list(given), **values}}


def import_rows(path: Path, *rows: dict[str, Any]) -> Any:
    return import_source(SOURCE, [jsonl_file(path / "messages.jsonl", rows)])


def found(examples: list[Example]) -> list[tuple[Any, Any, Any]]:
    return [
        (one.data_subset, one.columns.get("item"), one.judgements[0].answer) for one in examples
    ]


def test_labels_of_answers_and_rankings(tmp_path: Path) -> None:
    examples, report = import_rows(tmp_path, *MESSAGES)
    assert found(examples) == [
        ("quality", "t.1", Rating(0, 0.75)),
        ("spam", "t.1", Rating(0, 0.0)),
        ("humor", "t.1.1.1", Rating(0, 0.5)),
        ("ranking", None, Ranking((2, 1))),
    ]
    quality, _, humor, ranking = examples
    assert quality.judgements == (Judgement(Rating(0, 0.75)),)
    assert quality.judgements[0].columns["count"] == 3
    assert quality.prompt == [{"role": "user", "content": "text of t"}]
    assert quality.responses == ([{"role": "assistant", "content": "text of t.1"}],)
    assert (quality.objective, quality.columns["message_tree_id"]) == ("quality", "t")
    assert [said["content"] for said in humor.prompt] == [
        *("text of t", "text of t.1", "text of t.1.1"),
    ]
    assert [said["role"] for said in humor.prompt] == ["user", "assistant", "user"]
    assert ranking.objective is None
    assert ranking.columns["items"] == ["t.1", "t.2"]
    assert ranking.prompt == quality.prompt
    assert (report.judgements, report.annotators) == (4, set())
    assert report.left_out == {
        "messages of users with labels, which are no answers": 1,
        "labels without a value": 1,
    }


def test_trees_and_tables_say_the_same(tmp_path: Path) -> None:
    messages, report = import_rows(tmp_path, *MESSAGES)
    trees = jsonl_file(tmp_path / "trees.jsonl", [tree(MESSAGES)])
    of_trees, tree_report = import_source(SOURCE, [trees])
    assert found(of_trees) == [found(messages)[n] for n in (0, 1, 2, 3)]
    assert [one.prompt for one in of_trees] == [one.prompt for one in messages]
    assert [one.columns for one in of_trees] == [one.columns for one in messages]
    rows = [in_lists(one) for one in MESSAGES]
    table, table_report = import_source(SOURCE, [parquet_file(tmp_path / "t.parquet", rows)])
    assert table == messages
    listed, _ = import_rows(tmp_path, *rows)
    assert listed == messages
    assert report.left_out == tree_report.left_out == table_report.left_out


def test_answers_without_their_thread_and_deleted_ones(tmp_path: Path) -> None:
    rows = [
        *MESSAGES[:2],
        message("t.2", "t", rank=0, labels=LABELS, deleted=True),
        message("t.3", "t", labels=None),
        message("u.1", "u", rank=0, labels=LABELS),
        message("t.9.1.1", "t.9.1", labels=LABELS),
        message("v.1", None, labels=LABELS),
    ]
    examples, report = import_rows(tmp_path, *rows)
    assert found(examples) == [
        ("quality", "t.1", Rating(0, 0.75)),
        ("spam", "t.1", Rating(0, 0.0)),
    ]
    assert report.left_out == {
        "messages of users with labels, which are no answers": 1,
        "answers that were deleted": 1,
        "answers to a message that is not in the files": 3,
    }


def test_a_message_may_stand_before_the_one_it_answers(tmp_path: Path) -> None:
    examples, _ = import_rows(tmp_path, *MESSAGES[::-1])
    assert [row[:2] for row in found(examples)] == [
        ("humor", "t.1.1.1"),
        ("quality", "t.1"),
        ("spam", "t.1"),
        ("ranking", None),
    ]
    assert examples[3].judgements[0].answer == Ranking((1, 2))


def test_messages_that_answer_each_other_are_no_thread(tmp_path: Path) -> None:
    rows = [*MESSAGES, message("a.1", "b", labels=LABELS), message("b", "a.1")]
    _, report = import_rows(tmp_path, *rows)
    assert report.left_out["answers to a message that is not in the files"] == 1


def test_the_same_messages_twice_are_refused(tmp_path: Path) -> None:
    messages = jsonl_file(tmp_path / "messages.jsonl", MESSAGES)
    trees = jsonl_file(tmp_path / "trees.jsonl", [tree(MESSAGES)])
    with pytest.raises(DataError, match=r"messages\.jsonl, line 1, field 'message_id': message t"):
        import_source(SOURCE, [messages, trees])


@pytest.mark.parametrize(
    ("changed", "message_text"),
    [
        ({"role": "system"}, "field 'role': one of prompter, assistant is needed"),
        ({"text": None}, "field 'text': text is needed, not null"),
        ({"parent_id": 3}, "field 'parent_id': text is needed"),
        ({"rank": -1}, "field 'rank': a number from 0 to inf is needed"),
        ({"rank": 0.5}, "field 'rank': an integer is needed, not 0.5"),
        ({"labels": "good"}, "field 'labels': an object is needed, not text"),
        ({"labels": {"quality": 1}}, r"field 'labels\.quality': a value and a count are needed"),
        (
            {"labels": {"quality": {"value": 1.5, "count": 1}}},
            r"field 'labels\.quality\.value': a number from 0 to 1 is needed, not 1.5",
        ),
        (
            {"labels": {"quality": {"value": 0.5, "count": 0}}},
            r"field 'labels\.quality\.count': a number from 1 to inf is needed",
        ),
        (
            {"labels": {"name": ["quality"], "value": [], "count": [1]}},
            "field 'labels': lists of names, values and counts of one length are needed",
        ),
    ],
)
def test_odd_messages(changed: dict[str, Any], message_text: str, tmp_path: Path) -> None:
    rows = [MESSAGES[0], {**MESSAGES[1], **changed}, MESSAGES[2]]
    with pytest.raises(DataError, match=r"messages\.jsonl, line 2, " + message_text):
        import_rows(tmp_path, *rows)


def test_odd_trees(tmp_path: Path) -> None:
    good = tree(MESSAGES)
    prompt = good["prompt"]
    for changed, said in (
        ({"prompt": None}, "field 'prompt': a message is needed, not null"),
        ({"prompt": {**prompt, "replies": 3}}, r"field 'prompt\.replies': a list of messages"),
        ({"prompt": {**prompt, "replies": [{}]}}, r"field 'prompt\.replies\[0\]\.message_id'"),
    ):
        path = jsonl_file(tmp_path / "trees.jsonl", [{**good, **changed}])
        with pytest.raises(DataError, match=r"trees\.jsonl, line 1, " + said):
            import_source(SOURCE, [path])
    other = jsonl_file(tmp_path / "other.jsonl", [{"prompt": "a"}])
    with pytest.raises(DataError, match=r"the columns message_tree_id, prompt or message_id, par"):
        import_source(SOURCE, [other])
