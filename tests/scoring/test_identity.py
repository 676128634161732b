from __future__ import annotations

import os

from hidden_context.scoring.config import ModelOptions, StreamOptions
from hidden_context.scoring.identity import describe_file, describe_run, digest_tokens
from hidden_context.scoring.loading import load_model


def test_a_file_is_another_after_a_change(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text("{}\n")
    before = describe_file(path)
    assert before[:2] == [str(path), 3]
    os.utime(path, ns=(1, path.stat().st_mtime_ns + 1_000_000))
    assert describe_file(path) != before


def test_options_that_change_rewards_count_and_others_do_not(checkpoint):
    model = load_model(checkpoint, ModelOptions())

    def describe(over_length="null", **options):
        return describe_run(checkpoint, model, StreamOptions(**options), over_length)

    plain = describe()
    assert plain == describe(batch_size=3, window=5, tokens_per_batch=9, disable_tqdm=True)
    assert plain == describe(precision="float32", device="cpu")
    changes = [{"precision": "bfloat16"}, {"engine": "padded"}, {"compile": True}]
    for change in [*changes, {"over_length": "truncate"}]:
        assert describe(**change) != plain
    model.max_length -= 1
    assert describe() != plain


def test_the_digest_of_tokens_knows_where_texts_and_parts_end():
    ids = [[[1, 2], [3]], [[1], [2, 3]], [[1, 2, 3]], [[1, 2], None], [[[1, 2]], [3]]]
    assert len({digest_tokens(each) for each in ids}) == len(ids)
    assert digest_tokens(ids[0]) == digest_tokens([[1, 2], [3]])
