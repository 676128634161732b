"""What all public data sets share: terms, files told apart, and rows whose values are checked."""

from __future__ import annotations

import contextlib
import math
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

from hidden_context.data.annotators import Covariates
from hidden_context.data.checks import Place, describe, read_annotator, read_list, read_number
from hidden_context.data.example import Example
from hidden_context.data.importers import read_row
from hidden_context.data.storage.rows import iter_rows, require_row
from hidden_context.errors import DataError

AS_PUBLISHED: Final = "Give the file as it is published"

Kind: TypeAlias = Literal[
    "comparisons", "rankings", "ratings", "ties", "abstentions", "annotators", "covariates"
]
"""What a data set may hold; ``annotators`` where judgements name who made them."""

LeftOut: TypeAlias = "Counter[str]"
"""How many published rows or votes were left out, by the reason in words."""

Messages: TypeAlias = "list[dict[str, str]]"


class Row(dict[str, Any]):
    """A published row, or an object within one, that checks its values as they are read.

    A value that is missing or of another kind is a ``DataError`` that names file, line and field.

    Attributes:
        place: The file and line of the row.
        remedy: Which files the source needs, for errors.
        at: What comes before the names of its fields in errors, such as ``votes[1].``.
    """

    def __init__(
        self, columns: Mapping[str, Any], place: Place, remedy: str = AS_PUBLISHED, at: str = ""
    ) -> None:
        super().__init__(columns)
        self.place, self.remedy, self.at = place, remedy, at

    def error(self, problem: str, field: str, remedy: str | None = None) -> DataError:
        """Make the error of a field, to be raised; by default it says which files are needed."""
        return self.place.error(problem, self.at + field, remedy or self.remedy)

    def unfit(self, wanted: str, field: str) -> DataError:
        """Make the error of a field that holds another kind of value."""
        return self.error(
            f"{wanted} is needed, not {describe(self.get(field))}", field, AS_PUBLISHED
        )

    def example(self, *, criterion: str | None = None, **columns: Any) -> Example:
        """Make the example of this row from the columns of a row of judgements.

        The criterion of the judgements becomes ``objective`` and ``data_subset``.
        """
        groups = {} if criterion is None else {"objective": criterion, "data_subset": criterion}
        return read_row({**columns, **groups}, file=self.place.file, line=self.place.line)

    def kept(self, *names: str) -> dict[str, Any]:
        """Return the columns of these names that have a value, to pass through."""
        return {name: self[name] for name in names if self.get(name) is not None}

    def text(self, field: str) -> str:
        """Return a text."""
        value = self.get(field)
        if not isinstance(value, str):
            raise self.unfit("text", field)
        return value

    def texts(self, *fields: str) -> list[str]:
        """Return the texts of several fields."""
        return [self.text(field) for field in fields]

    def identifier(self, field: str) -> str:
        """Return the text or integer that identifies the row, as text."""
        value = self.get(field)
        if isinstance(value, float) and value.is_integer():  # as tables with nulls hold integers
            value = int(value)
        if value == "" or isinstance(value, bool) or not isinstance(value, (str, int)):
            raise self.unfit("text or an integer that identifies the row", field)
        return str(value)

    def annotator(self, field: str) -> str:
        """Return the name or number of the annotator, as text."""
        who = read_annotator(self.get(field), self.at + field, self.place)
        if who is None:
            raise self.error("an annotator's name is needed, not null", field, AS_PUBLISHED)
        return str(who)

    def choice(self, field: str, choices: Collection[str]) -> str:
        """Return one of a few words."""
        value = self.get(field)
        if value not in tuple(choices):
            raise self.unfit(f"one of {', '.join(choices)}", field)
        return str(value)

    def truth(self, field: str) -> bool:
        """Return a truth value; CSV writes it as ``true`` or ``false`` in any case."""
        value = self.get(field)
        text = value.lower() if isinstance(value, str) else value
        if text not in ("true", "false") and not isinstance(value, bool):
            raise self.unfit("a truth value", field)
        return text in (True, "true")

    def number(self, field: str, low: float = -math.inf, high: float = math.inf) -> float:
        """Return a number of a range; CSV writes it as text."""
        value = self.get(field)
        if isinstance(value, str):
            with contextlib.suppress(ValueError):
                value = float(value)
        name = self.at + field
        number = read_number(value, name, self.place, low=low, high=high, remedy=AS_PUBLISHED)
        if number is None:
            raise self.unfit("a number", field)
        return number

    def level(self, field: str, low: float = -math.inf, high: float = math.inf) -> int:
        """Return an integer of a range; CSV writes it as text."""
        number = self.number(field, low, high)
        if not number.is_integer():
            raise self.error(f"an integer is needed, not {number!r}", field, AS_PUBLISHED)
        return int(number)

    def listed(self, field: str, what: str) -> list[Any]:
        """Return a list that is not empty; ``what`` names an entry, for errors."""
        return read_list(self.get(field), self.at + field, self.place, AS_PUBLISHED, what)

    def listed_texts(self, field: str) -> list[str]:
        """Return a list of texts that is not empty."""
        values = {f"{field}[{n}]": text for n, text in enumerate(self.listed(field, "text"))}
        return self.with_values(values).texts(*values)

    def entries(self, field: str) -> Iterator[Row]:
        """Yield the objects of a list that is not empty."""
        for number, entry in enumerate(self.listed(field, "object")):
            name = f"{field}[{number}]"
            if not isinstance(entry, Mapping):
                raise self.with_values({name: entry}).unfit("an object", name)
            yield Row(entry, self.place, self.remedy, f"{self.at}{name}.")

    def object(self, field: str) -> Row:
        """Return an object."""
        value = self.get(field)
        if not isinstance(value, Mapping):
            raise self.unfit("an object", field)
        return Row(value, self.place, self.remedy, f"{self.at}{field}.")

    def object_or_empty(self, field: str) -> Row:
        """Return an object, an empty one if it is missing."""
        return self.with_values({field: self.get(field) or {}}).object(field)

    def with_values(self, values: Mapping[str, Any]) -> Row:
        """Return other values of the same place."""
        return Row(values, self.place, self.remedy, self.at)


class Published:
    """The files that are given of a source, told apart by the columns of their first rows.

    Attributes:
        paths: The files in their order.
        columns: For each kind of file, the columns that only it has; the first fit counts.
        remedy: Which files the source needs, for errors.
    """

    def __init__(
        self, paths: Sequence[str | Path], columns: Mapping[str, Sequence[str]], remedy: str
    ) -> None:
        self.paths, self.columns, self.remedy = [Path(path) for path in paths], columns, remedy

    def error(self, problem: str, path: Path | None = None) -> DataError:
        """Make an error that says which files are needed, to be raised."""
        return DataError(problem, file=path, remedy=self.remedy)

    def rows(self, *kinds: str) -> Iterator[Row]:
        """Yield the rows of the files of these kinds."""
        for kind in kinds:
            for path in self.of_kind[kind]:
                yield from self.rows_of(path)

    def rows_of(self, path: Path) -> Iterator[Row]:
        """Yield the rows of one file: JSON Lines, JSON, parquet or CSV, plain or gzip."""
        for line, row in iter_rows(path):
            yield Row(require_row(row), Place(path, line), self.remedy)

    @cached_property
    def of_kind(self) -> dict[str, list[Path]]:
        """The files of each kind."""
        found: dict[str, list[Path]] = {kind: [] for kind in self.columns}
        for path in self.paths:
            found[self.kind_of(path)].append(path)
        return found

    def kind_of(self, path: Path) -> str:
        """Tell the kind of a file.

        Raises:
            DataError: If it is empty or of no kind, with its columns and those of each kind.
        """
        first = next(self.rows_of(path), None)
        if first is None:
            raise self.error("the file holds no rows", path)
        for kind, needed in self.columns.items():
            if all(name in first for name in needed):
                return kind
        raise self.error(missing_columns(list(self.columns.values()), first), path)


def missing_columns(kinds: Sequence[Sequence[str]], row: Mapping[str, Any]) -> str:
    """Say which columns a file needs and which it has."""
    has = ", ".join(list(row)[:12]) + (" …" if len(row) > 12 else "")
    needed = " or ".join(", ".join(names) for names in kinds)
    return f"the columns {needed} are needed, the file has {has}"


@dataclass(frozen=True, slots=True)
class Source:
    """A public data set of human judgements.

    Attributes:
        name: Its name on the command line.
        title: Its own name.
        licence: The licence it is published under.
        citation: Whom to cite: authors, year, title, venue.
        published: Where it is published.
        files: Which of its files are read, in words.
        holds: What kinds of judgements it holds, and whether annotators are named and described.
        gives: What it gives, in words: who judged what, and how.
        examples: Makes examples of its files, and counts what it leaves out.
        people: Reads what is known of the annotators; None where nothing is published.
        columns: For each kind of file, the columns that only it has.
    """

    name: str
    title: str
    licence: str
    citation: str
    published: str
    files: str
    holds: tuple[Kind, ...]
    gives: str
    examples: Callable[[Published, LeftOut], Iterator[Example]]
    people: Callable[[Published], Covariates] | None = None
    columns: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def read(self, files: Sequence[str | Path], left_out: LeftOut) -> Iterator[Example]:
        """Read files into examples, and count in ``left_out`` what is left out, by reason."""
        return self.examples(Published(files, self.columns, f"Give {self.files}"), left_out)

    def read_annotators(self, files: Sequence[str | Path]) -> Covariates:
        """Read what is known of the annotators; nothing where nothing is published."""
        published = Published(files, self.columns, f"Give {self.files}")
        return self.people(published) if self.people else {}


def check_once(row: Row, field: str, seen: set[str]) -> None:
    """Refuse a row that occurs twice, by the field that identifies it.

    Raises:
        DataError: If its judgements would count twice.
    """
    name = row.identifier(field)
    if name in seen:
        raise row.error(f"{name!r} occurs twice", field)
    seen.add(name)


def user(text: str) -> Messages:
    """Write a text as the only message of a chat."""
    return [{"role": "user", "content": text}]


def split_turns(text: str, mark: re.Pattern[str], roles: Mapping[str, str]) -> tuple[str, Messages]:
    """Split a dialogue at the marks of its speakers.

    Args:
        text: The dialogue.
        mark: A pattern whose one group is the speaker.
        roles: The role of each speaker.

    Returns:
        What comes before the first mark, and the messages.
    """
    before, *parts = mark.split(text)
    turns = zip(parts[::2], parts[1::2], strict=True)
    return before, [{"role": roles[speaker], "content": said} for speaker, said in turns]
