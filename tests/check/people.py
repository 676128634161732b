"""Small data sets of people's votes for the tests of the check."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from hidden_context.check.items import Items, read_items
from hidden_context.data.groups import SplitOptions
from hidden_context.data.sources import load_examples

Row = dict[str, Any]
TOPICS = ("weather", "taxes")


def write(path: Path, rows: list[Row]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def pair(number: int, votes: dict[str | None, float], **columns: Any) -> Row:
    """A pair whose second response is the longer one."""
    said = [{"annotator": who, "comparison": [0, 1], "preference": v} for who, v in votes.items()]
    return {
        "prompt": f"question {number}?",
        "responses": [f"short {number}", f"a good deal longer answer {number}"],
        "judgements": said,
        **columns,
    }


def rated(number: int, ratings: dict[str, float | None], **columns: Any) -> Row:
    said = [{"annotator": who, "rating": value} for who, value in ratings.items()]
    return {"text": f"text number {number}", "ratings": said, **columns}


def two_camps(count: int = 60, people: int = 10) -> list[Row]:
    """Pairs about taxes divide two camps of people; about the weather all say the same.

    The first response is ``good`` where the second is ``poor``, or the other way round, so that the
    words foretell the votes; the camp of odd people turns them round where taxes are the topic.
    """
    rows = []
    for number in range(count):
        topic, turned = TOPICS[number % 2], (number // 2) % 2 == 1
        words = ["good fine", "poor vile"][:: -1 if turned else 1]
        said = []
        for person in range(people):
            first = not turned
            if topic == "taxes" and person % 2:
                first = turned
            said.append(
                {"annotator": f"p{person}", "comparison": [0, 1], "preference": first * 1.0}
            )
        rows.append(
            {
                "prompt": f"about {topic}, question {number}?",
                "responses": [f"{word} {topic} {number}" for word in words],
                "judgements": said,
                "topic": topic,
                "block": f"b{number // 4}",
            }
        )
    return rows


def items_of(path: Path, rows: list[Row], by: str | None = None) -> Items:
    return read_items(load_examples(write(path, rows)).examples, SplitOptions(by))


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)
