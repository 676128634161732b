"""``/v1/distribution``: everything the model says about the responses to one prompt."""

from __future__ import annotations

import math
from typing import Literal

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response
from torch import Tensor

from hidden_context.errors import ConfigError
from hidden_context.risk import RiskMeasure, parse
from hidden_context.scoring.config import WORST_GROUP
from hidden_context.scoring.prepare import texts_of
from hidden_context.serve.schema import Conversation, Object, answer, invalid_request
from hidden_context.serve.service import Found, ServiceNow, finite

router = APIRouter()


class DistributionRequest(BaseModel):
    """One prompt and its responses; if the prompt is null, responses are whole texts or chats."""

    model_config = ConfigDict(extra="forbid")

    model: str | None = Field(None, description="a loaded model; the first if null")
    prompt: Conversation | None = None
    responses: list[Conversation]
    tools: list[Object] | None = None
    risk: str | None = Field(None, description="risk measure; the server's if null")
    measures: list[str] = Field([], max_length=64, description="further risk measures")
    annotator: str | int | None = None
    groups: dict[str, list[str | int]] | None = Field(
        None, description="annotators by group; the risk measures are computed for each group"
    )


class RiskValues(BaseModel):
    """A risk measure and its values."""

    name: str
    values: list[float]


class PercentileValues(BaseModel):
    """Shares of the model's reference with smaller values, in [0, 1]; null for one response."""

    sigma: list[float]
    distance: list[float]
    disagreement: float | None


class Distribution(BaseModel):
    """Numbers of n responses, in reward units; ``shares`` are null where nothing varies."""

    object: Literal["distribution"] = "distribution"
    model: str
    head: str
    n: int
    mean: list[float]
    stddev: list[float]
    risk: RiskValues
    measures: dict[str, list[float]]
    preferred: list[list[float]]
    shares: dict[str, list[float | None]]
    groups: dict[str, dict[str, list[float]]]
    percentiles: PercentileValues | None = None


@router.post("/v1/distribution", response_model=Distribution)
async def distribution(
    body: DistributionRequest, request: Request, service: ServiceNow
) -> Response:
    """Return the reward distributions of the responses to one prompt, which is run once."""
    served, risk = service.find(body.model, body.risk)
    try:
        measures = [parse(name) for name in body.measures]
        for measure in measures:
            served.check(measure)
    except ConfigError as error:
        raise invalid_request(str(error)) from None
    relative = next((one for one in (risk, *measures) if one.is_relative), None)
    if relative is not None and len(body.responses) == 1:
        raise invalid_request(f"{relative} compares a prompt's responses, but there is only one")
    if body.groups is not None and WORST_GROUP in body.groups:
        raise invalid_request(
            f"{WORST_GROUP} is reserved for the group with the lowest value; choose another name"
        )
    asked = texts_of(body.prompt, body.responses, body.tools or None)
    prompts = None if body.prompt is None else [body.prompt] * len(asked)
    found = await service.ask(request, (served, risk), asked, prompts)
    return answer(await service.compute(lambda: _content(found, body, measures)))


def _content(found: Found, body: DistributionRequest, measures: list[RiskMeasure]) -> Distribution:
    annotator = None if body.annotator is None else str(body.annotator)
    groups = None
    if body.groups is not None:
        groups = {name: [str(member) for member in own] for name, own in body.groups.items()}
    described = found.served.scorer.describe(
        found.raw, [found.risk, *measures], annotator, groups, found.distance
    )
    values = {name: finite(value, name) for name, value in described.values.items()}
    risk = str(found.risk)
    percentiles = None
    if described.percentiles is not None:
        percentiles = PercentileValues(**vars(described.percentiles))
        if math.isnan(described.percentiles.disagreement):  # a single response
            percentiles.disagreement = None
    return Distribution(
        model=found.served.name,
        head=found.served.scorer.model.head.type,
        n=len(described.mean),
        mean=finite(described.mean, "mean"),
        stddev=finite(described.stddev, "stddev"),
        risk=RiskValues(name=risk, values=values[risk]),
        measures={str(measure): values[str(measure)] for measure in measures},
        preferred=finite(described.preferred, "P(i beats j)"),
        shares={name: _or_null(part) for name, part in described.shares.items()},
        groups={
            group: {name: finite(own[group], name) for name, own in described.groups.items()}
            for group in described.groups.get(risk, {})
        },
        percentiles=percentiles,
    )


def _or_null(share: Tensor) -> list[float | None]:
    """Return shares, or null where there is no variance."""
    return [value if math.isfinite(value) else None for value in share.tolist()]
