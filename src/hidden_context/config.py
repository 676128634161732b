"""How configurations declare their options: frozen dataclasses whose fields carry a help text."""

from __future__ import annotations

import copy
import dataclasses
from typing import Any


def option(default: Any, help: str, **metadata: Any) -> Any:
    """Declare a configuration field with its help text.

    Args:
        default: The default; a list or dict becomes a fresh copy per instance, and
            ``dataclasses.MISSING`` makes the option required.
        help: One line for ``--help``.
        **metadata: ``choices`` (shown and enforced), ``positional`` (taken without a flag),
            ``bare`` (the value of the flag given without one).

    Returns:
        A dataclass field.
    """
    metadata["help"] = help
    if default is dataclasses.MISSING:
        return dataclasses.field(metadata=metadata)
    if isinstance(default, (list, dict)):
        return dataclasses.field(default_factory=lambda: copy.deepcopy(default), metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)
