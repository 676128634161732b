"""What is learned beside the network, through the loop: optimised, stored and restored."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from transformers import TrainerCallback

from hidden_context.errors import CheckpointError, DivergedError
from hidden_context.likelihood import EnsembleLikelihood, LikelihoodOptions
from hidden_context.models import RewardModel
from hidden_context.models.likelihood_file import load_likelihood
from hidden_context.training import run
from hidden_context.training.finetune import build_reward_model
from hidden_context.training.labels import (
    make_head,
    make_training_likelihood,
    member_draws,
    training_labels,
)
from hidden_context.training.loop import TrainingLoop
from hidden_context.training.workflow import as_examples
from support.builders import preference_rows, train_config
from support.runs import SmallMemory, StopAfter, largest_difference, losses


def labelled_rows(count: int, seed: int):
    """Pairs with strengths from −1 to 2, three annotators, and ratings of some of the texts."""
    rows = preference_rows(count, seed)
    for number, row in enumerate(rows):
        row |= {"strength": (1, 2, 0, -1)[number % 4], "annotator": "abc"[number % 3]}
        row |= {"rating_chosen": 4.0 if number % 2 else None}
        row |= {"rating_rejected": 4.5 if row["strength"] < 0 else 1.5}
    return rows


ROWS, TEST = labelled_rows(22, seed=3), labelled_rows(8, seed=4)
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


def network(result) -> dict[str, torch.Tensor]:
    return {n: p.detach().clone() for n, p in result.model.module.named_parameters()}


def learned(result) -> dict[str, torch.Tensor]:
    return {n: p.detach().clone() for n, p in result.model.likelihood.named_parameters()}


def start_of(options) -> dict[str, torch.Tensor]:
    likelihood = make_training_likelihood(options, make_head(options), as_examples(ROWS))
    return {n: p.detach().clone() for n, p in likelihood.named_parameters()}


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
    between = {name: values.detach() for name, values in stored.named_parameters()}
    assert largest_difference(between, learned(whole)) > 1e-3
    resumed = run(options("broken", resume_from_checkpoint="true"), ROWS)
    assert len(losses(whole)) == 12
    assert losses(resumed) == pytest.approx(losses(whole), abs=1e-5)
    assert largest_difference(learned(resumed), learned(whole)) < 1e-5
    assert largest_difference(network(resumed), network(whole)) < 1e-5


@pytest.mark.parametrize("other", ["annotators", "levels", "none"])
def test_a_checkpoint_of_another_likelihood_cannot_be_resumed(backbones, tmp_path, other):
    """Embeddings go by place, so that other names of as many annotators would be mixed up."""
    run(config(backbones, tmp_path, max_steps=1, save_steps=1), ROWS)
    point = str(tmp_path / "checkpoint-1")
    rows, options = ROWS, {}
    if other == "annotators":
        rows = [row | {"annotator": {"a": "d"}.get(row["annotator"], "b")} for row in ROWS]
        rows[0]["annotator"] = "e"
    elif other == "levels":
        options = {"outcomes": "seven_levels"}
    else:
        for name in ("likelihood.json", "likelihood.safetensors"):
            (tmp_path / "checkpoint-1" / name).unlink()
    message = {
        "annotators": r"the training data differ \(in content\)",
        "levels": "--outcomes was five_levels, is seven_levels",
        "none": "the options and annotators",
    }
    with pytest.raises(CheckpointError, match=rf"checkpoint-1.*{message[other]}"):
        run(config(backbones, tmp_path, resume_from_checkpoint=point, **options), rows)


class RuinEverything(TrainerCallback):
    """Makes network and thresholds bad from a step on, so that the last checkpoint is not best."""

    def __init__(self, loops: list[TrainingLoop], step: int) -> None:
        self.loops, self.step = loops, step

    def on_step_end(self, args, state, control, model=None, **_):
        if state.global_step == self.step:
            with torch.no_grad():
                for name, parameter in model.named_parameters():
                    if "score" in name:
                        parameter.mul_(-30)
                for member in self.loops[-1].runner.module.likelihood.members:
                    member.outcomes.raw_gaps.add_(20)
                    member.annotators.location.add_(20)


@pytest.fixture
def loops(monkeypatch):
    made = []
    original = TrainingLoop.__init__

    def remembered(self, *args, **options):
        original(self, *args, **options)
        made.append(self)

    monkeypatch.setattr(TrainingLoop, "__init__", remembered)
    return made


def test_the_best_checkpoint_s_likelihood_is_restored(backbones, tmp_path, loops):
    options = config(
        backbones, tmp_path, num_train_epochs=4, validation_fraction=0.25, eval_steps=2,
        save_steps=2,
    )  # fmt: skip
    result = run(options, ROWS, callbacks=[RuinEverything(loops, 5)])
    evaluations = {
        line["step"]: line["eval_loss"] for line in result.history if "eval_loss" in line
    }
    best = min(evaluations, key=evaluations.__getitem__)
    assert best <= 4
    assert evaluations[6] > evaluations[best] + 1
    stored = load_likelihood(tmp_path / f"checkpoint-{best}", result.model.head)
    wanted = {name: values.detach() for name, values in stored.named_parameters()}
    assert largest_difference(learned(result), wanted) == 0
    for member in range(2):
        assert float(learned(result)[f"members.{member}.annotators.location"].abs().max()) < 5
    saved = RewardModel.from_pretrained(result.path).likelihood
    assert largest_difference(dict(saved.named_parameters()), wanted) == 0


def test_running_out_of_memory_leaves_no_gradients_behind(backbones, tmp_path, monkeypatch):
    """The second and a later pass of a step fail, after others had left their gradients."""
    options = {"optim": "sgd", "learning_rate": 1e-2, "objective_learning_rate": 0.3}
    options |= {"num_train_epochs": 2, "tokens_per_batch": 200, "per_device_train_batch_size": 20}
    expected = run(config(backbones, tmp_path / "large", **options), ROWS)
    memory = SmallMemory(monkeypatch, failing_calls=(2, 9), backward=True)
    result = run(config(backbones, tmp_path / "small", **options), ROWS)
    assert memory.failed == 2
    assert losses(result) == pytest.approx(losses(expected), abs=1e-5)
    assert largest_difference(learned(result), learned(expected)) < 1e-5
    assert largest_difference(network(result), network(expected)) < 1e-5
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
    by_hand = {name: values.detach() for name, values in likelihood.named_parameters()}
    assert largest_difference(learned(result), by_hand) < 1e-5
    assert largest_difference(network(result), dict(model.module.named_parameters())) < 1e-5
    assert losses(result) == pytest.approx(curve, abs=1e-5)


def test_its_learning_rate_is_its_own_and_follows_the_schedule(backbones, tmp_path, loops):
    options = config(
        backbones, tmp_path, weight_decay=0.5, objective_learning_rate=0.04, max_steps=4,
        lr_scheduler_type="linear",
    )  # fmt: skip
    run(options, ROWS)
    groups = loops[-1].optimizer.param_groups
    assert [group["weight_decay"] for group in groups] == [0.5, 0.0, 0.0]
    assert groups[2]["initial_lr"] == 0.04
    likelihood = loops[-1].runner.module.likelihood
    assert {id(p) for p in groups[2]["params"]} == {id(p) for p in likelihood.parameters()}
    plain = config(backbones, tmp_path, max_steps=1, outcomes="preference", annotators="ignore",
                   anchor_weight=0.0)  # fmt: skip
    result = run(plain, ROWS)
    assert result.model.likelihood.options == LikelihoodOptions()
    assert len(loops[-1].optimizer.param_groups) == 2


def test_a_gradient_of_the_likelihood_that_is_not_finite_stops_training(
    backbones, tmp_path, monkeypatch
):
    original = EnsembleLikelihood.prior

    def spoiled(likelihood):
        location = likelihood.members[0].annotators.location
        location.register_hook(lambda gradient: gradient * math.nan)
        return original(likelihood)

    monkeypatch.setattr(EnsembleLikelihood, "prior", spoiled)
    with pytest.raises(DivergedError, match="step 1: a gradient is not finite"):
        run(config(backbones, tmp_path), ROWS)
    assert not (tmp_path / "final").exists()


def test_metrics_are_those_of_the_likelihood(backbones, tmp_path):
    """The loss is that of strengths, ratings and annotators, accuracy the annotators' own."""
    result = run(config(backbones, tmp_path, num_train_epochs=2), ROWS, TEST)
    again = RewardModel.from_pretrained(result.path, dtype="float32")
    examples, likelihood = as_examples(TEST), again.likelihood
    labels = training_labels(config(backbones, tmp_path), likelihood, examples)
    compared = labels.comparisons
    assert compared.annotator.tolist() == [0, 1, 2, 0, 1, 2, 0, 1]
    assert labels.num_judgements == 8 + 4 + 8
    raw = again.raw_outputs([text for example in examples for text in example.texts])
    with torch.no_grad():
        loss = float(likelihood.negative_log_likelihood(raw, labels).mean())
        forward, backward = (
            likelihood.log_prob_first(raw, each) for each in (labels, labels.swapped())
        )
    assert result.metrics["loss"] == pytest.approx(loss, abs=1e-4)
    sign = torch.sign(compared.preference - 0.5)
    right = 0.5 + 0.5 * sign * torch.sign(forward - backward)
    assert result.metrics["accuracy"] == pytest.approx(float(right.mean()), abs=1e-6)
    assert compared.preference.tolist() == [1, 1, 0.5, 0, 1, 1, 0.5, 0]
