"""Command-line arguments from a configuration dataclass, in the ways of Transformers' own parser.

Written here rather than taken from ``transformers.HfArgumentParser`` because importing that
library takes over a second, and ``--help`` has to answer at once.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import types
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from hidden_context.errors import ConfigError, MissingFileError

ConfigT = TypeVar("ConfigT")

_TRUE = {"true", "t", "yes", "y", "1", "on"}
_FALSE = {"false", "f", "no", "n", "0", "off"}


def parse_bool(text: str | bool) -> bool:
    """Read a truth value as ``--bf16=false`` writes it.

    >>> parse_bool("no"), parse_bool("True")
    (False, True)
    """
    if isinstance(text, bool):
        return text
    if text.lower() in _TRUE:
        return True
    if text.lower() in _FALSE:
        return False
    raise argparse.ArgumentTypeError(f"{text!r} is not a truth value; use true or false")


def _parse_dict(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise argparse.ArgumentTypeError(f"not JSON: {error}") from error
    if not isinstance(value, dict):
        raise argparse.ArgumentTypeError("a JSON object is needed, such as '{\"key\": 1}'")
    return value


def _strip_optional(annotation: Any) -> Any:
    if get_origin(annotation) in (Union, types.UnionType):
        inner = [a for a in get_args(annotation) if a is not type(None)]
        return inner[0] if len(inner) == 1 else str
    return annotation


def _add_field(parser: argparse.ArgumentParser, field: dataclasses.Field[Any], hint: Any) -> None:
    kind = _strip_optional(hint)
    default = field.default
    if default is dataclasses.MISSING and field.default_factory is not dataclasses.MISSING:
        default = field.default_factory()
    required = default is dataclasses.MISSING
    help_text = str(field.metadata.get("help", "")).replace("%", "%%")
    if not required and default not in (None, "", [], {}):
        help_text += f" (default: {default})".replace("%", "%%")
    options: dict[str, Any] = {"help": help_text, "default": argparse.SUPPRESS}
    if get_origin(kind) is Literal:
        options["choices"], kind = get_args(kind), str
    if "choices" in field.metadata:
        options["choices"] = field.metadata["choices"]
    flags = list(dict.fromkeys([f"--{field.name}", f"--{field.name.replace('_', '-')}"]))

    if kind is bool:
        parser.add_argument(
            *flags, type=parse_bool, nargs="?", const=True, metavar="true|false", **options
        )
        negations = [f"--no_{field.name}", f"--no-{field.name.replace('_', '-')}"]
        parser.add_argument(
            *negations,
            dest=field.name,
            action="store_false",
            default=argparse.SUPPRESS,
            help=argparse.SUPPRESS,
        )
        return
    origin = get_origin(kind)
    if origin in (list, tuple) or kind in (list, tuple):
        options.update(nargs="*", type=(get_args(kind) or (str,))[0])
    elif origin is dict or kind is dict:
        options.update(type=_parse_dict, metavar="JSON")
    else:
        options["type"] = kind if kind in (int, float, str) else str
    if field.metadata.get("positional"):
        options.setdefault("nargs", "?")
        parser.add_argument(field.name, **options)
    else:
        if "choices" not in options and "metavar" not in options:
            options["metavar"] = getattr(options["type"], "__name__", "value").upper()
        parser.add_argument(*flags, **options)


def make_parser(config_class: type, prog: str, description: str) -> argparse.ArgumentParser:
    """Build the parser of a configuration dataclass; ``--config`` names a YAML file."""
    parser = argparse.ArgumentParser(prog=prog, description=description, allow_abbrev=False)
    parser.add_argument("--config", metavar="FILE", help="YAML file of options; flags win over it")
    hints = get_type_hints(config_class)
    for field in dataclasses.fields(config_class):
        _add_field(parser, field, hints[field.name])
    return parser


def _read_config_file(path: str, names: set[str]) -> dict[str, Any]:
    import yaml

    if not Path(path).is_file():
        raise MissingFileError(path, "Give --config an existing YAML file")
    try:
        values = yaml.safe_load(Path(path).read_text(encoding="utf-8")) or {}
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not valid YAML: {error}") from error
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: options are needed as 'name: value' lines.")
    unknown = sorted(set(map(str, values)) - names)
    if unknown:
        raise ConfigError(
            f"{path}: unknown option{'s' if len(unknown) > 1 else ''} {', '.join(unknown)}. "
            f"Known: {', '.join(sorted(names))}."
        )
    return values


def _check_type(name: str, value: Any, hint: Any, path: str) -> Any:
    """Bring a YAML value to its field's type, or say which one it should have."""
    kind = _strip_optional(hint)
    if value is None:
        return None
    if kind is float and isinstance(value, str):  # YAML 1.1 reads 3e-6 as a string
        try:
            return float(value)
        except ValueError:
            pass
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    expected = list if get_origin(kind) is list else dict if get_origin(kind) is dict else kind
    if get_origin(expected) is Literal:
        if value in get_args(expected):
            return value
        raise ConfigError(f"{path}: {name} is {value!r}; choose from {get_args(expected)}.")
    if expected in (int, float, str, bool, list, dict) and (
        not isinstance(value, expected) or (expected is int and isinstance(value, bool))
    ):
        raise ConfigError(
            f"{path}: {name} is {value!r}; a value of type {expected.__name__} is needed."
        )
    return value


def parse(
    config_class: type[ConfigT], argv: Sequence[str] | None, *, prog: str, description: str
) -> ConfigT:
    """Parse a command line into a configuration; flags win over ``--config`` over defaults.

    Args:
        config_class: A dataclass whose fields are the options.
        argv: The arguments, or None for those of the process.
        prog: The command's name in its help.
        description: One sentence for its help.

    Returns:
        An instance of ``config_class``.

    Raises:
        ConfigError: If the YAML file is unreadable or has unknown or ill-typed options.
        SystemExit: With code 2 on bad flags, with 0 on ``--help``.
    """
    parser = make_parser(config_class, prog, description)
    values = vars(parser.parse_args(argv))
    path = values.pop("config", None)
    fields = {field.name: field for field in dataclasses.fields(config_class)}  # type: ignore[arg-type]
    if path:
        hints = get_type_hints(config_class)
        from_file = {
            name: _check_type(name, value, hints[name], path)
            for name, value in _read_config_file(path, set(fields)).items()
        }
        values = {**from_file, **values}
    missing = [
        name
        for name, field in fields.items()
        if name not in values
        and field.default is dataclasses.MISSING
        and field.default_factory is dataclasses.MISSING
    ]
    if missing:
        parser.error("the following options are required: " + ", ".join(f"--{m}" for m in missing))
    return config_class(**values)
