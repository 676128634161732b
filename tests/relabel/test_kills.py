"""Answers are kept: the cache, and the command killed over and over."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time

import pytest

from hidden_context.data.storage.files import iter_jsonl, write_jsonl
from hidden_context.errors import DataError, StorageError
from hidden_context.relabel.asking import AnswerCache
from relabel.fake_endpoint import (
    HANGS_UP,
    Asked,
    Response,
    arguments,
    better,
    fails,
    numbered_rows,
    says,
)


def test_the_first_answer_is_on_the_disk_when_put_returns_and_stays(here):
    with AnswerCache("c.sqlite") as cache:
        cache.put("k", {"vote": 0}, {"text": "A"})
        cache.put("k", {}, {"text": "B"})
        assert (cache.get("k"), cache.get("other"), len(cache)) == ({"text": "A"}, None, 1)
        with AnswerCache("c.sqlite") as other:  # as another process would see it
            assert other.get("k") == {"text": "A"}
    with sqlite3.connect("c.sqlite") as database:
        assert database.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert database.execute("SELECT key, question, reply FROM answers").fetchall() == [
            ("k", '{"vote": 0}', '{"text": "A"}')
        ]


def test_another_file_is_left_alone(here):
    (here / "text").write_text("not a database, but long enough to be looked at as one" * 20)
    before = (here / "text").read_bytes()
    with pytest.raises(DataError, match=r"text: not an SQLite file .* --cache"):
        AnswerCache("text")
    assert (here / "text").read_bytes() == before
    for name, command in (("other", "CREATE TABLE mine (x)"), ("later", "PRAGMA user_version = 2")):
        with sqlite3.connect(name) as database:
            database.execute(command)
        with pytest.raises(DataError, match="not a cache of answers of version 1"):
            AnswerCache(name)


def test_a_folder_that_cannot_be_is_said_so(here):
    (here / "file").touch()
    with pytest.raises(StorageError):
        AnswerCache("file/c.sqlite")
    (here / "folder").mkdir()
    with pytest.raises(StorageError, match="folder could not be read or written"):
        AnswerCache("folder")


KILLS = 10
ROWS, QUESTIONS = 60, 240
CONCURRENCY = 6
BETWEEN = QUESTIONS // (KILLS + 2)


def troubled(asked: Asked) -> Response:
    kind = asked.number % 5
    if asked.attempt == 0 and kind == 0:
        return HANGS_UP
    if asked.attempt == 0 and kind == 1:
        return fails(429, "slow down", retry_after="0.01")
    return says("What?" if kind == 2 else better(asked), delay=0.01)


def command(endpoint) -> list[str]:
    options = ("harmless", "--yes", "--retry_wait=0.01", f"--concurrency={CONCURRENCY}")
    return [sys.executable, "-m", "hidden_context", *arguments(endpoint, *options)]


def kept() -> set[str]:
    """Digests of the words of every question whose answer was kept."""
    database = sqlite3.connect("out.jsonl.cache.sqlite")
    rows = database.execute("SELECT question FROM answers").fetchall()
    database.close()
    found = [json.loads(question)["prompt"] for (question,) in rows]
    assert len(found) == len(set(found))
    return set(found)


def kill_after(endpoint, answers: int, log) -> None:
    """Start the command and kill it as soon as so many more answers were sent to it."""
    goal = len(endpoint.answered) + answers
    with subprocess.Popen(command(endpoint), stdout=log, stderr=log) as process:
        until = time.monotonic() + 120
        while len(endpoint.answered) < goal and process.poll() is None:
            assert time.monotonic() < until, "the command asks nothing"
            time.sleep(0.0005)
        assert process.poll() is None, "the command ended before it was killed"
        os.kill(process.pid, signal.SIGKILL)
    while endpoint.under_way:  # what was sent before the kill
        time.sleep(0.01)


@pytest.mark.slow
def test_a_run_that_is_killed_ten_times_asks_for_no_kept_answer_again(serve, relabel, here):
    rows = numbered_rows(ROWS)
    write_jsonl("in.jsonl", rows)
    endpoint = serve(troubled)
    before: set[str] = set()
    start = 0
    with open("log", "w") as log:
        for number in range(KILLS):
            kill_after(endpoint, BETWEEN, log)
            assert before & set(endpoint.asked[start:]) == set()
            before, start = kept(), len(endpoint.asked)
            # lost is at most what was under way at a kill
            assert len(before) >= len(set(endpoint.answered)) - CONCURRENCY * (number + 1)
            assert not (here / "out.jsonl").exists()
        assert subprocess.run(command(endpoint), stdout=log, stderr=log).returncode == 0
    assert before & set(endpoint.asked[start:]) == set()
    assert len(kept()) == QUESTIONS
    paid_twice = len(endpoint.answered) - len(set(endpoint.answered))
    assert paid_twice <= KILLS * CONCURRENCY
    print(f"{paid_twice} of {QUESTIONS} answers were sent twice")
    written = [row for _, row in iter_jsonl("out.jsonl")]
    # the same as of a run that nobody killed
    _, whole = relabel(rows, serve(troubled), objectives=["helpful", "harmless"], output="w.jsonl")
    assert written == whole
