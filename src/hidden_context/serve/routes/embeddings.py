"""``/v1/embeddings``: OpenAI's contract as SGLang serves it, which verl posts to."""

from __future__ import annotations

import base64
import struct
from typing import Literal

from fastapi import APIRouter, Request
from pydantic import BaseModel
from starlette.responses import Response

from hidden_context.serve.errors import answer
from hidden_context.serve.schema import Input, Lenient, Usage, read_input, restored, usage
from hidden_context.serve.service import ServiceNow

router = APIRouter()


class EmbeddingsRequest(Lenient):
    """Texts, to which special tokens are added, or token ids."""

    model: str | None = None
    input: Input
    encoding_format: Literal["float", "base64"] = "float"


class EmbeddingItem(BaseModel):
    """The reward of a text, as an embedding of one number."""

    object: str = "embedding"
    index: int
    embedding: list[float] | str


class EmbeddingsReply(BaseModel):
    """OpenAI's reply."""

    object: str = "list"
    model: str
    data: list[EmbeddingItem]
    usage: Usage


@router.post("/v1/embeddings", response_model=EmbeddingsReply)
async def embeddings(body: EmbeddingsRequest, request: Request, service: ServiceNow) -> Response:
    """The risk measure of each text, as an embedding of one number."""
    model = service.single(body.model)
    given, _ = read_input(body.input)
    tokenizer = model[0].scorer.model.tokenizer
    asked = await service.compute(lambda: restored(given, tokenizer))
    found = await service.ask(request, model, asked)
    values = await service.values(found)
    packed = body.encoding_format == "base64"
    data = [
        EmbeddingItem(index=place, embedding=_packed(value) if packed else [value])
        for place, value in enumerate(values)
    ]
    name = found.served.name
    return answer(EmbeddingsReply(model=name, data=data, usage=usage(found.tokens)))


def _packed(value: float) -> str:
    """Write a number as little-endian float32 in base64."""
    return base64.b64encode(struct.pack("<f", value)).decode()
