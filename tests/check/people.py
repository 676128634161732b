"""Small data sets of people's votes for the tests of the check."""

from typing import Any

import numpy as np

from hidden_context.check.items import Items, read_items
from hidden_context.data.importers import read_row
from hidden_context.data.splits.division import SplitOptions

Row = dict[str, Any]
TOPICS = ("weather", "taxes")


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
    words predict the votes; the camp of odd people turns them round where taxes are the topic.
    """
    rows = []
    for number in range(count):
        topic, turned = TOPICS[number % 2], (number // 2) % 2 == 1
        words = ["good fine", "poor vile"][:: -1 if turned else 1]
        votes = {
            f"p{person}": float(turned if topic == "taxes" and person % 2 else not turned)
            for person in range(people)
        }
        columns = {
            "prompt": f"about {topic}, question {number}?",
            "responses": [f"{word} {topic} {number}" for word in words],
            "topic": topic,
            "block": f"b{number // 4}",
        }
        rows.append(pair(number, votes, **columns))
    return rows


def items_of(rows: list[Row], by: str | None = None) -> Items:
    examples = [read_row(dict(row), line=line) for line, row in enumerate(rows, start=1)]
    return read_items(examples, SplitOptions(by))


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)
