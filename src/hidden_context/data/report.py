"""Selection of usable examples, and a report of what was dropped and truncated."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeAlias

from hidden_context.data.dialogue import Conversation, is_blank
from hidden_context.data.example import Example
from hidden_context.data.importers.pairs import SIDES, is_pair
from hidden_context.errors import DataError, HiddenContextWarning

# Share of the rows that may be lost without a warning.
_MOST_LOST: Final = 0.2
# Words for each count that is not zero: singular | plural.
_NOTES: Final = {
    "rankings": "row of the source was a ranking | rows of the source were rankings",
    "abstentions": "abstention, which is not a vote | abstentions, which are not votes",
    "repeated": "repeated judgement by an annotator of the same responses in one row | repeated "
    "judgements by annotators of the same responses in one row",
    "empty": "dropped because a side is empty",
    "unjudged": "dropped because nobody judged them",
    "too_long": "dropped because a side is too long",
    "left_out": "response left out, empty or too long | responses left out, empty or too long",
    "malformed": "skipped as malformed",
    "limited": "left out by the size limit",
    "truncated": "truncated",
    "identical": "kept with all responses the same",
}


@dataclass
class ReadReport:
    """Counts from reading one source.

    ``rows = kept + merged + empty + unjudged + too_long + limited + malformed``.

    Attributes:
        source: Where the rows came from.
        rows: Rows found (without other data subsets), each an example, however many
            responses it has.
        kept: Examples that remain.
        merged: Rows that joined an earlier one of the same prompt.
        empty: Examples dropped because a side holds no text.
        unjudged: Examples dropped because every annotator abstained.
        identical: Examples kept whose responses are all the same.
        too_long: Examples dropped because a side is longer than the limit in tokens.
        truncated: Examples kept with a response cut to the limit in tokens.
        limited: Examples left out because fewer were asked for.
        malformed: Rows skipped, each as ``file, line: what is wrong``.
        left_out: Responses left out, empty or too long, of examples that were kept with the others.
        rankings: Rows of the source that were rankings, before any division or limit.
        abstentions: Judgements in the source that are not votes, before any division or limit.
        repeated: Judgements in the source by an annotator who judged the same before, in one row.
        unread: Keys of list entries that are not read, such as ``annotations.comment``.
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
    repeated: int = 0
    unread: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Return the counts as a dictionary for JSON."""
        return dataclasses.asdict(self)

    def warn_of_losses(self, dropped: int = 0, left: float = 1.0, note: str = "") -> None:
        """Warn, with the reasons, if more than a fifth of the examples is lost.

        Args:
            dropped: How many of the examples counted here were dropped after reading.
            left: Share of what was read, and asked for, that is left.
            note: Further reasons.
        """
        lost = self.rows - self.kept - self.merged - self.limited - dropped
        share = 1 - (1 - lost / max(self.rows, 1)) * left
        if share > _MOST_LOST:
            words = f"{share:.0%} of the examples are lost: {self} {note}".rstrip()
            warnings.warn(words, HiddenContextWarning, stacklevel=2)

    def __str__(self) -> str:
        # Merging rows of one prompt loses nothing.
        notes = [f"{self.rows} rows, one example for each prompt"] if self.merged else []
        for name, words in _NOTES.items():
            count = getattr(self, name)
            count = len(count) if isinstance(count, list) else count
            if count:
                one, _, many = words.partition(" | ")
                notes.append(f"{count} {many if many and count > 1 else one}")
        details = f" ({', '.join(notes)})" if notes else ""
        there = self.rows - self.merged
        noun = "example" if there == 1 else "examples"
        text = f"{self.source}: {self.kept} of {there} {noun} kept{details}."
        if self.unread:
            text += f" Keys that are not read: {', '.join(self.unread)}."
        if self.malformed:
            shown = "; ".join(self.malformed[:3])
            text += f" Malformed: {shown}{' …' if len(self.malformed) > 3 else ''}"
        return text


OverLength: TypeAlias = Literal["drop", "truncate", "keep"]


def blank_responses(example: Example) -> list[int]:
    """List the places of responses without any text.

    In a pair, the two sides are checked as the row gives them, with or without the prompt.
    """
    texts: Sequence[Conversation] = example.responses
    if len(texts) == len(SIDES) and is_pair(example.columns):
        texts = [example.columns.get(side) or "" for side in SIDES]
    return [place for place, text in enumerate(texts) if is_blank(text)]


def has_votes(example: Example) -> bool:
    """Tell whether at least one judgement of an example is a vote."""
    return example.abstentions < len(example.judgements)


def keep_responses(example: Example, places: Sequence[int]) -> Example | None:
    """Return an example with only some of its responses, or None if the rest is unusable.

    Args:
        example: The example.
        places: Places of the responses to keep, in order.

    Returns:
        The example itself where all stay. None where no vote is left, or one side of a pair.
    """
    if len(places) == len(example.responses):
        return example
    if len(example.responses) == 2 or not places:
        return None
    left = example.select(places)
    return left if has_votes(left) else None


@dataclass
class UsableExamples:
    """Examples that are usable after tokenizing; the lists are parallel.

    Attributes:
        examples: The examples kept, without the responses that were left out.
        indices: The place of each among the examples given.
        places: Which responses of each are left.
    """

    examples: list[Example] = field(default_factory=list)
    indices: list[int] = field(default_factory=list)
    places: list[list[int]] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.indices)


def keep_usable(
    examples: Sequence[Example],
    lengths: Sequence[Sequence[int | DataError]],
    max_length: int | None,
    over_length: OverLength,
    on_malformed: Literal["error", "skip"] = "error",
    report: ReadReport | None = None,
) -> UsableExamples:
    """Leave out responses that are too long, have no tokens or are rejected by the chat template.

    Args:
        examples: The examples.
        lengths: Tokens of each response of each, or why the chat template refuses it.
        max_length: The most tokens; None for no limit.
        over_length: Whether responses that are longer are dropped, to be cut, or kept.
        on_malformed: Whether a response that the template refuses is an error, or left out.
        report: Brought up to date with what was left out and cut.

    Returns:
        What is left.

    Raises:
        DataError: If the template refuses a response, naming file and line.
    """
    found, report = UsableExamples(), report or ReadReport("")
    for index, (example, own) in enumerate(zip(examples, lengths, strict=True)):
        refused = [length for length in own if isinstance(length, DataError)]
        if refused and on_malformed == "error":
            raise _at(example, refused[0], "; or leave such rows out with --on_malformed skip")
        tokens = [0 if isinstance(length, DataError) else length for length in own]
        longer = [max_length is not None and count > max_length for count in tokens]
        drops = over_length == "drop"
        places = [n for n, count in enumerate(tokens) if count and not (drops and longer[n])]
        kept = keep_responses(example, places)
        if kept is None:
            report.kept -= 1
            report.malformed += [str(_at(example, error)) for error in refused[:1]]
            report.too_long += all(tokens)
            report.empty += not all(tokens) and not refused
            continue
        report.truncated += over_length == "truncate" and any(longer)
        report.left_out += len(example.responses) - len(places)
        found.examples.append(kept)
        found.indices.append(index)
        found.places.append(places)
    report.identical = sum(example.identical for example in found.examples)
    return found


def _at(example: Example, error: DataError, remedy: str = "") -> DataError:
    """Add the file and line of an example to an error."""
    return DataError(
        error.problem,
        file=example.source_file,
        line=", ".join(map(str, example.source_lines)) or None,
        remedy=f"{error.remedy or ''}{remedy}",
    )
