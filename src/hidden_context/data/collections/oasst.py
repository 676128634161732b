"""Open Assistant: trees of messages by volunteers who also rated and ranked the answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from hidden_context.data.collections.source import Examples, Messages, Published, Row, Source

_ROLES: Final = {"prompter": "user", "assistant": "assistant"}


def _read(files: Published) -> Examples:
    """Read each answer once per label, and the ranking of the answers to each message."""
    found: dict[str, Row] = {}
    for row in files.rows("trees", "messages"):
        if "message_id" in row:
            _add(row, found)
        else:
            _add_tree(row, found)
    answers: dict[str, list[Row]] = {}
    for message in found.values():
        if message["role"] == "prompter":
            if _labels(message):
                message.leave_out("labelled user messages, which are not answers")
        elif message.get("deleted") is True:
            message.leave_out("answers that were deleted")
        elif (prompt := _thread(message.get("parent_id"), found)) is None:
            message.leave_out("answers to a message that is not in the files")
        else:
            answers.setdefault(message["parent_id"], []).append(message)
            yield from _rated(message, prompt)
    for parent, messages in answers.items():
        yield from _ranked(messages, _thread(parent, found) or [])


def _add_tree(row: Row, found: dict[str, Row]) -> None:
    """Add the messages of a tree, in which a message contains its replies."""
    passed = {"message_tree_id": row.text("message_tree_id")}
    waiting: list[tuple[Row, str | None]] = [(row.object("prompt"), None)]
    while waiting:
        message, parent = waiting.pop()
        _add(message.with_values({**passed, **message, "parent_id": parent}), found)
        replies = reversed(message.entries_or_none("replies"))
        waiting += [(reply, message["message_id"]) for reply in replies]


def _add(row: Row, found: dict[str, Row]) -> None:
    """Add a message under its name."""
    name = row.text("message_id")
    if name in found:
        problem = f"message {name} occurs twice, and its labels would count twice"
        raise row.error(problem, "message_id")
    row.texts("text", *row.kept("parent_id"))
    row.choice("role", _ROLES)
    found[name] = row


def _thread(name: str | None, found: Mapping[str, Row]) -> Messages | None:
    """Return the chat that ends in a message, or None if the files lack one of its messages."""
    chat: Messages = []
    while name is not None:
        message = found.get(name)
        if message is None or len(chat) > len(found):
            return None
        chat.append({"role": _ROLES[message["role"]], "content": message["text"]})
        name = message.get("parent_id")
    return chat[::-1] or None


def _rated(message: Row, prompt: Messages) -> Examples:
    """Read the mean label for each attribute and the number of people behind the mean."""
    for attribute, label in _labels(message).items():
        if label.get("value") is None:
            label.leave_out("labels without a value")
            continue
        value, count = label.number("value", 0, 1), label.level("count", 1)
        yield message.example(
            prompt=prompt,
            responses=[message["text"]],
            judgements=[{"response": 0, "rating": value, "count": count}],
            criterion=attribute,
            item=message["message_id"],
            **message.kept("lang", "review_result", "synthetic", "model_name", "message_tree_id"),
        )


def _labels(row: Row) -> dict[str, Row]:
    """Return the labels by attribute; tables store lists of names, values and counts."""
    labels = row.object_or_empty("labels")
    if isinstance(labels.get("name"), list):
        lists = [labels["name"], labels.get("value"), labels.get("count")]
        if not all(isinstance(one, list) and len(one) == len(lists[0]) for one in lists):
            problem = "lists of names, values and counts with the same length are needed"
            raise row.error(problem, "labels")
        entries = zip(*lists, strict=True)
        labels = labels.with_values({str(n): {"value": v, "count": c} for n, v, c in entries})
    return {name: labels.object(name) for name, label in labels.items() if label is not None}


def _ranked(messages: Sequence[Row], prompt: Messages) -> Examples:
    """Read the order of the answers to a message, combined from several people's rankings."""
    ranked = [message for message in messages if message.get("rank") is not None]
    if len(ranked) > 1:
        yield ranked[0].example(
            prompt=prompt,
            responses=[message["text"] for message in ranked],
            judgements=[{"ranks": [message.level("rank", 0) + 1 for message in ranked]}],
            data_subset="ranking",
            items=[message["message_id"] for message in ranked],
            **ranked[0].kept("lang", "message_tree_id"),
        )


SOURCE = Source(
    title="OpenAssistant Conversations",
    licence="Apache 2.0",
    citation=(
        "Köpf, Kilcher, von Rütte, Anagnostidis, Tam, Stevens, Barhoum, Nguyen, Stanley, Nagyfi, "
        "ES, Suri, Glushkov, Dantuluri, Maguire, Schuhmann, Nguyen and Mattick (2023), "
        "OpenAssistant Conversations - Democratizing Large Language Model Alignment, NeurIPS "
        "Datasets and Benchmarks"
    ),
    published="https://huggingface.co/datasets/OpenAssistant/oasst1",
    files=(
        "a file of trees (…_ready.trees.jsonl.gz) or of messages (…_ready.messages.jsonl.gz, or "
        "the parquet files), of oasst1 or oasst2; the same messages once"
    ),
    columns={
        "trees": ("message_tree_id", "prompt"),
        "messages": ("message_id", "parent_id", "text", "role"),
    },
    holds=("rankings", "ratings"),
    gives=(
        "answers with the mean of several people's labels from 0 to 1, such as quality, "
        "helpfulness, toxicity or spam, under their names in objective and data_subset, and the "
        "number of people (count); the order of the answers to each message, by several people's "
        "rankings, data_subset ranking; no annotator is named"
    ),
    examples=_read,
)
