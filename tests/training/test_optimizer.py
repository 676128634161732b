"""The optimiser's groups: what is decayed, and what has a rate of its own."""

from __future__ import annotations

import pytest
import torch
from transformers import TrainingArguments

from hidden_context.data.importers import read_row
from hidden_context.errors import ConfigError
from hidden_context.training.finetune import build_reward_model, training_arguments
from hidden_context.training.labels import make_head, make_training_likelihood
from hidden_context.training.module import PreferenceModule
from hidden_context.training.optimizer import make_optimizer
from support.builders import preference_rows, train_config


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


def test_an_ensemble_s_output_layer_is_a_prior_that_is_not_decayed(backbones, tmp_path):
    groups, _ = made(backbones, tmp_path, ensemble="heads", ensemble_members=2)
    assert any("score" in name for name in groups[1][0])
    assert not any("score" in name for name in groups[0][0])


@pytest.mark.parametrize("name", ["adamw_torch", "sgd", "rmsprop", "adafactor"])
def test_optimizers_go_by_transformers_names(backbones, tmp_path, name):
    groups, _ = made(backbones, tmp_path, optim=name)
    assert len(groups) == 2


def test_optimizers_that_take_layers_in_charge_are_refused(backbones, tmp_path, monkeypatch):
    from transformers import Trainer

    _, module = made(backbones, tmp_path)
    arguments = TrainingArguments(
        output_dir=str(tmp_path), report_to="none", use_cpu=True, optim="adamw_torch_fused"
    )
    for found in (
        (torch.optim.SGD, {"optimizer_dict": {}}),
        (torch.optim.SGD, {"params": []}),
        (lambda *_: None, {}),
    ):
        monkeypatch.setattr(
            Trainer, "get_optimizer_cls_and_kwargs", staticmethod(lambda *_, f=found: f)
        )
        with pytest.raises(ConfigError, match="chooses layers itself"):
            make_optimizer(module, arguments, 0.1)

    def unknown(*_):
        raise ValueError("no such thing here")

    monkeypatch.setattr(Trainer, "get_optimizer_cls_and_kwargs", staticmethod(unknown))
    with pytest.raises(ConfigError, match="--optim adamw_torch_fused: no such thing here"):
        make_optimizer(module, arguments, 0.1)
