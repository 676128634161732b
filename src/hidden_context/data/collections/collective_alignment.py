"""Collective Alignment 1: four answers ranked by people's own taste and by what is best for all."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypeAlias

from hidden_context.data.annotators import Covariates
from hidden_context.data.checks import Place, describe
from hidden_context.data.collections.choices import ranks_of
from hidden_context.data.collections.fields import id_of, object_of
from hidden_context.data.collections.published import (
    choice_of,
    entries_of,
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

_KINDS: Final = {
    "comparisons": ("prompt_id", "prompt", "responses", "metadata"),
    "annotators": ("annotator_id", "demographics"),
}
_FILES = (
    "comparisons.jsonl, and for what is known of the annotators annotators.jsonl or "
    "merged_comparisons_annotators.jsonl"
)
_REMEDY = f"Give {_FILES}"
OBJECTIVES: Final = ("personal", "world")
_ROLES: Final = {
    "developer": "system",  # as system messages were renamed for the release
    **{role: role for role in ("system", "user", "assistant")},
}
_SAID: Final = ("importance", "representativeness", "subjectivity")
_ABOUT: Final = (
    *("age", "gender", "education_level", "country_of_residence", "generative_ai_usage"),
    "ai_concern_level",
)
_UNKNOWN = (None, "", "Prefer not to say")
_NO_ORDER = "rankings that are no order of the answers"

_Messages: TypeAlias = "list[dict[str, str]]"


def _read(files: Sequence[Path], left_out: LeftOut) -> Iterator[Example]:
    """Read each prompt twice: with the rankings by people's own taste, and by what is best for all.

    Only some people were asked for their own taste, and for answers that are unacceptable, which
    pass through: an empty list is a question that was not asked.
    """
    found = sort_files(files, _KINDS, _REMEDY)
    if not found["comparisons"]:
        raise DataError("annotators alone hold no prompts", file=files[0], remedy=_REMEDY)
    seen: set[str] = set()
    for path in found["comparisons"]:
        for place, row in rows_of(path):
            name = id_of(row, "prompt_id", place)
            if name in seen:
                raise place.error(f"{name!r} stands twice", "prompt_id", _REMEDY)
            seen.add(name)
            yield from _examples(row, place, left_out)


def _examples(row: Mapping[str, Any], place: Place, left_out: LeftOut) -> Iterator[Example]:
    prompt = _messages(object_of(row, "prompt", place), "prompt.", place)
    answers = {
        text_of(answer, "response_index", place, at).strip(): _messages(answer, at, place)
        for at, answer in entries_of(row, "responses", place)
    }
    if len(answers) < len(row["responses"]):
        raise place.error("two answers have one 'response_index'", "responses", _REMEDY)
    assessments = list(entries_of(object_of(row, "metadata", place), "assessments", place))
    for objective in OBJECTIVES:
        entries = [
            entry
            for at, said in assessments
            for entry in _rankings(said, f"metadata.{at}", objective, answers, place, left_out)
        ]
        if not entries:
            left_out[f"prompts without a {objective} ranking"] += 1
            continue
        yield read_row(
            {
                "prompt": prompt,
                "responses": list(answers.values()),
                "judgements": entries,
                "objective": objective,
                "data_subset": objective,
                "item": row["prompt_id"],
            },
            file=place.file,
            line=place.line,
        )


def _rankings(
    said: Mapping[str, Any],
    at: str,
    objective: str,
    answers: Mapping[str, _Messages],
    place: Place,
    left_out: LeftOut,
) -> Iterator[dict[str, Any]]:
    """Read the rankings of one assessment by one objective; none where it was not asked for."""
    who = person_of(said, "annotator_id", place, at)
    blocks = object_of(said, "ranking_blocks", place, at)
    at += "ranking_blocks."
    if blocks.get(objective) in (None, []):
        left_out[f"assessments without a {objective} ranking"] += 1
        return
    unacceptable = _unacceptable(blocks)
    for inner, block in entries_of(blocks, objective, place):
        ranks = ranks_of(text_of(block, "ranking", place, at + inner), tuple(answers))
        if ranks is None:
            left_out[_NO_ORDER] += 1
            continue
        yield {
            "annotator": who,
            "ranks": ranks,
            **{name: _plain(value) for name, value in kept(said, *_SAID).items()},
            **kept(block, "rationale"),
            **({"unacceptable": unacceptable} if unacceptable else {}),
        }


def _unacceptable(blocks: Mapping[str, Any]) -> list[str]:
    """List what is said of answers that are unacceptable, as it is published."""
    said: list[str] = []
    for block in blocks.get("unacceptable") or ():
        rating = block.get("rating") if isinstance(block, Mapping) else None
        said += [rating] if isinstance(rating, str) else rating or ()
    return said


def _messages(holder: Mapping[str, Any], at: str, place: Place) -> _Messages:
    return [
        {
            "role": _ROLES[choice_of(message, "role", place, tuple(_ROLES), at + inner)],
            "content": text_of(message, "content", place, at + inner),
        }
        for inner, message in entries_of(holder, "messages", place)
    ]


def _plain(value: Any) -> Any:
    """Write a text in plain letters: the words of a scale are published in mathematical bold."""
    return unicodedata.normalize("NFKC", value) if isinstance(value, str) else value


def _read_annotators(files: Sequence[Path]) -> Covariates:
    """Read who the annotators are; the text about an ideal model is none of it."""
    known: Covariates = {}
    for path in sort_files(files, _KINDS, _REMEDY)["annotators"]:
        for place, row in rows_of(path):
            who, told = person_of(row, "annotator_id", place), object_of(row, "demographics", place)
            values = {name: _plain(told.get(name)) for name in _ABOUT}
            values = {name: value for name, value in values.items() if value not in _UNKNOWN}
            for name, value in values.items():
                if not isinstance(value, (str, int, float)) or isinstance(value, bool):
                    problem = f"text or a number is needed, not {describe(value)}"
                    raise place.error(problem, f"demographics.{name}", _REMEDY)
            if known.setdefault(who, values) != values:
                problem = f"{who!r} has other demographics on an earlier row"
                raise place.error(problem, "demographics", _REMEDY)
    return known


SOURCE = Source(
    name="collective_alignment",
    title="Collective Alignment 1 (CoVal)",
    licence="CC BY 4.0",
    citation=(
        "OpenAI (2025), Collective alignment: public input on our Model Spec, "
        "https://openai.com/index/collective-alignment-aug-2025-updates"
    ),
    published="https://huggingface.co/datasets/openai/collective-alignment-1",
    files=_FILES,
    holds=("rankings", "ties", "annotators", "covariates"),
    gives=(
        "rankings of four answers, ties included, by about 1,000 named annotators: all rank by "
        "what is best for the world, some by their own taste too; world and personal have a row "
        "each: choose one with --data_subset personal; rationales, and which answers are "
        "unacceptable, pass through; demographics of each annotator"
    ),
    read=_read,
    read_annotators=_read_annotators,
)
