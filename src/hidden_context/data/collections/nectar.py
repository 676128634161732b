"""Nectar: seven answers to each prompt, by several models, as GPT-4 ranked them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypeAlias

from hidden_context.data.checks import Place
from hidden_context.data.collections.published import (
    entries_of,
    kept,
    level_of,
    rows_of,
    sort_files,
    text_of,
)
from hidden_context.data.collections.source import LeftOut, Source
from hidden_context.data.example import Example
from hidden_context.data.importers import read_row

_COLUMNS: Final = ("prompt", "answers", "num_responses", "good_natured")
_FILES: Final = "data/rlaif.parquet"
_REMEDY: Final = f"Give {_FILES}"
_JUDGE: Final = "GPT-4"
_TURN: Final = re.compile(r"\n\n(Human|Assistant):(?: |$)")
_ROLES: Final = {"Human": "user", "Assistant": "assistant"}
_PASSED: Final = ("turns", "source", "good_natured")

_NO_CHAT: Final = "prompts that are not turns of Human and Assistant, one after the other"
_TWICE: Final = "answers that stand twice for one prompt, at two ranks"
_UNRANKED: Final = "prompts with fewer than two ranked answers"

# The answer, the model, and its rank, 1 the best; None where it has none.
_Answer: TypeAlias = "tuple[str, str, int | None]"


def _read(files: Sequence[Path], left_out: LeftOut) -> Iterator[Example]:
    """Read each prompt with its ranking.

    Where too few answers were at hand, one was repeated: its copies have different ranks, of which
    neither can be true, so both are left out.
    """
    for path in sort_files(files, {"rankings": _COLUMNS}, _REMEDY)["rankings"]:
        for place, row in rows_of(path):
            prompt = _read_turns(text_of(row, "prompt", place))
            answers = _answers(row, place)
            copies = Counter(text for text, _, _ in answers)
            single = [answer for answer in answers if copies[answer[0]] == 1]
            if len(single) < len(answers):
                left_out[_TWICE] += len(answers) - len(single)
            if prompt is None:
                left_out[_NO_CHAT] += 1
            elif sum(rank is not None for _, _, rank in single) < 2:
                left_out[_UNRANKED] += 1
            else:
                yield _example(row, prompt, single, place)


def _example(
    row: Mapping[str, Any], prompt: list[dict[str, str]], answers: Sequence[_Answer], place: Place
) -> Example:
    return read_row(
        {
            "prompt": prompt,
            "responses": [text for text, _, _ in answers],
            "judgements": [{"annotator": _JUDGE, "ranks": [rank for _, _, rank in answers]}],
            "models": [model for _, model, _ in answers],
            **kept(row, *_PASSED),
        },
        file=place.file,
        line=place.line,
    )


def _answers(row: Mapping[str, Any], place: Place) -> list[_Answer]:
    """Read the answers of a prompt; their number is published beside them."""
    entries = list(entries_of(row, "answers", place))
    count = level_of(row, "num_responses", place, 0)
    if len(entries) != count:
        problem = f"{len(entries)} answers are given, not {count} as 'num_responses' says"
        raise place.error(problem, "answers", _REMEDY)
    return [
        (
            text_of(entry, "answer", place, at),
            text_of(entry, "model", place, at),
            None if entry.get("rank") is None else level_of(entry, "rank", place, 1, count, at),
        )
        for at, entry in entries
    ]


def _read_turns(prompt: str) -> list[dict[str, str]] | None:
    """Read a prompt as chat messages, without the mark that announces the answer.

    Returns:
        The messages; None where the turns do not alternate from the human's to the announcement,
        as where a turn quotes a dialogue.
    """
    before, *parts = _TURN.split(prompt)
    speakers, texts = parts[::2], parts[1::2]
    if before.strip() or not speakers or texts[-1].strip():
        return None
    if speakers != ["Human", "Assistant"] * (len(speakers) // 2) or not texts[-2].strip():
        return None
    turns = zip(speakers[:-1], texts[:-1], strict=True)
    return [{"role": _ROLES[speaker], "content": text} for speaker, text in turns]


SOURCE = Source(
    name="nectar",
    title="Nectar",
    licence="Apache 2.0 (not to be used to compete with OpenAI; a non-commercial research preview)",
    citation=(
        "Zhu, Frick, Wu, Zhu and Jiao (2023), Starling-7B: Improving LLM Helpfulness & "
        "Harmlessness with RLAIF, https://starling.cs.berkeley.edu"
    ),
    published="https://huggingface.co/datasets/berkeley-nest/Nectar",
    files=_FILES,
    holds=("rankings", "annotators"),
    gives=(
        "prompts with up to seven answers ranked by GPT-4, 1 the best, for harmlessness first and "
        "then helpfulness; no person judged, and the order in which GPT-4 saw the answers is not "
        "published"
    ),
    read=_read,
)
