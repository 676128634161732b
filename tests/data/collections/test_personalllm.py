from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from hidden_context.data.collections.personalllm import MODELS, SOURCE
from hidden_context.data.example import Example, Judgement, Ranking
from hidden_context.errors import DataError
from support.published import jsonl_file
from support.source_files import import_source, parquet_file

SCORES = [0.5, -1.0, 3.0, 3.0, 2.0, 0.25, -7.5, 1.0]
RANKS = (4, 6, 1, 1, 2, 5, 7, 3)  # the two highest are tied


def read(files: Sequence[Path]) -> tuple[list[Example], Counter[str]]:
    examples, report = import_source(SOURCE, files)
    return examples, report.left_out


def row(
    scores: Sequence[float | None] = SCORES,
    others: Sequence[float | None] = range(8),
    **columns: Any,
) -> dict[str, Any]:
    """A prompt with the first model's scores, and those of the others, which are all alike."""
    texts = {f"response_{n}": f"answer {n}" for n in range(1, 9)}
    authors = {f"response_{n}_model": f"model {n}" for n in range(1, 9)}
    given = {model: scores if model == MODELS[0] else others for model in MODELS}
    scored = {
        f"response_{n}_{model}": value
        for model, values in given.items()
        for n, value in enumerate(map(as_float, values), start=1)
    }
    known = {"prompt": "Tea?", "subset": "helpful", "prompt_id": 12}
    return {**known, **texts, **authors, **scored, **columns}


def as_float(value: float | None) -> float | None:
    return None if value is None else float(value)


def test_each_model_ranks_the_eight_answers(tmp_path: Path) -> None:
    ((example,), left_out) = read([jsonl_file(tmp_path / "train.jsonl", [row()])])
    assert example.prompt == [{"role": "user", "content": "Tea?"}]
    assert example.responses == tuple(
        [{"role": "assistant", "content": f"answer {n}"}] for n in range(1, 9)
    )
    assert example.judgements == (
        Judgement(Ranking(RANKS), "gemma_2b"),
        *(Judgement(Ranking((8, 7, 6, 5, 4, 3, 2, 1)), model) for model in MODELS[1:]),
    )
    columns = example.columns
    assert (columns["subset"], columns["prompt_id"]) == ("helpful", 12)
    assert columns["models"] == [f"model {n}" for n in range(1, 9)]
    assert columns["scores"]["gemma_2b"] == SCORES
    assert columns["scores"]["oasst_pythia_1b"] == [float(n) for n in range(8)]
    assert not left_out


def test_a_missing_score_is_no_rank(tmp_path: Path) -> None:
    scores = [0.5, None, 3.0, None, None, float("nan"), float("-inf"), None]
    path = parquet_file(tmp_path / "train.parquet", [row(scores)])
    ((example,), left_out) = read([path])
    assert example.judgements[0] == Judgement(
        Ranking((2, None, 1, None, None, None, None, None)), "gemma_2b"
    )
    assert example.columns["scores"]["gemma_2b"] == [0.5, None, 3.0, *[None] * 5]
    assert left_out == {"scores that are missing or no number": 6}


def test_too_few_scores_are_no_ranking(tmp_path: Path) -> None:
    rows = [row([1.0, *[None] * 7]), row([None] * 8, [None] * 8)]
    ((example,), left_out) = read([jsonl_file(tmp_path / "train.jsonl", rows)])
    assert [said.annotator for said in example.judgements] == list(MODELS[1:])
    assert left_out == {
        "scores that are missing or no number": 7 + 80,
        "rankings of fewer than two answers, as scores are missing": 1 + 10,
        "prompts whose answers no model scored": 1,
    }


def test_parquet_and_json_lines_say_the_same(tmp_path: Path) -> None:
    rows = [row(), row(prompt="Milk?")]
    path = parquet_file(tmp_path / "train.parquet", rows)
    assert read([path])[0] == read([jsonl_file(tmp_path / "train.jsonl", rows)])[0]


@pytest.mark.parametrize(
    ("odd", "message"),
    [
        (
            row(response_3_gemma_7b="high"),
            "line 1, field 'response_3_gemma_7b': a finite number is needed, not text",
        ),
        (row(response_8=None), "field 'response_8': text is needed, not null"),
        (row(prompt=None), "field 'prompt': text is needed, not null"),
    ],
)
def test_odd_rows(odd: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        read([jsonl_file(tmp_path / "train.jsonl", [odd])])


def test_a_file_without_scores_is_refused(tmp_path: Path) -> None:
    bare = {name: value for name, value in row().items() if "gemma" not in name}
    with pytest.raises(DataError, match="the columns prompt, response_1, response_8, response_1_g"):
        read([jsonl_file(tmp_path / "train.jsonl", [bare])])
