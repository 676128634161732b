"""LLaMA-Factory's score evaluation, which its PPO trainer posts to (``reward_model_type api``)."""

from __future__ import annotations

import uuid
from typing import Final

from fastapi import APIRouter, Request
from pydantic import BaseModel
from starlette.responses import Response

from hidden_context.scoring.prepare import MarkedText
from hidden_context.serve.schema import RequestError, answer
from hidden_context.serve.service import ModelQuery, ServiceNow

router = APIRouter()

_NO_NAME: Final = "model"  # what the trainer sends, whatever model is meant


class EvaluationRequest(BaseModel):
    """Texts with their special tokens, as the trainer decodes them."""

    model: str | None = None
    messages: list[str]


class EvaluationReply(BaseModel):
    """LLaMA-Factory's reply."""

    id: str
    object: str = "score.evaluation"
    model: str
    scores: list[float]


@router.post("/v1/score/evaluation", response_model=EvaluationReply)
async def evaluate(
    body: EvaluationRequest, request: Request, service: ServiceNow, model: ModelQuery = None
) -> Response:
    """Return the risk measure of texts that carry their special tokens; none are added."""
    name = model if model is not None else body.model
    try:
        wanted = service.single(name)
    except RequestError as error:
        if name != _NO_NAME or error.status != 404:
            raise
        wanted = service.single(None)
    found = await service.ask(request, wanted, [MarkedText(text) for text in body.messages])
    identity, scores = f"scoreval-{uuid.uuid4().hex}", await service.values(found)
    return answer(EvaluationReply(id=identity, model=found.served.name, scores=scores))
