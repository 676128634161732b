"""Open Assistant: labels and rankings of answers, from trees, messages and tables."""

from hidden_context.data.example import Ranking, Rating
from support.published import assistant, message, user

LABELS = {"quality": {"value": 0.75, "count": 3}, "spam": {"value": 0.0, "count": 2}}
MESSAGES = (
    message("t", None, labels=LABELS),
    message("t.1", "t", rank=1, labels=LABELS),
    message("t.2", "t", rank=0, labels={"quality": {"value": None, "count": 0}}),
    message("t.1.1", "t.1"),
    message("t.1.1.1", "t.1.1", labels={"humor": {"value": 0.5, "count": 1}}),
)


def tree(messages):
    """Put messages into the tree that they make."""
    nodes = {one["message_id"]: {**one, "replies": []} for one in messages}
    for node in nodes.values():
        node.pop("message_tree_id")
        if node["parent_id"] in nodes:
            nodes[node["parent_id"]]["replies"].append(node)
    return {"message_tree_id": "t", "tree_state": "ready_for_export", "prompt": nodes["t"]}


def in_lists(one):
    """Write labels as the parquet files have them: lists of names, values and counts."""
    given = one["labels"]
    if given is None:
        return one
    columns = {key: [label[key] for label in given.values()] for key in ("value", "count")}
    return {**one, "labels": {"name": list(given), **columns}}


def found(examples):
    return [
        (one.data_subset, one.columns.get("item"), one.judgements[0].answer) for one in examples
    ]


def test_oasst_labels_of_answers_and_rankings(imported):
    examples, report = imported("oasst", *MESSAGES)
    assert found(examples) == [
        ("quality", "t.1", Rating(0, 0.75)),
        ("spam", "t.1", Rating(0, 0.0)),
        ("humor", "t.1.1.1", Rating(0, 0.5)),
        ("ranking", None, Ranking((2, 1))),
    ]
    quality, _, humor, ranking = examples
    assert quality.columns == {
        "prompt": [user("text of t")],
        "responses": ["text of t.1"],
        "judgements": [{"response": 0, "rating": 0.75, "count": 3}],
        "objective": "quality",
        "data_subset": "quality",
        "item": "t.1",
        "lang": "en",
        "message_tree_id": "t",
    }
    asked = [user("text of t"), assistant("text of t.1"), user("text of t.1.1")]
    assert humor.prompt == asked
    assert (ranking.objective, ranking.prompt) == (None, quality.prompt)
    assert ranking.columns["items"] == ["t.1", "t.2"]
    assert (report.judgements, report.annotators) == (4, set())
    assert report.left_out == {
        "labelled messages of users, which are no answers": 1,
        "labels without a value": 1,
    }


def test_oasst_trees_and_tables_say_the_same_in_any_order(imported, refused, write_rows):
    messages, report = imported("oasst", *MESSAGES)
    for rows, file in (
        ([tree(MESSAGES)], "trees.jsonl"),
        ([in_lists(one) for one in MESSAGES], "t.parquet"),
        ([in_lists(one) for one in MESSAGES], "t.jsonl"),
    ):
        same, other = imported("oasst", *rows, file=file)
        assert (same, other.left_out) == (messages, report.left_out)
    backwards, _ = imported("oasst", *MESSAGES[::-1])
    names = [("humor", "t.1.1.1"), ("quality", "t.1"), ("spam", "t.1"), ("ranking", None)]
    assert [one[:2] for one in found(backwards)] == names
    assert backwards[3].judgements[0].answer == Ranking((1, 2))
    files = [write_rows("m.jsonl", MESSAGES), write_rows("trees.jsonl", [tree(MESSAGES)])]
    refused(r"m\.jsonl, line 1, field 'message_id': message t occurs twice", "oasst", *files)
    odd = [MESSAGES[0], {**MESSAGES[1], "rank": -1}, MESSAGES[2]]
    refused("line 2, field 'rank': a number of at least 0 is needed", "oasst", *odd)


def test_oasst_answers_without_their_thread_and_deleted_ones(imported):
    rows = [
        *MESSAGES[:2],
        message("t.2", "t", rank=0, labels=LABELS, deleted=True),
        message("t.3", "t"),
        *(message("u.1", "u", rank=0, labels=LABELS), message("v.1", None, labels=LABELS)),
        *(message("a.1", "b", labels=LABELS), message("b", "a.1")),  # they answer each other
    ]
    examples, report = imported("oasst", *rows)
    assert [one[:2] for one in found(examples)] == [("quality", "t.1"), ("spam", "t.1")]
    assert report.left_out == {
        "labelled messages of users, which are no answers": 1,
        "answers that were deleted": 1,
        "answers to a message that is not in the files": 3,
    }
