"""MT-Bench: which of two models answers better in either of two turns, by experts and authors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from hidden_context.data.checks import Place, describe, read_list, read_messages
from hidden_context.data.collections.published import (
    choice_of,
    level_of,
    person_of,
    rows_of,
    sort_files,
    text_of,
)
from hidden_context.data.collections.source import LeftOut, Source
from hidden_context.data.example import Example
from hidden_context.data.importers import read_row
from hidden_context.errors import DataError

_VOTE = ("question_id", "model_a", "model_b", "winner", "judge", "turn")
_KINDS = {
    "votes": (*_VOTE, "conversation_a", "conversation_b"),
    "bare_votes": _VOTE,
    "answers": ("question_id", "model_id", "choices"),
    "questions": ("question_id", "turns"),
}
_FILES = (
    "the votes with conversations of lmsys/mt_bench_human_judgments (split human); or votes "
    "without them, with question.jsonl and the model_answer files of the space lmsys/mt-bench"
)
_PREFERENCES = {"model_a": 1.0, "tie": 0.5, "model_b": 0.0}
_BOTH_BAD = "tie (bothbad)"

_Chat: TypeAlias = "list[dict[str, Any]]"
_Conversations: TypeAlias = "dict[tuple[int, str], _Chat]"


def _read(files: Sequence[Path], left_out: LeftOut) -> Iterator[Example]:
    """Read each question, turn and pair of models once, with all the votes on it.

    A vote names first the answer that was shown first, so that its place is not lost where two
    people saw the two in opposite orders.
    """
    found = sort_files(files, _KINDS, f"Give {_FILES}")
    texts, categories = _read_answers(found["questions"], found["answers"])
    items: dict[tuple[Any, ...], dict[str, Any]] = {}
    places: dict[tuple[Any, ...], Place] = {}
    for path in (*found["votes"], *found["bare_votes"]):
        for place, row in rows_of(path):
            if _is_model(row.get("judge")):
                left_out["votes by a language model"] += 1
                continue
            models = text_of(row, "model_a", place), text_of(row, "model_b", place)
            question, turn = level_of(row, "question_id", place), level_of(row, "turn", place, 1, 2)
            key = (question, turn, *sorted(models))
            if key not in items:
                chats = _chats(row, question, models, texts, place)
                if chats is None:
                    left_out["votes on answers that were not given"] += 1
                    continue
                places[key] = place
                items[key] = _row(chats, question, turn, models, place)
                if question in categories:
                    items[key]["category"] = categories[question]
            items[key]["judgements"].append(_entry(row, items[key]["models"], models, place))
    for key, item in items.items():
        yield read_row(item, file=places[key].file, line=places[key].line)


def _entry(
    row: Mapping[str, Any], order: list[str], models: tuple[str, str], place: Place
) -> dict[str, Any]:
    who = {"annotator": person_of(row, "judge", place)}
    winner = choice_of(row, "winner", place, (*_PREFERENCES, _BOTH_BAD))
    if winner == _BOTH_BAD:
        return {**who, "abstains": True}
    shown = [order.index(model) for model in models]
    return {**who, "comparison": shown, "preference": _PREFERENCES[winner]}


def _row(
    chats: Sequence[_Chat], question: int, turn: int, models: tuple[str, str], place: Place
) -> dict[str, Any]:
    """Begin the row of an item: the first question, and what follows it up to the turn voted on."""
    if models[0] == models[1]:
        problem = f"two different models are needed, not {models[0]!r} twice"
        raise place.error(problem, "model_b", f"Give {_FILES}")
    for name, chat in zip("ab", chats, strict=True):
        if len(chat) < 2 * turn or chat[0] != chats[0][0]:
            problem = (
                f"the question and {turn} answers to it are needed, the same question for both"
            )
            raise place.error(problem, f"conversation_{name}", f"Give {_FILES}")
    return {
        "prompt": chats[0][:1],
        "responses": [chat[1 : 2 * turn] for chat in chats],
        "judgements": [],
        "question_id": question,
        "turn": turn,
        "models": list(models),
    }


def _chats(
    row: Mapping[str, Any],
    question: int,
    models: tuple[str, str],
    texts: _Conversations,
    place: Place,
) -> list[_Chat] | None:
    """Find the two conversations; None where they are in no file that was given."""
    names = ("conversation_a", "conversation_b")
    if all(row.get(name) is not None for name in names):
        lists = [read_list(row[name], name, place, f"Give {_FILES}", "message") for name in names]
        return [read_messages(chat, name, place) for chat, name in zip(lists, names, strict=True)]
    keys = [(question, model) for model in models]
    return [texts[key] for key in keys] if all(key in texts for key in keys) else None


def _is_model(judge: Any) -> bool:
    """Tell whether a vote is by a language model: a pair of model and prompt, or a name of one."""
    return isinstance(judge, list) or str(judge).lower().startswith("gpt")


def _read_answers(
    questions: Sequence[Path], answers: Sequence[Path]
) -> tuple[_Conversations, dict[int, str]]:
    """Read the conversations of each question and model, and the questions' categories."""
    turns: dict[int, list[str]] = {}
    categories: dict[int, str] = {}
    for path in questions:
        for place, row in rows_of(path):
            question = level_of(row, "question_id", place)
            turns[question] = _texts(row.get("turns"), "turns", place)
            if isinstance(row.get("category"), str):
                categories[question] = row["category"]
    if answers and not turns:
        raise DataError("answers are given without their questions", remedy=f"Give {_FILES}")
    texts: _Conversations = {}
    for path in answers:
        for place, row in rows_of(path):
            question, model = level_of(row, "question_id", place), text_of(row, "model_id", place)
            choices = read_list(row.get("choices"), "choices", place, f"Give {_FILES}", "choice")
            given = choices[0].get("turns") if isinstance(choices[0], dict) else None
            said = _texts(given, "choices[0].turns", place)
            texts[question, model] = [
                message
                for asked, answer in zip(turns.get(question, ()), said, strict=False)
                for message in (
                    {"role": "user", "content": asked},
                    {"role": "assistant", "content": answer},
                )
            ]
    return texts, categories


def _texts(value: Any, field: str, place: Place) -> list[str]:
    texts = read_list(value, field, place, f"Give {_FILES}", "text")
    for number, text in enumerate(texts):
        if not isinstance(text, str):
            problem = f"text is needed, not {describe(text)}"
            raise place.error(problem, f"{field}[{number}]", f"Give {_FILES}")
    return texts


SOURCE = Source(
    name="mt_bench_human",
    title="MT-Bench human judgements",
    licence="CC BY 4.0",
    citation=(
        "Zheng, Chiang, Sheng, Zhuang, Wu, Zhuang, Lin, Li, Li, Xing, Zhang, Gonzalez and Stoica "
        "(2023), Judging LLM-as-a-Judge with MT-Bench and Chatbot Arena, NeurIPS Datasets and "
        "Benchmarks"
    ),
    published="https://huggingface.co/datasets/lmsys/mt_bench_human_judgments",
    files=_FILES,
    holds=("comparisons", "ties", "annotators"),
    gives=(
        "pairs of answers to 80 questions of two turns, with votes and ties of named experts and "
        "authors; votes by GPT-4 are left out"
    ),
    read=_read,
)
