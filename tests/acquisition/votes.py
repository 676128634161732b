"""Small data sets of people's votes for the tests of the choice of votes."""

from pathlib import Path
from typing import Any

import numpy as np

from check import people
from hidden_context.acquisition.config import NextConfig
from support.paper_layout import write_rows

Row = dict[str, Any]
GOOD = ("clear", "kind", "sound", "wise", "fair")
POOR = ("vague", "rude", "wrong", "rash", "odd")


def responses(number: int) -> list[str]:
    """A good and a poor response; the good one is second in every other item."""
    good = f"{GOOD[number % 5]} answer about thing {number}"
    poor = f"{POOR[number % 5]} reply about thing {number}"
    return [good, poor] if number % 2 == 0 else [poor, good]


def pair(number: int, votes: people.Said, **columns: Any) -> Row:
    own = {"id": f"i{number}", "responses": responses(number), "topic": f"t{number % 3}"}
    return people.pair(number, votes, **(own | columns))


def bare(number: int) -> Row:
    """An item of a pool."""
    row = pair(number, {})
    del row["judgements"]
    return row


def table(items: int = 40, people: int = 5, seed: int = 0) -> list[Row]:
    """Items with 1 to ``people`` votes, most of them for the good response, some equal."""
    generator = np.random.default_rng(seed)
    rows = []
    for number in range(items):
        good = 1.0 if number % 2 == 0 else 0.0
        chosen = generator.permutation(people)[: 1 + number % people]
        votes = {
            f"p{who}": float(generator.choice([good, 0.5, 1 - good], p=[0.6, 0.15, 0.25]))
            for who in chosen
        }
        rows.append(pair(number, votes))
    return rows


def config(
    folder: Path, rows: list[Row], pool: list[Row] | None = None, **options: Any
) -> NextConfig:
    """Options for rows and a pool, both of which are written."""
    path = write_rows(folder / "votes.jsonl", rows)
    if pool is not None:
        options["pool"] = write_rows(folder / "pool.jsonl", pool)
    options = {"budget": 20, "split_by": "topic", "quiet": True, **options}
    return NextConfig(path, output=str(folder / "next.jsonl"), **options)
