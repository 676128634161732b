"""UKPConvArg1: which of two arguments of one side of a debate convinces more, by crowd workers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from hidden_context.data.checks import Place
from hidden_context.data.collections.published import (
    choice_of,
    entries_of,
    number_of,
    person_of,
    rows_of,
    sort_files,
    text_of,
)
from hidden_context.data.collections.source import LeftOut, Source
from hidden_context.data.example import Example
from hidden_context.data.files import GZIP_ERRORS, open_binary
from hidden_context.data.importers import read_row
from hidden_context.data.rows import data_suffix
from hidden_context.errors import DataError

_PREFERENCES = {"a1": 1.0, "equal": 0.5, "a2": 0.0}
_COLUMNS = ("topic", "stance", "argument1", "argument2", "votes")
_FILES = (
    "the XML files of data/UKPConvArg1-full-XML (or -Strict-XML); the CSV files have no votes of "
    "single people"
)


def _read(files: Sequence[Path], left_out: LeftOut) -> Iterator[Example]:
    """Read each pair of arguments, whose prompt is the debate and the side taken."""
    for path in files:
        # One of the published XML files has lost its suffix.
        rows = _read_xml(path) if data_suffix(path) is None else _read_json_lines(path)
        for place, row in rows:
            yield _example(row, place)


def _example(row: Mapping[str, Any], place: Place) -> Example:
    topic, stance = text_of(row, "topic", place), text_of(row, "stance", place)
    return read_row(
        {
            "prompt": f"{topic}\n\n{stance}\n\n",
            "responses": [text_of(row, f"argument{number}", place) for number in (1, 2)],
            "judgements": [_entry(vote, place, at) for at, vote in entries_of(row, "votes", place)],
            **{name: value for name, value in row.items() if name not in _COLUMNS[2:]},
        },
        file=place.file,
        line=place.line,
    )


def _entry(vote: Mapping[str, Any], place: Place, at: str) -> dict[str, Any]:
    said = choice_of(vote, "value", place, tuple(_PREFERENCES), at)
    entry = {
        "annotator": person_of(vote, "annotator", place, at),
        "comparison": [0, 1],
        "preference": _PREFERENCES[said],
    }
    if vote.get("competence") is not None:
        entry["competence"] = number_of(vote, "competence", place, prefix=at)
    return entry


def _read_json_lines(path: Path) -> Iterator[tuple[Place, dict[str, Any]]]:
    sort_files([path], {"pairs": _COLUMNS}, f"Give {_FILES}")
    return rows_of(path)


def _read_xml(path: Path) -> Iterator[tuple[Place, dict[str, Any]]]:
    """Yield the pairs of a file as the rows of JSON Lines would be, with their numbers from 1."""
    number = 0
    with open_binary(path) as file:
        try:
            for _, element in ElementTree.iterparse(file):
                if element.tag == "annotatedArgumentPair":
                    number += 1
                    yield Place(path, number), _read_pair(element)
                    element.clear()
        except (ElementTree.ParseError, *GZIP_ERRORS) as error:
            problem = f"the XML cannot be read after pair {number}: {error}"
            remedy = "Download the file again"
            raise DataError(problem, file=path, remedy=remedy) from error
    if number == 0:
        problem = "the file has no 'annotatedArgumentPair'"
        raise DataError(problem, file=path, remedy=f"Give {_FILES}")


def _read_pair(pair: ElementTree.Element) -> dict[str, Any]:
    return {
        "topic": pair.findtext("debateMetaData/title"),
        "stance": pair.findtext("arg1/stance"),
        "argument1": pair.findtext("arg1/text"),
        "argument2": pair.findtext("arg2/text"),
        "gold_label": pair.findtext("goldLabel"),
        "item": pair.findtext("id"),
        "votes": [
            {
                "annotator": vote.findtext("turkID"),
                "value": vote.findtext("value"),
                "competence": vote.findtext("turkCompetence"),
            }
            for vote in pair.iterfind("mTurkAssignments/mTurkAssignment")
        ],
    }


SOURCE = Source(
    name="ukpconvarg",
    title="UKPConvArg1",
    licence="CC BY 4.0",
    citation=(
        "Habernal and Gurevych (2016), Which argument is more convincing? Analyzing and predicting "
        "convincingness of Web arguments using bidirectional LSTM, ACL, pages 1589-1599"
    ),
    published="https://github.com/UKPLab/acl2016-convincing-arguments",
    files=_FILES,
    holds=("comparisons", "ties", "annotators"),
    gives=(
        "pairs of arguments for one side of a debate, about five votes each by named crowd "
        "workers, with ties; the worker's competence (MACE) beside each vote; debates in the "
        "column topic"
    ),
    read=_read,
)
