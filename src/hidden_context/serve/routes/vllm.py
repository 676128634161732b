"""vLLM's classification contract, which verl posts to in its vLLM mode."""

from __future__ import annotations

import time
import uuid

from fastapi import Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from hidden_context.scoring.prepare import Asked
from hidden_context.serve.errors import RequestError, answer
from hidden_context.serve.leading import restored
from hidden_context.serve.schema import Input, Lenient, Object, Usage, one_of, read_input, usage
from hidden_context.serve.service import Service


class ClassifyRequest(Lenient):
    """Texts, token ids or one chat; special tokens are added to texts unless that is declined."""

    model_config = ConfigDict(json_schema_extra=one_of("input", "messages"))

    model: str | None = None
    input: Input | None = None
    messages: list[Object] | None = None
    add_special_tokens: bool = True
    use_activation: bool | None = Field(None, description="rewards go through none")


class ClassifyItem(BaseModel):
    """The reward of a text, in the place of the probability of its one class."""

    index: int
    label: str | None
    probs: list[float]
    num_classes: int


class ClassifyReply(BaseModel):
    """vLLM's reply."""

    id: str
    object: str
    created: int
    model: str
    data: list[ClassifyItem]
    usage: Usage


async def classify(body: ClassifyRequest, request: Request, service: Service) -> Response:
    """Answer the risk measure of each text as ``probs``."""
    if body.use_activation:
        message = "rewards go through no activation; leave use_activation out, or send false"
        raise RequestError(422, "invalid_request", message)
    if (body.input is None) == (body.messages is None):
        message = "either input or messages is needed"
        raise RequestError(422, "invalid_request", message)
    model = service.single(body.model)
    asked: list[Asked]
    if body.messages is not None:
        asked = [body.messages]
    else:
        asked, _ = read_input(body.input or [], marked=not body.add_special_tokens)
        if body.add_special_tokens:
            tokenizer = model[0].scorer.model.tokenizer
            asked = await service.compute(lambda: restored(asked, tokenizer))
    found = await service.ask(request, model, asked)
    values = await service.values(found)
    return answer(
        {
            "id": f"classify-{uuid.uuid4().hex}",
            "object": "list",
            "created": int(time.time()),
            "model": found.served.name,
            "data": [
                {"index": place, "label": "LABEL_0", "probs": [value], "num_classes": 1}
                for place, value in enumerate(values)
            ],
            "usage": usage(found.tokens),
        }
    )
