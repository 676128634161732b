"""Small data sets of people's votes for the tests of the check."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from hidden_context.check import CheckConfig, Found, check
from hidden_context.check.items import Items, read_items
from hidden_context.data.importers import read_row
from hidden_context.data.splits.division import SplitOptions
from support.paper_layout import write_rows

Row = dict[str, Any]
TOPICS = ("weather", "taxes")
JUDGE = "m/helpful/12345678"


Said = dict[str, float | None] | Iterable[float]


def by_person(said: Said) -> list[tuple[str, float | None]]:
    """What each person said; people of a list are p0, p1 …"""
    if not isinstance(said, dict):
        said = {f"p{number}": float(value) for number, value in enumerate(said)}
    return list(said.items())


def pair(number: int, votes: Said, **columns: Any) -> Row:
    """A pair whose second response is the longer one."""
    said = [
        {"annotator": who, "comparison": [0, 1], "preference": v} for who, v in by_person(votes)
    ]
    return {
        "prompt": f"question {number}?",
        "responses": [f"short {number}", f"a good deal longer answer {number}"],
        "judgements": said,
        **columns,
    }


def rated(number: int, ratings: Said, **columns: Any) -> Row:
    said = [{"annotator": who, "rating": value} for who, value in by_person(ratings)]
    return {"text": f"text number {number}", "ratings": said, **columns}


def judged(row: Row, answers: list[tuple[list[int], float | None]]) -> Row:
    """Add a judge's entry: ``answers`` holds what is shown and the preference for response 0."""
    refusal = {"abstains": True, "text": "No.", "reason": "refusal"}
    said = [
        {"shown": shown, "vote": n // 2, **(refusal if share is None else {"preference": share})}
        for n, (shown, share) in enumerate(answers)
    ]
    shares = [share for _, share in answers if share is not None]
    settled = {"comparison": [0, 1], "preference": sum(shares) / len(shares)} if shares else refusal
    entry = {"annotator": JUDGE, "judge": {"model": "m"}, "answers": said, **settled}
    return {**row, "judgements": [*row["judgements"], entry]}


def two_camps(count: int = 60, people: int = 10) -> list[Row]:
    """Pairs about taxes divide two camps of people; about the weather all say the same.

    The first response is ``good`` where the second is ``poor``, or the other way round, so that the
    words predict the votes; the camp of odd people turns them round where taxes are the topic.
    """
    rows = []
    for number in range(count):
        topic, turned = TOPICS[number % 2], (number // 2) % 2 == 1
        words = ["good fine", "poor vile"][:: -1 if turned else 1]
        votes = [turned if topic == "taxes" and n % 2 else not turned for n in range(people)]
        columns = {
            "prompt": f"about {topic}, question {number}?",
            "responses": [f"{word} {topic} {number}" for word in words],
            "topic": topic,
            "block": f"b{number // 4}",
        }
        rows.append(pair(number, votes, **columns))
    return rows


def checked(path: Path, rows: Iterable[Row], **options: Any) -> Found:
    """What a check of rows finds; nothing is predicted unless asked for."""
    return check(CheckConfig(data_path=write_rows(path, rows), **{"predict": False, **options}))


def items_of(rows: list[Row], by: str | None = None) -> Items:
    examples = [read_row(dict(row), line=line) for line, row in enumerate(rows, start=1)]
    return read_items(examples, SplitOptions(by))


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)
