import pytest

from hidden_context.scoring.prepare import TokenIds
from hidden_context.serve.leading import restored
from support.builders import CHAT_TEMPLATE, tiny_tokenizer

CHAT = [{"role": "user", "content": "Tea?"}, {"role": "assistant", "content": "Yes."}]


def cut(tokenizer, chat=CHAT):
    """Render a chat and cut its BOS off, as verl does."""
    text = tokenizer.apply_chat_template(chat, tokenize=False)
    return text.removeprefix(tokenizer.bos_token)


def test_a_bos_that_only_the_template_writes_is_put_back():
    template = "{{ bos_token }}" + CHAT_TEMPLATE
    tokenizer = tiny_tokenizer(bos="<s>", chat_template=template)
    system = [{"role": "system", "content": "Be kind."}, *CHAT]
    texts = [cut(tokenizer), cut(tokenizer, system), "<s><user> Tea?", "plain", TokenIds((1,))]
    assert restored(texts, tokenizer) == ["<s>" + texts[0], "<s>" + texts[1], *texts[2:]]


@pytest.mark.parametrize(
    "options",
    [
        {"bos": "<s>", "frame": "<s> $A", "chat_template": "{{ bos_token }}" + CHAT_TEMPLATE},
        {"bos": "<s>", "chat_template": CHAT_TEMPLATE},
        {"bos": "<s>", "chat_template": "{{ bos_token }}{{ messages[-1]['content'] }}"},
        {"bos": "<s>", "chat_template": "{{ raise_exception('no') }}"},
        {"bos": "<s>"},
        {"chat_template": CHAT_TEMPLATE},
    ],
)
def test_nothing_is_put_where_nothing_is_missing(options):
    tokenizer = tiny_tokenizer(**options)
    texts = ["<user> Tea?", "Tea?", "a"]
    assert restored(texts, tokenizer) == texts
