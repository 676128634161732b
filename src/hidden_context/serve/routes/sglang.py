"""SGLang's contracts: ``/classify``, ``/v1/score``, and ``/v1/embeddings``, which verl posts to."""

from __future__ import annotations

import base64
import struct
import uuid
from typing import Any, Literal

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, StrictInt
from starlette.responses import Response

from hidden_context.serve.schema import (
    Ids,
    Input,
    Usage,
    answer,
    invalid_request,
    one_of,
    read_input,
    restored,
    usage,
)
from hidden_context.serve.service import Found, Service, ServiceNow

router = APIRouter()


class NativeRequest(BaseModel):
    """Texts, to which special tokens are added, or token ids."""

    model_config = ConfigDict(json_schema_extra=one_of("text", "input_ids"))

    text: str | list[str] | None = None
    input_ids: Ids | list[Ids] | None = None
    model: str | None = None


class Meta(BaseModel):
    """SGLang's details of an embedding."""

    id: str
    prompt_tokens: int


class NativeItem(BaseModel):
    """The raw outputs of a text, or its risk measure."""

    embedding: list[float]
    meta_info: Meta


class ScoreRequest(BaseModel):
    """A query and items; each item is put behind the query, or before it."""

    query: str | Ids | None = None
    items: str | list[str] | list[Ids]
    item_first: bool = False
    model: str | None = None
    label_token_ids: list[Any] | None = None
    apply_softmax: bool = False
    score_extraction_token: str | StrictInt | None = None


class ScoreReply(BaseModel):
    """SGLang's reply."""

    object: str = "scoring"
    model: str
    scores: list[list[float]]
    usage: Usage


async def classify(body: NativeRequest, request: Request, service: Service) -> Response:
    """Return raw outputs, or the risk measure, as ``embedding``."""
    if (body.text is None) == (body.input_ids is None):
        raise invalid_request("either text or input_ids is needed")
    given = body.text if body.text is not None else body.input_ids
    asked, alone = read_input(given or [])
    found = await service.ask(request, service.single(body.model), asked)
    identity = uuid.uuid4().hex
    embeddings = zip(await _numbers(found, service), found.tokens, strict=True)
    items = [
        {"embedding": numbers, "meta_info": {"id": f"{identity}-{n}", "prompt_tokens": tokens}}
        for n, (numbers, tokens) in enumerate(embeddings)
    ]
    return answer(items[0] if alone else items)


@router.post("/v1/score", response_model=ScoreReply)
async def score(body: ScoreRequest, request: Request, service: ServiceNow) -> Response:
    """Return raw outputs, or the risk measure, of each item joined to the query."""
    if body.apply_softmax or body.label_token_ids or body.score_extraction_token is not None:
        raise invalid_request(
            "rewards go through no softmax and belong to no tokens; leave out apply_softmax, "
            "label_token_ids and score_extraction_token"
        )
    asked, _ = read_input(_joined(body))
    found = await service.ask(request, service.single(body.model), asked)
    scores = await _numbers(found, service)
    return answer(ScoreReply(model=found.served.name, scores=scores, usage=usage(found.tokens)))


async def _numbers(found: Found, service: Service) -> list[list[float]]:
    if service.config.sglang_outputs == "raw":
        numbers: list[list[float]] = found.raw.tolist()
        return numbers
    return [[value] for value in await service.values(found)]


def _joined(body: ScoreRequest) -> Any:
    """Join the query to each item; both are texts, or both are token ids."""
    items = [body.items] if isinstance(body.items, str) else body.items
    query: Any = body.query
    if query is None:
        return items
    if any(isinstance(item, str) is not isinstance(query, str) for item in items):
        raise invalid_request("query and items must both be texts, or both be token ids")
    return [item + query if body.item_first else query + item for item in items]


class EmbeddingsRequest(BaseModel):
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
    """Return the risk measure of each text, as an embedding of one number."""
    model = service.single(body.model)
    given, _ = read_input(body.input)
    asked = await service.compute(lambda: restored(given, model[0].scorer.model.tokenizer))
    found = await service.ask(request, model, asked)
    values = await service.values(found)
    numbers: list[list[float] | str] = [[value] for value in values]
    if body.encoding_format == "base64":  # of little-endian float32
        numbers = [base64.b64encode(struct.pack("<f", value)).decode() for value in values]
    data = [EmbeddingItem(index=place, embedding=each) for place, each in enumerate(numbers)]
    return answer(EmbeddingsReply(model=found.served.name, data=data, usage=usage(found.tokens)))
