"""The server's records: logs as JSON lines, and counts for Prometheus.

Logs never hold a text, a header or a token.
"""

from __future__ import annotations

import json
import logging
import sys
import traceback
from datetime import datetime, timezone
from typing import Any, Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_LOGGER: Final = logging.getLogger("hidden_context.serve")


class _JsonLines(logging.Formatter):
    """A formatter of one JSON line per record; errors keep type and place, but not the message."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as a line."""
        time = datetime.fromtimestamp(record.created, timezone.utc)
        line: dict[str, Any] = {
            "time": time.isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info and record.exc_info[1] is not None:
            line |= where(record.exc_info[1])
        return json.dumps(line, ensure_ascii=False, default=str)


def where(error: BaseException) -> dict[str, Any]:
    """Return an error's type and the code locations that it passed through."""
    frames = traceback.extract_tb(error.__traceback__)[-8:]
    places = [f"{frame.filename}:{frame.lineno}" for frame in frames]
    return {"error": type(error).__name__, "places": places}


def log(event: str, level: int = logging.INFO, **fields: Any) -> None:
    """Log an event with its fields."""
    _LOGGER.log(level, event, extra={"fields": fields})


def configure(stream: Any = None) -> None:
    """Send the server's and uvicorn's logs to stderr as JSON lines."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(_JsonLines())
    for name in (_LOGGER.name, "uvicorn", "uvicorn.error"):
        logger = logging.getLogger(name)
        logger.handlers[:] = [] if name == "uvicorn.error" else [handler]
        logger.setLevel(logging.INFO)
        logger.propagate = name == "uvicorn.error"


_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_SIZES: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
_TOKENS: Final = (64, 256, 1024, 4096, 16384, 65536)


class Metrics:
    """The counts of one server, in a separate registry.

    Attributes:
        requests: Requests answered, by route and status.
        seconds: Their durations, by route.
        texts: Texts scored, by model.
        queue: Texts that wait or run.
        batch_texts: Texts run together.
        batch_tokens: Their tokens, shared ones counted each time.
        model_seconds: Durations of runs.
        left: Requests whose client left before the answer.
        unusual: Share of a guard's window above the data's 95th percentile, by model and quantity.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        own = {"namespace": "hidden_context", "registry": self.registry}
        self.requests = Counter("requests", "Requests answered", ["route", "status"], **own)
        self.seconds = Histogram(
            "request_seconds", "Seconds of a request", ["route"], buckets=_SECONDS, **own
        )
        self.texts = Counter("texts", "Texts scored", ["model"], **own)
        self.queue = Gauge("queue_texts", "Texts that wait or run", **own)
        self.batch_texts = Histogram("batch_texts", "Texts run together", buckets=_SIZES, **own)
        self.batch_tokens = Histogram("batch_tokens", "Tokens run together", buckets=_TOKENS, **own)
        self.model_seconds = Histogram(
            "model_seconds", "Seconds of a run of the model", buckets=_SECONDS, **own
        )
        self.unusual = Gauge(
            "guard_share",
            "Share of the latest responses above the 95th percentile of the model's data",
            ["model", "quantity"],
            **own,
        )
        self.left = Counter("clients_left", "Requests whose client left", **own)

    def page(self) -> bytes:
        """Write all counts in Prometheus' text format."""
        return bytes(generate_latest(self.registry))
