"""HelpSteer3: pairs of answers in many languages, in seven levels by up to three people each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from hidden_context.data.checks import Place, read_list
from hidden_context.data.collections.helpsteer2 import strength_entry
from hidden_context.data.collections.published import (
    entries_of,
    kept,
    rows_of,
    sort_files,
    text_of,
)
from hidden_context.data.collections.source import LeftOut, Source
from hidden_context.data.example import Example
from hidden_context.data.importers import read_row

_COLUMNS = ("context", "response1", "response2", "individual_preference")
_FILES = "preference/train.jsonl.gz and preference/validation.jsonl.gz"


def _read(files: Sequence[Path], left_out: LeftOut) -> Iterator[Example]:
    """Read each pair with every single preference."""
    for path in sort_files(files, {"preference": _COLUMNS}, f"Give {_FILES}")["preference"]:
        for place, row in rows_of(path):
            if row.get("individual_preference") in (None, []):
                left_out["rows without the preference of a single person"] += 1
                continue
            yield _example(row, place)


def _example(row: dict[str, Any], place: Place) -> Example:
    return read_row(
        {
            "prompt": read_list(row.get("context"), "context", place, f"Give {_FILES}", "message"),
            "responses": [text_of(row, f"response{number}", place) for number in (1, 2)],
            "judgements": [
                {**strength_entry(one, "score", place, at), **kept(one, "reasoning")}
                for at, one in entries_of(row, "individual_preference", place)
            ],
            **kept(row, "domain", "language", "overall_preference"),
        },
        file=place.file,
        line=place.line,
    )


SOURCE = Source(
    name="helpsteer3",
    title="HelpSteer3-Preference",
    licence="CC BY 4.0",
    citation=(
        "Wang, Zeng, Delalleau, Shin, Soares, Bukharin, Evans, Dong and Kuchaiev (2025), "
        "HelpSteer3-Preference: Open Human-Annotated Preference Data across Diverse Tasks and "
        "Languages, arXiv:2505.11475"
    ),
    published="https://huggingface.co/datasets/nvidia/HelpSteer3",
    files=_FILES,
    holds=("comparisons", "ties"),
    gives=(
        "pairs of answers with the strength (-3 to 3) that each of up to three unnamed annotators "
        "gave, ties included; domain and language of each"
    ),
    read=_read,
)
