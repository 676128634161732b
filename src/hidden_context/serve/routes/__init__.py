"""The contracts that are served, one file each; a new contract is a file and a line here."""

from __future__ import annotations

from typing import Final

from hidden_context.serve.routes import (
    distribution,
    embeddings,
    llama_factory,
    openrlhf,
    sglang,
    status,
    vllm,
)

ROUTERS: Final = (
    distribution.router,
    openrlhf.router,
    vllm.router,
    embeddings.router,
    sglang.router,
    llama_factory.router,
    status.router,
)
