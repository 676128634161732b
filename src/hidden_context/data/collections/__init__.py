"""Public data sets of human judgements, read as published, with one module per data set."""

from __future__ import annotations

import contextlib
import importlib
import pkgutil
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from hidden_context.data.annotators import annotators_path, write_annotators
from hidden_context.data.collections.source import LeftOut, Source
from hidden_context.data.example import Example
from hidden_context.data.storage.files import repeated, require_file, write_jsonl
from hidden_context.data.storage.locks import exclusive
from hidden_context.data.storage.rows import data_suffix
from hidden_context.errors import ConfigError, DataError

NAMES: Final[tuple[str, ...]] = tuple(
    sorted(module.name for module in pkgutil.iter_modules(__path__) if module.name != "source")
)
"""The sources; each has a module of its name, which is imported when it is asked for."""


def find_source(name: str) -> Source:
    """Return the source with a given name.

    Args:
        name: One of ``NAMES``.

    Returns:
        The source.

    Raises:
        ConfigError: If no source has this name; the message lists the names.
    """
    if name not in NAMES:
        raise ConfigError(f"{name!r} is not a known source; choose {', '.join(NAMES)}.")
    source: Source = importlib.import_module(f"{__name__}.{name}").SOURCE
    return source


@dataclass
class ImportReport:
    """The counts and output files of an import.

    Attributes:
        output: The file of rows that was written.
        examples: The number of rows in it.
        judgements: The number of judgements in the rows, without abstentions.
        abstentions: The number of times an annotator looked and did not judge.
        annotators: The names of everyone who judged or abstained.
        repeated: The number of judgements by an annotator who judged the same responses before.
        left_out: The number of published rows or votes that were left out, by reason.
        table: The table of annotators that was written; None if nothing is known about annotators.
        described: The number of annotators in the table.
    """

    output: Path
    examples: int = 0
    judgements: int = 0
    abstentions: int = 0
    annotators: set[str] = field(default_factory=set)
    repeated: int = 0
    left_out: LeftOut = field(default_factory=Counter)
    table: Path | None = None
    described: int = 0

    def add(self, example: Example) -> None:
        """Count an example."""
        self.examples += 1
        self.abstentions += example.abstentions
        self.repeated += example.repeated
        self.judgements += len(example.judgements) - example.abstentions
        self.annotators.update(
            str(said.annotator) for said in example.judgements if said.annotator is not None
        )

    def __str__(self) -> str:
        lines = [
            f"{self.output}: items {self.examples}, judgements {self.judgements}, abstentions "
            f"{self.abstentions}, annotators {len(self.annotators) or 'not named'}"
        ]
        if self.table is not None:
            lines.append(f"{self.table}: what is known of annotators, {self.described} described")
        if self.repeated:
            lines.append(f"repeated judgements by the same annotator: {self.repeated}")
        lines += [f"left out: {reason} ({n})" for reason, n in self.left_out.most_common()]
        return "\n".join(lines)


def save_source(source: Source, files: Sequence[str | Path], output: str | Path) -> ImportReport:
    """Read a public data set as published and write it as rows of judgements.

    Args:
        source: The data set.
        files: Its files; a folder stands for the files in it.
        output: The file of JSON Lines to write (``.gz`` by suffix), whole or not at all. The table
            of annotators goes to ``OUTPUT.annotators.jsonl`` beside it.

    Returns:
        The report of the import.

    Raises:
        ConfigError: If no file is given, a file is given twice, or the output is one of the files
            or is not JSON Lines.
        DataError: If a file is not as published, naming file, line and field; or nothing is left.
        StorageError: If the output cannot be written, or another process writes it.
    """
    paths, output = _list_files(files), Path(output)
    _check_output(paths, output)
    report = ImportReport(output)
    table = annotators_path(output)
    with exclusive(output):
        known = source.read_annotators(paths)
        write_jsonl(output, _columns(source.read(paths, report.left_out), report))
        if known:
            report.table, report.described = table, write_annotators(table, known)
        else:
            with contextlib.suppress(FileNotFoundError):
                table.unlink()  # left by an earlier import with other annotators
    return report


def _columns(examples: Iterable[Example], report: ImportReport) -> Iterator[dict[str, Any]]:
    """Yield and count the rows of the examples; the rows read back as the same examples."""
    for example in examples:
        report.add(example)
        yield example.columns
    if not report.examples:
        reasons = ", ".join(f"{reason} ({count})" for reason, count in report.left_out.items())
        raise DataError(f"nothing was found to import; left out: {reasons or 'nothing'}")


def _list_files(files: Sequence[str | Path]) -> list[Path]:
    paths: list[Path] = []
    for name in files:
        path = Path(name).expanduser()
        if path.is_dir():
            paths += sorted(p for p in path.iterdir() if p.is_file() and p.name[0] != ".")
        else:
            paths.append(require_file(path, "Give the files as they are published"))
    if not paths:
        raise ConfigError("No files are given to import.")
    twice = repeated(path.resolve() for path in paths)
    if twice is not None:
        raise ConfigError(f"{twice} is given twice, and its judgements would count twice.")
    return paths


def _check_output(paths: Sequence[Path], output: Path) -> None:
    if data_suffix(output) not in (".jsonl", ".jsonl.gz"):
        raise ConfigError(
            f"--output is {output}; a name that ends in .jsonl or .jsonl.gz is needed."
        )
    for target in (output, annotators_path(output)):
        if any(target.resolve() == path.resolve() for path in paths):
            raise ConfigError(f"{target} is one of the files to import: name another --output.")
