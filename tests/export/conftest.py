"""Reward models to export: tiny, with every trained weight moved, saved as training saves them."""

import pytest
import torch

from hidden_context import heads
from hidden_context.models.network.modules import final_linear
from support.fixtures import backbones, feature_cache_in_tmp, fixed_random_state
from support.models import NORMAL, sequence_model, write_ensemble

__all__ = ["backbones", "feature_cache_in_tmp", "fixed_random_state"]


@pytest.fixture
def checkpoint(backbones, tmp_path):
    """``checkpoint(kind, head)``: the folder of a reward model of one network, or an ensemble."""
    made = []

    def write(kind="gpt2", head=NORMAL, *, members=0, bias=None, tokenizer=None, **options):
        made.append(tmp_path / f"checkpoint-{len(made)}")
        backbone = backbones(kind, **({"tokenizer": tokenizer} if tokenizer else {}))
        if members:
            write_ensemble(made[-1], backbone, head, range(members), last=5.0)
            return made[-1]
        model = sequence_model(backbone, head, last=5.0, **options)
        if bias is not None:
            final_linear(model.module)[1].bias = torch.nn.Parameter(torch.tensor(bias))
        model.save_pretrained(made[-1])
        return made[-1]

    return write


@pytest.fixture
def source(checkpoint):
    """A scalar reward model on GPT-2."""
    return checkpoint("gpt2", heads.make("base"))
