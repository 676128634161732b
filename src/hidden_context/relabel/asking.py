"""The cache of answers, and the workers that ask an endpoint for more."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import json
import signal
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from hidden_context.data.storage.files import storage_error
from hidden_context.errors import DataError, StorageError
from hidden_context.relabel.cost import Meter
from hidden_context.relabel.endpoint import Endpoint
from hidden_context.relabel.pacing import StoppedError
from hidden_context.relabel.questions import Question
from hidden_context.relabel.replies import Reply

VERSION: Final = 1
_OTHER_FILE: Final = "Name another file with --cache"
_SCHEMA: Final = (
    "CREATE TABLE IF NOT EXISTS answers (key TEXT PRIMARY KEY, question TEXT NOT NULL, "
    "reply TEXT NOT NULL, answered TEXT NOT NULL) WITHOUT ROWID"
)


class AnswerCache:
    """Replies by the key of their question; on disk as soon as ``put`` returns.

    Args:
        path: The file, which is created if it does not exist.

    Raises:
        DataError: If the file is not such a cache.
        StorageError: If it cannot be opened or written.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        with self._errors(), contextlib.ExitStack() as stack:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._database = sqlite3.connect(self.path, timeout=30, isolation_level=None)
            stack.callback(self._database.close)
            self._open()
            stack.pop_all()

    def _open(self) -> None:
        (version,) = self._database.execute("PRAGMA user_version").fetchone()
        (tables,) = self._database.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if version != VERSION and (version or tables):
            raise DataError(
                f"the file is not a cache of answers of version {VERSION}",
                file=self.path,
                remedy=_OTHER_FILE,
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

    def __enter__(self) -> AnswerCache:
        return self

    def __exit__(self, *error: object) -> None:
        self._database.close()

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        """Turn errors of the disk and of SQLite into errors of this package."""
        try:
            yield
        except OSError as error:
            raise storage_error(self.path, error) from error
        except sqlite3.OperationalError as error:
            raise StorageError(
                f"{self.path} could not be read or written: {error}. Check that the folder exists, "
                "may be written to and has room."
            ) from error
        except sqlite3.DatabaseError as error:
            raise DataError(
                f"not an SQLite file ({error})", file=self.path, remedy=_OTHER_FILE
            ) from error


@dataclass(frozen=True, slots=True)
class Pending:
    """A question without an answer.

    Attributes:
        question: The question.
        key: The key of the answer in the cache.
        tokens: The tokens that it is expected to take.
    """

    question: Question
    key: str
    tokens: int


@dataclass
class Asking:
    """Asks an endpoint all questions, several at a time.

    On an error that ends the run, and on the first Ctrl-C, no further request goes out;
    answers under way are waited for and kept.

    Attributes:
        endpoint: The endpoint to ask.
        keep: Stores an answer.
        meter: Tells what may still be spent.
        left: The open questions.
    """

    endpoint: Endpoint
    keep: Callable[[Pending, Reply], None]
    meter: Meter
    left: Iterator[Pending]
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    freed: asyncio.Condition = field(default_factory=asyncio.Condition)
    error: Exception | None = None
    interrupted: bool = False
    too_dear: bool = False

    async def all(self, concurrency: int) -> bool:
        """Ask all questions, ``concurrency`` at a time.

        Returns:
            Whether all were asked; false where the limit of the cost was reached.

        Raises:
            EndpointError: If the endpoint refused a request, or gave no answer.
            KeyboardInterrupt: After Ctrl-C.
        """
        loop = asyncio.get_running_loop()
        with contextlib.suppress(NotImplementedError, ValueError, RuntimeError):
            loop.add_signal_handler(signal.SIGINT, self._interrupt)
        async with self.endpoint.client:
            await asyncio.gather(*(self._work() for _ in range(concurrency)))
        if self.error is not None:
            raise self.error
        if self.interrupted:
            raise KeyboardInterrupt
        return not self.too_dear

    def _interrupt(self) -> None:
        if self.interrupted:  # the second time: at once
            raise KeyboardInterrupt
        self.interrupted = True
        self.stop.set()

    async def _work(self) -> None:
        for one in self.left:
            if not await self._may_start(one):
                return
            put_by = self.meter.start(one.tokens)
            try:
                self.keep(one, await self.endpoint.ask(one.question, one.tokens, self.stop))
            except StoppedError:
                return
            except Exception as error:  # ends all workers, and is raised when they have ended
                self.error = self.error or error
                self.stop.set()
            finally:
                self.meter.finish(put_by)
                async with self.freed:
                    self.freed.notify_all()

    async def _may_start(self, one: Pending) -> bool:
        """Wait until the question fits the cost limit; false if it never will."""
        async with self.freed:
            while not self.stop.is_set():
                if self.meter.fits(one.tokens):
                    return True
                if not self.meter.under_way:
                    self.too_dear = True
                    self.stop.set()
                else:
                    await self.freed.wait()
        return False
