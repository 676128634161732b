"""Items with the same words: a vote on one informs the others."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from hidden_context.check.items import NOBODY, Items
from hidden_context.statistics.checks import Codes, Floats


@dataclass(frozen=True, eq=False)
class Twins:
    """Which of I items are nearly the same.

    Attributes:
        number: Items of one number are twins, of shape ``(I,)``.
        facing: 1 or −1: twins of the same sign have their sides in the same order, ``(I,)``.
    """

    number: Codes
    facing: Codes

    def others(self, counts: Floats) -> Floats:
        """Votes on each item's twins, turned to face as the item does, of shape ``(I, 3)``."""
        turned = np.where((self.facing == 1)[:, None], counts, counts[:, ::-1])
        sums = np.zeros((int(self.number.max(initial=-1)) + 1, 3))
        np.add.at(sums, self.number, turned)
        rest = sums[self.number] - turned
        return np.where((self.facing == 1)[:, None], rest, rest[:, ::-1])


def find_twins(items: Items) -> Twins:
    """Find items whose texts differ only in case, punctuation and word order.

    Args:
        items: The items.

    Returns:
        Which items are twins.
    """
    responses = [_words(response.shown) for response in items.responses]
    prompts = [_words(prompt) for prompt in items.prompts]
    known: dict[tuple[str, ...], int] = {}
    number, facing = np.zeros(len(items), np.int64), np.ones(len(items), np.int64)
    sides = zip(items.prompt.tolist(), items.first.tolist(), items.second.tolist(), strict=True)
    for item, (prompt, first, second) in enumerate(sides):
        texts = [responses[side] for side in (first, second) if side != NOBODY]
        number[item] = known.setdefault((prompts[prompt], *sorted(texts)), len(known))
        facing[item] = 1 if texts == sorted(texts) else -1
    return Twins(number, facing)


def _words(text: str) -> str:
    return " ".join(sorted(re.findall(r"\w+", text.casefold()))) or text.strip()
