"""Community Alignment: people of five countries choose the best of four answers, turn by turn."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from typing import Any, Final, TypeAlias

from hidden_context.data.annotators import Covariates
from hidden_context.data.collections.source import Examples, Messages, Published, Row, Source, user

_TURNS: Final = ("first", "second", "third", "fourth")
_NEEDED: Final = ("prompt", "preferred_response")
_ANSWERS: Final = tuple(f"response_{letter}" for letter in "abcd")
_END: Final = re.compile(r"\s*(?:<\|end_of_text\|>\s*)+\Z")
_ABOUT: Final = ("age", "gender", "education_level", "political", "ethnicity", "country")
_FLAGS: Final = ("is_pregenerated_first_prompt", "in_balanced_subset", "in_balanced_subset_10")

_Item: TypeAlias = "dict[str, Any]"


def _read(files: Published) -> Examples:
    """Read each turn as an example; first turns with the same prompt and answers are merged.

    The chat continues with the chosen answer.
    """
    shared: dict[tuple[str, ...], tuple[Row, _Item]] = {}
    for row in files.rows("conversations"):
        name = row.identifier("conversation_id")
        if row.repeats("conversations that occur twice, by their id", name):
            continue
        for item in _items(row):
            if item["turn"] > 1:
                yield row.example(**item)
                continue
            key = (json.dumps(item["prompt"]), *sorted(item["responses"]))
            if key in shared:
                _add(item, shared[key][1])
            else:
                shared[key] = row.with_values({}), item
    for row, item in shared.values():
        yield row.example(**item)


def _items(row: Row) -> Iterator[_Item]:
    """Make a row for each judged turn, as long as the chat before the turn is known."""
    chat: Messages | None = []
    turns = [row.part(f"{name}_turn_") for name in _TURNS]
    while turns and all(turns[-1].get(name) in (None, "") for name in _NEEDED):
        turns.pop()
    for number, turn in enumerate(turns, start=1):
        if chat is None:
            row.leave_out("turns whose chat so far is unknown, as an earlier turn is missing")
            continue
        answers, chosen = _answers(turn)
        if chosen is None or turn.get("prompt") in (None, ""):
            row.leave_out("turns without a choice, or whose chosen answer is missing")
            chat = None
            continue
        prompt = chat + user(turn.text("prompt"))
        chat = [*prompt, {"role": "assistant", "content": chosen}]
        if len(answers) < 2:
            row.leave_out("choices among answers that are all the same")
            continue
        said = {"annotator": row.annotator("annotator_id")}
        if turn.get("feedback") not in (None, ""):
            said["feedback"] = turn.text("feedback")
        votes = _votes(len(answers), answers.index(chosen))
        yield {
            "prompt": prompt,
            "responses": answers,
            "judgements": [{**said, **vote} for vote in votes],
            "turn": number,
            **row.kept("conversation_id", "wave", "assigned_lang"),
            **{name: row.truth(name) for name in row.kept(*_FLAGS)},
        }


def _answers(turn: Row) -> tuple[list[str], str | None]:
    """Read the distinct answers of a turn in their order, and the chosen answer."""
    if turn.get("preferred_response") in (None, ""):
        return [], None
    choice = turn.choice("preferred_response", _ANSWERS)
    texts = {name: sys.intern(_END.sub("", turn.text(name))) for name in turn.kept(*_ANSWERS)}
    if choice not in texts:
        return [], None
    answers = list(dict.fromkeys(texts.values()))
    turn.leave_out("answers that are missing beside a choice", len(_ANSWERS) - len(texts))
    same = len(texts) - len(answers)
    turn.leave_out("answers with the same text as another of the turn", same)
    return answers, texts[choice]


def _votes(count: int, best: int) -> list[_Item]:
    """Write the choice of the best of n ≥ 2 answers as comparisons with the n − 1 others.

    A choice says nothing about the order of the other answers, so it is not a ranking in which they
    tie. Each comparison has the weight of a pair in a ranking of n answers, 2/n. It names first the
    answer that was shown first.
    """
    return [
        {
            "comparison": [min(best, other), max(best, other)],
            "preference": 1.0 if best < other else 0.0,
            "weight": 2 / count,
        }
        for other in range(count)
        if other != best
    ]


def _add(item: _Item, first: _Item) -> None:
    """Merge a first turn into one with the same prompt and answers, whatever their order."""
    at = [first["responses"].index(text) for text in item["responses"]]
    for vote in item["judgements"]:
        first["judgements"].append({**vote, "comparison": [at[n] for n in vote["comparison"]]})
    for name in [name for name in first if name not in ("prompt", "responses", "judgements")]:
        if first[name] != item.get(name):  # it belongs to one conversation, not to all
            del first[name]


def _read_annotators(files: Published) -> Covariates:
    """Read the annotators' self-descriptions; where rows differ, join all descriptions."""
    told: dict[str, dict[str, set[str]]] = {}
    for row in files.rows("conversations"):
        values = told.setdefault(row.annotator("annotator_id"), {})
        about = row.part("annotator_").known(*_ABOUT) | row.known("assigned_lang")
        for name, value in about.items():
            values.setdefault(name, set()).add(str(value))
    return {
        who: {name: " and ".join(sorted(texts)) for name, texts in values.items()}
        for who, values in told.items()
    }


SOURCE = Source(
    title="Community Alignment",
    licence="CC BY 4.0",
    citation=(
        "Zhang, Milli, Jusko, Smith, Amos, Bouaziz, Revel, Kussman, Sheynin, Titus, Radharapu, Yu, "
        "Sarma, Rose and Nickel (2025), Cultivating Pluralism In Algorithmic Monoculture: The "
        "Community Alignment Dataset, arXiv:2507.09650"
    ),
    published="https://huggingface.co/datasets/facebook/community-alignment-dataset",
    files=(
        "community_alignment.csv, or the parquet files made from it; of the first version "
        "full_community_alignment.csv or filtered_community_alignment.csv"
    ),
    columns={
        "conversations": (
            *("conversation_id", "annotator_id"),
            *("first_turn_prompt", "first_turn_preferred_response"),
            *(f"first_turn_{answer}" for answer in _ANSWERS),
        )
    },
    holds=("comparisons", "annotators", "covariates"),
    gives=(
        "the best of four answers as chosen by named annotators in English, French, Hindi, Italian "
        "or Portuguese (assigned_lang), in up to four turns of a chat; a choice is three "
        "comparisons of weight 1/2, without ties; many people judge the same first turn; "
        "demographics of each annotator"
    ),
    examples=_read,
    people=_read_annotators,
)
