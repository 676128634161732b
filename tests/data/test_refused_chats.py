"""Chats that the template refuses: named by file and line, or left out and counted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from hidden_context.data.example import Example
from hidden_context.data.importers import read_row
from hidden_context.data.merge import merge_prompts
from hidden_context.data.report import ReadReport
from hidden_context.data.tokenize import tokenize_examples, tokenize_texts
from hidden_context.errors import ConfigError, DataError

NO_SYSTEM = (
    "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no system') }}"
    "{% endif %}<{{ m.role }}>{{ m.content }}{% endfor %}"
)


@pytest.fixture
def tokenizer(make_tokenizer: Callable[..., Any]) -> Any:
    return make_tokenizer("", NO_SYSTEM)


def example(line: int, role: str = "user", last: str = "assistant", **columns: Any) -> Example:
    sides = {
        side: [{"role": role if side == "chosen" else last, "content": f"{side} {line}"}]
        for side in ("chosen", "rejected")
    }
    row = {"prompt": [{"role": "user", "content": "Hi"}], **sides, **columns}
    return read_row(row, file="a.jsonl", line=line)


def test_a_refused_row_is_an_error_with_its_place(tokenizer: Any) -> None:
    examples = [example(1), example(2, "system"), example(3, "system")]
    with pytest.raises(DataError) as caught:
        tokenize_examples(examples, tokenizer, None)
    assert str(caught.value).startswith("a.jsonl, line 2: the chat template refuses messages")
    assert "no system" in str(caught.value)
    assert "--on_malformed skip" in str(caught.value)


def test_refused_rows_are_left_out_and_counted(tokenizer: Any) -> None:
    examples = [example(1), example(2, "system"), example(3)]
    report = ReadReport("a", rows=3, kept=3)
    found = tokenize_examples(examples, tokenizer, None, report=report, on_malformed="skip")
    assert (found.indices, found.empty, found.too_long) == ([0, 2], 0, 0)
    assert (report.kept, report.empty, len(report.malformed)) == (2, 0, 1)
    assert report.malformed[0].startswith("a.jsonl, line 2: ")
    assert report.rows == report.kept + len(report.malformed)
    # templates may stumble over anything
    broken = tokenizer
    broken.chat_template = "{{ messages[1].content.missing.attribute }}"
    with pytest.raises(DataError, match=r"a\.jsonl, line 1: .*has no attribute 'missing'"):
        tokenize_examples(examples, broken, None)


def test_a_refused_response_leaves_the_others_of_a_merged_example(tokenizer: Any) -> None:
    (merged,) = merge_prompts([example(1), example(2, "system"), example(5)])
    found = tokenize_examples([merged], tokenizer, None, on_malformed="skip")
    assert (found.left_out, found.malformed, len(found.input_ids[0])) == (1, [], 5)
    assert len(found.examples[0].judgements) == 2
    with pytest.raises(DataError, match=r"a\.jsonl, line 1, 2, 5: the chat template refuses"):
        tokenize_examples([merged], tokenizer, None)


def test_a_template_that_is_none_refuses_no_single_text(tokenizer: Any) -> None:
    tokenizer.chat_template = "{% for %}"
    with pytest.raises(ConfigError, match="The chat template does not work"):
        tokenize_texts([[{"role": "user", "content": "a"}]], tokenizer, None)


def test_texts_have_their_reason_and_the_others_their_ids(tokenizer: Any) -> None:
    chats = [list(example(line, role).texts[0]) for line, role in ((1, "user"), (2, "system"))]
    found = tokenize_texts(["plain", *chats, ""], tokenizer, None)
    assert [ids is None for ids in found.input_ids] == [False, False, True, True]
    assert "refuses messages with the roles user, system: no system" in str(found.reasons[2])
    assert (found.reasons[3], found.empty, list(found.refused)) == ("it has no tokens", 1, [2])
