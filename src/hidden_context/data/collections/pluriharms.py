"""PluriHarms: a hundred people rate prompts for harm; what they say of themselves is published."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from hidden_context.data.annotators import Covariates
from hidden_context.data.checks import Place
from hidden_context.data.collections.published import (
    number_of,
    person_of,
    rows_of,
    sort_files,
    text_of,
)
from hidden_context.data.collections.source import LeftOut, Source
from hidden_context.data.example import Example
from hidden_context.data.importers import read_row
from hidden_context.errors import DataError

_KINDS = {
    "people": ("Participant_ID", "Rating_1"),
    "prompts": ("Question_Index", "Question_Content"),
}
_FILES = "data/annotations.csv and data/prompts.csv, one of each"
_UNSURE = (None, "", "Unsure", "nan", "NaN")


def _read(files: Sequence[Path], left_out: LeftOut) -> Iterator[Example]:
    """Read each prompt as a text with a rating, or an abstention, of each person."""
    people_file, prompts_file = _two_files(files)
    people = list(rows_of(people_file))
    _check_once(people, "Participant_ID")
    prompts = list(rows_of(prompts_file))
    _check_once(prompts, "Question_Index")
    for place, row in prompts:
        field = f"Rating_{text_of(row, 'Question_Index', place)}"
        features = [name for name in row if name not in _KINDS["prompts"]]
        yield read_row(
            {
                "prompt": "",
                "responses": [text_of(row, "Question_Content", place)],
                "judgements": [_entry(said, field, where) for where, said in people],
                "objective": "harm",
                "item": row["Question_Index"],
                **{name: number_of(row, name, place) for name in features},
            },
            file=place.file,
            line=place.line,
        )


def _check_once(rows: Sequence[tuple[Place, dict[str, Any]]], field: str) -> None:
    """Refuse two rows of one number: ratings are told apart by it."""
    seen: set[str] = set()
    for place, row in rows:
        number = person_of(row, field, place)
        if number in seen:
            raise place.error(f"{number} stands on an earlier line too", field, f"Give {_FILES}")
        seen.add(number)


def _entry(said: dict[str, Any], field: str, place: Place) -> dict[str, Any]:
    who = {"annotator": person_of(said, "Participant_ID", place)}
    if field not in said:
        raise place.error("the column is missing", field, f"Give {_FILES}")
    if said[field] in _UNSURE:
        return {**who, "abstains": True}
    return {**who, "response": 0, "rating": number_of(said, field, place, 0, 100)}


def _read_annotators(files: Sequence[Path]) -> Covariates:
    """Read what people say of themselves, as groups, and three factors of a survey, as numbers."""
    people_file, _ = _two_files(files)
    known: Covariates = {}
    for place, row in rows_of(people_file):
        values = known[person_of(row, "Participant_ID", place)] = {}
        for name, value in row.items():
            if name.startswith("Factor_") and value is not None:
                values[name] = number_of(row, name, place)
            elif not name.startswith(("Participant_", "Rating_", "Trial_")) and value is not None:
                values[name] = str(value).strip()
    return known


def _two_files(files: Sequence[Path]) -> tuple[Path, Path]:
    found = sort_files(files, _KINDS, f"Give {_FILES}")
    for paths in found.values():
        if len(paths) != 1:
            raise DataError(
                f"one file with people's ratings and one with prompts are needed, not "
                f"{len(found['people'])} and {len(found['prompts'])}",
                remedy=f"Give {_FILES}",
            )
    return found["people"][0], found["prompts"][0]


SOURCE = Source(
    name="pluriharms",
    title="PluriHarms",
    licence="MIT",
    citation=(
        "Li, Mire, Fleisig, Pyatkin, Collins, Sap and Levine (2026), PluriHarms: Benchmarking the "
        "Full Spectrum of Human Judgments on AI Harm, ICLR"
    ),
    published="https://github.com/guldenakkuss/PluriHarms-release",
    files=_FILES,
    holds=("ratings", "abstentions", "annotators", "covariates"),
    gives=(
        "150 prompts, each rated for harm from 0 to 100 (the most harmful) by 100 people; unsure "
        "is an abstention; demographics and three psychological factors of each person"
    ),
    read=_read,
    read_annotators=_read_annotators,
)
