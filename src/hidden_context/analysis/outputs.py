"""Where an analysis may be written."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from hidden_context.errors import ConfigError


def check_output(output: str | Path, inputs: Iterable[str | Path]) -> None:
    """Check before any work that the output is none of the inputs.

    Args:
        output: The file to write.
        inputs: The files to read, there or not.

    Raises:
        ConfigError: If the output is one of them, by whatever path.
    """
    resolved = Path(output).resolve()
    if any(Path(path).resolve() == resolved for path in inputs):
        raise ConfigError(f"{output} is an input too; name another file with --output.")
