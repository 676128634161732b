"""What the server counts, for Prometheus."""

from __future__ import annotations

from typing import Final

from prometheus_client import CONTENT_TYPE_LATEST as CONTENT_TYPE
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

__all__ = ["CONTENT_TYPE", "Metrics"]

_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_SIZES: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
_TOKENS: Final = (64, 256, 1024, 4096, 16384, 65536)


class Metrics:
    """Counts of one server, in a registry of its own.

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
