"""The usable part of examples: responses that hold text, and judgements that are votes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from hidden_context.data.dialogue import Conversation, is_blank
from hidden_context.data.example import Example
from hidden_context.data.importers.pairs import SIDES, is_pair
from hidden_context.data.report import ReadReport
from hidden_context.errors import DataError

OverLength: TypeAlias = Literal["drop", "truncate", "keep"]


def blank_responses(example: Example) -> list[int]:
    """List the places of responses without any text.

    Of a pair, the sides are looked at as its row gives them, with the prompt inside or not.
    """
    texts: Sequence[Conversation] = example.responses
    if len(texts) == len(SIDES) and is_pair(example.columns):
        texts = [example.columns.get(side) or "" for side in SIDES]
    return [place for place, text in enumerate(texts) if is_blank(text)]


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
    """Examples that are left once their responses are tokenized; the lists run in parallel.

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
    """Leave out what is too long, has no tokens, or is refused by the chat template.

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
    """Add the place of an example to an error."""
    return DataError(
        error.problem,
        file=example.source_file,
        line=", ".join(map(str, example.source_lines)) or None,
        remedy=f"{error.remedy or ''}{remedy}",
    )
