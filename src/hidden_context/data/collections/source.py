"""Shared parts of all public data sets: terms, file detection, and rows with checked values."""

from __future__ import annotations

import contextlib
import math
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

from hidden_context.data.annotators import Covariates
from hidden_context.data.checks import Place, describe, read_annotator, read_list, read_number
from hidden_context.data.example import Example
from hidden_context.data.importers import read_row
from hidden_context.data.storage.files import loads
from hidden_context.data.storage.rows import iter_rows, require_row
from hidden_context.errors import DataError

AS_PUBLISHED: Final = "Give the file as it is published"
_UNKNOWN: Final = (None, "", "Prefer not to say")
"""Answers to a survey that say nothing of an annotator."""

_ASSISTANTS: Final = ("Assistant", "LAMDA")

Kind: TypeAlias = Literal[
    "comparisons", "rankings", "ratings", "ties", "abstentions", "annotators", "covariates"
]
"""What a data set may hold; ``annotators`` where judgements name who made them."""

LeftOut: TypeAlias = "Counter[str]"
"""How many published rows or votes were left out, by the reason in words."""

Messages: TypeAlias = "list[dict[str, str]]"
Examples: TypeAlias = "Iterator[Example]"


class Row(dict[str, Any]):
    """A published row, or an object in a row, that checks its values as they are read.

    A value that is missing or of the wrong kind raises a ``DataError`` that names file, line and
    field.

    Attributes:
        place: The file and line of the row.
        files: The files of the source, which count omissions and name the needed files in errors.
        at: The prefix of its field names in errors, such as ``votes[1].``.
    """

    def __init__(
        self, columns: Mapping[str, Any], place: Place, files: Published, at: str = ""
    ) -> None:
        super().__init__(columns)
        self.place, self.files, self.at = place, files, at

    def leave_out(self, reason: str, count: int = 1) -> None:
        """Count omitted rows or votes by reason."""
        if count:
            self.files.left_out[reason] += count

    def repeats(self, reason: str, *key: str) -> bool:
        """Return whether a row with this key was read before, and count a repeat as left out."""
        seen = (reason, *key) in self.files.seen
        self.files.seen.add((reason, *key))
        self.leave_out(reason, int(seen))
        return seen

    def error(self, problem: str, field: str, remedy: str | None = None) -> DataError:
        """Return an error about a field; the default remedy names the needed files."""
        return self.place.error(problem, self.at + field, remedy or self.files.remedy)

    def unfit(self, wanted: str, field: str) -> DataError:
        """Return an error about a field that holds the wrong kind of value."""
        return self.error(
            f"{wanted} is needed, not {describe(self.get(field))}", field, AS_PUBLISHED
        )

    def example(self, *, criterion: str | None = None, **columns: Any) -> Example:
        """Make an example of this row from columns such as ``prompt`` and ``judgements``.

        The criterion of the judgements becomes ``objective`` and ``data_subset``.
        """
        groups = {} if criterion is None else {"objective": criterion, "data_subset": criterion}
        return read_row({**columns, **groups}, file=self.place.file, line=self.place.line)

    def kept(self, *names: str) -> dict[str, Any]:
        """Return the named columns that have a value; they pass through."""
        return {name: self[name] for name in names if self.get(name) is not None}

    def known(self, *names: str) -> dict[str, Any]:
        """Return the named columns that hold information about an annotator."""
        return {name: self[name] for name in names if self.get(name) not in _UNKNOWN}

    def text(self, field: str) -> str:
        """Return the text of a field."""
        value = self.get(field)
        if not isinstance(value, str):
            raise self.unfit("text", field)
        return value

    def json(self, field: str, wanted: str) -> Any:
        """Return the value of a field of JSON text; ``wanted`` names the value in errors."""
        text = self.text(field)
        try:
            return loads(text)
        except ValueError as error:
            problem = f"the JSON of {wanted} is needed, not {describe(text)} ({error})"
            raise self.error(problem, field, AS_PUBLISHED) from error

    def turns(self, field: str, mark: re.Pattern[str]) -> tuple[str, Messages]:
        """Split a dialogue at the marks of its speakers.

        Args:
            field: The field of the text.
            mark: A pattern whose one group is the speaker: Assistant, LAMDA, or a user.

        Returns:
            The text before the first mark, and the messages.
        """
        before, *parts = mark.split(self.text(field))
        turns = zip(parts[::2], parts[1::2], strict=True)
        return before, [
            {"role": "assistant" if speaker in _ASSISTANTS else "user", "content": said}
            for speaker, said in turns
        ]

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
        """Return a word that must be one of the choices."""
        value = self.get(field)
        if value not in tuple(choices):
            raise self.unfit(f"one of {', '.join(choices)}", field)
        return str(value)

    def truth(self, field: str) -> bool:
        """Return a truth value, which CSV writes as ``true`` or ``false`` in any case."""
        value = self.get(field)
        text = value.lower() if isinstance(value, str) else value
        if text not in ("true", "false") and not isinstance(value, bool):
            raise self.unfit("true or false", field)
        return text in (True, "true")

    def number(
        self, field: str, low: float = -math.inf, high: float = math.inf, kind: str = "a number"
    ) -> float:
        """Return a number within a range, which CSV writes as text."""
        value = self.get(field)
        if isinstance(value, str):
            with contextlib.suppress(ValueError):
                value = float(value)
        limits: dict[str, Any] = {"low": low, "high": high, "remedy": AS_PUBLISHED, "kind": kind}
        number = read_number(value, self.at + field, self.place, **limits)
        if number is None:
            raise self.unfit(kind, field)
        return number

    def numbers(self, *fields: str) -> dict[str, float]:
        """Return the numbers by field, for the fields that have a value."""
        return {field: self.number(field) for field in fields if self.get(field) is not None}

    def level(self, field: str, low: float = -math.inf, high: float = math.inf) -> int:
        """Return an integer within a range, which CSV writes as text."""
        return int(self.number(field, low, high, "an integer"))

    def listed(self, field: str, what: str) -> list[Any]:
        """Return a list that must not be empty; ``what`` names an entry in errors."""
        return read_list(self.get(field), self.at + field, self.place, AS_PUBLISHED, what)

    def listed_texts(self, field: str) -> list[str]:
        """Return a list of texts that must not be empty."""
        values = {f"{field}[{n}]": text for n, text in enumerate(self.listed(field, "text"))}
        return self.with_values(values).texts(*values)

    def entries(self, field: str) -> Iterator[Row]:
        """Yield the objects of a list that must not be empty."""
        for number, entry in enumerate(self.listed(field, "object")):
            name = f"{field}[{number}]"
            if not isinstance(entry, Mapping):
                raise self.with_values({name: entry}).unfit("an object", name)
            yield Row(entry, self.place, self.files, f"{self.at}{name}.")

    def entries_or_none(self, field: str) -> list[Row]:
        """Return the objects of a list that may be null or empty."""
        return [] if self.get(field) in (None, []) else list(self.entries(field))

    def object(self, field: str) -> Row:
        """Return the object of a field as a row."""
        value = self.get(field)
        if not isinstance(value, Mapping):
            raise self.unfit("an object", field)
        return Row(value, self.place, self.files, f"{self.at}{field}.")

    def object_or_empty(self, field: str) -> Row:
        """Return the object of a field as a row, which is empty if the object is missing."""
        return self.with_values({field: self.get(field) or {}}).object(field)

    def part(self, prefix: str) -> Row:
        """Return the columns whose names begin with a prefix, named by what follows."""
        values = {name[len(prefix) :]: self[name] for name in self if name.startswith(prefix)}
        return Row(values, self.place, self.files, self.at + prefix)

    def with_values(self, values: Mapping[str, Any]) -> Row:
        """Return a row with other values and the same place."""
        return Row(values, self.place, self.files, self.at)


@dataclass
class Published:
    """The given files of a source, told apart by the columns of their first rows.

    Attributes:
        paths: The files in their order.
        columns: The distinguishing columns of each kind of file; the first match counts.
        remedy: The files that the source needs, for errors.
        left_out: The number of rows or votes that were left out, by reason.
        seen: The keys of rows that are left out when they occur twice.
    """

    paths: Sequence[Path] = ()
    columns: Mapping[str, Sequence[str]] = field(default_factory=dict)
    remedy: str = AS_PUBLISHED
    left_out: LeftOut = field(default_factory=Counter)
    seen: set[tuple[str, ...]] = field(default_factory=set)

    def error(self, problem: str, path: Path | None = None) -> DataError:
        """Return an error that names the needed files."""
        return DataError(problem, file=path, remedy=self.remedy)

    def rows(self, *kinds: str, once: str | None = None) -> Iterator[Row]:
        """Yield the rows of all files of the given kinds.

        Args:
            kinds: Some kinds of ``columns``.
            once: The field that identifies a row. A repeated row would count its judgements
                twice.

        Raises:
            DataError: If a row occurs twice.
        """
        seen: set[str] = set()
        for path in (path for kind in kinds for path in self.of_kind[kind]):
            for row in self.rows_of(path):
                if once is not None:
                    if (name := row.identifier(once)) in seen:
                        raise row.error(f"{name!r} occurs twice", once)
                    seen.add(name)
                yield row

    def rows_of(self, path: Path) -> Iterator[Row]:
        """Yield the rows of one file: JSON Lines, JSON, parquet or CSV, plain or gzip."""
        for line, row in iter_rows(path):
            yield Row(require_row(row), Place(path, line), self)

    @cached_property
    def of_kind(self) -> dict[str, list[Path]]:
        """The files by kind."""
        found: dict[str, list[Path]] = defaultdict(list)
        for path in self.paths:
            found[self.kind_of(path)].append(path)
        return found

    def kind_of(self, path: Path) -> str:
        """Return the kind of a file.

        Raises:
            DataError: If it is empty or of no known kind; the message lists the columns.
        """
        first = next(self.rows_of(path), None)
        if first is None:
            raise self.error("the file holds no rows", path)
        for kind, needed in self.columns.items():
            if all(name in first for name in needed):
                return kind
        has = ", ".join(list(first)[:12]) + (" …" if len(first) > 12 else "")
        needed = " or ".join(", ".join(names) for names in self.columns.values())
        raise self.error(f"the columns {needed} are needed, the file has {has}", path)


@dataclass(frozen=True, slots=True)
class Source:
    """A public data set of human judgements.

    Attributes:
        title: The name of the data set.
        licence: The licence of the data set.
        citation: The reference to cite: authors, year, title, venue.
        published: The place of publication.
        files: The files that are read, in words.
        holds: The kinds of judgements, and whether annotators are named and described.
        gives: The content in words: who judged what, and how.
        examples: Makes examples from the files, which count omissions.
        people: Reads the known facts about annotators; None if nothing is published.
        columns: The distinguishing columns of each kind of file.
        reader: Reads the files; a subclass of ``Published`` reads a special format.
    """

    title: str
    licence: str
    citation: str
    published: str
    files: str
    holds: tuple[Kind, ...]
    gives: str
    examples: Callable[[Published], Examples]
    people: Callable[[Published], Covariates] | None = None
    columns: Mapping[str, Sequence[str]] = field(default_factory=dict)
    reader: type[Published] = Published

    @property
    def name(self) -> str:
        """The name on the command line, which is the name of the module."""
        return self.examples.__module__.rpartition(".")[2]

    def read(self, files: Sequence[str | Path], left_out: LeftOut) -> Examples:
        """Read files into examples, and count omitted rows and votes by reason in ``left_out``."""
        return self.examples(self._published(files, left_out))

    def read_annotators(self, files: Sequence[str | Path]) -> Covariates:
        """Read the known facts about annotators; empty if nothing is published."""
        return self.people(self._published(files, Counter())) if self.people else {}

    def _published(self, files: Sequence[str | Path], left_out: LeftOut) -> Published:
        paths = [Path(path) for path in files]
        return self.reader(paths, self.columns, f"Give {self.files}", left_out)


def user(text: str) -> Messages:
    """Return a chat with a text as its only message, by the user."""
    return [{"role": "user", "content": text}]
