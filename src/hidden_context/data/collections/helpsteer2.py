"""HelpSteer2: answers rated from 0 to 4, and pairs of answers compared in seven levels."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from hidden_context.data.checks import Place, read_list
from hidden_context.data.collections.published import (
    entries_of,
    kept,
    level_of,
    rows_of,
    sort_files,
    text_of,
)
from hidden_context.data.collections.source import LeftOut, Source
from hidden_context.data.example import Example
from hidden_context.data.importers import read_row
from hidden_context.errors import DataError

_ATTRIBUTES = ("helpfulness", "correctness", "coherence", "complexity", "verbosity")
_KINDS = {
    "preference": ("prompt", "response_1", "response_2", "preference_strength"),
    "ratings": ("prompt", "response", *_ATTRIBUTES),
}
_FILES = (
    "preference/preference.jsonl.gz; and disagreements/disagreements.jsonl.gz (each annotator's "
    "ratings), or train.jsonl.gz and validation.jsonl.gz (their means)"
)
_NEITHER = -100
_TURN = re.compile(r"\n?<extra_id_1>(User|Assistant)\n")


def strength_entry(
    said: Mapping[str, Any], field: str, place: Place, prefix: str = ""
) -> dict[str, Any]:
    """Make an entry of a published strength: −3 the first much better, 3 the second, 0 a tie.

    Args:
        said: What holds the strength.
        field: Its name.
        place: Where it stands, for errors.
        prefix: What errors put before the name.

    Returns:
        The entry of ``judgements``, whose strength is positive where the first is better; an
        abstention for −100, with which annotators say that neither answer can be judged.

    Raises:
        DataError: If it is none of these integers.
    """
    if said.get(field) == _NEITHER:
        return {"abstains": True}
    return {"comparison": [0, 1], "strength": -level_of(said, field, place, -3, 3, prefix)}


def _read(files: Sequence[Path], left_out: LeftOut) -> Iterator[Example]:
    """Read pairs with every single preference, and answers with their ratings for helpfulness."""
    found = sort_files(files, _KINDS, f"Give {_FILES}")
    for path in found["preference"]:
        for place, row in rows_of(path):
            yield _read_pair(row, place)
    single = {_is_list(path) for path in found["ratings"]}
    if len(single) > 1:
        problem = "the files hold the same ratings twice, each annotator's and their means"
        raise DataError(problem, file=found["ratings"][0], remedy=f"Give {_FILES}")
    for path in found["ratings"]:
        for place, row in rows_of(path):
            yield _read_rated(row, place)


def _read_pair(row: dict[str, Any], place: Place) -> Example:
    singles, overall = "all_preferences_unprocessed", "preference_strength"
    said = [strength_entry(row, overall, place)]  # of the annotators who agree most
    if row.get(singles) not in (None, []):
        said = [
            {**strength_entry(one, "strength", place, at), **kept(one, "justification")}
            for at, one in entries_of(row, singles, place)
        ]
    responses = [text_of(row, f"response_{number}", place) for number in (1, 2)]
    columns = {"data_subset": "preference", **kept(row, "split", overall)}
    return _example(row, responses, said, columns, place)


def _read_rated(row: dict[str, Any], place: Place) -> Example:
    """Read an answer with its ratings for helpfulness; the other attributes pass through."""
    field = "helpfulness"
    value = row.get(field)
    values = value if isinstance(value, list) else [value]
    read_list(values, field, place, f"Give {_FILES}", "rating")
    said = [
        {"response": 0, "rating": float(level_of({field: value}, field, place, 0, 4))}
        for value in values
    ]
    columns = {"data_subset": "ratings", "objective": field, **kept(row, *_ATTRIBUTES[1:])}
    return _example(row, [text_of(row, "response", place)], said, columns, place)


def _example(
    row: dict[str, Any],
    responses: list[str],
    said: list[dict[str, Any]],
    columns: dict[str, Any],
    place: Place,
) -> Example:
    built = {"prompt": read_turns(text_of(row, "prompt", place)), "responses": responses}
    return read_row({**built, "judgements": said, **columns}, file=place.file, line=place.line)


def read_turns(prompt: str) -> list[dict[str, str]]:
    """Read the turns of a prompt as chat messages; the first is the user's and has no mark."""
    first, *parts = _TURN.split(prompt)
    turns = [("User", first), *zip(parts[::2], parts[1::2], strict=True)]
    return [{"role": speaker.lower(), "content": text} for speaker, text in turns]


def _is_list(path: Path) -> bool:
    return isinstance(next(rows_of(path))[1]["helpfulness"], list)


SOURCE = Source(
    name="helpsteer2",
    title="HelpSteer2 and HelpSteer2-Preference",
    licence="CC BY 4.0",
    citation=(
        "Wang, Dong, Delalleau, Zeng, Shen, Egert, Zhang, Sreedhar and Kuchaiev (2024), "
        "HelpSteer2: Open-source dataset for training top-performing reward models, "
        "arXiv:2406.08673; Wang, Bukharin, Delalleau, Egert, Shen, Zeng, Kuchaiev and Dong (2024), "
        "HelpSteer2-Preference: Complementing Ratings with Preferences, arXiv:2410.01257"
    ),
    published="https://huggingface.co/datasets/nvidia/HelpSteer2",
    files=_FILES,
    holds=("comparisons", "ratings", "ties", "abstentions"),
    gives=(
        "pairs of answers with the strength (-3 to 3) that each of several unnamed annotators "
        "gave, ties included; -100, neither can be judged, is an abstention; answers with unnamed "
        "annotators' ratings for helpfulness, 0 to 4"
    ),
    read=_read,
)
