"""Comparisons of different responses that one annotator rated."""

from __future__ import annotations

from itertools import combinations

import pytest
import torch

from hidden_context import heads
from hidden_context.data.importers import read_row
from hidden_context.data.labels import labels_of
from hidden_context.data.tokens.tokenize import tokenize_examples
from hidden_context.likelihood import HeadLikelihood, Labels
from hidden_context.training.dataset import ExampleDataset
from hidden_context.training.links import Linker, Links, draw_pairs
from hidden_context.training.module import PreferenceModule
from hidden_context.training.runner import StepRunner
from support.builders import preference_rows, tiny_tokenizer
from support.runs import losses, spied

NAMES = "abcd"
# who rated what: a text each, and one example of three responses
RATINGS = [
    {"a": 3, "b": 1}, {"a": 1}, {"a": 2, "b": 2, "c": 5}, {"b": 4}, {"a": 3, "c": 1}, {"d": 2}, {},
]  # fmt: skip


JUDGED = [("a", 0, 1), ("a", 1, 4), ("a", 2, 4), ("c", 2, 3), ("c", 2, 2), (None, 1, 9)]


def rated(name, responses, judged):
    said = [{"annotator": who, "response": place, "rating": value} for who, place, value in judged]
    prompt = f"Human: {name}?\n\nAssistant:"
    judgements = said or [{"abstains": True}]
    return read_row({"prompt": prompt, "responses": responses, "judgements": judgements})


def examples_of(several: bool = True):
    """Texts rated one by one, and where ``several`` an example of three that a and c rated."""
    examples = [
        rated(number, [f" {number} is so."], [(who, 0, value) for who, value in said.items()])
        for number, said in enumerate(RATINGS)
    ]
    return [*examples, rated("all", [" yes", " no", " or so"], JUDGED)] if several else examples


def labels(several: bool = True):
    return labels_of(
        examples_of(several=several),
        lambda name: -1 if name is None else NAMES.index(str(name)),
    )


RAW = torch.randn(10, 1, generator=torch.Generator().manual_seed(3), dtype=torch.float64)


def linked_loss(links: Links | None, data, rows) -> float:
    """Sum of the weighted losses of a step's links, by the likelihood of a scalar head."""
    if links is None:
        return 0.0
    said = links.added_to(data.select(torch.tensor(rows)).without_ratings(), range(len(rows)))
    own_raw = torch.cat([RAW[data.offsets[row] : data.offsets[row + 1]] for row in rows])
    nats = HeadLikelihood(heads.make("base"))(own_raw, said)
    return float((said.weight.double() * nats).sum())


def full_sum(data) -> float:
    """Σ over annotators of 2/m times the sum over the pairs of their ratings, written out."""
    ratings, total = data.ratings, 0.0
    for annotator in range(len(NAMES)):
        own = (ratings.annotator == annotator).nonzero().squeeze(-1)
        for one, other in combinations(own.tolist(), 2):
            first, second = (int(ratings.response[each]) for each in (one, other))
            if first != second:
                share = 0.5 + 0.5 * float(torch.sign(ratings.value[one] - ratings.value[other]))
                logit = RAW[first] - RAW[second]
                nats = torch.nn.functional.softplus(logit) - share * logit
                total += 2 / len(own) * float(nats)
    return total


ANNOTATOR = torch.tensor([0, 1, 0, 0, -1, 2, 0, 0, 1, 0, 0, 2, 0, 1, 0, -1])


@pytest.mark.parametrize("count", [1, 7, 39])
def test_pairs_are_drawn_uniformly_within_annotators(count):
    """Three annotators of 9, 3 and 2 ratings: 36, 3 and 1 pairs, each as likely as any other."""
    every = {
        frozenset((one, other))
        for one, other in combinations(range(16), 2)
        if ANNOTATOR[one] == ANNOTATOR[other] >= 0
    }
    assert len(every) == 40
    generator, found = torch.Generator().manual_seed(1), dict.fromkeys(every, 0)
    draws = 8000
    for _ in range(-(-draws // count)):
        first, second, total = draw_pairs(ANNOTATOR, count, generator)
        assert (len(first), len(second), total) == (count, count, 40)
        for pair in zip(first.tolist(), second.tolist(), strict=True):
            found[frozenset(pair)] += 1
    expected = sum(found.values()) / 40
    chi_squared = sum((seen - expected) ** 2 / expected for seen in found.values())
    assert chi_squared < 39 + 4 * (2 * 39) ** 0.5


@pytest.mark.parametrize("count", [40, 41, 10**6])
def test_where_all_pairs_fit_each_is_taken_once(count):
    first, second, total = draw_pairs(ANNOTATOR, count, torch.Generator())
    pairs = {frozenset(pair) for pair in zip(first.tolist(), second.tolist(), strict=True)}
    assert (len(first), len(pairs), total) == (40, 40, 40)
    assert bool((ANNOTATOR[first] == ANNOTATOR[second]).all())
    for nobody in ([], [-1, -1], [0, 1, 2, -1]):
        first, second, total = draw_pairs(
            torch.tensor(nobody, dtype=torch.long), count, torch.Generator()
        )
        assert (len(first), len(second), total) == (0, 0, 0)


def test_an_annotator_of_very_many_ratings_is_drawn_from_rightly():
    """Pairs are numbered beyond what float32 holds."""
    annotator = torch.zeros(200_000, dtype=torch.long)
    first, second, total = draw_pairs(annotator, 5000, torch.Generator().manual_seed(0))
    assert total == 200_000 * 199_999 // 2
    assert bool((first < second).all())
    assert int(first.min()) >= 0
    assert 195_000 < int(second.max()) < 200_000
    # the larger of two is on average two thirds of the way
    assert float(second.double().mean()) / 200_000 == pytest.approx(2 / 3, abs=0.02)


def test_ratings_are_read_as_preferences_weighed_by_two_over_their_number():
    linker = Linker(labels(several=False), 100)
    assert linker.sizes.tolist() == [4, 3, 2, 1]
    assert linker.num_votes == 3 + 2 + 1
    links = linker.links(range(7), 0)
    assert links is not None
    said = links.comparisons
    assert len(said) == 6 + 3 + 1  # there is nothing to draw
    pairs = zip(said.annotator.tolist(), *links.examples.T.tolist(), strict=True)
    numbers = zip(said.preference.tolist(), said.weight.tolist(), strict=True)
    found = dict(zip(pairs, numbers, strict=True))
    assert found[0, 0, 1] == (1.0, pytest.approx(2 / 4))
    assert found[0, 1, 2] == (0.0, pytest.approx(2 / 4))
    assert found[0, 0, 4] == (0.5, pytest.approx(2 / 4))
    assert found[1, 0, 3] == (0.0, pytest.approx(2 / 3))
    assert found[2, 2, 4] == (1.0, pytest.approx(1.0))
    assert float(said.votes.sum()) == pytest.approx(6)
    # in all, the m ratings of an annotator weigh like m − 1 comparisons
    assert float(said.weight.sum()) == pytest.approx(6)


@pytest.mark.parametrize("size", [1, 2, 3, 5, 8])
def test_the_mean_over_all_steps_is_the_full_sum(size):
    """Every set of so many of eight examples, all its pairs: no chance is left."""
    data = labels()
    linker = Linker(data, 1000)
    sums = [
        linked_loss(linker.links(rows, 0), data, rows)
        for rows in map(list, combinations(range(8), size))
    ]
    expected = full_sum(data)
    if size == 1:  # an example by itself can say nothing of others, only its own responses
        assert 0 < 8 * sum(sums) / len(sums) < expected
        return
    assert sum(sums) / len(sums) == pytest.approx(size / 8 * expected, rel=1e-6)


@pytest.mark.parametrize("most", [1, 3])
def test_few_draws_estimate_the_full_sum_without_bias(most):
    data = labels()
    linker, generator = Linker(data, most, seed=5), torch.Generator().manual_seed(0)
    sums = []
    for step in range(2500):
        rows = torch.randperm(8, generator=generator)[:4].tolist()
        links = linker.links(rows, step)
        if links is not None:
            assert 1 <= len(links.comparisons) <= most
            assert float(links.comparisons.votes.sum()) == pytest.approx(11 * 4 / 8)
        sums.append(linked_loss(links, data, rows))
    found = torch.tensor(sums)
    error = float(found.std()) / len(sums) ** 0.5
    expected = full_sum(data) / 2
    assert error < 0.04 * expected
    assert float(found.mean()) == pytest.approx(expected, abs=4 * error)


def test_the_draw_is_that_of_seed_and_step():
    def drawn(seed, step) -> str:
        links = Linker(labels(), 3, seed).links(range(8), step)
        assert links is not None
        return str((links.examples.tolist(), links.responses.tolist()))

    draws = {(seed, step): drawn(seed, step) for seed in range(3) for step in range(5)}
    assert len(set(draws.values())) > 10
    assert all(drawn(*key) == value for key, value in draws.items())


def links_of(*examples: tuple[int, int]) -> Links:
    """Links between the first responses of examples."""
    places, said = torch.tensor(examples), Labels.of_pairs(torch.ones(len(examples)))
    return Links(places, torch.zeros_like(places), said.comparisons)


def test_examples_that_links_join_stand_in_one_group():
    assert links_of((0, 1)).groups(3) == [[0, 1], [2]]
    assert links_of((0, 4), (2, 1), (4, 3)).groups(6) == [[0, 3, 4], [1, 2], [5]]
    assert links_of((3, 2), (1, 0), (0, 3)).groups(4) == [[0, 1, 2, 3]]
    assert links_of((1, 1)).groups(2) == [[0], [1]]


def test_a_part_of_a_batch_has_the_links_between_its_examples():
    links = links_of((0, 7), (2, 1), (7, 4))
    own = labels().select(torch.tensor([7, 4, 0]))
    said = links.added_to(own, [7, 4, 0]).comparisons
    # responses of the three: 0 to 2, 3 and 4
    assert list(zip(said.first.tolist(), said.second.tolist(), strict=True)) == [(4, 0), (0, 3)]
    assert said.example.tolist() == [2, 0]
    assert len(links.added_to(own, [7, 6, 5]).comparisons) == 0


def test_a_dataset_deals_links_to_training_steps_alone():
    tokens = tokenize_examples(examples_of(), tiny_tokenizer(), 128)
    data = ExampleDataset(tokens, labels_of(tokens.examples), Linker(labels(), 4))
    assert len(data) == 8
    assert data.num_votes == 10 + 6 + 11  # ratings, those of the last example, and comparisons
    assert data.batch([0, 2]).links is None
    batch = data.batch([0, 2], step=3)
    assert batch.links is not None
    assert batch.together == [[0, 1]]
    assert len(batch.part([0, 1]).labels.comparisons) == len(batch.links.comparisons)
    assert len(batch.part([1]).labels.comparisons) == 0


def test_linked_texts_run_in_one_pass_whatever_the_budget(fit, monkeypatch):
    rows = [
        {"text": row["chosen" if number % 2 else "rejected"], "rating": number % 2 + number % 3 / 9,
         "annotator": "abc"[number % 3]}
        for number, row in enumerate(preference_rows(24, seed=7))
    ]  # fmt: skip
    steps = spied(monkeypatch, StepRunner, "step", lambda _, batch, prior: batch)
    passes = spied(monkeypatch, PreferenceModule, "loss", lambda _, raw, said, totals: said)
    found = []
    for budget in (1, 10**6):
        steps.clear()
        passes.clear()
        result = fit(
            rows, into=str(budget), tokens_per_batch=budget, max_comparisons=3,
            per_device_train_batch_size=6, optim="sgd", learning_rate=1e-2, max_steps=8,
        )  # fmt: skip
        found.append(losses(result))
        links = [0 if batch.links is None else len(batch.links.comparisons) for batch in steps]
        assert 0 < max(links) <= 3
        assert sum(links) == sum(len(labels.comparisons) for labels in passes)
        groups = [len(batch.together or range(6)) for batch in steps]
        assert any(1 < count < 6 for count in groups)
        assert len(passes) == (sum(groups) if budget == 1 else len(steps))
    assert len(steps) == 8
    assert found[0] == pytest.approx(found[1], abs=1e-5)
    assert min(found[0]) > 0
