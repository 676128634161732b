from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hidden_context.data.chat import (
    encode,
    encode_batch,
    install_chat_template,
    read_chat_template,
    special_tokens,
)
from hidden_context.errors import ConfigError, DataError, MissingFileError

BOS, EOS = 1, 2
PLAIN = "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}"
WITH_BOS = "{{ bos_token }}" + PLAIN
WITH_BOTH = WITH_BOS + "{{ eos_token }}"
CHAT = [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "there"}]
CHAT_TEXT = "user: hello\nassistant: there\n"

MakeTokenizer = Callable[..., Any]


@pytest.mark.parametrize(
    ("frame", "front", "back"),
    [
        ("", [], []),
        ("<s> $A", [BOS], []),
        ("<s> $A </s>", [BOS], [EOS]),
        ("$A </s>", [], [EOS]),
    ],
)
def test_special_tokens_are_found(
    make_tokenizer: MakeTokenizer, frame: str, front: list[int], back: list[int]
) -> None:
    assert special_tokens(make_tokenizer(frame)) == (front, back)


@pytest.mark.parametrize("frame", ["", "<s> $A", "<s> $A </s>"])
@pytest.mark.parametrize("template", [PLAIN, WITH_BOS, WITH_BOTH])
def test_special_tokens_stand_once_in_chats(
    make_tokenizer: MakeTokenizer, frame: str, template: str
) -> None:
    tokenizer = make_tokenizer(frame, template)
    ids = encode(CHAT, tokenizer)
    assert ids.count(BOS) == int("<s>" in frame or "bos" in template)
    assert ids.count(EOS) == int("</s>" in frame or "eos" in template)
    if BOS in ids:
        assert ids[0] == BOS
    if EOS in ids:
        assert ids[-1] == EOS
    inner = [i for i in ids if i not in (BOS, EOS)]
    assert inner == tokenizer(CHAT_TEXT, add_special_tokens=False)["input_ids"]


@pytest.mark.parametrize("frame", ["", "<s> $A", "<s> $A </s>"])
def test_texts_are_tokenized_in_the_ordinary_way(make_tokenizer: MakeTokenizer, frame: str) -> None:
    tokenizer = make_tokenizer(frame)
    text = "\n\nHuman: hello\n\nAssistant: there"
    assert encode(text, tokenizer) == tokenizer(text)["input_ids"]
    # A BOS that the text brings along is not doubled.
    assert encode("<s>" + text, tokenizer).count(BOS) == 1


def test_batch_of_texts_and_chats_keeps_the_order(make_tokenizer: MakeTokenizer) -> None:
    tokenizer = make_tokenizer("<s> $A", PLAIN)
    mixed = ["one", CHAT, "two", CHAT[:1]]
    assert encode_batch(mixed, tokenizer) == [encode(item, tokenizer) for item in mixed]
    assert encode_batch([], tokenizer) == []


def test_template_given_beside_the_tokenizer(make_tokenizer: MakeTokenizer) -> None:
    without = make_tokenizer("<s> $A")
    with pytest.raises(ConfigError, match="--chat_template"):
        encode(CHAT, without)
    assert encode(CHAT, without, PLAIN) == encode(CHAT, make_tokenizer("<s> $A", PLAIN))


def test_installed_template_is_saved_with_the_tokenizer(
    make_tokenizer: MakeTokenizer, tmp_path: Path
) -> None:
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


def test_bad_templates(make_tokenizer: MakeTokenizer, tmp_path: Path) -> None:
    tokenizer = make_tokenizer()
    with pytest.raises(MissingFileError, match="--chat_template takes"):
        read_chat_template(str(tmp_path / "none.jinja"))
    with pytest.raises(ConfigError, match="does not work"):
        install_chat_template(tokenizer, "{% for %}")
    assert tokenizer.chat_template is None
    strict = PLAIN + "{% if messages[0]['role'] != 'user' %}{{ raise_exception('no') }}{% endif %}"
    with pytest.raises(DataError, match="refuses messages with the roles assistant: no"):
        encode(CHAT[1:], make_tokenizer("", strict))
