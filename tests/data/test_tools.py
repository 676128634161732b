"""Tools and tool calls: read as the chat template sees them, and never lost."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hidden_context.data.chat import encode, render
from hidden_context.data.dialogue import is_blank
from hidden_context.data.expand import expand_pairs
from hidden_context.data.importers import read_row
from hidden_context.data.merge import merge_prompts
from hidden_context.data.model_input import ModelInput
from hidden_context.data.responses import read_scoring_rows
from hidden_context.data.sources import load_examples
from hidden_context.data.token_cache import token_key
from hidden_context.data.tokenize import tokenize_examples, tokenize_texts
from hidden_context.errors import DataError

MakeTokenizer = Callable[..., Any]

TEMPLATE = (
    "{% if tools %}{{ tools | tojson }}{% endif %}"
    "{% for m in messages %}<{{ m.role }}>{{ 'named' if 'name' in m }}{{ m.content }}"
    "{% if m.tool_calls %}{{ m.tool_calls | tojson }}{% endif %}{% endfor %}"
)
WEATHER = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
MAPS = {"type": "function", "function": {"name": "maps", "parameters": {"type": "object"}}}
USER = {"role": "user", "content": "Rain?"}
TEXT = {"role": "assistant", "content": "I cannot say."}


def call(name: str, **extra: Any) -> dict[str, Any]:
    function = {"name": name, "arguments": {"city": "Bern"}}
    return {
        "role": "assistant",
        "tool_calls": [{"type": "function", "function": function}],
        **extra,
    }


def row(**columns: Any) -> dict[str, Any]:
    return {"prompt": [USER], "chosen": [call("weather")], "rejected": [TEXT], **columns}


@pytest.mark.parametrize("content", [{}, {"content": None}, {"content": ""}])
def test_a_tool_call_alone_is_an_answer(write_rows: Callable[..., Path], content: Any) -> None:
    answer = call("weather", **content) | {"name": None}
    data = load_examples(write_rows("a.jsonl", [row(chosen=[answer]), row()]))
    assert (data.report.kept, data.report.empty) == (2, 0)
    assert "name" not in data.examples[0].responses[0][0]
    assert not is_blank(data.examples[0].responses[0])
    scored = list(read_scoring_rows(write_rows("b.jsonl", [row(chosen=[answer])])))
    assert scored[0].blank == frozenset()


def test_an_answer_needs_content_or_tool_calls() -> None:
    for message in (
        {"role": "assistant", "content": None},
        {"role": "assistant"},
        call("weather") | {"tool_calls": []},
    ):
        with pytest.raises(DataError, match=r"chosen\[0\].*'content' has to be text, not null"):
            read_row(row(chosen=[message]))
    with pytest.raises(DataError, match="'tool_calls' have to be a list of objects"):
        read_row(row(chosen=[call("weather") | {"tool_calls": "weather"}]))
    spoken = {"role": "assistant", "content": None, "function_call": "weather()"}
    with pytest.raises(DataError, match=r"chosen\[0\].*'function_call' has to be an object, not t"):
        read_row(row(chosen=[spoken]))
    blank = {"role": "assistant", "content": " "}
    assert is_blank(read_row(row(chosen=[blank])).responses[0])


@pytest.mark.parametrize(
    "tools",
    [
        [WEATHER, MAPS],
        json.dumps([WEATHER, MAPS]),
        [json.dumps(WEATHER), json.dumps(MAPS)],
        [WEATHER | {"strict": None}, MAPS],
    ],
)
def test_tools_reach_the_template_however_they_are_stored(
    make_tokenizer: MakeTokenizer, tools: Any, write_rows: Callable[..., Path]
) -> None:
    tokenizer = make_tokenizer("<s> $A", TEMPLATE)
    expected = [
        encode(ModelInput([USER, answer], tools=[WEATHER, MAPS]), tokenizer)
        for answer in (call("weather"), TEXT)
    ]
    text = tokenizer.apply_chat_template(
        [USER, call("weather")], tools=[WEATHER, MAPS], tokenize=False
    )
    assert expected[0] == [1, *tokenizer(text, add_special_tokens=False)["input_ids"]]
    assert expected[0] != encode([USER, call("weather")], tokenizer)
    example = read_row(row(tools=tools))
    assert example.tools == [WEATHER, MAPS]
    assert tokenize_examples([example], tokenizer, None).input_ids == [expected]
    for name in ("a.jsonl", "a.parquet"):
        (scored,) = read_scoring_rows(write_rows(name, [row(tools=tools)]))
        assert tokenize_texts(scored.inputs, tokenizer, None).input_ids == expected
    # each pair that is written anew has them too
    (pair,) = expand_pairs(example)
    assert read_row(pair.columns).tools == [WEATHER, MAPS]
    ranked = row(tools=tools, responses=[[TEXT], [call("maps")]], ranks=[1, 2])
    ranked = {k: v for k, v in ranked.items() if k not in ("chosen", "rejected")}
    (pair,) = expand_pairs(read_row(ranked))
    assert pair.tools == read_row(pair.columns).tools == [WEATHER, MAPS]


def test_tools_that_are_none(make_tokenizer: MakeTokenizer) -> None:
    for tools in (None, "", "null"):
        assert read_row(row(tools=tools)).tools is None
    assert read_row(row(tools=[])).tools == []
    # a text goes through no template: the column is the data's own
    assert read_row({"chosen": "a", "rejected": "b", "tools": "hammer"}).tools is None
    tokenizer = make_tokenizer("", TEMPLATE)
    assert token_key(["a"], tokenizer) == token_key([ModelInput("a")], tokenizer)


@pytest.mark.parametrize("tools", ["hammer", {"name": "f"}, ["hammer"], [3], 7])
def test_tools_that_are_no_schemas_are_an_error(tools: Any) -> None:
    with pytest.raises(DataError, match=r"a\.jsonl, line 4, field 'tools.*list of JSON schemas"):
        read_row(row(tools=tools), file="a.jsonl", line=4)


def test_other_tools_make_other_tokens_keys_and_prompts(make_tokenizer: MakeTokenizer) -> None:
    tokenizer = make_tokenizer("", TEMPLATE)
    examples = [read_row(row(tools=[tool])) for tool in (WEATHER, MAPS, WEATHER)]
    ids = tokenize_examples(examples, tokenizer, None).input_ids
    assert ids[0] == ids[2] != ids[1]
    keys = [token_key(example.inputs, tokenizer) for example in examples]
    assert keys[0] == keys[2] != keys[1]
    assert examples[0] != examples[1]
    merged = merge_prompts(examples)
    assert [example.tools for example in merged] == [[WEATHER], [MAPS]]
    assert len(merged[0].judgements) == 2


def test_a_template_that_leaves_tool_calls_out_refuses_them(make_tokenizer: MakeTokenizer) -> None:
    plain = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}"
    tokenizer = make_tokenizer("", plain)
    with pytest.raises(DataError, match="leaves out tool calls, which are the whole answer"):
        render([USER, call("weather")], tokenizer)
    assert render([USER, call("weather"), TEXT], tokenizer).endswith("I cannot say.")
    assert render([USER, call("weather", content="So:")], tokenizer).endswith("So:")
    # a template that wants content of all messages without calls knows calls
    strict = plain.replace("{{ m.content }}", "{{ m.content if m.tool_calls else m.content + '' }}")
    assert render([USER, call("weather")], make_tokenizer("", strict)).endswith("<assistant>")


def test_the_template_sees_no_null_and_joined_parts(make_tokenizer: MakeTokenizer) -> None:
    tokenizer = make_tokenizer("", TEMPLATE)
    parts = [{"type": "text", "text": "Ra"}, {"type": "text", "text": "in?", "image_url": None}]
    messages = [{"role": "user", "content": parts, "name": None}, call("f", content=None)]
    assert render(messages, tokenizer) == render([USER, call("f")], tokenizer)
    assert messages[0]["content"] is parts
