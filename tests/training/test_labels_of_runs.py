"""Labels beyond hard pairs: ties, strengths, margins, ratings, weights and rankings."""

from __future__ import annotations

import dataclasses
import itertools
import random

import pytest
import torch
from torch.special import log_ndtr

from hidden_context import heads
from hidden_context.data.expand import expand_pairs
from hidden_context.data.importers import read_row
from hidden_context.data.labels import labels_of
from hidden_context.errors import ConfigError, DataError
from hidden_context.likelihood import Labels, LikelihoodOptions, make_likelihood
from hidden_context.models import RewardModel
from hidden_context.models.likelihood_file import members_of
from hidden_context.training import TrainConfig, run
from hidden_context.training.labels import make_head, make_training_likelihood, training_labels
from support.builders import TOPICS, preference_rows, train_config

# from the worst word to the best; each is one level better than the one before
GRADES = ("cruel", "vague", "clear", "kind")
START = 0.25  # of the first threshold and of every gap, in reward units


def prompt_of(draw: random.Random, number: str) -> str:
    return f"\n\nHuman: What about {draw.choice(TOPICS)} {number}?\n\nAssistant:"


def graded_rows(count: int, seed: int, grades=GRADES, words: int = 1):
    """Pairs of answers of any two grades; ``strength`` says by how many the chosen is better."""
    draw = random.Random(seed)
    pairs = itertools.cycle(itertools.product(range(len(grades)), repeat=2))
    rows = []
    for number, (first, second) in zip(range(count), pairs, strict=False):
        texts = [f" An answer that is {grades[grade]}." for grade in (first, second)]
        row = {"prompt": prompt_of(draw, f"{seed}{number}")}
        row |= {"chosen": texts[0], "rejected": texts[1], "strength": first - second}
        rows.append(row | {"rating_chosen": 1.0 + first, "rating_rejected": 1.0 + second})
    return rows


def frozen(backbones, folder, **options):
    defaults = {"freeze_backbone": True, "probe_learning_rate": 5e-3, "probe_members": 1}
    defaults |= {"probe_weight_decay": 0.01, "probe_batch_size": 32, "probe_dropout": 0.0}
    defaults |= {"probe_epochs": 30, "objective_learning_rate": 0.05, "quiet": True}
    defaults |= {"reward_model_type": "mean_and_variance"}
    return train_config(backbones("gpt2"), folder, **(defaults | options))


def fine_tuned(backbones, folder, **options):
    defaults = {"learning_rate": 1e-2, "num_train_epochs": 6, "objective_learning_rate": 0.05}
    defaults |= {"reward_model_type": "mean_and_variance", "quiet": True}
    return train_config(backbones("gpt2", spread=1.0), folder, **(defaults | options))


def raw_outputs(model, rows) -> torch.Tensor:
    """Raw outputs of both sides of each row, one after the other."""
    texts = [row["prompt"] + row[side] for row in rows for side in ("chosen", "rejected")]
    return model.raw_outputs(texts)


def said(labels: Labels, **values) -> Labels:
    """The same labels, where every comparison said something else."""
    changed = {
        name: torch.full((len(labels.comparisons),), float(value)) for name, value in values.items()
    }
    compared = dataclasses.replace(labels.comparisons, **changed)
    return dataclasses.replace(labels, comparisons=compared)


def probabilities(model, rows, strengths) -> torch.Tensor:
    """Probability of each strength for each row, of shape ``(B, S)``."""
    raw, labels = raw_outputs(model, rows), Labels.of_pairs(torch.ones(len(rows)))
    losses = [
        model.likelihood.negative_log_likelihood(raw, said(labels, strength=strength))
        for strength in strengths
    ]
    return torch.stack(losses, dim=1).neg().exp().detach()


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
def test_ties_get_a_threshold_of_their_own(backbones, tmp_path, way):
    train, test = tied_rows(72, 1), tied_rows(27, 2)
    options = {"outcomes": "ties", "reward_model_type": "base"}  # its noise has a fixed unit
    options |= {"num_train_epochs": 4, "per_device_train_batch_size": 4}
    still = {"learning_rate": 1e-9, "probe_learning_rate": 1e-9, "objective_learning_rate": 1e-9}
    still["probe_linear"] = False  # a linear start brings thresholds that fit it
    short = {"max_steps": 1, "probe_epochs": 1}
    start = run(way(backbones, tmp_path / "a", **options, **still, **short), train, test)
    assert start.model.likelihood.outcomes.thresholds.tolist() == [pytest.approx(START)]
    result = run(way(backbones, tmp_path / "b", **options), train, test)
    again = RewardModel.from_pretrained(result.path, dtype="float32", device="cpu")
    assert again.likelihood.outcomes.thresholds.tolist()[0] > START + 0.2
    # about log 3 or more where nothing is known: a third each of better, worse and tied
    assert start.metrics["loss"] > 1.0
    assert result.metrics["loss"] < 0.6 * start.metrics["loss"]
    # a tie has no right side and counts half
    assert result.metrics["accuracy"] > 0.95 * 2 / 3 + 0.5 / 3
    found = probabilities(again, test, (1, 0, -1))
    assert found.sum(1).tolist() == pytest.approx([1.0] * 27, abs=1e-5)
    wanted = torch.tensor([{1.0: 0, 0.5: 1, 0.0: 2}[row["preference"]] for row in test])
    assert (found.argmax(1) == wanted).float().mean() > 0.9
    # the threshold learned, not the network alone, makes the better likelihood
    labels = labels_of([read_row(row) for row in test])
    raw = raw_outputs(again, test)
    with torch.no_grad():
        loss = float(again.likelihood.negative_log_likelihood(raw, labels).mean())
    assert loss == pytest.approx(result.metrics["loss"], abs=1e-4)
    fresh = make_likelihood(again.head, LikelihoodOptions(levels=3))
    with torch.no_grad():
        worse = float(fresh.negative_log_likelihood(raw, labels).mean())
    assert worse > loss + 0.05


# ---- strengths


@pytest.mark.parametrize(("outcomes", "grades"), [("five_levels", 3), ("seven_levels", 4)])
def test_levels_come_out_in_order(backbones, tmp_path, outcomes, grades):
    top = grades - 1
    words = GRADES[-grades:]
    train, test = graded_rows(144, 1, words), graded_rows(48, 2, words)
    config = frozen(backbones, tmp_path, outcomes=outcomes, probe_early_stopping=False)
    result = run(config, train, test)
    again = RewardModel.from_pretrained(result.path)
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
def test_strengths_beyond_the_levels_name_line_and_field(backbones, tmp_path, way):
    rows = preference_rows(6)
    rows[4]["annotations"] = [{"strength": 1}, {"strength": -3}]
    blank = {"chosen": " ", "rejected": "x"}  # left out, so that places are not lines
    with pytest.raises(DataError, match=r"line 6, field 'strength': strength -3 is beyond 5") as e:
        run(way(backbones, tmp_path, outcomes="five_levels"), [blank, *rows])
    assert (e.value.line, e.value.field) == (6, "strength")
    assert "levels (up to 2)" in str(e.value)
    assert "--outcomes seven_levels" in str(e.value)
    examples = [read_row(row) for row in rows]  # made by hand: counted from 1
    for outcomes in ("preference", "ties", "seven_levels"):
        config = TrainConfig(outcomes=outcomes)
        likelihood = make_training_likelihood(config, heads.make("base"), examples)
        strength = training_labels(config, likelihood, examples).comparisons.strength
        assert strength[4:6].tolist() == [1, -3]
    config = TrainConfig(outcomes="five_levels")
    likelihood = make_training_likelihood(config, heads.make("base"), examples)
    with pytest.raises(DataError, match="line 5"):
        training_labels(config, likelihood, examples)


# ---- margins


@pytest.mark.parametrize("scale", [0.0, 0.5, 2.0])
@pytest.mark.parametrize("kind", ["mean_and_variance", "base"])
def test_margins_raise_the_loss(kind, scale):
    margins = torch.tensor([0.25, 0.5, 1.5, 3.0])
    rows = [row | {"margin": float(m)} for row, m in zip(preference_rows(4), margins, strict=True)]
    examples = [read_row(row) for row in rows]
    config = TrainConfig(reward_model_type=kind, margin_scale=scale)
    head = make_head(config)
    likelihood = make_training_likelihood(config, head, examples)
    labels = training_labels(config, likelihood, examples)
    raw = torch.randn(8, head.num_outputs, generator=torch.Generator().manual_seed(3))
    loss = likelihood(raw, labels)
    first, second = (head.distribution(raw[place::2]) for place in (0, 1))
    short = first.mean - second.mean - scale * margins
    if kind == "base":
        expected = -torch.nn.functional.logsigmoid(short)
    else:
        expected = -log_ndtr(short / torch.hypot(first.stddev, second.stddev))
    assert loss.tolist() == pytest.approx(expected.tolist(), rel=1e-4)
    told = likelihood.negative_log_likelihood(raw, labels)
    assert told.tolist() == pytest.approx(loss.tolist(), rel=1e-5)


def test_margins_in_a_run(backbones, tmp_path):
    """All rewards are equal at the start, with σ = softplus(0): P = Φ(-margin / (√2 log 2))."""
    rows = [row | {"margin": 2.0} for row in preference_rows(8)]
    config = fine_tuned(backbones, tmp_path, margin_scale=0.25, max_steps=1)
    result = run(config, rows, rows)
    sigma = torch.log(torch.tensor(2.0))
    expected = -float(log_ndtr(-0.5 / (2**0.5 * sigma)))
    first = next(line["loss"] for line in result.history if "loss" in line)
    assert first == pytest.approx(expected, abs=0.02)
    again = RewardModel.from_pretrained(result.path)
    assert again.likelihood.outcomes.margin_scale == 0.25
    with pytest.raises(ConfigError, match=r"margin_scale is 0\.25.* 0 with more than 2 levels"):
        run(fine_tuned(backbones, tmp_path, margin_scale=0.25, outcomes="ties"), rows)


# ---- ratings


@pytest.mark.parametrize("way", [fine_tuned, frozen])
def test_ratings_pin_level_and_unit(backbones, tmp_path, way):
    """Comparisons leave both open; with ratings from 1 to 4 the mean rewards are near them."""
    train, test = graded_rows(80, 1), graded_rows(32, 2)
    for row in train[::2]:  # half of the ratings are enough
        row["rating_rejected"] = None
    options = {"anchor_weight": 1.0, "num_train_epochs": 6, "probe_early_stopping": False}
    options |= {"probe_learning_rate": 1e-2, "probe_epochs": 40}
    rated = run(way(backbones, tmp_path / "a", **options), train, test)
    ratings = torch.tensor([row["rating_chosen"] for row in test])

    def error_of(result) -> float:
        again = RewardModel.from_pretrained(result.path, dtype="float32", device="cpu")
        means = again.head.distribution(raw_outputs(again, test)[::2]).mean
        return float((means - ratings).abs().mean())

    assert error_of(rated) < 0.4
    if way is frozen:  # ratings that do not count pin nothing
        plain = run(way(backbones, tmp_path / "b", **(options | {"anchor_weight": 0})), train, test)
        assert plain.model.likelihood.options == LikelihoodOptions()
        assert error_of(plain) > 1.0
        noise = float(rated.model.likelihood.ratings.log_noise.detach().exp())
        assert noise < 0.9  # started at 1: the ratings here are exact
    assert rated.metrics["reward_mean"] == pytest.approx(2.5, abs=0.3)


# ---- weights


def one_full_step(backbones, folder, rows, **options):
    """Weights before and after one step of plain gradient descent on all rows at once."""
    config = fine_tuned(
        backbones,
        folder,
        optim="sgd",
        learning_rate=0.1,
        lr_scheduler_type="constant",
        per_device_train_batch_size=len(rows),
        max_steps=1,
        training_arguments={"max_grad_norm": 0},
        **options,
    )
    result = run(config, rows)
    parameters = {n: p.detach().clone() for n, p in result.model.module.named_parameters()}
    learned = {n: p.detach().clone() for n, p in result.model.likelihood.named_parameters()}
    loss = next(line["loss"] for line in result.history if "loss" in line)
    return {**parameters, **learned}, loss


@pytest.mark.parametrize("outcomes", ["preference", "ties"])
def test_a_row_of_weight_two_is_the_row_twice(backbones, tmp_path, outcomes):
    rows = preference_rows(5, seed=1)
    rows[3]["preference"] = 0.5
    start, _ = one_full_step(
        backbones, tmp_path / "0", [row | {"weight": 1e-30} for row in rows], outcomes=outcomes
    )
    weighted = [rows[0] | {"weight": 2.0}, *rows[1:3], rows[3] | {"weight": 2.0}, rows[4]]
    found, loss = one_full_step(backbones, tmp_path / "1", weighted, outcomes=outcomes)
    twice, expected = one_full_step(
        backbones, tmp_path / "2", [rows[0], rows[3], *rows], outcomes=outcomes
    )
    # a step's loss is a sum divided by the number of votes, 5 and 7
    assert 5 * loss == pytest.approx(7 * expected, abs=1e-4)
    moved = {name: 5 * (values - start[name]) for name, values in found.items()}
    wanted = {name: 7 * (values - start[name]) for name, values in twice.items()}
    largest = max(float(values.abs().max()) for values in wanted.values() if values.numel())
    assert largest > 0.01
    for name, values in wanted.items():
        assert torch.allclose(moved[name], values, atol=1e-4 * largest), name


# ---- rankings


@pytest.mark.parametrize("way", [fine_tuned, frozen])
def test_examples_can_count_alike_however_many_votes_they_have(backbones, tmp_path, way):
    """Every other pair has five votes, all the same: by example they count like one."""
    rows = preference_rows(16, seed=1)
    nested = [
        row | {"annotations": [{"preference": 1}] * 5} if number % 2 else row
        for number, row in enumerate(rows)
    ]
    options = {"max_steps": 3, "probe_epochs": 3, "probe_batch_size": 96, "optim": "sgd"}
    options |= {"per_device_train_batch_size": 96, "probe_early_stopping": False}
    plain, by_example, by_vote = (
        run(way(backbones, tmp_path / name, weigh_by=how, **options), train, rows)
        for name, how, train in (
            ("plain", "vote", rows), ("example", "example", nested), ("vote", "vote", nested)
        )
    )  # fmt: skip
    curves = [
        [line["loss"] for line in result.history if "loss" in line]
        for result in (plain, by_example, by_vote)
    ]
    assert len(curves[0]) == 3
    # features are standardised by how often responses are named, which changes little
    close = 1e-5 if way is fine_tuned else 5e-3
    assert curves[1] == pytest.approx(curves[0], abs=close)
    assert by_example.metrics["loss"] == pytest.approx(plain.metrics["loss"], abs=close)
    if way is fine_tuned:
        assert curves[2] != pytest.approx(curves[0], abs=1e-4)


def rankings(count: int, seed: int):
    """Every word ranked, or all but two, which are tied."""
    draw = random.Random(seed)
    return [
        {
            "prompt": prompt_of(draw, str(number)),
            "responses": [f" An answer that is {word}." for word in GRADES],
            "ranks": [4, 2, 2, 1] if number % 2 else [4, 3, 2, 1],
            "annotator": "ann",
        }
        for number in range(count)
    ]


def test_a_ranking_is_its_pairs_and_counts_like_three_votes(backbones, tmp_path):
    rows = rankings(6, seed=5)
    pairs = [pair.columns for row in rows for pair in expand_pairs(read_row(row))]
    assert len(pairs) == 36
    assert {pair["weight"] for pair in pairs} == {0.5}
    options = {"reward_model_type": "base", "outcomes": "ties"}
    start, _ = one_full_step(
        backbones, tmp_path / "0", [pair | {"weight": 1e-30} for pair in pairs], **options
    )
    found, loss = one_full_step(
        backbones, tmp_path / "1", rows, **options, gradient_accumulation_steps=3
    )
    apart, expected = one_full_step(backbones, tmp_path / "2", pairs, **options)
    # a step's loss is a sum divided by its votes: 18, or one for each row
    assert 18 * loss == pytest.approx(36 * expected, abs=1e-3)
    moved = {name: 18 * (values - start[name]) for name, values in found.items()}
    wanted = {name: 36 * (values - start[name]) for name, values in apart.items()}
    largest = max(float(values.abs().max()) for values in wanted.values() if values.numel())
    assert largest > 0.01
    for name, values in wanted.items():
        assert torch.allclose(moved[name], values, atol=1e-4 * largest), name
    # log 3-ish at first: rewards and thresholds are about equal
    fresh = make_likelihood(heads.make("base"), LikelihoodOptions(levels=3))
    labels = labels_of([read_row(row) for row in rows])
    nats = fresh(torch.zeros(24, 1), labels)
    first = float((labels.weight * nats.detach()).sum() / labels.votes.sum())
    assert labels.votes.sum() == pytest.approx(18)
    assert loss == pytest.approx(first, abs=0.1)


@pytest.mark.parametrize("way", [fine_tuned, frozen])
def test_rankings_are_learned(backbones, tmp_path, way):
    train, test = rankings(12, seed=5), rankings(6, seed=6)
    options = {"num_train_epochs": 5, "reward_model_type": "base", "outcomes": "ties"}
    result = run(way(backbones, tmp_path, **options, probe_batch_size=8), train, test)
    curve = [line["loss"] for line in result.history if "loss" in line]
    if way is fine_tuned:
        assert len(curve) == 5 * 5  # 36 votes by 8
    assert sum(curve[-3:]) < 0.8 * sum(curve[:3])
    # a tie has no right side, and counts half: one of six in every other ranking
    assert result.metrics["accuracy"] > 0.95 * 11 / 12 + 0.5 / 12


# ---- every kind of label with every head


HEADS = {
    "base": {},
    "mean_and_variance": {},
    "logistic": {"reward_model_type": "mean_and_variance", "likelihood": "logistic"},
    "categorical": {"num_atoms": 4},
    "factor": {},
    "mixture": {},
    "quantile": {"num_atoms": 4},
    "ensemble": {"reward_model_type": "factor", "ensemble": "heads", "ensemble_members": 2},
}


@pytest.mark.parametrize("kind", HEADS)
@pytest.mark.parametrize("outcomes", ["preference", "ties", "five_levels", "seven_levels"])
def test_every_kind_of_label_goes_with_every_head(kind, outcomes):
    """Losses and gradients are finite, and the probabilities of all answers sum to 1."""
    options = {"reward_model_type": kind, **HEADS[kind]}
    config = TrainConfig(outcomes=outcomes, anchor_weight=0.5, **options)
    head = make_head(config)
    examples = [read_row(row) for row in graded_rows(12, seed=1, grades=GRADES[:3])]
    likelihood = make_training_likelihood(config, head, examples)
    labels = training_labels(config, likelihood, examples)
    assert (len(labels.comparisons), len(labels.ratings)) == (12, 24)
    generator = torch.Generator().manual_seed(2)
    raw = torch.randn(24, head.num_outputs, generator=generator).requires_grad_()
    loss = likelihood(raw, labels).mean()
    loss.backward()
    learned = [raw, *likelihood.parameters()]
    each = 1 if outcomes == "preference" else 2
    assert len(learned) == 1 + each * len(members_of(likelihood))
    for values in learned:
        assert bool(values.grad.isfinite().all())
        assert float(values.grad.abs().max()) > 0
    top = {"preference": 1, "ties": 1, "five_levels": 2, "seven_levels": 3}[outcomes]
    total = torch.zeros(12)
    for strength in range(-top, top + 1):
        if outcomes == "preference" and strength == 0:
            continue
        answer = said(labels, strength=strength, preference=strength > 0)
        with torch.no_grad():
            nats = likelihood.negative_log_likelihood(raw, answer)[:12]
        total += nats.neg().exp().float()
    assert total.tolist() == pytest.approx([1.0] * 12, abs=1e-4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"outcomes": "five_levels"},
            "field 'strength': no training example has what --outcomes five",
        ),
        (
            {"margin_scale": 1.0},
            "field 'margin': no training example has what --margin_scale 1 learns",
        ),
        (
            {"anchor_weight": 0.5},
            "field 'rating_chosen': no training example has what --anchor_weight",
        ),
    ],
)
def test_options_whose_labels_no_pair_has_are_refused(backbones, tmp_path, options, message):
    with pytest.raises(DataError, match=message):
        run(fine_tuned(backbones, tmp_path, **options), preference_rows(4))
