"""How configurations declare their options: frozen dataclasses whose fields carry a help text."""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Hashable, Mapping
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
THREADS_HELP: Final = (
    "threads of the processor; auto: what OMP_NUM_THREADS or PyTorch says, or fewer where that is "
    "measured to be faster"
)
FORMERLY_BF16: Final = {"bf16": {True: "bfloat16", False: "float32"}}


def option(default: Any, help: str, **metadata: Any) -> Any:
    """Declare a configuration field with its help text.

    Args:
        default: The default; a list or dict becomes a fresh copy per instance, and
            ``dataclasses.MISSING`` makes the option required.
        help: One line for ``--help``.
        **metadata: ``choices`` (shown and enforced), ``positional`` (taken without a flag),
            ``bare`` (the value of the flag given without one), ``least`` (its smallest value),
            ``unset`` (the word for None), ``formerly`` (earlier names of the option, each with
            what its values are called now, where that is another word).

    Returns:
        A dataclass field.
    """
    metadata["help"] = help
    if default is dataclasses.MISSING:
        return dataclasses.field(metadata=metadata)
    if isinstance(default, (list, dict)):
        return dataclasses.field(default_factory=lambda: copy.deepcopy(default), metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def earlier_names(config_class: type) -> dict[str, tuple[str, Mapping[Any, Any]]]:
    """Earlier names of a configuration's options.

    Args:
        config_class: A dataclass whose fields are the options.

    Returns:
        By each of them the present name, and what its values are called now.
    """
    return {
        old: (field.name, values)
        for field in dataclasses.fields(config_class)
        for old, values in field.metadata.get("formerly", {}).items()
    }


def by_present_names(values: Mapping[str, Any], config_class: type) -> dict[str, Any]:
    """Call the options of a file by their present names; one that has its own is left.

    Args:
        values: Values by option, such as an earlier version wrote them.
        config_class: A dataclass whose fields are the options.
    """
    found, known = dict(values), earlier_names(config_class)
    for old in known.keys() & values.keys():
        name, renamed = known[old]
        value = found.pop(old)
        found.setdefault(name, renamed.get(value, value) if isinstance(value, Hashable) else value)
    return found


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
