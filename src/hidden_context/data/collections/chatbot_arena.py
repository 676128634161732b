"""Chatbot Arena: users ask two unnamed models the same, and vote for the better conversation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from hidden_context.data.checks import Place
from hidden_context.data.collections.arena_chats import (
    EMPTY_QUESTION,
    Chat,
    NotComparableError,
    read_chat,
    read_lists,
    with_context,
)
from hidden_context.data.collections.fields import id_of
from hidden_context.data.collections.published import (
    choice_of,
    kept,
    level_of,
    person_of,
    rows_of,
    sort_files,
    text_of,
)
from hidden_context.data.collections.source import LeftOut, Source
from hidden_context.data.dialogue import is_blank, shared_prompt
from hidden_context.data.example import Example
from hidden_context.data.importers import read_row

_BATTLE: Final = ("conversation_a", "conversation_b", "winner")
_KINDS: Final = {
    "140k": (*_BATTLE, "evaluation_session_id"),
    "100k": (*_BATTLE, "judge_hash"),
    "33k": (*_BATTLE, "judge", "anony"),
    "55k": ("prompt", "response_a", "response_b", "winner_model_a", "winner_model_b", "winner_tie"),
}
_FILES = (
    "the parquet files of chatbot_arena_conversations (33k), arena-human-preference-100k or "
    "arena-human-preference-140k, or train.csv of arena-human-preference-55k; one release at a "
    "time, as releases may hold the same battles"
)
_REMEDY = f"Give {_FILES}"
_VOTERS: Final = {"33k": "judge", "100k": "judge_hash"}
_PREFERENCES: Final = {"model_a": 1.0, "tie": 0.5, "model_b": 0.0}
_BOTH_BAD: Final = ("tie (bothbad)", "both_bad")
_FLAGS: Final = {"winner_model_a": 1.0, "winner_tie": 0.5, "winner_model_b": 0.0}
_PASSED: Final = (
    *("language", "turn", "anony", "is_code", "is_refusal", "dedup_tag"),
    *("evaluation_session_id", "evaluation_order"),
)
_TWICE = "battles that stand twice, by their id"
_OTHER_QUESTIONS = "battles whose two sides are not asked the same"


def _read(files: Sequence[Path], left_out: LeftOut) -> Iterator[Example]:
    """Read each battle: what both sides share is the prompt, and the vote is on all that follows.

    The two conversations part at the first answer, as each model goes on from its own, and the
    user votes on them as wholes: so a response holds all later turns, the user's included.
    """
    seen: set[tuple[str, str]] = set()
    for release, paths in sort_files(files, _KINDS, _REMEDY).items():
        for path in paths:
            for place, row in rows_of(path):
                item = _item(row, place)
                if (release, item) in seen:
                    left_out[_TWICE] += 1
                    continue
                seen.add((release, item))
                try:
                    sides = _sides(row, release, place)
                except NotComparableError as reason:
                    left_out[str(reason)] += 1
                    continue
                yield _example(row, release, item, sides, place)


def _item(row: Mapping[str, Any], place: Place) -> str:
    """Return what a battle goes by: a text, or in the CSV file a number."""
    return id_of(row, "id" if row.get("id") is not None else "question_id", place)


def _sides(row: Mapping[str, Any], release: str, place: Place) -> list[Chat]:
    """Read the two conversations.

    Raises:
        NotComparableError: If they cannot be compared, with the reason.
    """
    if release == "55k":
        sides = [read_lists(row, "prompt", f"response_{side}", place) for side in "ab"]
    else:
        sides = [read_chat(row, f"conversation_{side}", place) for side in "ab"]
    asked = [[m["content"] for m in chat if m["role"] != "assistant"] for chat in sides]
    if asked[0] != asked[1]:
        raise NotComparableError(_OTHER_QUESTIONS)
    if release == "140k":
        sides = with_context(sides, row, place)
    if is_blank(shared_prompt(*sides)):
        raise NotComparableError(EMPTY_QUESTION)
    return sides


def _example(
    row: Mapping[str, Any], release: str, item: str, sides: Sequence[Chat], place: Place
) -> Example:
    prompt = shared_prompt(*sides)
    return read_row(
        {
            "prompt": prompt,
            "responses": [chat[len(prompt) :] for chat in sides],
            "judgements": [_vote(row, release, place)],
            "data_subset": release,
            "item": item,
            "models": [text_of(row, f"model_{side}", place) for side in "ab"],
            **kept(row, *_PASSED),
        },
        file=place.file,
        line=place.line,
    )


def _vote(row: Mapping[str, Any], release: str, place: Place) -> dict[str, Any]:
    """Read a vote; that both are bad says nothing of which is better, and is no tie."""
    entry: dict[str, Any] = {}
    if release in _VOTERS:
        entry["annotator"] = person_of(row, _VOTERS[release], place)
    if release == "55k":
        said = _flagged(row, place)
        entry["comparison"] = [0, 1]
        entry["preference"] = _FLAGS[said]
        return entry | ({"said": "tie or both bad"} if said == "winner_tie" else {})
    winner = choice_of(row, "winner", place, (*_PREFERENCES, *_BOTH_BAD))
    if winner in _BOTH_BAD:
        return {**entry, "abstains": True, "said": "both bad"}
    return {**entry, "comparison": [0, 1], "preference": _PREFERENCES[winner]}


def _flagged(row: Mapping[str, Any], place: Place) -> str:
    """Find the one column of the vote that is 1."""
    said = [name for name in _FLAGS if level_of(row, name, place, 0, 1) == 1]
    if len(said) != 1:
        problem = f"one of {', '.join(_FLAGS)} has to be 1, not {len(said)} of them"
        raise place.error(problem, "winner_model_a", _REMEDY)
    return said[0]


SOURCE = Source(
    name="chatbot_arena",
    title="Chatbot Arena conversations and human preferences",
    licence=(
        "CC BY 4.0 (users' prompts of the 100k and 140k; answers under the terms of the models' "
        "providers); Apache 2.0 (55k); Creative Commons, which one is not stated (33k)"
    ),
    citation=(
        "Zheng, Chiang, Sheng, Zhuang, Wu, Zhuang, Lin, Li, Li, Xing, Zhang, Gonzalez and Stoica "
        "(2023), Judging LLM-as-a-Judge with MT-Bench and Chatbot Arena, NeurIPS Datasets and "
        "Benchmarks; Chiang, Zheng, Sheng, Angelopoulos, Li, Li, Zhang, Zhu, Jordan, Gonzalez and "
        "Stoica (2024), Chatbot Arena: An Open Platform for Evaluating LLMs by Human Preference, "
        "arXiv:2403.04132"
    ),
    published=(
        "https://huggingface.co/datasets/lmsys/chatbot_arena_conversations and "
        "https://huggingface.co/lmarena-ai"
    ),
    files=_FILES,
    holds=("comparisons", "ties", "abstentions", "annotators"),
    gives=(
        "pairs of conversations with two models, one vote each by a user, ties included; both bad "
        "is an abstention, but cannot be told from a tie in the 55k (said: tie or both bad); users "
        "by a code of their address in the 33k and the 100k, none named in the others, where the "
        "140k has evaluation_session_id; the release in data_subset"
    ),
    read=_read,
)
