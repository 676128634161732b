import json

import pytest

from hidden_context.data.dialogue import is_blank
from hidden_context.data.example import ModelInput
from hidden_context.data.importers import read_row
from hidden_context.data.reshape import merge_prompts
from hidden_context.data.responses import read_scoring_rows
from hidden_context.data.sources import load_examples
from hidden_context.data.tokens.cache import token_key
from hidden_context.data.tokens.chat import (
    encode,
    encode_batch,
    install_chat_template,
    read_chat_template,
    render,
    special_tokens,
)
from hidden_context.data.tokens.tokenize import tokenize_examples, tokenize_texts
from hidden_context.errors import ConfigError, DataError, MissingFileError
from support.rows import assistant, user

BOS, EOS = 1, 2
PLAIN = "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}"
WITH_BOS = "{{ bos_token }}" + PLAIN
WITH_BOTH = WITH_BOS + "{{ eos_token }}"
CHAT = [user("hello"), assistant("there")]
CHAT_TEXT = "user: hello\nassistant: there\n"


@pytest.mark.parametrize("frame", ["", "<s> $A", "<s> $A </s>", "$A </s>"])
def test_special_tokens_stand_once_in_texts_and_chats(make_tokenizer, frame):
    front, back = [BOS] * ("<s>" in frame), [EOS] * ("</s>" in frame)
    tokenizer = make_tokenizer(frame)
    assert special_tokens(tokenizer) == (front, back)
    text = "\n\nHuman: hello\n\nAssistant: there"
    assert encode(text, tokenizer) == tokenizer(text)["input_ids"]
    # A BOS that the text brings along is not doubled.
    assert encode("<s>" + text, tokenizer).count(BOS) == 1
    inner = tokenizer(CHAT_TEXT, add_special_tokens=False)["input_ids"]
    for template in (PLAIN, WITH_BOS, WITH_BOTH):
        start = front or [BOS] * ("bos" in template)
        end = back or [EOS] * ("eos" in template)
        assert encode(CHAT, make_tokenizer(frame, template)) == [*start, *inner, *end]


def test_batch_of_texts_and_chats_keeps_the_order(make_tokenizer):
    tokenizer = make_tokenizer("<s> $A", PLAIN)
    mixed = ["one", CHAT, "two", CHAT[:1]]
    assert encode_batch(mixed, tokenizer) == [encode(item, tokenizer) for item in mixed]
    assert encode_batch([], tokenizer) == []


def test_template_given_beside_the_tokenizer(make_tokenizer):
    without = make_tokenizer("<s> $A")
    with pytest.raises(ConfigError, match="--chat_template"):
        encode(CHAT, without)
    assert encode(CHAT, without, PLAIN) == encode(CHAT, make_tokenizer("<s> $A", PLAIN))


def test_installed_template_is_saved_with_the_tokenizer(make_tokenizer, tmp_path):
    from transformers import AutoTokenizer

    tokenizer = make_tokenizer("<s> $A")
    (tmp_path / "chat.jinja").write_text(WITH_BOS)
    install_chat_template(tokenizer, None)
    assert tokenizer.chat_template is None
    install_chat_template(tokenizer, str(tmp_path / "chat.jinja"))
    tokenizer.save_pretrained(tmp_path / "saved")
    loaded = AutoTokenizer.from_pretrained(tmp_path / "saved")
    assert loaded.chat_template == WITH_BOS
    assert encode(CHAT, loaded) == encode(CHAT, tokenizer)


def test_bad_templates(make_tokenizer, tmp_path):
    tokenizer = make_tokenizer()
    with pytest.raises(MissingFileError, match="--chat_template takes"):
        read_chat_template(str(tmp_path / "none.jinja"))
    with pytest.raises(ConfigError, match="does not work"):
        install_chat_template(tokenizer, "{% for %}")
    assert tokenizer.chat_template is None
    strict = PLAIN + "{% if messages[0]['role'] != 'user' %}{{ raise_exception('no') }}{% endif %}"
    with pytest.raises(DataError, match="refuses messages with the roles assistant: no"):
        encode(CHAT[1:], make_tokenizer("", strict))


TEMPLATE = (
    "{% if tools %}{{ tools | tojson }}{% endif %}"
    "{% for m in messages %}<{{ m.role }}>{{ 'named' if 'name' in m }}{{ m.content }}"
    "{% if m.tool_calls %}{{ m.tool_calls | tojson }}{% endif %}{% endfor %}"
)
WEATHER = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
MAPS = {"type": "function", "function": {"name": "maps", "parameters": {"type": "object"}}}
USER = {"role": "user", "content": "Rain?"}
TEXT = {"role": "assistant", "content": "I cannot say."}


def call(name, **extra):
    calls = [{"type": "function", "function": {"name": name, "arguments": {"city": "Bern"}}}]
    return {"role": "assistant", "tool_calls": calls, **extra}


def row(**columns):
    return {"prompt": [USER], "chosen": [call("weather")], "rejected": [TEXT], **columns}


@pytest.mark.parametrize("content", [{}, {"content": None}, {"content": ""}])
def test_a_tool_call_alone_is_an_answer(write_rows, content):
    answer = call("weather", **content) | {"name": None}
    data = load_examples(write_rows("a.jsonl", [row(chosen=[answer]), row()]))
    assert (data.report.kept, data.report.empty) == (2, 0)
    assert "name" not in data.examples[0].responses[0][0]
    assert not is_blank(data.examples[0].responses[0])
    assert is_blank(read_row(row(chosen=[assistant(" ")])).responses[0])
    scored = list(read_scoring_rows(write_rows("b.jsonl", [row(chosen=[answer])])))
    assert scored[0].blank == frozenset()


@pytest.mark.parametrize(
    "tools",
    [
        [WEATHER, MAPS],
        json.dumps([WEATHER, MAPS]),
        [json.dumps(WEATHER), json.dumps(MAPS)],
        [WEATHER | {"strict": None}, MAPS],
    ],
)
def test_tools_reach_the_template_however_they_are_stored(make_tokenizer, tools, write_rows):
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


def test_tools_that_are_none(make_tokenizer):
    for tools in (None, "", "null"):
        assert read_row(row(tools=tools)).tools is None
    assert read_row(row(tools=[])).tools == []
    # a text goes through no template: the column is the data's own
    assert read_row({"chosen": "a", "rejected": "b", "tools": "hammer"}).tools is None
    tokenizer = make_tokenizer("", TEMPLATE)
    assert token_key(["a"], tokenizer) == token_key([ModelInput("a")], tokenizer)


def test_other_tools_make_other_tokens_keys_and_prompts(make_tokenizer):
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


def test_a_template_that_leaves_tool_calls_out_refuses_them(make_tokenizer):
    plain = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}"
    tokenizer = make_tokenizer("", plain)
    with pytest.raises(DataError, match="leaves out tool calls, which are the whole answer"):
        render([USER, call("weather")], tokenizer)
    assert render([USER, call("weather"), TEXT], tokenizer).endswith("I cannot say.")
    assert render([USER, call("weather", content="So:")], tokenizer).endswith("So:")
    # a template that wants content of all messages without calls knows calls
    strict = plain.replace("{{ m.content }}", "{{ m.content if m.tool_calls else m.content + '' }}")
    assert render([USER, call("weather")], make_tokenizer("", strict)).endswith("<assistant>")


def test_the_template_sees_no_null_and_joined_parts(make_tokenizer):
    tokenizer = make_tokenizer("", TEMPLATE)
    parts = [{"type": "text", "text": "Ra"}, {"type": "text", "text": "in?", "image_url": None}]
    messages = [{"role": "user", "content": parts, "name": None}, call("f", content=None)]
    assert render(messages, tokenizer) == render([USER, call("f")], tokenizer)
    assert messages[0]["content"] is parts
