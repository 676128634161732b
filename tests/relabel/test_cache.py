import sqlite3

import pytest

from hidden_context.errors import DataError, StorageError
from hidden_context.relabel.cache import AnswerCache


def test_an_answer_is_on_the_disk_when_put_returns(here):
    with AnswerCache("c.sqlite") as cache:
        cache.put("k", {"vote": 0}, {"text": "A"})
        with AnswerCache("c.sqlite") as other:  # as another process would see it
            assert other.get("k") == {"text": "A"}
    with sqlite3.connect("c.sqlite") as database:
        assert database.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert database.execute("SELECT key, question, reply FROM answers").fetchall() == [
            ("k", '{"vote": 0}', '{"text": "A"}')
        ]


def test_the_first_answer_stays(here):
    with AnswerCache("c.sqlite") as cache:
        cache.put("k", {}, {"text": "A"})
        cache.put("k", {}, {"text": "B"})
        assert (cache.get("k"), cache.get("other"), len(cache)) == ({"text": "A"}, None, 1)


def test_another_file_is_left_alone(here):
    (here / "text").write_text("not a database, but long enough to be looked at as one" * 20)
    before = (here / "text").read_bytes()
    with pytest.raises(DataError, match=r"text: not an SQLite file .* --cache"):
        AnswerCache("text")
    assert (here / "text").read_bytes() == before
    with sqlite3.connect("other.sqlite") as database:
        database.execute("CREATE TABLE mine (x)")
    with pytest.raises(DataError, match="not a cache of answers of version 1"):
        AnswerCache("other.sqlite")
    with sqlite3.connect("later.sqlite") as database:
        database.execute("PRAGMA user_version = 2")
    with pytest.raises(DataError, match="not a cache of answers of version 1"):
        AnswerCache("later.sqlite")


def test_a_folder_that_cannot_be_is_said_so(here):
    (here / "file").touch()
    with pytest.raises(StorageError):
        AnswerCache("file/c.sqlite")
    (here / "folder").mkdir()
    with pytest.raises(StorageError, match="folder could not be read or written"):
        AnswerCache("folder")
