"""UKPConvArg1: crowd workers judge which of two arguments for one side is more convincing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final
from xml.etree import ElementTree

from hidden_context.data.checks import Place
from hidden_context.data.collections.source import Examples, Published, Row, Source
from hidden_context.data.storage.files import GZIP_ERRORS, open_binary
from hidden_context.data.storage.rows import data_suffix
from hidden_context.errors import DataError

_PREFERENCES: Final = {"a1": 1.0, "equal": 0.5, "a2": 0.0}
_PAIR: Final = {
    "topic": "debateMetaData/title",
    "stance": "arg1/stance",
    "argument1": "arg1/text",
    "argument2": "arg2/text",
    "gold_label": "goldLabel",
    "item": "id",
}
"""The columns of a pair, and where they stand within its element of the XML."""

_VOTE: Final = {"annotator": "turkID", "value": "value", "competence": "turkCompetence"}
_COLUMNS: Final = ("topic", "stance", "argument1", "argument2", "votes")


def _read(files: Published) -> Examples:
    """Read each pair of arguments; the prompt is the debate and the side taken."""
    for path in files.paths:
        # One of the published XML files has lost its suffix.
        is_table = data_suffix(path) is not None and files.kind_of(path)
        for row in files.rows_of(path) if is_table else _read_xml(path, files):
            yield row.example(
                prompt="".join(f"{text}\n\n" for text in row.texts("topic", "stance")),
                responses=row.texts("argument1", "argument2"),
                judgements=[_entry(vote) for vote in row.entries("votes")],
                **{name: value for name, value in row.items() if name not in _COLUMNS[2:]},
            )


def _entry(vote: Row) -> dict[str, Any]:
    return {
        "annotator": vote.annotator("annotator"),
        "comparison": [0, 1],
        "preference": _PREFERENCES[vote.choice("value", _PREFERENCES)],
        **vote.numbers("competence"),
    }


def _read_xml(path: Path, files: Published) -> Iterator[Row]:
    """Yield the pairs of an XML file in the form of JSON Lines rows, numbered from 1."""
    number = 0
    with open_binary(path) as file:
        try:
            for _, element in ElementTree.iterparse(file):
                if element.tag == "annotatedArgumentPair":
                    number += 1
                    pair = {name: element.findtext(at) for name, at in _PAIR.items()}
                    said = element.iterfind("mTurkAssignments/mTurkAssignment")
                    votes = [
                        {name: vote.findtext(at) for name, at in _VOTE.items()} for vote in said
                    ]
                    yield Row({**pair, "votes": votes}, Place(path, number), files)
                    element.clear()
        except (ElementTree.ParseError, *GZIP_ERRORS) as error:
            problem = f"the XML cannot be read after pair {number}: {error}"
            remedy = "Download the file again"
            raise DataError(problem, file=path, remedy=remedy) from error
    if number == 0:
        raise files.error("the file has no 'annotatedArgumentPair'", path)


SOURCE = Source(
    title="UKPConvArg1",
    licence="CC BY 4.0",
    citation=(
        "Habernal and Gurevych (2016), Which argument is more convincing? Analyzing and predicting "
        "convincingness of Web arguments using bidirectional LSTM, ACL, pages 1589-1599"
    ),
    published="https://github.com/UKPLab/acl2016-convincing-arguments",
    files=(
        "the XML files of data/UKPConvArg1-full-XML (or -Strict-XML); the CSV files have no votes "
        "of single people"
    ),
    columns={"pairs": _COLUMNS},
    holds=("comparisons", "ties", "annotators"),
    gives=(
        "pairs of arguments on one side of a debate, about five votes each by named crowd workers, "
        "with ties; the worker's competence (MACE) beside each vote; the debate in the column topic"
    ),
    examples=_read,
)
