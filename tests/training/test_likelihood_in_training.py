"""What is learned beside the network, through the loop: optimised, stored and restored."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from hidden_context.errors import CheckpointError
from hidden_context.models import RewardModel
from hidden_context.models.checkpoint.likelihood_file import load_likelihood
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
    RuinWeights,
    SmallMemory,
    StopAfter,
    copied,
    evaluations,
    largest_difference,
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
SHAPES = {
    f"members.{member}.{name}": shape
    for member in range(2)
    for name, shape in {
        "outcomes.raw_gaps": (2,),
        "annotators.location": (3, 2),
        "annotators.log_scale": (3, 2),
        "habits.location": (3, 1),
        "habits.log_scale": (3, 1),
        "habits.log_prior_scale": (1,),
        "ratings.log_noise": (1,),
    }.items()
}
VOTES = 22 + 11 + 22  # comparisons, and ratings of the two responses


def config(backbones, folder, **options):
    return train_config(backbones("gpt2"), folder, quiet=True, **(EVERYTHING | options))


def learned(result) -> dict[str, torch.Tensor]:
    return copied(result.model.likelihood)


def start_of(options) -> dict[str, torch.Tensor]:
    likelihood = make_training_likelihood(options, make_head(options), as_examples(ROWS))
    return copied(likelihood)


def test_resuming_is_exact_beside_the_network_too(backbones, tmp_path):
    def options(name, **more):
        return config(
            backbones, tmp_path / name, tuning="lora", num_train_epochs=2, save_steps=2,
            per_device_train_batch_size=10, lr_scheduler_type="cosine", **more,
        )  # fmt: skip

    whole = run(options("whole"), ROWS)
    assert {name: tuple(values.shape) for name, values in learned(whole).items()} == SHAPES
    moved = {
        name: float((values - start_of(options("x"))[name]).abs().max())
        for name, values in learned(whole).items()
    }
    assert min(moved.values()) > 0.01
    with pytest.raises(KeyboardInterrupt):
        run(options("broken"), ROWS, callbacks=[StopAfter(5)])
    stored = load_likelihood(tmp_path / "broken" / "checkpoint-4", whole.model.head)
    assert largest_difference(copied(stored), learned(whole)) > 1e-3
    resumed = run(options("broken", resume_from_checkpoint="true"), ROWS)
    assert len(losses(whole)) == 12
    assert losses(resumed) == pytest.approx(losses(whole), abs=1e-5)
    assert largest_difference(learned(resumed), learned(whole)) < 1e-5
    assert largest_difference(trained_parameters(resumed), trained_parameters(whole)) < 1e-5


def test_a_checkpoint_without_its_likelihood_cannot_be_resumed(backbones, tmp_path):
    run(config(backbones, tmp_path, max_steps=1, save_steps=1), ROWS)
    for name in ("likelihood.json", "likelihood.safetensors"):
        (tmp_path / "checkpoint-1" / name).unlink()
    with pytest.raises(CheckpointError, match=r"checkpoint-1.*the options and annotators"):
        run(config(backbones, tmp_path, resume_from_checkpoint="true"), ROWS)


def test_the_best_checkpoint_s_likelihood_is_restored(backbones, tmp_path):
    options = config(
        backbones, tmp_path, num_train_epochs=4, validation_fraction=0.25, eval_steps=2,
        save_steps=2,
    )  # fmt: skip
    result = run(options, ROWS, callbacks=[RuinWeights(5)])
    found = evaluations(result)
    best = min(found, key=found.get)
    wanted, last = (
        copied(load_likelihood(tmp_path / f"checkpoint-{step}", result.model.head))
        for step in (best, max(found))
    )
    assert best <= 4
    assert largest_difference(wanted, last) > 1e-3
    saved = RewardModel.from_pretrained(result.path).likelihood
    for kept in (learned(result), copied(saved)):
        assert largest_difference(kept, wanted) == 0


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
    assert largest_difference(learned(result), learned(expected)) < 1e-5
    assert largest_difference(trained_parameters(result), trained_parameters(expected)) < 1e-5
    start = start_of(config(backbones, tmp_path))
    for name, values in learned(expected).items():
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
    assert largest_difference(learned(result), copied(likelihood)) < 1e-5
    assert (
        largest_difference(trained_parameters(result), dict(model.module.named_parameters())) < 1e-5
    )
    assert losses(result) == pytest.approx(curve, abs=1e-5)
