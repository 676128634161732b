"""Labels as tensors that index responses: choosing examples and judgements, and averages."""

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hidden_context.errors import ConfigError
from hidden_context.likelihood import Labels, RatingLabels
from hidden_context.likelihood.labels import join_comparisons, no_ratings
from likelihood.making import comparisons, ratings

BY_COMPARISON = ("preference", "strength", "margin", "annotator", "weight", "votes")
BY_RATING = ("value", "annotator", "weight", "votes")


def labels(*shapes, members=None, seed=0):
    """Labels of examples of so many (responses, comparisons, ratings), every value another."""
    rng, compared, rated = np.random.default_rng(seed), [], []
    offsets = np.cumsum([0, *(size for size, _, _ in shapes)])
    for example, (start, (size, pairs, values)) in enumerate(zip(offsets, shapes, strict=False)):
        for n in range(len(compared), len(compared) + pairs):
            first, second = start + rng.choice(size, 2, replace=False)
            said = {
                "preference": n / 100,
                "strength": n + 0.5,
                "margin": 10 * n,
                "example": example,
            }
            counts = {"annotator": n + 100, "weight": 1 + n, "votes": 2 + n / 8}
            compared.append({"first": first, "second": second, **said, **counts})
        rated += [(start + place, example) for place in rng.integers(size, size=values)]
    d = torch.arange(len(rated))
    responses, examples = (torch.tensor([row[i] for row in rated]).long() for i in range(2))
    told = RatingLabels(
        responses, -d.double(), d + 500, 50 + d.double(), 0.5 + d.double(), examples
    )
    draws = None if members is None else torch.tensor(rng.integers(0, 3, (len(shapes), members)))
    return Labels(comparisons(*compared), told, torch.tensor(offsets), draws)


def tensors(labels):
    """All tensors of labels."""
    parts = (labels.comparisons, labels.ratings, labels)
    values = [value for part in parts for value in vars(part).values()]
    return [value for value in values if isinstance(value, torch.Tensor)]


def equal(one, other):
    """Whether two labels are the same to the bit; NaN equals NaN."""
    pairs = list(zip(tensors(one), tensors(other), strict=True))
    return all(
        x.dtype == y.dtype and torch.equal(x.nan_to_num(9e9), y.nan_to_num(9e9)) for x, y in pairs
    )


MIXED = labels((2, 2, 0), (4, 0, 3), (3, 5, 1), (2, 0, 0), (2, 1, 2), members=2)
shapes = st.lists(
    st.tuples(st.integers(2, 5), st.integers(0, 4), st.integers(0, 3)), min_size=1, max_size=6
)


def judgements(found, example):
    """What is said of one example, with responses counted from its own first."""
    start = found.offsets[example]
    said = []
    for part, names, places in (
        (found.comparisons, BY_COMPARISON, ("first", "second")),
        (found.ratings, BY_RATING, ("response",)),
    ):
        of = part.example == example
        values = [getattr(part, name)[of].tolist() for name in names]
        said.append([*values, *((getattr(part, name)[of] - start).tolist() for name in places)])
    return said


def test_pairs_alone_are_one_comparison_each():
    found = Labels.of_pairs(torch.tensor([1.0, 0.5, 0.2]))
    said = found.comparisons
    assert (len(found), found.num_responses, found.num_judgements) == (3, 6, 3)
    assert (said.first.tolist(), said.second.tolist()) == ([0, 2, 4], [1, 3, 5])
    assert said.example.tolist() == found.example.tolist() == [0, 1, 2]
    assert said.annotator.tolist() == found.annotator.tolist() == [-1, -1, -1]
    assert found.weight.tolist() == found.votes.tolist() == [1, 1, 1]
    assert said.margin.tolist() == [0, 0, 0]
    assert bool(said.strength.isnan().all())
    assert (len(said), len(found.ratings), found.draws) == (3, 0, None)
    assert found.offsets.tolist() == [0, 2, 4, 6]
    assert found.vote_share.tolist() == pytest.approx([1, 0.5, 0.2])
    known = Labels.of_pairs(torch.ones(2), torch.tensor([4, -1]))
    assert known.annotator.tolist() == [4, -1]
    assert len(Labels.of_pairs(torch.ones(0))) == 0


@given(shapes, st.lists(st.integers(0, 1000), max_size=8), st.booleans())
def test_selecting_takes_all_of_an_example_in_the_order_given(counts, wanted, draws):
    source = labels(*counts, members=3 if draws else None)
    examples = [place % len(counts) for place in wanted]
    found = source.select(torch.tensor(examples, dtype=torch.long))
    assert len(found) == len(examples)
    sizes = [counts[example][0] for example in examples]
    assert found.offsets.tolist() == [0, *np.cumsum(sizes).tolist()]
    assert found.num_responses == sum(sizes)
    for new, example in enumerate(examples):
        assert judgements(found, new) == judgements(source, example)
    assert found.num_judgements == sum(sum(counts[example][1:]) for example in examples)
    for part in (found.comparisons, found.ratings):
        assert part.example.tolist() == sorted(part.example.tolist())
    if draws:
        assert torch.equal(found.draws, source.draws[examples])
    else:
        assert found.draws is None


@given(shapes)
def test_selecting_all_changes_nothing_and_twice_is_once(counts):
    source = labels(*counts, members=2)
    every = torch.arange(len(source))
    assert equal(source.select(every), source)
    back = every.flip(0)
    assert equal(source.select(back).select(back), source)


def test_a_mask_selects_like_its_indices():
    by_mask = MIXED.select(torch.tensor([True, False, True, False, False]))
    assert equal(by_mask, MIXED.select(torch.tensor([0, 2])))


@given(shapes, st.data())
def test_taking_judgements_takes_the_responses_they_name(counts, data):
    source = labels(*counts, members=2)
    total, compared = source.num_judgements, len(source.comparisons)
    places = data.draw(st.lists(st.integers(0, max(total - 1, 0)), max_size=6 if total else 0))
    found, responses = source.take(torch.tensor(places, dtype=torch.long))
    first = [place for place in places if place < compared]
    second = [place - compared for place in places if place >= compared]
    assert (len(found.comparisons), len(found.ratings)) == (len(first), len(second))
    # the same judgements of the same responses, found under their new numbers
    for part, of, order, names in (
        (found.comparisons, source.comparisons, first, ("first", "second")),
        (found.ratings, source.ratings, second, ("response",)),
    ):
        for name in (field.name for field in dataclasses.fields(part)):
            values = getattr(part, name)
            if name in names:
                values = responses[values]
            assert torch.equal(values, getattr(of, name)[order])
    assert responses.tolist() == sorted(set(responses.tolist()))  # each once
    assert found.num_responses == len(responses)
    named = [found.comparisons.first, found.comparisons.second, found.ratings.response]
    assert torch.cat(named).unique().tolist() == list(range(len(responses)))
    # examples stay numbered as they were, and draws with them
    assert len(found) == len(source)
    assert torch.equal(found.draws, source.draws)


def test_mapping_reaches_every_tensor():
    doubled = MIXED.map(lambda values: 2 * values)
    assert len(tensors(doubled)) == 17
    for values, source in zip(tensors(doubled), tensors(MIXED), strict=True):
        assert torch.equal(values, 2 * source)
    assert labels((2, 1, 1)).map(lambda values: values).draws is None


def test_averages_over_an_examples_votes():
    source = labels((2, 2, 0), (3, 1, 0), (2, 3, 0))
    ones = torch.ones(6, dtype=torch.float64)
    source = source.with_comparisons(votes=ones)
    assert source.vote_share.tolist() == pytest.approx([0.005, 0.02, 0.04])
    values = torch.tensor([0.0, 4.0, 7.0, 1.0, 2.0, 6.0])
    assert source.mean_by_example(values).tolist() == [2, 7, 3]
    values = torch.arange(6.0, requires_grad=True)
    source.mean_by_example(values)[2].backward()
    assert values.grad.tolist() == pytest.approx([0, 0, 0, 1 / 3, 1 / 3, 1 / 3])
    # a judgement counts like the votes that it stands for, not like its weight
    votes = torch.tensor([3.0, 1.0, 1.0, 2.0, 0.5, 0.5], dtype=torch.float64)
    weighted = source.with_comparisons(votes=votes)
    values = torch.tensor([0.0, 4.0, 7.0, 1.0, 2.0, 6.0])
    assert weighted.mean_by_example(values).tolist() == [1, 7, 2]
    assert weighted.votes_by_example.tolist() == [4, 1, 3]


def test_ratings_are_judgements_behind_the_comparisons():
    assert MIXED.num_judgements == 14
    assert MIXED.example.tolist() == [0, 0, 2, 2, 2, 2, 2, 4, 1, 1, 1, 2, 4, 4]
    assert MIXED.votes_by_example.tolist() == [
        2 + 2.125,
        0.5 + 1.5 + 2.5,
        2.25 + 2.375 + 2.5 + 2.625 + 2.75 + 3.5,
        0,
        2.875 + 4.5 + 5.5,
    ]
    values = torch.zeros(14, dtype=torch.float64)
    values[8:11] = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)
    found = MIXED.mean_by_example(values)
    assert found[1].item() == pytest.approx((0.5 * 1 + 1.5 * 2 + 2.5 * 3) / 4.5)
    assert found[[0, 2, 4]].tolist() == [0, 0, 0]
    # of an example without judgements there is no mean
    assert found.isnan().tolist() == [False, False, False, True, False]
    # ratings have no share of votes
    assert MIXED.vote_share.isnan().tolist() == [False, True, False, True, False]
    assert MIXED.vote_share[4].item() == pytest.approx(0.07)


@given(shapes)
def test_every_example_with_judgements_may_count_like_one_vote(counts):
    source = labels(*counts)
    found = source.by_example()
    judged = torch.tensor([sum(count[1:]) > 0 for count in counts])
    np.testing.assert_allclose(found.votes_by_example, judged.double(), rtol=1e-12)
    assert bool(torch.isfinite(found.weight).all())
    # weights by vote stay, and so do means and shares
    np.testing.assert_allclose(found.weight / found.votes, source.weight / source.votes)
    values = torch.arange(source.num_judgements, dtype=torch.float64).sin()
    np.testing.assert_allclose(
        found.mean_by_example(values), source.mean_by_example(values), atol=1e-12
    )
    np.testing.assert_allclose(found.vote_share, source.vote_share, atol=1e-12)
    # a sum over judgements becomes one of examples' weighted means
    mean = source.mean_by_example(values * source.weight / source.votes)
    total = (found.weight * values).sum().item()
    assert total == pytest.approx(mean[judged].sum().item(), abs=1e-9)


def test_judged_by_one_annotator_or_by_anybody():
    for who, number in ((7, 7), (None, -1), (0, 0)):
        found = MIXED.judged_by(who)
        assert found.comparisons.annotator.tolist() == [number] * 8
        assert torch.equal(found.ratings.annotator, MIXED.ratings.annotator)
        assert torch.equal(found.comparisons.preference, MIXED.comparisons.preference)
        assert torch.equal(found.offsets, MIXED.offsets)
    assert MIXED.comparisons.annotator.tolist() == list(range(100, 108))


def test_swapping_exchanges_the_responses_and_nothing_else():
    found = MIXED.swapped()
    assert torch.equal(found.comparisons.first, MIXED.comparisons.second)
    assert torch.equal(found.comparisons.second, MIXED.comparisons.first)
    assert equal(found.swapped(), MIXED)
    for name in BY_COMPARISON:
        assert torch.equal(getattr(found.comparisons, name), getattr(MIXED.comparisons, name))
    assert found.ratings is MIXED.ratings


def test_without_ratings_the_comparisons_are_left():
    found = MIXED.without_ratings()
    assert (found.num_judgements, len(found.ratings)) == (8, 0)
    assert found.comparisons is MIXED.comparisons
    assert found.ratings.response.dtype == found.ratings.example.dtype == torch.long
    assert len(found.select(torch.tensor([2, 1])).comparisons) == 5


def test_sets_of_comparisons_join():
    one = comparisons({"first": 0, "second": 1}, {"first": 1, "second": 2, "margin": 0.5})
    other = comparisons({"first": 4, "second": 3, "annotator": 2, "example": 1})
    found = join_comparisons([one, other, comparisons()])
    assert (found.first.tolist(), found.second.tolist()) == ([0, 1, 4], [1, 2, 3])
    assert found.annotator.tolist() == [-1, -1, 2]
    assert found.margin.tolist() == [0, 0.5, 0]
    assert found.example.dtype == torch.long


def test_nothing_said_is_a_label_too():
    none = Labels(comparisons(), no_ratings(), torch.tensor([0, 3, 5]))
    assert (len(none), none.num_responses, none.num_judgements) == (2, 5, 0)
    assert none.by_example().weight.tolist() == none.votes.tolist() == []
    assert none.votes_by_example.tolist() == [0, 0]
    assert none.select(torch.tensor([1])).offsets.tolist() == [0, 2]
    found, responses = none.take(torch.zeros(0).long())
    assert (found.num_responses, responses.tolist()) == (0, [])
    rated = dataclasses.replace(none, ratings=ratings([4, 2], [1.0, 3.0], example=[0, 1]))
    assert rated.annotator.tolist() == [-1, -1]


@pytest.mark.parametrize(
    ("preference", "annotator"),
    [(torch.ones(2, 1), None), (torch.ones(2), torch.zeros(3)), (torch.tensor(1.0), None)],
)
def test_lists_of_other_shapes_are_refused(preference, annotator):
    with pytest.raises(ConfigError, match="two lists of the same length"):
        Labels.of_pairs(preference, annotator)
