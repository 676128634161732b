"""Working without the Hugging Face hub if it cannot be reached, at once instead of in minutes."""

from __future__ import annotations

import os
import socket
import sys
import threading

_HOST = "huggingface.co"
# Who sets one of these has arranged for the hub, or for doing without it, otherwise.
_OWN_ARRANGEMENTS = (
    *("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_ENDPOINT"),
    *("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"),
)


def _resolves(host: str, seconds: float) -> bool:
    """Whether a host name resolves in time; without a network the lookup may hang."""
    found = threading.Event()

    def look_up() -> None:
        try:
            socket.getaddrinfo(host, 443)
        except OSError:
            return
        found.set()

    lookup = threading.Thread(target=look_up, daemon=True)
    lookup.start()
    lookup.join(seconds)
    return found.is_set()


def use_cache_without_network(seconds: float = 3.0) -> None:
    """Set ``HF_HUB_OFFLINE`` if the hub's name does not resolve.

    The hub's client tries each of many requests six times over half a minute before it falls back
    on its cache or gives up. It reads the variable when it is imported, so this comes before.

    Args:
        seconds: How long to wait for the name.
    """
    if any(os.environ.get(name) for name in _OWN_ARRANGEMENTS) or "huggingface_hub" in sys.modules:
        return
    if not _resolves(_HOST, seconds):
        os.environ["HF_HUB_OFFLINE"] = "1"
