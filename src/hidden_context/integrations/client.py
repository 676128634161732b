"""A client of the reward server: one prompt per request, several requests at once."""

from __future__ import annotations

import asyncio
import os
import random
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final, TypeAlias
from weakref import WeakKeyDictionary

from hidden_context.errors import (
    ConfigError,
    DataError,
    HiddenContextError,
    MissingDependencyError,
    OverOptimisedError,
    first_line,
)
from hidden_context.relabel.pacing import retry_after

TOKEN_VARIABLE: Final = "HIDDEN_CONTEXT_TOKEN"
"""Environment variable of the bearer token that a server asks for."""

_ROUTE: Final = "/v1/distribution"

Answer: TypeAlias = "dict[str, Any] | UnscoredItemError"


class UnscoredItemError(DataError):
    """A response that cannot be scored.

    Args:
        item: Its place among all that was asked.
        reason: Why not.
    """

    def __init__(self, item: int, reason: str) -> None:
        self.item, self.reason = item, reason
        super().__init__(f"item {item} cannot be scored: {reason}")

    def __reduce__(self) -> tuple[type[UnscoredItemError], tuple[int, str]]:
        return type(self), (self.item, self.reason)


class RewardServerError(HiddenContextError, ConnectionError):
    """A reward server gave no answer, or one that cannot be right, after all retries."""

    def __str__(self) -> str:
        return str(self.args[0])


@dataclass(frozen=True)
class ClientOptions:
    """The waits, retries and concurrency of a client.

    Args:
        timeout: Longest wait for one answer, in seconds.
        connect_timeout: Longest wait for a connection, in seconds.
        retries: Further attempts after a failure that may pass: a server error (5xx), an overload
            (503) or a broken connection. A refused request (4xx) is never repeated.
        first_wait: Wait before the second attempt, in seconds; doubled with each attempt.
        longest_wait: Most seconds between two attempts, whatever the server asks for.
        concurrency: Most requests under way.
    """

    timeout: float = 180.0
    connect_timeout: float = 10.0
    retries: int = 6
    first_wait: float = 0.5
    longest_wait: float = 30.0
    concurrency: int = 8

    def __post_init__(self) -> None:
        waits = (self.timeout, self.connect_timeout, self.first_wait, self.longest_wait)
        if self.retries < 0 or self.concurrency < 1 or min(waits) <= 0:
            raise ConfigError(
                f"a client's waits have to be above 0, concurrency at least 1 and retries at "
                f"least 0; got {self}."
            )


class RewardClient:
    """A client for reward distributions, safe to share between threads and event loops.

    Args:
        url: Address of the server, such as ``http://127.0.0.1:8000``.
        options: Waits, retries and concurrency.
        transport: Stands in for the network in tests; a synchronous or asynchronous transport of
            httpx2.

    Raises:
        ConfigError: If the address is none.
        MissingDependencyError: If httpx2 is not installed.
    """

    def __init__(
        self, url: str, options: ClientOptions = ClientOptions(), *, transport: Any = None
    ) -> None:
        try:
            import httpx2
        except ImportError as error:
            raise MissingDependencyError(
                "a reward server is asked through httpx2, which is not installed. "
                "Install it with pip install 'hidden-context[client]'."
            ) from error
        if not is_url(url):
            raise ConfigError(f"{url!r} is not the address of a server; it begins with http://.")
        self.url, self.options = url.rstrip("/").removesuffix(_ROUTE), options
        self._http, self._transport = httpx2, transport
        self._sync: Any = None
        self._async: WeakKeyDictionary[asyncio.AbstractEventLoop, Any] = WeakKeyDictionary()
        self._lock = threading.Lock()

    def ask(self, requests: Sequence[Mapping[str, Any]]) -> list[Answer]:
        """Post bodies of ``/v1/distribution`` and return the answers in the same order.

        Args:
            requests: Each with ``responses`` and the other fields of the route; ``items`` names
                the responses in errors and is not sent.

        Returns:
            The parsed answers; of a request that the server refuses because of one response, an
            error that names the item.

        Raises:
            ConfigError: If the server refuses a request for another reason.
            RewardServerError: If it does not answer in spite of all retries.
        """
        if len(requests) == 1:
            return [self._ask_one(requests[0])]
        with ThreadPoolExecutor(min(self.options.concurrency, max(len(requests), 1))) as pool:
            return list(pool.map(self._ask_one, requests))

    async def ask_async(self, requests: Sequence[Mapping[str, Any]]) -> list[Answer]:
        """Do what ``ask`` does without blocking the event loop."""
        gate = asyncio.Semaphore(self.options.concurrency)

        async def ask_one(request: Mapping[str, Any]) -> Answer:
            async with gate:
                return await self._ask_one_async(request)

        tasks = [asyncio.ensure_future(ask_one(request)) for request in requests]
        try:
            return list(await asyncio.gather(*tasks))
        finally:  # the first error ends the others, and so does cancellation
            for task in tasks:
                task.cancel()

    def close(self) -> None:
        """Close the connections of synchronous requests; others end with their event loop."""
        with self._lock:
            client, self._sync = self._sync, None
        if client is not None:
            client.close()

    def _ask_one(self, request: Mapping[str, Any]) -> Answer:
        body, items = _split(request)
        for attempt in range(self.options.retries + 1):
            try:
                response, problem = self._sync_client().post(_ROUTE, json=body), None
            except self._http.TransportError as error:
                response, problem = None, self._unreachable(error)
            wait = self._wait(response, attempt)
            if wait is None:
                break
            time.sleep(wait)
        return _read(response, problem, items, self.url)

    async def _ask_one_async(self, request: Mapping[str, Any]) -> Answer:
        body, items = _split(request)
        for attempt in range(self.options.retries + 1):
            try:
                response, problem = await self._async_client().post(_ROUTE, json=body), None
            except self._http.TransportError as error:
                response, problem = None, self._unreachable(error)
            wait = self._wait(response, attempt)
            if wait is None:
                break
            await asyncio.sleep(wait)
        return _read(response, problem, items, self.url)

    def _wait(self, response: Any, attempt: int) -> float | None:
        """Return the seconds until the next attempt, or None if there is none."""
        if attempt == self.options.retries or (response is not None and response.status_code < 500):
            return None
        # clients that were refused together should not return together
        wait = self.options.first_wait * 2**attempt * random.uniform(0.5, 1.0)
        asked = None if response is None else retry_after(response.headers)
        return min(max(wait, asked or 0.0), self.options.longest_wait)

    def _unreachable(self, error: Exception) -> str:
        what = first_line(error) if str(error) else type(error).__name__
        return f"no answer came from {self.url} ({what})"

    def _settings(self) -> dict[str, Any]:
        token = os.environ.get(TOKEN_VARIABLE)
        timeout = self._http.Timeout(self.options.timeout, connect=self.options.connect_timeout)
        return {
            "base_url": self.url,
            "headers": {"Authorization": f"Bearer {token}"} if token else {},
            "limits": self._http.Limits(max_connections=self.options.concurrency),
            "timeout": timeout,
            "transport": self._transport,
        }

    def _sync_client(self) -> Any:
        with self._lock:
            if self._sync is None:
                self._sync = self._http.Client(**self._settings())
            return self._sync

    def _async_client(self) -> Any:
        # connections belong to the event loop that opened them
        loop = asyncio.get_running_loop()
        with self._lock:
            if loop not in self._async:
                self._async[loop] = self._http.AsyncClient(**self._settings())
            return self._async[loop]

    def __reduce__(self) -> tuple[Callable[..., RewardClient], tuple[str, ClientOptions]]:
        # trainers send reward functions to other processes, which open their own connections
        return RewardClient, (self.url, self.options)


def is_url(text: object) -> bool:
    """Tell whether a model is given as the address of a server."""
    return isinstance(text, str) and text.startswith(("http://", "https://"))


def _split(request: Mapping[str, Any]) -> tuple[dict[str, Any], Sequence[int]]:
    """Separate the body of a request from the places of its responses."""
    body = {key: value for key, value in request.items() if key != "items"}
    return body, request.get("items") or range(len(body["responses"]))


def _read(response: Any, problem: str | None, items: Sequence[int], url: str) -> Answer:
    """Return the answer in a response, or the error of the item that the server refuses."""
    if response is None:
        raise RewardServerError(
            f"{problem}, for {_names(items)}. Check that the server runs and is not overloaded."
        )
    status = response.status_code
    if status >= 400:
        error = _error_of(response)
        message = str(error.get("message") or f"HTTP {status}").rstrip(".")
        place = error.get("item")
        if status < 500 and type(place) is int and 0 <= place < len(items):
            return UnscoredItemError(items[place], message)
        if error.get("type") == "over_optimised":
            raise OverOptimisedError(f"{url} stopped the training: {message}.")
        if status >= 500:
            raise RewardServerError(f"{url} failed with {status} for {_names(items)}: {message}.")
        if status in (401, 403):
            raise ConfigError(
                f"{url} requires a token ({message}). Put it into the environment variable "
                f"{TOKEN_VARIABLE}."
            )
        raise ConfigError(f"{url} refused {_names(items)} with {status}: {message}.")
    try:
        answer = response.json()
        count = len(answer["mean"])
    except (ValueError, TypeError, KeyError):
        raise RewardServerError(
            f"{url} answered {status}, but the answer holds no rewards. Check that it is the "
            "address of hidden-context serve."
        ) from None
    if count != len(items):
        raise RewardServerError(f"{url} answered {count} rewards for {len(items)} responses.")
    return dict(answer)


def _error_of(response: Any) -> Mapping[str, Any]:
    try:
        error = response.json()["error"]
    except (ValueError, TypeError, KeyError):
        return {}
    return error if isinstance(error, Mapping) else {"message": error}


def _names(items: Sequence[int]) -> str:
    first = ", ".join(map(str, items[:8]))
    return f"item {first}" if len(items) == 1 else f"items {first}{' …' * (len(items) > 8)}"
