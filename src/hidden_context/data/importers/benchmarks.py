"""Published benchmarks: RewardBench 2 and RM-Bench (lists of answers), and JudgeBench."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from itertools import combinations, product
from typing import Any

from hidden_context.data.checks import Place, read_conversation
from hidden_context.data.dialogue import is_blank
from hidden_context.data.example import Comparison, Example, Judgement
from hidden_context.data.importers import pairs
from hidden_context.data.importers.answers import Said, of_row, refuse
from hidden_context.data.importers.prompts import check_alike, divide, divide_given
from hidden_context.data.importers.rankings import PAIR_COLUMNS
from hidden_context.data.published import JUDGED, has_lists, plain_row

_EXAMPLE = 'Write {"prompt": "...", "chosen": ["...", "..."], "rejected": ["...", "..."]}'


def recognises(row: Mapping[str, Any]) -> bool:
    """Return whether a row lists chosen and rejected responses, or is from JudgeBench."""
    return has_lists(row) or all(row.get(name) is not None for name in JUDGED)


def read(row: dict[str, Any], place: Place) -> Example:
    """Read right and wrong answers to one prompt.

    Every right answer is better than every wrong answer. In RewardBench 2's ``subset`` ``Ties`` the
    right answers also tie. Otherwise two answers of one side are not compared. Together, n answers
    count like n − 1 comparisons, as in a ranking.

    Args:
        row: The columns ``prompt``, and ``chosen`` and ``rejected`` as lists; or ``question``,
            ``response_A``, ``response_B`` and ``label``. Optionally ``annotator`` and ``weight``;
            other columns pass through untouched.
        place: Where the row stands, for errors.

    Returns:
        An example with the right answers first.

    Raises:
        DataError: If a column is missing or of the wrong kind, or belongs to a pair (such as
            ``margin``), naming file, line and field.
    """
    problem = "the column describes a plain pair, not lists of answers or a label"
    refuse(row, PAIR_COLUMNS, problem, place)
    plain = plain_row(row, place)
    if not has_lists(row):
        return dataclasses.replace(pairs.read(plain, place), columns=row)
    names = [f"{side}[{number}]" for side in pairs.SIDES for number in range(len(row[side]))]
    sides, right = plain["responses"], len(row[pairs.SIDES[0]])
    check_alike(dict(zip(names, sides, strict=True)), place, _EXAMPLE)
    ties = str(row.get("subset")).casefold() == "ties"
    judgements = _compare(right, len(sides), ties, of_row(row, place))
    prompt = read_conversation(plain["prompt"], "prompt", place)
    if is_blank(prompt):
        prompt, responses = divide(prompt, sides, sides)
    else:
        prompt, responses = divide_given(prompt, sides, place)
    return Example(prompt, responses, judgements, row)


def _compare(right: int, count: int, ties: bool, own: Said) -> tuple[Judgement, ...]:
    """Return the comparisons of ``count`` answers, of which the first ``right`` are right."""
    said = [Comparison(*two) for two in product(range(right), range(right, count))]
    if ties:
        said += [Comparison(*two, preference=0.5) for two in combinations(range(right), 2)]
    weight = own.keywords["weight"] * (count - 1) / len(said)
    return tuple(own(one, weight=weight) for one in said)
