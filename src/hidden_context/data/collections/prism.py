"""PRISM: people from all over the world rate the answers of several models in their own chats."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple, TypeAlias

from hidden_context.data.annotators import Covariates
from hidden_context.data.collections.source import Examples, Messages, Published, Row, Source, user

_NO_CHAT: Final = (
    "turns whose chat so far is unknown (a turn is missing, or no one answer is chosen)"
)
_EMPTY: Final = "EMPTY STRING"  # as an empty answer is published

_GROUPS: Final = (
    *("age", "gender", "education", "employment_status", "marital_status", "english_proficiency"),
    *("study_locale", "lm_familiarity", "lm_direct_use", "lm_indirect_use", "lm_frequency_use"),
)
_NESTED: Final = {
    **{name: (name, "simplified") for name in ("religion", "ethnicity")},
    **{name: ("location", name) for name in ("birth_country", "reside_country", "special_region")},
}


class _Turn(NamedTuple):
    """A person's message with its row and the answers."""

    row: Row
    who: str
    asked: str
    answers: list[Row]


_Chat: TypeAlias = "dict[int, _Turn]"
"""The turns of a conversation by number."""


def _read(files: Published) -> Examples:
    """Read each turn as an example: the chat so far, the answers, and one person's ratings."""
    chats, utterances = files.of_kind["conversations"], files.of_kind["utterances"]
    if chats and utterances:
        raise files.error("conversations and utterances hold the same ratings", utterances[0])
    if not chats and not utterances:
        raise files.error("the files hold a survey but no ratings", files.paths[0])
    for row in files.rows("conversations", once="conversation_id"):
        yield from _examples(_read_conversation(row))
    for chat in _read_utterances(files):
        yield from _examples(chat)


def _read_conversation(row: Row) -> _Chat:
    chat: _Chat = {}
    who = row.annotator("user_id")
    for said in row.entries("conversation_history"):
        turn, text = said.level("turn", 0), said.text("content")
        if said.choice("role", ("user", "model")) == "model":
            if turn not in chat:
                raise said.error(f"an answer comes before the message of turn {turn}", "turn")
            chat[turn].answers.append(said)
        elif turn in chat:
            raise said.error(f"turn {turn} has two messages of the person", "turn")
        else:
            chat[turn] = _Turn(row, who, text, [])
    return chat


def _read_utterances(files: Published) -> Iterable[_Chat]:
    """Collect the rows of every conversation, one per answer; the row order has no meaning."""
    chats: dict[str, _Chat] = {}
    for row in files.rows("utterances", once="utterance_id"):
        who, asked = row.annotator("user_id"), row.text("user_prompt")
        chat = chats.setdefault(row.text("conversation_id"), {})
        turn = chat.setdefault(row.level("turn", 0), _Turn(row, who, asked, []))
        if (next(iter(chat.values())).who, turn.asked) != (who, asked):
            problem = "an earlier row of this turn has another person or another message"
            raise row.error(problem, "user_id, user_prompt")
        turn.answers.append(row.with_values({**row, "content": row.text("model_response")}))
    for chat in chats.values():
        for turn in chat.values():
            turn.answers.sort(key=lambda answer: str(answer.get("within_turn_id")))
    return chats.values()


def _examples(chat: _Chat) -> Examples:
    """Make an example of each turn; the chat continues with the chosen answer."""
    history: Messages | None = []
    for expected, (number, turn) in enumerate(sorted(chat.items())):
        if history is None or number != expected:
            history = None
            turn.row.leave_out(_NO_CHAT)
            continue
        history = history + user(turn.asked)
        rated = [answer for answer in turn.answers if answer.get("score") is not None]
        turn.row.leave_out("answers without a score", len(turn.answers) - len(rated))
        scores = [float(answer.level("score", 1, 100)) for answer in rated]
        if rated:
            yield turn.row.example(
                prompt=history,
                responses=[_content(answer) for answer in rated],
                judgements=[
                    {"annotator": turn.who, "response": place, "rating": score}
                    for place, score in enumerate(scores)
                ],
                turn=number,
                models=[answer.get("model_name") for answer in rated],
                **turn.row.kept(
                    *("conversation_id", "conversation_type", "included_in_balanced_subset")
                ),
            )
        chosen = {_content(one) for one in turn.answers if one.get("if_chosen") is True}
        said = [{"role": "assistant", "content": text} for text in chosen]
        history = history + said if len(said) == 1 else None


def _content(answer: Row) -> str:
    return "" if answer["content"] == _EMPTY else str(answer["content"])


def _read_annotators(files: Published) -> Covariates:
    """Read people's groups and how much traits of models matter to them, from 0 to 100."""
    known: Covariates = {}
    for row in files.rows("survey", once="user_id"):
        who = row.annotator("user_id")
        groups = {name: row.get(name) for name in _GROUPS}
        for name, (outer, inner) in _NESTED.items():
            groups[name] = row[outer].get(inner) if isinstance(row.get(outer), Mapping) else None
        told = row.with_values(groups).known(*groups)
        known[who] = {name: str(value) for name, value in told.items()}
        prefers = row.object_or_empty("stated_prefs")
        for name, value in prefers.items():
            if not name.startswith("other") and value is not None:
                known[who][f"prefers_{name}"] = prefers.number(name, 0, 100)
    return known


SOURCE = Source(
    title="PRISM Alignment",
    licence="CC BY 4.0 (what people wrote), CC BY-NC 4.0 (answers of models)",
    citation=(
        "Kirk, Whitefield, Röttger, Bean, Margatina, Ciro, Mosquera, Bartolo, Williams, He, Vidgen "
        "and Hale (2024), The PRISM Alignment Dataset: What Participatory, Representative and "
        "Individualised Human Feedback Reveals About the Subjective and Multicultural Alignment of "
        "Large Language Models, NeurIPS Datasets and Benchmarks"
    ),
    published="https://huggingface.co/datasets/HannahRoseKirk/prism-alignment",
    files=(
        "conversations.jsonl or utterances.jsonl, and survey.jsonl for how people describe "
        "themselves"
    ),
    columns={
        "conversations": ("conversation_id", "user_id", "conversation_history"),
        "utterances": ("utterance_id", "user_id", "turn", "user_prompt", "model_response", "score"),
        "survey": ("user_id", "stated_prefs", "age"),
    },
    holds=("ratings", "annotators", "covariates"),
    gives=(
        "chats of 1,396 people; in each turn one person rates up to four answers from 1 to 100; "
        "demographics and stated preferences of each person"
    ),
    examples=_read,
    people=_read_annotators,
)
