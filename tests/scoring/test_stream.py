from __future__ import annotations

import pytest
import torch

from hidden_context.data.responses import ScoringRow
from hidden_context.errors import HiddenContextWarning
from hidden_context.models.reward_model import RawOutputs
from hidden_context.scoring.config import StreamOptions
from hidden_context.scoring.identity import digest_tokens
from hidden_context.scoring.partial import PartialScores
from hidden_context.scoring.stream import score_rows, windows


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
        reasons, truncated = [], 0
        for index, text in enumerate(texts):
            reason = None
            if text == "nan":
                raw[index, 1] = torch.nan
            if text == "inf":
                raw[index, 0] = torch.inf
            if text == "long" and over_length == "truncate":
                truncated += 1
            elif text == "long":
                reason, raw[index] = "too long", torch.nan
            reasons.append(reason)
        return RawOutputs(raw, reasons, truncated, self.token_ids(texts, over_length))

    def token_ids(self, texts, over_length="truncate"):
        return [None if (text, over_length) == ("long", "drop") else text for text in texts]


def score(tmp_path, texts, over_length="null", window=2):
    rows = [ScoringRow(i, i + 1, {}, (text,), "text") for i, text in enumerate(texts)]
    model, seen = LengthModel(), []
    record = PartialScores(tmp_path / "record.partial", {})
    with record:
        score_rows(
            model,
            rows,
            record,
            options=StreamOptions(engine="tree", tokens_per_batch=99, batch_size=4, window=window),
            over_length=over_length,
            progress=seen.append,
        )
    return list(record), model.calls, seen


def test_windows_hold_every_item_once_and_nothing_when_there_is_none():
    assert list(windows("abcde", 2)) == [["a", "b"], ["c", "d"], ["e"]]
    assert list(windows([], 3)) == []


def test_rows_are_scored_window_by_window_and_counted(tmp_path):
    lines, calls, seen = score(tmp_path, ["a", "bb", "ccc"])
    assert [line["raw"] for line in lines] == [[[1.0, 0.5]], [[2.0, 0.5]], [[3.0, 0.5]]]
    assert calls == [["a", "bb"], ["ccc"]]
    assert seen == [2, 1]


def test_an_interrupted_run_scores_only_what_is_missing(tmp_path):
    score(tmp_path, ["a", "bb"])
    lines, calls, seen = score(tmp_path, ["a", "bb", "ccc", "dddd", "eeeee"])
    assert [line["raw"][0][0] for line in lines] == [1, 2, 3, 4, 5]
    assert calls == [["ccc", "dddd"], ["eeeee"]]
    assert seen == [2, 2, 1]


def test_what_is_scored_anew_begins_with_the_first_window_of_other_tokens(tmp_path):
    score(tmp_path, ["a", "bb", "ccc", "dddd", "eeeee", "f"])
    changed = ["a", "bb", "cc", "dddd", "eeeee", "f"]
    with pytest.warns(HiddenContextWarning, match="from row 3 on the tokens are others"):
        lines, calls, seen = score(tmp_path, changed, window=3)
    assert [line["raw"][0][0] for line in lines] == [1, 2, 2, 4, 5, 1]
    assert [line["row"] for line in lines] == list(range(6))
    assert calls == [["cc", "dddd", "eeeee"], ["f"]]
    assert seen == [2, 3, 1]
    lines, calls, _ = score(tmp_path, changed)
    assert (len(lines), calls) == (6, [])
    with pytest.warns(HiddenContextWarning, match="from row 6 on"):
        lines, calls, _ = score(tmp_path, changed[:5])
    assert (len(lines), calls) == (5, [])


def test_texts_without_a_reward_are_null_with_their_reason(tmp_path):
    lines, _, _ = score(tmp_path, ["long", "a"])
    assert lines == [
        {"row": 0, "raw": [None], "reasons": ["too long"]},
        {
            "row": 1,
            "raw": [[1.0, 0.5]],
            "tokens": digest_tokens([[None], ["a"]]),
            "truncated": 0,
        },
    ]


def test_truncated_texts_are_counted_once_per_window(tmp_path):
    lines, _, _ = score(tmp_path, ["long", "long", "a", "long"], "truncate")
    assert [line.get("truncated") for line in lines] == [None, 2, None, 1]
    assert [line["raw"][0][0] for line in lines] == [4, 4, 1, 4]


def test_raw_outputs_that_are_not_finite_never_leave_as_numbers(tmp_path):
    lines, _, _ = score(tmp_path, ["nan", "inf", "a"], window=8)
    reason = "the model's raw output is not finite"
    assert [line["raw"] for line in lines] == [[None], [None], [[1.0, 0.5]]]
    assert [line.get("reasons") for line in lines] == [[reason], [reason], None]
