"""The server's state: ``/health``, ``/ready``, ``/metrics``, and its models."""

from __future__ import annotations

from fastapi import APIRouter
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import BaseModel
from starlette.responses import Response

from hidden_context.serve.schema import answer
from hidden_context.serve.service import ServiceNow

router = APIRouter()


class State(BaseModel):
    """The state of the server in one word."""

    status: str


class ModelItem(BaseModel):
    """A loaded model."""

    id: str
    object: str = "model"
    owned_by: str = "hidden-context"
    head: str
    num_outputs: int
    max_model_len: int


class ModelList(BaseModel):
    """OpenAI's list of models."""

    object: str = "list"
    data: list[ModelItem]


@router.get("/health", response_model=State)
async def health() -> Response:
    """Report that the process is alive."""
    return answer({"status": "ok"})


@router.get("/ready", response_model=State)
async def ready(service: ServiceNow) -> Response:
    """Report that models are loaded and requests accepted; 503 once the server shuts down."""
    service.check_open()
    return answer({"status": "ready"})


@router.get("/metrics", responses={200: {"content": {"text/plain": {}}}})
async def metrics(service: ServiceNow) -> Response:
    """Return the counts in Prometheus' text format."""
    return Response(service.metrics.page(), media_type=CONTENT_TYPE_LATEST)


@router.get("/v1/models", response_model=ModelList)
async def models(service: ServiceNow) -> Response:
    """Return the loaded models, the first of which answers requests that name none."""
    items = [
        ModelItem(
            id=served.name,
            head=served.scorer.model.head.type,
            num_outputs=served.scorer.model.head.num_outputs,
            max_model_len=served.scorer.model.max_length,
        )
        for served in service.models
    ]
    return answer(ModelList(data=items))
