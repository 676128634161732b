"""``hidden-context serve``: reward distributions over HTTP, by the contracts of trainers."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Final

from hidden_context.cli.arguments import command
from hidden_context.errors import MissingDependencyError
from hidden_context.serve.config import ServeConfig

_NEEDED: Final = ("fastapi", "uvicorn", "prometheus_client")


@command(
    ServeConfig,
    "hidden-context serve",
    "Serve reward models to trainers over HTTP; see docs/guides/serve.md.",
)
def main(config: ServeConfig) -> None:
    """Parse, load, and serve until told to stop."""
    missing = [name for name in _NEEDED if find_spec(name) is None]
    if missing:
        raise MissingDependencyError(
            f"serve needs {' and '.join(missing)}; run: pip install 'hidden-context[serve]'."
        )
    from hidden_context.serve.app import run

    run(config)
