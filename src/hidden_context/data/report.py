"""What was read, dropped and cut on the way from a file to training data: counted, never silent."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from hidden_context.data.example import Example


@dataclass
class ReadReport:
    """Counts of one read.

    ``rows = kept + merged + empty + unjudged + too_long + limited + malformed``.

    Attributes:
        source: Where the rows came from.
        rows: Rows found (those of other data subsets not counted), each an example, however many
            responses it has.
        kept: Examples that remain.
        merged: Rows that joined an earlier one of the same prompt.
        empty: Examples dropped because a side holds no text.
        unjudged: Examples dropped because nobody who looked judged them.
        identical: Examples kept whose responses are all the same.
        too_long: Examples dropped because a side is longer than the limit in tokens.
        truncated: Examples kept with a response cut to the limit in tokens.
        limited: Examples left out because fewer were asked for.
        malformed: Rows skipped, each as ``file, line: what is wrong``.
        left_out: Responses left out, empty or too long, of examples that were kept with the others.
        rankings: Rows of the source that were rankings, before any division or limit.
        abstentions: Judgements in the source that are no votes, before any division or limit.
    """

    source: str
    rows: int = 0
    kept: int = 0
    merged: int = 0
    empty: int = 0
    unjudged: int = 0
    identical: int = 0
    too_long: int = 0
    truncated: int = 0
    limited: int = 0
    malformed: list[str] = field(default_factory=list)
    left_out: int = 0
    rankings: int = 0
    abstentions: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Return the counts as what JSON can hold."""
        return dataclasses.asdict(self)

    def part(self, name: str, examples: Iterable[Example]) -> ReadReport:
        """Return the report of a part that a split made of the rows."""
        rows = list(examples)
        return ReadReport(
            source=f"{self.source} ({name})",
            rows=len(rows),
            kept=len(rows),
            identical=sum(example.identical for example in rows),
        )

    def __str__(self) -> str:
        notes = [
            f"{count} {text}"
            for count, text in (
                (
                    self.rankings,
                    "row was a ranking" if self.rankings == 1 else "rows were rankings",
                ),
                (
                    self.abstentions,
                    "abstention, which is no vote"
                    if self.abstentions == 1
                    else "abstentions, which are no votes",
                ),
                (self.merged, "joined an earlier one of the same prompt"),
                (self.empty, "dropped because a side is empty"),
                (self.unjudged, "dropped because nobody judged them"),
                (self.too_long, "dropped because a side is too long"),
                (
                    self.left_out,
                    "response left out, empty or too long"
                    if self.left_out == 1
                    else "responses left out, empty or too long",
                ),
                (len(self.malformed), "skipped as malformed"),
                (self.limited, "left out by the size limit"),
                (self.truncated, "truncated"),
                (self.identical, "kept with all responses the same"),
            )
            if count
        ]
        details = f" ({', '.join(notes)})" if notes else ""
        text = f"{self.source}: {self.kept} of {self.rows} examples kept{details}."
        if self.malformed:
            shown = "; ".join(self.malformed[:3])
            text += f" Malformed: {shown}{' …' if len(self.malformed) > 3 else ''}"
        return text
