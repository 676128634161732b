"""UltraFeedback: four answers to each prompt, which GPT-4 rated by four aspects and overall."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any, Final, TypeAlias

from hidden_context.data.checks import Place, describe, read_list
from hidden_context.data.collections.published import (
    entries_of,
    kept,
    number_of,
    rows_of,
    sort_files,
    text_of,
)
from hidden_context.data.collections.source import LeftOut, Source
from hidden_context.data.example import Example
from hidden_context.data.importers import read_row
from hidden_context.errors import DataError

_KINDS: Final = {
    "answers": ("instruction", "completions"),
    "pairs": ("prompt", "chosen", "rejected", "chosen-rating", "rejected-rating"),
}
_FILES = (
    "the JSON Lines of openbmb/UltraFeedback, such as evol_instruct.jsonl, or the parquet file of "
    "argilla/ultrafeedback-binarized-preferences-cleaned"
)
_REMEDY = f"Give {_FILES}"
JUDGE: Final = "GPT-4"
ASPECTS: Final = ("instruction_following", "honesty", "truthfulness", "helpfulness")
_NOT_APPLICABLE = "N/A"
_BEST: Final = {"overall": 10, **dict.fromkeys(ASPECTS, 5)}
_TOO_GOOD = "overall ratings of 10 for answers with low ratings, a known error of the first version"
_EMPTY = "prompts without answers"

_Entry: TypeAlias = "dict[str, Any]"


def _read(files: Sequence[Path], left_out: LeftOut) -> Iterator[Example]:
    """Read each prompt with its answers once for each aspect, and overall; or pairs of answers."""
    found = sort_files(files, _KINDS, _REMEDY)
    if found["answers"] and found["pairs"]:
        problem = "the files hold the same ratings twice, single ones and their means"
        raise DataError(problem, file=found["pairs"][0], remedy=_REMEDY)
    for path in found["answers"]:
        for place, row in rows_of(path):
            yield from _examples(row, place, left_out)
    for path in found["pairs"]:
        for place, row in rows_of(path):
            yield _pair(row, place)


def _examples(row: Mapping[str, Any], place: Place, left_out: LeftOut) -> Iterator[Example]:
    if row.get("completions") in (None, []):
        left_out[_EMPTY] += 1
        return
    answers = list(entries_of(row, "completions", place))
    shared = {
        "prompt": [{"role": "user", "content": text_of(row, "instruction", place)}],
        "responses": [text_of(answer, "response", place, at) for at, answer in answers],
    }
    for objective in (*ASPECTS, "overall"):
        entries = [
            entry
            for number, (at, answer) in enumerate(answers)
            for entry in _rated(number, at, answer, objective, place, left_out)
        ]
        if all("abstains" in entry for entry in entries):
            left_out[f"prompts none of whose answers is rated by {objective}"] += 1
            continue
        yield read_row(
            {
                **shared,
                "judgements": entries,
                "objective": objective,
                "data_subset": objective,
                "models": [answer.get("model") for _, answer in answers],
                "principles": [answer.get("principle") for _, answer in answers],
                **kept(row, "source"),
            },
            file=place.file,
            line=place.line,
        )


def _rated(
    number: int,
    at: str,
    answer: Mapping[str, Any],
    objective: str,
    place: Place,
    left_out: LeftOut,
) -> list[_Entry]:
    """Read the rating of an answer; that a rating does not apply is an abstention."""
    if objective == "overall":
        said, field, prefix = answer, "overall_score", at
    else:
        said, field, prefix = _said_of(objective, at, answer, place), "Rating", f"{at}annotations."
        prefix += f"{objective}."
    if said.get(field) in (None, ""):
        left_out[f"answers without a rating by {objective}"] += 1
        return []
    if said[field] == _NOT_APPLICABLE:
        return [{"annotator": JUDGE, "abstains": True, "said": _NOT_APPLICABLE}]
    value = number_of(said, field, place, prefix=prefix)
    if not 1 <= value <= _BEST[objective]:
        left_out[f"ratings by {objective} that are not from 1 to {_BEST[objective]}"] += 1
        return []
    if objective == "overall" and value == _BEST["overall"] and _is_poor(at, answer, place):
        left_out[_TOO_GOOD] += 1
        return []
    return [{"annotator": JUDGE, "response": number, "rating": value}]


def _said_of(aspect: str, at: str, answer: Mapping[str, Any], place: Place) -> Mapping[str, Any]:
    """Find what is said of one aspect; empty where nothing is."""
    said: Any = answer
    for name in ("annotations", aspect):
        said = said.get(name) or {}
        at += f"{name}."
        if not isinstance(said, Mapping):
            raise place.error(f"an object is needed, not {describe(said)}", at[:-1], _REMEDY)
    return said


def _is_poor(at: str, answer: Mapping[str, Any], place: Place) -> bool:
    """Tell whether an answer cannot have earned a 10: it was 1, or may have been.

    The authors set a 10 to 1 where the aspects' mean is at most 2, had it judged again up to 4, and
    published that mean beside it: where it is missing, the file is not yet corrected.
    """
    ratings = [
        number_of(said, "Rating", place, prefix=f"{at}annotations.{aspect}.")
        for aspect in ASPECTS
        if (said := _said_of(aspect, at, answer, place)).get("Rating")
        not in (None, "", _NOT_APPLICABLE)
    ]
    corrected = answer.get("fine-grained_score") is not None
    return bool(ratings) and fmean(ratings) <= (2 if corrected else 4)


def _pair(row: Mapping[str, Any], place: Place) -> Example:
    """Read two answers, the better one first; the margin is that of their mean ratings."""
    ratings = [number_of(row, f"{side}-rating", place, 1, 5) for side in ("chosen", "rejected")]
    if ratings[0] < ratings[1]:
        problem = f"at least the rating of the rejected answer is needed, {ratings[1]:g}"
        raise place.error(problem, "chosen-rating", _REMEDY)
    return read_row(
        {
            "prompt": [{"role": "user", "content": text_of(row, "prompt", place)}],
            "responses": [
                read_list(row.get(side), side, place, _REMEDY, "message")
                for side in ("chosen", "rejected")
            ],
            "judgements": [
                {"annotator": JUDGE, "comparison": [0, 1], "margin": ratings[0] - ratings[1]}
            ],
            "objective": "mean",
            "data_subset": "mean",
            "models": [row.get("chosen-model"), row.get("rejected-model")],
            **kept(row, "source"),
        },
        file=place.file,
        line=place.line,
    )


SOURCE = Source(
    name="ultrafeedback",
    title="UltraFeedback",
    licence="MIT",
    citation=(
        "Cui, Yuan, Ding, Yao, Zhu, Ni, Xie, Liu and Sun (2023), UltraFeedback: Boosting Language "
        "Models with High-quality Feedback, arXiv:2310.01377; for the cleaned pairs Bartolome, "
        "Martin and Vila (2023), Notus, https://github.com/argilla-io/notus"
    ),
    published="https://huggingface.co/datasets/openbmb/UltraFeedback",
    files=_FILES,
    holds=("comparisons", "ratings", "abstentions", "annotators"),
    gives=(
        "four answers of models with GPT-4's ratings, 1 to 5, for instruction_following, honesty, "
        "truthfulness and helpfulness, and 1 to 10 overall, each in a row of its own: choose one "
        "with --data_subset helpfulness; N/A is an abstention; or pairs of two of them with the "
        "difference of their mean ratings as margin; no person judged"
    ),
    read=_read,
)
