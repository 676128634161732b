"""Files, written whole or not at all, and read with errors that name the line."""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import datetime
import decimal
import errno
import gzip
import io
import json
import math
import os
import uuid
import zlib
from collections import Counter
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, Literal, TypeVar, cast

from hidden_context.errors import DataError, MissingFileError, StorageError

PARTIAL_SUFFIX = ".partial"
_Name = TypeVar("_Name", bound=Hashable)

# What reading a damaged gzip file raises.
GZIP_ERRORS = (EOFError, zlib.error, gzip.BadGzipFile)

_GZIP_MAGIC = b"\x1f\x8b"
# Errors of a write that stand for "no room" or "broken disk", wherever in the block they arise.
_STORAGE_ERRNOS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS}


def partial_path(path: str | Path) -> Path:
    """Return the name under which ``path`` is written until it is whole."""
    return Path(f"{path}{PARTIAL_SUFFIX}")


def storage_error(path: str | Path, error: OSError) -> StorageError:
    """Return the storage error for an operating-system error during a write."""
    reason = error.strerror or str(error)
    remedy = (
        "Free some space or write to another disk"
        if error.errno in (errno.ENOSPC, errno.EDQUOT)
        else "Check that the folder exists, may be written to and is not a file"
    )
    return StorageError(f"{path} could not be written: {reason}. {remedy}.")


def default_cache_dir() -> Path:
    """Return the folder of caches: ``HIDDEN_CONTEXT_CACHE``, else in the user's cache folder."""
    named = os.environ.get("HIDDEN_CONTEXT_CACHE")
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(named) if named else Path(root) / "hidden-context"


@contextlib.contextmanager
def atomic_write(path: str | Path, mode: Literal["w", "wb"] = "w") -> Iterator[IO[Any]]:
    """Write a file whole or not at all.

    The content goes to ``<path>.partial`` in the same folder, which is created if necessary. The
    file is flushed to disk and then renamed. On any exception the partial file is removed and an
    earlier file at ``path`` stays untouched.

    Args:
        path: The file to write; gzip-compressed where the name ends in ``.gz``.
        mode: ``"w"`` for UTF-8 text, ``"wb"`` for bytes.

    Yields:
        The open file.

    Raises:
        StorageError: If the folder cannot be written to or the disk is full.
    """
    path, partial = Path(path), partial_path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        raw = open(partial, "wb")  # noqa: SIM115 - closed below, before the rename
    except OSError as error:
        raise storage_error(path, error) from error
    stream: Any = raw
    if path.suffix == ".gz":
        # No name and no time in the header: the same rows always give the same bytes.
        stream = gzip.GzipFile(filename="", fileobj=raw, mode="wb", compresslevel=6, mtime=0)
    if mode == "w":
        stream = io.TextIOWrapper(stream, encoding="utf-8", newline="\n")
    try:
        yield stream
        try:
            for layer in (stream, raw):  # closing a gzip stream leaves the file under it open
                layer.close()
            with open(partial, "rb+") as written:
                os.fsync(written.fileno())
            os.replace(partial, path)
        except OSError as error:
            raise storage_error(path, error) from error
    except BaseException as error:
        for layer in (stream, raw):
            # Closing flushes what is left, which fails again on a full disk; the first error counts
            with contextlib.suppress(OSError, ValueError):
                layer.close()
        with contextlib.suppress(OSError):
            partial.unlink()
        if isinstance(error, OSError) and error.errno in _STORAGE_ERRNOS:
            raise storage_error(path, error) from error
        raise


def to_plain(value: Any) -> Any:
    """Convert a value of a type that JSON lacks.

    NaN and infinity become ``null``. Paths, dates and times, decimals and UUIDs become text; bytes
    become base64 text; durations become seconds; arrays and sets become lists. Mappings and
    dataclasses become objects whose keys are text.

    Raises:
        TypeError: If it is something else.
    """
    if value is None or isinstance(value, (str, bool, int)):
        return value
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {
            key if isinstance(key, str) else str(to_plain(key)): to_plain(item)
            for key, item in value.items()
        }
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: to_plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, (bytes, bytearray)):
        return base64.b64encode(value).decode("ascii")
    if isinstance(value, (decimal.Decimal, uuid.UUID)):
        return str(value)  # a decimal as text, which keeps all digits
    if isinstance(value, datetime.timedelta):
        return value.total_seconds()
    if isinstance(value, (set, frozenset)):
        return [to_plain(item) for item in sorted(value)]
    if isinstance(value, Sequence):
        return [to_plain(item) for item in value]
    if hasattr(value, "tolist"):
        return to_plain(value.tolist())
    if hasattr(value, "isoformat"):
        return value.isoformat()
    raise TypeError(f"a value of type {type(value).__name__} cannot be written as JSON")


def write_json(path: str | Path, obj: Any, *, indent: int | None = 2) -> None:
    """Write one JSON document whole or not at all; NaN and infinity become ``null``.

    Values are converted as ``to_plain`` says; ``indent`` is None for one line.

    Raises:
        StorageError: If it cannot be written.
    """
    text = json.dumps(to_plain(obj), indent=indent, ensure_ascii=False, allow_nan=False)
    with atomic_write(path) as file:
        file.write(text + "\n")


def json_line(row: Mapping[str, Any]) -> str:
    """Return a row as one line of JSON Lines, its line break included.

    Values that JSON lacks are converted as in ``to_plain``. Text stays readable, unless the
    row holds a lone surrogate (half a character, which UTF-8 cannot represent but JSON can): then
    every non-ASCII character is escaped.
    """
    text = _dump_finite(row, ensure_ascii=False)
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        text = _dump_finite(row, ensure_ascii=True)
    return text + "\n"


def _dump_finite(row: Mapping[str, Any], *, ensure_ascii: bool) -> str:
    try:
        return json.dumps(row, ensure_ascii=ensure_ascii, default=to_plain, allow_nan=False)
    except (ValueError, TypeError):  # a NaN or a key that is not text: too rare to check in advance
        return json.dumps(to_plain(row), ensure_ascii=ensure_ascii, allow_nan=False)


def write_jsonl(path: str | Path, rows: Iterable[Mapping[str, Any]]) -> int:
    """Write rows as JSON Lines (``.gz`` by suffix), whole or not at all; return their number."""
    count = 0
    with atomic_write(path) as file:
        for row in rows:
            file.write(json_line(row))
            count += 1
    return count


def write_yaml_config(path: str | Path, config: Any) -> None:
    """Write a configuration dataclass as YAML that ``--config`` reads back.

    Raises:
        StorageError: If it cannot be written.
    """
    import yaml

    # Not through to_plain: YAML has its own infinity and NaN, and an option may be infinite.
    values = {
        name: os.fspath(value) if isinstance(value, os.PathLike) else value
        for name, value in dataclasses.asdict(config).items()
    }
    text = yaml.safe_dump(values, sort_keys=False, allow_unicode=True)
    with atomic_write(path) as file:
        file.write(text)


def require_file(path: str | Path, remedy: str | None = None) -> Path:
    """Return ``path`` if it is a file.

    Raises:
        MissingFileError: If nothing is there.
        DataError: If it is a folder.
    """
    path = Path(path)
    if path.is_dir():
        raise DataError("a file is needed, but this is a folder", file=path, remedy=remedy)
    if not path.exists():
        raise MissingFileError(path, remedy)
    return path


def open_binary(path: str | Path) -> IO[bytes]:
    """Open a file for reading bytes; gzip files are unpacked, whatever their name.

    Raises:
        MissingFileError: If it does not exist.
        DataError: If it is a folder or cannot be read.
    """
    path = require_file(path)
    try:
        with open(path, "rb") as file:
            packed = file.read(2) == _GZIP_MAGIC
        return cast("IO[bytes]", gzip.open(path, "rb")) if packed else open(path, "rb")
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror or error}", file=path) from error


def iter_lines(path: str | Path) -> Iterator[tuple[int, bytes]]:
    """Yield ``(line number from 1, line)`` of a plain or gzip file, blank lines left out.

    Raises:
        MissingFileError: If it does not exist.
        DataError: If it is a folder, unreadable, or a damaged gzip file.
    """
    number = 0
    with open_binary(path) as file:
        try:
            for number, line in enumerate(file, start=1):
                if not line.isspace():
                    yield number, line
        except GZIP_ERRORS as error:
            problem = f"the gzip file is damaged or cut off after line {number} ({error})"
            raise DataError(problem, file=path, remedy="Download or write it again") from error


def iter_jsonl(
    path: str | Path, *, allow_empty: bool = True
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield ``(line number from 1, row)`` of a JSON Lines file, plain or gzip.

    Args:
        path: The file.
        allow_empty: Whether a file without a single row is accepted.

    Yields:
        The 1-based line number and the object on that line; blank lines are passed over.

    Raises:
        MissingFileError: If the file does not exist.
        DataError: If a line is not a JSON object, naming file and line; if the file is damaged;
            or if it has no row and ``allow_empty`` is false.
    """
    number = 0
    for number, line in iter_lines(path):
        yield number, parse_json_line(line, path, number)
    if number == 0 and not allow_empty:
        raise DataError("the file holds no rows", file=path)


def parse_json_line(line: bytes, path: str | Path, number: int) -> dict[str, Any]:
    """Read one line of JSON Lines.

    Raises:
        DataError: If it is not a JSON object, naming file and line.
    """
    try:
        row = loads(line)
    except ValueError as error:  # broken JSON, or bytes that are not UTF-8
        if line.startswith(b"version https://git-lfs"):
            problem, remedy = "this is a Git LFS pointer, not the data", "Run 'git lfs pull'"
        else:
            problem = f"not valid JSON: {error}"
            if isinstance(error, json.JSONDecodeError):  # whose words count lines in the row
                what = error.msg.removesuffix(" at")
                problem = f"not valid JSON: {what} at column {error.pos + 1}"
            remedy = "Each line has to be one JSON object, in UTF-8"
        raise DataError(problem, file=path, line=number, remedy=remedy) from error
    if not isinstance(row, dict):
        problem = f"a JSON object is needed on each line, not a {type(row).__name__}"
        remedy = "JSON Lines has one {…} per line; a single JSON array is not read"
        raise DataError(problem, file=path, line=number, remedy=remedy)
    return row


def read_json(path: str | Path) -> Any:
    """Read one JSON document, plain or gzip.

    Raises:
        MissingFileError: If the file does not exist.
        DataError: If it is not valid JSON, naming the line, or an object has one key twice.
    """
    with open_binary(path) as file:
        try:
            return loads(file.read())
        except GZIP_ERRORS as error:
            raise DataError(f"the gzip file is damaged ({error})", file=path) from error
        except ValueError as error:
            line = getattr(error, "lineno", None)
            raise DataError(f"not valid JSON: {error}", file=path, line=line) from error


def loads(text: str | bytes) -> Any:
    """Read JSON in which no object has one key twice.

    Raises:
        ValueError: If it is not JSON, or an object has a key twice, which would lose a value.
    """
    try:
        return json.loads(text, object_pairs_hook=_unique_keys)
    except RecursionError as error:
        raise ValueError("lists or objects are nested too deeply") from error


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError(
            f"the key {repeated(key for key, _ in pairs)!r} occurs twice in one object"
        )
    return found


def repeated(names: Iterable[_Name]) -> _Name | None:
    """Return the first name that occurs twice, or None."""
    return next((name for name, count in Counter(names).items() if count > 1), None)


def require_unique(names: Iterable[str], file: str | Path) -> None:
    """Check that all column names are different.

    Raises:
        DataError: If two have, naming it.
    """
    name = repeated(names)
    if name is not None:
        remedy = "Rename or leave out one of the two"
        raise DataError("two columns have this name", file=file, field=name, remedy=remedy)
