"""What requests and answers have in common, for checking and for the OpenAPI page."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Annotated, Any, TypeAlias

from pydantic import AfterValidator, BaseModel, ConfigDict, StrictInt

from hidden_context.scoring.prepare import Asked, MarkedText, TokenIds


class Lenient(BaseModel):
    """A body of a contract that others wrote: fields that change no reward are let through."""

    model_config = ConfigDict(extra="ignore")


def one_of(*fields: str) -> dict[str, Any]:
    """Say in the OpenAPI page that one of several fields is needed."""
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


def usage(tokens: Sequence[int]) -> dict[str, Any]:
    """Count tokens in the words of OpenAI's interface."""
    total = sum(tokens)
    return Usage(prompt_tokens=total, total_tokens=total).model_dump()
