"""The contracts that are served, one file each; a new contract is a file and a line here."""

from __future__ import annotations

from typing import Final

from hidden_context.serve.routes import distribution, llama_factory, openrlhf, sglang, status, vllm

ROUTERS: Final = tuple(
    contract.router for contract in (distribution, openrlhf, vllm, sglang, llama_factory, status)
)
