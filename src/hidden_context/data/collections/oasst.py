"""Open Assistant: trees of messages by volunteers, their replies ranked and their answers rated."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias

from hidden_context.data.checks import Place, describe
from hidden_context.data.collections.published import (
    choice_of,
    kept,
    level_of,
    number_of,
    rows_of,
    sort_files,
    text_of,
)
from hidden_context.data.collections.source import LeftOut, Source
from hidden_context.data.example import Example
from hidden_context.data.importers import read_row

_KINDS: Final = {
    "trees": ("message_tree_id", "prompt"),
    "messages": ("message_id", "parent_id", "text", "role"),
}
_FILES: Final = (
    "a file of trees (…_ready.trees.jsonl.gz) or of messages (…_ready.messages.jsonl.gz, or the "
    "parquet files), of oasst1 or oasst2; the same messages once"
)
_REMEDY: Final = f"Give {_FILES}"
_ROLES: Final = {"prompter": "user", "assistant": "assistant"}
_PASSED: Final = ("lang", "review_result", "synthetic", "model_name", "message_tree_id")


@dataclass(frozen=True, slots=True)
class _Message:
    """A message as published, where it stands, and what its fields have before their names."""

    row: Mapping[str, Any]
    parent: str | None
    role: str
    text: str
    place: Place
    at: str = ""


_Messages: TypeAlias = "dict[str, _Message]"
_Chat: TypeAlias = "list[dict[str, str]]"


def _read(files: Sequence[Path], left_out: LeftOut) -> Iterator[Example]:
    """Read the ranking of each message's answers, and each answer once for each of its labels."""
    found: _Messages = {}
    kinds = sort_files(files, _KINDS, _REMEDY)
    for path in (*kinds["trees"], *kinds["messages"]):
        for place, row in rows_of(path):
            if "message_id" in row:
                _add(row, row.get("parent_id"), place, "", found)
            else:
                _add_tree(row, place, found)
    answers: dict[str, list[str]] = {}
    for name, message in found.items():
        if message.role == "prompter":
            if _labels(message):
                left_out["messages of users with labels, which are no answers"] += 1
        elif message.row.get("deleted") is True:
            left_out["answers that were deleted"] += 1
        elif (prompt := _thread(message.parent, found)) is None:
            left_out["answers to a message that is not in the files"] += 1
        else:
            answers.setdefault(str(message.parent), []).append(name)
            yield from _rated(name, message, prompt, left_out)
    for parent, names in answers.items():
        yield from _ranked(names, _thread(parent, found) or [], found)


def _add_tree(row: Mapping[str, Any], place: Place, found: _Messages) -> None:
    """Add the messages of a tree; those that reply to one stand within it."""
    passed = {"message_tree_id": text_of(row, "message_tree_id", place)}
    waiting: list[tuple[Any, str | None, str]] = [(row.get("prompt"), None, "prompt.")]
    while waiting:
        message, parent, at = waiting.pop()
        if not isinstance(message, Mapping):
            problem = f"a message is needed, not {describe(message)}"
            raise place.error(problem, at.rstrip("."), _REMEDY)
        name = _add({**passed, **message}, parent, place, at, found)
        replies = message.get("replies") or []
        if not isinstance(replies, list):
            problem = f"a list of messages is needed, not {describe(replies)}"
            raise place.error(problem, f"{at}replies", _REMEDY)
        places = range(len(replies))[::-1]
        waiting += [(replies[n], name, f"{at}replies[{n}].") for n in places]


def _add(row: Mapping[str, Any], parent: Any, place: Place, at: str, found: _Messages) -> str:
    """Add a message under its name."""
    name = text_of(row, "message_id", place, at)
    if name in found:
        problem = f"message {name} stands twice, and its labels would count twice"
        raise place.error(problem, f"{at}message_id", _REMEDY)
    above = None if parent is None else text_of({"parent_id": parent}, "parent_id", place, at)
    role = choice_of(row, "role", place, tuple(_ROLES), at)
    found[name] = _Message(row, above, role, text_of(row, "text", place, at), place, at)
    return name


def _thread(name: str | None, found: _Messages) -> _Chat | None:
    """Return the messages that end in one; None where one of them is not in the files."""
    chat: _Chat = []
    while name is not None:
        message = found.get(name)
        if message is None or len(chat) > len(found):
            return None
        chat.append({"role": _ROLES[message.role], "content": message.text})
        name = message.parent
    return chat[::-1] or None


def _rated(name: str, message: _Message, prompt: _Chat, left_out: LeftOut) -> Iterator[Example]:
    """Read the mean of several people's labels for each attribute, and how many they are."""
    for attribute, label in _labels(message):
        at = f"{message.at}labels.{attribute}."
        if label.get("value") is None:
            left_out["labels without a value"] += 1
            continue
        value = number_of(label, "value", message.place, 0, 1, at)
        count = level_of(label, "count", message.place, 1, prefix=at)
        said = {"response": 0, "rating": value, "count": count}
        columns = {"item": name, **kept(message.row, *_PASSED)}
        yield _example(prompt, [message.text], said, attribute, columns, message.place)


def _labels(message: _Message) -> list[tuple[str, Mapping[str, Any]]]:
    """Return the labels by attribute; tables have lists of names, values and counts instead."""
    labels = message.row.get("labels") or {}
    field = f"{message.at}labels"
    if not isinstance(labels, Mapping):
        raise message.place.error(f"an object is needed, not {describe(labels)}", field, _REMEDY)
    if isinstance(labels.get("name"), list):
        lists = [labels["name"], labels.get("value"), labels.get("count")]
        if not all(isinstance(one, list) and len(one) == len(lists[0]) for one in lists):
            problem = "lists of names, values and counts of one length are needed"
            raise message.place.error(problem, field, _REMEDY)
        return [(str(n), {"value": v, "count": c}) for n, v, c in zip(*lists, strict=True)]
    given = [(name, label) for name, label in labels.items() if label is not None]
    for name, label in given:
        if not isinstance(label, Mapping):
            problem = f"a value and a count are needed, not {describe(label)}"
            raise message.place.error(problem, f"{field}.{name}", _REMEDY)
    return given


def _ranked(names: Sequence[str], prompt: _Chat, found: _Messages) -> Iterator[Example]:
    """Read the order of the answers to a message, which is made of several people's."""
    ranked = [name for name in names if found[name].row.get("rank") is not None]
    if len(ranked) > 1:
        messages = [found[name] for name in ranked]
        ranks = [level_of(one.row, "rank", one.place, 0, prefix=one.at) + 1 for one in messages]
        columns = {"items": ranked, **kept(messages[0].row, "lang", "message_tree_id")}
        texts = [one.text for one in messages]
        yield _example(prompt, texts, {"ranks": ranks}, "ranking", columns, messages[0].place)


def _example(
    prompt: _Chat,
    responses: list[str],
    said: Mapping[str, Any],
    subset: str,
    columns: Mapping[str, Any],
    place: Place,
) -> Example:
    objective = {} if subset == "ranking" else {"objective": subset}
    built = {"prompt": prompt, "responses": responses, "judgements": [dict(said)]}
    row = {**built, **objective, "data_subset": subset, **columns}
    return read_row(row, file=place.file, line=place.line)


SOURCE = Source(
    name="oasst",
    title="OpenAssistant Conversations",
    licence="Apache 2.0",
    citation=(
        "Köpf, Kilcher, von Rütte, Anagnostidis, Tam, Stevens, Barhoum, Nguyen, Stanley, Nagyfi, "
        "ES, Suri, Glushkov, Dantuluri, Maguire, Schuhmann, Nguyen and Mattick (2023), "
        "OpenAssistant Conversations - Democratizing Large Language Model Alignment, NeurIPS "
        "Datasets and Benchmarks"
    ),
    published="https://huggingface.co/datasets/OpenAssistant/oasst1",
    files=_FILES,
    holds=("rankings", "ratings"),
    gives=(
        "answers with the mean of several people's labels from 0 to 1, such as quality, "
        "helpfulness, toxicity or spam, under their names in objective and data_subset, and how "
        "many people they are of (count); the answers to each message in the order that several "
        "people's rankings make, data_subset ranking; nobody is named"
    ),
    read=_read,
)
