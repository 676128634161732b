"""Parts that requests and replies share, and how the texts of a request are read."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Annotated, Any, Final, TypeAlias
from weakref import WeakKeyDictionary

from pydantic import AfterValidator, BaseModel, ConfigDict, StrictInt

from hidden_context.data.tokens.chat import special_tokens
from hidden_context.scoring.prepare import Asked, MarkedText, TokenIds


class Lenient(BaseModel):
    """A body of another project's contract: fields that change no reward are accepted."""

    model_config = ConfigDict(extra="ignore")


def one_of(*fields: str) -> dict[str, Any]:
    """Declare in the OpenAPI page that one of several fields is needed."""
    return {"anyOf": [{"required": [field]} for field in fields]}


class Error(BaseModel):
    """What is wrong with a request."""

    message: str
    type: str
    item: int | None = None


class ErrorBody(BaseModel):
    """The form of every error."""

    error: Error


class Usage(BaseModel):
    """Tokens of a request."""

    prompt_tokens: int
    total_tokens: int
    completion_tokens: int = 0
    prompt_tokens_details: None = None


def _whole(value: Any) -> Any:
    """Refuse half characters anywhere: tokenizers cannot hold them."""
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except (UnicodeEncodeError, RecursionError):
        raise ValueError("text holds half a character, or is nested too deeply") from None
    return value


Object: TypeAlias = Annotated[dict[str, Any], AfterValidator(_whole)]
Conversation: TypeAlias = str | list[Object]
Ids: TypeAlias = list[StrictInt]
Input: TypeAlias = str | list[str] | Ids | list[Ids]
"""One or several texts, or token ids of one or several."""


def read_input(given: Input, marked: bool = False) -> tuple[list[Asked], bool]:
    """Read one or several texts or sequences of token ids.

    Args:
        given: What a request holds.
        marked: Whether texts carry their special tokens already.

    Returns:
        The texts, and whether there was one that stood by itself.
    """
    if isinstance(given, str):
        return [MarkedText(given) if marked else given], True
    ids = tuple(one for one in given if isinstance(one, int))
    if ids:  # a list holds either tokens or texts
        return [TokenIds(ids)], True
    return [_one(item, marked) for item in given], False


def _one(item: Any, marked: bool) -> Asked:
    if isinstance(item, str):
        return MarkedText(item) if marked else item
    return TokenIds(tuple(item))


def usage(tokens: Sequence[int]) -> Usage:
    """Count tokens in the words of OpenAI's interface."""
    return Usage(prompt_tokens=sum(tokens), total_tokens=sum(tokens))


_MARK: Final = "0e5f7c3a"
_openings: WeakKeyDictionary[Any, tuple[str, tuple[str, ...]]] = WeakKeyDictionary()


def restored(asked: Sequence[Asked], tokenizer: Any) -> list[Asked]:
    """Put a chat template's BOS back before texts that begin as its chats do after it.

    verl renders a chat, cuts off the BOS, and relies on the server's tokenizer to add one. Some
    tokenizers add none, although their template begins with it.

    Args:
        asked: The texts of a request.
        tokenizer: The model's tokenizer.

    Returns:
        The same texts, with the BOS where it was cut off.
    """
    if tokenizer not in _openings:
        _openings[tokenizer] = _find_opening(tokenizer)
    bos, openings = _openings[tokenizer]
    if not openings:
        return list(asked)
    return [
        bos + one if isinstance(one, str) and one.startswith(openings) else one for one in asked
    ]


def _find_opening(tokenizer: Any) -> tuple[str, tuple[str, ...]]:
    """Return the BOS, and how chats begin after it; nothing where the tokenizer adds the BOS."""
    bos = getattr(tokenizer, "bos_token", None)
    if not bos or not getattr(tokenizer, "chat_template", None) or special_tokens(tokenizer).front:
        return "", ()
    openings = set()
    for role, then in (("system", "user"), ("user", "assistant")):
        chat = [{"role": role, "content": _MARK}, {"role": then, "content": "a"}]
        try:
            text = str(tokenizer.apply_chat_template(chat, tokenize=False))
        except Exception:  # Jinja's errors, and whatever a template raises
            continue
        before, found, _ = text.partition(_MARK)
        if found and before.startswith(bos):
            openings.add(before[len(bos) :])
    return bos, tuple(sorted(opening for opening in openings if opening.strip()))
