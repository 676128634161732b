"""What is said before questions are asked: how many there are, and what they will cost."""

from __future__ import annotations

from dataclasses import dataclass

from hidden_context.relabel.cost import CHARACTERS_PER_TOKEN


@dataclass(frozen=True)
class Estimate:
    """Questions that have no answer yet.

    Attributes:
        questions: How many.
        known: How many have one.
        whom: Model and host.
        tokens: Tokens of the questions; None where they cost nothing.
        tokenizer: What counted them; None where characters did.
        cost: Expected cost; None where prices are not known.
        most: Cost if every reply is as long as it may be.
        spent: Cost of the answers that are there.
    """

    questions: int
    known: int
    whom: str
    tokens: int | None
    tokenizer: str | None
    cost: float | None
    most: float | None
    spent: float

    def __str__(self) -> str:
        said = f"{self.questions:,} questions to {self.whom}; {self.known:,} answered before."
        if self.tokens is not None:
            how = f"by {self.tokenizer}" if self.tokenizer else f"characters/{CHARACTERS_PER_TOKEN}"
            said += f" About {self.tokens:,} tokens ({how})."
        if self.cost is not None and self.most is not None:
            said += f" Expected cost {money(self.cost)}, at most {money(self.most)}"
            said += f"; {money(self.spent)} were spent before." if self.spent else "."
        return said


def money(amount: float) -> str:
    """Write an amount, with four significant digits below one.

    >>> money(12.3456), money(0.00123456)
    ('12.35', '0.001235')
    """
    return f"{amount:,.2f}" if amount >= 1 else f"{amount:.4g}"
