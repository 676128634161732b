"""Reward models to export: tiny, with every trained weight moved, saved as training saves them."""

from __future__ import annotations

import pytest
import torch

from hidden_context.heads import EnsembleHead
from hidden_context.likelihood import make_likelihood
from hidden_context.models import RewardModel
from hidden_context.models.adapter_ensemble import AdapterEnsembleRewardModel, adapter_name
from hidden_context.models.backbone import build_model
from hidden_context.models.engine.forward import classifier_of
from hidden_context.models.head_file import RewardScale
from hidden_context.models.modules import final_linear
from hidden_context.models.sequence import SequenceRewardModel
from hidden_context.models.tokenizer import load_tokenizer
from support.fixtures import backbones, feature_cache_in_tmp, fixed_random_state

__all__ = ["backbones", "feature_cache_in_tmp", "fixed_random_state"]


def move(module, seed):
    """Move the weights that are trained, as training does; the last layer most."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.05)
        final_linear(classifier_of(module))[1].weight.mul_(5)
    return module


class Checkpoints:
    """Writes checkpoints, each into a folder of its own."""

    def __init__(self, folder):
        self.folder, self.made = folder, 0

    def __call__(self, backbone, head, *, tuning="lora", likelihood=None, bias=None, seed=0):
        """Return the folder of a checkpoint of one network."""
        torch.manual_seed(seed)  # the last layer is drawn
        module = move(build_model(backbone, head, tuning=tuning), seed)
        if bias is not None:
            layer = final_linear(module)[1]
            layer.bias = torch.nn.Parameter(torch.tensor(bias))
        return self.save(
            SequenceRewardModel(
                module,
                load_tokenizer(backbone),
                likelihood or make_likelihood(head),
                100,
                base_model=backbone,
                reward_scale=RewardScale(1.5, 2.0, 40),
            )
        )

    def ensemble(self, backbone, member, count=2):
        """Return the folder of an ensemble of adapters."""
        module = build_model(backbone, member)
        config = module.peft_config["default"]
        for number in range(count):
            module.add_adapter(adapter_name(number), config)
        module.delete_adapter("default")
        for number in range(count):
            module.set_adapter(adapter_name(number))
            move(module, number)
        head = EnsembleHead(member, count)
        return self.save(
            AdapterEnsembleRewardModel(
                module, load_tokenizer(backbone), make_likelihood(head), 100, base_model=backbone
            )
        )

    def save(self, model):
        """Save a model into a new folder."""
        self.made += 1
        path = self.folder / f"checkpoint-{self.made}"
        model.save_pretrained(path)
        return path


@pytest.fixture
def checkpoints(tmp_path):
    return Checkpoints(tmp_path)


@pytest.fixture
def load():
    def load(folder, **options):
        return RewardModel.from_pretrained(folder, dtype="float32", device="cpu", **options)

    return load
