"""HelpSteer: answers rated for several attributes, from its own rows or SteerLM conversations."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Final

from hidden_context.data.checks import describe
from hidden_context.data.collections.helpsteer2 import ATTRIBUTES, read_ratings, read_turns
from hidden_context.data.collections.source import Examples, Messages, Published, Row, Source

_IN_LABELS: Final = ("quality", "toxicity", "humor", "creativity", *ATTRIBUTES)


def _read(files: Published) -> Examples:
    """Read each answer once for each rated attribute."""
    for row in files.rows("rated"):
        prompt, answer = read_turns(row), row.text("response")
        for name in ATTRIBUTES:
            if row.get(name) in (None, []):
                row.leave_out(f"answers without a rating for {name}")
                continue
            yield row.example(
                prompt=prompt,
                responses=[answer],
                judgements=read_ratings(row, name),
                criterion=name,
            )
    for row in files.rows("conversations"):
        yield from _conversation(row)


def _conversation(row: Row) -> Examples:
    """Read the labelled answers of a conversation, in which the masked turns are the user's.

    Some conversations begin alike and part later. The shared part is read once.
    """
    masked = row.text("mask")
    chat: Messages = []
    if row.get("system"):
        chat.append({"role": "system", "content": row.text("system")})
    labelled = False
    for turn in row.entries("conversations"):
        role = "user" if turn.text("from") == masked else "assistant"
        text, label = turn.text("value"), turn.get("label")
        if label not in (None, ""):
            labelled = True
            key = hashlib.sha256(json.dumps([chat, text, label]).encode()).hexdigest()
            if role == "user":
                row.leave_out("labels of user turns")
            elif not row.repeats("answers with the same label in an earlier conversation", key):
                for name, rating in _read_label(turn).items():
                    yield row.example(
                        prompt=chat,
                        responses=[text],
                        judgements=[{"response": 0, "rating": rating}],
                        criterion=name,
                        **row.kept("dataset"),
                    )
        chat = [*chat, {"role": role, "content": text}]
    if not labelled:
        row.leave_out("conversations without a label")


def _read_label(turn: Row) -> Mapping[str, float]:
    """Read a label such as ``quality:4,toxicity:0``."""
    label, ratings = turn["label"], {}
    for part in str(label).split(","):
        name, colon, value = part.partition(":")
        if not isinstance(label, str) or not colon or name not in _IN_LABELS or name in ratings:
            problem = f"attributes and ratings are needed, each once, not {describe(label)}"
            raise turn.error(problem, "label", f"The attributes are {', '.join(_IN_LABELS)}")
        ratings[name] = turn.with_values({"label": value}).number("label", 0, 4)
    return ratings


SOURCE = Source(
    title="HelpSteer",
    licence="CC BY 4.0",
    citation=(
        "Wang, Dong, Zeng, Adams, Sreedhar, Egert, Delalleau, Scowcroft, Kant, Swope and Kuchaiev "
        "(2024), HelpSteer: Multi-attribute Helpfulness Dataset for SteerLM, NAACL"
    ),
    published="https://huggingface.co/datasets/nvidia/HelpSteer",
    files=(
        "train.jsonl.gz and validation.jsonl.gz; or files of conversations whose turns have labels "
        "such as 'quality:4,toxicity:0', as NeMo-Aligner makes them from this and other data sets"
    ),
    columns={
        "conversations": ("conversations", "mask"),
        "rated": ("prompt", "response", *ATTRIBUTES),
    },
    holds=("ratings",),
    gives=(
        "answers rated from 0 to 4 for helpfulness, correctness, coherence, complexity and "
        "verbosity, without annotators; each attribute has its own rows, under its name in "
        "objective and data_subset; in conversations also quality, toxicity, humor and "
        "creativity, by people or a model: the files do not say which"
    ),
    examples=_read,
)
