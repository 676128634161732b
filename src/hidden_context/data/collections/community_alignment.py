"""Community Alignment: people of five countries choose the best of four answers, turn by turn."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypeAlias

from hidden_context.data.annotators import Covariates
from hidden_context.data.checks import Place
from hidden_context.data.collections.choices import best_of
from hidden_context.data.collections.fields import id_of, truth_of
from hidden_context.data.collections.published import (
    choice_of,
    kept,
    person_of,
    rows_of,
    sort_files,
    text_of,
)
from hidden_context.data.collections.source import LeftOut, Source
from hidden_context.data.example import Example
from hidden_context.data.importers import read_row

_TURNS: Final = ("first", "second", "third", "fourth")
_LETTERS: Final = "abcd"
_COLUMNS = (
    *("conversation_id", "annotator_id", "first_turn_prompt", "first_turn_preferred_response"),
    *(f"first_turn_response_{letter}" for letter in _LETTERS),
)
_FILES = (
    "community_alignment.csv, or the parquet files made of it; of the first version "
    "full_community_alignment.csv or filtered_community_alignment.csv"
)
_END: Final = "<|end_of_text|>"
_ABOUT: Final = ("age", "gender", "education_level", "political", "ethnicity", "country")
_UNKNOWN = (None, "", "Prefer not to say")
_PASSED: Final = ("wave", "assigned_lang")
_FLAGS: Final = ("is_pregenerated_first_prompt", "in_balanced_subset", "in_balanced_subset_10")
_NO_CHOICE = "turns without a choice, or whose chosen answer is missing"
_NO_CHAT = "turns whose chat so far is not known, as an earlier turn is missing"
_TWICE = "conversations that stand twice, by their id"
_MISSING = "answers that are missing beside a choice"
_EQUAL = "answers of the same text as another beside them"
_ALL_EQUAL = "choices among answers that are all the same"

_Chat: TypeAlias = "list[dict[str, str]]"
_Item: TypeAlias = "dict[str, Any]"
_Items: TypeAlias = "dict[tuple[str, ...], tuple[_Item, Place]]"


def _read(files: Sequence[Path], left_out: LeftOut) -> Iterator[Example]:
    """Read each turn as an example; first turns of one prompt and the same answers are one.

    The chat goes on with the answer that was chosen.
    """
    seen: set[str] = set()
    shared: _Items = {}
    for path in _sorted(files):
        for place, row in rows_of(path):
            name = id_of(row, "conversation_id", place)
            if name in seen:
                left_out[_TWICE] += 1
                continue
            seen.add(name)
            for item in _items(row, place, left_out):
                if item["turn"] == 1:
                    _add(item, place, shared)
                else:
                    yield read_row(item, file=place.file, line=place.line)
    for item, place in shared.values():
        yield read_row(item, file=place.file, line=place.line)


def _sorted(files: Sequence[Path]) -> list[Path]:
    return sort_files(files, {"conversations": _COLUMNS}, f"Give {_FILES}")["conversations"]


def _items(row: Mapping[str, Any], place: Place, left_out: LeftOut) -> Iterator[_Item]:
    """Make a row of each turn that was judged, as far as the chat before it is known."""
    chat: _Chat | None = []
    last = max((n for n, turn in enumerate(_TURNS) if _is_there(row, turn)), default=-1)
    for number, turn in enumerate(_TURNS[: last + 1], start=1):
        if chat is None:
            left_out[_NO_CHAT] += 1
            continue
        answers, chosen = _answers(row, turn, place, left_out)
        if chosen is None or row.get(f"{turn}_turn_prompt") in (None, ""):
            left_out[_NO_CHOICE] += 1
            chat = None
            continue
        prompt = [*chat, {"role": "user", "content": text_of(row, f"{turn}_turn_prompt", place)}]
        chat = [*prompt, {"role": "assistant", "content": chosen}]
        if len(answers) < 2:
            left_out[_ALL_EQUAL] += 1
            continue
        yield {
            "prompt": prompt,
            "responses": answers,
            "judgements": _votes(row, turn, answers, chosen, place),
            "turn": number,
            **kept(row, "conversation_id", *_PASSED),
            **{name: truth_of(row, name, place) for name in _FLAGS if row.get(name) is not None},
        }


def _is_there(row: Mapping[str, Any], turn: str) -> bool:
    names = (f"{turn}_turn_prompt", f"{turn}_turn_preferred_response")
    return any(row.get(name) not in (None, "") for name in names)


def _answers(
    row: Mapping[str, Any], turn: str, place: Place, left_out: LeftOut
) -> tuple[list[str], str | None]:
    """Read the different answers of a turn in their order, and the one that was chosen."""
    fields = {f"response_{letter}": f"{turn}_turn_response_{letter}" for letter in _LETTERS}
    preferred = f"{turn}_turn_preferred_response"
    if row.get(preferred) in (None, ""):
        return [], None
    choice = choice_of(row, preferred, place, tuple(fields))
    texts = {
        name: sys.intern(_without_end(text_of(row, field, place)))
        for name, field in fields.items()
        if row.get(field) is not None
    }
    if choice not in texts:
        return [], None
    answers = list(dict.fromkeys(texts.values()))
    for reason, count in (
        (_MISSING, len(fields) - len(texts)),
        (_EQUAL, len(texts) - len(answers)),
    ):
        if count:
            left_out[reason] += count
    return answers, texts[choice]


def _without_end(text: str) -> str:
    """Leave out tokens at the end that say so, and the white space around them."""
    while (cut := text.rstrip()).endswith(_END):
        text = cut.removesuffix(_END).rstrip()
    return text


def _votes(
    row: Mapping[str, Any], turn: str, answers: Sequence[str], chosen: str, place: Place
) -> list[_Item]:
    """Write a choice as comparisons, with what the annotator says of it."""
    said: _Item = {"annotator": person_of(row, "annotator_id", place)}
    if row.get(f"{turn}_turn_feedback") not in (None, ""):
        said["feedback"] = text_of(row, f"{turn}_turn_feedback", place)
    return [{**said, **vote} for vote in best_of(len(answers), answers.index(chosen))]


def _add(item: _Item, place: Place, shared: _Items) -> None:
    """Add a first turn to those of the same prompt and answers, whatever their order."""
    key = (json.dumps(item["prompt"]), *sorted(item["responses"]))
    if key not in shared:
        shared[key] = item, place
        return
    first, _ = shared[key]
    at = [first["responses"].index(text) for text in item["responses"]]
    for vote in item["judgements"]:
        first["judgements"].append({**vote, "comparison": [at[n] for n in vote["comparison"]]})
    for name in [name for name in first if name not in ("prompt", "responses", "judgements")]:
        if first[name] != item.get(name):  # it is of one conversation, not of all
            del first[name]


def _read_annotators(files: Sequence[Path]) -> Covariates:
    """Read what annotators say of themselves; where their rows differ, all that they say."""
    told: dict[str, dict[str, dict[str, None]]] = {}
    for path in _sorted(files):
        for place, row in rows_of(path):
            values = told.setdefault(person_of(row, "annotator_id", place), {})
            about = {name: row.get(f"annotator_{name}") for name in _ABOUT}
            for name, value in {**about, "assigned_lang": row.get("assigned_lang")}.items():
                if value not in _UNKNOWN:
                    values.setdefault(name, {})[str(value)] = None
    return {
        who: {name: " and ".join(sorted(texts)) for name, texts in values.items()}
        for who, values in told.items()
    }


SOURCE = Source(
    name="community_alignment",
    title="Community Alignment",
    licence="CC BY 4.0",
    citation=(
        "Zhang, Milli, Jusko, Smith, Amos, Bouaziz, Revel, Kussman, Sheynin, Titus, Radharapu, Yu, "
        "Sarma, Rose and Nickel (2025), Cultivating Pluralism In Algorithmic Monoculture: The "
        "Community Alignment Dataset, arXiv:2507.09650"
    ),
    published="https://huggingface.co/datasets/facebook/community-alignment-dataset",
    files=_FILES,
    holds=("comparisons", "annotators", "covariates"),
    gives=(
        "the best of four answers as chosen by named annotators in English, French, Hindi, Italian "
        "or Portuguese (assigned_lang), in up to four turns of a chat; a choice is three "
        "comparisons of weight 1/2, without ties; many people judge the same first turn; "
        "demographics of each"
    ),
    read=_read,
    read_annotators=_read_annotators,
)
