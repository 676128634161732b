"""QLoRA on a processor: the backbone in 4 bits, adapters and head trained in float32."""

from __future__ import annotations

import pytest
import torch

from hidden_context.training import TrainConfig, run
from support.builders import preference_rows, train_config
from support.paper_layout import one_thread
from support.processes import losses

__all__ = ["one_thread"]

pytest.importorskip("bitsandbytes", reason="bitsandbytes is not installed (hidden-context[qlora])")


@pytest.mark.slow
def test_qlora_trains_adapters_on_a_backbone_of_four_bits(backbones, tmp_path):
    curves, models = {}, {}
    for tuning in ("lora", "qlora"):
        config = train_config(
            backbones("llama", hidden_size=64, intermediate_size=64),
            tmp_path / tuning,
            tuning=tuning,
            num_train_epochs=6,
            quiet=True,
        )
        result = run(TrainConfig(**vars(config)), preference_rows(16, seed=3))
        curves[tuning], models[tuning] = losses(result.history), result.model
    quantised = [p for p in models["qlora"].module.parameters() if p.dtype == torch.uint8]
    assert quantised
    assert not any(parameter.requires_grad for parameter in quantised)
    trained = [p for p in models["qlora"].module.parameters() if p.requires_grad]
    assert {parameter.dtype for parameter in trained} == {torch.float32}
    # 4 bits change hidden states by some per cent
    assert curves["qlora"][0] == pytest.approx(curves["lora"][0], abs=0.02)
    assert curves["qlora"][-1] < curves["qlora"][0] - 0.03
