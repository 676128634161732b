"""The record of an unfinished scoring."""

import json
import os

import pytest

from hidden_context.errors import HiddenContextWarning, StorageError
from hidden_context.scoring.config import StreamOptions
from hidden_context.scoring.loading import load_model
from hidden_context.scoring.record import (
    PartialScores,
    describe_run,
    digest_tokens,
    read_header,
)

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
    with PartialScores(path, RUN, threads=2) as record:
        record.append(rows(0, 3, "abc"), 1)
        record.append(rows(3, 3, "def"), 0)
    return record


def test_rows_come_back_in_order_with_the_windows_marked(record):
    lines = [*rows(0, 3, "abc"), *rows(3, 3, "def")]
    lines[2]["truncated"], lines[5]["truncated"] = 1, 0
    assert list(record) == lines
    assert record.windows == PartialScores(record.path, RUN).windows == [(3, "abc"), (3, "def")]


def test_the_same_run_goes_on_and_another_starts_anew(record, path, tmp_path):
    assert read_header(path)["threads"] == 2
    other = {**RUN, "input": "other", "files": {"a": "1", "b": "3"}}
    said = r"out\.jsonl\.partial was begun with other files \(b\), input; all rows are scored anew"
    with pytest.warns(HiddenContextWarning, match=said), PartialScores(path, other) as found:
        found.append(rows(0, 1, "xyz"), 0)
    assert [line["raw"] for line in found] == [[[0.0]]]
    with pytest.warns(HiddenContextWarning):
        assert PartialScores(path, RUN).rows_done == 0
    path.write_text(json.dumps({"scoring": RUN}) + '\n{"raw": [[0.0]], "truncated": 0}\n')
    with pytest.warns(HiddenContextWarning, match="is of an earlier version; all rows are scored"):
        assert PartialScores(path, RUN).rows_done == 0
    assert read_header(tmp_path / "none") == {}


@pytest.mark.parametrize("content", [b"", b"{}\n", b"not json\n", b'{"scoring": {"inp'])
def test_a_file_that_is_no_record_of_this_run_starts_anew(path, content):
    path.write_bytes(content)
    assert PartialScores(path, RUN).rows_done == 0
    assert read_header(path) == {}


@pytest.mark.parametrize("garbage", [b"\xff\xfe\n", b"17\n", b'{"raw": \n', b'{"row": 7}\n'])
def test_what_follows_a_line_that_is_not_the_next_row_is_dropped(record, path, garbage):
    with path.open("ab") as file:
        file.write(garbage + b'{"row": 6, "raw": [[6.0]], "truncated": 0, "tokens": "ghi"}\n')
    assert PartialScores(path, RUN).rows_done == 6


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_full_disk_is_a_storage_error_and_earlier_windows_are_kept(record, path, tmp_path):
    # closing the file writes again and fails again: the error must be ours all the same
    again = PartialScores(path, RUN)
    with pytest.raises(StorageError, match="What was scored before is kept; the same command"):  # noqa: PT012, SIM117
        with again:
            full = os.open("/dev/full", os.O_WRONLY)
            os.dup2(full, again._file.fileno())
            os.close(full)
            again.append(rows(6, 3, "ghi"), 0)
    assert PartialScores(path, RUN).rows_done == 6
    (tmp_path / "first").symlink_to("/dev/full")
    with pytest.raises(StorageError, match=r"No space left on device. Free some space"):
        PartialScores(tmp_path / "first", RUN).__enter__()
    with pytest.raises(StorageError, match="could not be written"):
        PartialScores(path / "a file is no folder", RUN).__enter__()


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


def test_options_that_change_rewards_count_and_others_do_not(checkpoint):
    model = load_model(checkpoint, StreamOptions())

    def describe(**options):
        return describe_run(checkpoint, model, StreamOptions(**options))

    plain = describe()
    assert plain == describe(batch_size=3, window=5, tokens_per_batch=9, disable_tqdm=True)
    assert plain == describe(precision="float32", device="cpu")
    assert plain not in (describe(engine="padded"), describe(compile=True))


def test_the_digest_of_tokens_knows_where_texts_and_parts_end():
    ids = [[[1, 2], [3]], [[1], [2, 3]], [[1, 2, 3]], [[1, 2], None], [[[1, 2]], [3]]]
    assert len({digest_tokens(each) for each in ids}) == len(ids)
    assert digest_tokens(ids[0]) == digest_tokens([[1, 2], [3]])
