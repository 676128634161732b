"""PersonalLLM: eight answers to each prompt, scored by ten reward models in place of people."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from hidden_context.data.checks import Place
from hidden_context.data.collections.published import (
    kept,
    number_of,
    rows_of,
    sort_files,
    text_of,
)
from hidden_context.data.collections.source import LeftOut, Source
from hidden_context.data.example import Example
from hidden_context.data.importers import read_row

_COUNT: Final = 8
MODELS: Final = (
    *("gemma_2b", "gemma_7b", "mistral_raft", "mistral_ray", "mistral_weqweasdas"),
    *("llama3_sfairx", "oasst_deberta_v3", "beaver_7b", "oasst_pythia_7b", "oasst_pythia_1b"),
)
"""The reward models, by their names in the columns; of all a higher score is better."""

_COLUMNS: Final = (
    *("prompt", "response_1", f"response_{_COUNT}"),
    *(f"response_1_{model}" for model in MODELS),
)
_FILES = "the parquet files of train and test"
_PASSED: Final = ("prompt_id", "subset")
_NO_SCORE = "scores that are missing or no number"
_NO_RANKING = "rankings of fewer than two answers, as scores are missing"
_UNRANKED = "prompts whose answers no model scored"


def _read(files: Sequence[Path], left_out: LeftOut) -> Iterator[Example]:
    """Read each prompt with a ranking by each reward model.

    The models' scores have scales of their own, so that they say nothing across models, nor is
    anything known of them across prompts: the order of the answers is read, and the scores pass
    through. ``beaver_7b`` predicts costs, which are published with their sign turned.
    """
    for path in sort_files(files, {"scores": _COLUMNS}, f"Give {_FILES}")["scores"]:
        for place, row in rows_of(path):
            scores = {model: _scores(row, model, place, left_out) for model in MODELS}
            entries = [
                {"annotator": model, "ranks": _ranks(values)}
                for model, values in scores.items()
                if sum(value is not None for value in values) > 1
            ]
            if len(entries) < len(MODELS):
                left_out[_NO_RANKING] += len(MODELS) - len(entries)
            if not entries:
                left_out[_UNRANKED] += 1
                continue
            yield _example(row, entries, scores, place)


def _scores(
    row: Mapping[str, Any], model: str, place: Place, left_out: LeftOut
) -> list[float | None]:
    """Read a model's score of each answer; None where it is missing or not a number."""
    scores: list[float | None] = []
    for number in range(1, _COUNT + 1):
        field = f"response_{number}_{model}"
        value = row.get(field)
        if value is None or (isinstance(value, float) and not math.isfinite(value)):
            left_out[_NO_SCORE] += 1
            scores.append(None)
        else:
            scores.append(number_of(row, field, place))
    return scores


def _ranks(scores: Sequence[float | None]) -> list[int | None]:
    """Rank answers from 1, the highest score; equal scores are tied, and None has no rank."""
    order = sorted({score for score in scores if score is not None}, reverse=True)
    return [None if score is None else order.index(score) + 1 for score in scores]


def _example(
    row: Mapping[str, Any],
    entries: Sequence[dict[str, Any]],
    scores: Mapping[str, Sequence[float | None]],
    place: Place,
) -> Example:
    numbers = range(1, _COUNT + 1)
    return read_row(
        {
            "prompt": [{"role": "user", "content": text_of(row, "prompt", place)}],
            "responses": [text_of(row, f"response_{number}", place) for number in numbers],
            "judgements": list(entries),
            "models": [row.get(f"response_{number}_model") for number in numbers],
            "scores": {model: list(values) for model, values in scores.items()},
            **kept(row, *_PASSED),
        },
        file=place.file,
        line=place.line,
    )


SOURCE = Source(
    name="personalllm",
    title="PersonalLLM",
    licence="CC BY 4.0",
    citation=(
        "Zollo, Siah, Ye, Li and Namkoong (2025), PersonalLLM: Tailoring LLMs to Individual "
        "Preferences, ICLR"
    ),
    published="https://huggingface.co/datasets/namkoong-lab/PersonalLLM",
    files=_FILES,
    holds=("rankings", "ties", "annotators"),
    gives=(
        "eight answers to each prompt, ranked by each of ten reward models, who stand for people "
        "with tastes of their own and are the annotators; equal scores are ties; the scores pass "
        "through; no person judged"
    ),
    read=_read,
)
