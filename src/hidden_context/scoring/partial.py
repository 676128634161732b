"""The record of an unfinished scoring: one line per row, so that an interrupted run can go on."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Final

from hidden_context.data.files import storage_error
from hidden_context.errors import StorageError

_KEY: Final = "scoring"
_WINDOW_END: Final = "truncated"


class PartialScores:
    """Scores of one model, appended a window of rows at a time.

    The first line says what was scored, by what and how; a record with another first line is
    started anew. The last row of a window also holds its number of truncated texts. A window that
    was cut off is dropped as a whole, so that those after it hold the same rows, and with them the
    same rounding, as in a run that was never interrupted. A run that fails before its first window
    leaves no record.

    Args:
        path: The file.
        description: What identifies the run.
        resume: Whether to go on where a record of the same description stops.
    """

    def __init__(self, path: Path, description: dict[str, Any], resume: bool = True) -> None:
        # as it will be read back: JSON knows no tuples
        self.path, self._description = path, json.loads(json.dumps({_KEY: description}))
        self.rows_done = self._recover() if resume else 0
        self._file: IO[bytes] | None = None
        self._empty = self.rows_done == 0

    def _recover(self) -> int:
        """Cut off an incomplete last window; return the number of rows that remain."""
        if not self.path.is_file():
            return 0
        rows = complete_rows = 0
        with self.path.open("rb") as file:
            header = file.readline()
            if _parse(header) != self._description:
                return 0
            size = complete_size = len(header)
            for line in file:
                row = _parse(line)
                if row is None:
                    break
                rows, size = rows + 1, size + len(line)
                if _WINDOW_END in row:
                    complete_rows, complete_size = rows, size
        os.truncate(self.path, complete_size)
        return complete_rows

    def __enter__(self) -> PartialScores:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self.path.open("ab" if self.rows_done else "wb")
            if not self.rows_done:
                self._write([self._description])
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

    def _write(self, lines: list[dict[str, Any]]) -> None:
        assert self._file is not None
        self._file.write(b"".join(json.dumps(line).encode() + b"\n" for line in lines))
        self._file.flush()

    def append(self, rows: list[dict[str, Any]], truncated: int = 0) -> None:
        """Append the scores of a window of rows; they are in the file when this returns.

        Args:
            rows: ``raw`` of each row, and ``reasons`` where there are some.
            truncated: Number of texts of the window whose beginning was cut.

        Raises:
            StorageError: If they could not be written; earlier windows are kept.
        """
        last = {**rows[-1], _WINDOW_END: truncated}
        try:
            self._write([*rows[:-1], last])
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


def _parse(line: bytes) -> dict[str, Any] | None:
    """Read one line; None where it was cut off or holds no JSON object."""
    try:
        value = json.loads(line) if line.endswith(b"\n") else None
    except ValueError:
        return None
    return value if isinstance(value, dict) else None
