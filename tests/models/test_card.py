"""The model card: heads, causes of variance, and what was learned beside the network."""

from __future__ import annotations

import pytest
import torch

from hidden_context import heads
from hidden_context.likelihood import LikelihoodOptions, make_likelihood
from hidden_context.models.card import model_card


def card(head, likelihood=None):
    likelihood = likelihood or make_likelihood(head)
    return model_card(likelihood, base_model="gpt2", max_length=64)


def learn(parameter, values):
    """Set a parameter whose softplus are the steps between values."""
    with torch.no_grad():
        parameter.copy_(torch.log(torch.expm1(torch.tensor(values))))


def causes(text):
    """The causes that a card lists."""
    if "## Causes of variance" not in text:
        return []
    part = text.split("## Causes of variance")[1].split("##")[0]
    return [line[2:].split(":")[0] for line in part.splitlines() if line.startswith("- ")]


@pytest.mark.parametrize("kind", heads.types())
def test_every_head_says_what_its_raw_outputs_are(kind):
    head = heads.make(kind)
    text = card(head)
    assert f"- Raw outputs per text: {head.num_outputs} ({head.meaning})" in text
    assert text.count("# Reward model with an ensemble head") == (kind == "ensemble")
    assert "Learned beside the network" not in text


@pytest.mark.parametrize(
    ("head", "names"),
    [
        (heads.make("base"), []),
        (heads.make("mean_and_variance"), []),
        (heads.make("mixture"), []),
        (heads.make("factor"), ["shared_context", "noise"]),
        (heads.EnsembleHead(heads.make("factor"), 2), ["shared_context", "noise", "ignorance"]),
        (heads.EnsembleHead(heads.make("base"), 2), ["noise", "ignorance"]),
        (heads.EnsembleHead(heads.make("quantile"), 2), ["unsplit", "ignorance"]),
    ],
)
def test_causes_of_variance_are_explained_where_the_head_tells_them_apart(head, names):
    text = card(head)
    assert causes(text) == names
    assert ("what the model does not know" in text) == ("ignorance" in names)


def test_what_was_learned_is_listed():
    head = heads.make("factor", num_factors=2)
    options = LikelihoodOptions(
        5,
        inference="variational",
        names=("ann", "bob", "cat"),
        column="worker",
        rating_weight=0.5,
    )
    likelihood = make_likelihood(head, options)
    learn(likelihood.outcomes.raw_gaps, [0.25, 0.75])
    with torch.no_grad():
        likelihood.ratings.log_noise.fill_(-0.6931471805599453)
    text = card(head, likelihood)
    assert "## Learned beside the network (`likelihood.json`)" in text
    assert "- Answers: strengths of 5 levels; thresholds in reward units: 0.25, 1\n" in text
    assert "- Annotators: 3, by the column `worker` (variational; factors: 2)\n" in text
    assert "- Noise of absolute ratings, in reward units: 0.5\n" in text
    assert "Margins" not in text
    assert "Styles" not in text


def test_grades_and_styles_are_listed():
    head = heads.make("base")
    options = LikelihoodOptions(
        rating_weight=1.0, ratings="ordinal", grades=(1, 2, 5), styles=True, names=("ann", "bob")
    )
    likelihood = make_likelihood(head, options)
    with torch.no_grad():
        likelihood.ratings.first_threshold.fill_(-1.5)
    learn(likelihood.ratings.raw_gaps, [2.0])
    text = card(head, likelihood)
    assert "- Ratings: 3 grades; thresholds in reward units: -1.5, 0.5\n" in text
    assert "- Styles of ratings: a level and a unit of each of 2 annotators\n" in text
    assert "- Annotators:" not in text
    assert "Noise of absolute" not in text


def test_an_ensemble_has_thresholds_member_by_member():
    head = heads.EnsembleHead(heads.make("base"), 2)
    likelihood = make_likelihood(head, LikelihoodOptions(3))
    for member, gap in zip(likelihood.members, (0.5, 2.0), strict=True):
        learn(member.outcomes.raw_gaps, [gap])
    text = card(head, likelihood)
    assert (
        "- Answers: a side or a tie; thresholds in reward units, member by member: 0.5; 2" in text
    )
    assert "Annotators" not in text
    assert "Noise of absolute" not in text


def test_margins_are_told_and_default_options_are_not():
    head = heads.make("base")
    with_margins = card(head, make_likelihood(head, LikelihoodOptions(margin_scale=1.5)))
    assert "- Margins: 1.5 reward units per unit of the data's" in with_margins
    assert "Answers" not in with_margins
    assert "Learned beside" not in card(head)


def test_the_precision_of_training_is_told_where_it_is_known():
    likelihood = make_likelihood(heads.make("base"))
    text = model_card(likelihood, base_model="gpt2", max_length=64, precision="bfloat16")
    before = "- Longest text: 64 tokens\n"
    assert f"{before}- Trained with the backbone in bfloat16\n\n## Use" in text
    assert "Trained" not in card(likelihood.head)
    assert text.replace("- Trained with the backbone in bfloat16\n", "") == card(likelihood.head)
