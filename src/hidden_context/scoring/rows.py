"""From examples to the rows of an evaluation, and from its file back to examples."""

from __future__ import annotations

import dataclasses
from collections import ChainMap
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from hidden_context.data.example import Example, Rating
from hidden_context.data.expand import comparisons_of, expand_pairs
from hidden_context.data.files import iter_jsonl
from hidden_context.data.importers import read_row
from hidden_context.data.importers.pairs import SIDES, is_pair
from hidden_context.data.responses import Kind, ScoringRow

# Of a row with several responses; what each rated one has of them is written anew.
_OF_ALL: Final = (
    *("prompt", "responses", "ranks", "rankings", "ratings", "judgements", "annotator", "weight"),
    *("text", "messages", "response", "rating"),
)


def rows_of(examples: Sequence[Example], data_subset: str) -> list[ScoringRow]:
    """Write examples as rows of pairs and of single texts, which read as the same examples.

    Args:
        examples: The examples. A pair stays one row, however many judged it; of several responses
            every comparison is a pair (see ``expand_pairs``); a rated text that is in no pair
            stands alone.
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
        rows.append(
            ScoringRow(
                len(rows),
                part.source_lines[0] if part.source_lines else len(rows) + 1,
                columns,
                part.texts,
                kind,
                prompt=part.known_prompt,
                tools=part.tools,
                file=part.source_file,
            )
        )
    return rows


def _parts(example: Example) -> list[Example]:
    given = example.columns.get("responses") or example.responses[:1]
    if is_pair(example.columns):
        return [example]
    if len(example.responses) == 1:  # perhaps the only one that held text
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
    return expand_pairs(example) + alone


def _rated_text(example: Example, place: int) -> Example:
    """Let one response of several, and its ratings, stand alone."""
    ratings = []
    for judgement in example.judgements:
        answer, said = judgement.answer, judgement.columns
        if isinstance(answer, Rating) and answer.response == place:
            entry = dict(said.maps[0]) if isinstance(said, ChainMap) else {}
            entry |= {"annotator": judgement.annotator, "weight": judgement.weight}
            entry.pop("response", None)
            ratings.append({**entry, "rating": answer.value})
    text = example.text(place)
    columns = {name: value for name, value in example.columns.items() if name not in _OF_ALL}
    columns |= {"text" if isinstance(text, str) else "messages": text, "ratings": ratings}
    return dataclasses.replace(
        read_row(columns),
        prompt=example.prompt,
        responses=(example.responses[place],),
        tools=example.tools,
    )


def read_scored(path: Path) -> tuple[list[Example], Tensor]:
    """Read the rows of an evaluation's file back; rows without rewards are left out.

    Args:
        path: The file.

    Returns:
        E examples, the texts of pairs left out; and the raw outputs of their responses, in float64
        of shape ``(R, K)``.

    Raises:
        DataError: If a row is malformed, naming its line.
    """
    examples, raw = [], []
    for line, row in iter_jsonl(path):
        compared = f"reward_output_{SIDES[0]}" in row
        names = [f"reward_output_{side}" for side in SIDES] if compared else ["reward_output"]
        own = [row[name] for name in names]
        if None in own:
            continue
        blank: dict[str, Any] = {"prompt": None, **dict.fromkeys(SIDES, "")} if compared else {}
        examples.append(read_row({**row, **blank}, file=path, line=line))
        raw += own
    return examples, torch.tensor(raw, dtype=torch.float64)
