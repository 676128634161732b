"""Parts that requests, replies and errors share, and how the texts of a request are read.

A body of another project's contract may hold other fields, which change no reward.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final, TypeAlias
from weakref import WeakKeyDictionary

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import AfterValidator, BaseModel, StrictInt
from starlette.exceptions import HTTPException
from starlette.responses import Response

from hidden_context.data.tokens.chat import special_tokens
from hidden_context.scoring.prepare import Asked, MarkedText, TokenIds


def one_of(*fields: str) -> dict[str, Any]:
    """Declare in the OpenAPI page that one of several fields is needed."""
    return {"anyOf": [{"required": [field]} for field in fields]}


class Error(BaseModel):
    """The error in a request."""

    message: str
    type: str
    item: int | None = None


class ErrorBody(BaseModel):
    """The form of every error."""

    error: Error


_TEXTS: Final = ("responses", "query", "input", "text", "input_ids", "items")
_BETWEEN: Final = ("body", "str", "vllm", "sglang")


@dataclass(eq=False, repr=False)
class RequestError(Exception):
    """A request that is refused.

    Args:
        status: The HTTP status.
        kind: A word for programs, such as ``not_scored``.
        message: What is wrong, for people.
        item: Place of the text that is wrong, or None.
        retry_after: Seconds after which another attempt makes sense.
    """

    status: int
    kind: str
    message: str
    item: int | None = None
    retry_after: int | None = None

    def __post_init__(self) -> None:
        self.args = (self.kind,)  # the message may quote the request, and is not for logs


def invalid_request(message: str, item: int | None = None) -> RequestError:
    """Make the error for an invalid request, with status 422."""
    return RequestError(422, "invalid_request", message, item)


def answer(content: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """Make a JSON response; a number that is not finite is a mistake of this package."""
    content = content.model_dump() if isinstance(content, BaseModel) else content
    text = json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return Response(text.encode(), status, headers, "application/json")


def answer_error(error: RequestError) -> Response:
    """Make the response to a refused request."""
    headers = {} if error.retry_after is None else {"Retry-After": str(error.retry_after)}
    if error.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    message = error.message.encode("utf-8", "replace").decode()  # no unpaired surrogates
    body = {"message": message, "type": error.kind, "item": error.item}
    return answer({"error": body}, error.status, headers)


def install(app: FastAPI) -> None:
    """Make an application answer every error in the form of ``ErrorBody``."""

    async def refused(request: Request, error: Exception) -> Response:
        if isinstance(error, RequestValidationError):
            error = _malformed(error)
        if isinstance(error, RequestError):
            return answer_error(error)
        assert isinstance(error, HTTPException)
        response = answer_error(RequestError(error.status_code, "http", str(error.detail)))
        response.headers.update(error.headers or {})
        return response

    for kind in (RequestError, HTTPException, RequestValidationError):
        app.add_exception_handler(kind, refused)


def _malformed(error: RequestValidationError) -> RequestError:
    """Name the field of an error, without quoting its content."""
    # a field may have several types: the deepest error is about the type that was meant
    first = max(error.errors(), key=lambda one: len(one["loc"]))
    # pydantic puts the names of types and contracts between fields and places
    named = (part for part in first["loc"] if part not in _BETWEEN)
    place = [part for part in named if isinstance(part, int) or "[" not in part]
    if first["type"] == "json_invalid":
        message = "the body is not valid JSON"
    else:
        message = f"{'.'.join(map(str, place)) or 'the body'}: {first['msg']}"
    texts = len(place) > 1 and place[0] in _TEXTS and isinstance(place[1], int)
    return invalid_request(message, place[1] if texts else None)


class Usage(BaseModel):
    """Tokens of a request."""

    prompt_tokens: int
    total_tokens: int
    completion_tokens: int = 0
    prompt_tokens_details: None = None


def _whole(value: Any) -> Any:
    """Refuse unpaired surrogates anywhere, because tokenizers cannot hold them."""
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except (UnicodeEncodeError, RecursionError):
        problem = "text holds a lone surrogate (half a character), or is nested too deeply"
        raise ValueError(problem) from None
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
    # a list holds either tokens or texts
    alone = isinstance(given, str) or any(isinstance(one, int) for one in given)
    items: list[Any] = [given] if alone else list(given)
    text = MarkedText if marked else str
    return [text(one) if isinstance(one, str) else TokenIds(tuple(one)) for one in items], alone


def usage(tokens: Sequence[int]) -> Usage:
    """Count tokens in the form of OpenAI's interface."""
    return Usage(prompt_tokens=sum(tokens), total_tokens=sum(tokens))


_MARK: Final = "0e5f7c3a"
_openings: WeakKeyDictionary[Any, tuple[str, tuple[str, ...]]] = WeakKeyDictionary()


def restored(asked: Sequence[Asked], tokenizer: Any) -> list[Asked]:
    """Put a chat template's BOS back before texts that begin like its chats without the BOS.

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
