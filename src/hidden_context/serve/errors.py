"""Errors of requests, and the one form of their replies."""

from __future__ import annotations

import json
from typing import Any, Final

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.responses import Response

_TEXTS: Final = ("responses", "query", "input", "text", "input_ids", "items")
_BETWEEN: Final = ("body", "str", "vllm", "sglang")


class RequestError(Exception):
    """A request that is refused.

    Args:
        status: The HTTP status.
        kind: A word for programs, such as ``not_scored``.
        message: What is wrong, for people.
        item: Place of the text that is wrong, or None.
        retry_after: Seconds after which another attempt makes sense.
    """

    def __init__(
        self,
        status: int,
        kind: str,
        message: str,
        item: int | None = None,
        retry_after: int | None = None,
    ) -> None:
        super().__init__(kind)  # the message may quote the request, and is not for logs
        self.status, self.kind, self.message = status, kind, message
        self.item, self.retry_after = item, retry_after


def answer(content: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """Make a JSON response; a number that is not finite is a mistake of this package."""
    content = content.model_dump() if isinstance(content, BaseModel) else content
    text = json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return Response(text.encode(), status, headers, "application/json")


def answer_error(error: RequestError) -> Response:
    """Make the response of a refused request."""
    headers = {} if error.retry_after is None else {"Retry-After": str(error.retry_after)}
    if error.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    message = error.message.encode("utf-8", "replace").decode()  # half characters are none
    body = {"message": message, "type": error.kind, "item": error.item}
    return answer({"error": body}, error.status, headers)


def install(app: FastAPI) -> None:
    """Let an application answer every error in this form."""

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
    """Name the field of an error, without quoting what stands there."""
    # of a field that may be of several types, the error that goes deepest is the one meant
    first = max(error.errors(), key=lambda one: len(one["loc"]))
    place = [part for part in first["loc"] if _is_named(part)]
    if first["type"] == "json_invalid":
        message = "the body is no JSON"
    else:
        message = f"{'.'.join(map(str, place)) or 'the body'}: {first['msg']}"
    texts = len(place) > 1 and place[0] in _TEXTS and isinstance(place[1], int)
    return RequestError(422, "invalid_request", message, place[1] if texts else None)


def _is_named(part: str | int) -> bool:
    """Tell a field or a place from the names of types and contracts that pydantic puts between."""
    return isinstance(part, int) or (part not in _BETWEEN and "[" not in part)
