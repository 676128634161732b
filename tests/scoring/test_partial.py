from __future__ import annotations

import json
import os

import pytest

from hidden_context.errors import StorageError
from hidden_context.scoring.partial import PartialScores

RUN = {"input": "pairs.jsonl", "window": (1, 2)}


def rows(first, count):
    return [{"raw": [[float(number)]]} for number in range(first, first + count)]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "out.jsonl.partial"


@pytest.fixture
def record(path):
    """A record of two windows of three rows."""
    with PartialScores(path, RUN) as record:
        record.append(rows(0, 3), truncated=1)
        record.append(rows(3, 3))
    return record


def test_rows_come_back_in_order_with_the_windows_marked(record):
    lines = list(record)
    assert [line["raw"] for line in lines] == [[[float(number)]] for number in range(6)]
    assert [line.get("truncated") for line in lines] == [None, None, 1, None, None, 0]


def test_the_same_run_goes_on_and_another_starts_anew(record, path):
    assert PartialScores(path, RUN).rows_done == 6
    assert PartialScores(path, RUN, resume=False).rows_done == 0
    assert PartialScores(path, {**RUN, "input": "other"}).rows_done == 0
    with PartialScores(path, {**RUN, "input": "other"}) as other:
        other.append(rows(0, 1))
    assert [line["raw"] for line in other] == [[[0.0]]]
    assert PartialScores(path, RUN).rows_done == 0


@pytest.mark.parametrize("lost", [1, 5, 40, 60])
def test_a_window_that_was_cut_off_is_dropped_whole(record, path, lost):
    size = path.stat().st_size
    window = sum(len(json.dumps(line)) + 1 for line in list(record)[3:])
    assert lost < window
    os.truncate(path, size - lost)
    again = PartialScores(path, RUN)
    assert again.rows_done == 3
    assert path.stat().st_size == size - window
    with again:
        again.append(rows(3, 3))
    assert path.stat().st_size == size
    assert [line["raw"][0][0] for line in again] == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("content", [b"", b"{}\n", b"not json\n", b'{"scoring": {"inp'])
def test_a_file_that_is_no_record_of_this_run_starts_anew(path, content):
    path.write_bytes(content)
    assert PartialScores(path, RUN).rows_done == 0


@pytest.mark.parametrize("garbage", [b"\xff\xfe\n", b"17\n", b'{"raw": \n'])
def test_what_follows_a_line_that_is_no_row_is_dropped(record, path, garbage):
    with path.open("ab") as file:
        file.write(garbage + b'{"raw": [[6.0]], "truncated": 0}\n')
    assert PartialScores(path, RUN).rows_done == 6


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_full_disk_is_a_storage_error_at_the_first_line(path):
    path.symlink_to("/dev/full")
    with pytest.raises(StorageError, match=r"No space left on device. Free some space"):
        PartialScores(path, RUN).__enter__()


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_full_disk_on_the_way_says_that_earlier_windows_are_kept(record, path):
    # closing the file writes again and fails again: the error must be ours all the same
    again = PartialScores(path, RUN)
    with pytest.raises(StorageError, match="What was scored before is kept; the same command"):  # noqa: PT012, SIM117
        with again:
            full = os.open("/dev/full", os.O_WRONLY)
            os.dup2(full, again._file.fileno())
            os.close(full)
            again.append(rows(6, 3))
    assert PartialScores(path, RUN).rows_done == 6


def test_a_folder_that_cannot_be_made_is_a_storage_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="could not be written"):
        PartialScores(tmp_path / "file" / "out.partial", RUN).__enter__()


def test_a_run_that_fails_before_its_first_window_leaves_nothing(path, record):
    with pytest.raises(KeyError), PartialScores(path, {}):
        raise KeyError
    assert not path.exists()
    with pytest.raises(KeyError), PartialScores(path, RUN) as own:  # noqa: PT012
        own.append(rows(0, 1))
        raise KeyError
    with pytest.raises(KeyError), PartialScores(path, RUN):
        raise KeyError
    assert PartialScores(path, RUN).rows_done == 1
