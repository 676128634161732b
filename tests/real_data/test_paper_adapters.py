"""The paper's published adapters, on a GPT-2 of the published shape with random weights."""

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForSequenceClassification, GPT2Config, GPT2Model

from hidden_context import heads
from hidden_context.errors import CheckpointError
from hidden_context.models import RewardModel
from support.builders import sample_texts, tiny_tokenizer

pytestmark = [pytest.mark.real_data, pytest.mark.slow]

TEXTS = sample_texts(4)


@pytest.fixture(scope="module")
def gpt2(tmp_path_factory):
    """A plain GPT-2 small: the adapters are what is published, its weights do not matter here."""
    folder = tmp_path_factory.mktemp("gpt2")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        GPT2Model(GPT2Config()).save_pretrained(folder)
    tiny_tokenizer(max_length=1024).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def adapters(real_data):
    """Folders of the two adapters by head type."""
    found = sorted((real_data / "reward_models/hh_rlhf/both").glob("*_peft_last_checkpoint"))
    return {
        head: next(folder for folder in found if folder.name.startswith(f"{head}_gpt2"))
        for head in ("base", "mean_and_variance")
    }


def outputs_by_peft(gpt2, adapter, num_outputs):
    stock = AutoModelForSequenceClassification.from_pretrained(gpt2, num_labels=num_outputs)
    module = PeftModel.from_pretrained(stock, str(adapter)).eval()
    tokenizer = tiny_tokenizer(max_length=1024)
    with torch.no_grad():
        return torch.cat([module(**tokenizer(text, return_tensors="pt")).logits for text in TEXTS])


@pytest.mark.parametrize(
    ("head", "given", "num_outputs"),
    [("base", "base", 1), ("base", None, 1), ("mean_and_variance", "mean_and_variance", 2)],
)
def test_outputs_equal_pefts_own(gpt2, adapters, head, given, num_outputs):
    model = RewardModel.from_pretrained(
        adapters[head], head=given, base_model=gpt2, dtype="float32", device="cpu"
    )
    assert model.head == heads.make(head)
    ours = model.raw_outputs(TEXTS)
    expected = outputs_by_peft(gpt2, adapters[head], num_outputs)
    assert expected.std(0).min() > 1e-4
    assert torch.allclose(ours, expected, atol=1e-6, rtol=1e-6)


def test_heads_have_to_be_named_and_right(gpt2, adapters):
    def refusal(name, head):
        with pytest.raises(CheckpointError) as caught:
            RewardModel.from_pretrained(adapters[name], head=head, base_model=gpt2)
        return str(caught.value)

    assert "has 2 outputs and no reward_head.json" in refusal("mean_and_variance", None)
    assert "has a head of 2 outputs, but the base head has 1" in refusal(
        "mean_and_variance", "base"
    )
    assert "has a head of 1 outputs, but the categorical head has 10" in refusal(
        "base", "categorical"
    )
