"""WebGPT comparisons: which of two answers, written with quotes from the web, is better."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypeAlias

from hidden_context.data.checks import Place, describe
from hidden_context.data.collections.published import kept, number_of, rows_of, sort_files, text_of
from hidden_context.data.collections.source import LeftOut, Source
from hidden_context.data.example import Example
from hidden_context.data.files import iter_lines
from hidden_context.data.importers import read_row
from hidden_context.data.rows import data_suffix
from hidden_context.data.unique_names import loads
from hidden_context.errors import DataError

_COLUMNS: Final = ("question", "answer_0", "answer_1", "score_0", "score_1")
_FILES: Final = (
    "comparisons.jsonl, whose lines are pairs of records; or the rows of webgpt_comparisons, as "
    "parquet or JSON Lines"
)
_REMEDY: Final = f"Give {_FILES}"
_BOM: Final = b"\xef\xbb\xbf"

# Where an answer stands: what holds it, and what its fields have before and behind their names.
_Side: TypeAlias = "tuple[Mapping[str, Any], str, str]"


def _read(files: Sequence[Path], left_out: LeftOut) -> Iterator[Example]:
    """Read each comparison; its score, from -1 to 1, is the margin of the first answer."""
    for path in files:
        for place, sides in _records(path) if _is_raw(path) else _rows(path):
            yield _example(sides, place)


def _example(sides: Sequence[_Side], place: Place) -> Example:
    record, before, _ = sides[0]
    question = record.get("question")
    if not isinstance(question, Mapping):
        problem = f"a question with its 'full_text' is needed, not {describe(question)}"
        raise place.error(problem, f"{before}question", _REMEDY)
    text = text_of(question, "full_text", place, f"{before}question.")
    passed = {"item": question.get("id"), "data_subset": question.get("dataset")}
    for number, (holder, _, behind) in enumerate(sides):
        passed[f"quotes_{number}"] = holder.get(f"quotes{behind}")
    score = _score(sides, place)
    return read_row(
        {
            "prompt": [{"role": "user", "content": text}],
            "responses": [text_of(one, f"answer{end}", place, start) for one, start, end in sides],
            "judgements": [
                {
                    "comparison": [0, 1],
                    "preference": 1.0 if score > 0 else 0.0 if score < 0 else 0.5,
                    "margin": score,
                }
            ],
            **kept(passed, *passed),
        },
        file=place.file,
        line=place.line,
    )


def _score(sides: Sequence[_Side], place: Place) -> float:
    """Return by how much the first answer is better; the other's score says the opposite."""
    scores = [number_of(one, f"score{end}", place, -1, 1, start) for one, start, end in sides]
    if abs(sum(scores)) > 1e-6:
        names = ", ".join(f"{start}score{end}" for _, start, end in sides)
        problem = f"the scores of a pair have to add up to 0, not {scores[0]:g} and {scores[1]:g}"
        raise place.error(problem, names, _REMEDY)
    return scores[0]


def _rows(path: Path) -> Iterator[tuple[Place, list[_Side]]]:
    """Yield the two answers of each row."""
    sort_files([path], {"comparisons": _COLUMNS}, _REMEDY)
    for place, row in rows_of(path):
        yield place, [(row, "", "_0"), (row, "", "_1")]


def _is_raw(path: Path) -> bool:
    """Tell whether each line is a pair of records, as the authors publish it."""
    if data_suffix(path) not in (".jsonl", ".jsonl.gz"):
        return False
    _, first = next(iter_lines(path), (0, b""))
    return first.removeprefix(_BOM).lstrip().startswith(b"[")


def _records(path: Path) -> Iterator[tuple[Place, list[_Side]]]:
    """Yield the two records of each line, which are of one question."""
    for number, line in iter_lines(path):
        place = Place(path, number)
        try:
            pair = loads(line)
        except ValueError as error:
            raise DataError(f"not valid JSON: {error}", file=path, line=number) from error
        if not isinstance(pair, list) or [type(one) for one in pair] != [dict, dict]:
            problem = f"a pair of records is needed, not {describe(pair)}"
            raise DataError(problem, file=path, line=number, remedy=_REMEDY)
        if pair[0].get("question") != pair[1].get("question"):
            problem = "the two records are of different questions"
            raise place.error(problem, "[0].question, [1].question", _REMEDY)
        yield place, [(pair[0], "[0].", ""), (pair[1], "[1].", "")]


SOURCE = Source(
    name="webgpt",
    title="WebGPT comparisons",
    licence="not stated",
    citation=(
        "Nakano, Hilton, Balaji, Wu, Ouyang, Kim, Hesse, Jain, Kosaraju, Saunders, Jiang, Cobbe, "
        "Eloundou, Krueger, Button, Knight, Chess and Schulman (2021), WebGPT: Browser-assisted "
        "question-answering with human feedback, arXiv:2112.09332"
    ),
    published=(
        "https://openaipublic.blob.core.windows.net/webgpt-answer-viewer/comparisons.jsonl; as "
        "rows at https://huggingface.co/datasets/openai/webgpt_comparisons"
    ),
    files=_FILES,
    holds=("comparisons", "ties"),
    gives=(
        "pairs of answers to a question, one comparison each by nobody named: its margin is the "
        "published score, from -1 the second is better to 1 the first, and 0 is a tie; the quotes "
        "that the answers rest on as columns, the data set of the question in data_subset"
    ),
    read=_read,
)
