"""The record of an unfinished scoring: one line per row, so that an interrupted run can go on."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Final

from hidden_context.data.files import storage_error

_KEY: Final = "scoring"


class PartialScores:
    """Scores of one model, appended as they come.

    The first line says what was scored, by what and how; a record with another first line is
    started anew. A last line that was cut off is dropped.

    Args:
        path: The file.
        description: What identifies the run.
        resume: Whether to go on where a record of the same description stops.
    """

    def __init__(self, path: Path, description: dict[str, Any], resume: bool = True) -> None:
        self.path, self._description = path, {_KEY: description}
        self.rows_done = self._recover() if resume else 0
        self._file: IO[bytes] | None = None

    def _recover(self) -> int:
        """Cut off an incomplete last line; return the number of complete rows."""
        if not self.path.is_file():
            return 0
        complete = rows = 0
        with self.path.open("rb") as file:
            for line in file:
                if not line.endswith(b"\n"):
                    break
                if complete == 0 and not self._same_run(line):
                    return 0
                rows += complete > 0
                complete += len(line)
        os.truncate(self.path, complete)
        return rows

    def _same_run(self, line: bytes) -> bool:
        try:
            return bool(json.loads(line) == self._description)
        except ValueError:
            return False

    def __enter__(self) -> PartialScores:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self.path.open("ab" if self.rows_done else "wb")
            if not self.rows_done:
                self._write([self._description])
        except OSError as error:
            raise storage_error(self.path, error) from error
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._file is not None:
            self._file.close()

    def _write(self, lines: list[dict[str, Any]]) -> None:
        assert self._file is not None
        self._file.write(b"".join(json.dumps(line).encode() + b"\n" for line in lines))
        self._file.flush()

    def append(self, rows: list[dict[str, Any]]) -> None:
        """Append the scores of rows; they are on disk when this returns.

        Raises:
            StorageError: If they could not be written; earlier rows are kept.
        """
        try:
            self._write(rows)
        except OSError as error:
            raise storage_error(self.path, error) from error

    def __iter__(self) -> Iterator[dict[str, Any]]:
        with self.path.open("rb") as file:
            next(file)
            for line in file:
                yield json.loads(line)
