"""The record of an unfinished scoring: what identifies the run, and one line per row."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, Final

from hidden_context.data.storage.files import storage_error
from hidden_context.errors import HiddenContextWarning, StorageError
from hidden_context.models.checkpoint.identity import weight_digests
from hidden_context.models.network.precision import resolve_device, resolve_dtype
from hidden_context.models.reward_model import RewardModel
from hidden_context.scoring.config import StreamOptions

_KEY: Final = "scoring"
_FORMAT: Final = 2
TOKENS: Final = "tokens"


def describe_file(path: Path) -> list[str | int]:
    """Describe a file by place, size and time of its last change, without reading it."""
    status = path.stat()
    return [str(path.resolve()), status.st_size, status.st_mtime_ns]


def describe_run(checkpoint: str, model: RewardModel, options: StreamOptions) -> dict[str, Any]:
    """Describe everything that raw outputs depend on, except the tokens.

    Args:
        checkpoint: The checkpoint's folder or hub id.
        model: The model that was loaded from it.
        options: How it was loaded and is run.
    """
    device = resolve_device(options.device)
    backend = getattr(model, "backend", None)  # set if another program runs the network
    return {
        "files": weight_digests(checkpoint, options.base_model, options.revision),
        "head": model.head.to_dict(),
        "max_length": model.max_length,
        "over_length": options.over_length,
        "dtype": str(resolve_dtype(options.precision, device)),
        "device": device.type,
        "engine": options.engine,
        "compile": options.compile,
        **({} if backend is None else {"backend": backend}),
    }


def digest_tokens(token_ids: Sequence[Any]) -> str:
    """Digest the token ids of a window's texts, row by row."""
    return hashlib.blake2b(json.dumps(token_ids).encode(), digest_size=16).hexdigest()


class PartialScores:
    """Scores of one model, appended one window of rows at a time.

    The first line says which model scores which rows and how. A record with another first line is
    started anew, with a warning. Every line holds the number of its row. The last line of a window
    also holds the number of truncated texts and a digest of the window's token ids. A window that
    was cut off is dropped as a whole, so that the following windows hold the same rows, and round
    in the same way, as in a run without an interruption. A run that fails before its first window
    leaves no record.

    Args:
        path: The file.
        description: What identifies the run.
        resume: Whether to go on where a record of the same description stops.
        **facts: What else the first line holds; other facts do not make it another run.

    Attributes:
        windows: Rows and digest of each finished window.
    """

    def __init__(
        self, path: Path, description: Mapping[str, Any], resume: bool = True, **facts: Any
    ) -> None:
        # as it will be read back: JSON knows no tuples
        content = {_KEY: {"format": _FORMAT, **description}, **facts}
        self.path, self._description = path, json.loads(json.dumps(content))
        self.windows: list[tuple[int, str]] = []
        self._ends: list[int] = []  # of the header and of each window, in bytes
        if resume and self.path.is_file():
            self._recover()
        self._file: IO[bytes] | None = None

    @property
    def rows_done(self) -> int:
        """Rows of the finished windows."""
        return sum(rows for rows, _ in self.windows)

    def _recover(self) -> None:
        """Read the finished windows, and cut off what follows them."""
        with self.path.open("rb") as file:
            header = file.readline()
            found = (_parse(header) or {}).get(_KEY)
            if found != self._description[_KEY]:
                if isinstance(found, dict):
                    changed = ", ".join(_changed(found, self._description[_KEY]))
                    why = f"was begun with other {changed}"
                    if found.get("format") != _FORMAT:
                        why = "is of an earlier version"
                    self._say(f"{self.path} {why}; all rows are scored anew.")
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

    def _say(self, message: str) -> None:
        warnings.warn(message, HiddenContextWarning, stacklevel=4)

    def keep(self, count: int) -> None:
        """Drop all but the first windows, because the rows of the others have changed.

        Args:
            count: Windows to keep.
        """
        assert self._file is not None
        self.windows, self._ends = self.windows[:count], self._ends[: count + 1]
        self._say(
            f"{self.path}: from row {self.rows_done + 1} on the tokens are others than when it was "
            "written, because data, tokenizer or chat template changed; these rows are scored anew."
        )
        self._file.truncate(self._ends[-1])

    def __enter__(self) -> PartialScores:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self.path.open("ab" if self.windows else "wb")
            if not self.windows:
                self._ends = [self._write([self._description])]
        except OSError as error:
            self.__exit__(error)
            raise storage_error(self.path, error) from error
        return self

    def __exit__(self, *raised: object) -> None:
        if self._file is not None:
            # Closing writes what is left, which fails again on a full disk; the first error counts
            with contextlib.suppress(OSError):
                self._file.close()
        if raised[0] is not None and not self.windows:
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
            rows: ``row`` and ``raw`` of each row, and ``reasons`` where there are some; the last
                row also has ``tokens``, a digest of the window's token ids.
            truncated: Number of texts of the window whose beginning was cut.

        Raises:
            StorageError: If they could not be written; earlier windows are kept.
        """
        last = {**rows[-1], "truncated": truncated}
        try:
            self._ends.append(self._ends[-1] + self._write([*rows[:-1], last]))
            self.windows.append((len(rows), last[TOKENS]))
        except OSError as error:
            raise StorageError(
                f"{storage_error(self.path, error)} What was scored before is kept; the same "
                "command goes on from there."
            ) from error

    def __iter__(self) -> Iterator[dict[str, Any]]:
        with self.path.open("rb") as file:
            next(file)
            for line in file:
                yield json.loads(line)


def read_header(path: Path) -> dict[str, Any]:
    """Read the first line of a record; return an empty mapping where there is none."""
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
