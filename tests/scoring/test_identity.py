from __future__ import annotations

import os
from pathlib import Path

from hidden_context.scoring.config import ModelOptions
from hidden_context.scoring.identity import describe_file, describe_model, digest_texts
from support.builders import preference_rows


def touch(path):
    os.utime(path, ns=(1, path.stat().st_mtime_ns + 1_000_000))


def test_a_file_is_another_after_a_change(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text("{}\n")
    before = describe_file(path)
    assert before[:2] == [str(path), 3]
    touch(path)
    assert describe_file(path) != before


def test_a_checkpoint_is_another_when_its_weights_are_but_not_when_it_is_evaluated(tmp_path):
    folder = tmp_path / "final"
    folder.mkdir()
    weights = folder / "model.safetensors"
    weights.write_text("")
    before = describe_model(str(folder), ModelOptions())
    for name in ("eval_results_both.jsonl", "eval_results_both.metrics.json", "x.config.yaml"):
        (folder / name).write_text("")
    assert describe_model(str(folder), ModelOptions()) == before
    touch(weights)
    assert describe_model(str(folder), ModelOptions()) != before


def test_options_that_change_rewards_count_and_others_do_not(tmp_path):
    def describe(**options):
        return describe_model("org/model", ModelOptions(**options))

    assert describe()["files"] == []
    assert describe(batch_size=3, window=5, disable_tqdm=True) == describe()
    for change in ({"base_model": "b"}, {"tokenizer_name": "t"}, {"revision": "r"}):
        assert describe(**change) != describe()
    (tmp_path / "w.bin").write_text("")
    assert describe(base_model=str(tmp_path))["files"] == [describe_file(Path(tmp_path, "w.bin"))]


def test_the_digest_of_texts_knows_texts_and_order():
    texts = [row[side] for row in preference_rows(3) for side in ("chosen", "rejected")]
    chat = [{"role": "user", "content": "Tea?"}]
    assert digest_texts([*texts, chat]) == digest_texts([*texts, [dict(chat[0])]])
    lists = (texts, texts[::-1], texts[:4], [*texts, chat])
    assert len({digest_texts(each) for each in lists}) == 4
