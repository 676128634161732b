"""PRISM: people all over the world rate the answers of several models in chats of their own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from hidden_context.data.annotators import Covariates
from hidden_context.data.checks import Place
from hidden_context.data.collections.fields import object_of
from hidden_context.data.collections.published import (
    choice_of,
    entries_of,
    kept,
    level_of,
    number_of,
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
    "conversations": ("conversation_id", "user_id", "conversation_history"),
    "utterances": ("utterance_id", "user_id", "turn", "user_prompt", "model_response", "score"),
    "survey": ("user_id", "stated_prefs", "age"),
}
_FILES = (
    "conversations.jsonl or utterances.jsonl, and survey.jsonl for what people say of themselves"
)
_REMEDY = f"Give {_FILES}"
_NO_CHAT = "turns whose chat so far is not known (a turn is missing, or no one answer is chosen)"
_EMPTY = "EMPTY STRING"  # as an empty answer is published
_PASSED = ("conversation_type", "included_in_balanced_subset")

_GROUPS: Final = (
    *("age", "gender", "education", "employment_status", "marital_status", "english_proficiency"),
    *("study_locale", "lm_familiarity", "lm_direct_use", "lm_indirect_use", "lm_frequency_use"),
)
_NESTED: Final = {
    "religion": ("simplified",),
    "ethnicity": ("simplified",),
    "location": ("birth_country", "reside_country", "special_region"),
}
_UNKNOWN = (None, "", "Prefer not to say")


@dataclass
class _Turn:
    """What a person wrote, and the answers: each a row, and what its fields begin with."""

    place: Place
    asked: str
    answers: list[tuple[str, Mapping[str, Any]]] = field(default_factory=list)


@dataclass
class _Chat:
    """A conversation: its row, its person and its turns by number."""

    row: Mapping[str, Any]
    who: str
    turns: dict[int, _Turn] = field(default_factory=dict)


def _read(files: Sequence[Path], left_out: LeftOut) -> Iterator[Example]:
    """Read each turn as an example: the chat so far, the answers, and one person's ratings."""
    found = sort_files(files, _KINDS, _REMEDY)
    if found["conversations"] and found["utterances"]:
        problem = "conversations and utterances hold the same ratings"
        raise DataError(problem, file=found["utterances"][0], remedy=_REMEDY)
    if not found["conversations"] and not found["utterances"]:
        raise DataError("a survey alone holds no ratings", file=files[0], remedy=_REMEDY)
    seen: set[str] = set()
    for path in found["conversations"]:
        for place, row in rows_of(path):
            _check_once(row, "conversation_id", seen, place)
            yield from _examples(_read_conversation(row, place), left_out)
    for chat in _read_utterances(found["utterances"]):
        yield from _examples(chat, left_out)


def _check_once(row: Mapping[str, Any], name: str, seen: set[str], place: Place) -> None:
    """Refuse a row that stands twice, whose ratings would count twice."""
    which = text_of(row, name, place)
    if which in seen:
        raise place.error(f"{which!r} stands twice", name, _REMEDY)
    seen.add(which)


def _read_conversation(row: Mapping[str, Any], place: Place) -> _Chat:
    chat = _Chat(row, person_of(row, "user_id", place))
    for prefix, said in entries_of(row, "conversation_history", place):
        turn = level_of(said, "turn", place, 0, prefix=prefix)
        text = text_of(said, "content", place, prefix)
        if choice_of(said, "role", place, ("user", "model"), prefix) == "model":
            if turn not in chat.turns:
                problem = f"an answer stands before the message of turn {turn}"
                raise place.error(problem, f"{prefix}turn", _REMEDY)
            chat.turns[turn].answers.append((prefix, said))
        elif turn in chat.turns:
            problem = f"turn {turn} has two messages of the person"
            raise place.error(problem, f"{prefix}turn", _REMEDY)
        else:
            chat.turns[turn] = _Turn(place, text)
    return chat


def _read_utterances(files: Sequence[Path]) -> list[_Chat]:
    """Collect the rows, one for each answer, of every conversation; their order says nothing."""
    chats: dict[str, _Chat] = {}
    seen: set[str] = set()
    for path in files:
        for place, row in rows_of(path):
            _check_once(row, "utterance_id", seen, place)
            name, who = text_of(row, "conversation_id", place), person_of(row, "user_id", place)
            chat = chats.setdefault(name, _Chat(row, who))
            asked = text_of(row, "user_prompt", place)
            turn = chat.turns.setdefault(level_of(row, "turn", place, 0), _Turn(place, asked))
            if (chat.who, turn.asked) != (who, asked):
                problem = (
                    "another person, or another message, stands in this turn on an earlier row"
                )
                raise place.error(problem, "user_id, user_prompt", _REMEDY)
            turn.answers.append(("", {**row, "content": text_of(row, "model_response", place)}))
    for chat in chats.values():
        for turn in chat.turns.values():
            turn.answers.sort(key=lambda answer: str(answer[1].get("within_turn_id")))
    return list(chats.values())


def _examples(chat: _Chat, left_out: LeftOut) -> Iterator[Example]:
    """Make an example of each turn; the chat goes on with the answer that was chosen."""
    history: list[dict[str, str]] | None = []
    for expected, (number, turn) in enumerate(sorted(chat.turns.items())):
        if history is None or number != expected:
            history = None
            left_out[_NO_CHAT] += 1
            continue
        history = [*history, {"role": "user", "content": turn.asked}]
        example = _example(chat, number, turn, history, left_out)
        if example is not None:
            yield example
        chosen = {_content(said) for _, said in turn.answers if said.get("if_chosen") is True}
        (text,) = chosen if len(chosen) == 1 else (None,)
        history = None if text is None else [*history, {"role": "assistant", "content": text}]


def _example(
    chat: _Chat, number: int, turn: _Turn, history: list[dict[str, str]], left_out: LeftOut
) -> Example | None:
    rated = [one for one in turn.answers if one[1].get("score") is not None]
    if len(rated) < len(turn.answers):
        left_out["answers without a score"] += len(turn.answers) - len(rated)
    if not rated:
        return None
    entries = [
        {
            "annotator": chat.who,
            "response": place,
            "rating": float(level_of(said, "score", turn.place, 1, 100, prefix)),
        }
        for place, (prefix, said) in enumerate(rated)
    ]
    return read_row(
        {
            "prompt": history,
            "responses": [_content(said) for _, said in rated],
            "judgements": entries,
            "conversation_id": chat.row.get("conversation_id"),
            "turn": number,
            "models": [said.get("model_name") for _, said in rated],
            **kept(chat.row, *_PASSED),
        },
        file=turn.place.file,
        line=turn.place.line,
    )


def _content(said: Mapping[str, Any]) -> str:
    return "" if said["content"] == _EMPTY else str(said["content"])


def _read_annotators(files: Sequence[Path]) -> Covariates:
    """Read what people say of themselves: groups, and how important they find traits, 0 to 100."""
    known: Covariates = {}
    for path in sort_files(files, _KINDS, _REMEDY)["survey"]:
        for place, row in rows_of(path):
            who = person_of(row, "user_id", place)
            if who in known:
                raise place.error(f"{who!r} stands twice in the survey", "user_id", _REMEDY)
            known[who] = {name: str(value) for name, value in _groups(row) if value not in _UNKNOWN}
            prefers = object_of(row, "stated_prefs", place, needed=False)
            for name, value in prefers.items():
                if not name.startswith("other") and value is not None:
                    number = number_of(prefers, name, place, 0, 100, "stated_prefs.")
                    known[who][f"prefers_{name}"] = number
    return known


def _groups(row: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name in _GROUPS:
        yield name, row.get(name)
    for name, parts in _NESTED.items():
        inner = row.get(name)
        for part in parts:
            short = name if part == "simplified" else part
            yield short, inner.get(part) if isinstance(inner, Mapping) else None


SOURCE = Source(
    name="prism",
    title="PRISM Alignment",
    licence="CC BY 4.0 (what people wrote), CC BY-NC 4.0 (answers of models)",
    citation=(
        "Kirk, Whitefield, Röttger, Bean, Margatina, Ciro, Mosquera, Bartolo, Williams, He, Vidgen "
        "and Hale (2024), The PRISM Alignment Dataset: What Participatory, Representative and "
        "Individualised Human Feedback Reveals About the Subjective and Multicultural Alignment of "
        "Large Language Models, NeurIPS Datasets and Benchmarks"
    ),
    published="https://huggingface.co/datasets/HannahRoseKirk/prism-alignment",
    files=_FILES,
    holds=("ratings", "annotators", "covariates"),
    gives=(
        "chats of 1,396 people; in each turn one person rates up to four answers from 1 to 100; "
        "demographics and stated preferences of each person"
    ),
    read=_read,
    read_annotators=_read_annotators,
)
