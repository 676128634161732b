"""The training loop: steps, rates, what stops it, and what the optimiser decays."""

import itertools
import math
import re

import pytest
import torch
from transformers import Trainer

from hidden_context.data.importers import read_row
from hidden_context.errors import ConfigError, DivergedError
from hidden_context.likelihood import HeadLikelihood, make_likelihood
from hidden_context.models import RewardModel
from hidden_context.models.network.modules import final_linear
from hidden_context.training.finetune import build_reward_model, training_arguments
from hidden_context.training.labels import make_head, make_training_likelihood
from hidden_context.training.module import PreferenceModule
from hidden_context.training.optimizer import make_optimizer
from hidden_context.training.runner import StepRunner
from support.builders import preference_rows, tiny_tokenizer, train_config
from support.runs import largest_difference, logged, losses, spied, trained_parameters

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


@pytest.mark.parametrize("kind", ["gpt2", "roberta", "bert"])
def test_lora_trains_and_saves_a_head_of_float32_in_either_precision(backbones, fit, kind):
    results = {}
    for precision in ("float32", "bfloat16"):
        options = {"reward_model_type": "categorical", "precision": precision, "tuning": "lora"}
        result = fit(ROWS, ROWS, into=precision, backbone=backbones(kind), **options)
        config = train_config(backbones(kind), "x", **options)
        start = build_reward_model(config, make_likelihood(make_head(config)))
        loaded = RewardModel.from_pretrained(result.path, dtype=precision)
        modules = [model.module.get_base_model() for model in (start, result.model, loaded)]
        layers = [final_linear(module)[1].weight for module in modules]
        if kind == "bert":  # a plain BERT's pooler is as new as the head
            layers += [module.bert.pooler.dense.weight for module in modules]
        for before, after, again in zip(layers[::3], layers[1::3], layers[2::3], strict=True):
            assert (before - after).abs().max() > 1e-3
            assert torch.equal(after, again)
        assert {layer.dtype for layer in layers[:3]} == {torch.float32}
        frozen = [p for n, p in modules[1].named_parameters() if "base_layer" in n]
        assert {str(p.dtype) for p in frozen} == {f"torch.{precision}"}
        assert result.model.raw_outputs([row["chosen"] for row in ROWS]).dtype == torch.float32
        results[precision] = result
    exact, half = results.values()
    assert losses(half) == pytest.approx(losses(exact), abs=0.02)
    assert half.metrics["loss"] == pytest.approx(exact.metrics["loss"], abs=0.02)


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


@pytest.mark.parametrize("ensemble", ["none", "heads"])
@pytest.mark.parametrize("tuning", ["full", "lora"])
@pytest.mark.parametrize("kind", ["gpt2", "llama", "bert"])
def test_biases_norms_and_the_prior_of_an_ensemble_are_not_decayed(
    backbones, tmp_path, kind, tuning, ensemble
):
    options = {"tuning": tuning, "ensemble": ensemble, "ensemble_members": 2}
    groups, module = made(backbones, tmp_path, kind, **options)
    (decayed, strength, rate), (others, none, other_rate) = groups
    assert (strength, none, rate, other_rate) == (0.5, 0.0, 3e-3, 3e-3)
    trained = {name: p.dim() for name, p in module.named_parameters() if p.requires_grad}
    layer = ".classifier." if kind == "bert" else ".score."
    prior = {name for name in trained if layer in name and ensemble == "heads"}
    assert decayed == {name for name, size in trained.items() if size == 2} - prior
    assert others == set(trained) - decayed
    assert any(layer in name for name in trained)


@pytest.mark.parametrize("name", ["adamw_torch", "sgd", "rmsprop", "adafactor"])
def test_the_likelihood_has_a_rate_of_its_own_with_any_optimizer(backbones, tmp_path, name):
    options = {"reward_model_type": "factor", "annotators": "map", "outcomes": "ties"}
    groups, _ = made(backbones, tmp_path, optim=name, **options)
    assert len(groups) == 3
    names, decay, rate = groups[2]
    learned = ("annotators.location", "habits.location", "outcomes.raw_gaps")
    # a point has no spread that could tell the scale of its prior
    assert names - {"likelihood.habits.log_prior_scale"} == {f"likelihood.{n}" for n in learned}
    assert (decay, rate) == (0.0, 0.03)
    assert not any(name.startswith("likelihood") for group in groups[:2] for name in group[0])


@pytest.mark.parametrize(
    ("found", "message"),
    [
        ((torch.optim.SGD, {"optimizer_dict": {}}), "picks the layers it trains by itself"),
        ((torch.optim.SGD, {"params": []}), "picks the layers it trains by itself"),
        ((lambda *_: None, {}), "picks the layers it trains by itself"),
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
