"""The optimiser's groups: what is decayed, and what has a rate of its own."""

import itertools
import math
import re

import pytest
import torch
from transformers import Trainer

from hidden_context.data.importers import read_row
from hidden_context.errors import ConfigError, DivergedError
from hidden_context.likelihood import HeadLikelihood, LikelihoodOptions, make_likelihood
from hidden_context.models import RewardModel
from hidden_context.models.network.modules import final_linear
from hidden_context.training import run
from hidden_context.training.finetune import build_reward_model, training_arguments
from hidden_context.training.labels import make_head, make_training_likelihood
from hidden_context.training.module import PreferenceModule
from hidden_context.training.optimizer import make_optimizer
from hidden_context.training.runner import StepRunner
from support.builders import preference_rows, tiny_tokenizer, train_config
from support.runs import (
    copied,
    largest_difference,
    logged,
    losses,
    spied,
    trained_parameters,
)

ROWS = preference_rows(22, seed=3)


@pytest.mark.parametrize("head", ["base", "mean_and_variance", "categorical"])
def test_a_step_is_the_product_of_batch_size_and_accumulation(fit, head):
    """22 pairs in steps of 8: the last one of an epoch has 6, each of which weighs a sixth."""
    one, other = (
        fit(
            ROWS, into=str(size), reward_model_type=head, per_device_train_batch_size=size,
            gradient_accumulation_steps=accumulation, num_train_epochs=2, evaluate_at_end=False,
        )
        for size, accumulation in ((8, 1), (2, 4))
    )  # fmt: skip
    assert len(losses(one)) == 6
    assert losses(one) == losses(other)
    assert largest_difference(trained_parameters(one), trained_parameters(other)) == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"gradient_accumulation_steps": 2}, "gradient_accumulation_steps has to be 1"),
        ({"fsdp": True}, "this training loop does not take fsdp"),
        ({"neftune_noise_alpha": 5.0}, "this training loop does not take neftune_noise_alpha"),
        ({"save_only_model": True}, "this training loop does not take save_only_model"),
        ({"bf16": True}, "does not take bf16; bfloat16 is --precision bfloat16."),
        ({"sorcery": 1}, "has no argument sorcery"),
    ],
)
def test_arguments_that_would_change_nothing_are_refused(fit, arguments, message):
    with pytest.raises(ConfigError, match=message):
        fit(ROWS, training_arguments=arguments)


def test_by_default_nothing_but_the_paper_s_loss_is_trained(backbones, tmp_path):
    """Five steps on all pairs, and a loop by hand with −log sigmoid of the reward difference."""
    config = train_config(
        backbones("gpt2"), tmp_path, optim="sgd", learning_rate=0.05, num_train_epochs=5,
        per_device_train_batch_size=len(ROWS), training_arguments={"max_grad_norm": 0.5},
    )  # fmt: skip
    result = run(config, ROWS)
    assert result.model.likelihood.options == LikelihoodOptions()
    assert not list(result.model.likelihood.parameters())
    assert not list(result.path.glob("likelihood.*"))
    model = build_reward_model(config, make_likelihood(make_head(config)))
    start = copied(model.module)
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
    by_hand = copied(model.module)
    assert largest_difference(by_hand, start) > 1e-3
    assert largest_difference(trained_parameters(result), by_hand) < 1e-5


@pytest.mark.parametrize("name", ["cosine", "step", "linear", "constant_with_warmup"])
def test_schedules_through_the_loop(fit, name):
    result = fit(
        ROWS[:4], learning_rate=0.01, max_steps=9, per_device_train_batch_size=2,
        lr_scheduler_type=name,
        training_arguments={"warmup_steps": 3} if "warmup" in name else {},
    )  # fmt: skip
    rates = [rate / 0.01 for rate in logged(result, "learning_rate")]
    expected = {
        "cosine": [0.1 + 0.45 * (1 + math.cos(math.pi * t / 9)) for t in range(9)],
        "step": [1.0] * 3 + [0.1] * 3 + [0.01] * 3,
        "linear": [1 - t / 9 for t in range(9)],
        "constant_with_warmup": [0, 1 / 3, 2 / 3] + [1.0] * 6,
    }[name]
    assert rates == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("kind", ["gpt2", "roberta"])
def test_bfloat16_on_the_cpu_keeps_the_head_in_float32(backbones, fit, kind):
    options = {"backbone": backbones(kind), "tuning": "lora", "learning_rate": 1e-3}
    exact, half = (
        fit(ROWS, ROWS, into=name, precision=name, **options) for name in ("float32", "bfloat16")
    )
    module = half.model.module.get_base_model()
    assert final_linear(module)[1].weight.dtype == torch.float32
    frozen = [p for n, p in module.named_parameters() if not p.requires_grad and "base_layer" in n]
    assert {p.dtype for p in frozen} == {torch.bfloat16}
    assert losses(half) == pytest.approx(losses(exact), abs=0.02)
    assert half.model.raw_outputs([row["chosen"] for row in ROWS]).dtype == torch.float32
    assert half.metrics["loss"] == pytest.approx(exact.metrics["loss"], abs=0.02)


def spoil(monkeypatch, owner, name, change):
    """Let a method give ``change(number of the call, result, *inputs)``."""
    original, calls = getattr(owner, name), itertools.count(1)
    monkeypatch.setattr(
        owner, name, lambda *inputs: change(next(calls), original(*inputs), *inputs)
    )


def test_a_loss_that_is_not_finite_stops_training(fit, tmp_path, monkeypatch):
    bad = torch.tensor([1.0, math.nan, 1.0, 1.0])
    spoil(
        monkeypatch, HeadLikelihood, "forward", lambda n, loss, *_: loss * bad if n == 3 else loss
    )
    passes = spied(monkeypatch, PreferenceModule, "forward", lambda *inputs: inputs)
    # blank rows are dropped, so places among the pairs kept are not lines of the source
    blank = [{"chosen": " ", "rejected": "x"}] * 50
    with pytest.raises(DivergedError) as caught:
        fit([*blank, *ROWS], per_device_train_batch_size=4, save_steps=1)
    message = str(caught.value)
    assert "training stopped at step 3: the loss is not finite" in message
    assert "Lower the learning rate" in message
    found = re.search(r"Lines of the training data \(from 1\): (\d+)\.", message)
    assert found is not None  # the one bad row, not its whole batch
    tokens = tiny_tokenizer()(ROWS[int(found.group(1)) - 51]["chosen"])["input_ids"]
    assert passes[2][1][1][0] == tokens  # the second pair of the third batch
    intact = RewardModel.from_pretrained(tmp_path / "checkpoint-2")
    assert intact.raw_outputs([ROWS[0]["chosen"]]).isfinite().all()
    assert not (tmp_path / "final").exists()


@pytest.mark.parametrize("part", ["network", "likelihood"])
def test_a_gradient_that_is_not_finite_stops_before_the_step(fit, monkeypatch, part):
    def infinite(number, result, runner, *_):
        if number == 2:
            learned = getattr(runner.module, part).parameters()
            next(p for p in learned if p.grad is not None).grad[0] = math.inf
        return result

    spoil(monkeypatch, StepRunner, "step", infinite)
    with pytest.raises(DivergedError, match="step 2: a gradient is not finite"):
        fit(ROWS, outcomes="ties")


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


# ---- The optimiser's groups: what is decayed, and what has a rate of its own


def made(backbones, folder, kind="gpt2", **options):
    config = train_config(backbones(kind), folder, weight_decay=0.5, **options)
    rows = [row | {"annotator": "ab"[n % 2]} for n, row in enumerate(preference_rows(4))]
    likelihood = make_training_likelihood(config, make_head(config), [read_row(r) for r in rows])
    module = PreferenceModule(build_reward_model(config, likelihood).module, likelihood)
    arguments = training_arguments(config, validated=False, has_eval=False)
    optimizer = make_optimizer(module, arguments, 0.03)
    names = {id(p): n for n, p in module.named_parameters()}
    return [
        ({names[id(p)] for p in group["params"]}, group["weight_decay"], group["lr"])
        for group in optimizer.param_groups
    ], module


@pytest.mark.parametrize("kind", ["gpt2", "llama", "bert"])
@pytest.mark.parametrize("tuning", ["full", "lora"])
def test_biases_and_norms_are_not_decayed(backbones, tmp_path, kind, tuning):
    groups, module = made(backbones, tmp_path, kind, tuning=tuning)
    (decayed, strength, rate), (others, none, other_rate) = groups
    assert (strength, none, rate, other_rate) == (0.5, 0.0, 3e-3, 3e-3)
    trained = {name for name, p in module.named_parameters() if p.requires_grad}
    assert decayed | others == trained
    assert not decayed & others
    shapes = {name: p.dim() for name, p in module.named_parameters()}
    assert all(shapes[name] == 2 for name in decayed)
    assert all(shapes[name] == 1 for name in others)
    assert any("score" in name or "classifier" in name for name in decayed)


def test_the_likelihood_has_a_rate_of_its_own(backbones, tmp_path):
    options = {"reward_model_type": "factor", "annotators": "map", "outcomes": "ties"}
    groups, _ = made(backbones, tmp_path, **options)
    assert len(groups) == 3
    names, decay, rate = groups[2]
    learned = ("annotators.location", "habits.location", "outcomes.raw_gaps")
    # a point has no spread that could tell the scale of its prior
    assert names - {"likelihood.habits.log_prior_scale"} == {f"likelihood.{n}" for n in learned}
    assert (decay, rate) == (0.0, 0.03)
    assert not any(name.startswith("likelihood") for group in groups[:2] for name in group[0])


@pytest.mark.parametrize(
    ("kind", "tuning"), [("gpt2", "full"), ("llama", "lora"), ("bert", "full")]
)
def test_an_ensemble_s_output_layer_is_a_prior_that_is_not_decayed(
    backbones, tmp_path, kind, tuning
):
    options = {"ensemble": "heads", "ensemble_members": 2, "tuning": tuning}
    (decayed, *_), (others, *_) = made(backbones, tmp_path, kind, **options)[0]
    layer = "classifier" if kind == "bert" else "score"
    assert any(f".{layer}." in name for name in others)
    assert not any(f".{layer}." in name for name in decayed)


@pytest.mark.parametrize("name", ["adamw_torch", "sgd", "rmsprop", "adafactor"])
def test_optimizers_go_by_transformers_names(backbones, tmp_path, name):
    groups, _ = made(backbones, tmp_path, optim=name)
    assert len(groups) == 2


@pytest.mark.parametrize(
    ("found", "message"),
    [
        ((torch.optim.SGD, {"optimizer_dict": {}}), "chooses layers itself"),
        ((torch.optim.SGD, {"params": []}), "chooses layers itself"),
        ((lambda *_: None, {}), "chooses layers itself"),
        (ValueError("no such thing here"), "--optim adamw_torch: no such thing here"),
    ],
)
def test_optimizers_that_take_layers_in_charge_are_refused(
    backbones, tmp_path, monkeypatch, found, message
):
    def given(*_):
        if isinstance(found, Exception):
            raise found
        return found

    monkeypatch.setattr(Trainer, "get_optimizer_cls_and_kwargs", staticmethod(given))
    with pytest.raises(ConfigError, match=message):
        made(backbones, tmp_path)


@pytest.mark.slow
def test_qlora_trains_adapters_on_a_backbone_of_four_bits(backbones, fit):
    pytest.importorskip(
        "bitsandbytes", reason="bitsandbytes is not installed (hidden-context[qlora])"
    )
    curves, models = {}, {}
    for tuning in ("lora", "qlora"):
        backbone = backbones("llama", hidden_size=64, intermediate_size=64)
        options = {"tuning": tuning, "num_train_epochs": 6, "quiet": True}
        result = fit(preference_rows(16, seed=3), into=tuning, backbone=backbone, **options)
        curves[tuning], models[tuning] = losses(result), result.model
    quantised = [p for p in models["qlora"].module.parameters() if p.dtype == torch.uint8]
    assert quantised
    assert not any(parameter.requires_grad for parameter in quantised)
    trained = [p for p in models["qlora"].module.parameters() if p.requires_grad]
    assert {parameter.dtype for parameter in trained} == {torch.float32}
    # 4 bits change hidden states by some per cent
    assert curves["qlora"][0] == pytest.approx(curves["lora"][0], abs=0.02)
    assert curves["qlora"][-1] < curves["qlora"][0] - 0.03
