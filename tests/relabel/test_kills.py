"""Answers are kept: the cache, and the command killed over and over or interrupted."""

from __future__ import annotations

import json
import signal
import sqlite3
import subprocess
import sys
import time

import pytest

from hidden_context.cli.main import main
from hidden_context.data.storage.files import iter_jsonl, write_jsonl
from hidden_context.errors import DataError, StorageError
from hidden_context.relabel.asking import AnswerCache
from relabel.fake_endpoint import arguments, better, numbered_rows, says, troubled


def test_the_first_answer_is_on_the_disk_when_put_returns_and_stays(here):
    with AnswerCache("c.sqlite") as cache:
        cache.put("k", {"vote": 0}, {"text": "A"})
        cache.put("k", {}, {"text": "B"})
        assert (cache.get("k"), cache.get("other")) == ({"text": "A"}, None)
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


def kept() -> set[str]:
    """Digests of the words of every question whose answer was kept."""
    database = sqlite3.connect("out.jsonl.cache.sqlite")
    rows = database.execute("SELECT question FROM answers").fetchall()
    database.close()
    found = [json.loads(question)["prompt"] for (question,) in rows]
    assert len(found) == len(set(found))
    return set(found)


def signalled(number, argv, seen, goal) -> tuple[int, str]:
    """Send a signal to the command once so much was seen; return its exit code and errors."""
    whole = [sys.executable, "-m", "hidden_context", *argv]
    with subprocess.Popen(whole, stderr=subprocess.PIPE, text=True) as process:
        until = time.monotonic() + 120
        while len(seen) < goal:
            assert time.monotonic() < until, "the command asks nothing"
            assert process.poll() is None, "the command ended before the signal"
            time.sleep(0.0005)
        process.send_signal(number)
        _, said = process.communicate(timeout=60)
    return process.returncode, said


@pytest.mark.slow
def test_a_run_that_is_killed_ten_times_asks_for_no_kept_answer_again(serve, relabel, here):
    rows = numbered_rows(ROWS)
    write_jsonl("in.jsonl", rows)
    endpoint = serve(troubled)
    options = ("harmless", "--yes", "--retry_wait=0.01", f"--concurrency={CONCURRENCY}")
    argv = arguments(endpoint, *options)
    before: set[str] = set()
    start = 0
    for number in range(KILLS):
        goal = len(endpoint.answered) + BETWEEN
        assert signalled(signal.SIGKILL, argv, endpoint.answered, goal)[0] == -signal.SIGKILL
        while endpoint.under_way:  # what was sent before the kill
            time.sleep(0.01)
        assert before & set(endpoint.asked[start:]) == set()
        before, start = kept(), len(endpoint.asked)
        # lost is at most what was under way at a kill
        assert len(before) >= len(set(endpoint.answered)) - CONCURRENCY * (number + 1)
        assert not (here / "out.jsonl").exists()
    assert main(argv) == 0
    assert before & set(endpoint.asked[start:]) == set()
    assert len(kept()) == QUESTIONS
    paid_twice = len(endpoint.answered) - len(set(endpoint.answered))
    assert paid_twice <= KILLS * CONCURRENCY
    print(f"{paid_twice} of {QUESTIONS} answers were sent twice")
    written = [row for _, row in iter_jsonl("out.jsonl")]
    # the same as of a run that nobody killed
    _, whole = relabel(rows, serve(troubled), objectives=["helpful", "harmless"], output="w.jsonl")
    assert written == whole


@pytest.mark.slow
def test_ctrl_c_waits_for_the_answers_that_are_under_way(serve, here):
    """They are paid for, so they are kept."""
    endpoint = serve(lambda asked: says(better(asked), delay=0.5))
    write_jsonl("in.jsonl", numbered_rows(30))
    argv = arguments(endpoint, "--yes", "--concurrency=4")
    code, said = signalled(signal.SIGINT, argv, endpoint.requests, 4)
    assert code == 130
    assert "interrupted" in said
    assert len(endpoint.asked) == len(endpoint.answered) == 4
    assert main(argv) == 0
    assert len(endpoint.answered) == len(set(endpoint.answered)) == 60
