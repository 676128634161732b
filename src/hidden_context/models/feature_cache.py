"""Features of texts, kept on disk by the content they were computed from."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from hidden_context.data.storage.files import default_cache_dir
from hidden_context.errors import StorageError


def content_key(*parts: str) -> bytes:
    """SHA-256 of parts, each preceded by its length so that none can run into the next."""
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode("utf-8", "surrogatepass")
        digest.update(len(data).to_bytes(8, "big"))
        digest.update(data)
    return digest.digest()


class FeatureCache:
    """Vectors by key in an SQLite file: no pickles, safe with several processes.

    Args:
        folder: Where the file lies; None for the default cache folder.
    """

    def __init__(self, folder: str | Path | None = None) -> None:
        self.path = Path(folder or default_cache_dir()) / "features.sqlite"

    @contextmanager
    def _connect(self) -> Iterator[sqlite3.Connection]:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            connection = sqlite3.connect(self.path, timeout=60)
        except (OSError, sqlite3.Error) as error:
            raise StorageError(
                f"{self.path}: the feature cache cannot be opened ({error}). Point "
                "HIDDEN_CONTEXT_CACHE to a folder that can be written."
            ) from error
        try:
            connection.execute(
                "CREATE TABLE IF NOT EXISTS features (key BLOB PRIMARY KEY, vector BLOB NOT NULL)"
            )
            yield connection
            connection.commit()
        except sqlite3.Error as error:
            raise StorageError(f"{self.path}: the feature cache failed ({error}).") from error
        finally:
            connection.close()

    def read(self, keys: Sequence[bytes]) -> dict[bytes, np.ndarray]:
        """Read the vectors that are there, as float32 of shape ``(D,)``."""
        found: dict[bytes, np.ndarray] = {}
        with self._connect() as connection:
            for start in range(0, len(keys), 500):
                part = list(keys[start : start + 500])
                marks = ",".join("?" * len(part))
                query = f"SELECT key, vector FROM features WHERE key IN ({marks})"
                for key, vector in connection.execute(query, part):
                    found[bytes(key)] = np.frombuffer(vector, dtype="<f4")
        return found

    def write(self, vectors: dict[bytes, np.ndarray]) -> None:
        """Write vectors; either all are there afterwards or none."""
        with self._connect() as connection:
            connection.executemany(
                "INSERT OR REPLACE INTO features VALUES (?, ?)",
                [
                    (key, np.asarray(vector, dtype="<f4").tobytes())
                    for key, vector in vectors.items()
                ],
            )
