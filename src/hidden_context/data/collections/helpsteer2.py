"""HelpSteer2: answers rated from 0 to 4, and pairs of answers compared in seven levels."""

from __future__ import annotations

import re
from typing import Any, Final

from hidden_context.data.collections.source import Examples, Messages, Published, Row, Source, user
from hidden_context.data.example import Example

ATTRIBUTES: Final = ("helpfulness", "correctness", "coherence", "complexity", "verbosity")
_NEITHER: Final = -100
_TURN: Final = re.compile(r"\n?<extra_id_1>(User|Assistant)\n")


def strength_entry(said: Row, field: str) -> dict[str, Any]:
    """Make an entry of ``judgements`` from a published strength.

    The published strengths run from −3 (the first is much better) to 3 (the second is much better);
    0 is a tie. −100 means that neither answer can be judged, which is an abstention.

    Raises:
        DataError: If the strength is not one of these integers.
    """
    if said.get(field) == _NEITHER:
        return {"abstains": True}
    return {"comparison": [0, 1], "strength": -said.level(field, -3, 3)}


def read_ratings(row: Row, attribute: str) -> list[dict[str, Any]]:
    """Make an entry of ``judgements`` from each rating of an attribute, given as one or a list.

    Raises:
        DataError: If a rating is not an integer from 0 to 4.
    """
    value = row.get(attribute)
    values = row.listed(attribute, "rating") if isinstance(value, list) else [value]
    levels = [row.with_values({attribute: value}).level(attribute, 0, 4) for value in values]
    return [{"response": 0, "rating": float(level)} for level in levels]


def read_turns(row: Row) -> Messages:
    """Read the prompt's turns as chat messages; the first is the user's and has no mark."""
    first, turns = row.turns("prompt", _TURN)
    return user(first) + turns


def _read(files: Published) -> Examples:
    """Read pairs with each annotator's preference, and answers with their ratings."""
    yield from map(_read_pair, files.rows("preference"))
    ratings = files.of_kind["ratings"]
    if len({type(next(files.rows_of(path))["helpfulness"]) is list for path in ratings}) > 1:
        problem = "the files hold the same ratings twice: each annotator's and their means"
        raise files.error(problem, ratings[0])
    for row in files.rows("ratings"):
        yield row.example(
            prompt=read_turns(row),
            responses=[row.text("response")],
            judgements=read_ratings(row, "helpfulness"),
            data_subset="ratings",
            objective="helpfulness",
            **row.kept(*ATTRIBUTES[1:]),
        )


def _read_pair(row: Row) -> Example:
    overall = "preference_strength"
    agreed = strength_entry(row, overall)  # by the annotators who agree most
    said = [
        {**strength_entry(one, "strength"), **one.kept("justification")}
        for one in row.entries_or_none("all_preferences_unprocessed")
    ]
    return row.example(
        prompt=read_turns(row),
        responses=row.texts("response_1", "response_2"),
        judgements=said or [agreed],
        data_subset="preference",
        **row.kept("split", overall),
    )


SOURCE = Source(
    title="HelpSteer2 and HelpSteer2-Preference",
    licence="CC BY 4.0",
    citation=(
        "Wang, Dong, Delalleau, Zeng, Shen, Egert, Zhang, Sreedhar and Kuchaiev (2024), "
        "HelpSteer2: Open-source dataset for training top-performing reward models, "
        "arXiv:2406.08673; Wang, Bukharin, Delalleau, Egert, Shen, Zeng, Kuchaiev and Dong (2024), "
        "HelpSteer2-Preference: Complementing Ratings with Preferences, arXiv:2410.01257"
    ),
    published="https://huggingface.co/datasets/nvidia/HelpSteer2",
    files=(
        "preference/preference.jsonl.gz; and disagreements/disagreements.jsonl.gz (each "
        "annotator's ratings), or train.jsonl.gz and validation.jsonl.gz (their means)"
    ),
    columns={
        "preference": ("prompt", "response_1", "response_2", "preference_strength"),
        "ratings": ("prompt", "response", *ATTRIBUTES),
    },
    holds=("comparisons", "ratings", "ties", "abstentions"),
    gives=(
        "pairs of answers with the strength (-3 to 3) that each of several unnamed annotators "
        "gave, ties included; -100, neither can be judged, is an abstention; answers with unnamed "
        "annotators' ratings for helpfulness, 0 to 4"
    ),
    examples=_read,
)
