from __future__ import annotations

import math
import re
from pathlib import Path

import pytest
import torch
from transformers.optimization import get_scheduler

from hidden_context.errors import ConfigError, DivergedError
from hidden_context.likelihood import HeadLikelihood, LikelihoodOptions, make_likelihood
from hidden_context.models import RewardModel
from hidden_context.models.modules import final_linear
from hidden_context.training import run
from hidden_context.training.finetune import build_reward_model
from hidden_context.training.labels import make_head
from hidden_context.training.module import PreferenceModule
from hidden_context.training.runner import StepRunner
from support.builders import preference_rows, tiny_tokenizer, train_config
from support.runs import StopAfter, largest_difference, losses, trained_parameters

ROWS = preference_rows(22, seed=3)
HEADS = ("base", "mean_and_variance", "categorical")


@pytest.mark.parametrize("head", HEADS)
def test_a_step_is_the_product_of_batch_size_and_accumulation(backbones, tmp_path, head):
    """22 pairs in steps of 8: the last one of an epoch has 6, each of which weighs a sixth."""
    found = []
    for size, accumulation in ((8, 1), (2, 4)):
        config = train_config(
            backbones("gpt2"),
            tmp_path / str(size),
            reward_model_type=head,
            per_device_train_batch_size=size,
            gradient_accumulation_steps=accumulation,
            num_train_epochs=2,
            evaluate_at_end=False,
        )
        result = run(config, ROWS)
        assert len(losses(result)) == 6
        found.append((trained_parameters(result), losses(result)))
    assert found[0][1] == found[1][1]
    assert largest_difference(found[0][0], found[1][0]) == 0
    config = train_config(
        backbones("gpt2"), tmp_path, training_arguments={"gradient_accumulation_steps": 2}
    )
    with pytest.raises(ConfigError, match="gradient_accumulation_steps has to be 1"):
        run(config, ROWS)


def test_the_first_loss_is_that_of_equal_rewards(backbones, tmp_path):
    """log 2, and 0.3 times twice the variance softplus(0)²."""
    config = train_config(
        backbones("gpt2"), tmp_path, reward_model_type="mean_and_variance", variance_penalty=0.3
    )
    expected = math.log(2) + 0.3 * 2 * math.log(2) ** 2
    assert losses(run(config, ROWS[:8])) == pytest.approx([expected], abs=0.02)


def test_by_default_nothing_but_the_paper_s_loss_is_trained(backbones, tmp_path):
    """Five steps on all pairs, and a loop by hand with −log sigmoid of the reward difference."""
    config = train_config(
        backbones("gpt2"),
        tmp_path,
        optim="sgd",
        learning_rate=0.05,
        num_train_epochs=5,
        per_device_train_batch_size=len(ROWS),
        training_arguments={"max_grad_norm": 0.5},
    )
    result = run(config, ROWS)
    assert result.model.likelihood.options == LikelihoodOptions()
    assert not list(result.model.likelihood.parameters())
    assert not list(result.path.glob("likelihood.*"))
    model = build_reward_model(config, make_likelihood(make_head(config)))
    start = {n: p.detach().clone() for n, p in model.module.named_parameters()}
    optimizer = torch.optim.SGD(model.module.parameters(), lr=0.05)
    curve = []
    for step in range(5):
        for group in optimizer.param_groups:
            group["lr"] = 0.05 * (0.1 + 0.45 * (1 + math.cos(math.pi * step / 5)))
        rewards = []
        for side in ("chosen", "rejected"):
            batch = model.tokenizer([row[side] for row in ROWS], return_tensors="pt", padding=True)
            inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
            rewards.append(model.module(**inputs).logits.squeeze(-1))
        loss = -torch.nn.functional.logsigmoid(rewards[0] - rewards[1]).mean()
        curve.append(float(loss.detach()))
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.module.parameters(), 0.5)
        optimizer.step()
    assert losses(result) == pytest.approx(curve, abs=1e-5)
    by_hand = {n: p.detach() for n, p in model.module.named_parameters()}
    assert largest_difference(by_hand, start) > 1e-3
    assert largest_difference(trained_parameters(result), by_hand) < 1e-5


@pytest.mark.parametrize("schedule", ["cosine", "step", "linear"])
def test_resuming_is_exact_with_dropout(backbones, tmp_path, schedule):
    folder = backbones("gpt2", resid_pdrop=0.2, embd_pdrop=0.2)

    def config(name, **options):
        return train_config(
            folder,
            tmp_path / name,
            tuning="lora",
            lora_dropout=0.3,
            disable_dropout=False,
            num_train_epochs=3,
            save_steps=4,
            lr_scheduler_type=schedule,
            per_device_train_batch_size=4,
            **options,
        )

    whole = run(config("whole"), ROWS)
    with pytest.raises(KeyboardInterrupt):
        run(config("broken"), ROWS, callbacks=[StopAfter(6)])
    assert not (tmp_path / "broken" / "final").exists()
    resumed = run(config("broken", resume_from_checkpoint="true"), ROWS)
    assert len(losses(whole)) == 18
    assert losses(resumed) == pytest.approx(losses(whole), abs=1e-5)
    rates = [
        [line["learning_rate"] for line in r.history if "loss" in line] for r in (whole, resumed)
    ]
    assert rates[0] == pytest.approx(rates[1], rel=1e-12)
    assert len(set(rates[0])) > 2
    assert largest_difference(trained_parameters(whole), trained_parameters(resumed)) < 1e-5
    named = str(tmp_path / "broken" / "checkpoint-8")
    again = run(config("again", resume_from_checkpoint=named), ROWS)
    assert losses(again) == pytest.approx(losses(whole), abs=1e-5)


def test_dropout_matters_in_that_test(backbones, tmp_path):
    """Without the stored random state the resumed curve is another."""
    folder = backbones("gpt2", resid_pdrop=0.2, embd_pdrop=0.2)
    options = {"num_train_epochs": 2, "disable_dropout": False}
    whole = run(train_config(folder, tmp_path, save_steps=2, **options), ROWS)
    (tmp_path / "checkpoint-2" / "rng_state.pth").unlink()
    point = str(tmp_path / "checkpoint-2")
    config = train_config(folder, tmp_path, resume_from_checkpoint=point, **options)
    resumed = run(config, ROWS)
    assert losses(resumed)[:2] == losses(whole)[:2]
    assert abs(losses(resumed)[2] - losses(whole)[2]) > 1e-4


@pytest.mark.parametrize("name", ["cosine", "step", "linear", "constant_with_warmup"])
def test_schedules_through_the_loop(backbones, tmp_path, name):
    config = train_config(
        backbones("gpt2"),
        tmp_path,
        learning_rate=0.01,
        max_steps=9,
        per_device_train_batch_size=2,
        lr_scheduler_type=name,
        training_arguments={"warmup_steps": 3} if "warmup" in name else {},
    )
    result = run(config, ROWS[:4])
    rates = [line["learning_rate"] / 0.01 for line in result.history if "loss" in line]
    steps = range(9)
    if name == "cosine":
        expected = [0.1 + 0.45 * (1 + math.cos(math.pi * t / 9)) for t in steps]
    elif name == "step":
        expected = [1.0] * 3 + [0.1] * 3 + [0.01] * 3
    elif name == "linear":
        expected = [1 - t / 9 for t in steps]
    else:
        optimizer = torch.optim.SGD([torch.zeros(1)], lr=1.0)
        scheduler = get_scheduler(name, optimizer, num_warmup_steps=3, num_training_steps=9)
        expected = []
        for _ in steps:
            expected.append(scheduler.get_last_lr()[0])
            optimizer.step()
            scheduler.step()
    assert rates == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("tuning", ["lora", "full"])
def test_gradient_checkpointing_changes_nothing(backbones, tmp_path, tuning):
    results = [
        run(
            train_config(
                backbones("llama"),
                tmp_path / str(checkpointing),
                tuning=tuning,
                gradient_checkpointing=checkpointing,
                num_train_epochs=2,
            ),
            ROWS[:16],
        )
        for checkpointing in (False, True)
    ]
    assert losses(results[0]) == pytest.approx(losses(results[1]), abs=1e-5)
    norms = [line["grad_norm"] for line in results[1].history if "grad_norm" in line]
    assert min(norms) > 0
    start = RewardModel.from_pretrained  # the trained model still scores after checkpointing
    assert start(results[1].path).raw_outputs(["x"]).shape == (1, 1)


@pytest.mark.parametrize("kind", ["gpt2", "roberta"])
def test_bfloat16_on_the_cpu_keeps_the_head_in_float32(backbones, tmp_path, kind):
    exact, half = (
        run(
            train_config(
                backbones(kind), tmp_path / name, tuning="lora", precision=name, learning_rate=1e-3
            ),
            ROWS,
            ROWS,
        )
        for name in ("float32", "bfloat16")
    )
    module = half.model.module.get_base_model()
    assert final_linear(module)[1].weight.dtype == torch.float32
    frozen = [p for n, p in module.named_parameters() if not p.requires_grad and "base_layer" in n]
    assert {p.dtype for p in frozen} == {torch.bfloat16}
    assert losses(half) == pytest.approx(losses(exact), abs=0.02)
    assert half.model.raw_outputs([row["chosen"] for row in ROWS]).dtype == torch.float32
    assert half.metrics["loss"] == pytest.approx(exact.metrics["loss"], abs=0.02)


def test_a_loss_that_is_not_finite_stops_training(backbones, tmp_path, monkeypatch):
    real = HeadLikelihood.forward
    calls = []

    def spoiled(likelihood, *inputs):
        loss = real(likelihood, *inputs)
        calls.append(len(loss))
        return loss * torch.tensor([1.0, math.nan, 1.0, 1.0]) if len(calls) == 3 else loss

    monkeypatch.setattr(HeadLikelihood, "forward", spoiled)
    passes, real_pass = [], PreferenceModule.forward

    def seen(module, tokens, *rest):
        passes.append(tokens)
        return real_pass(module, tokens, *rest)

    monkeypatch.setattr(PreferenceModule, "forward", seen)
    config = train_config(backbones("gpt2"), tmp_path, per_device_train_batch_size=4, save_steps=1)
    # blank rows are dropped, so places among the pairs kept are not lines of the source
    blank = [{"chosen": " ", "rejected": "x"}] * 50
    with pytest.raises(DivergedError) as caught:
        run(config, [*blank, *ROWS])
    message = str(caught.value)
    assert "training stopped at step 3: the loss is not finite" in message
    found = re.search(r"Lines of the training data \(from 1\): (\d+)\.", message)
    assert found is not None  # the one bad row, not its whole batch
    line = int(found.group(1))
    tokens = tiny_tokenizer()(ROWS[line - 51]["chosen"])["input_ids"]
    assert passes[2][1][0] == tokens  # the second pair of the third batch
    intact = RewardModel.from_pretrained(tmp_path / "checkpoint-2")
    assert intact.raw_outputs([ROWS[0]["chosen"]]).isfinite().all()
    assert not (tmp_path / "final").exists()


def test_a_gradient_that_is_not_finite_stops_before_the_step(backbones, tmp_path, monkeypatch):
    step, calls = StepRunner.step, []

    def spoiled(runner, *inputs):
        result = step(runner, *inputs)
        calls.append(len(inputs[0]))
        if len(calls) == 2:
            next(p for p in runner.model.parameters() if p.grad is not None).grad[0] = math.inf
        return result

    monkeypatch.setattr(StepRunner, "step", spoiled)
    with pytest.raises(DivergedError, match="step 2: a gradient is not finite"):
        run(train_config(backbones("gpt2"), tmp_path), ROWS)


def test_an_absurd_learning_rate_is_reported(backbones, tmp_path):
    config = train_config(
        backbones("gpt2"), tmp_path, learning_rate=1e30, num_train_epochs=5, optim="sgd"
    )
    with pytest.raises(DivergedError, match="Lower the learning rate"):
        run(config, ROWS)
    assert not Path(config.final_path).exists()


def test_checkpoints_are_reward_models(backbones, tmp_path):
    config = train_config(
        backbones("gpt2"), tmp_path, tuning="lora", reward_model_type="categorical",
        num_atoms=4, save_steps=2, max_length=60,
    )  # fmt: skip
    result = run(config, ROWS[:16])
    checkpoint = RewardModel.from_pretrained(tmp_path / "checkpoint-2")
    assert checkpoint.head == result.model.head
    assert checkpoint.max_length == 60
    texts = [row["chosen"] for row in ROWS[:4]]
    assert torch.allclose(checkpoint.raw_outputs(texts), result.model.raw_outputs(texts), atol=1e-6)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("kind", ["gpt2", "bert"])
def test_lora_trains_and_saves_the_head(backbones, tmp_path, kind, precision):
    config = train_config(
        backbones(kind), tmp_path, tuning="lora", precision=precision,
        reward_model_type="categorical",
    )  # fmt: skip
    start = build_reward_model(config, make_likelihood(make_head(config))).module.get_base_model()
    result = run(config, ROWS)
    module = result.model.module.get_base_model()
    loaded = RewardModel.from_pretrained(result.path, dtype=precision)
    again = loaded.module.get_base_model()
    kept = [final_linear(part)[1] for part in (start, module, again)]
    assert (kept[0].weight - kept[1].weight).abs().max() > 1e-3
    assert torch.equal(kept[1].weight, kept[2].weight)
    assert {layer.weight.dtype for layer in kept} == {torch.float32}
    if kind == "bert":  # a plain BERT's pooler is as new as the head
        poolers = [part.bert.pooler.dense.weight for part in (start, module, again)]
        assert (poolers[0] - poolers[1]).abs().max() > 1e-3
        assert torch.equal(poolers[1], poolers[2])


def test_arguments_that_would_change_nothing_are_refused(backbones, tmp_path):
    for name, value in (("fsdp", True), ("neftune_noise_alpha", 5.0), ("save_only_model", True)):
        config = train_config(backbones("gpt2"), tmp_path, training_arguments={name: value})
        with pytest.raises(ConfigError, match=f"this training loop does not take {name}"):
            run(config, ROWS)
