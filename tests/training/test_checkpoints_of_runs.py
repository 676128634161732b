"""Checkpoints of a run, whole or not at all; and what is learned beside the network, in steps."""

from __future__ import annotations

import dataclasses
import json
import math
import random
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import Accelerator

from hidden_context.errors import CheckpointError
from hidden_context.likelihood import LikelihoodOptions
from hidden_context.training import checkpoints, run
from hidden_context.training.finetune import build_reward_model
from hidden_context.training.labels import (
    make_head,
    make_training_likelihood,
    member_draws,
    training_labels,
)
from hidden_context.training.loop import TrainingLoop
from hidden_context.training.resume import last_checkpoint
from hidden_context.training.workflow import as_examples
from support.builders import preference_rows, train_config
from support.models import damage
from support.processes import labelled_rows
from support.runs import (
    EVERYTHING,
    RuinWeights,
    StopAfter,
    copied,
    evaluations,
    largest_difference,
    logged,
    losses,
    trained_parameters,
)

ROWS = preference_rows(24, seed=3)


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("checkpoint*"))


@pytest.fixture(scope="module")
def two_steps(backbones, tmp_path_factory):
    folder = tmp_path_factory.mktemp("two")
    run(train_config(backbones("gpt2"), folder, outcomes="ties", max_steps=2, save_steps=2), ROWS)
    return folder / "checkpoint-2"


@pytest.fixture
def written(two_steps, tmp_path):
    """A checkpoint of two steps, and the folder that it is in."""
    return Path(shutil.copytree(two_steps, tmp_path / "checkpoint-2"))


def test_what_a_checkpoint_holds_and_that_it_is_loaded_without_running_code(written):
    names = {path.name for path in written.iterdir()}
    assert names >= {
        "model.safetensors", "config.json", "tokenizer.json", "reward_head.json", "optimizer.pt",
        "scheduler.pt", "rng_state.pth", "trainer_state.json",
    }  # fmt: skip
    state = json.loads((written / "trainer_state.json").read_text())
    assert (state["global_step"], state["max_steps"]) == (2, 2)
    assert [line["step"] for line in state["log_history"] if "loss" in line] == [1, 2]
    for name in ("optimizer.pt", "scheduler.pt", "rng_state.pth"):
        assert torch.load(written / name, weights_only=True)


def test_the_random_state_goes_on_exactly(written):
    """Of Python, NumPy and PyTorch, after a draw that leaves a half in store."""
    random.seed(1)
    np.random.seed(2)  # noqa: NPY002
    torch.manual_seed(3)
    random.gauss(0, 1), np.random.standard_normal()  # noqa: NPY002
    torch.save(checkpoints._random_state(), written / "rng_state.pth")

    def draws() -> tuple:
        return (
            [random.gauss(0, 1), random.random()],
            [np.random.standard_normal(), np.random.rand()],  # noqa: NPY002
            torch.rand(3).tolist(),
        )

    expected = draws()
    assert draws() != expected
    checkpoints.load_random_state(written, Accelerator(cpu=True))
    assert draws() == expected


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("optimizer.pt", "", "the optimiser's state cannot be restored"),
        ("scheduler.pt", "broken", "the optimiser's state cannot be restored"),
        ("optimizer.pt", None, "the optimiser's state cannot be restored"),
        ("trainer_state.json", None, "has no trainer_state.json; give a checkpoint-N folder"),
        ("rng_state.pth", "broken", r"rng_state.pth cannot be read"),
        ("model.safetensors", "broken", "checkpoint-2"),
        ("model.safetensors", None, "checkpoint"),
        ("model.safetensors", ["h.1.mlp.c_fc.weight"], r"1 weights are missing, .*c_fc\.weight"),
        ("likelihood.*", None, "checkpoint-2.*other likelihood options or annotators"),
    ],
)
def test_a_damaged_checkpoint_is_refused(fit, written, name, change, message):
    for path in list(written.glob(name)):
        damage(path, change)
    with pytest.raises((CheckpointError, FileNotFoundError), match=message):
        fit(ROWS, max_steps=4, outcomes="ties", resume_from_checkpoint=str(written))


def test_a_weight_of_an_adapter_that_is_missing_is_named(backbones, fit, tmp_path):
    options = {"backbone": backbones("llama"), "tuning": "lora", "save_steps": 2}
    fit(ROWS, max_steps=2, **options)
    lacking = "layers.1.self_attn.q_proj.lora_B"
    damage(tmp_path / "checkpoint-2" / "adapter_model.safetensors", [lacking])
    with pytest.raises(CheckpointError, match=f"only one of the two has the weight .*{lacking}"):
        fit(ROWS, max_steps=4, resume_from_checkpoint="true", **options)


@pytest.mark.parametrize("part", ["weights", "state"])
def test_a_kill_while_one_is_written_leaves_no_half_checkpoint(fit, tmp_path, monkeypatch, part):
    options = {"num_train_epochs": 2, "save_steps": 2}
    whole = fit(ROWS, into="whole", **options)
    save, calls = torch.save, []

    def killed(*arguments, **options):
        calls.append(arguments[1])
        if len(calls) == (4 if part == "weights" else 6):  # each checkpoint has three such files
            raise KeyboardInterrupt
        return save(*arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", killed)
        with pytest.raises(KeyboardInterrupt):
            fit(ROWS, into="broken", **options)
    broken = tmp_path / "broken"
    assert names_in(broken) == ["checkpoint-2"]
    # what a process leaves that is killed outright is no checkpoint
    (broken / "checkpoint-4.partial").mkdir()
    assert last_checkpoint(broken).endswith("checkpoint-2")
    resumed = fit(ROWS, into="broken", resume_from_checkpoint="true", **options)
    assert losses(resumed) == pytest.approx(losses(whole), abs=1e-5)
    assert names_in(broken) == ["checkpoint-2", "checkpoint-4", "checkpoint-6"]


def test_early_stopping_goes_on_counting_after_resuming(fit, tmp_path):
    options = {"num_train_epochs": 50, "validation_fraction": 0.25, "eval_steps": 2}
    options |= {"save_steps": 2, "early_stopping_patience": 3}
    whole = fit(ROWS, into="whole", callbacks=[RuinWeights(3)], **options)
    found = evaluations(whole)
    assert min(found, key=found.get) == 2
    assert list(found)[-1] == 8  # three without improvement, then no more
    with pytest.raises(KeyboardInterrupt):
        fit(ROWS, into="broken", callbacks=[RuinWeights(3), StopAfter(7)], **options)
    state = json.loads((tmp_path / "broken" / "checkpoint-6" / "trainer_state.json").read_text())
    stored = state["stateful_callbacks"]["EarlyStoppingCallback"]["attributes"]
    assert stored == {"early_stopping_patience_counter": 2}
    assert state["best_model_checkpoint"].endswith("checkpoint-2")
    resumed = fit(ROWS, into="broken", resume_from_checkpoint="true", **options)
    assert evaluations(resumed) == pytest.approx(found, abs=1e-5)
    # the best checkpoint is from before the interruption
    texts = [row["chosen"] for row in ROWS]
    kept = [result.model.raw_outputs(texts) for result in (whole, resumed)]
    assert torch.allclose(*kept, atol=1e-5)


def test_a_longer_run_takes_over_where_a_short_one_ended(fit, monkeypatch):
    """The number of steps is that of the new configuration; a finished run has none left."""
    options = {"save_steps": 3, "lr_scheduler_type": "constant"}
    whole = fit(ROWS, ROWS[:4], into="whole", max_steps=8, **options)
    fit(ROWS, ROWS[:4], into="parts", max_steps=5, **options)
    steps, original = [], TrainingLoop._step
    monkeypatch.setattr(TrainingLoop, "_step", lambda *now: (steps.append(1), original(*now)))
    for left in (3, 0):
        steps.clear()
        options |= {"max_steps": 8, "resume_from_checkpoint": "true"}
        resumed = fit(ROWS, ROWS[:4], into="parts", **options)
        assert len(steps) == left
        assert losses(resumed) == pytest.approx(losses(whole), abs=1e-5)
        assert resumed.metrics == pytest.approx(whole.metrics, abs=1e-5)


# ---- What is learned beside the network: optimised, stored and restored


LABELLED = labelled_rows(22, seed=3)
VOTES = 22 + 11 + 22  # comparisons, and ratings of the two responses


@pytest.mark.parametrize(
    ("every", "more"),
    [
        (4, {"lr_scheduler_type": "linear", "per_device_train_batch_size": 4}),
        (6, {"lr_scheduler_type": "linear", "per_device_train_batch_size": 4}),
        (4, {**EVERYTHING, "lr_scheduler_type": "cosine", "per_device_train_batch_size": 10}),
    ],
    ids=["network", "network after an epoch", "everything"],
)
def test_resuming_is_exact_with_dropout(backbones, fit, tmp_path, every, more):
    """From a checkpoint within an epoch of six steps, or at the end of one."""
    options = {"backbone": backbones("gpt2", resid_pdrop=0.2, embd_pdrop=0.2), "tuning": "lora"}
    options |= {"lora_dropout": 0.3, "disable_dropout": False, "num_train_epochs": 3}
    options |= {"save_steps": every, **more}
    whole = fit(LABELLED, into="whole", **options)
    with pytest.raises(KeyboardInterrupt):
        fit(LABELLED, into="broken", callbacks=[StopAfter(every + 2)], **options)
    assert not (tmp_path / "broken" / "final").exists()
    resumed = fit(LABELLED, into="broken", resume_from_checkpoint="true", **options)
    assert len(losses(whole)) == 18
    assert losses(resumed) == pytest.approx(losses(whole), abs=1e-5)
    rates = [logged(result, "learning_rate") for result in (whole, resumed)]
    assert rates[0] == pytest.approx(rates[1], rel=1e-12)
    assert len(set(rates[0])) > 2
    assert largest_difference(trained_parameters(whole), trained_parameters(resumed)) < 1e-5
    # without the stored random state the resumed curve is another
    done = 2 * every
    named = tmp_path / "broken" / f"checkpoint-{done}"
    (named / "rng_state.pth").unlink()
    again = losses(fit(LABELLED, into="again", resume_from_checkpoint=str(named), **options))
    assert again[:done] == losses(resumed)[:done]
    assert abs(again[done] - losses(resumed)[done]) > 1e-4


@pytest.mark.parametrize("limit", [0, 0.05, 1000])
@pytest.mark.parametrize("more", [{}, EVERYTHING], ids=["network", "everything"])
def test_a_training_is_plain_descent_on_all_votes_by_hand(backbones, tmp_path, more, limit):
    """By default on the paper's −log sigmoid of the reward difference, and nothing else.

    Gradients of network and likelihood are clipped together, and the norm before is told.
    The annotators' prior sets in over the first half: its weights are 0, 2/3 and 1.
    """
    rows = LABELLED if more else ROWS
    options = train_config(
        backbones("gpt2"), tmp_path, optim="sgd", learning_rate=0.05, annotator_warmup=0.5,
        objective_learning_rate=0.05, num_train_epochs=3, per_device_train_batch_size=VOTES,
        training_arguments={"max_grad_norm": limit}, **more,
    )  # fmt: skip
    result = run(options, rows)
    head, examples = make_head(options), as_examples(rows)
    likelihood = make_training_likelihood(options, head, examples)
    model = build_reward_model(options, likelihood)
    labels = training_labels(options, likelihood, examples)
    labels = dataclasses.replace(labels, draws=member_draws(options, head, examples))
    votes = float(labels.votes.sum())
    assert votes == (VOTES if more else len(ROWS))
    texts = [text for example in examples for text in example.texts]
    learned = [*model.module.parameters(), *likelihood.parameters()]
    start, optimizer = copied(model.module), torch.optim.SGD(learned)
    curve, norms = [], []
    for step, warm in enumerate((0, 2 / 3, 1)):
        optimizer.param_groups[0]["lr"] = 0.05 * (0.55 + 0.45 * math.cos(math.pi * step / 3))
        batch = model.tokenizer(texts, return_tensors="pt", padding=True)
        inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
        raw = model.module(**inputs).logits
        if more:
            loss = (labels.weight * likelihood(raw, labels)).sum() / votes
            loss = loss + head.penalty(raw[0::2], raw[1::2]) + warm * likelihood.prior() / votes
        else:
            loss = -torch.nn.functional.logsigmoid(raw[0::2] - raw[1::2]).mean()
        curve.append(float(loss.detach()))
        optimizer.zero_grad()
        loss.backward()
        norms.append(float(torch.nn.utils.clip_grad_norm_(learned, limit or math.inf)))
        optimizer.step()
    assert min(norms) > 0.05
    assert logged(result, "grad_norm") == pytest.approx(norms, rel=1e-4)
    by_hand = copied(model.module)
    assert largest_difference(by_hand, start) > 1e-4
    by_hand |= copied(likelihood)
    assert largest_difference(trained_parameters(result), by_hand) < 1e-5
    assert losses(result) == pytest.approx(curve, abs=1e-5)
    if not more:
        assert result.model.likelihood.options == LikelihoodOptions()
        assert not list(result.path.glob("likelihood.*"))
