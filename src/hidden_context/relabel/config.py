"""Configuration of relabelling; every field is also a flag of ``hidden-context relabel``."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any, Final, Literal
from urllib.parse import urlsplit

from hidden_context.config import check_given, check_options, option
from hidden_context.errors import ConfigError

OPENAI: Final = "https://api.openai.com/v1"
DEFAULT_KEY_VARIABLE: Final = "OPENAI_API_KEY"


@dataclasses.dataclass(frozen=True)
class DataOptions:
    """The rows to judge."""

    data_path: str = option("", "local file or folder, or hub id, of preferences", positional=True)
    data_subset: str = option("both", "both, helpful or harmless, or another subset's name")
    split: str = option("train", "split to judge, where the data has several")
    revision: str | None = option(None, "branch, tag or commit on the hub")
    limit: int = option(0, "number of rows; 0 for all", least=0)
    seed: int = option(0, "seed of the draw that --limit makes")
    on_malformed: Literal["error", "skip"] = option(
        "error", "what to do at a malformed row: stop, or skip it and count"
    )


@dataclasses.dataclass(frozen=True)
class EndpointOptions:
    """The endpoint: address, requests and limits."""

    base_url: str | None = option(
        None, "address of the endpoint; OPENAI_BASE_URL, else OpenAI's own, if unset"
    )
    key_variable: str = option(
        DEFAULT_KEY_VARIABLE,
        "environment variable with the API key; the key is never written to a file",
    )
    temperature: float | None = option(
        None, "temperature of the model; 0 for one vote and 1 for several if unset", least=0
    )
    logprobs: bool = option(
        True, "ask for log-probabilities of the answer; false where a server refuses them"
    )
    max_tokens: int = option(16, "maximum number of tokens in a reply", least=1)
    request: dict[str, Any] = option(
        {}, 'additional request fields, such as {"seed": 1}; null removes a field'
    )
    concurrency: int = option(8, "maximum number of questions at the same time", least=1)
    requests_per_minute: float | None = option(None, "maximum requests per minute", least=1)
    tokens_per_minute: float | None = option(
        None, "maximum tokens per minute, in questions and replies", least=1
    )
    timeout: float = option(120.0, "maximum wait for a reply, in seconds", least=0.1)
    retries: int = option(8, "number of retries after a temporary failure", least=0)
    retry_wait: float = option(
        1.0, "seconds before the first retry; doubled for each further one, up to a minute", least=0
    )


@dataclasses.dataclass(frozen=True)
class CostOptions:
    """Prices, and the maximum cost."""

    price_input: float | None = option(
        None, "price of a million input tokens, in any currency", least=0
    )
    price_output: float | None = option(None, "price of a million output tokens", least=0)
    tokenizer: str | None = option(
        None, "tokenizer for the estimate of tokens; 4 characters per token if unset"
    )
    max_cost: float | None = option(
        None, "maximum total cost of this output, earlier runs included", least=0
    )
    yes: bool = option(False, "do not ask for confirmation of the estimated cost")


@dataclasses.dataclass(frozen=True)
class LocalOptions:
    """The local model."""

    device: str = option("auto", "device of a local model: auto, cpu, cuda, cuda:0 …")
    dtype: str = option("auto", "number format of a local model: auto, float32, bfloat16")
    max_length: int | None = option(
        None, "maximum question length of a local model in tokens; its own limit if unset", least=1
    )
    trust_remote_code: bool = option(False, "allow code from a local model's folder to run")


@dataclasses.dataclass(frozen=True)
class RelabelConfig(LocalOptions, CostOptions, EndpointOptions, DataOptions):
    """Options of ``relabel.run``."""

    output: str = option("", "JSON Lines file to write (.jsonl or .jsonl.gz)")
    model: str = option("", "name of the model at the endpoint, or folder of a local one")
    backend: Literal["endpoint", "local"] = option(
        "endpoint", "ask an OpenAI-compatible endpoint, or a local Transformers model"
    )
    name: str | None = option(None, "name of the model in the output; --model's if unset")
    objectives: list[str] = option(
        [], "objectives to judge: helpful, harmless, overall, or names from --objectives_file"
    )
    objectives_file: str | None = option(
        None, 'YAML or JSON list of objectives, each {"name": …, "instruction": …}'
    )
    orders: Literal["both", "first"] = option(
        "both", "show each pair in both orders, or only the first response first"
    )
    votes: int = option(1, "votes for each pair, objective and order", least=1)
    cache: str | None = option(None, "SQLite file of the answers; OUTPUT.cache.sqlite if unset")
    disable_tqdm: bool = option(False, "no progress bars")

    def __post_init__(self) -> None:
        check_options(self)
        needed = {
            "data": self.data_path,
            "--output": self.output,
            "--model": self.model,
            "--objectives": self.objectives,
        }
        example = "relabel DATA --output out.jsonl --model NAME --objectives helpful harmless"
        check_given(needed, example)
        local = self.backend == "local"
        if local and (self.votes > 1 or self.temperature is not None):
            raise ConfigError(
                "--votes and --temperature are for endpoints: a local model's probability of its "
                "answer is read off, not sampled."
            )
        if self.votes > 1 and self.temperature == 0:
            raise ConfigError(
                f"{self.votes} votes at temperature 0 are one vote; raise --temperature, or leave "
                "--votes out."
            )
        if (self.price_input is None) != (self.price_output is None):
            raise ConfigError("--price_input and --price_output are needed together.")
        if self.max_cost is not None and self.price_input is None:
            raise ConfigError(
                "--max_cost needs --price_input and --price_output, the prices of a million tokens."
            )
        if not local:
            check_url(self.url)
        for name in ("model", "messages", "stream", "n"):
            if name in self.request:
                raise ConfigError(f"--request sets {name!r}, which relabel sets itself.")

    @property
    def url(self) -> str:
        """Address of the endpoint."""
        return self.base_url or os.environ.get("OPENAI_BASE_URL") or OPENAI

    @property
    def used_temperature(self) -> float:
        """The temperature that is asked for."""
        if self.temperature is not None:
            return self.temperature
        return 0.0 if self.votes == 1 else 1.0

    @property
    def model_name(self) -> str:
        """Name of the model in the output."""
        local = Path(self.model).name or Path(self.model).resolve().name
        return self.name or (local if self.backend == "local" else self.model)

    @property
    def output_path(self) -> Path:
        """The file that is written."""
        return Path(self.output)

    @property
    def cache_path(self) -> Path:
        """The file that keeps the answers."""
        output = self.output_path
        return Path(self.cache) if self.cache else output.with_name(output.name + ".cache.sqlite")


def host_of(url: str) -> str:
    """Return host and port of an address.

    >>> host_of("http://127.0.0.1:8000/v1")
    '127.0.0.1:8000'
    """
    return urlsplit(url).netloc.rpartition("@")[2].lower()


def check_url(url: str) -> None:
    """Check that a URL is an address without a password or a key.

    Raises:
        ConfigError: Without the address itself where it may hold a secret.
    """
    parts = urlsplit(url)
    if "@" in parts.netloc or parts.query:
        raise ConfigError(
            "--base_url holds a user name, a password or a query; keys come from the environment "
            "alone (--key_variable)."
        )
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigError(f"--base_url {url!r} is not an address such as http://127.0.0.1:8000/v1.")
