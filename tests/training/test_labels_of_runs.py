"""Labels beyond hard pairs: ties, strengths, margins, ratings, weights and rankings."""

from __future__ import annotations

import itertools
import random
from functools import partial

import pytest
import torch

from hidden_context.data.importers import read_row
from hidden_context.data.labels import labels_of
from hidden_context.errors import DataError
from hidden_context.likelihood import Labels, LikelihoodOptions, make_likelihood
from hidden_context.training import TrainConfig
from hidden_context.training.labels import make_head, make_training_likelihood, training_labels
from support import runs
from support.builders import TOPICS, preference_rows
from support.runs import losses

# from the worst word to the best; each is one level better than the one before
GRADES = ("cruel", "vague", "clear", "kind")
START = 0.25  # of the first threshold and of every gap, in reward units


def graded_rows(count: int, seed: int, grades=GRADES):
    """Pairs of answers of any two grades; ``strength`` says by how many the chosen is better."""
    draw = random.Random(seed)
    pairs = itertools.cycle(itertools.product(range(len(grades)), repeat=2))
    rows = []
    for number, (first, second) in zip(range(count), pairs, strict=False):
        chosen, rejected = (f" An answer that is {grades[grade]}." for grade in (first, second))
        row = {"chosen": chosen, "rejected": rejected, "strength": first - second}
        row["prompt"] = f"\n\nHuman: What about {draw.choice(TOPICS)} {seed}{number}?\n\nAssistant:"
        rows.append(row | {"rating_chosen": 1.0 + first, "rating_rejected": 1.0 + second})
    return rows


NORMAL = {"reward_model_type": "mean_and_variance"}
frozen = partial(runs.frozen, probe_members=1, probe_epochs=30, **NORMAL)
fine_tuned = partial(runs.fine_tuned, learning_rate=1e-2, **NORMAL)


def raw_outputs(model, rows) -> torch.Tensor:
    """Raw outputs of both sides of each row, one after the other."""
    texts = [row["prompt"] + row[side] for row in rows for side in ("chosen", "rejected")]
    return model.raw_outputs(texts)


def probabilities(model, rows, strengths) -> torch.Tensor:
    """Probability of each strength for each row, of shape ``(B, S)``."""
    raw, labels = raw_outputs(model, rows), Labels.of_pairs(torch.ones(len(rows)))
    answers = [torch.full((len(rows),), float(strength)) for strength in strengths]
    nats = [
        model.likelihood.negative_log_likelihood(raw, labels.with_comparisons(strength=answer))
        for answer in answers
    ]
    return torch.stack(nats, dim=1).neg().exp().detach()


# ---- ties


def tied_rows(count: int, seed: int):
    """Answers of three grades; where both are of one grade nobody can tell, which is a tie."""
    rows = graded_rows(count, seed, grades=("cruel", "clear", "kind"))
    return [
        {name: row[name] for name in ("prompt", "chosen", "rejected")}
        | {"preference": (1 + (row["strength"] > 0) - (row["strength"] < 0)) / 2}
        for row in rows
    ]


@pytest.mark.parametrize("way", [fine_tuned, frozen])
def test_ties_get_a_threshold_of_their_own(learned, way):
    train, test = tied_rows(72, 1), tied_rows(27, 2)
    options = {"outcomes": "ties", "reward_model_type": "base"}  # its noise has a fixed unit
    options |= {"num_train_epochs": 4, "per_device_train_batch_size": 4}
    result, again = learned(way, train, test, **options)
    assert again.likelihood.outcomes.thresholds.tolist()[0] > START + 0.2
    # about log 3 or more where nothing is known: a third each of better, worse and tied
    assert result.metrics["loss"] < 0.6
    # a tie has no right side and counts half
    assert result.metrics["accuracy"] > 0.95 * 2 / 3 + 0.5 / 3
    found = probabilities(again, test, (1, 0, -1))
    assert found.sum(1).tolist() == pytest.approx([1.0] * 27, abs=1e-5)
    wanted = torch.tensor([{1.0: 0, 0.5: 1, 0.0: 2}[row["preference"]] for row in test])
    assert (found.argmax(1) == wanted).float().mean() > 0.9
    # the threshold learned, not the network alone, makes the better likelihood
    labels, raw = labels_of([read_row(row) for row in test]), raw_outputs(again, test)
    fresh = make_likelihood(again.head, LikelihoodOptions(levels=3))
    with torch.no_grad():
        loss, worse = (
            float(each.negative_log_likelihood(raw, labels).mean())
            for each in (again.likelihood, fresh)
        )
    assert loss == pytest.approx(result.metrics["loss"], abs=1e-4)
    assert worse > loss + 0.05


# ---- strengths


@pytest.mark.parametrize(("outcomes", "grades"), [("five_levels", 3), ("seven_levels", 4)])
def test_levels_come_out_in_order(learned, outcomes, grades):
    top, words = grades - 1, GRADES[-grades:]
    train, test = graded_rows(144, 1, words), graded_rows(48, 2, words)
    _, again = learned(frozen, train, test, outcomes=outcomes, probe_early_stopping=False)
    thresholds = again.likelihood.outcomes.thresholds
    assert thresholds.shape == (top,)
    assert bool((thresholds.diff() > 0).all())
    assert thresholds.tolist()[0] > 0
    strengths = torch.arange(-top, top + 1)
    found = probabilities(again, test, strengths.tolist())
    assert found.sum(1).tolist() == pytest.approx([1.0] * 48, abs=1e-5)
    true = torch.tensor([row["strength"] for row in test])
    for place, strength in enumerate(strengths):
        mean = found[true == strength].mean(0)
        assert int(mean.argmax()) == place
        # unimodal: probabilities fall away from the true level on either side
        assert bool((mean[: place + 1].diff() >= 0).all())
        assert bool((mean[place:].diff() <= 0).all())
    expected = (found * strengths).sum(1)
    by_level = [float(expected[true == strength].mean()) for strength in strengths]
    assert by_level == sorted(by_level)
    assert by_level == pytest.approx(strengths.tolist(), abs=0.5)
    assert by_level == pytest.approx([-value for value in by_level[::-1]], abs=0.4)


@pytest.mark.parametrize("way", [fine_tuned, frozen])
def test_strengths_beyond_the_levels_name_line_and_field(learned, way):
    rows = preference_rows(6)
    rows[4]["annotations"] = [{"strength": 1}, {"strength": -3}]
    blank = {"chosen": " ", "rejected": "x"}  # left out, so that places are not lines
    with pytest.raises(DataError, match=r"line 6, field 'strength': strength -3 is beyond 5") as e:
        learned(way, [blank, *rows], outcomes="five_levels")
    assert (e.value.line, e.value.field) == (6, "strength")
    assert "levels (up to 2)" in str(e.value)
    assert "--outcomes seven_levels" in str(e.value)


# ---- margins


@pytest.mark.parametrize("scale", [0.0, 0.5, 2.0])
def test_margins_raise_the_loss(scale):
    margins = torch.tensor([0.25, 0.5, 1.5, 3.0])
    rows = [row | {"margin": float(m)} for row, m in zip(preference_rows(4), margins, strict=True)]
    examples, config = [read_row(row) for row in rows], TrainConfig(margin_scale=scale)
    likelihood = make_training_likelihood(config, make_head(config), examples)
    raw = torch.randn(8, 1)
    loss = likelihood(raw, training_labels(config, likelihood, examples))
    expected = -torch.nn.functional.logsigmoid(raw[::2, 0] - raw[1::2, 0] - scale * margins)
    assert loss.tolist() == pytest.approx(expected.tolist(), rel=1e-4)


# ---- ratings


@pytest.mark.parametrize("way", [fine_tuned, frozen])
def test_ratings_pin_level_and_unit(learned, way):
    """Comparisons leave both open; with ratings from 1 to 4 the mean rewards are near them."""
    train, test = graded_rows(80, 1), graded_rows(32, 2)
    for row in train[::2]:  # half of the ratings are enough
        row["rating_rejected"] = None
    options = {"anchor_weight": 1.0, "num_train_epochs": 6, "probe_early_stopping": False}
    options |= {"probe_learning_rate": 1e-2, "probe_epochs": 40}
    rated, again = learned(way, train, test, **options)
    ratings = torch.tensor([row["rating_chosen"] for row in test])

    def error_of(model) -> float:
        means = model.head.distribution(raw_outputs(model, test)[::2]).mean
        return float((means - ratings).abs().mean())

    assert error_of(again) < 0.4
    if way is frozen:  # ratings that do not count pin nothing
        _, plain = learned(way, train, test, into="b", **options | {"anchor_weight": 0})
        assert plain.likelihood.options == LikelihoodOptions()
        assert error_of(plain) > 1.0
        noise = float(rated.model.likelihood.ratings.log_noise.detach().exp())
        assert noise < 0.9  # started at 1: the ratings here are exact
    assert rated.metrics["reward_mean"] == pytest.approx(2.5, abs=0.3)


# ---- weights


def test_examples_can_count_alike_however_many_votes_they_have(learned):
    """Every other pair has five votes, all the same: by example they count like one."""
    rows = preference_rows(16, seed=1)
    nested = [
        row | {"annotations": [{"preference": 1}] * 5} if number % 2 else row
        for number, row in enumerate(rows)
    ]
    options = {"probe_epochs": 3, "probe_batch_size": 96, "probe_early_stopping": False}
    plain, by_example = (
        learned(frozen, train, rows, into=how, weigh_by=how, **options)[0]
        for how, train in (("vote", rows), ("example", nested))
    )
    # features are standardised by how often responses are named, which changes little
    assert losses(by_example) == pytest.approx(losses(plain), abs=5e-3)
    assert by_example.metrics["loss"] == pytest.approx(plain.metrics["loss"], abs=5e-3)


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"outcomes": "five_levels"}, "strength"),
        ({"margin_scale": 1}, "margin"),
        ({"anchor_weight": 0.5}, "rating_chosen"),
    ],
)
def test_options_whose_labels_no_pair_has_are_refused(learned, options, field):
    ((name, value),) = options.items()
    message = f"field '{field}': no training example has what --{name} {value} learns"
    with pytest.raises(DataError, match=message):
        learned(fine_tuned, preference_rows(4), **options)
