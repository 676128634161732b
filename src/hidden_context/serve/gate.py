"""The gate before all routes: request id, token, limits, draining; then counts and the log."""

from __future__ import annotations

import asyncio
import hmac
import logging
import time
import uuid
from collections.abc import Collection
from typing import Any, Final

from hidden_context.serve.monitoring import log, where
from hidden_context.serve.schema import RequestError, answer_error
from hidden_context.serve.service import Service

OPEN: Final = ("/health", "/ready")
"""Paths that need no token, because probes of a server have none."""

_BODY_SECONDS: Final = 30.0


class Gate:
    """An ASGI middleware around the whole application.

    Args:
        app: The application.
        service: Says whether the server drains and how large a body may be, and counts requests
            under way.
        token: The bearer token, or None.
        paths: Paths of the routes, by which requests are counted.
    """

    def __init__(
        self, app: Any, service: Service, token: str | None, paths: Collection[str]
    ) -> None:
        self.app, self.service, self.paths = app, service, paths
        self.max_body = service.config.max_body
        self._token = None if token is None else token.encode()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Let a request through, or refuse it."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started, identity = time.perf_counter(), uuid.uuid4().hex
        facts: dict[str, Any] = {}
        scope.setdefault("state", {})["facts"] = facts
        status = 0

        async def sending(message: Any) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [
                    *message["headers"],
                    (b"x-request-id", identity.encode()),
                    *([(b"connection", b"close")] if self.service.draining else []),
                ]
            await send(message)

        try:
            await self._pass(scope, receive, sending)
        except RequestError as error:
            await answer_error(error)(scope, receive, sending)
        except Exception as error:
            log("error", logging.ERROR, id=identity, **where(error))
            if status:  # an answer has begun and cannot be taken back
                raise
            failed = RequestError(500, "internal", "the server failed; its log says where")
            await answer_error(failed)(scope, receive, sending)
        finally:
            seconds = time.perf_counter() - started
            route = scope["path"] if scope["path"] in self.paths else "other"
            self.service.metrics.requests.labels(route, str(status)).inc()
            self.service.metrics.seconds.labels(route).observe(seconds)
            request = {"id": identity, "method": scope["method"], "route": route, "status": status}
            log("request", **request, seconds=round(seconds, 6), **facts)

    async def _pass(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] not in OPEN:
            self._check_token(scope)
        if scope["method"] != "POST":
            await self.app(scope, receive, send)
            return
        service = self.service
        service.check_open()
        if service.under_way >= service.batcher.options.max_queue:
            raise service.batcher.overloaded()
        with service.counted():
            body = await self._body(scope, receive)
            read = iter([{"type": "http.request", "body": body, "more_body": False}])

            async def receiving() -> Any:  # first the body, then the client's leaving
                return next(read, None) or await receive()

            await self.app(scope, receiving, send)

    def _check_token(self, scope: Any) -> None:
        if self._token is None:
            return
        given = [value for name, value in scope["headers"] if name == b"authorization"]
        scheme, _, token = (given[0] if len(given) == 1 else b"").partition(b" ")
        if scheme.lower() != b"bearer" or not hmac.compare_digest(token.strip(), self._token):
            raise RequestError(401, "unauthorized", "a bearer token is needed")

    async def _body(self, scope: Any, receive: Any) -> bytes:
        """Read the body whole, unless it is too large or takes too long."""
        too_large = RequestError(413, "too_large", f"the body has more than {self.max_body} bytes")
        for name, value in scope["headers"]:
            if name == b"content-length" and value.isdigit() and int(value) > self.max_body:
                raise too_large
        parts, size, more = [], 0, True
        until = time.monotonic() + _BODY_SECONDS
        while more:
            try:
                part = await asyncio.wait_for(receive(), max(until - time.monotonic(), 0))
            except asyncio.TimeoutError:
                raise RequestError(408, "slow", "the body did not arrive in time") from None
            if part["type"] == "http.disconnect":
                raise RequestError(499, "left", "the client left")
            parts.append(part.get("body", b""))
            size, more = size + len(parts[-1]), part.get("more_body", False)
            if size > self.max_body:
                raise too_large
        return b"".join(parts)
