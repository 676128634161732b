"""MT-Bench: experts and authors judge which of two models answers better in either turn."""

from __future__ import annotations

from typing import Any, Final, TypeAlias

from hidden_context.data.checks import read_messages
from hidden_context.data.collections.source import Examples, Published, Row, Source, user

_VOTE: Final = ("question_id", "model_a", "model_b", "winner", "judge", "turn")
_CHATS: Final = ("conversation_a", "conversation_b")
_PREFERENCES: Final = {"model_a": 1.0, "tie": 0.5, "model_b": 0.0, "tie (bothbad)": None}

_Chat: TypeAlias = "list[dict[str, Any]]"
_Conversations: TypeAlias = "dict[tuple[int, str], _Chat]"


def _read(files: Published) -> Examples:
    """Read each combination of question, turn and pair of models once, with all its votes.

    A vote names first the answer that was shown first. So the order of presentation is kept even if
    two people saw the answers in opposite orders.
    """
    texts, categories = _read_answers(files)
    items: dict[tuple[Any, ...], tuple[Row, dict[str, Any]]] = {}
    for row in files.rows("votes", "bare_votes"):
        judge = row.get("judge")  # a language model is a pair of model and prompt, or a name
        if isinstance(judge, list) or str(judge).lower().startswith("gpt"):
            row.leave_out("votes by a language model")
            continue
        models = row.texts("model_a", "model_b")
        question, turn = row.level("question_id"), row.level("turn", 1, 2)
        key = (question, turn, *sorted(models))
        if key not in items:
            chats = _chats(row, [(question, model) for model in models], texts)
            if chats is None:
                row.leave_out("votes on answers that were not given")
                continue
            _check(row, chats, turn, models)
            items[key] = (
                row,
                {
                    "prompt": chats[0][:1],
                    "responses": [chat[1 : 2 * turn] for chat in chats],
                    "judgements": [],
                    "turn": turn,
                    "models": models,
                    "question_id": question,
                    **categories.get(question, {}),
                },
            )
        item = items[key][1]
        item["judgements"].append(_entry(row, [item["models"].index(model) for model in models]))
    for row, item in items.values():
        yield row.example(**item)


def _entry(row: Row, shown: list[int]) -> dict[str, Any]:
    who = {"annotator": row.annotator("judge")}
    preference = _PREFERENCES[row.choice("winner", _PREFERENCES)]
    if preference is None:
        return {**who, "abstains": True}
    return {**who, "comparison": shown, "preference": preference}


def _check(row: Row, chats: list[_Chat], turn: int, models: list[str]) -> None:
    """Check that two different models answer the same question up to the judged turn."""
    if models[0] == models[1]:
        problem = f"two different models are needed, not {models[0]!r} twice"
        raise row.error(problem, "model_b")
    for name, chat in zip(_CHATS, chats, strict=True):
        if len(chat) < 2 * turn or chat[0] != chats[0][0]:
            problem = f"the question and {turn} answers to it are needed"
            raise row.error(f"{problem}, the same question for both", name)


def _chats(row: Row, keys: list[tuple[int, str]], texts: _Conversations) -> list[_Chat] | None:
    """Find the two conversations, or return None if no given file holds them."""
    if all(row.get(name) is not None for name in _CHATS):
        return [read_messages(row.listed(name, "message"), name, row.place) for name in _CHATS]
    return [texts[key] for key in keys] if all(key in texts for key in keys) else None


def _read_answers(files: Published) -> tuple[_Conversations, dict[int, dict[str, Any]]]:
    """Read the conversation of each question and model, and each question's category."""
    turns: dict[int, list[str]] = {}
    categories: dict[int, dict[str, Any]] = {}
    for row in files.rows("questions"):
        question = row.level("question_id")
        turns[question], categories[question] = row.listed_texts("turns"), row.kept("category")
    if files.of_kind["answers"] and not turns:
        raise files.error("answers are given without their questions")
    texts: _Conversations = {}
    for row in files.rows("answers"):
        key = row.level("question_id"), row.text("model_id")
        said = next(row.entries("choices")).listed_texts("turns")
        texts[key] = [
            message
            for asked, answer in zip(turns.get(key[0], ()), said, strict=False)
            for message in (*user(asked), {"role": "assistant", "content": answer})
        ]
    return texts, categories


SOURCE = Source(
    title="MT-Bench human judgements",
    licence="CC BY 4.0",
    citation=(
        "Zheng, Chiang, Sheng, Zhuang, Wu, Zhuang, Lin, Li, Li, Xing, Zhang, Gonzalez and Stoica "
        "(2023), Judging LLM-as-a-Judge with MT-Bench and Chatbot Arena, NeurIPS Datasets and "
        "Benchmarks"
    ),
    published="https://huggingface.co/datasets/lmsys/mt_bench_human_judgments",
    files=(
        "the votes with conversations of lmsys/mt_bench_human_judgments (split human); or votes "
        "without conversations, with question.jsonl and the model_answer files of the space "
        "lmsys/mt-bench"
    ),
    columns={
        "votes": (*_VOTE, *_CHATS),
        "bare_votes": _VOTE,
        "answers": ("question_id", "model_id", "choices"),
        "questions": ("question_id", "turns"),
    },
    holds=("comparisons", "ties", "annotators"),
    gives=(
        "pairs of answers to 80 questions of two turns, with votes and ties of named experts and "
        "authors; votes by GPT-4 are left out"
    ),
    examples=_read,
)
