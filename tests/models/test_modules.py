from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from transformers import AutoModelForSequenceClassification

from hidden_context.errors import CheckpointError
from hidden_context.models.engine.pooling import LastAttendedPooling, last_attended
from hidden_context.models.modules import (
    Float32Linear,
    final_linear,
    keep_float32,
    specialise_for_rewards,
)
from support.builders import tiny_config


def classifier(kind, **options):
    return AutoModelForSequenceClassification.from_config(
        tiny_config(kind, num_labels=options.pop("num_labels", 1), **options)
    ).eval()


def test_last_attended_position_with_padding_on_either_side():
    mask = torch.tensor([[1, 1, 1, 0, 0], [0, 0, 1, 1, 1], [1, 0, 0, 0, 0], [1, 1, 1, 1, 1]])
    assert last_attended(mask).tolist() == [2, 4, 0, 4]
    assert last_attended(mask.bool()).tolist() == [2, 4, 0, 4]


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("gpt2", "score"),
        ("llama", "score"),
        ("bert", "classifier"),
        ("distilbert", "classifier"),
        ("roberta", "classifier.out_proj"),
        ("electra", "classifier.out_proj"),
        ("t5", "classification_head.out_proj"),
    ],
)
def test_final_linear_is_found_whatever_its_name(kind, name):
    found, layer = final_linear(classifier(kind, num_labels=3))
    assert found == name
    assert layer.out_features == 3


def test_no_head_is_a_clear_error():
    model = classifier("gpt2")
    model.config.num_labels = 7
    with pytest.raises(CheckpointError, match="no linear layer with 7 outputs"):
        final_linear(model)


def test_float32_linear_keeps_what_bfloat16_loses():
    layer = nn.Linear(8, 1)
    reference = copy.deepcopy(layer)
    keep_float32(layer.bfloat16())
    assert type(layer) is Float32Linear
    x = torch.randn(64, 8).bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = layer(x)
    assert output.dtype == torch.float32
    exact = nn.functional.linear(x.float(), layer.weight, layer.bias)
    assert torch.equal(output, exact)
    assert layer(x.double()).dtype == torch.float64
    assert torch.allclose(output, reference(x.float()), atol=0.05)


def test_specialising_is_idempotent_and_keeps_names_and_float64():
    model = classifier("gpt2").double()
    specialise_for_rewards(model)
    first = type(model)
    specialise_for_rewards(model)
    assert type(model) is first
    assert type(model).__name__ == "GPT2ForSequenceClassification"
    assert isinstance(model, LastAttendedPooling)
    assert model.score.weight.dtype == torch.float64
    assert list(model.state_dict()) == list(classifier("gpt2").state_dict())


def test_whole_head_of_a_half_precision_encoder_is_float32():
    model = classifier("roberta").bfloat16()
    specialise_for_rewards(model)
    dtypes = {name: p.dtype for name, p in model.named_parameters()}
    assert dtypes["classifier.dense.weight"] == torch.float32
    assert dtypes["classifier.out_proj.bias"] == torch.float32
    assert dtypes["roberta.encoder.layer.0.attention.self.query.weight"] == torch.bfloat16
    ids = torch.randint(3, 400, (2, 9))
    assert model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits.dtype == torch.float32


def test_decoders_read_the_position_that_the_mask_ends_at():
    """Padding with EOS on either side, and a text that ends in EOS, compared by hand."""
    model = classifier("gpt2", pad_token_id=2)
    specialise_for_rewards(model)
    text = torch.tensor([[17, 80, 33, 2, 2]])  # ends in two EOS, which is also the padding token
    with torch.no_grad():
        hidden = model.transformer(input_ids=text).last_hidden_state
        by_hand = hidden[:, -1] @ model.score.weight.T
        padded = torch.nn.functional.pad(text, (0, 3), value=2)
        mask = torch.tensor([[1] * 5 + [0] * 3])
        assert torch.allclose(model(padded, mask).logits, by_hand, atol=1e-6)
        assert torch.allclose(model(text).logits, by_hand, atol=1e-6)
        stock = classifier("gpt2", pad_token_id=2)
        stock.load_state_dict(model.state_dict())
        # what is avoided: the stock pooling stops before the final EOS
        assert not torch.allclose(stock(padded, attention_mask=mask).logits, by_hand, atol=1e-3)


def test_forward_passes_on_hidden_states_and_builds_no_cache():
    model = classifier("gpt2")
    specialise_for_rewards(model)
    seen = {}
    handle = model.transformer.register_forward_pre_hook(
        lambda module, args, kwargs: seen.update(kwargs), with_kwargs=True
    )
    ids = torch.randint(3, 400, (2, 4))
    output = model(ids, torch.ones_like(ids), output_hidden_states=True, labels=None)
    handle.remove()
    assert seen["use_cache"] is False
    assert len(output.hidden_states) == 3
    assert output.logits.shape == (2, 1)
