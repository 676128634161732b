"""Files written whole or not at all, by one writer at a time; errors of reading name the line."""

import errno
import fcntl
import gzip
import json
import math
import multiprocessing
import os
import re
import socket
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from unittest import mock

import numpy as np
import pytest

from hidden_context.data.storage import files
from hidden_context.data.storage.files import (
    atomic_write,
    iter_jsonl,
    open_binary,
    read_json,
    write_json,
    write_jsonl,
)
from hidden_context.data.storage.locks import exclusive, exclusive_folder
from hidden_context.data.storage.rows import iter_rows
from hidden_context.errors import DataError, MissingFileError, StorageError


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize(
    ("name", "mode", "content"),
    [("a.txt", "w", "é\n"), ("a.gz", "w", "é\n"), ("a.gz", "wb", b"\x00\xff")],
)
def test_content_appears_under_its_name_only_when_whole(tmp_path, name, mode, content):
    path = tmp_path / "deep" / name
    with atomic_write(path, mode) as file:
        file.write(content)
        assert names(path.parent) == [f"{name}.partial"]
    assert names(path.parent) == [name]
    with open_binary(path) as file:  # unpacks
        assert file.read() == (content.encode() if mode == "w" else content)
    assert (path.read_bytes()[:2] == b"\x1f\x8b") is (name == "a.gz")


@pytest.mark.parametrize("name", ["a.txt", "a.txt.gz"])
def test_failure_inside_leaves_what_was_there(tmp_path, name):
    path = tmp_path / name
    with atomic_write(path) as file:
        file.write("old")
    before = path.read_bytes()
    with pytest.raises(ZeroDivisionError), atomic_write(path) as file:
        file.write(f"new {1 / 0}")
    assert path.read_bytes() == before
    assert names(tmp_path) == [name]


def test_gzip_bytes_depend_on_the_content_alone(tmp_path):
    paths = [tmp_path / "x.jsonl.gz", tmp_path / "y.jsonl.gz"]
    assert [write_jsonl(path, [{"a": 1}, {"b": "é"}]) for path in paths] == [2, 2]
    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_full_disk_at_the_final_flush(tmp_path, monkeypatch):
    full = mock.Mock(side_effect=OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
    monkeypatch.setattr(files.os, "fsync", full)
    path = tmp_path / "a.txt"
    path.write_text("old")
    message = r"a\.txt could not be written: No space left.*Free some space"
    with pytest.raises(StorageError, match=message), atomic_write(path) as file:
        file.write("x")
    assert (path.read_text(), names(tmp_path), file.closed) == ("old", ["a.txt"], True)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz"])
def test_a_device_without_room(tmp_path, name):
    (tmp_path / f"{name}.partial").symlink_to("/dev/full")
    with pytest.raises(StorageError, match="No space left"):
        write_jsonl(tmp_path / name, ({"text": os.urandom(999).hex()} for _ in range(999)))
    assert names(tmp_path) == []


def test_other_errors_pass_through(tmp_path):
    (tmp_path / "file").write_text("")
    for write in (atomic_write, exclusive):
        message = r"out\.jsonl could not be written"
        with pytest.raises(StorageError, match=message), write(tmp_path / "file" / "out.jsonl"):
            pass
    with pytest.raises(MissingFileError), atomic_write(tmp_path / "a"):
        list(iter_jsonl(tmp_path / "missing"))
    with pytest.raises(BrokenPipeError), atomic_write(tmp_path / "a"):
        raise BrokenPipeError
    assert names(tmp_path) == ["file"]


@pytest.mark.parametrize("pack", [bytes, gzip.compress])  # gzip is known by its content
def test_iter_jsonl_numbers_lines_and_skips_blank_ones(tmp_path, pack):
    (tmp_path / "a.jsonl").write_bytes(pack(b'{"a": 1}\n\n{"b": "\\u2028"}\n'))
    assert list(iter_jsonl(tmp_path / "a.jsonl")) == [(1, {"a": 1}), (3, {"b": "\u2028"})]


@pytest.mark.parametrize(
    ("line", "text"),
    [
        (b'{"a": "x', "not valid JSON: Invalid control character at column 9"),
        (b"[1, 2]", "a JSON object is needed on each line, not a list"),
        (b'{"a": "\xff"}', "not valid JSON"),
        (b'{"a": 1, "b": 2, "a": 1}', "not valid JSON: the key 'a' occurs twice in one object"),
        (b'{"a": [{"b": {"c": 1, "c": null}}]}', "the key 'c' occurs twice"),
        (b"version https://git-lfs.github.com/spec/v1", "Git LFS pointer"),
    ],
)
def test_broken_line_is_named(tmp_path, line, text):
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"a": 1}\n{"a": 2}\n' + line + b"\n")
    rows = iter_jsonl(path)
    assert [next(rows)[0], next(rows)[0]] == [1, 2]
    with pytest.raises(DataError, match=f"a.jsonl, line 3: .*{text}"):
        next(rows)


def test_damaged_gzip(tmp_path):
    rows = "".join(json.dumps({"a": i * 7919}) + "\n" for i in range(999))
    whole = gzip.compress(rows.encode())
    for damaged in (whole[:12], whole[: len(whole) // 2], whole[:40] + b"\xff" * 40 + whole[80:]):
        (tmp_path / "a.json.gz").write_bytes(damaged)
        for read in (iter_jsonl, iter_rows):
            with pytest.raises(DataError, match=r"gzip file is damaged or cut off"):
                list(read(tmp_path / "a.json.gz"))
        with pytest.raises(DataError, match="gzip file is damaged"):
            read_json(tmp_path / "a.json.gz")


def test_missing_empty_and_folder(tmp_path):
    with pytest.raises(MissingFileError, match="does not exist"):
        list(iter_jsonl(tmp_path / "a.jsonl"))
    with pytest.raises(DataError, match="this is a folder"):
        list(iter_jsonl(tmp_path))
    (tmp_path / "a.jsonl").write_text("\n\n")
    assert list(iter_jsonl(tmp_path / "a.jsonl")) == []
    with pytest.raises(DataError, match="holds no rows"):
        list(iter_jsonl(tmp_path / "a.jsonl", allow_empty=False))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('{\n"a": 1,\n}', "line [23]: not valid JSON"),
        ('[{"a": 1, "a": 1}]', "key 'a' occurs twice"),
        ("[" * 9999, "deeply"),
    ],
)
def test_read_json_names_the_line(tmp_path, text, problem):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(DataError, match=problem):
        read_json(tmp_path / "a.json")


def test_rows_hold_half_characters_as_escapes_and_no_bare_nan(tmp_path):
    row = {"a": math.nan, "b": [1.5, -math.inf], "c": {"d": np.float64("nan")}, "e": "é"}
    write_jsonl(tmp_path / "a.jsonl", [row, {**row, "e": "\ud83d"}, {"a": np.array([np.nan])}])
    start = '{"a": null, "b": [1.5, null], "c": {"d": null}, '
    lines = (tmp_path / "a.jsonl").read_text(encoding="utf-8").splitlines()
    assert lines == [start + '"e": "é"}', start + '"e": "\\ud83d"}', '{"a": [null]}']
    assert [row.get("e") for _, row in iter_jsonl(tmp_path / "a.jsonl")] == ["é", "\ud83d", None]


@dataclass
class Inner:
    x: float


def test_files_hold_what_json_lacks_in_a_form_that_it_has(tmp_path):
    pairs = [
        ([bytearray(b"\x00\xff")], ["AP8="]),
        ({"d": timedelta(hours=-1, microseconds=5)}, {"d": -3599.999995}),
        ({2, 1}, [1, 2]),
        (np.array([1.0, np.inf]), [1.0, None]),
        (tmp_path, str(tmp_path)),
        (Inner(0.1), {"x": 0.1}),
    ]
    row, expected = ({str(n): each[side] for n, each in enumerate(pairs)} for side in (0, 1))
    keys = {b"k": 1, date(2024, 1, 2): 2, (1, 2): 3}
    rows = [row, {"nan": math.nan, **row}, {"keys": keys}]
    written = {"aw==": 1, "2024-01-02": 2, "[1, 2]": 3}
    read = [expected, {"nan": None, **expected}, {"keys": written}]
    write_jsonl(tmp_path / "a.jsonl", rows)
    write_json(tmp_path / "a.json", rows)
    assert [row for _, row in iter_jsonl(tmp_path / "a.jsonl")] == read
    assert read_json(tmp_path / "a.json") == read
    for write, name in ((write_json, "b.json"), (write_jsonl, "b.jsonl")):
        with pytest.raises(TypeError, match="a value of type object cannot be written as JSON"):
            write(tmp_path / name, [{"a": object()}])
    assert names(tmp_path) == ["a.json", "a.jsonl"]


def hold(path, ready, end):
    with exclusive(path):
        ready.set()
        end.wait(60)


@pytest.fixture
def holder(tmp_path):
    """Another process that writes ``out.jsonl``, and the event that lets it end."""
    context = multiprocessing.get_context("fork")
    ready, end = context.Event(), context.Event()
    process = context.Process(target=hold, args=(tmp_path / "out.jsonl", ready, end))
    process.start()
    assert ready.wait(60)
    yield process, end
    process.kill()
    process.join()


def test_the_second_writer_is_told_who_the_first_is(tmp_path, holder):
    process, end = holder
    who = rf"process {process.pid} on {re.escape(socket.gethostname())} since \d{{4}}-\d\d-\d\d "
    for _ in range(2):  # asking changes nothing
        with pytest.raises(StorageError, match=rf"out\.jsonl is being written by {who}"):
            exclusive(tmp_path / "out.jsonl").__enter__()
    with exclusive(tmp_path / "other.jsonl"):
        pass
    end.set()
    process.join()
    with exclusive(tmp_path / "out.jsonl"):
        assert names(tmp_path) == ["out.jsonl.lock"]
    assert names(tmp_path) == []


def test_what_a_killed_writer_leaves_is_taken_over(tmp_path, holder):
    process, _ = holder
    process.kill()
    process.join()
    assert (tmp_path / "out.jsonl.lock").read_text().startswith(f"{process.pid}\n")
    with exclusive(tmp_path / "out.jsonl"):
        assert (tmp_path / "out.jsonl.lock").read_text().startswith(f"{os.getpid()}\n")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_has_its_lock_within_and_an_error_frees_it(tmp_path):
    folder = tmp_path / "new" / "run"
    with pytest.raises(KeyError), exclusive_folder(folder):  # noqa: PT012
        assert [p.name for p in folder.iterdir()] == ["run.lock"]
        with pytest.raises(StorageError, match=rf"{folder} is being written by process"):
            exclusive_folder(folder).__enter__()
        raise KeyError
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("code", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
@pytest.mark.filterwarnings("ignore:flock not supported")
def test_without_locks_of_the_kernel_the_file_is_the_lock(tmp_path, monkeypatch, code):
    def refuse(*_):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", refuse)
    for _ in range(2):
        with exclusive(tmp_path / "out.jsonl"):  # noqa: SIM117
            with pytest.raises(StorageError, match=rf"written by process {os.getpid()} on"):
                exclusive(tmp_path / "out.jsonl").__enter__()
    assert list(tmp_path.iterdir()) == []
