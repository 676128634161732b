"""Token ids of texts and chat messages, with each special token exactly once."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import TemplateSyntaxError

from hidden_context.data.checks import read_messages
from hidden_context.data.dialogue import Message
from hidden_context.data.example import Text, Tools, as_input
from hidden_context.errors import ConfigError, DataError, MissingFileError

_TRIAL_TEXTS = ("a", "the", "0", ".")
_TRIAL = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]


class SpecialTokens(NamedTuple):
    """The ids that a tokenizer adds around every text.

    Attributes:
        front: Such as BOS or [CLS]; empty where it adds none.
        back: Such as EOS or [SEP]; empty where it adds none.
    """

    front: list[int]
    back: list[int]


def _ids(tokenizer: Any, texts: list[str], add_special_tokens: bool) -> list[list[int]]:
    encoded = tokenizer(
        texts,
        add_special_tokens=add_special_tokens,
        return_attention_mask=False,
        return_token_type_ids=False,
        verbose=False,  # lengths are checked, and counted, by the caller
    )
    return list(encoded["input_ids"])


def special_tokens(tokenizer: Any) -> SpecialTokens:
    """Find out which ids a tokenizer adds at the front and at the back of a text.

    Args:
        tokenizer: A Transformers tokenizer.

    Returns:
        The ids, as found by tokenizing a trial text with and without them.
    """
    for trial in _TRIAL_TEXTS:
        (framed,), (bare,) = _ids(tokenizer, [trial], True), _ids(tokenizer, [trial], False)
        for start in range(len(framed) - len(bare) + 1):
            if bare and framed[start : start + len(bare)] == bare:
                return SpecialTokens(framed[:start], framed[start + len(bare) :])
    # The vocabulary knows none of the trial texts: use the names of the special tokens.
    opening = {getattr(tokenizer, "bos_token_id", None), getattr(tokenizer, "cls_token_id", None)}
    front = framed[:1] if framed and framed[0] in opening else []
    return SpecialTokens(front, framed[len(front) :])


def read_chat_template(chat_template: str) -> str:
    """Return a chat template from its text or from the path of a template file.

    Raises:
        MissingFileError: If it is neither a template nor an existing file.
        ConfigError: If the file is not text.
    """
    if "{{" in chat_template or "{%" in chat_template:
        return chat_template
    path = Path(chat_template).expanduser()
    if not path.is_file():
        raise MissingFileError(
            chat_template, "--chat_template takes a Jinja template or the path of a file with one"
        )
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"The chat template {path} cannot be read: {error}.") from error


def install_chat_template(tokenizer: Any, chat_template: str | None) -> None:
    """Set a tokenizer's chat template, so that checkpoints save and load it.

    Args:
        tokenizer: A Transformers tokenizer; changed in place.
        chat_template: A template, the path of a file with one, or None to leave it as it is.

    Raises:
        MissingFileError: If it is neither a template nor an existing file.
        ConfigError: If it does not render a user and an assistant turn.
    """
    if chat_template is None:
        return
    template = read_chat_template(chat_template)
    try:
        tokenizer.apply_chat_template(_TRIAL, chat_template=template, tokenize=False)
    except Exception as error:  # Jinja's errors, and whatever a template raises
        raise ConfigError(f"The chat template does not work: {error}.") from error
    tokenizer.chat_template = template


def render(
    messages: Sequence[Message],
    tokenizer: Any,
    chat_template: str | None = None,
    tools: Tools | None = None,
) -> str:
    """Write chat messages as the text that the model reads.

    Args:
        messages: Dictionaries with ``role`` and ``content``, or ``tool_calls``; keys that are
            null are left out, and text parts joined.
        tokenizer: A Transformers tokenizer.
        chat_template: A template in place of the tokenizer's own.
        tools: The tools that the template is told of.

    Returns:
        The text, with the special tokens the template writes.

    Raises:
        ConfigError: If there is no template, or it does not work.
        DataError: If the template refuses the messages, or leaves out tool calls that are the
            whole answer.
    """
    if chat_template is None and not getattr(tokenizer, "chat_template", None):
        raise ConfigError(
            "The data holds chat messages, but the tokenizer "
            f"{getattr(tokenizer, 'name_or_path', '')!r} has no chat template. Give one with "
            "--chat_template (a Jinja template, or the path of a file with one), or use a model "
            "whose tokenizer has one."
        )
    messages = read_messages(messages)
    text = _apply_template(messages, tokenizer, chat_template, tools)
    last = messages[-1] if messages else {}
    if last.get("tool_calls") and not last.get("content"):
        without = {key: value for key, value in last.items() if key != "tool_calls"}
        try:
            unseen = text == _apply_template(
                [*messages[:-1], without], tokenizer, chat_template, tools
            )
        except DataError:  # the template needs the calls
            unseen = False
        if unseen:
            raise DataError(
                "the chat template leaves out tool calls, which are the whole answer",
                remedy="Give a template that writes tool calls with --chat_template",
            )
    return text


def _apply_template(
    messages: list[Message], tokenizer: Any, chat_template: str | None, tools: Tools | None
) -> str:
    try:
        text = tokenizer.apply_chat_template(
            messages, chat_template=chat_template, tools=tools, tokenize=False
        )
    except (ImportError, TemplateSyntaxError) as error:
        raise ConfigError(f"The chat template does not work: {error}.") from error
    except Exception as error:  # Jinja's other errors, and whatever a template raises
        roles = ", ".join(str(message.get("role")) for message in messages)
        raise DataError(
            f"the chat template refuses messages with the roles {roles or 'none'}: {error}",
            remedy="Correct the messages, or give another template with --chat_template",
        ) from error
    return str(text)


def frame(ids: list[int], special: SpecialTokens) -> list[int]:
    """Add the tokenizer's special ids to a rendered chat, unless the template wrote them."""
    front, back = special
    if front and ids[: len(front)] != front:
        ids = front + ids
    if back and ids[-len(back) :] != back:
        ids = ids + back
    return ids


def _single_front(ids: list[int], special: SpecialTokens) -> list[int]:
    """Drop the second BOS of a text that has one written out."""
    front = special.front
    if front and ids[len(front) : 2 * len(front)] == front:
        return ids[len(front) :]
    return ids


def encode_batch(
    texts: Sequence[Text],
    tokenizer: Any,
    chat_template: str | None = None,
    special: SpecialTokens | None = None,
) -> list[list[int]]:
    """Turn texts and chats into token ids; see ``encode``.

    Args:
        texts: Texts or lists of messages, with tools or without, in any mixture.
        tokenizer: A Transformers tokenizer.
        chat_template: A template in place of the tokenizer's own.
        special: ``special_tokens(tokenizer)``, where the caller has it already.

    Returns:
        The ids of each, in order, neither padded nor truncated.
    """
    if not texts:
        return []
    special = special or special_tokens(tokenizer)
    inputs = [as_input(text) for text in texts]
    plain = [each.conversation for each in inputs if isinstance(each.conversation, str)]
    chats = [
        render(each.conversation, tokenizer, chat_template, each.tools)
        for each in inputs
        if not isinstance(each.conversation, str)
    ]
    plain_ids = iter(_ids(tokenizer, plain, True) if plain else [])
    chat_ids = iter(_ids(tokenizer, chats, False) if chats else [])
    return [
        _single_front(next(plain_ids), special)
        if isinstance(each.conversation, str)
        else frame(next(chat_ids), special)
        for each in inputs
    ]


def encode(text: Text, tokenizer: Any, chat_template: str | None = None) -> list[int]:
    """Turn a text or chat messages into token ids.

    A text is tokenized as usual, with the special tokens of the tokenizer. Messages are rendered by
    the chat template and then tokenized. Special tokens that the tokenizer adds to every text (BOS,
    [CLS], EOS …) occur exactly once, whether or not the template writes them. If the tokenizer adds
    no special tokens, only the special tokens of the template occur.

    Args:
        text: A text or chat messages, with tools or without.
        tokenizer: A Transformers tokenizer.
        chat_template: A template in place of the tokenizer's own.

    Returns:
        The ids, neither padded nor truncated.

    Raises:
        ConfigError: If there are messages but no template.
        DataError: If the template refuses the messages.
    """
    return encode_batch([text], tokenizer, chat_template)[0]
