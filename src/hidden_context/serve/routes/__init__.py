"""The contracts that are served, each in a file of its own; a new one is a file and a line here."""

from __future__ import annotations

from typing import Final

from hidden_context.serve.routes import (
    classify,
    distribution,
    embeddings,
    llama_factory,
    openrlhf,
    sglang,
    status,
)

ROUTERS: Final = (
    distribution.router,
    openrlhf.router,
    classify.router,
    embeddings.router,
    sglang.router,
    llama_factory.router,
    status.router,
)
