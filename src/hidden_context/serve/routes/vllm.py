"""``/classify``: vLLM's contract, which verl posts to in its vLLM mode, or SGLang's contract."""

from __future__ import annotations

import time
import uuid
from typing import Annotated, Any

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag
from starlette.responses import Response

from hidden_context.scoring.prepare import Asked
from hidden_context.serve.routes import sglang
from hidden_context.serve.schema import (
    Input,
    Object,
    Usage,
    answer,
    invalid_request,
    one_of,
    read_input,
    restored,
    usage,
)
from hidden_context.serve.service import Service, ServiceNow

router = APIRouter()


class ClassifyRequest(BaseModel):
    """Texts, token ids or one chat; texts get special tokens unless the request declines."""

    model_config = ConfigDict(json_schema_extra=one_of("input", "messages"))

    model: str | None = None
    input: Input | None = None
    messages: list[Object] | None = None
    add_special_tokens: bool = True
    use_activation: bool | None = Field(None, description="only false: rewards have no activation")


class ClassifyItem(BaseModel):
    """The reward of a text, in place of the probability of its only class."""

    index: int
    label: str | None = "LABEL_0"
    probs: list[float]
    num_classes: int = 1


class ClassifyReply(BaseModel):
    """vLLM's reply."""

    id: str
    object: str = "list"
    created: int
    model: str
    data: list[ClassifyItem]
    usage: Usage


async def _classify(body: ClassifyRequest, request: Request, service: Service) -> Response:
    """Return the risk measure of each text as ``probs``."""
    if body.use_activation:
        problem = "rewards go through no activation; leave use_activation out, or send false"
        raise invalid_request(problem)
    if (body.input is None) == (body.messages is None):
        raise invalid_request("either input or messages is needed")
    model = service.single(body.model)
    asked: list[Asked]
    if body.messages is not None:
        asked = [body.messages]
    else:
        asked, _ = read_input(body.input or [], marked=not body.add_special_tokens)
        if body.add_special_tokens:
            asked = await service.compute(lambda: restored(asked, model[0].scorer.model.tokenizer))
    found = await service.ask(request, model, asked)
    values = await service.values(found)
    reply = ClassifyReply(
        id=f"classify-{uuid.uuid4().hex}",
        created=int(time.time()),
        model=found.served.name,
        data=[ClassifyItem(index=place, probs=[value]) for place, value in enumerate(values)],
        usage=usage(found.tokens),
    )
    return answer(reply)


def _contract(body: Any) -> str:
    """Name the contract: SGLang's bodies have ``text`` or ``input_ids``, vLLM's bodies do not."""
    fields = body if isinstance(body, dict) else {}
    return "sglang" if "text" in fields or "input_ids" in fields else "vllm"


Body = Annotated[
    Annotated[ClassifyRequest, Tag("vllm")] | Annotated[sglang.NativeRequest, Tag("sglang")],
    Discriminator(_contract),
]
Reply = ClassifyReply | sglang.NativeItem | list[sglang.NativeItem]


@router.post("/classify", response_model=Reply)
async def classify(body: Body, request: Request, service: ServiceNow) -> Response:
    """Return rewards in the form of vLLM or SGLang, depending on the fields of the body."""
    answered = sglang.classify if isinstance(body, sglang.NativeRequest) else _classify
    return await answered(body, request, service)  # type: ignore[arg-type] # its own body
