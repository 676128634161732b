"""What tells one scoring run from another, so that only the same one is resumed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hidden_context.models.identity import weight_digests
from hidden_context.models.placement import resolve_device, resolve_dtype
from hidden_context.models.reward_model import RewardModel
from hidden_context.scoring.config import ModelOptions, OverLength


def describe_file(path: Path) -> list[str | int]:
    """Describe a file by place, size and time of its last change, without reading it."""
    status = path.stat()
    return [str(path.resolve()), status.st_size, status.st_mtime_ns]


def describe_run(
    checkpoint: str, model: RewardModel, options: ModelOptions, over_length: OverLength
) -> dict[str, Any]:
    """Describe all that raw outputs depend on besides the tokens.

    Args:
        checkpoint: The checkpoint's folder or hub id.
        model: The model that was loaded from it.
        options: How it was loaded and is run.
        over_length: What happens to too long texts.
    """
    device = resolve_device(options.device)
    backend = getattr(model, "backend", None)  # where another program runs the network
    return {
        "files": weight_digests(checkpoint, options.base_model, options.revision),
        "head": model.head.to_dict(),
        "max_length": model.max_length,
        "over_length": over_length,
        "dtype": str(resolve_dtype(options.precision, device)),
        "device": device.type,
        "engine": options.engine,
        "compile": options.compile,
        **({} if backend is None else {"backend": backend}),
    }


def digest_tokens(token_ids: Sequence[Any]) -> str:
    """Digest the token ids of a window's texts, row by row."""
    return hashlib.blake2b(json.dumps(token_ids).encode(), digest_size=16).hexdigest()
