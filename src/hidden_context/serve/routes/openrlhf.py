"""``/get_reward``: what OpenRLHF's agents post to a remote reward model."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field
from starlette.responses import Response

from hidden_context.scoring.prepare import MarkedText
from hidden_context.scoring.requests import extra_logs
from hidden_context.serve.schema import answer
from hidden_context.serve.service import Found, ModelQuery, Service, ServiceNow, finite

router = APIRouter()


class RewardRequest(BaseModel):
    """Texts with their special tokens, as the trainer decodes them."""

    query: list[str]
    prompts: list[Any] | None = Field(
        None, description="tells a guard which responses answer the same prompt"
    )
    labels: list[Any] | None = Field(None, description="not needed")


class RewardReply(BaseModel):
    """Rewards, and the numbers logged beside them by name."""

    rewards: list[float]
    scores: list[float]
    extra_logs: dict[str, list[float]]


@router.post("/get_reward", response_model=RewardReply)
async def get_reward(
    body: RewardRequest, request: Request, service: ServiceNow, model: ModelQuery = None
) -> Response:
    """Return the rewards of texts that carry their special tokens; none are added."""
    asked = [MarkedText(text) for text in body.query]
    prompts = body.prompts if body.prompts and len(body.prompts) == len(asked) else None
    found = await service.ask(request, service.single(model), asked, prompts)
    return answer(await service.compute(lambda: _content(found, service)))


def _content(found: Found, service: Service) -> dict[str, Any]:
    """Return the risk measure of each text, with σ, other measures and the shares."""
    measures = [measure for measure in service.measures if not measure.is_relative]
    rewards = found.served.scorer.rewards(found.raw)
    values = finite(found.risk(rewards), str(found.risk))
    numbers = extra_logs(rewards, found.distance)
    numbers |= {str(measure): measure(rewards) for measure in measures}
    logs = {name: finite(value, name) for name, value in numbers.items()}
    return {"rewards": values, "scores": values, "extra_logs": logs}
