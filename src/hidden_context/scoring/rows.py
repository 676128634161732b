"""Conversion of examples to the rows of an evaluation, and of its file back to examples."""

from __future__ import annotations

import dataclasses
from collections import ChainMap
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import torch
from torch import Tensor

from hidden_context.data.example import Comparison, Example, Judgement, Rating
from hidden_context.data.importers import read_row
from hidden_context.data.importers.pairs import SIDES, is_pair
from hidden_context.data.reshape import comparisons_of, expand_pairs
from hidden_context.data.responses import Kind, ScoringRow
from hidden_context.data.row_facts import FactsReader, RowFacts
from hidden_context.data.storage.files import iter_jsonl

# Columns about all responses of a row; each pair or rated response gets them anew.
_OF_ALL: Final = (
    *("prompt", "responses", "ranks", "rankings", "ratings", "judgements", "annotator", "weight"),
    *("text", "messages", "response", "rating", "comparison", "abstains", "confidence"),
    *("preference", "strength", "margin", "rating_chosen", "rating_rejected", "annotations"),
)


def rows_of(examples: Sequence[Example], data_subset: str) -> list[ScoringRow]:
    """Write examples as rows of pairs and single texts, which are read back as the same examples.

    Args:
        examples: The examples. A pair stays one row, however many judged it; of several responses
            every two that were compared are a row, with all that was said of them in
            ``annotations`` where several votes were cast; a rated text that is in no pair stands
            alone.
        data_subset: What stands in that column where a row has nothing there.

    Returns:
        The rows, in order.
    """
    rows: list[ScoringRow] = []
    for part in (part for example in examples for part in _parts(example)):
        columns = dict(part.columns)
        if columns.get("data_subset") is None:
            columns["data_subset"] = data_subset
        kind: Kind = "pair" if len(part.responses) == 2 else "text"
        line = part.source_lines[0] if part.source_lines else len(rows) + 1
        told: Any = {"prompt": part.known_prompt, "tools": part.tools, "file": part.source_file}
        rows.append(ScoringRow(len(rows), line, columns, part.texts, kind, **told))
    return rows


def _parts(example: Example) -> list[Example]:
    given = example.columns.get("responses") or example.responses[:1]
    if is_pair(example.columns):
        return [example]
    if len(example.responses) == 1:  # perhaps the only one with text
        return [example if len(given) == 1 else _rated_text(example, 0)]
    answers = [judgement.answer for judgement in example.judgements]
    compared = {
        place
        for answer in answers
        for comparison, _ in comparisons_of(answer)
        for place in (comparison.first, comparison.second)
    }
    rated = {answer.response for answer in answers if isinstance(answer, Rating)}
    alone = [_rated_text(example, place) for place in sorted(rated - compared)]
    return _judged_pairs(example) + alone


def _judged_pairs(example: Example) -> list[Example]:
    """Make a pair of every two responses that were compared, with all votes on them."""
    places = [
        (comparison.first, comparison.second)
        for judgement in example.judgements
        for comparison, _ in comparisons_of(judgement.answer)
    ]
    together: dict[tuple[int, ...], list[tuple[Example, bool]]] = {}
    for (first, second), pair in zip(places, expand_pairs(example), strict=True):
        together.setdefault(tuple(sorted((first, second))), []).append((pair, first > second))
    abstained = len(example.responses) == 2 and example.abstentions > 0
    return [
        _pair_of_votes(example, both, votes) if len(votes) > 1 or abstained else votes[0][0]
        for both, votes in together.items()
    ]


def _pair_of_votes(
    example: Example, places: tuple[int, ...], votes: list[tuple[Example, bool]]
) -> Example:
    """Write votes on two responses as one row, in the order of the responses."""
    entries = [_entry(judgement, turned) for pair, turned in votes for judgement in pair.judgements]
    if len(example.responses) == 2:  # with more, an abstention names no pair
        entries += [
            {**_said_by(judgement), "abstains": True}
            for judgement in example.judgements
            if judgement.abstains
        ]
    first = {"prompt": example.prompt, **dict(zip(SIDES, map(example.text, places), strict=True))}
    if example.tools is not None:
        first["tools"] = example.tools
    return _part(example, places, first, {"annotations": entries})


def _part(
    example: Example, places: tuple[int, ...], first: dict[str, Any], last: dict[str, Any]
) -> Example:
    """Make an example from some of the responses, with other columns before and after."""
    passing = {name: value for name, value in example.columns.items() if name not in _OF_ALL}
    return dataclasses.replace(
        read_row({**first, **passing, **last}),
        prompt=example.prompt,
        responses=tuple(example.responses[place] for place in places),
        tools=example.tools,
        source_file=example.source_file,
        source_lines=example.source_lines,
    )


def _entry(judgement: Judgement, turned: bool) -> dict[str, Any]:
    """Write a vote on a pair, or the rating of one of its sides, as an entry of ``annotations``."""
    answer, entry = judgement.answer, _said_by(judgement)
    if isinstance(answer, Rating):
        return {**entry, f"rating_{SIDES[answer.response ^ turned]}": answer.value}
    assert isinstance(answer, Comparison)
    sign = -1 if turned else 1
    entry["preference"] = 1 - answer.preference if turned else answer.preference
    said = {"strength": answer.strength, "margin": answer.margin}
    return entry | {name: sign * value for name, value in said.items() if value is not None}


def _said_by(judgement: Judgement) -> dict[str, Any]:
    """Return the annotator, the weight, and the other fields of a judgement."""
    said = judgement.columns
    entry = dict(said.maps[0]) if isinstance(said, ChainMap) else {}
    named = {"annotator": judgement.annotator, "confidence": judgement.confidence}
    return {
        **{name: value for name, value in entry.items() if name not in _OF_ALL},
        **{name: value for name, value in named.items() if value is not None},
        "weight": judgement.weight,
    }


def _rated_text(example: Example, place: int) -> Example:
    """Make an example of one response of several, with its ratings."""
    ratings = []
    for judgement in example.judgements:
        answer = judgement.answer
        if isinstance(answer, Rating) and answer.response == place:
            ratings.append({**_said_by(judgement), "rating": answer.value})
    text = example.text(place)
    last = {"text" if isinstance(text, str) else "messages": text, "ratings": ratings}
    return _part(example, (place,), {}, last)


class Scored(NamedTuple):
    """The rows of an evaluation that have rewards.

    Attributes:
        examples: E examples, the texts of pairs left out.
        raw: Raw outputs of their responses, in float64 of shape ``(R, K)``.
        facts: Prompts, items and lengths of the E examples.
    """

    examples: list[Example]
    raw: Tensor
    facts: RowFacts


def read_scored(path: str | Path) -> Scored:
    """Read the rows of an evaluation's file back; rows without rewards are left out.

    Args:
        path: The file.

    Returns:
        The rows.

    Raises:
        DataError: If a row is malformed, naming its line.
    """
    examples, raw, facts = [], [], FactsReader()
    for line, row in iter_jsonl(path):
        compared = f"reward_output_{SIDES[0]}" in row
        names = [f"reward_output_{side}" for side in SIDES] if compared else ["reward_output"]
        own = [row[name] for name in names]
        if None in own:
            continue
        facts.add(row)
        blank: dict[str, Any] = {"prompt": None, **dict.fromkeys(SIDES, "")} if compared else {}
        examples.append(read_row({**row, **blank}, file=path, line=line))
        raw += own
    return Scored(examples, torch.tensor(raw, dtype=torch.float64), facts.facts())
