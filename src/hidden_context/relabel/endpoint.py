"""An OpenAI-compatible endpoint as the judge: requests, retries, and errors that end a run."""

from __future__ import annotations

import asyncio
import json
import os
import random
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from hidden_context.errors import ConfigError, HiddenContextError, MissingDependencyError
from hidden_context.relabel.config import DEFAULT_KEY_VARIABLE, OPENAI, RelabelConfig, host_of
from hidden_context.relabel.pacing import Pace, backoff, retry_after, wait
from hidden_context.relabel.questions import Question
from hidden_context.relabel.replies import MalformedReplyError, Reply, read_body, refused_by_rule

if TYPE_CHECKING:
    from openai import APIStatusError, AsyncOpenAI

TOP_LOGPROBS: Final = 5
LONGEST_WAIT: Final = 600.0
"""Most seconds that a server may ask to wait; a longer wait ends the run."""
_PASSING: Final = {408, 409, 425, 429}
_NO_KEY: Final = "none"
_REMEDIES: Final = {
    401: "Set the environment variable of --key_variable to a key that is valid there",
    403: "Ask whoever gave the key whether it may use this model",
    404: "Check --model and --base_url, which usually ends in /v1",
}
_OTHER_REMEDY: Final = (
    "Some servers refuse a field of the request: --logprobs false, or "
    "--request '{\"max_tokens\": null}', leaves one out"
)


class EndpointError(HiddenContextError, ConnectionError):
    """An endpoint refused a request, or gave no answer after all attempts."""


def read_key(config: RelabelConfig) -> str | None:
    """Read the API key from the environment.

    Returns:
        The key; None where the variable is not set and the endpoint is not OpenAI's own.

    Raises:
        ConfigError: If there is no key where one is needed, or it cannot be one; without the key.
    """
    name = config.key_variable
    key = os.environ.get(name, "").strip()
    if key and not (key.isascii() and key.isprintable()):
        raise ConfigError(f"the environment variable {name} holds text that is not an API key.")
    needed = name != DEFAULT_KEY_VARIABLE or host_of(config.url) == host_of(OPENAI)
    if not key and needed:
        raise ConfigError(
            f"the environment variable {name} holds no API key for {host_of(config.url)}; set it, "
            "or name another variable with --key_variable."
        )
    return key or None


class Endpoint:
    """Asks an endpoint, within the context of its ``client``.

    Args:
        config: The address, the limits and the timeouts.

    Raises:
        MissingDependencyError: If the package openai is not installed.
        ConfigError: If there is no API key where one is needed.
    """

    def __init__(self, config: RelabelConfig) -> None:
        try:
            import openai
        except ImportError as error:
            raise MissingDependencyError(
                "an endpoint is asked through the package openai, which is not installed. Install "
                "it with pip install 'hidden-context[relabel]'."
            ) from error
        self._openai, self._config = openai, config
        self._key = read_key(config)
        self._random = random.Random()
        self.host = host_of(config.url)
        self._pace = Pace(config.requests_per_minute, config.tokens_per_minute, time.monotonic)
        self.client: AsyncOpenAI = openai.AsyncOpenAI(
            api_key=self._key or _NO_KEY,
            base_url=config.url,
            max_retries=0,  # tried again here, where limits and the end of a run are known
            timeout=config.timeout,
        )

    @property
    def asked(self) -> dict[str, Any]:
        """What an answer depends on besides the question's words."""
        config = self._config
        return {
            "model": config.model,
            "host": self.host,
            "temperature": config.used_temperature,
            "max_tokens": config.max_tokens,
            "logprobs": config.logprobs,
            "request": config.request,
        }

    def redact(self, text: str) -> str:
        """Take the API key out of a text."""
        return text.replace(self._key, "[key]") if self._key else text

    async def ask(self, question: Question, tokens: int, stop: asyncio.Event) -> Reply:
        """Ask one question; retry after failures that may be temporary.

        Args:
            question: The question.
            tokens: The tokens that it is expected to take.
            stop: Set if nothing more may be sent.

        Raises:
            EndpointError: If the endpoint refuses the request, or all attempts failed.
            StoppedError: If the run was stopped before a request was sent.
        """
        text = question.text()
        for attempt in range(self._config.retries + 1):
            await self._wait_for_turn(tokens, stop)
            try:
                return await self._send(text, tokens)
            except self._openai.APIStatusError as error:
                known = refused_by_rule(error.status_code, error.body)
                if known is not None:
                    return known
                self._check_passes(error)
                asked_for = retry_after(error.response.headers)
                reason = f"status {error.status_code}: {self._said(error)}"
            except self._openai.APIConnectionError as error:  # timeouts included
                asked_for, reason = None, f"{error} ({error.__cause__!r:.200})"
            except MalformedReplyError as error:
                asked_for, reason = None, str(error)
            await self._wait_again(attempt, asked_for, reason, stop)
        raise EndpointError(
            f"{self.host} gave no answer in {self._config.retries + 1} attempts "
            f"({self.redact(reason)}). The answers so far are kept; run the same command again."
        )

    async def _wait_for_turn(self, tokens: int, stop: asyncio.Event) -> None:
        await wait(self._pace.delay(tokens + self._config.max_tokens), stop)
        while (pause := self._pace.remaining_pause()) > 0:
            await wait(pause, stop)

    async def _wait_again(
        self, attempt: int, asked_for: float | None, reason: str, stop: asyncio.Event
    ) -> None:
        if attempt == self._config.retries:
            return
        if asked_for is not None and asked_for > LONGEST_WAIT:
            raise EndpointError(
                f"{self.host} asks to wait for {asked_for:.0f} seconds ({self.redact(reason)}). "
                "The answers so far are kept; run the same command again then."
            )
        seconds = backoff(attempt, self._config.retry_wait, self._random)
        if asked_for is not None:
            self._pace.pause(asked_for)  # the limit is everybody's
            seconds = asked_for + self._random.uniform(0, min(seconds, 0.1 * asked_for))
        await wait(seconds, stop)

    async def _send(self, text: str, tokens: int) -> Reply:
        raw = await self.client.chat.completions.with_raw_response.create(**self._body(text))
        reply = read_body(self.redact(raw.content.decode("utf-8", "replace")))
        if reply.input_tokens is not None:
            taken = reply.input_tokens + (reply.output_tokens or 0)
            self._pace.settle(taken - tokens - self._config.max_tokens)
        return reply

    def _body(self, text: str) -> dict[str, Any]:
        config = self._config
        limit = "max_completion_tokens" if self.host == host_of(OPENAI) else "max_tokens"
        fields: dict[str, Any] = {
            limit: config.max_tokens,
            "temperature": config.used_temperature,
        }
        if config.logprobs:
            fields |= {"logprobs": True, "top_logprobs": TOP_LOGPROBS}
        fields = {name: value for name, value in fields.items() if name not in config.request}
        extra = {name: value for name, value in config.request.items() if value is not None}
        messages = [{"role": "user", "content": text}]
        return {"model": config.model, "messages": messages, **fields, "extra_body": extra}

    def _check_passes(self, error: APIStatusError) -> None:
        """Raise the error of a failure that a retry would not fix."""
        spent = error.code == "insufficient_quota"
        if (error.status_code in _PASSING or error.status_code >= 500) and not spent:
            return
        remedy = "The account has no money left" if spent else ""
        remedy = remedy or _REMEDIES.get(error.status_code, _OTHER_REMEDY)
        raise EndpointError(
            f"{self.host} refuses the request with status {error.status_code}: "
            f"{self._said(error)}. {remedy}."
        )

    def _said(self, error: APIStatusError) -> str:
        """Quote the server's message in one line, without the key."""
        body = error.body
        said = body.get("message") if isinstance(body, Mapping) else body
        text = said if isinstance(said, str) else json.dumps(said, default=str)
        return " ".join(self.redact(text).split()).rstrip(".")[:500]
