from __future__ import annotations

import pytest
import torch
from transformers import AutoModelForSequenceClassification

from hidden_context.errors import ConfigError, DataError, HiddenContextWarning
from hidden_context.models import RewardModel
from hidden_context.models.engine.runner import Runner
from hidden_context.models.modules import final_linear
from hidden_context.models.sequence import SequenceRewardModel
from hidden_context.models.tokenizer import prepare_tokenizer
from support.builders import (
    CHAT_TEMPLATE,
    DECODERS,
    ENCODERS,
    sample_texts,
    tiny_classifier,
    tiny_tokenizer,
)

TEXTS = sample_texts(64)


@pytest.mark.parametrize("kind", [*DECODERS, *ENCODERS, "electra"])
def test_rewards_do_not_depend_on_the_batch(backbones, kind):
    model = RewardModel.from_pretrained(backbones(kind, num_labels=1), dtype="float32")
    alone = model.raw_outputs(TEXTS, batch_size=1)
    assert alone.shape == (64, 1)
    assert alone.dtype == torch.float32
    spread = alone.std()
    assert spread > 1e-3
    for size in (7, 64):
        difference = (model.raw_outputs(TEXTS, batch_size=size) - alone).abs().max()
        assert difference < 1e-5 * max(1.0, float(spread))


def test_t5_too(backbones):
    model = RewardModel.from_pretrained(backbones("t5", num_labels=1, spread=1.0), dtype="float32")
    alone = model.raw_outputs(TEXTS[:20], batch_size=1)
    assert alone.std() > 1e-3
    assert torch.allclose(model.raw_outputs(TEXTS[:20], batch_size=7), alone, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", ["gpt2", "llama", "opt"])
def test_pad_equal_to_eos_and_texts_that_end_in_eos(backbones, kind):
    tokenizer = tiny_tokenizer(pad=None)
    folder = backbones(kind, num_labels=1, tokenizer=tokenizer, pad_token_id=2)
    model = RewardModel.from_pretrained(folder, dtype="float32")
    assert model.tokenizer.pad_token_id == model.tokenizer.eos_token_id == 2
    texts = [text + "</s>" * (index % 3) for index, text in enumerate(TEXTS[:16])]
    raw = model.raw_outputs(texts, batch_size=16)
    module = model.module
    for text, output in zip(texts, raw, strict=True):
        ids = torch.tensor([model.tokenizer(text)["input_ids"]])
        assert (ids[0, -1] == 2) == text.endswith("</s>")
        with torch.no_grad():
            hidden = module.base_model(input_ids=ids)[0]
            by_hand = final_linear(module)[1](hidden[0, -1])
        assert torch.allclose(output, by_hand, atol=1e-5)
    # a final EOS is read, not passed over
    plain, ended = model.raw_outputs([TEXTS[0], TEXTS[0] + "</s>"])
    assert (plain - ended).abs() > 1e-3


@pytest.mark.parametrize("kind", ["gpt2", "llama", "roberta", "bert"])
def test_bfloat16_backbones_give_float32_rewards_that_do_not_tie(backbones, kind):
    folder = backbones(kind, num_labels=1)
    exact = RewardModel.from_pretrained(folder, dtype="float32").raw_outputs(TEXTS)[:, 0]
    model = RewardModel.from_pretrained(folder, dtype="bfloat16")
    dtypes = {parameter.dtype for parameter in model.module.parameters()}
    assert dtypes == {torch.bfloat16, torch.float32}
    half = model.raw_outputs(TEXTS)[:, 0]
    assert half.dtype == torch.float32
    assert len(half.unique()) == len(exact.unique())
    assert len(half.bfloat16().unique()) < len(half.unique())  # what a bfloat16 head would tie
    correlation = torch.corrcoef(torch.stack([exact, half]))[0, 1]
    assert correlation > 0.9


def test_too_long_texts_are_cut_at_the_front_with_a_warning(backbones):
    model = RewardModel.from_pretrained(backbones("gpt2", num_labels=1), max_length=12)
    ids = model.tokenizer(TEXTS[0])["input_ids"]
    with pytest.warns(HiddenContextWarning, match="1 of 1 texts are longer than 12 tokens"):
        raw = model.raw_outputs([TEXTS[0]])
    assert torch.allclose(raw, model.raw_outputs_of_tokens([ids[-12:]]), atol=1e-6)
    dropped = model.try_raw_outputs([TEXTS[0], "short"], over_length="drop")
    assert dropped.raw[0].isnan().all()
    assert dropped.raw[1].isfinite().all()
    assert "more than 12" in dropped.reasons[0]


def test_what_cannot_be_scored_is_an_error(backbones):
    model = RewardModel.from_pretrained(backbones("gpt2", num_labels=1))
    with pytest.raises(DataError, match="text 1 cannot be scored: it has no tokens"):
        model.raw_outputs(["fine", ""])
    with pytest.raises(ConfigError, match="list"):
        model.score("one text")
    assert model.raw_outputs([]).shape == (0, 1)


def test_chat_messages_and_prompts_with_responses(backbones):
    folder = backbones("gpt2", num_labels=1, tokenizer=tiny_tokenizer(chat_template=CHAT_TEMPLATE))
    model = RewardModel.from_pretrained(folder)
    messages = [{"role": "user", "content": "tea?"}, {"role": "assistant", "content": "kind"}]
    rendered = "<user> tea?</s><assistant> kind</s>"
    rewards = model.score([messages, rendered]).mean
    assert torch.allclose(rewards[0], rewards[1], atol=1e-6)
    both = model.score_responses(messages[:1], ["kind", "rude"]).mean
    assert both.shape == (2,)
    assert torch.allclose(both[0], rewards[0], atol=1e-6)
    text = model.score_responses("\n\nHuman: tea?\n\nAssistant:", ["kind"]).mean
    joined = model.score(["\n\nHuman: tea?\n\nAssistant: kind"]).mean
    assert torch.allclose(text, joined, atol=1e-6)


@pytest.mark.parametrize("pad", ["<pad>", None])
def test_an_encoder_decoder_reads_at_the_last_eos_however_many_a_text_holds(backbones, pad):
    """Compared with Transformers' own class, which takes one text after the other."""
    folder = backbones("t5", num_labels=1, spread=1.0)
    tokenizer = tiny_tokenizer(bos="<s>", frame="$A </s>", pad=pad)
    stock = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    model = RewardModel.from_pretrained(folder, dtype="float32")
    prepare_tokenizer(tokenizer)  # without a padding token it pads with EOS
    model = SequenceRewardModel(model.module, tokenizer, model.likelihood, 128)
    texts = ["Tea? Yes.", "Tea? </s> No.", "</s></s> Rain", "Snow, and rain, and more rain </s>"]
    ids = [tokenizer(text)["input_ids"] for text in texts]
    assert [each.count(2) for each in ids] == [1, 2, 3, 2]
    with torch.no_grad():
        alone = torch.cat([stock(torch.tensor([each])).logits for each in ids])
    for size in (1, 2, 4):
        assert torch.allclose(model.raw_outputs(texts, batch_size=size), alone, atol=1e-5)
    with pytest.raises(DataError, match="lacks the end-of-sequence token"):
        model.raw_outputs_of_tokens([ids[0], [5, 6, 7]])


def test_gradients_pass_through_texts_with_different_numbers_of_eos(backbones):
    module = tiny_classifier("t5", 1)
    ids = torch.tensor([[5, 6, 2, 0], [7, 2, 8, 2]])
    module(ids, attention_mask=(ids != 0).long()).logits.square().sum().backward()
    assert final_linear(module)[1].weight.grad.abs().max() > 0


def test_tokens_beyond_the_vocabulary_are_named_and_padding_may_be_one(backbones):
    model = RewardModel.from_pretrained(backbones("llama", num_labels=1), dtype="float32")
    expected = model.raw_outputs_of_tokens([[5, 6, 7], [8]], engine="padded")
    padded = SequenceRewardModel(model.module, model.tokenizer, model.likelihood, 128)
    padded.runner = Runner(model.module, 420)
    for engine in ("padded", "tree", "cache"):
        found = padded.raw_outputs_of_tokens([[5, 6, 7], [8]], engine=engine)
        assert torch.allclose(found, expected, atol=1e-5)
        with pytest.raises(DataError, match="token 420, but the model's vocabulary has 420"):
            padded.raw_outputs_of_tokens([[5, 6, 7], [5, 420]], engine=engine)
