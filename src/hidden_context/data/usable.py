"""What of an example can be used: responses that hold text, and judgements that are votes."""

from __future__ import annotations

from collections.abc import Sequence

from hidden_context.data.dialogue import is_blank
from hidden_context.data.example import Example
from hidden_context.data.importers.pairs import SIDES


def blank_responses(example: Example) -> list[int]:
    """List the places of responses without any text.

    Of a pair, the sides are looked at as its row gives them, with the prompt inside or not.
    """
    sides = [example.columns.get(side) for side in SIDES]
    given = len(example.responses) == len(SIDES) and None not in sides
    return [
        place
        for place, response in enumerate(example.responses)
        if is_blank(sides[place] or "" if given else response)
    ]


def has_votes(example: Example) -> bool:
    """Tell whether anybody judged an example, rather than abstained."""
    return example.abstentions < len(example.judgements)


def keep_responses(example: Example, places: Sequence[int]) -> Example | None:
    """Keep some of an example's responses, where what is left can be used.

    Args:
        example: The example.
        places: Places of the responses to keep, in order.

    Returns:
        The example itself where all stay. None where no vote is left, or one side of a pair.
    """
    if len(places) == len(example.responses):
        return example
    if len(example.responses) == 2:
        return None
    left = example.select(places)
    return left if has_votes(left) else None
