"""Files of a checkpoint, wherever it is: a local folder or a repository of the hub."""

from __future__ import annotations

from pathlib import Path

from hidden_context.errors import CheckpointError, first_line


def find_file(path_or_id: str, name: str, revision: str | None = None) -> Path | None:
    """Find one file of a local folder or hub repository; None if it has no such file."""
    if Path(path_or_id).is_dir():
        file = Path(path_or_id) / name
        return file if file.is_file() else None
    from transformers.utils import cached_file

    try:
        found = cached_file(
            path_or_id,
            name,
            revision=revision,
            _raise_exceptions_for_missing_entries=False,
            _raise_exceptions_for_connection_errors=False,
        )
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"{path_or_id!r} is neither a local folder nor a model that can be reached "
            f"({first_line(error)}). Check the path or id; offline, only local folders and cached "
            "models load."
        ) from error
    return Path(found) if found else None
