"""``hidden-context data``: download, import, inspect and split preference data."""

from __future__ import annotations

import dataclasses
import itertools
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from hidden_context.cli.arguments import Main, command
from hidden_context.cli.main import code_without_verb, usage
from hidden_context.config import SPLIT_BALANCE_HELP, ReadOptions, option

if TYPE_CHECKING:
    from hidden_context.data.sources import ExampleData


_Paths = list[str]  # ``list`` is a field of the configuration that has paths


@dataclass(frozen=True)
class DownloadConfig:
    """Options of ``hidden-context data download``."""

    output: str = option("data", "folder to fill")
    only: Literal["data", "evaluations", "all"] = option("all", "which files")
    mirror: str | None = option(None, "local folder of the same layout to copy from")


@dataclass(frozen=True)
class ImportConfig:
    """Options of ``hidden-context data import``."""

    source: str | None = option(None, "name of the public data set", positional=True)
    files: _Paths | None = option(None, "its files, or a folder", positional=True)
    output: str | None = option(None, "JSON Lines to write (.jsonl or .jsonl.gz)")
    list: bool = option(False, "list the public data sets that are read, with their terms")


@dataclass(frozen=True, kw_only=True)
class InspectConfig(ReadOptions):
    """Options of ``hidden-context data inspect``."""

    data_path: str = option(dataclasses.MISSING, "local file or folder, or hub id", positional=True)
    split: str | None = option(None, "which split; all that are there if not given")
    revision: str | None = option(None, "branch, tag or commit on the hub")


@dataclass(frozen=True, kw_only=True)
class SplitConfig(InspectConfig):
    """Options of ``hidden-context data split``."""

    output: str = option(dataclasses.MISSING, "folder to write to")
    split: str | None = option(None, "which split to divide; the only one if not given")
    eval_fraction: float = option(0.1, "share of prompts to hold out for test")
    folds: int = option(0, "write this many folds for cross-validation instead")
    split_balance: str | None = option(None, SPLIT_BALANCE_HELP, bare="true")


@command(
    DownloadConfig,
    "hidden-context data download",
    "Fetch the paper's data, verified by git blob id, into a folder.",
)
def run_download(config: DownloadConfig) -> int:
    """Fetch the paper's data; return 1 if the source lacks some of the files."""
    from hidden_context.data.storage.download import download

    result = download(config.output, only=config.only, mirror=config.mirror, report=print)
    print(
        f"{len(result.fetched)} fetched, {len(result.present)} already there, "
        f"{len(result.missing)} missing; blob ids in {result.manifest}"
    )
    if result.missing:
        print("missing at the source: " + ", ".join(result.missing), file=sys.stderr)
    return 1 if result.missing else 0


@command(
    ImportConfig,
    "hidden-context data import",
    "Read a public data set as published and write its judgements, and a table of "
    "its annotators beside them.",
)
def run_import(config: ImportConfig) -> None:
    """Write a public data set of human judgements as rows of judgements."""
    from hidden_context.data.collections import NAMES, find_source, save_source
    from hidden_context.errors import ConfigError

    if config.list:
        for source in map(find_source, NAMES):
            print(f"{source.name}: {source.title}")
            for title, text in (
                ("holds", ", ".join(source.holds)),
                ("gives", source.gives),
                ("files", source.files),
                ("from", source.published),
                ("licence", source.licence),
                ("cite", source.citation),
            ):
                print(f"  {title:<8} {text}")
        return
    if config.source is None or not config.files or config.output is None:
        raise ConfigError(
            "A source, its files and --output are needed: hidden-context data import SOURCE "
            "FILES... --output out.jsonl; --list shows the sources."
        )
    source = find_source(config.source)
    report = save_source(source, config.files, config.output)
    print(f"{source.title}. Licence: {source.licence}. Published at {source.published}.")
    print(f"Please cite {source.citation}")
    print(report)


def _splits_to_read(config: InspectConfig) -> list[str]:
    """Return the split that is named, or all splits that are there."""
    from hidden_context.data.sources import available_splits

    if config.split is not None:
        return [config.split]
    splits = available_splits(config.data_path, config.data_subset, revision=config.revision)
    # A folder in which nothing is found is left to the reader, which words the error.
    return splits or ["train"]


def _read(config: InspectConfig, split: str) -> ExampleData:
    from hidden_context.data.sources import load_examples

    return load_examples(
        config.data_path,
        config.data_subset,
        split,
        revision=config.revision,
        on_malformed=config.on_malformed,
    )


def _print_summary(data: ExampleData, split_by: str | None) -> None:
    from hidden_context.data.splits.division import SplitOptions
    from hidden_context.data.summary import summarize_examples
    from hidden_context.data.votes.judges import people_of
    from hidden_context.data.votes.observed import Observing, observed
    from hidden_context.report.terminal.observed import observed_lines

    options = SplitOptions(split_by)
    summary = summarize_examples(data.examples, options)
    print(data.report)
    print(f"  columns: {', '.join(summary.columns)}")
    for title, counts in (
        ("data_subset", summary.data_subsets),
        ("objective", summary.objectives),
    ):
        if counts:
            print(f"  {title}: " + ", ".join(f"{name} {n}" for name, n in sorted(counts.items())))
    print(f"  responses: {summary.responses}; judgements: {summary.judgements}")
    people, of_judges = people_of(data.examples)
    if of_judges:
        print(f"  judgements by language models: {of_judges}; `check` compares them with people")
    keys = options.keys(people)
    for line in observed_lines(observed(people, keys, Observing(test_resamples=499))):
        print(f"  {line}")
    print(
        f"  prompts: {summary.prompts} distinct; {summary.repeated_prompt_rows} examples repeat "
        "an earlier example's prompt"
    )
    print(
        f"  groups: {len(summary.groups)}, each of one {options.unit}, which a division leaves "
        f"together; the largest holds {summary.groups[0]} of {summary.rows} examples"
    )
    print(f"  {'characters':<12}{'min':>8}{'median':>9}{'mean':>9}{'95 %':>9}{'max':>8}")
    for name, length in summary.lengths.items():
        print(
            f"  {name:<12}{length.minimum:>8}{length.median:>9.0f}{length.mean:>9.0f}"
            f"{length.percentile_95:>9.0f}{length.maximum:>8}"
        )


@command(
    InspectConfig,
    "hidden-context data inspect",
    "Read preference data and show what is in it and what was left out.",
)
def run_inspect(config: InspectConfig) -> None:
    """Print what a data set is like."""
    for split in _splits_to_read(config):
        _print_summary(_read(config, split), config.split_by)


def _check_targets(config: SplitConfig, split: str, targets: Sequence[Path]) -> None:
    """Refuse to write over what is read.

    Raises:
        ConfigError: If a file to write is part of the data set that is divided.
    """
    from hidden_context.data.sources import available_splits, files_of_split
    from hidden_context.errors import ConfigError

    there = available_splits(config.data_path, config.data_subset, revision=config.revision)
    sources = {
        file.resolve()
        for name in {split, *there}
        for file in files_of_split(config.data_path, config.data_subset, name)
    }
    for target in targets:
        if target.resolve() in sources:
            raise ConfigError(
                f"{target} is part of the data to divide and would be overwritten: name another "
                "folder with --output."
            )


@command(
    SplitConfig,
    "hidden-context data split",
    "Divide preference data so that no first question is on both sides, into "
    "OUTPUT/SUBSET/{train,test}.jsonl.gz.",
)
def run_split(config: SplitConfig) -> None:
    """Divide a data set by a hash of the first user turn, or otherwise, into files."""
    from hidden_context.data.splits.division import SplitOptions, folds, split_by_prompt
    from hidden_context.data.splits.held_out import check_sides
    from hidden_context.data.storage.files import write_jsonl
    from hidden_context.data.storage.locks import exclusive
    from hidden_context.errors import ConfigError

    splits = _splits_to_read(config)
    if len(splits) > 1:
        raise ConfigError(
            f"{config.data_path} has the splits {', '.join(splits)}: name one with --split."
        )
    root = Path(config.output)
    folders = [root / f"fold_{number}" for number in range(config.folds)] or [root]
    targets = [
        folder / config.data_subset / f"{side}.jsonl.gz"
        for folder in folders
        for side in ("train", "test")
    ]
    _check_targets(config, splits[0], targets)
    data = _read(config, splits[0])
    print(data.report)
    options = SplitOptions.of(config.split_by, config.split_balance, config.data_path)
    source = data.report.source
    if config.folds:
        divisions = folds(data.examples, config.folds, options=options, source=source)
    else:
        fraction = config.eval_fraction
        divisions = [split_by_prompt(data.examples, fraction, options=options, source=source)]
    for rest, held_out in divisions:
        check_sides(data, rest, held_out, options)
    with exclusive(root / config.data_subset):
        for path, examples in zip(targets, itertools.chain(*divisions), strict=True):
            count = write_jsonl(path, (example.columns for example in examples))
            print(f"{path}: {count} examples")


_VERBS: dict[str, tuple[Main, str]] = {
    "download": (run_download, "fetch the paper's data and verify it"),
    "import": (run_import, "read a public data set of human judgements as published"),
    "inspect": (run_inspect, "show what a data set holds and what would be left out"),
    "split": (run_split, "divide a data set by prompt into train and test files"),
}


def main(argv: Sequence[str]) -> int:
    """Run ``hidden-context data VERB …`` and return its exit code."""
    text = usage("hidden-context data", {verb: does for verb, (_, does) in _VERBS.items()})
    exit_code = code_without_verb(argv, _VERBS, text, " of data")
    return _VERBS[argv[0]][0](argv[1:]) if exit_code is None else exit_code
