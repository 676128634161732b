"""How configurations declare their options: frozen dataclasses whose fields carry a help text."""

from __future__ import annotations

import copy
import dataclasses
import math
from typing import Any, Final, Literal, get_args, get_origin, get_type_hints

from hidden_context.errors import ConfigError

SPLIT_BY_HELP: Final = (
    "column whose values stay on one side of every division, such as a topic; the first user turn "
    "if unset"
)
SPLIT_BALANCE_HELP: Final = (
    "JSON file that says on which side each group is, balanced by size; written where there is "
    "none, and added to. Given bare, DATA_PATH.splits"
)


def option(default: Any, help: str, **metadata: Any) -> Any:
    """Declare a configuration field with its help text.

    Args:
        default: The default; a list or dict becomes a fresh copy per instance, and
            ``dataclasses.MISSING`` makes the option required.
        help: One line for ``--help``.
        **metadata: ``choices`` (shown and enforced), ``positional`` (taken without a flag),
            ``bare`` (the value of the flag given without one), ``least`` (its smallest value).

    Returns:
        A dataclass field.
    """
    metadata["help"] = help
    if default is dataclasses.MISSING:
        return dataclasses.field(metadata=metadata)
    if isinstance(default, (list, dict)):
        return dataclasses.field(default_factory=lambda: copy.deepcopy(default), metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def check_options(config: Any) -> None:
    """Check a configuration's options against their choices and smallest values.

    Raises:
        ConfigError: If one is none of its choices, or too small.
    """
    hints = get_type_hints(type(config))
    for field in dataclasses.fields(config):
        value, choices = getattr(config, field.name), get_args(hints[field.name])
        if get_origin(hints[field.name]) is Literal and value not in choices:
            known = f"{', '.join(map(str, choices[:-1]))} or {choices[-1]}"
            raise ConfigError(f"--{field.name} is {value!r}; choose {known}.")
        least = field.metadata.get("least")
        if least is not None and value is not None and not least <= value < math.inf:
            raise ConfigError(f"--{field.name} is {value}; it must be at least {least}.")
