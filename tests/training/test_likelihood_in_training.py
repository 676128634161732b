"""What is learned beside the network, through the loop: optimised, stored and restored."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from hidden_context.errors import CheckpointError
from hidden_context.training import run
from hidden_context.training.finetune import build_reward_model
from hidden_context.training.labels import (
    make_head,
    make_training_likelihood,
    member_draws,
    training_labels,
)
from hidden_context.training.workflow import as_examples
from support.builders import train_config
from support.processes import labelled_rows
from support.runs import (
    SmallMemory,
    StopAfter,
    copied,
    largest_difference,
    logged,
    losses,
    trained_parameters,
)

ROWS = labelled_rows(22, seed=3)
EVERYTHING = {
    "reward_model_type": "factor",
    "num_factors": 2,
    "ensemble": "heads",
    "ensemble_members": 2,
    "outcomes": "five_levels",
    "annotators": "variational",
    "anchor_weight": 0.3,
}
VOTES = 22 + 11 + 22  # comparisons, and ratings of the two responses


def config(backbones, folder, **options):
    return train_config(backbones("gpt2"), folder, quiet=True, **(EVERYTHING | options))


def start_of(options) -> dict[str, torch.Tensor]:
    likelihood = make_training_likelihood(options, make_head(options), as_examples(ROWS))
    return copied(likelihood)


@pytest.mark.parametrize(
    "more",
    [
        {"lr_scheduler_type": "linear", "per_device_train_batch_size": 4},
        {**EVERYTHING, "lr_scheduler_type": "cosine", "per_device_train_batch_size": 10},
    ],
    ids=["network", "everything"],
)
def test_resuming_is_exact_with_dropout(backbones, fit, tmp_path, more):
    options = {"backbone": backbones("gpt2", resid_pdrop=0.2, embd_pdrop=0.2), "tuning": "lora"}
    options |= {"lora_dropout": 0.3, "disable_dropout": False, "num_train_epochs": 3}
    options |= {"save_steps": 4, **more}
    whole = fit(ROWS, into="whole", **options)
    with pytest.raises(KeyboardInterrupt):
        fit(ROWS, into="broken", callbacks=[StopAfter(6)], **options)
    assert not (tmp_path / "broken" / "final").exists()
    resumed = fit(ROWS, into="broken", resume_from_checkpoint="true", **options)
    assert len(losses(whole)) == 18
    assert losses(resumed) == pytest.approx(losses(whole), abs=1e-5)
    rates = [logged(result, "learning_rate") for result in (whole, resumed)]
    assert rates[0] == pytest.approx(rates[1], rel=1e-12)
    assert len(set(rates[0])) > 2
    assert largest_difference(trained_parameters(whole), trained_parameters(resumed)) < 1e-5
    # without the stored random state the resumed curve is another
    named = tmp_path / "broken" / "checkpoint-8"
    (named / "rng_state.pth").unlink()
    again = losses(fit(ROWS, into="again", resume_from_checkpoint=str(named), **options))
    assert again[:8] == losses(resumed)[:8]
    assert abs(again[8] - losses(resumed)[8]) > 1e-4


def test_a_checkpoint_without_its_likelihood_cannot_be_resumed(backbones, tmp_path):
    run(config(backbones, tmp_path, max_steps=1, save_steps=1), ROWS)
    for name in ("likelihood.json", "likelihood.safetensors"):
        (tmp_path / "checkpoint-1" / name).unlink()
    with pytest.raises(CheckpointError, match=r"checkpoint-1.*the options and annotators"):
        run(config(backbones, tmp_path, resume_from_checkpoint="true"), ROWS)


def test_running_out_of_memory_leaves_no_gradients_behind(backbones, tmp_path, monkeypatch, loops):
    """The second and a later pass of a step fail, after others had left their gradients."""
    options = {"optim": "sgd", "learning_rate": 1e-2, "objective_learning_rate": 0.3}
    options |= {"num_train_epochs": 2, "tokens_per_batch": 200, "per_device_train_batch_size": 20}
    expected = run(config(backbones, tmp_path / "large", **options), ROWS)
    memory = SmallMemory(monkeypatch, failing_calls=(2, 9), backward=True)
    result = run(config(backbones, tmp_path / "small", **options), ROWS)
    assert memory.failed == 2
    assert losses(result) == pytest.approx(losses(expected), abs=1e-5)
    # tokens are counted for steps that were finished
    assert loops[-1].state.total_flos == loops[0].state.total_flos > 0
    assert loops[-1].runner.budget.tokens <= 50
    assert largest_difference(trained_parameters(result), trained_parameters(expected)) < 1e-5
    start = start_of(config(backbones, tmp_path))
    for name, values in copied(expected.model.likelihood).items():
        least = 1e-5 if "log_prior_scale" in name else 1e-3
        assert float((values - start[name]).abs().max()) > least, name


def test_every_step_begins_with_fresh_gradients(backbones, tmp_path):
    """Three steps of plain descent on all votes, by hand: gradients of steps do not add up.

    The annotators' prior sets in over the first half: its weights are 0, 2/3 and 1.
    """
    options = config(
        backbones, tmp_path, tuning="full", optim="sgd", learning_rate=1e-2,
        objective_learning_rate=0.05, annotator_warmup=0.5, lr_scheduler_type="constant",
        num_train_epochs=3, per_device_train_batch_size=VOTES,
        training_arguments={"max_grad_norm": 0},
    )  # fmt: skip
    result = run(options, ROWS)
    head, examples = make_head(options), as_examples(ROWS)
    likelihood = make_training_likelihood(options, head, examples)
    model = build_reward_model(options, likelihood)
    labels = training_labels(options, likelihood, examples)
    labels = dataclasses.replace(labels, draws=member_draws(options, head, examples))
    assert float(labels.votes.sum()) == VOTES
    assert float(labels.ratings.weight[0]) == pytest.approx(0.3)
    texts = [text for example in examples for text in example.texts]
    groups = [
        {"params": list(model.module.parameters()), "lr": 1e-2},
        {"params": list(likelihood.parameters()), "lr": 0.05},
    ]
    optimizer = torch.optim.SGD(groups)
    curve = []
    for warm in (0, 2 / 3, 1):
        batch = model.tokenizer(texts, return_tensors="pt", padding=True)
        inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
        raw = model.module(**inputs).logits
        loss = (labels.weight * likelihood(raw, labels)).sum() / VOTES
        loss = loss + head.penalty(raw[0::2], raw[1::2]) + warm * likelihood.prior() / VOTES
        curve.append(float(loss.detach()))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    by_hand = copied(model.module) | copied(likelihood)
    assert largest_difference(trained_parameters(result), by_hand) < 1e-5
    assert losses(result) == pytest.approx(curve, abs=1e-5)
