"""The record of an unfinished scoring, and the windows of rows that are put into it."""

import json
import os

import pytest
import torch

from hidden_context.data.responses import ScoringRow
from hidden_context.errors import HiddenContextWarning, StorageError
from hidden_context.models.reward_model import RawOutputs
from hidden_context.scoring.config import StreamOptions
from hidden_context.scoring.loading import load_model
from hidden_context.scoring.record import (
    PartialScores,
    describe_run,
    digest_tokens,
    read_header,
)
from hidden_context.scoring.stream import score_rows

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
    assert PartialScores(path, RUN, threads=7).rows_done == 6  # facts do not make it another run
    assert read_header(path)["threads"] == 2
    assert PartialScores(path, RUN, resume=False).rows_done == 0
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
    for name, value in {
        "precision": "bfloat16", "engine": "padded", "compile": True, "over_length": "truncate"
    }.items():  # fmt: skip
        assert describe(**{name: value}) != plain
    model.max_length -= 1
    assert describe() != plain


def test_the_digest_of_tokens_knows_where_texts_and_parts_end():
    ids = [[[1, 2], [3]], [[1], [2, 3]], [[1, 2, 3]], [[1, 2], None], [[[1, 2]], [3]]]
    assert len({digest_tokens(each) for each in ids}) == len(ids)
    assert digest_tokens(ids[0]) == digest_tokens([[1, 2], [3]])


class LengthModel:
    """Gives a text its length; 'nan' is not finite, 'long' is too long unless it may be cut."""

    def __init__(self):
        self.calls = []

    def check_rows(self, rows, source=None):
        """It tells all texts apart."""

    def try_raw_outputs(self, texts, batch_size=16, over_length="truncate", **engine):
        assert (batch_size, engine) == (4, {"engine": "tree", "tokens_per_batch": 99})
        self.calls.append(list(texts))
        raw = torch.tensor([[float(len(text)), 0.5] for text in texts])
        raw[[text == "nan" for text in texts], 1] = torch.nan
        raw[[text == "inf" for text in texts], 0] = torch.inf
        tokens = self.token_ids(texts, over_length)
        reasons = ["too long" if ids is None else None for ids in tokens]
        truncated = texts.count("long") if over_length == "truncate" else 0
        return RawOutputs(raw, reasons, truncated, tokens)

    def token_ids(self, texts, over_length="truncate"):
        return [None if (text, over_length) == ("long", "drop") else text for text in texts]


def score(path, texts, over_length="null", window=2):
    """Score texts, and return the record's lines, the model's calls and the rows that were done."""
    rows = [ScoringRow(i, i + 1, {}, (text,), "text") for i, text in enumerate(texts)]
    model, seen = LengthModel(), []
    options = StreamOptions(
        over_length=over_length, engine="tree", tokens_per_batch=99, batch_size=4, window=window
    )
    with PartialScores(path, {}) as record:
        score_rows(model, options, lambda: rows, record, seen.append)
    return list(record), model.calls, seen


def test_rows_are_scored_window_by_window_and_anew_from_the_first_other_token(path):
    lines, calls, seen = score(path, ["a", "bb", "ccc", "dddd", "e"])
    assert [line["raw"] for line in lines] == [[[float(n), 0.5]] for n in (1, 2, 3, 4, 1)]
    assert (calls, seen) == ([["a", "bb"], ["ccc", "dddd"], ["e"]], [2, 2, 1])
    changed = ["a", "bb", "cc", "dddd", "eeeee", "f"]
    with pytest.warns(HiddenContextWarning, match="from row 3 on the tokens are others"):
        lines, calls, seen = score(path, changed, window=3)  # windows may be larger now
    assert [(line["row"], line["raw"][0][0]) for line in lines] == list(
        enumerate([1, 2, 2, 4, 5, 1])
    )
    assert (calls, seen) == ([["cc", "dddd", "eeeee"], ["f"]], [2, 3, 1])
    lines, calls, seen = score(path, changed)
    assert (len(lines), calls, seen) == (6, [], [6])
    with pytest.warns(HiddenContextWarning, match="from row 6 on"):
        lines, calls, _ = score(path, changed[:5])
    assert (len(lines), calls) == (5, [])


@pytest.mark.parametrize("over_length", ["null", "truncate"])
def test_texts_without_a_finite_raw_output_have_a_reason(path, over_length):
    lines, _, _ = score(path, ["long", "a", "nan", "inf", "long"], over_length)
    cut = over_length == "truncate"
    long = {"raw": [[4.0, 0.5]]} if cut else {"raw": [None], "reasons": ["too long"]}
    broken = {"raw": [None], "reasons": ["the model's raw output is not finite"]}
    ends = {
        1: {"tokens": digest_tokens([["long" if cut else None], ["a"]]), "truncated": int(cut)},
        3: {"tokens": digest_tokens([["nan"], ["inf"]]), "truncated": 0},
        4: {"tokens": digest_tokens([["long" if cut else None]]), "truncated": int(cut)},
    }
    found = [long, {"raw": [[1.0, 0.5]]}, broken, broken, long]
    assert lines == [{"row": n, **each, **ends.get(n, {})} for n, each in enumerate(found)]
