from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hidden_context.data.example import Comparison, Judgement, Ranking, Rating
from hidden_context.data.importers import read_row
from hidden_context.data.report import ReadReport
from hidden_context.data.tokenize import (
    pad_batch,
    sorted_windows,
    tokenize_examples,
    tokenize_texts,
)
from hidden_context.errors import ConfigError

MakeTokenizer = Callable[..., Any]


def pair(chosen: str, rejected: str) -> Any:
    return read_row({"chosen": chosen, "rejected": rejected})


def test_pairs_that_are_too_long_are_dropped_and_counted(make_tokenizer: MakeTokenizer) -> None:
    tokenizer = make_tokenizer("<s> $A")
    pairs = [pair("x", "y"), pair("x" * 50, "y"), pair("x", "y" * 50), pair("x" * 9, "y" * 3)]
    report = ReadReport("test", rows=4, kept=4)
    result = tokenize_examples(pairs, tokenizer, 10, report=report)
    assert result.indices == [0, 3]
    assert result.too_long == 2
    assert [[len(ids) for ids in pair] for pair in result.input_ids] == [[2, 2], [10, 4]]
    assert result.lengths == [4, 14]
    assert result.input_ids[0][0] == tokenizer("x")["input_ids"]
    assert result.examples == [pairs[0], pairs[3]]
    assert result.examples[0] is pairs[0]
    assert (report.kept, report.too_long, report.truncated) == (2, 2, 0)


def test_truncation_keeps_the_front_token_and_the_end(make_tokenizer: MakeTokenizer) -> None:
    tokenizer = make_tokenizer("<s> $A </s>")
    text = "".join(chr(ord("a") + i) for i in range(26))
    full = tokenizer(text)["input_ids"]
    report = ReadReport("test", rows=1, kept=1)
    result = tokenize_examples(
        [pair(text, "y")], tokenizer, 10, over_length="truncate", report=report
    )
    assert result.input_ids == [[[1, *full[-9:]], tokenizer("y")["input_ids"]]]
    assert (result.truncated, report.truncated, report.kept) == (1, 1, 1)
    without = make_tokenizer()
    ids = tokenize_texts([text], without, 10).input_ids[0]
    assert ids == without(text)["input_ids"][-10:]


def test_keep_and_no_limit_leave_everything(make_tokenizer: MakeTokenizer) -> None:
    tokenizer = make_tokenizer()
    for limit, way in ((10, "keep"), (None, "drop")):
        result = tokenize_examples([pair("x" * 50, "y")], tokenizer, limit, way)  # type: ignore[arg-type]
        assert (len(result), result.too_long, result.truncated) == (1, 0, 0)


def test_texts_keep_their_places(make_tokenizer: MakeTokenizer) -> None:
    result = tokenize_texts(["x", "x" * 50, "", "xy"], make_tokenizer(), 10, "drop")
    assert [ids is None for ids in result.input_ids] == [False, True, True, False]
    assert result.reasons[1] == "it has 50 tokens, more than 10"
    assert result.reasons[2] == "it has no tokens"
    assert (len(result), result.too_long, result.empty, result.truncated) == (4, 1, 1, 0)


def test_pairs_without_tokens_are_dropped(make_tokenizer: MakeTokenizer) -> None:
    report = ReadReport("test", rows=2, kept=2)
    result = tokenize_examples([pair("", "y"), pair("x", "y")], make_tokenizer(), 9, report=report)
    assert (result.indices, result.empty, report.kept, report.empty) == ([1], 1, 1, 1)


def test_more_texts_than_one_chunk(make_tokenizer: MakeTokenizer) -> None:
    tokenizer = make_tokenizer("<s> $A")
    texts = [f"text {i}" for i in range(2100)]
    result = tokenize_texts(texts, tokenizer, None)
    assert result.input_ids[2099] == tokenizer("text 2099")["input_ids"]
    assert len(result) == 2100


def test_options_that_cannot_work(make_tokenizer: MakeTokenizer) -> None:
    tokenizer = make_tokenizer("<s> $A </s>")
    with pytest.raises(ConfigError, match="--max_length has to be at least 3"):
        tokenize_texts(["x"], tokenizer, 2)
    with pytest.raises(ConfigError, match="not 'cut'"):
        tokenize_texts(["x"], tokenizer, 9, "cut")  # type: ignore[arg-type]


def test_pad_batch() -> None:
    ids, mask = pad_batch([[5, 6, 7], [8]], pad_token_id=9, pad_to_multiple_of=4)
    assert ids.tolist() == [[5, 6, 7, 9], [8, 9, 9, 9]]
    assert mask.tolist() == [[1, 1, 1, 0], [1, 0, 0, 0]]
    assert ids.dtype == mask.dtype == torch.int64
    assert pad_batch([[5, 6, 7]], 0)[0].shape == (1, 3)
    assert pad_batch([[1] * 64], 0, 64)[0].shape == (1, 64)


@given(st.lists(st.integers(1, 50), max_size=40), st.integers(1, 12), st.integers(1, 5))
def test_sorted_windows(lengths: list[int], window: int, batch_size: int) -> None:
    batches = sorted_windows(lengths, window, batch_size)
    flat = [index for batch in batches for index in batch]
    assert sorted(flat) == list(range(len(lengths)))
    assert all(1 <= len(batch) <= batch_size for batch in batches)
    for start in range(0, len(lengths), window):
        part = flat[start : start + window]
        assert sorted(part) == list(range(start, min(start + window, len(lengths))))
        assert [lengths[i] for i in part] == sorted((lengths[i] for i in part), reverse=True)


def test_sorted_windows_refuses_nothing_sized() -> None:
    with pytest.raises(ConfigError):
        sorted_windows([1], 0, 1)


def test_responses_that_are_too_long_are_left_out_of_a_ranking(
    make_tokenizer: MakeTokenizer,
) -> None:
    responses = [" a", " b" * 50, " c", " d"]
    rows = [
        {"prompt": "p", "responses": responses, "ranks": [3, 1, 2, 4], "ratings": [1, 5, 3, None]},
        {"prompt": "p", "responses": [" b" * 50, " c" * 50, " d"], "ranks": [1, 2, 3]},
        {"prompt": "p", "responses": [" b" * 50, " a"], "ranks": [1, 2], "ratings": [2, 1]},
        {"prompt": "p", "response": " a", "rating": 1},
        {"prompt": "p", "response": " a" * 50, "rating": 1},
    ]
    report = ReadReport("test", rows=5, kept=5)
    examples = [read_row(row) for row in rows]
    result = tokenize_examples(examples, make_tokenizer(), 10, report=report)
    assert (result.indices, result.too_long, result.left_out) == ([0, 3], 3, 1)
    assert result.examples[0].responses == (" a", " c", " d")
    assert result.examples[0].judgements == (
        Judgement(Ranking((3, 2, 4))),
        Judgement(Rating(0, 1.0)),
        Judgement(Rating(1, 3.0)),
    )
    assert result.examples[1] is examples[3]
    assert [len(ids) for ids in result.input_ids] == [3, 1]
    assert (report.kept, report.too_long, report.left_out) == (2, 3, 1)
    cut = tokenize_examples(examples, make_tokenizer(), 10, "truncate")
    assert (len(cut), cut.truncated, cut.left_out) == (5, 4, 0)
    assert max(len(ids) for one in cut.input_ids for ids in one) == 10


def test_equal_texts_are_tokenized_once(
    make_tokenizer: MakeTokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    import hidden_context.data.tokenize as module

    given: list[Any] = []
    encode_batch = module.encode_batch

    def counting(texts: Any, *args: Any) -> Any:
        given.extend(texts)
        return encode_batch(texts, *args)

    monkeypatch.setattr(module, "encode_batch", counting)
    template = "{% for m in messages %}{{ m['content'] }}{% endfor %}"
    chat = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    examples = [
        read_row({"prompt": "p", "chosen": " a", "rejected": " b"}),
        read_row({"prompt": "p", "chosen": " b", "rejected": " c"}),
        read_row({"prompt": "", "chosen": "p a", "rejected": "p a"}),
        read_row({"messages": chat, "rating": 1}),
        read_row({"prompt": "a", "messages": chat, "rating": 2}),
        read_row({"text": repr(chat), "rating": 2}),
    ]
    result = tokenize_examples(examples, make_tokenizer("", template), None)
    assert given == ["p a", "p b", "p c", chat, repr(chat)]
    assert result.input_ids[0][1] == result.input_ids[1][0]
    assert result.input_ids[3] == result.input_ids[4] != result.input_ids[5]
    assert [j.answer for j in result.examples[1].judgements] == [Comparison(0, 1)]
