"""The answers that were paid for: one SQLite file, one row for each question."""

from __future__ import annotations

import contextlib
import datetime
import json
import sqlite3
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from hidden_context.data.storage.files import storage_error
from hidden_context.errors import DataError, StorageError

VERSION: Final = 1
_SCHEMA: Final = (
    "CREATE TABLE IF NOT EXISTS answers (key TEXT PRIMARY KEY, question TEXT NOT NULL, "
    "reply TEXT NOT NULL, answered TEXT NOT NULL) WITHOUT ROWID"
)


class AnswerCache:
    """Replies by the key of their question; on disk as soon as ``put`` returns.

    Args:
        path: The file; made where there is none.

    Raises:
        DataError: If the file is no cache of this kind.
        StorageError: If it cannot be opened or written.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise storage_error(self.path, error) from error
        with self._errors():
            self._database = sqlite3.connect(self.path, timeout=30, isolation_level=None)
        try:
            with self._errors():
                self._open()
        except BaseException:
            self._database.close()
            raise

    def _open(self) -> None:
        (version,) = self._database.execute("PRAGMA user_version").fetchone()
        (tables,) = self._database.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if version != VERSION and (version or tables):
            raise DataError(
                f"the file is not a cache of answers of version {VERSION}",
                file=self.path,
                remedy="Name another file with --cache",
            )
        self._database.execute("PRAGMA journal_mode = WAL")
        self._database.execute("PRAGMA synchronous = FULL")  # commits outlive a power cut
        self._database.execute(_SCHEMA)
        self._database.execute(f"PRAGMA user_version = {VERSION}")

    def get(self, key: str) -> dict[str, Any] | None:
        """Return the reply to a question; None if it was not asked yet."""
        with self._errors():
            found = self._database.execute(
                "SELECT reply FROM answers WHERE key = ?", (key,)
            ).fetchone()
        return None if found is None else json.loads(found[0])

    def put(self, key: str, question: Mapping[str, Any], reply: Mapping[str, Any]) -> None:
        """Store a reply; an earlier reply to the same question stays.

        Args:
            key: The question's key.
            question: What the key was made of.
            reply: The reply.
        """
        now = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
        values = (key, json.dumps(question), json.dumps(reply), now)
        with self._errors():
            self._database.execute("INSERT OR IGNORE INTO answers VALUES (?, ?, ?, ?)", values)

    def __len__(self) -> int:
        with self._errors():
            (count,) = self._database.execute("SELECT count(*) FROM answers").fetchone()
        return int(count)

    def __enter__(self) -> AnswerCache:
        return self

    def __exit__(self, *error: object) -> None:
        self._database.close()

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        """Raise this package's errors instead of SQLite's."""
        try:
            yield
        except sqlite3.OperationalError as error:
            raise StorageError(
                f"{self.path} could not be read or written: {error}. Check that the folder exists, "
                "may be written to and has room."
            ) from error
        except sqlite3.DatabaseError as error:
            remedy = "Name another file with --cache"
            raise DataError(
                f"not an SQLite file ({error})", file=self.path, remedy=remedy
            ) from error
