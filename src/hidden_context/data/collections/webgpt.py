"""WebGPT comparisons: people compare two answers written with quotes from the web."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, TypeAlias

from hidden_context.data.checks import Place, describe
from hidden_context.data.collections.source import Examples, Published, Row, Source, user
from hidden_context.data.example import Example
from hidden_context.data.storage.files import iter_lines, loads
from hidden_context.data.storage.rows import data_suffix
from hidden_context.errors import DataError

_BOM: Final = b"\xef\xbb\xbf"

# The row or record that holds an answer, and the suffix of its field names.
_Side: TypeAlias = "tuple[Row, str]"


def _read(files: Published) -> Examples:
    """Read each comparison; its score, from -1 to 1, is the margin of the first answer."""
    for path in files.paths:
        if _is_raw(path):
            yield from map(_example, _records(path, files))
        elif files.kind_of(path):
            for row in files.rows_of(path):
                yield _example([(row, "_0"), (row, "_1")])


def _example(sides: Sequence[_Side]) -> Example:
    row = sides[0][0]
    question = row.object("question")
    passed = {"item": question.get("id"), "data_subset": question.get("dataset")}
    for number, (holder, end) in enumerate(sides):
        passed[f"quotes_{number}"] = holder.get(f"quotes{end}")
    scores = [holder.number(f"score{end}", -1, 1) for holder, end in sides]
    if abs(sum(scores)) > 1e-6:
        names = ", ".join(f"{holder.at}score{end}" for holder, end in sides)
        problem = f"the scores of a pair have to add up to 0, not {scores[0]:g} and {scores[1]:g}"
        raise row.place.error(problem, names, row.files.remedy)
    vote = {"preference": (1 + (scores[0] > 0) - (scores[0] < 0)) / 2, "margin": scores[0]}
    return row.example(
        prompt=user(question.text("full_text")),
        responses=[holder.text(f"answer{end}") for holder, end in sides],
        judgements=[{"comparison": [0, 1], **vote}],
        **{name: value for name, value in passed.items() if value is not None},
    )


def _is_raw(path: Path) -> bool:
    """Return whether each line is a pair of records, the form that the authors publish."""
    if data_suffix(path) not in (".jsonl", ".jsonl.gz"):
        return False
    _, first = next(iter_lines(path), (0, b""))
    return first.removeprefix(_BOM).lstrip().startswith(b"[")


def _records(path: Path, files: Published) -> Iterator[list[_Side]]:
    """Yield the two records of each line, which answer one question."""
    for number, line in iter_lines(path):
        try:
            pair = loads(line)
        except ValueError as error:
            raise DataError(f"not valid JSON: {error}", file=path, line=number) from error
        if not isinstance(pair, list) or [type(one) for one in pair] != [dict, dict]:
            problem = f"a pair of records is needed, not {describe(pair)}"
            raise DataError(problem, file=path, line=number, remedy=files.remedy)
        place = Place(path, number)
        first, second = (Row(one, place, files, f"[{n}].") for n, one in enumerate(pair))
        if first.get("question") != second.get("question"):
            problem = "the two records answer different questions"
            raise place.error(problem, "[0].question, [1].question", files.remedy)
        yield [(first, ""), (second, "")]


SOURCE = Source(
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
    files=(
        "comparisons.jsonl, whose lines are pairs of records; or the rows of webgpt_comparisons, "
        "as parquet or JSON Lines"
    ),
    columns={"comparisons": ("question", "answer_0", "answer_1", "score_0", "score_1")},
    holds=("comparisons", "ties"),
    gives=(
        "pairs of answers to a question, one comparison each without an annotator: its margin is "
        "the published score, from -1 (the second is better) to 1 (the first), and 0 is a tie; the "
        "quotes behind the answers as columns, the data set of the question in data_subset"
    ),
    examples=_read,
)
