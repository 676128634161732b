"""Which examples make up which optimiser step, and how a step is divided into forward passes."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hidden_context.data.importers import read_row
from hidden_context.data.labels import labels_of
from hidden_context.data.tokens.tokenize import tokenize_examples
from hidden_context.training.dataset import ExampleDataset, StepSampler, Tokens
from hidden_context.training.runner import Pass, bring_to, divide
from support.builders import preference_rows, tiny_tokenizer


def shares(sizes, votes_per_step, world_size=1, epoch=0, **options):
    """What each process gets: a list of its steps."""
    found = []
    for rank in range(world_size):
        sampler = StepSampler(sizes, votes_per_step, world_size=world_size, rank=rank, **options)
        sampler.epoch = epoch
        found.append(list(sampler))
        assert len(found[-1]) == len(sampler)
    return found


ONES = st.lists(st.just(1), min_size=1, max_size=50)
VOTES = st.lists(
    st.one_of(st.integers(1, 30), st.sampled_from([0.5, 2 / 3, 1.5])), min_size=1, max_size=50
)
SMALL, WINDOWS = st.integers(0, 3), st.sampled_from([0, 1, 2, 50])


@given(ONES | VOTES, st.integers(1, 12), st.integers(1, 3), WINDOWS, SMALL, SMALL)
def test_every_example_comes_once_an_epoch_in_steps_of_votes_however_many_processes_there_are(
    votes, step, world_size, window, seed, epoch
):
    """Each process takes every n-th example of a step, so that all have like lengths.

    Examples are never divided; one of more votes than a step counts as a whole step.
    """
    sizes = [int(7 * n % 23 + 2) for n in range(len(votes))]
    options = {"epoch": epoch, "window": window, "seed": seed, "votes": votes}
    (alone,) = shares(sizes, step, **options)
    whole = sum(min(vote, step) for vote in votes)
    assert len(alone) == min(math.ceil(whole / step - 1e-6), len(votes))  # in every epoch
    assert sorted(example for one in alone for example in one) == list(range(len(votes)))
    if max(votes) <= step and len(alone) < len(votes):
        # a step ends with the example that fills it
        totals = [sum(votes[example] for example in one) for one in alone]
        assert all(total < step + 2 * max(votes) for total in totals[:-1])
        assert set(votes) != {1} or set(totals[:-1]) <= {step}
    ranks = shares(sizes, step, world_size, **options)
    for one, dealt in zip(alone, zip(*ranks, strict=True), strict=True):
        if len(one) >= world_size:
            assert list(dealt) == [one[rank::world_size] for rank in range(world_size)]
        else:  # it is dealt again until each has one
            assert [len(part) for part in dealt] == [1] * world_size
            assert {example for part in dealt for example in part} == set(one)


def test_the_order_is_that_of_seed_and_epoch():
    sizes = [7 * n % 23 + 2 for n in range(40)]
    keys = [(seed, epoch) for seed in range(4) for epoch in range(4)]
    once, again = ([str(shares(sizes, 4, epoch=e, seed=s)) for s, e in keys] for _ in range(2))
    assert len(set(once)) == 16
    assert once == again


def test_a_window_is_sorted_by_length_and_cut_into_steps():
    sizes = [7 * n % 101 for n in range(101)]  # all different
    (steps,) = shares(sizes, 10, window=50)
    assert len(steps[-1]) == 1
    by_length = sorted(steps[:-1], key=lambda step: -sizes[step[0]])
    lengths = [sizes[pair] for step in by_length for pair in step]
    assert lengths == sorted(lengths, reverse=True)
    assert by_length != steps[:-1]  # long steps do not all come first


def test_windows_bring_like_lengths_together():
    sizes = torch.randint(10, 500, (800,), generator=torch.Generator().manual_seed(0)).tolist()
    padding, ordered = {}, {}
    for window in (0, 1, 5, 50):
        (steps,) = shares(sizes, 8, window=window)
        lengths = [[sizes[pair] for pair in step] for step in steps]
        padding[window] = sum(8 * max(step) - sum(step) for step in lengths) / sum(sizes)
        ordered[window] = all(step == sorted(step, reverse=True) for step in lengths)
    # one window of one step holds the same random pairs as none
    assert padding[0] == padding[1] > 0.6
    assert padding[5] < 0.4 * padding[0]
    assert padding[50] < 0.05 * padding[0]
    assert ordered == {0: False, 1: True, 5: True, 50: True}


@pytest.mark.parametrize("window", [0, 2, 50])
@pytest.mark.parametrize("place", [0, 3, 8])
def test_any_step_is_a_fair_sample(window, place):
    """Over epochs, the mean of a step of any place estimates the mean of all examples."""
    sizes = list(range(1, 76))  # the last of 9.4 steps has 3 pairs
    sampler, means, counts = StepSampler(sizes, 8, window=window), [], torch.zeros(75)
    epochs = 1500
    for epoch in range(epochs):
        sampler.epoch = epoch
        step = sampler.steps()[place]
        means.append(sum(sizes[pair] for pair in step) / 8)
        counts[step] += 1
    found = torch.tensor(means)
    error = float(found.std()) / epochs**0.5
    assert float(found.mean()) == pytest.approx(38.0, abs=4 * error)
    expected = epochs * 8 / 75
    assert float(((counts - expected) ** 2 / expected).sum()) < 75 + 5 * (2 * 75) ** 0.5
    if window == 50:
        assert float(found.std()) > 15  # a step's own lengths are alike


THREE = sum([0.1] * 30)  # sums of shares of votes are not quite whole


@pytest.mark.parametrize(
    ("votes", "step", "counts"),
    [
        ([THREE] * 12, 9, [3, 3, 3, 3]),
        ([THREE] * 12, 10, [3, 3, 4, 2]),
        ([3.0] * 13, 9, [3, 3, 3, 3, 1]),  # what does not fill a step comes last
        ([20.0] * 6, 4, [1] * 6),  # an example of more votes than a step stands alone
    ],
)
def test_votes_of_equal_examples_fill_steps(votes, step, counts):
    for epoch in range(3):
        ((*steps, last),) = shares([5] * len(votes), step, epoch=epoch, votes=votes)
        assert [*sorted(map(len, steps)), len(last)] == counts


def test_the_many_votes_of_one_example_are_one_step():
    """The others fill theirs as without it."""
    for epoch in range(20):
        votes = [10.0] + [1.0] * 6
        (steps,) = shares([9, 1, 1, 1, 1, 1, 1], 4, epoch=epoch, votes=votes, window=0)
        assert len(steps) == 3
        assert max(len(step) for step in steps) <= 4


# ---- Tokenized examples, their labels, and batches of them


PAIRS = [read_row(dict(row), line=10 + n) for n, row in enumerate(preference_rows(12, seed=1))]
RANKED = read_row(
    {
        "prompt": "Human: hi\n\nAssistant:",
        "responses": [" yes", " no", " or so"],
        "judgements": [{"ranks": [1, 2, 3]}, {"comparison": [2, 0]}],
    }
)


def dataset_of(examples, **options) -> ExampleDataset:
    tokens = tokenize_examples(examples, tiny_tokenizer(), 128)
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


def test_batches_keep_responses_as_they_are_and_number_labels_anew():
    dataset = dataset_of([*PAIRS[:3], RANKED])
    assert dataset.lines_of(3) == "4"  # where no source is known, the place
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


# ---- Dividing an optimiser step into forward passes


# for each example what its responses share, and what each has of its own
SHAPES = st.lists(
    st.tuples(st.integers(0, 12), st.lists(st.integers(1, 12), min_size=1, max_size=4)),
    min_size=1,
    max_size=20,
)
WAYS = ("tree", "padded")


def tokens_of(shapes) -> list[Tokens]:
    """Examples of a shared beginning and ends that differ from their first token on."""
    return [
        [[5 + n % 7 for n in range(shared)] + [20 + 20 * e + n for n in range(size)]
         for e, size in enumerate(ends)]
        for shared, ends in shapes
    ]  # fmt: skip


def tokens_in(way, shapes) -> int:
    """Tokens that run through the linear layers in one pass."""
    if way == "tree":
        return sum(shared + sum(ends) for shared, ends in shapes)
    return max(shared + max(ends) for shared, ends in shapes) * sum(len(e) for _, e in shapes)


@given(SHAPES, st.integers(1, 200), st.integers(0, 12), st.sampled_from(WAYS), st.data())
def test_every_example_stands_in_one_pass_within_the_budget(shapes, budget, more, way, data):
    """Linked examples are never parted; without links each example is its own group."""
    count = len(shapes)
    linked = data.draw(st.none() | st.lists(st.integers(0, 4), min_size=count, max_size=count))
    number = range(count) if linked is None else linked
    groups = [[e for e in range(count) if number[e] == each] for each in dict.fromkeys(number)]
    together = None if linked is None else groups
    passes = divide(tokens_of(shapes), way, budget, together)
    divided = bring_to(len(passes) + more, passes, together)
    assert len(divided) == len(passes) + more
    for division in (passes, divided):
        own = [each.examples for each in division if each.weight]
        assert sorted(example for examples in own for example in examples) == list(range(count))
        for group in groups:
            assert sum(bool(set(group) & set(examples)) for examples in own) == 1
    for each in passes:
        assert each.tokens == tokens_in(way, [shapes[example] for example in each.examples])
        assert each.weight == 1.0
        assert each.tokens <= budget or len({number[example] for example in each.examples}) == 1
    dealt = dict.fromkeys(number[example] for each in passes for example in each.examples)
    members = [[shapes[e] for e in range(count) if number[e] == each] for each in dealt]
    if way == "tree":
        sizes = [tokens_in(way, own) for own in members]
    else:
        sizes = [max(shared + max(ends) for shared, ends in own) for own in members]
    assert sizes == sorted(sizes, reverse=True)
    for each in divided:
        assert each.examples
        assert each.weight == 1.0 or (each.weight == 0.0 and len(each.examples) == 1)
    if any(each.weight == 0 for each in divided):  # only where nothing is left to divide
        assert sum(each.weight for each in divided) == len(groups)
    if not more:
        assert divided == passes
    # no token is counted twice where a pass is divided
    total = sum(each.tokens for each in passes)
    assert sum(each.tokens for each in divided if each.weight) == total


@given(SHAPES, st.integers(1, 100), st.integers(1, 100), st.sampled_from(WAYS))
def test_a_larger_budget_never_needs_more_passes(shapes, budget, more, way):
    tokens = tokens_of([(shared, (ends * 2)[:2]) for shared, ends in shapes])
    assert len(divide(tokens, way, budget + more)) <= len(divide(tokens, way, budget))
    assert len(divide(tokens, way, 10**6)) == 1
    assert len(divide(tokens, way, 1)) == len(shapes)


def test_the_largest_pass_is_divided_first():
    passes = [Pass([4, 2], 20), Pass([0, 1, 3], 30), Pass([5], 40)]
    divided = [Pass([4, 2], 20), Pass([0], 10), Pass([1, 3], 20), Pass([5], 40)]
    assert bring_to(4, passes) == divided
    assert [each.weight for each in bring_to(8, passes)] == [1.0] * 6 + [0.0] * 2
