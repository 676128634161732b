"""DICES: is the last reply of a conversation unsafe, by raters of many backgrounds."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from hidden_context.data.annotators import Covariates
from hidden_context.data.checks import Place, read_list
from hidden_context.data.collections.published import (
    choice_of,
    kept,
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
    "ratings": ("rater_id", "item_id", "context", "response", "Q_overall"),
    "conversations": ("item", "context", "response", "unsafe"),
}
_FILES = (
    "350/diverse_safety_adversarial_dialog_350.csv or "
    "990/diverse_safety_adversarial_dialog_990.csv, one of them, as they number their raters alike"
)
_ANSWERS = {"Yes": 1.0, "No": 0.0}
_ABOUT_ITEMS = ("degree_of_harm", "harm_type", "safety_gold", "expert_unsafe")
_TURN = re.compile(r"^(USER|LAMDA):[ ]?", re.MULTILINE)
_ROLES = {"USER": "user", "LAMDA": "assistant"}


def _read(files: Sequence[Path], left_out: LeftOut) -> Iterator[Example]:
    """Read each conversation with what every rater said of its last reply: 1 is unsafe, 0 safe."""
    path, kind = _one_file(files)
    if kind == "conversations":
        for place, row in rows_of(path):
            answers = read_list(row.get("unsafe"), "unsafe", place, f"Give {_FILES}", "answer")
            said = [_entry(str(n), {"unsafe": a}, "unsafe", place) for n, a in enumerate(answers)]
            yield _example(row, row.get("item"), said, place)
        return
    # By the texts too: what was rated is told by them, not by a number alone.
    first: dict[tuple[Any, ...], tuple[Place, dict[str, Any]]] = {}
    entries: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for place, row in rows_of(path):
        item = (text_of(row, "item_id", place), row["context"], row["response"])
        first.setdefault(item, (place, row))
        who = person_of(row, "rater_id", place)
        entries.setdefault(item, []).append(_entry(who, row, "Q_overall", place))
    for item, (place, row) in first.items():
        yield _example(row, item[0], entries[item], place)


def _example(
    row: Mapping[str, Any], item: Any, said: list[dict[str, Any]], place: Place
) -> Example:
    context = "" if row.get("context") is None else text_of(row, "context", place)
    return read_row(
        {
            "prompt": _read_turns(context),
            "responses": [text_of(row, "response", place)],
            "judgements": said,
            "objective": "unsafe",
            "item": item,
            **kept(row, *_ABOUT_ITEMS),
        },
        file=place.file,
        line=place.line,
    )


def _entry(who: str, row: Mapping[str, Any], field: str, place: Place) -> dict[str, Any]:
    if row.get(field) in (None, "", "Unsure"):
        return {"annotator": who, "abstains": True}
    said = choice_of(row, field, place, ("Yes", "No", "Unsure"))
    return {"annotator": who, "response": 0, "rating": _ANSWERS[said]}


def _read_turns(context: str) -> list[dict[str, str]]:
    """Read turns, each of which begins with its speaker, as chat messages; the user begins."""
    before, *parts = _TURN.split(context)
    turns = [("USER", before)] if before.strip() else []
    turns += zip(parts[::2], parts[1::2], strict=True)
    return [{"role": _ROLES[speaker], "content": text.rstrip("\n")} for speaker, text in turns]


def _read_annotators(files: Sequence[Path]) -> Covariates:
    """Read the demographics that the rows of the CSV file repeat for each rater."""
    path, kind = _one_file(files)
    known: Covariates = {}
    if kind == "conversations":
        return known
    for place, row in rows_of(path):
        who = person_of(row, "rater_id", place)
        values: dict[str, str | float] = {
            name: str(value)
            for name, value in row.items()
            if name.startswith("rater_") and name != "rater_id" and value is not None
        }
        if known.setdefault(who, values) != values:
            problem = f"rater {who} is described otherwise here than on an earlier line"
            raise place.error(problem, "rater_id", f"Give {_FILES}")
    return known


def _one_file(files: Sequence[Path]) -> tuple[Path, str]:
    found = sort_files(files, _KINDS, f"Give {_FILES}")
    paths = [(path, kind) for kind in _KINDS for path in found[kind]]
    if len(paths) != 1:
        raise DataError(f"one file is needed, not {len(paths)}", remedy=f"Give {_FILES}")
    return paths[0]


SOURCE = Source(
    name="dices",
    title="DICES",
    licence="CC BY 4.0",
    citation=(
        "Aroyo, Taylor, Diaz, Homan, Parrish, Serapio-Garcia, Prabhakaran and Wang (2023), DICES "
        "Dataset: Diversity in Conversational AI Evaluation for Safety, NeurIPS Datasets and "
        "Benchmarks"
    ),
    published="https://github.com/google-research-datasets/dices-dataset",
    files=_FILES,
    holds=("ratings", "abstentions", "annotators", "covariates"),
    gives=(
        "conversations whose last reply is rated by 123 (of 350) or some 70 (of 990) named "
        "raters: 1 unsafe, 0 safe, unsure is an abstention; the raters' demographics"
    ),
    read=_read,
    read_annotators=_read_annotators,
)
