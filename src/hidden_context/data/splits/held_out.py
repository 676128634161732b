"""Training, validation and test sets that share no prompt."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from hidden_context.data.example import Example
from hidden_context.data.report import ReadReport
from hidden_context.data.sources import (
    ExampleData,
    OnMalformed,
    available_splits,
    is_single_table,
    limit_examples,
    load_examples,
)
from hidden_context.data.splits.division import (
    BY_FIRST_TURN,
    EVALUATION_SALT,
    VALIDATION_SALT,
    SplitOptions,
    prompt_overlap,
    split_by_prompt,
)
from hidden_context.data.splits.manifest import require_division
from hidden_context.errors import ConfigError, DataError

DEFAULT_EVAL_FRACTION = 0.1


@dataclass
class Splits:
    """The sets of one training run.

    Attributes:
        train: Examples to learn from.
        validation: Examples for early stopping and choosing the best checkpoint (may be empty).
        test: Examples for the final figures; never used for a choice.
        reports: A ReadReport for each of the names above that has examples.
        prompt_overlap: Groups, such as first questions, in both train (or validation) and test: 0
            where the two were split here, but files that came split may share some.
        eval_fraction: The share held out for test here, 0 where test is its own file.
        options: What a group is.
    """

    train: list[Example]
    validation: list[Example]
    test: list[Example]
    reports: dict[str, ReadReport] = field(default_factory=dict)
    prompt_overlap: int = 0
    eval_fraction: float = 0.0
    options: SplitOptions = BY_FIRST_TURN


def _check_fractions(**fractions: float | None) -> None:
    for name, value in fractions.items():
        if value is not None and not 0.0 <= value < 1.0:
            raise ConfigError(f"--{name} has to be at least 0 and below 1, not {value}.")


def check_sides(
    data: ExampleData, rest: list[Example], held_out: list[Example], options: SplitOptions
) -> None:
    """Check that a division left examples on both sides.

    Raises:
        DataError: If one side is empty.
    """
    if rest and held_out:
        return
    groups = len({*options.keys(data.examples)})
    side = "held-out" if rest else "training"
    way = (
        "divide by another column, such as --split_by annotator or --split_by response"
        if groups == 1 or options.manifest is not None
        else "balance the sides with --split_balance"
    )
    raise DataError(
        f"dividing by the {options.unit} leaves no example on the {side} side (groups: {groups})",
        file=data.report.source,
        remedy=f"Give more data, hold out another fraction, take fewer folds, or {way}",
    )


def hold_out(
    data: ExampleData, fraction: float, salt: str, name: str, options: SplitOptions
) -> ExampleData:
    """Move a share of the groups out of ``data`` and return them as separate data.

    Args:
        data: The data that was read; it keeps the rest and the counts in its report.
        fraction: The share of the examples to hold out.
        salt: Names the purpose; see ``split_by_prompt``.
        name: The purpose, for the report.
        options: What a group is, and whether groups are balanced by size.

    Raises:
        DataError: If one side would be empty, or an example belongs to no group.
        ConfigError: If the manifest is of another division.
    """
    rest, held_out = split_by_prompt(data.examples, fraction, salt, options, data.report.source)
    check_sides(data, rest, held_out, options)
    source = f"{data.report.source} (held out for {name})"
    data.examples, data.report.rows = rest, data.report.rows - len(held_out)
    limit_examples(data, 0)  # updates the count of kept examples
    return limit_examples(ExampleData(held_out, ReadReport(source, len(held_out))), 0)


def load_splits(
    data_path: str | Path,
    data_subset: str = "both",
    *,
    train_split: str = "train",
    eval_split: str = "test",
    eval_fraction: float | None = None,
    validation_fraction: float = 0.0,
    train_limit: int = 0,
    eval_limit: int = 0,
    revision: str | None = None,
    on_malformed: OnMalformed = "error",
    seed: int = 0,
    options: SplitOptions = BY_FIRST_TURN,
) -> Splits:
    """Load the training, validation and test examples.

    Test examples come from ``eval_split``. Data without separate training and test splits is
    divided by a hash of the first user turn, or as ``options`` say. Such data is a single table,
    one split that is named for both, or the only one of the two splits that exists, if
    ``eval_fraction`` is positive. With an ``eval_fraction`` of 0, all of it is used for training.
    Validation examples always come from the training examples, by another hash.

    Args:
        data_path: See ``load_examples``.
        data_subset: See ``load_examples``.
        train_split: The split to train on.
        eval_split: The split to test on.
        eval_fraction: Share to hold out for test; 0 for none. None is a tenth of a single table,
            or of a split that is named for both.
        validation_fraction: Share of the rest to hold out for validation.
        train_limit: Examples to train on, 0 for all (the validation set shrinks in proportion).
        eval_limit: Examples to test on, 0 for all.
        revision: A branch, tag or commit on the hub.
        on_malformed: Whether a malformed row is an error or skipped and counted.
        seed: Seed of the draws that the limits make.
        options: What stays on one side, and whether groups are balanced by size.

    Returns:
        The sets and their reports.

    Raises:
        MissingFileError: If a split is not there, with the remedy.
        DataError: If rows are malformed or a side would be left without examples.
        ConfigError: If fractions or limits cannot work.
    """
    _check_fractions(eval_fraction=eval_fraction, validation_fraction=validation_fraction)
    load = partial(load_examples, data_path, data_subset, revision=revision, seed=seed)
    divided = train_split == eval_split or is_single_table(data_path)
    source = train_split
    if not divided and eval_fraction is not None:
        there = available_splits(data_path, data_subset, revision=revision)
        if eval_fraction > 0 and train_split in there and eval_split in there:
            raise ConfigError(
                f"{data_path} has both splits, {train_split} and {eval_split}: leave out "
                f"--eval_fraction, or give --eval_split {train_split} to divide that one."
            )
        divided = eval_fraction > 0 or eval_split not in there
        if eval_fraction > 0 and eval_split in there:
            source = eval_split  # the only one of the two
    return divide_sets(
        load(source, on_malformed=on_malformed),
        None if divided else load(eval_split, on_malformed=on_malformed),
        eval_fraction=DEFAULT_EVAL_FRACTION if eval_fraction is None else eval_fraction,
        validation_fraction=validation_fraction,
        train_limit=train_limit,
        eval_limit=eval_limit,
        seed=seed,
        options=options,
    )


def divide_sets(
    train: ExampleData,
    test: ExampleData | None,
    *,
    eval_fraction: float,
    validation_fraction: float,
    train_limit: int,
    eval_limit: int,
    seed: int,
    options: SplitOptions,
) -> Splits:
    """Split the data that was read into training, validation and test examples.

    The arguments are as in ``load_splits``. If ``test`` is None, ``eval_fraction`` of the training
    examples is held out as the test set.
    """
    overlap, held_out = 0, 0.0
    if test is not None:
        overlap = prompt_overlap(train.examples, test.examples, options)
    elif eval_fraction > 0:
        held_out = eval_fraction
        test = hold_out(train, eval_fraction, EVALUATION_SALT, "eval", options)
    else:
        test = ExampleData()
    validation = ExampleData()
    if validation_fraction > 0:
        validation = hold_out(train, validation_fraction, VALIDATION_SALT, "validation", options)
        if train_limit:
            share = round(train_limit * validation_fraction / (1 - validation_fraction))
            limit_examples(validation, max(share, 1), seed)
    limit_examples(train, train_limit, seed)
    limit_examples(test, eval_limit, seed)
    sets = {"train": train, "validation": validation, "test": test}
    return Splits(
        train.examples,
        validation.examples,
        test.examples,
        reports={name: data.report for name, data in sets.items() if data.examples},
        prompt_overlap=overlap,
        eval_fraction=held_out,
        options=options,
    )


def load_evaluation(
    data_path: str | Path,
    data_subset: str = "both",
    *,
    split: str = "test",
    train_split: str = "train",
    eval_fraction: float | None = None,
    limit: int = 0,
    revision: str | None = None,
    on_malformed: OnMalformed = "error",
    seed: int = 0,
    options: SplitOptions = BY_FIRST_TURN,
) -> ExampleData:
    """Load exactly the examples that ``load_splits`` holds out for test.

    Args:
        data_path: See ``load_examples``.
        data_subset: See ``load_examples``.
        split: The split to evaluate on.
        train_split: Where ``split`` is not there, the one that ``load_splits`` divided.
        eval_fraction: 0 or None for the whole split; otherwise the share of the split that
            training held out.
        limit: Examples to keep, 0 for all.
        revision: A branch, tag or commit on the hub.
        on_malformed: Whether a malformed row is an error or skipped and counted.
        seed: Seed of the draw that the limit makes.
        options: What training kept on one side, and the manifest it wrote.

    Returns:
        The examples, in input order, and the report.

    Raises:
        MissingFileError: If the split or the manifest is not there, with the remedy.
        DataError: If rows are malformed or none are held out.
        ConfigError: If the fraction or limit cannot work.
    """
    _check_fractions(eval_fraction=eval_fraction)
    if options.manifest is not None:
        require_division(options.manifest, EVALUATION_SALT)
    if eval_fraction and not is_single_table(data_path):
        there = available_splits(data_path, data_subset, revision=revision)
        if split not in there and train_split in there:
            split = train_split
    data = load_examples(
        data_path, data_subset, split, revision=revision, on_malformed=on_malformed, seed=seed
    )
    if eval_fraction:
        data.report.warn_of_losses()
        data = hold_out(data, eval_fraction, EVALUATION_SALT, "eval", options)
    return limit_examples(data, limit, seed)
