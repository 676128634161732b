"""The cost of questions: estimated, summed up while they are asked, and limited."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from hidden_context.errors import ConfigError, first_line
from hidden_context.relabel.config import CostOptions
from hidden_context.relabel.questions import chat_ids
from hidden_context.relabel.replies import Reply

CHARACTERS_PER_TOKEN: Final = 4
REPLY_TOKENS: Final = 2
"""Tokens that a reply is estimated at: a letter, and the end."""
CORRECTED_AFTER: Final = 20
"""Replies whose own counts correct the estimate."""
_MILLION: Final = 1e6

Counter = Callable[[str], int]


def token_counter(name: str | None) -> Counter:
    """Return a function that counts the tokens of a question.

    Args:
        name: Folder or hub id of the tokenizer, whose chat template is applied where it has one;
            None to take a token for every ``CHARACTERS_PER_TOKEN`` characters.

    Raises:
        ConfigError: If there is no such tokenizer.
    """
    if name is None:
        return lambda text: -(-len(text) // CHARACTERS_PER_TOKEN)
    from transformers import AutoTokenizer

    try:
        tokenizer: Any = AutoTokenizer.from_pretrained(name)
    except (OSError, ValueError, KeyError) as error:
        raise ConfigError(
            f"--tokenizer {name!r} cannot be loaded: {first_line(error)} Leave it out to count "
            f"characters/{CHARACTERS_PER_TOKEN}."
        ) from error
    if not getattr(tokenizer, "chat_template", None):
        return lambda text: len(tokenizer.encode(text, verbose=False))
    return lambda text: len(chat_ids(tokenizer, text))


class Meter:
    """Sums up costs, and tells whether another question fits the limit.

    Args:
        options: The prices, and the maximum cost.
        max_tokens: The maximum number of tokens of a reply.
    """

    def __init__(self, options: CostOptions, max_tokens: int) -> None:
        self.options, self._max_tokens = options, max_tokens
        self.input_tokens, self.output_tokens, self.uncounted = 0, 0, 0
        self.under_way = 0
        self._reserved = 0.0
        self._ratios: list[float] = []
        self._outputs: list[int] = []

    @property
    def has_prices(self) -> bool:
        """Whether prices are known."""
        return self.options.price_input is not None

    @property
    def spent(self) -> float:
        """Cost of all answers so far; 0 where prices are not known."""
        return self._cost(self.input_tokens, self.output_tokens)

    @property
    def ratio(self) -> float:
        """The server's count of a question's tokens over the estimate; 1 before enough replies."""
        return statistics.fmean(self._ratios) if len(self._ratios) >= CORRECTED_AFTER else 1.0

    def add(self, reply: Reply, estimate: int) -> bool:
        """Add the cost of an answer; the estimate if the server counted no tokens.

        Returns:
            Whether this answer is the one from which on ``ratio`` corrects the estimate.
        """
        if reply.input_tokens is None or reply.output_tokens is None:
            self.uncounted += 1
            self.input_tokens += estimate
            self.output_tokens += REPLY_TOKENS
            return False
        self.input_tokens += reply.input_tokens
        self.output_tokens += reply.output_tokens
        self._ratios.append(reply.input_tokens / max(estimate, 1))
        self._outputs.append(reply.output_tokens)
        return len(self._ratios) == CORRECTED_AFTER

    def expected(self, tokens: int, questions: int) -> float:
        """Expected cost of questions, corrected by the replies so far."""
        output = statistics.fmean(self._outputs) if self._outputs else REPLY_TOKENS
        return self._cost(tokens * self.ratio, output * questions)

    def most(self, tokens: int, questions: int = 1) -> float:
        """Cost of questions whose replies are all as long as they may be."""
        return self._cost(tokens * self.ratio, self._max_tokens * questions)

    def fits(self, tokens: int) -> bool:
        """Tell whether one more question is within the limit, however long its reply."""
        limit = self.options.max_cost
        return limit is None or self.spent + self._reserved + self.most(tokens) <= limit

    def start(self, tokens: int) -> float:
        """Note that a question is under way; return the cost reserved for it."""
        put_by = self.most(tokens)
        self._reserved += put_by
        self.under_way += 1
        return put_by

    def finish(self, put_by: float) -> None:
        """Note that a question is no longer under way."""
        self._reserved -= put_by
        self.under_way -= 1

    def _cost(self, input_tokens: float, output_tokens: float) -> float:
        prices = self.options.price_input or 0.0, self.options.price_output or 0.0
        return (input_tokens * prices[0] + output_tokens * prices[1]) / _MILLION


@dataclass(frozen=True)
class Estimate:
    """An estimate of the cost of the questions that have no answer yet.

    Attributes:
        questions: The number of open questions.
        known: The number of questions with an answer.
        whom: The model and the host.
        tokens: The tokens of the open questions; None if they cost nothing.
        tokenizer: The tokenizer that counted them; None if characters were counted.
        cost: The expected cost; None if prices are unknown.
        most: The cost if every reply has the maximum length.
        spent: The cost of the answers so far.
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
        said = f"Questions to {self.whom}: {self.questions:,}; answered before: {self.known:,}."
        if self.tokens is not None:
            how = f"by {self.tokenizer}" if self.tokenizer else f"characters/{CHARACTERS_PER_TOKEN}"
            said += f" About {self.tokens:,} tokens ({how})."
        if self.cost is not None and self.most is not None:
            said += f" Expected cost {money(self.cost)}, at most {money(self.most)}"
            said += f"; spent before: {money(self.spent)}." if self.spent else "."
        return said


def money(amount: float) -> str:
    """Write an amount, with four significant digits below one.

    >>> money(12.3456), money(0.00123456)
    ('12.35', '0.001235')
    """
    return f"{amount:,.2f}" if amount >= 1 else f"{amount:.4g}"
