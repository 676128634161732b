"""Heads: each reads raw outputs ``(…, K)`` as reward distributions. One file per head.

Heads go by name here; every command knows a head whose class is added to ``_CLASSES``.
"""

from __future__ import annotations

import builtins
import dataclasses
from collections.abc import Mapping
from typing import Any, Final

from hidden_context.errors import ConfigError
from hidden_context.heads.base import FORMAT_VERSION, Head, LinearMean
from hidden_context.heads.categorical import CategoricalHead
from hidden_context.heads.ensemble import EnsembleHead
from hidden_context.heads.factor import FactorHead
from hidden_context.heads.mean_and_variance import MeanAndVarianceHead
from hidden_context.heads.mixture import MixtureHead
from hidden_context.heads.quantile import QuantileHead
from hidden_context.heads.scalar import ScalarHead

__all__ = [
    "PAPER_TYPES",
    "CategoricalHead",
    "EnsembleHead",
    "FactorHead",
    "Head",
    "LinearMean",
    "MeanAndVarianceHead",
    "MixtureHead",
    "QuantileHead",
    "ScalarHead",
    "for_num_outputs",
    "for_width",
    "from_dict",
    "make",
    "register",
    "types",
]

PAPER_TYPES: Final = (ScalarHead.type, MeanAndVarianceHead.type, CategoricalHead.type)
_CLASSES: Final[dict[str, type[Head]]] = {
    head.type: head
    for head in (
        ScalarHead,
        MeanAndVarianceHead,
        CategoricalHead,
        FactorHead,
        MixtureHead,
        QuantileHead,
        EnsembleHead,
    )
}
_ALIASES: Final = {"scalar": "base"}


def types() -> tuple[str, ...]:
    """Return the names of the head types.

    >>> types()
    ('base', 'mean_and_variance', 'categorical', 'factor', 'mixture', 'quantile', 'ensemble')
    """
    return tuple(_CLASSES)


def register(head: builtins.type[Head]) -> builtins.type[Head]:
    """Register a head under its type's name for this process; works as a decorator.

    Args:
        head: A frozen dataclass derived from ``Head``.

    Returns:
        The same class. A class defined anew, as when a notebook's cell is run again, takes the
        place of the earlier one.

    Raises:
        ConfigError: If another head has that name, or the class lacks what a head needs.
    """
    if missing := sorted(head.__abstractmethods__ | ({"type"} - {*dir(head)})):
        raise ConfigError(f"the head {head.__qualname__} needs {', '.join(missing)}.")
    name = _ALIASES.get(head.type, head.type)
    other = _CLASSES.get(name, head)
    if (other.__module__, other.__qualname__) != (head.__module__, head.__qualname__):
        raise ConfigError(f"head type {head.type!r} is taken by {other.__qualname__}; rename it.")
    _CLASSES[name] = head
    return head


def _class_of(type: str) -> builtins.type[Head]:
    head_class = _CLASSES.get(_ALIASES.get(type, type))
    if head_class is None:
        raise ConfigError(
            f"head type {type!r} is not known; choose one of {', '.join(_CLASSES)}, "
            "or register the head with heads.register."
        )
    return head_class


def make(type: str, **options: Any) -> Head:
    """Make a head by its type's name.

    Args:
        type: One of ``types()``; ``scalar`` is another name of ``base``.
        **options: The options of that head's class; a head within a head may be its JSON form.

    Returns:
        The head.

    Raises:
        ConfigError: If the type or an option is unknown, or an option's value cannot work.

    >>> make("categorical", num_atoms=5).num_outputs
    5
    """
    head_class = _class_of(type)
    known = {field.name for field in dataclasses.fields(head_class)}
    unknown = sorted(set(options) - known)
    if unknown:
        raise ConfigError(
            f"the {head_class.type} head has no option {', '.join(unknown)}; "
            f"it has {', '.join(sorted(known)) or 'none'}."
        )
    nested = {k: from_dict(v) if isinstance(v, Mapping) else v for k, v in options.items()}
    return head_class(**nested)


def for_num_outputs(num_outputs: int, **options: Any) -> Head:
    """Make the head that the paper's commands use for a number of outputs.

    Args:
        num_outputs: 1 is ``base``, 2 ``mean_and_variance``, more a ``categorical``.
        **options: Options; the head takes the ones that it has.

    Returns:
        The head.

    Raises:
        ConfigError: If the number is below 1.

    >>> for_num_outputs(2, likelihood="logistic")
    MeanAndVarianceHead(variance_penalty=0.0, likelihood='logistic')
    """
    if num_outputs < 1:
        raise ConfigError(f"num_outputs is {num_outputs}; a head has at least one output.")
    type = {1: ScalarHead.type, 2: MeanAndVarianceHead.type}.get(num_outputs, CategoricalHead.type)
    return make(type, **options_for(type, {**options, "num_atoms": num_outputs}))


def for_width(type: str, width: int, **options: Any) -> Head:
    """Make a head of a type for a given number of outputs.

    Args:
        type: The head's type.
        width: Number of outputs; the head's own number may still differ, which the caller checks.
        **options: Options; the head takes the ones that it has.

    Returns:
        The head.

    Raises:
        ConfigError: If the type is unknown.

    >>> for_width("factor", 4).num_factors
    2
    """
    sized = _class_of(type).options_for_width(width)
    return make(type, **options_for(type, {**options, **sized}))


def options_for(type: str, available: Mapping[str, Any]) -> dict[str, Any]:
    """Select a head type's options from a larger set."""
    names = {field.name for field in dataclasses.fields(_class_of(type))}
    return {name: value for name, value in available.items() if name in names}


def from_dict(values: Mapping[str, Any]) -> Head:
    """Read a head back from its JSON form.

    Args:
        values: What ``Head.to_dict`` gave.

    Returns:
        An equal head.

    Raises:
        ConfigError: If the form is of a later version, or disagrees with itself.
    """
    options = dict(values)
    if "type" not in options:
        raise ConfigError("a head's description needs the field 'type'.")
    version = options.pop("version", FORMAT_VERSION)
    if version != FORMAT_VERSION:
        raise ConfigError(
            f"the head's description has format {version}, but this version reads "
            f"{FORMAT_VERSION}; upgrade hidden-context."
        )
    num_outputs = options.pop("num_outputs", None)
    head = make(options.pop("type"), **options)
    if num_outputs is not None and num_outputs != head.num_outputs:
        raise ConfigError(
            f"the head's description says num_outputs {num_outputs}, "
            f"but its {head.type} head has num_outputs {head.num_outputs}."
        )
    return head
