"""Declaration of configuration options as groups of fields with help texts.

A group is a frozen dataclass, and a configuration inherits its groups. So a component takes a whole
group (``def make_optimizer(options: OptimisationOptions)``), and a configuration can be passed as
any of its groups. Flags, YAML files and keywords in Python use flat names. This module declares the
groups that several configurations share.
"""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Hashable, Mapping
from typing import Any, Final, Literal, get_args, get_origin, get_type_hints

from hidden_context.errors import ConfigError

SPLIT_BY_HELP: Final = (
    "column whose values stay on one side of every split, such as a topic; the first user turn "
    "if unset"
)
SPLIT_BALANCE_HELP: Final = (
    "JSON file that says on which side each group is, balanced by size; written if missing, and "
    "extended. Given bare, DATA_PATH.splits"
)
POSITIVE: Final = (lambda value: value > 0, "be positive")
SHARE: Final = (lambda value: 0 <= value < 1, "lie in [0, 1)")
FORMERLY_BF16: Final = {"bf16": {True: "bfloat16", False: "float32"}}


def option(default: Any, help: str, **metadata: Any) -> Any:
    """Declare a configuration field with its help text.

    Args:
        default: The default; a list or dict becomes a fresh copy per instance, and
            ``dataclasses.MISSING`` makes the option required.
        help: One line for ``--help``.
        **metadata: ``positional`` (taken without a flag),
            ``bare`` (the value of the flag given without one), ``least`` (its smallest value),
            ``must`` (a test of its value and what it must do, such as ``POSITIVE``), ``unset`` (the
            word for None), ``common`` (shown first in the help), ``formerly`` (earlier names of the
            option, each with a mapping of earlier to present values).

    Returns:
        A dataclass field.
    """
    metadata["help"] = help
    if default is dataclasses.MISSING:
        return dataclasses.field(metadata=metadata)
    if isinstance(default, (list, dict)):
        return dataclasses.field(default_factory=lambda: copy.deepcopy(default), metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def default_of(field: dataclasses.Field[Any]) -> Any:
    """Return the default of a configuration's option; ``dataclasses.MISSING`` if it is required."""
    factory = field.default_factory
    return field.default if factory is dataclasses.MISSING else factory()


def changed(config_class: type, name: str, default: Any) -> Any:
    """Declare an option of a configuration again, with another default."""
    (field,) = (each for each in dataclasses.fields(config_class) if each.name == name)
    return dataclasses.field(default=default, metadata=field.metadata)


@dataclasses.dataclass(frozen=True)
class ReadOptions:
    """Reading data."""

    data_subset: str = option("both", "both, helpful or harmless, or another subset's name")
    on_malformed: Literal["error", "skip"] = option(
        "error", "what to do at a malformed row: stop, or skip it and count"
    )
    split_by: str | None = option(None, SPLIT_BY_HELP)


@dataclasses.dataclass(frozen=True)
class ComputeOptions:
    """Speed and memory."""

    tokens_per_batch: int | None = option(
        None,
        "most tokens of a forward pass, halved when memory runs out; if unset, chosen for the "
        "device and tuned on a GPU",
        least=1,
    )
    threads: int | None = option(
        None,
        "CPU threads; auto: what OMP_NUM_THREADS or PyTorch says, or fewer where that is measured "
        "to be faster",
        least=1,
        unset="auto",
    )


def option_groups(config_class: type) -> dict[str, list[dataclasses.Field[Any]]]:
    """Group a configuration's options by the headings of its help.

    A group is a base class named ``…Options``; its heading is the first line of its docstring. The
    shared groups of this module stand under the heading of the group that inherits them.

    Args:
        config_class: A dataclass whose fields are the options.

    Returns:
        The options by heading: the most used options first, then the configuration's own options,
        then each group.
    """
    groups = [
        base
        for base in config_class.__mro__[::-1]
        if base.__name__.endswith("Options") and base.__module__ != __name__
    ]
    found: dict[str, list[dataclasses.Field[Any]]] = {"most used": [], "options": []}
    for field in dataclasses.fields(config_class):
        heading, declared = "options", field
        for group in groups:
            known = {own.name: own for own in dataclasses.fields(group)}
            if field.name in known:
                heading, declared = str(group.__doc__).split("\n")[0], known[field.name]
                break
        heading = "most used" if declared.metadata.get("common") else heading.rstrip(".")
        found.setdefault(heading, []).append(field)
    return {heading: fields for heading, fields in found.items() if fields}


def earlier_names(config_class: type) -> dict[str, tuple[str, Mapping[Any, Any]]]:
    """Find the earlier names of a configuration's options.

    Args:
        config_class: A dataclass whose fields are the options.

    Returns:
        For each earlier name, the present name and a mapping of earlier to present values.
    """
    return {
        old: (field.name, values)
        for field in dataclasses.fields(config_class)
        for old, values in field.metadata.get("formerly", {}).items()
    }


def by_present_names(values: Mapping[str, Any], config_class: type) -> dict[str, Any]:
    """Rename a file's options from earlier to present names; a present name takes precedence.

    Args:
        values: Values by option, as this or an earlier version wrote them.
        config_class: A dataclass whose fields are the options.
    """
    found, known = dict(values), earlier_names(config_class)
    for old in known.keys() & values.keys():
        name, renamed = known[old]
        value = found.pop(old)
        found.setdefault(name, renamed.get(value, value) if isinstance(value, Hashable) else value)
    return found


def check_options(config: Any) -> None:
    """Check that a configuration's options are among their choices and within their bounds.

    Raises:
        ConfigError: If an option is not.
    """
    hints = get_type_hints(type(config))
    for field in dataclasses.fields(config):
        value, choices = getattr(config, field.name), get_args(hints[field.name])
        if get_origin(hints[field.name]) is Literal and value not in choices:
            known = f"{', '.join(map(str, choices[:-1]))} or {choices[-1]}"
            raise ConfigError(f"--{field.name} is {value!r}; choose {known}.")
        least, must = field.metadata.get("least"), field.metadata.get("must")
        if value is None:
            continue
        if least is not None and not least <= value < math.inf:
            raise ConfigError(f"--{field.name} is {value}; it must be at least {least}.")
        if must is not None and not must[0](value):
            raise ConfigError(f"--{field.name} is {value}; it must {must[1]}.")


def check_given(needed: Mapping[str, Any], example: str) -> None:
    """Check that options without a usable default were given.

    Args:
        needed: The options' values by description.
        example: A command line with the options; its first word names the command.

    Raises:
        ConfigError: If some are missing.
    """
    missing = [name for name, value in needed.items() if not value]
    if missing:
        verb = example.split()[0]
        raise ConfigError(f"{verb} needs {' and '.join(missing)}, as in: {example}.")
