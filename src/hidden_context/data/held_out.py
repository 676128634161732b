"""Training, validation and test sets of which no two share a prompt by construction."""

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
from hidden_context.data.splits import (
    EVALUATION_SALT,
    VALIDATION_SALT,
    prompt_overlap,
    split_by_prompt,
)
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
        prompt_overlap: Distinct prompts in both train (or validation) and test: 0 where the two
            were split here, but files that came split may share some.
        eval_fraction: The share of prompts held out for test here, 0 where test is its own file.
    """

    train: list[Example]
    validation: list[Example]
    test: list[Example]
    reports: dict[str, ReadReport] = field(default_factory=dict)
    prompt_overlap: int = 0
    eval_fraction: float = 0.0


def _check_fraction(name: str, value: float | None) -> None:
    if value is not None and not 0.0 <= value < 1.0:
        raise ConfigError(f"--{name} has to be at least 0 and below 1, not {value}.")


def check_sides(data: ExampleData, rest: list[Example], held_out: list[Example]) -> None:
    """Check that a division left examples on both sides.

    Raises:
        DataError: If one side is empty.
    """
    if rest and held_out:
        return
    prompts = len({example.prompt_key for example in data.examples})
    side = "held-out" if rest else "training"
    raise DataError(
        f"dividing {prompts} prompts leaves the {side} side without examples",
        file=data.report.source,
        remedy="Give more data or hold out another fraction",
    )


def _divide(
    data: ExampleData, fraction: float, salt: str, name: str
) -> tuple[ExampleData, ExampleData]:
    """Hold out a share of prompts; the rest keeps the reading's counts in its report."""
    rest, held_out = split_by_prompt(data.examples, fraction, salt)
    check_sides(data, rest, held_out)
    held_report = data.report.part(f"held out for {name}", held_out)
    data.report.rows -= len(held_out)
    data.report.kept = len(rest)
    data.report.identical -= held_report.identical
    return ExampleData(rest, data.report), ExampleData(held_out, held_report)


def _split_to_divide(
    data_path: str | Path, data_subset: str, split: str, other: str, revision: str | None
) -> str:
    """Return the one of two splits that is there, the first if both are or none is."""
    if is_single_table(data_path):
        return split
    there = available_splits(data_path, data_subset, revision=revision)
    return other if split not in there and other in there else split


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
) -> Splits:
    """Load the training, validation and test examples.

    Test examples are those of ``eval_split``. Where the data is one table, where both names are the
    same, or where only one of the two is there and ``eval_fraction`` is positive, that one is
    divided by a hash of the prompt; with an ``eval_fraction`` of 0 it is trained on whole.
    Validation examples are always taken from the training examples, by another hash of the prompt.

    Args:
        data_path: See ``load_examples``.
        data_subset: See ``load_examples``.
        train_split: The split to train on.
        eval_split: The split to test on.
        eval_fraction: Share of prompts to hold out for test; 0 for none. None is a tenth of a
            single table, or of a split that both names name.
        validation_fraction: Share of the remaining prompts to hold out for validation.
        train_limit: Examples to train on, 0 for all (the validation set shrinks in proportion).
        eval_limit: Examples to test on, 0 for all.
        revision: A branch, tag or commit on the hub.
        on_malformed: Whether a malformed row is an error or skipped and counted.
        seed: Of the draws that the limits make.

    Returns:
        The sets and their reports.

    Raises:
        MissingFileError: If a split is not there, with the remedy.
        DataError: If rows are malformed or a side would be left without examples.
        ConfigError: If fractions or limits cannot work.
    """
    _check_fraction("eval_fraction", eval_fraction)
    _check_fraction("validation_fraction", validation_fraction)
    load = partial(
        load_examples,
        data_path,
        data_subset,
        revision=revision,
        on_malformed=on_malformed,
        seed=seed,
    )
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
        if eval_fraction > 0:
            source = _split_to_divide(data_path, data_subset, train_split, eval_split, revision)
    fraction = DEFAULT_EVAL_FRACTION if eval_fraction is None else eval_fraction

    train = load(source)
    if not divided:
        test = load(eval_split)
    elif fraction > 0:
        train, test = _divide(train, fraction, EVALUATION_SALT, "eval")
    else:
        test = ExampleData()
    overlap = 0 if divided else prompt_overlap(train.examples, test.examples)

    validation = ExampleData()
    if validation_fraction > 0:
        train, validation = _divide(train, validation_fraction, VALIDATION_SALT, "validation")
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
        eval_fraction=fraction if divided else 0.0,
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
) -> ExampleData:
    """Load exactly the examples that ``load_splits`` holds out for test.

    Args:
        data_path: See ``load_examples``.
        data_subset: See ``load_examples``.
        split: The split to evaluate on.
        train_split: Where ``split`` is not there, the one that ``load_splits`` divided.
        eval_fraction: 0 or None for the whole split; otherwise the share of prompts that training
            held out of it.
        limit: Examples to keep, 0 for all.
        revision: A branch, tag or commit on the hub.
        on_malformed: Whether a malformed row is an error or skipped and counted.
        seed: Of the draw that the limit makes.

    Returns:
        The examples, in input order, and the report.

    Raises:
        MissingFileError: If the split is not there, with the remedy.
        DataError: If rows are malformed or none are held out.
        ConfigError: If the fraction or limit cannot work.
    """
    _check_fraction("eval_fraction", eval_fraction)
    source = split
    if eval_fraction:
        source = _split_to_divide(data_path, data_subset, split, train_split, revision)
    data = load_examples(
        data_path, data_subset, source, revision=revision, on_malformed=on_malformed, seed=seed
    )
    if eval_fraction:
        _, data = _divide(data, eval_fraction, EVALUATION_SALT, "eval")
    return limit_examples(data, limit, seed)
