"""PKU-SafeRLHF: which of two answers is more helpful, and which is safer, judged apart."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from hidden_context.data.checks import Place
from hidden_context.data.collections.published import kept, level_of, rows_of, sort_files, text_of
from hidden_context.data.collections.source import LeftOut, Source
from hidden_context.data.example import Example
from hidden_context.data.importers import read_row

OBJECTIVES: Final = {"helpful": "better_response_id", "harmless": "safer_response_id"}
_COLUMNS = ("prompt", "response_0", "response_1", *OBJECTIVES.values())
_FILES = "data/*/train.jsonl or test.jsonl"
# Columns of each response, by what they are called behind ``response_0_``, or around it.
_OF_RESPONSES = (
    "is_response_{}_safe",
    "response_{}_severity_level",
    "response_{}_harm_category",
    "response_{}_source",
)


def _read(files: Sequence[Path], left_out: LeftOut) -> Iterator[Example]:
    """Read each pair as two examples: what is more helpful, and what is safer."""
    for path in sort_files(files, {"pairs": _COLUMNS}, f"Give {_FILES}")["pairs"]:
        for place, row in rows_of(path):
            passed = _passed(row, place)
            for objective, field in OBJECTIVES.items():
                if row.get(field) is None:
                    left_out[f"pairs of which nobody said which is {objective}"] += 1
                    continue
                first = level_of(row, field, place, 0, 1) == 0
                yield read_row(
                    {
                        "prompt": [{"role": "user", "content": text_of(row, "prompt", place)}],
                        "responses": [text_of(row, f"response_{n}", place) for n in range(2)],
                        "judgements": [{"comparison": [0, 1], "preference": float(first)}],
                        "objective": objective,
                        "data_subset": objective,
                        **passed,
                    },
                    file=place.file,
                    line=place.line,
                )


def _passed(row: dict[str, Any], place: Place) -> dict[str, Any]:
    """Return the columns beside the two choices: whether each answer is safe, how severe it is."""
    names = [name.format(number) for number in range(2) for name in _OF_RESPONSES]
    passed = kept(row, "prompt_source", *names)
    for number in range(2):
        harms = passed.get(_OF_RESPONSES[2].format(number))
        if isinstance(harms, dict):  # each category with true or false
            passed[_OF_RESPONSES[2].format(number)] = [
                name for name, is_so in harms.items() if is_so
            ]
        safe, severity = (name.format(number) for name in _OF_RESPONSES[:2])
        if not isinstance(passed.get(safe, True), bool):
            problem = f"true or false is needed, not {passed[safe]!r}"
            raise place.error(problem, safe, "Give the file as it is published")
        if severity in passed:
            passed[severity] = level_of(row, severity, place, 0, 3)
    return passed


SOURCE = Source(
    name="pku_saferlhf",
    title="PKU-SafeRLHF",
    licence="CC BY-NC 4.0",
    citation=(
        "Ji, Hong, Zhang, Chen, Dai, Zheng, Qiu, Zhou, Wang, Li, Han, Guo and Yang (2025), "
        "PKU-SafeRLHF: Towards Multi-Level Safety Alignment for LLMs with Human Preference, ACL"
    ),
    published="https://huggingface.co/datasets/PKU-Alignment/PKU-SafeRLHF",
    files=_FILES,
    holds=("comparisons",),
    gives=(
        "pairs of answers in two rows each: which is more helpful (better_response_id), objective "
        "and data_subset helpful, and which is safer (safer_response_id), harmless; one vote each, "
        "by nobody named; whether each answer is safe, and how severe, as columns"
    ),
    read=_read,
)
