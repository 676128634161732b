"""Where caches lie unless a folder is named."""

from __future__ import annotations

import os
from pathlib import Path


def default_cache_dir() -> Path:
    """Folder of caches: ``HIDDEN_CONTEXT_CACHE``, else the user's cache folder."""
    named = os.environ.get("HIDDEN_CONTEXT_CACHE")
    if named:
        return Path(named)
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "hidden-context"
