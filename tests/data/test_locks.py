"""Two writers of one result: the second is refused, and nothing is left behind."""

import errno
import fcntl
import multiprocessing
import os
import re
import socket

import pytest

from hidden_context.data.storage.locks import exclusive, exclusive_folder
from hidden_context.errors import StorageError


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
        assert [p.name for p in tmp_path.iterdir()] == ["out.jsonl.lock"]
    assert list(tmp_path.iterdir()) == []


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


def test_a_lock_that_cannot_be_made_is_a_storage_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="could not be written"):
        exclusive(tmp_path / "file" / "out.jsonl").__enter__()
