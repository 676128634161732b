"""PersonalLLM: eight answers to each prompt, scored by ten reward models in place of people."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

from hidden_context.data.collections.source import Examples, Published, Row, Source, user

MODELS: Final = (
    *("gemma_2b", "gemma_7b", "mistral_raft", "mistral_ray", "mistral_weqweasdas"),
    *("llama3_sfairx", "oasst_deberta_v3", "beaver_7b", "oasst_pythia_7b", "oasst_pythia_1b"),
)
"""The reward models, by their names in the columns; a higher score is better for all of them."""

_ANSWERS: Final = tuple(f"response_{number}" for number in range(1, 9))


def _read(files: Published) -> Examples:
    """Read each prompt with a ranking by each reward model.

    Each model has its own scale of scores, and the scale may differ between prompts. So only the
    order of the answers is read, and the scores pass through. ``beaver_7b`` predicts costs, which
    are published with the opposite sign.
    """
    for row in files.rows("scores"):
        scores = {
            model: [_score(row, f"{answer}_{model}") for answer in _ANSWERS] for model in MODELS
        }
        rankings = [
            {"annotator": model, "ranks": _ranks(values)}
            for model, values in scores.items()
            if sum(value is not None for value in values) > 1
        ]
        lost = len(MODELS) - len(rankings)
        row.leave_out("rankings of fewer than two answers, as scores are missing", lost)
        if not rankings:
            row.leave_out("prompts whose answers no model scored")
            continue
        yield row.example(
            prompt=user(row.text("prompt")),
            responses=row.texts(*_ANSWERS),
            judgements=rankings,
            models=[row.get(f"{answer}_model") for answer in _ANSWERS],
            scores=scores,
            **row.kept("prompt_id", "subset"),
        )


def _score(row: Row, field: str) -> float | None:
    """Read a model's score of an answer, or return None if it is missing or not a number."""
    value = row.get(field)
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        row.leave_out("scores that are missing or no number")
        return None
    return row.number(field)


def _ranks(scores: Sequence[float | None]) -> list[int | None]:
    """Rank answers from 1 for the highest score; equal scores tie, and None has no rank."""
    order = sorted({score for score in scores if score is not None}, reverse=True)
    return [None if score is None else order.index(score) + 1 for score in scores]


SOURCE = Source(
    title="PersonalLLM",
    licence="CC BY 4.0",
    citation=(
        "Zollo, Siah, Ye, Li and Namkoong (2025), PersonalLLM: Tailoring LLMs to Individual "
        "Preferences, ICLR"
    ),
    published="https://huggingface.co/datasets/namkoong-lab/PersonalLLM",
    files="the parquet files of train and test",
    columns={
        "scores": (
            *("prompt", _ANSWERS[0], _ANSWERS[-1]),
            *(f"{_ANSWERS[0]}_{model}" for model in MODELS),
        )
    },
    holds=("rankings", "ties", "annotators"),
    gives=(
        "eight answers to each prompt, ranked by each of ten reward models, which stand for people "
        "with different tastes and are the annotators; equal scores are ties; the scores pass "
        "through; no person judged"
    ),
    examples=_read,
)
