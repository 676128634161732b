"""Chatbot Arena: users ask two unnamed models the same, and vote for the better conversation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, TypeAlias

from hidden_context.data.collections.source import Examples, Published, Row, Source
from hidden_context.data.dialogue import is_blank, shared_prompt

_BATTLE: Final = ("conversation_a", "conversation_b", "winner")
_PREFERENCES: Final = {"model_a": 1.0, "tie": 0.5, "model_b": 0.0}
_BOTH_BAD: Final = ("tie (bothbad)", "both_bad")
_FLAGS: Final = {"winner_model_a": 1.0, "winner_tie": 0.5, "winner_model_b": 0.0}
_VOTERS: Final = {"33k": "judge", "100k": "judge_hash"}
_PASSED: Final = (
    *("language", "turn", "anony", "is_code", "is_refusal", "dedup_tag"),
    *("evaluation_session_id", "evaluation_order"),
)
_NO_CONTEXT: Final = "later votes of a session whose earlier turns are not found"

_Chat: TypeAlias = "list[dict[str, Any]]"


class _NotComparableError(Exception):
    """A battle that cannot be compared; the message gives the reason."""


def _read(files: Published) -> Examples:
    """Read each battle: the shared start is the prompt, and the vote judges all later turns.

    The two conversations part at the first answer, because each model continues from its own
    answer. The user votes on the whole conversations, so a response holds all later turns,
    including the user's.
    """
    for release in files.columns:
        for row in files.rows(release):
            item = row.identifier("id" if row.get("id") is not None else "question_id")
            if row.repeats("battles that occur twice, by their id", release, item):
                continue
            try:
                sides = _sides(row, release)
            except _NotComparableError as reason:
                row.leave_out(str(reason))
                continue
            prompt = shared_prompt(*sides)
            yield row.example(
                prompt=prompt,
                responses=[chat[len(prompt) :] for chat in sides],
                judgements=[_vote(row, release)],
                data_subset=release,
                item=item,
                models=row.texts("model_a", "model_b"),
                **row.kept(*_PASSED),
            )


def _sides(row: Row, release: str) -> list[_Chat]:
    """Read the two conversations.

    Raises:
        _NotComparableError: If they cannot be compared, with the reason.
    """
    if release == "55k":
        sides = [_zipped(row, "prompt", f"response_{side}") for side in "ab"]
    else:
        sides = [_messages(row, f"conversation_{side}") for side in "ab"]
    asked = [[m["content"] for m in chat if m["role"] != "assistant"] for chat in sides]
    if asked[0] != asked[1]:
        raise _NotComparableError(
            "battles in which the user asks the two models different questions"
        )
    if release == "140k" and row.level("evaluation_order", 1) > 1:
        sides = _with_context(sides, row)
    if is_blank(shared_prompt(*sides)):
        raise _NotComparableError("battles with an empty question")
    return sides


def _messages(row: Row, field: str) -> _Chat:
    """Read a conversation of messages whose content is text or a list of parts."""
    roles = ("user", "assistant", "system")
    chat = [
        _message(message.choice("role", roles), message.get("content"))
        for message in row.entries(field)
    ]
    if chat[-1]["role"] != "assistant" or len(chat) < 2:
        raise _NotComparableError("battles in which a side does not end with an answer")
    return chat


def _zipped(row: Row, asked: str, answered: str) -> _Chat:
    """Read a conversation from two columns, the questions and the answers, each a JSON list."""
    questions, answers = (
        row.with_values({field: row.json(field, "a list")}).listed(field, "text")
        for field in (asked, answered)
    )
    if len(questions) != len(answers):
        raise _NotComparableError("battles with different numbers of questions and answers")
    return [
        _message(role, text)
        for both in zip(questions, answers, strict=True)
        for role, text in zip(("user", "assistant"), both, strict=True)
    ]


def _with_context(sides: Sequence[_Chat], row: Row) -> list[_Chat]:
    """Put the earlier turns of the session before the two conversations of a later vote.

    After a vote, a session continues with two other models, and each receives the earlier turns
    of its side. The row's conversations begin after the previous vote. Its ``full_conversation``
    holds all turns of the session.
    """
    turns = row.entries_or_none("full_conversation")
    whole = [_flat(turns, f"model_side_{side}") for side in "ab"]
    both = list(zip(whole, sides, strict=True))
    starts = [
        start
        for start in range(0, 2 * len(turns), 2)
        if all(full[start : start + len(chat)] == chat for full, chat in both)
    ]
    if len(starts) != 1 or any(None in full[: starts[0]] for full in whole):
        raise _NotComparableError(_NO_CONTEXT)
    return [
        [*(message for message in full[: starts[0]] if message is not None), *chat]
        for full, chat in both
    ]


def _flat(turns: Sequence[Row], side: str) -> list[dict[str, Any] | None]:
    """List a side's messages, with None where a message is missing or is not text."""
    return [
        None if text is None else {"role": role, "content": text}
        for turn in turns
        for name, role in (("user", "user"), (side, "assistant"))
        for text in [_text_of(turn.object_or_empty(name).get("content"))]
    ]


def _message(role: str, content: Any) -> dict[str, Any]:
    """Make a message from a text, or from parts that are all text."""
    text = _text_of(content)
    if text is None:
        raise _NotComparableError("battles with an image, or with a message that is missing")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise _NotComparableError("battles whose texts contain half a character") from None
    return {"role": role, "content": text}


def _text_of(content: Any) -> str | None:
    """Return the text of a message, or None if a part is not text, such as an image."""
    parts = content if isinstance(content, list) else [{"type": "text", "text": content}]
    texts = [
        part["text"]
        for part in parts
        if isinstance(part, dict)
        and part.get("type") == "text"
        and not part.get("image")
        and isinstance(part.get("text"), str)
    ]
    return "".join(texts) if texts and len(texts) == len(parts) else None


def _vote(row: Row, release: str) -> dict[str, Any]:
    """Read a vote; "both bad" is an abstention, as it does not say which side is better."""
    entry: dict[str, Any] = {"comparison": [0, 1]}
    if release == "55k":
        said = [name for name in _FLAGS if row.level(name, 0, 1) == 1]
        if len(said) != 1:
            problem = f"exactly one of {', '.join(_FLAGS)} has to be 1; the row has {len(said)}"
            raise row.error(problem, "winner_model_a")
        unclear = {"said": "tie or both bad"} if said == ["winner_tie"] else {}
        return {**entry, "preference": _FLAGS[said[0]], **unclear}
    who = {"annotator": row.annotator(_VOTERS[release])} if release in _VOTERS else {}
    winner = row.choice("winner", (*_PREFERENCES, *_BOTH_BAD))
    if winner in _BOTH_BAD:
        return {**who, "abstains": True, "said": "both bad"}
    return {**who, **entry, "preference": _PREFERENCES[winner]}


SOURCE = Source(
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
    files=(
        "the parquet files of chatbot_arena_conversations (33k), arena-human-preference-100k or "
        "arena-human-preference-140k, or train.csv of arena-human-preference-55k; one release at a "
        "time, as releases may hold the same battles"
    ),
    columns={
        "140k": (*_BATTLE, "evaluation_session_id"),
        "100k": (*_BATTLE, "judge_hash"),
        "33k": (*_BATTLE, "judge", "anony"),
        "55k": ("prompt", "response_a", "response_b", *_FLAGS),
    },
    holds=("comparisons", "ties", "abstentions", "annotators"),
    gives=(
        "pairs of conversations with two models, one vote each by a user, ties included; both bad "
        "is an abstention, but cannot be told from a tie in the 55k (said: tie or both bad); the "
        "33k and the 100k name users by a code of their address, the other releases name nobody, "
        "but the 140k has evaluation_session_id; the release in data_subset"
    ),
    examples=_read,
)
