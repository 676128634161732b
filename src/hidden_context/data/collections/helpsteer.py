"""HelpSteer: answers rated by attributes; its own rows, and the conversations of SteerLM."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypeAlias

from hidden_context.data.checks import Place, describe
from hidden_context.data.collections.helpsteer2 import read_turns
from hidden_context.data.collections.published import (
    entries_of,
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

ATTRIBUTES: Final = ("helpfulness", "correctness", "coherence", "complexity", "verbosity")
_IN_LABELS: Final = ("quality", "toxicity", "humor", "creativity", *ATTRIBUTES)
_KINDS: Final = {
    "conversations": ("conversations", "mask"),
    "rated": ("prompt", "response", *ATTRIBUTES),
}
_FILES: Final = (
    "train.jsonl.gz and validation.jsonl.gz; or files of conversations whose turns have labels "
    "such as 'quality:4,toxicity:0', as NeMo-Aligner makes them of this and other data sets"
)
_REMEDY: Final = f"Give {_FILES}"

_Chat: TypeAlias = "list[dict[str, str]]"


def _read(files: Sequence[Path], left_out: LeftOut) -> Iterator[Example]:
    """Read each answer once for each attribute that it was rated for."""
    found = sort_files(files, _KINDS, _REMEDY)
    for path in found["rated"]:
        for place, row in rows_of(path):
            yield from _rated(row, place, left_out)
    seen: set[bytes] = set()
    for path in found["conversations"]:
        for place, row in rows_of(path):
            yield from _conversation(row, place, seen, left_out)


def _rated(row: Mapping[str, Any], place: Place, left_out: LeftOut) -> Iterator[Example]:
    """Read an answer; an attribute has one rating, or the list of those of several people."""
    prompt, answer = read_turns(text_of(row, "prompt", place)), text_of(row, "response", place)
    for name in ATTRIBUTES:
        values = row.get(name)
        values = values if isinstance(values, list) else [] if values is None else [values]
        if not values:
            left_out[f"answers without a rating for {name}"] += 1
            continue
        ratings = [float(level_of({name: value}, name, place, 0, 4)) for value in values]
        yield _example(prompt, answer, name, ratings, {}, place)


def _conversation(
    row: Mapping[str, Any], place: Place, seen: set[bytes], left_out: LeftOut
) -> Iterator[Example]:
    """Read the labelled answers of a conversation; the user's turns are those that are masked.

    Conversations that part late begin alike: what they share stands in each, and is read once.
    """
    user = text_of(row, "mask", place)
    system = row.get("system")
    chat: _Chat = [{"role": "system", "content": text_of(row, "system", place)}] if system else []
    labelled = False
    for at, turn in entries_of(row, "conversations", place):
        role = "user" if text_of(turn, "from", place, at) == user else "assistant"
        text, label = text_of(turn, "value", place, at), turn.get("label")
        if label not in (None, ""):
            labelled = True
            key = hashlib.sha256(json.dumps([chat, text, label]).encode()).digest()
            if role == "user":
                left_out["labels of what a user says"] += 1
            elif key in seen:
                left_out["answers that stand, labelled alike, in an earlier conversation"] += 1
            else:
                seen.add(key)
                for name, rating in _read_label(label, place, f"{at}label").items():
                    yield _example(chat, text, name, [rating], kept(row, "dataset"), place)
        chat = [*chat, {"role": role, "content": text}]
    if not labelled:
        left_out["conversations without a label"] += 1


def _read_label(label: Any, place: Place, field: str) -> dict[str, float]:
    """Read a label such as ``quality:4,toxicity:0``."""
    ratings: dict[str, float] = {}
    for part in str(label).split(","):
        name, colon, value = part.partition(":")
        if not isinstance(label, str) or not colon or name not in _IN_LABELS or name in ratings:
            problem = f"attributes and ratings are needed, each once, not {describe(label)}"
            raise place.error(problem, field, f"The attributes are {', '.join(_IN_LABELS)}")
        ratings[name] = number_of({field: value}, field, place, 0, 4)
    return ratings


def _example(
    prompt: _Chat,
    answer: str,
    attribute: str,
    ratings: Sequence[float],
    columns: Mapping[str, Any],
    place: Place,
) -> Example:
    return read_row(
        {
            "prompt": prompt,
            "responses": [answer],
            "judgements": [{"response": 0, "rating": rating} for rating in ratings],
            "objective": attribute,
            "data_subset": attribute,
            **columns,
        },
        file=place.file,
        line=place.line,
    )


SOURCE = Source(
    name="helpsteer",
    title="HelpSteer",
    licence="CC BY 4.0",
    citation=(
        "Wang, Dong, Zeng, Adams, Sreedhar, Egert, Delalleau, Scowcroft, Kant, Swope and Kuchaiev "
        "(2024), HelpSteer: Multi-attribute Helpfulness Dataset for SteerLM, NAACL"
    ),
    published="https://huggingface.co/datasets/nvidia/HelpSteer",
    files=_FILES,
    holds=("ratings",),
    gives=(
        "answers rated from 0 to 4 for helpfulness, correctness, coherence, complexity and "
        "verbosity, by nobody named; each attribute has rows of its own, under its name in "
        "objective and data_subset; in conversations also quality, toxicity, humor and creativity, "
        "by people or a model, which the files do not say"
    ),
    read=_read,
)
