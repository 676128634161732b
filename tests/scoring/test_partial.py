from __future__ import annotations

import json
import os

import pytest

from hidden_context.errors import HiddenContextWarning, StorageError
from hidden_context.scoring.partial import PartialScores

RUN = {"input": "pairs.jsonl", "window": (1, 2), "files": {"a": "1", "b": "2"}}


def rows(first, count, digest="new"):
    lines = [{"row": number, "raw": [[float(number)]]} for number in range(first, first + count)]
    lines[-1]["tokens"] = digest
    return lines


@pytest.fixture
def path(tmp_path):
    return tmp_path / "out.jsonl.partial"


@pytest.fixture
def record(path):
    """A record of two windows of three rows."""
    with PartialScores(path, RUN) as record:
        record.append(rows(0, 3, "abc"), 1)
        record.append(rows(3, 3, "def"), 0)
    return record


def test_rows_come_back_in_order_with_the_windows_marked(record):
    lines = list(record)
    assert [line["raw"] for line in lines] == [[[float(number)]] for number in range(6)]
    assert [line.get("truncated") for line in lines] == [None, None, 1, None, None, 0]
    assert [line.get("tokens") for line in lines] == [None, None, "abc", None, None, "def"]
    assert [line["row"] for line in lines] == [0, 1, 2, 3, 4, 5]
    assert record.windows == PartialScores(record.path, RUN).windows == [(3, "abc"), (3, "def")]


def test_the_same_run_goes_on_and_another_starts_anew(record, path):
    assert PartialScores(path, RUN).rows_done == 6
    assert PartialScores(path, RUN, resume=False).rows_done == 0
    other = {**RUN, "files": {"a": "1", "b": "3"}}
    said = r"out\.jsonl\.partial was begun with other files \(b\), input; all rows are scored anew"
    with (
        pytest.warns(HiddenContextWarning, match=said),
        PartialScores(path, {**other, "input": "other"}) as other,
    ):
        other.append(rows(0, 1, "xyz"), 0)
    assert [line["raw"] for line in other] == [[[0.0]]]
    with pytest.warns(HiddenContextWarning):
        assert PartialScores(path, RUN).rows_done == 0


def test_a_record_of_an_earlier_version_is_said_to_be_of_no_use(path):
    header = json.dumps({"scoring": RUN})
    path.write_text(header + '\n{"raw": [[0.0]], "truncated": 0}\n')
    with pytest.warns(HiddenContextWarning, match="is of an earlier version; all rows are scored"):
        assert PartialScores(path, RUN).rows_done == 0


def test_a_row_out_of_its_place_ends_what_is_kept(record, path):
    with path.open("ab") as file:
        file.write(b'{"row": 7, "raw": [[7.0]], "truncated": 0, "tokens": "ghi"}\n')
    assert PartialScores(path, RUN).rows_done == 6


def test_windows_that_are_others_by_now_are_dropped(record, path):
    with PartialScores(path, RUN) as again:
        with pytest.warns(HiddenContextWarning, match="from row 4 on the tokens are others"):
            again.keep(1)
        again.append(rows(3, 1, "new"), 2)
    assert [line["raw"][0][0] for line in again] == [0, 1, 2, 3]
    assert PartialScores(path, RUN).windows == [(3, "abc"), (1, "new")]


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
        again.append(rows(3, 3, "def"), 0)
    assert path.stat().st_size == size
    assert [line["raw"][0][0] for line in again] == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("content", [b"", b"{}\n", b"not json\n", b'{"scoring": {"inp'])
def test_a_file_that_is_no_record_of_this_run_starts_anew(path, content):
    path.write_bytes(content)
    assert PartialScores(path, RUN).rows_done == 0


@pytest.mark.parametrize("garbage", [b"\xff\xfe\n", b"17\n", b'{"raw": \n'])
def test_what_follows_a_line_that_is_no_row_is_dropped(record, path, garbage):
    with path.open("ab") as file:
        file.write(garbage + b'{"row": 6, "raw": [[6.0]], "truncated": 0, "tokens": "ghi"}\n')
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
            again.append(rows(6, 3, "ghi"), 0)
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
        own.append(rows(0, 1, "abc"), 0)
        raise KeyError
    with pytest.raises(KeyError), PartialScores(path, RUN):
        raise KeyError
    assert PartialScores(path, RUN).rows_done == 1
