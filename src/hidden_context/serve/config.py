"""Options of the server; every field is also a flag of ``serve``."""

from __future__ import annotations

import dataclasses
import ipaddress
import os
from typing import Final, Literal

from hidden_context import risk
from hidden_context.config import check_given, check_options, option
from hidden_context.errors import ConfigError
from hidden_context.scoring.config import ModelOptions, names_of_models
from hidden_context.scoring.guard import parse_guard

TOKEN_VARIABLE: Final = "HIDDEN_CONTEXT_TOKEN"
"""Environment variable that holds the bearer token."""


@dataclasses.dataclass(frozen=True)
class ServeConfig(ModelOptions):
    """Options of ``hidden-context serve``."""

    models: list[str] = option([], "checkpoints to serve, one or more", positional=True)
    names: list[str] = option([], "names of the models in requests; their folders' if unset")
    host: str = option("127.0.0.1", "address to listen on; one other than loopback needs a token")
    port: int = option(8000, "port to listen on; 0 takes a free one", least=0)
    risk: str = option("mean", "risk measure of routes that return one number per text")
    measures: list[str] = option(
        ["quantile:0.05", "quantile:0.95"], "risk measures that /get_reward puts into extra_logs"
    )
    sglang_outputs: Literal["raw", "risk"] = option(
        "raw", "what SGLang's /classify and /v1/score answer: all raw outputs, or the risk measure"
    )
    over_length: Literal["error", "truncate"] = option(
        "error", "texts that are too long: an error of that text, or cut on the left"
    )
    guard: str | None = option(
        None,
        "warn in the log (warn), or answer 409 (stop), where responses become more contested than "
        "the models' data; docs/guides/guard.md",
    )
    coalesce_ms: float = option(3.0, "milliseconds a request waits for others to join", least=0)
    coalesce_tokens: int = option(16384, "tokens in the queue that end this wait", least=1)
    max_queue: int = option(1024, "most texts that wait; more are answered 503", least=1)
    max_items: int = option(512, "most texts of a request; more are answered 413", least=1)
    max_body: int = option(4 * 2**20, "most bytes of a request; more are answered 413", least=1)
    timeout: float = option(120.0, "seconds after which a request is answered 503", least=0.001)
    drain_seconds: float = option(60.0, "seconds for accepted requests after SIGTERM", least=0)

    def __post_init__(self) -> None:
        check_options(self)
        check_given({"a model": self.models}, "serve CHECKPOINT")
        names_of_models(self.models, self.names)
        if self.port > 65535:
            raise ConfigError(f"--port is {self.port}; it must be at most 65535.")
        if self.max_items > self.max_queue:
            raise ConfigError(f"--max_items {self.max_items} exceeds --max_queue {self.max_queue}.")
        for name in (self.risk, *self.measures):
            risk.parse(name)
        if self.guard is not None:
            parse_guard(self.guard)

    @property
    def model_names(self) -> list[str]:
        """Name of each model in requests."""
        return names_of_models(self.models, self.names)


def is_loopback(host: str) -> bool:
    """Tell whether only this machine can reach an address.

    >>> is_loopback("127.0.0.1"), is_loopback("0.0.0.0")
    (True, False)
    """
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def read_token(host: str) -> str | None:
    """Return the bearer token from the environment, or None if none is set.

    Args:
        host: The address that is listened on.

    Raises:
        ConfigError: If there is none, and other machines could reach the server.
    """
    token = os.environ.get(TOKEN_VARIABLE) or None
    if token is None and not is_loopback(host):
        raise ConfigError(
            f"--host {host} can be reached from other machines, so a token is needed: put a long "
            f"random one into the environment variable {TOKEN_VARIABLE}, or listen on 127.0.0.1."
        )
    return token
