"""Tokenized examples, their labels, and batches of them."""

from __future__ import annotations

import pytest
import torch

from hidden_context import heads
from hidden_context.data.importers import read_row
from hidden_context.data.labels import labels_of
from hidden_context.data.report import ReadReport
from hidden_context.data.tokenize import tokenize_examples
from hidden_context.training.dataset import ExampleDataset
from hidden_context.training.fitted import reward_scale
from hidden_context.training.schedules import cosine_factor, paper_schedule, step_factor
from support.builders import preference_rows, tiny_tokenizer

PAIRS = [read_row(dict(row), line=10 + n) for n, row in enumerate(preference_rows(12, seed=1))]
RANKED = read_row(
    {
        "prompt": "Human: hi\n\nAssistant:",
        "responses": [" yes", " no", " or so"],
        "judgements": [{"ranks": [1, 2, 3]}, {"comparison": [2, 0]}],
    }
)


def dataset_of(examples, limit=128, report=None, **options) -> ExampleDataset:
    tokens = tokenize_examples(examples, tiny_tokenizer(), limit, report=report)
    return ExampleDataset(tokens, labels_of(tokens.examples), **options)


def test_items_are_the_tokens_of_every_response_and_may_come_longest_first():
    tokenizer = tiny_tokenizer()
    plain, by_length = dataset_of(PAIRS), dataset_of(PAIRS, sort_by_length=True)
    assert plain.examples == PAIRS
    sizes = [sum(map(len, by_length[place])) for place in range(12)]
    assert sizes == by_length.sizes == sorted(plain.sizes, reverse=True)
    assert sorted(map(repr, by_length.examples)) == sorted(map(repr, PAIRS))
    for dataset in (plain, by_length):
        for place, example in enumerate(dataset.examples):
            assert dataset[place] == tokenizer(list(example.texts))["input_ids"]


def test_examples_are_those_left_after_dropping():
    tokenizer = tiny_tokenizer()
    lengths = [max(map(len, tokenizer(list(pair.texts))["input_ids"])) for pair in PAIRS]
    limit = sorted(lengths)[5]
    report = ReadReport("here", rows=12, kept=12)
    dataset = dataset_of(PAIRS, limit, report=report)
    kept = [row for row, length in enumerate(lengths) if length <= limit]
    assert dataset.examples == [PAIRS[row] for row in kept]
    assert [dataset.lines_of(place) for place in range(len(kept))] == [str(10 + r) for r in kept]
    assert report.kept == len(dataset) == len(dataset.labels) == len(kept)
    assert report.too_long == 12 - len(kept)
    assert dataset.groups() == {
        name: [getattr(PAIRS[row], name) for row in kept] for name in ("data_subset", "objective")
    }


def test_nothing_may_be_left():
    dataset = dataset_of(PAIRS, 1, sort_by_length=True)
    assert (len(dataset), dataset.labels.num_judgements, dataset.num_votes) == (0, 0, 0.0)


def test_batches_keep_responses_as_they_are_and_number_labels_anew():
    dataset = dataset_of([*PAIRS[:3], RANKED])
    assert dataset.votes == [1, 1, 1, 3]  # a ranking of three is two votes, a comparison one more
    assert dataset.num_votes == 6
    batch = dataset.batch([3, 1])
    assert batch.rows == [3, 1]
    assert batch.tokens == [dataset[3], dataset[1]]
    assert batch.labels.offsets.tolist() == [0, 3, 5]
    assert batch.labels.comparisons.first.tolist() == [0, 0, 1, 2, 3]
    assert batch.labels.comparisons.second.tolist() == [1, 2, 2, 0, 4]
    part = batch.part([1])
    assert (part.rows, part.tokens) == ([1], [dataset[1]])
    assert part.labels.comparisons.first.tolist() == [0]
    assert batch.together is None


def test_lines_are_places_where_no_source_is_known():
    assert dataset_of([RANKED]).lines_of(0) == "1"


def test_reward_scale_is_that_of_mean_rewards():
    scale = reward_scale(heads.make("base"), torch.tensor([[1.0], [3.0], [5.0], [7.0]]))
    assert (scale.mean, scale.texts) == (4.0, 4)
    assert scale.stddev == pytest.approx(5**0.5)


def test_schedules_hold_their_last_value():
    assert cosine_factor(0, 0) == 1.0
    assert cosine_factor(99, 10) == pytest.approx(0.1)
    assert step_factor(99, 10) == 0.01
    assert [step_factor(t, 2) for t in range(3)] == [1.0, 0.1, 0.01]
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=2.0)
    schedule = paper_schedule("cosine", optimizer, 2)
    for _ in range(2):
        optimizer.step()
        schedule.step()
    assert schedule.get_last_lr() == pytest.approx([0.2])
