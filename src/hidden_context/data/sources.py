"""Examples from any source in one schema, with a count of what was left out.

``load_examples`` reads one split; ``load_splits`` (in ``splits.held_out``) adds test and validation
sets that share no prompt with the training set.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from hidden_context.data.example import Example, Ranking
from hidden_context.data.importers import read_row
from hidden_context.data.importers.answers import unread_keys
from hidden_context.data.report import ReadReport, blank_responses, has_votes, keep_responses
from hidden_context.data.storage import layouts
from hidden_context.data.storage.rows import Row, iter_rows, require_row
from hidden_context.errors import ConfigError, DataError, MissingFileError

OnMalformed = Literal["error", "skip"]


@dataclass
class ExampleData:
    """Examples together with the report of how they were read."""

    examples: list[Example] = field(default_factory=list)
    report: ReadReport = field(default_factory=lambda: ReadReport(source=""))

    def __len__(self) -> int:
        return len(self.examples)

    def __iter__(self) -> Iterator[Example]:
        return iter(self.examples)

    def add(self, example: Example) -> None:
        """Add the usable part of an example and count the rest."""
        report = self.report
        report.rows += 1
        report.rankings += any(isinstance(j.answer, Ranking) for j in example.judgements)
        report.abstentions += example.abstentions
        report.repeated += example.repeated
        report.unread += sorted(unread_keys(example) - set(report.unread))
        if not has_votes(example):
            report.unjudged += 1
            return
        blank = blank_responses(example)
        places = [place for place in range(len(example.responses)) if place not in blank]
        kept = keep_responses(example, places)
        if kept is None:
            report.empty += 1
            return
        report.left_out += len(blank)
        self.examples.append(kept)


def _local_path(data_path: str | Path) -> Path | None:
    """Return the local path, or None if the name is a hub id.

    Raises:
        MissingFileError: If it is a local path and nothing is there.
    """
    path = Path(data_path).expanduser()
    if path.exists():
        return path
    if isinstance(data_path, str) and layouts.is_hub_id(data_path):
        return None
    raise MissingFileError(
        path,
        "Give a local file or folder or a data set on the Hugging Face hub; "
        "'hidden-context data download' fetches the paper's data",
    )


def is_single_table(data_path: str | Path) -> bool:
    """Tell whether the data is a single table without splits: a file or a saved table."""
    path = _local_path(data_path)
    return path is not None and layouts.is_single(path)


def files_of_split(data_path: str | Path, data_subset: str, split: str) -> list[Path]:
    """List the local files that a split is read from; none for data on the hub.

    The arguments are as in ``load_examples``.

    Returns:
        The files (or folders written by ``save_to_disk``), in reading order.

    Raises:
        MissingFileError: If the data or the split is not there.
        DataError: If a folder holds the split in two formats.
    """
    path = _local_path(data_path)
    return [] if path is None else [p.path for p in layouts.find_parts(path, data_subset, split)]


def available_splits(
    data_path: str | Path, data_subset: str = "both", *, revision: str | None = None
) -> list[str]:
    """Return the names of a data set's splits; the list is empty for a single table.

    The arguments are as in ``load_examples``; the names are sorted.

    Raises:
        MissingFileError: If there is no such data.
        DataError: If the hub cannot be reached.
    """
    path = _local_path(data_path)
    if path is None:
        return layouts.hub_splits(str(data_path), revision)
    return layouts.local_splits(path, data_subset)


def _iter_source(
    data_path: str | Path, data_subset: str, split: str, revision: str | None
) -> Iterator[tuple[str, int, Row, bool]]:
    """Yield ``(place, line, row, whether to filter by data_subset)`` of a split."""
    path = _local_path(data_path)
    if path is None:
        filtered = data_subset != "both" and not layouts.is_hh_rlhf(str(data_path))
        for line, row in layouts.iter_hub_rows(str(data_path), data_subset, split, revision):
            yield f"{data_path} ({split})", line, row, filtered
        return
    for part in layouts.find_parts(path, data_subset, split):
        place = str(part.path)
        rows: Iterable[tuple[int, Row]] = (
            layouts.iter_saved_rows(part.path) if part.path.is_dir() else iter_rows(part.path)
        )
        for line, item in rows:
            if part.added_subset and isinstance(item, dict) and item.get("data_subset") is None:
                item["data_subset"] = part.added_subset
            yield place, line, item, part.filtered


def load_examples(
    data_path: str | Path,
    data_subset: str = "both",
    split: str = "train",
    *,
    revision: str | None = None,
    limit: int = 0,
    on_malformed: OnMalformed = "error",
    seed: int = 0,
) -> ExampleData:
    """Read one split of preference data, each row as one example.

    Args:
        data_path: A hub id (``Anthropic/hh-rlhf``), a local file (JSON Lines, gzip, parquet, CSV)
            or a local folder: ``{data_subset}/{split}`` files, the split files themselves,
            ``harmless-base`` and ``helpful-base`` folders, or what ``save_to_disk`` wrote.
        data_subset: ``both`` for all rows. Otherwise the folder of that subset, or, where the
            data has no folders, the rows whose ``data_subset`` column says so.
        split: Which split; of no effect for a single file, which is read whole.
        revision: A branch, tag or commit on the hub.
        limit: How many examples to keep, 0 for all, spread evenly over the values of
            ``data_subset``, drawn at random, in their original order.
        on_malformed: Whether a malformed row is an error or skipped and counted.
        seed: Seed of the draw that ``limit`` makes.

    Returns:
        The usable examples and the report. An example with several responses loses its blank
        responses; a pair needs both sides.

    Raises:
        MissingFileError: If the data or the split is not there, saying what is.
        DataError: If a row is malformed (naming file, line and field) or no row remains.
        ConfigError: If an option cannot work.
    """
    data = ExampleData(report=ReadReport(source=_describe(data_path, data_subset, split)))
    report, subsets = data.report, Counter[str]()
    for place, line, row, filtered in _iter_source(data_path, data_subset, split, revision):
        try:
            example = read_row(require_row(row), file=place, line=line)
        except DataError as error:
            if on_malformed == "error":
                raise
            report.rows += 1
            report.malformed.append(str(error))
            continue
        subset = example.data_subset
        subsets[str(subset)] += 1
        if not filtered or subset == data_subset:
            data.add(example)
    _require_rows(data, data_subset, subsets)
    return limit_examples(data, limit, seed)


def _describe(data_path: str | Path, data_subset: str, split: str) -> str:
    if is_single_table(data_path):
        return str(data_path) if data_subset == "both" else f"{data_path} ({data_subset})"
    return f"{data_path} ({data_subset}, {split})"


def _require_rows(data: ExampleData, data_subset: str, subsets: Counter[str]) -> None:
    if data.examples:
        return
    report = data.report
    if report.rows == 0 and subsets:
        there = ", ".join(sorted(name for name in subsets if name != "None")) or "no such column"
        raise DataError(
            f"no row has data_subset {data_subset!r} (there: {there})",
            file=report.source,
            field="data_subset",
            remedy="Use --data_subset both to read all rows",
        )
    if report.rows == 0:
        remedy = "Give preference data with at least one row"
        raise DataError("the data set has no rows", file=report.source, remedy=remedy)
    raise DataError(f"no usable row: {report}".rstrip("."), file=report.source)


def limit_examples(data: ExampleData, limit: int, seed: int = 0) -> ExampleData:
    """Keep a number of examples, spread evenly over the data subsets, and update the report.

    Args:
        data: What was read.
        limit: How many to keep, 0 for all. A subset with fewer than its share leaves the
            rest to the others.
        seed: Seed of the draw within each subset.

    Returns:
        The same data with ``examples`` and the report's counts changed.

    Raises:
        ConfigError: If the limit is negative.
    """
    if limit < 0:
        raise ConfigError(f"A size limit cannot be negative: {limit} (0 keeps all).")
    examples, report = data.examples, data.report
    if 0 < limit < len(examples):
        groups: dict[str, list[int]] = {}
        for index, example in enumerate(examples):
            groups.setdefault(str(example.data_subset), []).append(index)
        chosen = sorted(_draw_evenly(groups, limit, seed))
        report.limited += len(examples) - len(chosen)
        data.examples = [examples[index] for index in chosen]
    report.kept = len(data)
    report.identical = sum(example.identical for example in data)
    return data


def _draw_evenly(groups: dict[str, list[int]], count: int, seed: int) -> list[int]:
    """Draw ``count`` indices, as equally over the groups as their sizes allow."""
    generator = random.Random(seed)
    drawn: list[int] = []
    # The smallest groups come first, so that larger groups can make up for the missing indices.
    order = sorted(groups, key=lambda name: len(groups[name]))
    for position, name in enumerate(order):
        share = (count - len(drawn)) // (len(order) - position)
        drawn += generator.sample(groups[name], min(share, len(groups[name])))
    return drawn
