"""PandaLM's test set: three people compare two answers to an instruction."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from hidden_context.data.checks import Place
from hidden_context.data.collections.published import kept, level_of, rows_of, sort_files, text_of
from hidden_context.data.collections.source import LeftOut, Source
from hidden_context.data.example import Example
from hidden_context.data.importers import read_row

_ANNOTATORS: Final = ("annotator1", "annotator2", "annotator3")
_COLUMNS: Final = ("instruction", "input", "response1", "response2", *_ANNOTATORS)
_FILES: Final = "data/testset-v1.json; the files of judgements by models have no annotators"
_PREFERENCES: Final = (0.5, 1.0, 0.0)  # of the first answer where 0, 1 or 2 is said


def _read(files: Sequence[Path], left_out: LeftOut) -> Iterator[Example]:
    """Read each pair with the votes of the three people; 0 says that both are as good: a tie."""
    for path in sort_files(files, {"pairs": _COLUMNS}, f"Give {_FILES}")["pairs"]:
        for place, row in rows_of(path):
            yield read_row(
                {
                    "prompt": [{"role": "user", "content": _prompt_of(row, place)}],
                    "responses": [text_of(row, f"response{number}", place) for number in (1, 2)],
                    "judgements": [
                        {
                            "annotator": name,
                            "comparison": [0, 1],
                            "preference": _PREFERENCES[level_of(row, name, place, 0, 2)],
                        }
                        for name in _ANNOTATORS
                    ],
                    "item": row.get("idx"),
                    **kept(row, "motivation_app", "cmp_key"),
                },
                file=place.file,
                line=place.line,
            )


def _prompt_of(row: Mapping[str, Any], place: Place) -> str:
    """Return the instruction, and behind a blank line its input where it has one.

    The published file writes NaN for no input.
    """
    instruction, given = text_of(row, "instruction", place), row.get("input")
    if given is None or given == "" or given != given:
        return instruction
    return f"{instruction}\n\n{text_of(row, 'input', place)}"


SOURCE = Source(
    name="pandalm",
    title="PandaLM test set",
    licence="Apache 2.0",
    citation=(
        "Wang, Yu, Yao, Zeng, Yang, Wang, Chen, Jiang, Xie, Wang, Xie, Ye, Zhang and Zhang (2024), "
        "PandaLM: An Automatic Evaluation Benchmark for LLM Instruction Tuning Optimization, ICLR"
    ),
    published="https://github.com/WeOpenML/PandaLM",
    files=_FILES,
    holds=("comparisons", "ties", "annotators"),
    gives=(
        "pairs of answers to 999 instructions, a vote or a tie by each of three annotators, who go "
        "by the names of their columns; pairs they disagreed on much were left out before "
        "publication; the application that an instruction is for, and the two models (cmp_key, "
        "the first answer's first), as columns"
    ),
    read=_read,
)
