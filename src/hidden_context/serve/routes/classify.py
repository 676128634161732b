"""``/classify``: one path of two contracts, told apart by the fields of the body."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Request
from pydantic import Discriminator, Tag
from starlette.responses import Response

from hidden_context.serve.routes import sglang, vllm
from hidden_context.serve.service import ServiceNow

router = APIRouter()


def _contract(body: Any) -> str:
    """SGLang's own bodies have ``text`` or ``input_ids``, vLLM's ``input`` or ``messages``."""
    fields = body if isinstance(body, dict) else {}
    return "sglang" if "text" in fields or "input_ids" in fields else "vllm"


Body = Annotated[
    Annotated[vllm.ClassifyRequest, Tag("vllm")] | Annotated[sglang.NativeRequest, Tag("sglang")],
    Discriminator(_contract),
]
Reply = vllm.ClassifyReply | sglang.NativeItem | list[sglang.NativeItem]


@router.post("/classify", response_model=Reply)
async def classify(body: Body, request: Request, service: ServiceNow) -> Response:
    """Rewards as vLLM or SGLang answer them, by the fields of the body."""
    if isinstance(body, sglang.NativeRequest):
        return await sglang.classify(body, request, service)
    return await vllm.classify(body, request, service)
