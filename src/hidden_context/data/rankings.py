"""Rankings of several responses to a prompt, brought to pairs in the schema of preferences."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations
from pathlib import Path
from typing import Any

from hidden_context.data.checks import describe, read_integer, read_number, read_weight
from hidden_context.data.dialogue import Conversation, begins_with, is_blank, join, shared_prompt
from hidden_context.data.preferences import Preference, check_conversation, parse_preference
from hidden_context.errors import DataError

_EXAMPLE = 'Write {"prompt": "...", "responses": ["...", "..."], "ranks": [1, 2]}'
_OWN_COLUMNS = ("prompt", "responses", "ranks", "ratings", "chosen", "rejected", "weight")
# They say which of two sides is better, and by how much: a whole ranking has no sides.
_PAIR_COLUMNS = (
    "preference",
    "margin",
    "strength",
    "annotations",
    "rating_chosen",
    "rating_rejected",
)


def is_ranking(row: Mapping[str, Any]) -> bool:
    """Tell whether a row is a ranking: it has ``ranks`` and neither ``chosen`` nor ``rejected``.

    Null is as good as absent, as tables that hold pairs too have all columns in every row.
    """
    return row.get("ranks") is not None and not any(
        row.get(side) is not None for side in ("chosen", "rejected")
    )


def _read_list(
    row: Mapping[str, Any], field: str, count: int, file: Path | str | None, line: int | None
) -> list[Any]:
    """Check that a column holds a list of a length, or of at least two where ``count`` is 0."""
    value = row.get(field)
    what = {"responses": "response", "ranks": "rank", "ratings": "rating"}[field]
    if value is None:
        problem = "the column is missing or null"
    elif not isinstance(value, list):
        problem = f"a list of {what}s is needed, not {describe(value)}"
    elif not count and len(value) < 2:
        problem = f"a ranking has at least 2 responses, not {len(value)}"
    elif count and len(value) != count:
        problem = f"{len(value)} {what}s are given for {count} responses"
    else:
        return value
    raise DataError(problem, file=file, line=line, field=field, remedy=_EXAMPLE)


def _read_prompt(row: Mapping[str, Any], file: Path | str | None, line: int | None) -> Conversation:
    prompt = check_conversation(row.get("prompt") or "", "prompt", file, line)
    if not is_blank(prompt):
        return prompt
    raise DataError(
        "a ranking needs the prompt that its responses answer",
        file=file,
        line=line,
        field="prompt",
        remedy=_EXAMPLE,
    )


def _read_responses(
    row: Mapping[str, Any], file: Path | str | None, line: int | None
) -> list[Conversation]:
    values = _read_list(row, "responses", 0, file, line)
    responses = [
        check_conversation(value, f"responses[{number}]", file, line)
        for number, value in enumerate(values)
    ]
    for number, response in enumerate(responses):
        if isinstance(response, str) != isinstance(responses[0], str):
            raise DataError(
                "the responses have to be all text or all chat messages",
                file=file,
                line=line,
                field=f"responses[{number}]",
                remedy=_EXAMPLE,
            )
    return responses


def _read_ranks(
    row: Mapping[str, Any], count: int, file: Path | str | None, line: int | None
) -> list[int]:
    remedy = "'ranks' counts from 1, the best; responses of equal rank are tied"
    ranks = []
    for number, value in enumerate(_read_list(row, "ranks", count, file, line)):
        # Null is no rank: a response that nobody ranked is not worse than the others.
        field = f"ranks[{number}]"
        rank = read_integer(value, field, file, line, low=1, remedy=remedy)
        if rank is None:
            raise DataError(
                "an integer is needed, not null",
                file=file,
                line=line,
                field=field,
                remedy="Leave out responses that were not ranked",
            )
        ranks.append(rank)
    return ranks


def _spell_alike(
    prompt: Conversation,
    responses: list[Conversation],
    file: Path | str | None,
    line: int | None,
) -> tuple[Conversation, list[Conversation]]:
    """Make every pair of a ranking read the prompt, and each response, in the same way.

    A pair gets the prompt put before its sides unless both begin with it, and its prompt may be
    taken from what they share. Both have to be one decision for the whole ranking, or a response
    would be another text in another pair, and a split by prompt could part the pairs.
    """
    answers = [response for response in responses if not is_blank(response)]
    inside = [begins_with(response, prompt) for response in answers]
    if not all(inside):
        if isinstance(prompt, str) and not isinstance(responses[0], str):
            prompt = [{"role": "user", "content": prompt}]
        if any(inside):
            responses = [r if is_blank(r) else join(prompt, r) for r in responses]
    elif isinstance(prompt, str) and len(answers) > 1:
        first, *others = answers
        if not all(isinstance(r, str) and r.startswith(prompt) for r in answers):
            prompt = min((shared_prompt(first, other) for other in others), key=len)
            if is_blank(prompt):
                raise DataError(
                    "the responses all have the prompt inside, but do not begin alike",
                    file=file,
                    line=line,
                    field="responses",
                    remedy="Leave the prompt out of them, or spell what stands before it alike",
                )
    return prompt, responses


def expand_ranking(
    row: Mapping[str, Any], *, file: str | Path | None = None, line: int | None = None
) -> list[dict[str, Any]]:
    """Write a ranking of n responses as the rows of its n(n−1)/2 pairs.

    In each the better-ranked response is the chosen one, with ``preference`` 1; of two with equal
    ranks it is the first, with ``preference`` 0.5. Each response stands in n − 1 pairs, so each
    pair has the ``weight`` 2/n (times the row's own): the ranking counts like n − 1 comparisons.

    Args:
        row: The columns ``prompt``, ``responses`` (n ≥ 2 texts or lists of chat messages),
            ``ranks`` (n integers from 1, the best), optionally ``ratings`` (n numbers or nulls,
            which become ``rating_chosen`` and ``rating_rejected``) and others, which every pair
            gets.
        file: Where the row stands, for errors.
        line: Its line or row number.

    Returns:
        The rows of the pairs, in the order of the responses.

    Raises:
        DataError: If a column is missing or of the wrong kind or length, or belongs to a pair
            (such as ``margin``), naming file, line and field.
    """
    for field in _PAIR_COLUMNS:
        if row.get(field) is not None:
            raise DataError(
                "the column says something of one pair, but this row is a ranking",
                file=file,
                line=line,
                field=field,
                remedy="Leave it out, or write the pairs with 'chosen' and 'rejected'",
            )
    prompt = _read_prompt(row, file, line)
    responses = _read_responses(row, file, line)
    count = len(responses)
    ranks = _read_ranks(row, count, file, line)
    ratings: list[float | None] | None = None
    if row.get("ratings") is not None:
        ratings = [
            read_number(value, f"ratings[{number}]", file, line)
            for number, value in enumerate(_read_list(row, "ratings", count, file, line))
        ]
    weight = read_weight(row.get("weight"), file, line) * 2 / count
    prompt, responses = _spell_alike(prompt, responses, file, line)
    shared = {k: v for k, v in row.items() if k not in _OWN_COLUMNS + _PAIR_COLUMNS}
    pairs = []
    for one, other in combinations(range(count), 2):
        chosen, rejected = (other, one) if ranks[other] < ranks[one] else (one, other)
        pair = {
            "prompt": prompt,
            "chosen": responses[chosen],
            "rejected": responses[rejected],
            **shared,
            "preference": 0.5 if ranks[one] == ranks[other] else 1.0,
            "weight": weight,
        }
        if ratings is not None:
            pair |= {"rating_chosen": ratings[chosen], "rating_rejected": ratings[rejected]}
        pairs.append(pair)
    return pairs


def parse_preferences(
    row: dict[str, Any], *, file: str | Path | None = None, line: int | None = None
) -> list[Preference]:
    """Read one row of preference data, whether it is a pair or a ranking.

    Args:
        row: The columns, see ``preferences.parse_preference`` and ``expand_ranking``.
        file: Where the row stands, for errors.
        line: Its line or row number; kept as ``source_line`` of every pair.

    Returns:
        The one preference of a pair, or the n(n−1)/2 of a ranking (see ``is_ranking``).

    Raises:
        DataError: If a column is missing or of the wrong kind, naming file, line and field.
    """
    rows = expand_ranking(row, file=file, line=line) if is_ranking(row) else [row]
    return [parse_preference(pair, file=file, line=line) for pair in rows]
