"""Command-line arguments of a configuration dataclass, in the style of Transformers' parser.

Written here rather than taken from ``transformers.HfArgumentParser`` because importing that
library takes over a second, and ``--help`` has to answer at once.
"""

from __future__ import annotations

import argparse
import dataclasses
import difflib
import json
import types
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import (
    TYPE_CHECKING,
    Any,
    Literal,
    NoReturn,
    TypeVar,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

from hidden_context.cli.offline import use_cache_without_network
from hidden_context.config import by_present_names, default_of, earlier_names, option_groups
from hidden_context.errors import ConfigError, MissingFileError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

ConfigT = TypeVar("ConfigT", bound="DataclassInstance")
Main = Callable[[Sequence[str] | None], int]
Group = argparse._ActionsContainer

_TRUTHS = {
    **dict.fromkeys(("true", "t", "yes", "y", "1", "on"), True),
    **dict.fromkeys(("false", "f", "no", "n", "0", "off"), False),
}


def parse_bool(text: str | bool) -> bool:
    """Read a truth value as ``--bf16=false`` writes it.

    >>> parse_bool("no"), parse_bool("True")
    (False, True)
    """
    truth = _TRUTHS.get(str(text).lower())
    if truth is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not a truth value; use true or false")
    return truth


def _parse_dict(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise argparse.ArgumentTypeError(f"not JSON: {error}") from error
    if not isinstance(value, dict):
        raise argparse.ArgumentTypeError("a JSON object is needed, such as '{\"key\": 1}'")
    return value


class _Parser(argparse.ArgumentParser):
    """An ``ArgumentParser`` whose errors are one paragraph, without the usage."""

    def error(self, message: str) -> NoReturn:
        words = message.split()
        if message.startswith("unrecognized arguments:"):
            message += _suggestion(words[2].split("=")[0], self._option_string_actions)
        self.exit(2, f"error: {message}. `{self.prog} --help` lists the options.\n")


def _suggestion(name: str, known: Iterable[str]) -> str:
    """Return `` (did you mean …?)`` if a similar name is known, else nothing."""
    similar = difflib.get_close_matches(name, list(known), n=1)
    return f" (did you mean {similar[0]}?)" if similar else ""


def _strip_optional(annotation: Any) -> Any:
    if get_origin(annotation) in (Union, types.UnionType):
        inner = [a for a in get_args(annotation) if a is not type(None)]
        return inner[0] if len(inner) == 1 else str
    return annotation


def _add_field(parser: Group, field: dataclasses.Field[Any], hint: Any) -> None:
    kind, facts, default = _strip_optional(hint), field.metadata, default_of(field)
    help_text = str(facts.get("help", ""))
    if default not in (None, "", [], {}, dataclasses.MISSING):
        turned_off = f"; --no_{field.name} for false" if default is True else ""
        help_text += f" (default: {default}{turned_off})"
    options: dict[str, Any] = {
        "help": help_text.replace("%", "%%"),
        "default": argparse.SUPPRESS,
        "dest": field.name,
    }
    if kind is bool:
        options.update(type=parse_bool, nargs="?", const=True, metavar="true|false")
        parser.add_argument(*_flags(field.name), **options)
        _add_negation(parser, field.name, field.name, False)
        return
    if get_origin(kind) is Literal:
        options["choices"], kind = get_args(kind), str
    if "bare" in facts:
        options.update(nargs="?", const=facts["bare"])
    if get_origin(kind) is list:
        options.update(nargs="*", type=get_args(kind)[0])
    elif get_origin(kind) is dict:
        options.update(type=_parse_dict, metavar="JSON")
    else:
        options["type"] = kind
    if "unset" in facts:
        options.update(type=_or_unset(options["type"], facts["unset"]))
        options["metavar"] = f"{kind.__name__.upper()}|{facts['unset']}"
    if facts.get("positional"):
        options["nargs"] = options.get("nargs", "?")
        parser.add_argument(options.pop("dest"), **options)
        return
    if "choices" not in options:
        options.setdefault("metavar", options["type"].__name__.upper())
    parser.add_argument(*_flags(field.name), **options)
    for name, values in facts.get("formerly", {}).items():
        _add_earlier_name(parser, name, values, options)


def _flags(name: str) -> list[str]:
    return list(dict.fromkeys([f"--{name}", f"--{name.replace('_', '-')}"]))


def _add_negation(parser: Group, name: str, dest: str, value: Any) -> None:
    """Accept ``--no_name`` and ``--no-name``, hidden in ``--help``."""
    flags = [flag.replace("--", f"--no{mark}", 1) for flag in _flags(name) for mark in "_-"]
    hidden: dict[str, Any] = {"help": argparse.SUPPRESS, "default": argparse.SUPPRESS}
    parser.add_argument(*flags, dest=dest, action="store_const", const=value, **hidden)


def _or_unset(kind: Callable[[str], Any], word: str) -> Callable[[str], Any]:
    """Read a value, or the word for None."""

    def read(text: str) -> Any:
        return None if text == word else kind(text)

    read.__name__ = kind.__name__  # as argparse calls what it could not read
    return read


def _add_earlier_name(
    parser: Group, name: str, values: Mapping[Any, Any], options: dict[str, Any]
) -> None:
    """Accept an earlier name of an option, hidden in ``--help``."""
    hidden = options | {"help": argparse.SUPPRESS}
    if True not in values:
        parser.add_argument(*_flags(name), **hidden | {"type": lambda text: values.get(text, text)})
        return
    hidden |= {"type": lambda text: values[parse_bool(text)], "nargs": "?", "const": "true"}
    parser.add_argument(*_flags(name), **hidden)
    _add_negation(parser, name, options["dest"], values[False])


def make_parser(config_class: type, prog: str, description: str) -> argparse.ArgumentParser:
    """Build the parser of a configuration dataclass; ``--config`` names a YAML file."""
    fields = dataclasses.fields(config_class)
    places = "".join(f" {f.name.upper()}" for f in fields if f.metadata.get("positional"))
    usage = f"{prog}{places} [options]"
    parser = _Parser(prog=prog, usage=usage, description=description, allow_abbrev=False)
    parser.add_argument("--config", metavar="FILE", help="YAML file of options; flags win over it")
    hints = get_type_hints(config_class)
    for heading, options in option_groups(config_class).items():
        group = parser if heading == "options" else parser.add_argument_group(heading)
        for field in options:
            _add_field(group, field, hints[field.name])
    return parser


def _read_config_file(path: str, names: set[str]) -> dict[str, Any]:
    import yaml

    if not Path(path).is_file():
        raise MissingFileError(path, "Give --config an existing YAML file")
    try:
        values = yaml.safe_load(Path(path).read_text(encoding="utf-8")) or {}
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"{path} is not valid YAML: {reason}.") from error
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: options are needed as 'name: value' lines.")
    unknown = sorted(set(map(str, values)) - names)
    if unknown:
        listed = ", ".join(name + _suggestion(name, names) for name in unknown)
        raise ConfigError(
            f"{path}: unknown option{'s' if len(unknown) > 1 else ''} {listed}. See --help "
            "for the options."
        )
    return values


_KINDS = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "text (in quotes, if it looks like something else)",
    list: "a list, such as [a, b],",
    dict: "a mapping of names to values",
}


def _check_type(name: str, value: Any, hint: Any, path: str) -> Any:
    """Convert a YAML value to its field's type, or name the type needed."""
    kind = _strip_optional(hint)
    if value is None and type(None) in get_args(hint):
        return None
    if get_origin(kind) is Literal:
        if value in get_args(kind):
            return value
        choices = ", ".join(map(str, get_args(kind)))
        raise ConfigError(f"{path}: {name} is {value!r}; choose from {choices}.")
    if kind is float and isinstance(value, (str, int)) and not isinstance(value, bool):
        try:
            return float(value)  # YAML 1.1 reads 3e-6 as a string
        except ValueError:
            pass
    expected = get_origin(kind) or kind
    if not isinstance(value, expected) or (isinstance(value, bool) and expected is not bool):
        needed = _KINDS.get(expected, f"a {expected.__name__}")
        raise ConfigError(f"{path}: {name} is {value!r}; {needed} is needed.")
    if expected is list and get_args(kind):
        return [_check_type(f"an item of {name}", item, get_args(kind)[0], path) for item in value]
    return value


def _check_option(field: dataclasses.Field[Any], value: Any, hint: Any, path: str) -> Any:
    """Check a YAML value; a flag that may stand bare also takes true and false."""
    if "bare" in field.metadata and isinstance(value, bool):
        return field.metadata["bare"] if value else field.default
    if value == field.metadata.get("unset", ...):
        return None
    return _check_type(field.name, value, hint, path)


def parse(
    config_class: type[ConfigT], argv: Sequence[str] | None, *, prog: str, description: str
) -> ConfigT:
    """Parse a command line into a configuration; flags win over ``--config`` over defaults.

    Args:
        config_class: A dataclass whose fields are the options.
        argv: The arguments; None for ``sys.argv``.
        prog: The command's name in its help.
        description: One sentence for its help.

    Returns:
        An instance of ``config_class``.

    Raises:
        ConfigError: If the YAML file is unreadable or has unknown or ill-typed options.
        SystemExit: With code 2 on bad flags, with 0 on ``--help``.
    """
    parser = make_parser(config_class, prog, description)
    values = vars(parser.parse_intermixed_args(argv))
    path = values.pop("config", None)
    fields = {field.name: field for field in dataclasses.fields(config_class)}
    if path:
        hints = get_type_hints(config_class)
        from_file = {
            name: _check_option(fields[name], value, hints[name], path)
            for name, value in by_present_names(
                _read_config_file(path, {*fields, *earlier_names(config_class)}), config_class
            ).items()
        }
        values = {**from_file, **values}
    missing = [
        name if field.metadata.get("positional") else f"--{name}"
        for name, field in fields.items()
        if name not in values and default_of(field) is dataclasses.MISSING
    ]
    if missing:
        parser.error("the following options are required: " + ", ".join(missing))
    return config_class(**values)


def command(
    config_class: type[ConfigT], prog: str, description: str, *, uses_hub: bool = True
) -> Callable[[Callable[[ConfigT], int | None]], Main]:
    """Make a command of a function that takes a configuration.

    Args:
        config_class: A dataclass whose fields are the options.
        prog: The command's name in its help.
        description: One sentence for its help.
        uses_hub: Whether it may ask the Hugging Face hub, so that a missing network is found first.

    Returns:
        A decorator. The command takes the arguments after its name, or None for ``sys.argv``, and
        returns the exit code: the function's, or 0 if it returns None.
    """

    def decorate(run: Callable[[ConfigT], int | None]) -> Main:
        def main(argv: Sequence[str] | None = None) -> int:
            config = parse(config_class, argv, prog=prog, description=description)
            if uses_hub:
                use_cache_without_network()
            return run(config) or 0

        main.__doc__ = run.__doc__
        return main

    return decorate
