"""Which examples make up which optimiser step."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hidden_context.data.importers import read_row
from hidden_context.data.labels import labels_of
from hidden_context.data.report import ReadReport
from hidden_context.data.tokens.tokenize import tokenize_examples
from hidden_context.training.dataset import ExampleDataset
from hidden_context.training.runner import StepRunner
from hidden_context.training.sampler import StepSampler
from support.builders import preference_rows, tiny_tokenizer
from support.runs import StopAfter, spied

SIZES = st.lists(st.integers(2, 60), min_size=1, max_size=50)


def shares(sizes, pairs_per_step, world_size, epoch=0, **options):
    """What each process gets: a list of its steps."""
    found = []
    for rank in range(world_size):
        sampler = StepSampler(sizes, pairs_per_step, world_size=world_size, rank=rank, **options)
        sampler.epoch = epoch
        steps = list(sampler)
        assert len(steps) == len(sampler)
        found.append(steps)
    return found


@given(
    SIZES,
    st.integers(3, 12),
    st.integers(1, 3),
    st.sampled_from([0, 1, 2, 50]),
    st.integers(0, 5),
    st.integers(0, 3),
)
def test_every_pair_comes_once_an_epoch(sizes, pairs_per_step, world_size, window, seed, epoch):
    ranks = shares(sizes, pairs_per_step, world_size, epoch, window=window, seed=seed)
    steps = [[pair for part in parts for pair in part] for parts in zip(*ranks, strict=True)]
    assert len(steps) == math.ceil(len(sizes) / pairs_per_step)
    assert all(len(step) == pairs_per_step for step in steps[:-1])
    rest = len(sizes) - pairs_per_step * (len(steps) - 1)
    # a last step with fewer pairs than processes is dealt again until each has one
    assert len(steps[-1]) == max(rest, world_size)
    assert len(set(steps[-1])) == rest
    seen = [pair for step in steps[:-1] for pair in step] + sorted(set(steps[-1]))
    assert sorted(seen) == list(range(len(sizes)))
    for parts in zip(*ranks, strict=True):
        counts = [len(part) for part in parts]
        assert min(counts) >= 1
        assert max(counts) - min(counts) <= 1


@given(SIZES, st.integers(3, 12), st.sampled_from([0, 1, 2, 50]), st.integers(0, 9))
def test_steps_are_the_same_for_any_number_of_processes(sizes, pairs_per_step, window, epoch):
    """Each process takes every n-th pair of a step, so that all have like lengths."""
    (alone,) = shares(sizes, pairs_per_step, 1, epoch, window=window, seed=4)
    for world_size in (2, 3):
        ranks = shares(sizes, pairs_per_step, world_size, epoch, window=window, seed=4)
        for number, step in enumerate(alone):
            dealt = [part[number] for part in ranks]
            if len(step) >= world_size:
                assert dealt == [step[rank::world_size] for rank in range(world_size)]
            else:
                assert {pair for part in dealt for pair in part} == set(step)


def test_the_order_is_that_of_seed_and_epoch():
    sizes = [7 * n % 23 + 2 for n in range(40)]
    orders = {
        (seed, epoch): str(shares(sizes, 4, 1, epoch, seed=seed))
        for seed in range(4)
        for epoch in range(4)
    }
    assert len(set(orders.values())) == 16
    for (seed, epoch), order in orders.items():
        assert str(shares(sizes, 4, 1, epoch, seed=seed)) == order


def test_a_window_is_sorted_by_length_and_cut_into_steps():
    sizes = [7 * n % 101 for n in range(101)]  # all different
    (steps,) = shares(sizes, 10, 1, window=50)
    assert len(steps[-1]) == 1
    by_length = sorted(steps[:-1], key=lambda step: -sizes[step[0]])
    lengths = [sizes[pair] for step in by_length for pair in step]
    assert lengths == sorted(lengths, reverse=True)
    assert by_length != steps[:-1]  # long steps do not all come first


def test_windows_bring_like_lengths_together():
    generator = torch.Generator().manual_seed(0)
    sizes = torch.randint(10, 500, (800,), generator=generator).tolist()
    padding = {}
    for window in (0, 1, 5, 50):
        (steps,) = shares(sizes, 8, 1, window=window)
        padding[window] = sum(
            max(sizes[pair] for pair in step) - sizes[at] for step in steps for at in step
        ) / sum(sizes)
        for step in steps:
            if window:
                assert [sizes[p] for p in step] == sorted((sizes[p] for p in step), reverse=True)
    # one window of one step holds the same random pairs as none
    assert padding[0] == padding[1] > 0.6
    assert padding[5] < 0.4 * padding[0]
    assert padding[50] < 0.05 * padding[0]
    (random,) = shares(sizes, 8, 1, window=0)
    assert any([sizes[p] for p in s] != sorted((sizes[p] for p in s), reverse=True) for s in random)


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
    chi_squared = float(((counts - expected) ** 2 / expected).sum())
    assert chi_squared < 75 + 5 * (2 * 75) ** 0.5
    if window == 50:
        assert float(found.std()) > 15  # a step's own lengths are alike


VOTES = st.lists(
    st.one_of(st.integers(1, 30), st.sampled_from([0.5, 2 / 3, 1.5])), min_size=1, max_size=50
)


@given(VOTES, st.integers(1, 12), st.integers(1, 3), st.sampled_from([0, 1, 2, 50]))
def test_steps_are_of_votes_and_equally_many_in_every_epoch(votes, step, world_size, window):
    """Examples are never divided; one of more votes than a step counts as a whole step."""
    sizes = [int(7 * n % 23 + 2) for n in range(len(votes))]
    whole = sum(min(vote, step) for vote in votes)
    count = min(math.ceil(whole / step - 1e-6), len(votes))
    for epoch in range(3):
        ranks = shares(sizes, step, world_size, epoch, votes=votes, window=window)
        steps = [[e for part in parts for e in part] for parts in zip(*ranks, strict=True)]
        assert len(steps) == count
        assert all(part for parts in zip(*ranks, strict=True) for part in parts)
        assert sorted({e for one in steps for e in one}) == list(range(len(votes)))
        assert sum(len(set(one)) for one in steps) == len(votes)
        if max(votes) <= step and count < len(votes):
            # a step ends with the example that fills it
            totals = [sum(votes[e] for e in set(one)) for one in steps]
            assert all(total < step + 2 * max(votes) for total in totals[:-1])


def test_votes_of_equal_examples_fill_steps_exactly():
    """Twelve examples of three votes each, in steps of nine: four steps of three."""
    votes = [sum([0.1] * 30)] * 12  # sums of shares of votes are not quite whole
    sampler = StepSampler([5] * 12, 9, votes)
    assert [len(step) for step in sampler.steps()] == [3, 3, 3, 3]
    *steps, last = StepSampler([5] * 12, 10, votes).steps()
    assert sorted(len(step) for step in steps) == [3, 3, 4]
    assert len(last) == 2
    # what does not fill a step comes last
    assert [len(step) for step in StepSampler([5] * 13, 9, [3.0] * 13).steps()] == [3, 3, 3, 3, 1]


def test_examples_of_more_votes_than_a_step_stand_alone():
    sampler = StepSampler([5] * 6, 4, [20.0] * 6)
    assert sorted(sampler.steps()) == [[n] for n in range(6)]
    # the ten votes of one example are a step; the others fill theirs as without it
    for epoch in range(20):
        sampler = StepSampler([9, 1, 1, 1, 1, 1, 1], 4, [10.0] + [1.0] * 6, window=0)
        sampler.epoch = epoch
        steps = sampler.steps()
        assert len(steps) == 3
        assert sorted(example for step in steps for example in step) == list(range(7))
        assert max(len(step) for step in steps) <= 4


@pytest.mark.parametrize("stop", [2, 3, 5, 6, 8])
def test_a_resumed_run_goes_on_with_the_next_pairs(fit, monkeypatch, stop):
    """22 pairs in steps of 8: checkpoints within epochs, and at the end of one (step 3 and 6)."""
    seen = spied(monkeypatch, StepRunner, "step", lambda _, batch, prior: list(batch.rows))
    rows, options = preference_rows(22, seed=3), {"num_train_epochs": 3, "save_steps": 1}
    with pytest.raises(KeyboardInterrupt):
        fit(rows, callbacks=[StopAfter(stop)], **options)
    first = list(seen)
    seen.clear()
    fit(rows, resume_from_checkpoint="true", **options)
    # the step after which the run was ended had not been saved yet
    resumed = first[: stop - 1] + seen
    assert seen[0] == first[stop - 1]
    sampler = StepSampler([0] * 22, 8)
    assert [len(step) for step in resumed] == [8, 8, 6] * 3
    for epoch in range(3):
        steps = resumed[3 * epoch : 3 * epoch + 3]
        assert sorted(pair for step in steps for pair in step) == list(range(22))
        sampler.epoch = epoch
        # the last step is the rest of the permutation, whatever the lengths are
        assert steps[-1] == sampler.steps()[-1]
    assert len({str(resumed[n : n + 3]) for n in (0, 3, 6)}) == 3


# ---- Tokenized examples, their labels, and batches of them


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
