"""The record of an unfinished scoring: one line per row, so that an interrupted run can go on."""

from __future__ import annotations

import contextlib
import json
import os
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import IO, Any, Final

from hidden_context.data.files import storage_error
from hidden_context.errors import HiddenContextWarning, StorageError

_KEY: Final = "scoring"
_FORMAT: Final = 2
_TRUNCATED: Final = "truncated"
TOKENS: Final = "tokens"


class PartialScores:
    """Scores of one model, appended a window of rows at a time.

    The first line says by what and how rows are scored; a record with another first line is
    started anew, with a warning. Every line holds its row's number. The last one of a window also
    holds its number of truncated texts and a digest of its token ids. A window that was cut off is
    dropped as a whole, so that those after it hold the same rows, and with them the same rounding,
    as in a run that was never interrupted. A run that fails before its first window leaves no
    record.

    Args:
        path: The file.
        description: What identifies the run.
        facts: What else its first line holds, which does not tell it from another.
        resume: Whether to go on where a record of the same description stops.

    Attributes:
        windows: Rows and digest of each window that is finished.
    """

    def __init__(
        self,
        path: Path,
        description: dict[str, Any],
        resume: bool = True,
        facts: Mapping[str, Any] = MappingProxyType({}),
    ) -> None:
        # as it will be read back: JSON knows no tuples
        content = {_KEY: {"format": _FORMAT, **description}, **facts}
        self.path, self._description = path, json.loads(json.dumps(content))
        self.windows: list[tuple[int, str]] = []
        self._ends: list[int] = []  # of the header and of each window, in bytes
        if resume and self.path.is_file():
            self._recover()
        self._file: IO[bytes] | None = None
        self._empty = not self.windows

    @property
    def rows_done(self) -> int:
        """Rows of the finished windows."""
        return sum(rows for rows, _ in self.windows)

    def _recover(self) -> None:
        """Read the windows that are finished, and cut off what follows them."""
        with self.path.open("rb") as file:
            header = file.readline()
            if (_parse(header) or {}).get(_KEY) != self._description[_KEY]:
                self._warn(header)
                return
            size = len(header)
            self._ends, rows = [size], 0
            for line in file:
                row = _parse(line)
                if row is None or row.get("row") != self.rows_done + rows:
                    break
                rows, size = rows + 1, size + len(line)
                if TOKENS in row:
                    self.windows.append((rows, row[TOKENS]))
                    self._ends.append(size)
                    rows = 0
        os.truncate(self.path, self._ends[-1])

    def _warn(self, header: bytes) -> None:
        """Say why a record is of no use."""
        found = (_parse(header) or {}).get(_KEY)
        if not isinstance(found, dict):
            return
        if found.get("format") != _FORMAT:
            reason = "is of an earlier version"
        else:
            names = ", ".join(_changed(found, self._description[_KEY]))
            reason = f"was begun with other {names}"
        self._say(f"{self.path} {reason}; all rows are scored anew.")

    def _say(self, message: str) -> None:
        warnings.warn(message, HiddenContextWarning, stacklevel=4)

    def keep(self, count: int) -> None:
        """Drop all but the first windows, whose rows are no longer the same.

        Args:
            count: Windows to keep.
        """
        assert self._file is not None
        self._say(
            f"{self.path}: from row {sum(rows for rows, _ in self.windows[:count]) + 1} on the "
            "tokens are others than when it was written, as where data, tokenizer or chat template "
            "changed; the rows from there on are scored anew."
        )
        self.windows, self._ends = self.windows[:count], self._ends[: count + 1]
        self._file.truncate(self._ends[-1])

    def __enter__(self) -> PartialScores:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self.path.open("ab" if self.windows else "wb")
            if not self.windows:
                self._ends = [self._write([self._description])]
        except OSError as error:
            self.__exit__(type(error), error, error.__traceback__)
            raise storage_error(self.path, error) from error
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._file is not None:
            # Closing writes what is left, which fails again on a full disk; the first error counts
            with contextlib.suppress(OSError):
                self._file.close()
        if error is not None and self._empty:
            with contextlib.suppress(OSError):
                self.path.unlink()

    def _write(self, lines: list[dict[str, Any]]) -> int:
        assert self._file is not None
        written = self._file.write(b"".join(json.dumps(line).encode() + b"\n" for line in lines))
        self._file.flush()
        return written

    def append(self, rows: list[dict[str, Any]], truncated: int = 0) -> None:
        """Append the scores of a window of rows; they are in the file when this returns.

        Args:
            rows: ``row`` and ``raw`` of each row, and ``reasons`` where there are some; in the
                last one also ``tokens``, a digest of the window's token ids.
            truncated: Number of texts of the window whose beginning was cut.

        Raises:
            StorageError: If they could not be written; earlier windows are kept.
        """
        last = {**rows[-1], _TRUNCATED: truncated}
        try:
            self._ends.append(self._ends[-1] + self._write([*rows[:-1], last]))
            self.windows.append((len(rows), last[TOKENS]))
            self._empty = False
        except OSError as error:
            problem = storage_error(self.path, error)
            raise StorageError(
                f"{problem} What was scored before is kept; the same command goes on from there."
            ) from error

    def __iter__(self) -> Iterator[dict[str, Any]]:
        with self.path.open("rb") as file:
            next(file)
            for line in file:
                yield json.loads(line)


def read_header(path: Path) -> dict[str, Any]:
    """Read the first line of a record; nothing where there is none.

    Args:
        path: The record, which may not exist.
    """
    if not path.is_file():  # a device may have no end
        return {}
    try:
        with path.open("rb") as file:
            return _parse(file.readline()) or {}
    except OSError:
        return {}


def _changed(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """Name the entries that differ, and what differs within them."""
    names = []
    for key in sorted(key for key in {*old, *new} if old.get(key) != new.get(key)):
        one, other = old.get(key), new.get(key)
        if isinstance(one, dict) and isinstance(other, dict):
            key += f" ({', '.join(_changed(one, other))})"
        names.append(key)
    return names


def _parse(line: bytes) -> dict[str, Any] | None:
    """Read one line; None where it was cut off or holds no JSON object."""
    try:
        value = json.loads(line) if line.endswith(b"\n") else None
    except ValueError:
        return None
    return value if isinstance(value, dict) else None
