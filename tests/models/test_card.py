"""The model card: heads, causes of variance, and what was learned beside the network."""

from __future__ import annotations

import pytest
import torch

from hidden_context import heads
from hidden_context.models.card import model_card
from hidden_context.objectives import AnnotatorEmbeddings, Objective, Outcomes


def card(head, objective=None):
    return model_card(head, base_model="gpt2", max_length=64, objective=objective)


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
        (heads.make("factor"), ["disagreement", "noise"]),
        (heads.EnsembleHead(heads.make("factor"), 2), ["disagreement", "noise", "epistemic"]),
        (heads.EnsembleHead(heads.make("base"), 2), ["noise", "epistemic"]),
        (heads.EnsembleHead(heads.make("quantile"), 2), ["unsplit", "epistemic"]),
    ],
)
def test_causes_of_variance_are_explained_where_the_head_tells_them_apart(head, names):
    text = card(head)
    assert causes(text) == names
    assert ("what the model does not know" in text) == ("epistemic" in names)


def test_what_was_learned_is_listed():
    head = heads.make("factor", num_factors=2)
    outcomes = Outcomes(5)
    with torch.no_grad():
        outcomes.raw_gaps.copy_(torch.log(torch.expm1(torch.tensor([[0.25, 0.75]]))))
    annotators = AnnotatorEmbeddings(["ann", "bob", "cat"], 2, column="worker")
    objective = Objective(head, outcomes, annotators, anchor_weight=0.5)
    with torch.no_grad():
        objective.log_rating_noise.fill_(-0.6931471805599453)
    text = card(head, objective)
    assert "- Answers: strengths of 5 levels; thresholds in reward units: 0.25, 1\n" in text
    assert "- Annotators: 3, by the column `worker` (variational; factors: 2)\n" in text
    assert "- Noise of absolute ratings, in reward units: 0.5\n" in text
    assert "Margins" not in text


def test_an_ensemble_has_thresholds_member_by_member():
    head = heads.EnsembleHead(heads.make("base"), 2)
    outcomes = Outcomes(3, 2)
    with torch.no_grad():
        outcomes.raw_gaps.copy_(torch.log(torch.expm1(torch.tensor([[0.5], [2.0]]))))
    text = card(head, Objective(head, outcomes))
    assert (
        "- Answers: a side or a tie; thresholds in reward units, member by member: 0.5; 2" in text
    )
    assert "Annotators" not in text
    assert "Noise of absolute" not in text


def test_margins_are_told_and_a_plain_objective_is_not():
    head = heads.make("base")
    with_margins = card(head, Objective(head, Outcomes(margin_scale=1.5)))
    assert "- Margins: 1.5 reward units per unit of the data's" in with_margins
    assert "Answers" not in with_margins
    assert card(head, Objective(head)) == card(head)
