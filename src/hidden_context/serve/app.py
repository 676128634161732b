"""The server: its routes and errors, and its life from loading models to the last answer."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from importlib.metadata import version
from types import FrameType
from typing import Any, Final

import torch
import uvicorn
from fastapi import FastAPI
from starlette.routing import Route

from hidden_context.errors import ConfigError
from hidden_context.scoring.loading import load_model, settle
from hidden_context.scoring.requests import Scorer
from hidden_context.serve.config import ServeConfig, read_token
from hidden_context.serve.gate import Gate
from hidden_context.serve.monitoring import configure, log
from hidden_context.serve.routes import ROUTERS
from hidden_context.serve.schema import ErrorBody, install
from hidden_context.serve.service import Served, Service

_LINGER: Final = 0.5  # seconds in which requests already on their way get a polite refusal
_ERRORS: dict[int | str, dict[str, Any]] = {
    401: {"model": ErrorBody, "description": "The bearer token is missing or wrong"},
    404: {"model": ErrorBody, "description": "No model of that name is loaded"},
    413: {"model": ErrorBody, "description": "Too many texts, or too many bytes"},
    422: {"model": ErrorBody, "description": "The request is malformed, or a text has no reward"},
    503: {"model": ErrorBody, "description": "The queue is full, or the server is shutting down"},
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
    install(app)
    for router in ROUTERS:
        app.include_router(router, responses=_ERRORS)
    routes = [route for owner in (app, *ROUTERS) for route in owner.routes]
    paths = {route.path for route in routes if isinstance(route, Route)}
    app.add_middleware(Gate, service=service, token=token, paths=paths)
    return app


class DrainingServer(uvicorn.Server):
    """A server that drains at the first SIGTERM or SIGINT, and ends at once at the second.

    Args:
        config: Of uvicorn.
        service: What is drained.
    """

    def __init__(self, config: uvicorn.Config, service: Service) -> None:
        super().__init__(config)
        self.service = service

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to drain, or stop at once where that has begun."""
        if self.service.draining or not self.started:
            self.force_exit = self.should_exit = True
            return
        self.service.draining = True
        loop = asyncio.get_running_loop()  # signals arrive in the thread that runs it
        self._draining = asyncio.run_coroutine_threadsafe(self._drain(), loop)

    async def _drain(self) -> None:
        log("draining", under_way=self.service.under_way)
        if not await self.service.drain(self.service.config.drain_seconds):
            log("not drained in time", level=logging.WARNING, under_way=self.service.under_way)
        await asyncio.sleep(_LINGER)
        self.should_exit = True


def run(config: ServeConfig) -> None:
    """Load the models and serve them until SIGTERM or SIGINT.

    Raises:
        ConfigError: If the address is not free, or needs a token that is not there.
        MissingFileError: If a checkpoint is not there.
        CheckpointError: If one cannot be loaded.
    """
    token = read_token(config.host)
    listening = _listen(config.host, config.port)
    configure()
    config, threads = settle(config)
    if threads is not None:
        torch.set_num_threads(threads)
    models = [
        Served(name, path, Scorer(load_model(path, config), config, config.over_length))
        for name, path in zip(config.model_names, config.models, strict=True)
    ]
    app = make_app(models, config, token)
    host, port = listening.getsockname()[:2]
    log("serving", host=host, port=port, pid=os.getpid(), token=token is not None)
    settings = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=75,  # if shorter than the clients', requests fail
        timeout_graceful_shutdown=5,
    )
    DrainingServer(settings, app.state.service).run(sockets=[listening])


def _listen(host: str, port: int) -> socket.socket:
    """Bind the address before models are loaded, so that an address in use is found at once."""
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listening = socket.socket(family, socket.SOCK_STREAM)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
    except OSError as error:
        raise ConfigError(
            f"the server cannot listen on {host}:{port} ({error}); give another --host or --port."
        ) from error
    listening.set_inheritable(True)
    return listening
