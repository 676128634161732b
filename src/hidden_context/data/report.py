"""What was read, dropped and cut on the way from a file to training data: counted, never silent."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from hidden_context.data.preferences import Preference


@dataclass
class ReadReport:
    """Counts of one read: ``rows = kept + empty + too_long + limited + len(malformed)``.

    Attributes:
        source: Where the rows came from.
        rows: Rows found (those of other data subsets not counted); a ranking of n responses
            counts as the n(n−1)/2 rows of its pairs.
        kept: Rows that remain.
        empty: Rows dropped because a side holds no text.
        identical: Rows kept whose two sides are the same.
        too_long: Rows dropped because a side is longer than the limit in tokens.
        truncated: Rows kept with a side cut to the limit in tokens.
        limited: Rows left out because fewer were asked for.
        malformed: Rows skipped, each as ``file, line: what is wrong``.
        rankings: Rows of the source that were rankings, before any division or limit.
    """

    source: str
    rows: int = 0
    kept: int = 0
    empty: int = 0
    identical: int = 0
    too_long: int = 0
    truncated: int = 0
    limited: int = 0
    malformed: list[str] = field(default_factory=list)
    rankings: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Return the counts as what JSON can hold."""
        return dataclasses.asdict(self)

    def part(self, name: str, preferences: Iterable[Preference]) -> ReadReport:
        """Return the report of a part that a split made of the rows."""
        rows = list(preferences)
        return ReadReport(
            source=f"{self.source} ({name})",
            rows=len(rows),
            kept=len(rows),
            identical=sum(preference.identical for preference in rows),
        )

    def __str__(self) -> str:
        notes = [
            f"{count} {text}"
            for count, text in (
                (
                    self.rankings,
                    "row was a ranking" if self.rankings == 1 else "rows were rankings",
                ),
                (self.empty, "dropped because a side is empty"),
                (self.too_long, "dropped because a side is too long"),
                (len(self.malformed), "skipped as malformed"),
                (self.limited, "left out by the size limit"),
                (self.truncated, "truncated"),
                (self.identical, "kept with both sides the same"),
            )
            if count
        ]
        details = f" ({', '.join(notes)})" if notes else ""
        text = f"{self.source}: {self.kept} of {self.rows} pairs kept{details}."
        if self.malformed:
            shown = "; ".join(self.malformed[:3])
            text += f" Malformed: {shown}{' …' if len(self.malformed) > 3 else ''}"
        return text
