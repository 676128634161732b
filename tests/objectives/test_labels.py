import dataclasses

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hidden_context.errors import ConfigError
from hidden_context.objectives import Labels

BY_PAIR = ("weight", "rating_chosen", "rating_rejected")


def labels(*counts):
    """Labels of pairs with so many annotations each, every value another."""
    total, pairs = sum(counts), len(counts)
    numbers = torch.arange(total, dtype=torch.float64)
    return Labels(
        preference=numbers / (total + 1),
        pair=torch.arange(pairs).repeat_interleave(torch.tensor(counts)),
        strength=numbers + 0.5,
        margin=10 * numbers,
        annotator=torch.arange(total) + 100,
        weight=1 + torch.arange(pairs, dtype=torch.float64),
        rating_chosen=20 + torch.arange(pairs, dtype=torch.float64),
        rating_rejected=-torch.arange(pairs, dtype=torch.float64),
    )


def test_preferences_alone_are_one_annotation_each():
    found = Labels.of_preferences(torch.tensor([1.0, 0.5, 0.2]))
    assert len(found) == 3
    assert found.pair.tolist() == [0, 1, 2]
    assert found.annotator.tolist() == [-1, -1, -1]
    assert found.weight.tolist() == [1, 1, 1]
    assert found.margin.tolist() == [0, 0, 0]
    for unsaid in (found.strength, found.rating_chosen, found.rating_rejected):
        assert bool(unsaid.isnan().all())
    assert found.vote_share.tolist() == pytest.approx([1, 0.5, 0.2])
    known = Labels.of_preferences(torch.ones(2), torch.tensor([4, -1]))
    assert known.annotator.tolist() == [4, -1]


@given(
    st.lists(st.integers(1, 4), min_size=1, max_size=6),
    st.lists(st.integers(0, 1000), max_size=8),
)
def test_selecting_takes_every_annotation_in_the_order_given(counts, wanted):
    source = labels(*counts)
    pairs = [place % len(counts) for place in wanted]
    found = source.select(torch.tensor(pairs, dtype=torch.long))
    assert len(found) == len(pairs)
    expected = [
        (new, place)
        for new, pair in enumerate(pairs)
        for place in range(sum(counts))
        if source.pair[place] == pair
    ]
    assert found.pair.tolist() == [new for new, _ in expected]
    for name in ("preference", "strength", "margin", "annotator"):
        values = getattr(source, name).tolist()
        assert getattr(found, name).tolist() == [values[place] for _, place in expected]
    for name in BY_PAIR:
        values = getattr(source, name).tolist()
        assert getattr(found, name).tolist() == [values[pair] for pair in pairs]


def test_a_mask_selects_like_its_indices():
    source = labels(2, 1, 3)
    by_mask = source.select(torch.tensor([True, False, True]))
    by_index = source.select(torch.tensor([0, 2]))
    for field in dataclasses.fields(Labels):
        first, second = (getattr(found, field.name) for found in (by_mask, by_index))
        assert first.tolist() == second.tolist()
    assert by_mask.annotator.tolist() == [100, 101, 103, 104, 105]


def test_mapping_reaches_every_tensor():
    source = labels(2, 1)
    doubled = source.map(lambda values: 2 * values)
    for field in dataclasses.fields(Labels):
        expected = (2 * getattr(source, field.name)).tolist()
        assert getattr(doubled, field.name).tolist() == expected
    assert doubled.pair.tolist() == [0, 0, 2]


def test_averages_over_a_pairs_annotations():
    source = labels(2, 1, 3)
    assert source.vote_share.tolist() == pytest.approx([0.5 / 7, 2 / 7, 4 / 7])
    table = torch.tensor([[0.0, 1.0], [4.0, 1.0], [7.0, 2.0], [1.0, 0.0], [2.0, 0.0], [6.0, 9.0]])
    assert source.mean_by_pair(table).tolist() == [[2, 1], [7, 2], [3, 3]]
    values = torch.arange(6.0, requires_grad=True)
    source.mean_by_pair(values)[2].backward()
    assert values.grad.tolist() == pytest.approx([0, 0, 0, 1 / 3, 1 / 3, 1 / 3])


@pytest.mark.parametrize(
    ("preference", "annotator"),
    [(torch.ones(2, 1), None), (torch.ones(2), torch.zeros(3)), (torch.tensor(1.0), None)],
)
def test_lists_of_other_shapes_are_refused(preference, annotator):
    with pytest.raises(ConfigError, match="two lists of the same length"):
        Labels.of_preferences(preference, annotator)
