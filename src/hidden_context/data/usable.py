"""What of an example can be used: responses that hold text, and judgements that are votes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from hidden_context.data.dialogue import is_blank
from hidden_context.data.example import Example
from hidden_context.data.importers.pairs import SIDES, is_pair
from hidden_context.data.report import ReadReport
from hidden_context.errors import DataError

OverLength: TypeAlias = Literal["drop", "truncate", "keep"]


def blank_responses(example: Example) -> list[int]:
    """List the places of responses without any text.

    Of a pair, the sides are looked at as its row gives them, with the prompt inside or not.
    """
    given = len(example.responses) == len(SIDES) and is_pair(example.columns)
    sides = [example.columns.get(side) for side in SIDES]
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
    if len(example.responses) == 2 or not places:
        return None
    left = example.select(places)
    return left if has_votes(left) else None


@dataclass
class UsableExamples:
    """What is left of examples once their responses are tokenized; the lists run in parallel.

    Attributes:
        examples: The examples kept, without the responses that were left out.
        indices: Where each stands in the examples given.
        places: Which responses of each are left.
        too_long: How many examples were dropped for their length.
        truncated: How many were kept with a response to be cut.
        empty: How many were dropped because a response has no tokens.
        malformed: Why examples were dropped that the chat template refuses.
        left_out: How many responses are missing from examples that were kept.
    """

    examples: list[Example] = field(default_factory=list)
    indices: list[int] = field(default_factory=list)
    places: list[list[int]] = field(default_factory=list)
    too_long: int = 0
    truncated: int = 0
    empty: int = 0
    malformed: list[str] = field(default_factory=list)
    left_out: int = 0

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
    """Leave out what is too long, has no tokens, or is refused by the chat template.

    Args:
        examples: The examples.
        lengths: Tokens of each response of each, or why the chat template refuses it.
        max_length: The most tokens; None for no limit.
        over_length: Whether responses that are longer are dropped, to be cut, or kept.
        on_malformed: Whether a response that the template refuses is an error, or left out.
        report: Brought up to date with what was left out and cut.

    Returns:
        What is left, and the counts.

    Raises:
        DataError: If the template refuses a response, naming file and line.
    """
    found = UsableExamples()
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
            found.malformed += [str(_at(example, error)) for error in refused[:1]]
            found.too_long += all(tokens)
            found.empty += not all(tokens) and not refused
            continue
        found.truncated += over_length == "truncate" and any(longer)
        found.left_out += len(example.responses) - len(places)
        found.examples.append(kept)
        found.indices.append(index)
        found.places.append(places)
    if report is not None:
        _count(found, len(examples), report)
    return found


def _at(example: Example, error: DataError, remedy: str = "") -> DataError:
    """Say where the example stands that an error is about."""
    return DataError(
        error.problem,
        file=example.source_file,
        line=", ".join(map(str, example.source_lines)) or None,
        remedy=f"{error.remedy or ''}{remedy}",
    )


def _count(found: UsableExamples, given: int, report: ReadReport) -> None:
    report.too_long += found.too_long
    report.truncated += found.truncated
    report.empty += found.empty
    report.malformed += found.malformed
    report.left_out += found.left_out
    report.kept -= given - len(found)
    report.identical = sum(example.identical for example in found.examples)
