"""The paper's relabelled pairs through an endpoint."""

from __future__ import annotations

import pytest

from hidden_context.data.sources import load_examples
from hidden_context.data.storage.files import iter_jsonl
from relabel.fake_endpoint import says

pytestmark = pytest.mark.real_data


def test_rows_keep_their_columns_and_the_responses_are_shown_whole(serve, relabel, real_data):
    path = real_data / "relabeled_hh_rlhf" / "both" / "test.jsonl.gz"
    endpoint = serve(lambda asked: says("A"))
    result, written = relabel([], endpoint, data_path=str(path), limit=40, concurrency=8)
    assert (result.asked, result.judged, len(written)) == (80, 40, 40)
    before = load_examples(path, limit=40).examples
    known = {row["Index"]: row for _, row in iter_jsonl(path)}
    shown = {body["messages"][0]["content"] for body in endpoint.bodies}
    for example, row in zip(before, written, strict=True):
        own, entry = row.pop("annotations")
        assert row == known[row["Index"]] == example.columns
        assert (own, entry["preference"]) == ({"preference": 1.0}, 0.5)
        sides = [row[side].removeprefix(row["prompt"]) for side in ("chosen", "rejected")]
        first, second = (side.strip().removeprefix("Assistant: ").strip() for side in sides)
        dialogue = f"<conversation>\n{row['prompt'].strip()}\n</conversation>"
        letters = [
            f"<reply_{letter}>\n{text}\n</reply_{letter}>"
            for letter, text in (("a", first), ("b", second))
        ]
        assert sum(all(part in text for part in (dialogue, *letters)) for text in shown) == 1
