"""The application: its routes, its errors, and its life from loading to the last answer."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Any

from fastapi import FastAPI
from starlette.routing import Route

from hidden_context.serve import errors
from hidden_context.serve.config import ServeConfig
from hidden_context.serve.gate import Gate
from hidden_context.serve.monitoring import log
from hidden_context.serve.routes import ROUTERS
from hidden_context.serve.schema import ErrorBody
from hidden_context.serve.service import Served, Service

_ERRORS: dict[int | str, dict[str, Any]] = {
    401: {"model": ErrorBody, "description": "The bearer token is missing or wrong"},
    404: {"model": ErrorBody, "description": "No model of that name is loaded"},
    413: {"model": ErrorBody, "description": "Too many texts, or too many bytes"},
    422: {"model": ErrorBody, "description": "The request is malformed, or a text has no reward"},
    503: {"model": ErrorBody, "description": "Too much waits, or the server is going down"},
}


def make_app(models: Sequence[Served], config: ServeConfig, token: str | None = None) -> FastAPI:
    """Make the application.

    Args:
        models: The loaded models.
        config: The options.
        token: The bearer token that requests need; None for none.

    Returns:
        An ASGI application; its routes use ``state.service``.

    Raises:
        ConfigError: If a risk measure of the options is not defined for a model.
    """
    service = Service(models, config)

    @asynccontextmanager
    async def life(app: FastAPI) -> AsyncIterator[None]:
        await service.start()
        log("ready", models=[served.name for served in service.models], risk=str(service.risk))
        yield
        await service.batcher.stop()
        log("stopped", accepted=service.accepted, unanswered=service.under_way)

    app = FastAPI(
        title="hidden-context",
        summary="Reward distributions of responses",
        version=version("hidden-context"),
        lifespan=life,
        redoc_url=None,
    )
    app.state.service = service
    errors.install(app)
    for router in ROUTERS:
        app.include_router(router, responses=_ERRORS)
    routes = [route for owner in (app, *ROUTERS) for route in owner.routes]
    paths = {route.path for route in routes if isinstance(route, Route)}
    app.add_middleware(Gate, service=service, token=token, max_body=config.max_body, paths=paths)
    return app
