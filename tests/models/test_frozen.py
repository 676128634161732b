from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from hidden_context import heads
from hidden_context.errors import CheckpointError, ConfigError, DataError, StorageError
from hidden_context.likelihood import make_likelihood
from hidden_context.models import RewardModel
from hidden_context.models.contents import FROZEN_CONFIG, PROBE_WEIGHTS
from hidden_context.models.featurizer import Featurizer, FeaturizerOptions
from hidden_context.models.frozen import (
    FrozenRewardModel,
    Probe,
    ProbeOptions,
)
from hidden_context.models.head_file import HEAD_FILE, HeadFile, RewardScale
from support.builders import CHAT_TEMPLATE, sample_texts, tiny_tokenizer

TEXTS = sample_texts(10)
HEAD = heads.make("mean_and_variance")
SHAPE = ProbeOptions(hidden=8, dropout=0.1, members=3)


def frozen_model(folder, embed="apart", **options) -> FrozenRewardModel:
    torch.manual_seed(0)
    head = heads.make("mean_and_variance", likelihood="logistic")
    featurizer = Featurizer(folder, FeaturizerOptions(embed=embed, max_length=50), **options)
    probe = Probe(64 if embed == "apart" else 32, head, SHAPE)
    probe.standardise(featurizer.features(TEXTS))
    return FrozenRewardModel(
        featurizer, probe, SHAPE, make_likelihood(head), reward_scale=RewardScale(0.0, 1.0, 20)
    )


def test_probe_is_the_mean_of_standardised_members():
    torch.manual_seed(0)
    probe = Probe(5, HEAD, ProbeOptions(4, 0.5, 3)).eval()
    features = torch.randn(40, 5) * 3 + 7
    probe.standardise(features)
    features[0, 0] = 1e4  # an outlier is cut at 8 standard deviations
    standardised = (features - probe.location) / probe.scale
    assert standardised[0, 0] > 1e3
    assert torch.allclose(standardised[1:].mean(0), torch.zeros(5), atol=0.2)
    standardised[0, 0] = 8
    by_hand = []
    for member in probe.members:
        first, last = member[0], member[3]
        hidden = torch.relu(standardised @ first.weight.T + first.bias)
        by_hand.append(hidden @ last.weight.T + last.bias)
    assert torch.allclose(probe(features), torch.stack(by_hand).mean(0), atol=1e-6)
    assert probe(features).abs().max() < 0.1  # nearly equal rewards to start from
    linear = Probe(5, HEAD, ProbeOptions(0, 0.0, 1))
    assert sum(p.numel() for p in linear.parameters()) == 5 * 2 + 2


def test_constant_features_do_no_harm():
    probe = Probe(3, heads.make("base"), ProbeOptions(0, 0.0, 1))
    probe.standardise(torch.ones(4, 3))
    assert probe(torch.ones(4, 3)).isfinite().all()


@pytest.mark.parametrize("options", [{"hidden": -1}, {"members": 0}, {"dropout": 1.0}])
def test_impossible_probes(options):
    with pytest.raises(ConfigError, match="cannot be built"):
        ProbeOptions(**options)


@pytest.mark.parametrize("embed", ["apart", "together"])
def test_round_trip_is_exact_and_reuses_the_cache(backbones, tmp_path, monkeypatch, embed):
    model = frozen_model(backbones("gpt2"), embed)
    raw = model.raw_outputs(TEXTS, batch_size=3)
    assert raw.shape == (10, 2)
    model.save_pretrained(tmp_path / "model")
    names = {file.name for file in (tmp_path / "model").iterdir()}
    assert {FROZEN_CONFIG, PROBE_WEIGHTS, HEAD_FILE, "tokenizer.json", "README.md"} <= names

    def never(*args):
        raise AssertionError("the backbone ran")

    monkeypatch.setattr(Featurizer, "_forward", never)
    again = RewardModel.from_pretrained(tmp_path / "model", dtype="float32", device="cpu")
    assert isinstance(again, FrozenRewardModel)
    assert torch.equal(again.raw_outputs(TEXTS), raw)
    assert again.head == model.head
    assert again.reward_scale == RewardScale(0.0, 1.0, 20)
    assert again.probe_options == SHAPE


def test_rewards_do_not_depend_on_the_batch(backbones, tmp_path, monkeypatch):
    outputs = []
    for size in (1, 7, 64):
        monkeypatch.setenv("HIDDEN_CONTEXT_CACHE", str(tmp_path / str(size)))
        outputs.append(frozen_model(backbones("llama")).raw_outputs(TEXTS, batch_size=size))
    assert torch.allclose(outputs[1], outputs[0], atol=1e-5)
    assert torch.allclose(outputs[2], outputs[0], atol=1e-5)


def test_template_and_tokenizer_come_back(backbones, tmp_path):
    tokenizer = tiny_tokenizer(chat_template=CHAT_TEMPLATE, frame="<s> $A", bos="<s>")
    model = frozen_model(backbones("gpt2"), "together", tokenizer=tokenizer)
    chat = [{"role": "user", "content": "tea?"}, {"role": "assistant", "content": "kind"}]
    raw = model.raw_outputs([chat])
    model.save_pretrained(tmp_path / "model")
    again = RewardModel.from_pretrained(tmp_path / "model", dtype="float32")
    assert again.tokenizer.chat_template == CHAT_TEMPLATE
    assert torch.equal(again.raw_outputs([chat]), raw)


def test_texts_without_a_reward_are_named(backbones):
    model = frozen_model(backbones("gpt2"), "together")
    long = " ".join(["tea"] * 60)
    outputs = model.try_raw_outputs([TEXTS[0], " ", long], over_length="drop")
    assert outputs.reasons[1] == "it has no text"
    assert "more than 50" in outputs.reasons[2]
    assert outputs.raw.isnan().all(1).tolist() == [False, True, True]
    assert model.try_raw_outputs([long]).truncated == 1
    with pytest.raises(DataError, match="text 0 cannot be scored"):
        model.raw_outputs(["  "])
    with pytest.raises(ConfigError, match="list"):
        model.raw_outputs("text")


def test_backbones_can_be_named_and_heads_checked(backbones, tmp_path):
    model = frozen_model(backbones("gpt2"))
    model.save_pretrained(tmp_path / "model")
    other = RewardModel.from_pretrained(tmp_path / "model", base_model=backbones("gpt2", seed=3))
    assert (other.raw_outputs(TEXTS) - model.raw_outputs(TEXTS)).abs().max() > 1e-4
    with pytest.raises(CheckpointError, match="was trained with a mean_and_variance head"):
        RewardModel.from_pretrained(tmp_path / "model", head="base")
    exact = {"type": "mean_and_variance", "likelihood": "probit"}
    assert RewardModel.from_pretrained(tmp_path / "model", exact).head.likelihood == "probit"
    assert RewardModel.from_pretrained(tmp_path / "model", "mean_and_variance").head == model.head


def test_a_shorter_limit_is_kept_and_another_tokenizer_refused(backbones, tmp_path):
    model = frozen_model(backbones("gpt2"), "together")
    model.save_pretrained(tmp_path / "model")
    short = RewardModel.from_pretrained(tmp_path / "model", max_length=7, dtype="float32")
    assert short.max_length == 7
    assert short.try_raw_outputs([" ".join(["tea"] * 30)]).truncated == 1
    assert RewardModel.from_pretrained(tmp_path / "model", max_length=9999).max_length == 50
    with pytest.raises(ConfigError, match="keeps the tokenizer"):
        RewardModel.from_pretrained(tmp_path / "model", tokenizer_name="other")


def test_encoder_of_an_encoder_decoder_serves(backbones):
    raw = frozen_model(backbones("t5"), "together").raw_outputs(TEXTS)
    assert raw.shape == (10, 2)
    assert raw.isfinite().all()


def test_damaged_folders_are_checkpoint_errors(backbones, tmp_path):
    folder = tmp_path / "model"
    frozen_model(backbones("gpt2")).save_pretrained(folder)
    config, weights = folder / FROZEN_CONFIG, folder / PROBE_WEIGHTS
    content, state = json.loads(config.read_text()), load_file(weights)

    def refusal(match, **options):
        with pytest.raises(CheckpointError, match=match) as caught:
            RewardModel.from_pretrained(folder, **options)
        assert "\n" not in str(caught.value)

    config.write_text(json.dumps(content | {"format": 3}))
    refusal("this package reads 1 and 2; upgrade")
    config.write_text(json.dumps(content | {"trust_remote_code": True}))
    refusal("--trust_remote_code")
    assert RewardModel.from_pretrained(folder, trust_remote_code=True).head.type
    config.write_text("{oops")
    refusal("not valid JSON")
    config.write_text(json.dumps({"format": 1}))
    refusal("no complete frozen-backbone")
    config.write_text(json.dumps(content))
    save_file({name: value for name, value in state.items() if name != "location"}, weights)
    refusal(r"no complete frozen-backbone .*Missing key.*location")
    save_file(state | {"members.9.0.bias": torch.ones(1)}, weights)
    refusal(r"no complete frozen-backbone .*Unexpected key.*members\.9\.0\.bias")
    weights.write_bytes(b"garbage" * 9)
    refusal("no complete frozen-backbone")
    weights.unlink()
    refusal("is missing")


def test_a_folder_of_the_first_format_has_no_linear_part(backbones, tmp_path):
    model, folder = frozen_model(backbones("gpt2")), tmp_path / "model"
    raw = model.raw_outputs(TEXTS)
    model.save_pretrained(folder)
    config, weights = folder / FROZEN_CONFIG, folder / PROBE_WEIGHTS
    content, state = json.loads(config.read_text()), load_file(weights)
    assert content["format"] == 2
    assert state["slope"].shape == (2, 64)
    config.write_text(json.dumps(content | {"format": 1}))
    save_file({n: v for n, v in state.items() if n not in ("slope", "start")}, weights)
    assert torch.equal(RewardModel.from_pretrained(folder).raw_outputs(TEXTS), raw)
    # a folder of this format cannot lack it
    config.write_text(json.dumps(content))
    with pytest.raises(CheckpointError, match=r"Missing key.*slope"):
        RewardModel.from_pretrained(folder)


def test_the_linear_part_is_added_and_saved(backbones, tmp_path):
    model = frozen_model(backbones("gpt2"))
    before = model.raw_outputs(TEXTS)
    features = model.probe.standardised(model.featurizer.features(TEXTS))
    slope, start = torch.randn(2, 64), torch.tensor([1.0, -2.0])
    model.probe.slope, model.probe.start = slope, start
    raw = model.raw_outputs(TEXTS)
    assert torch.allclose(raw - before, features @ slope.T + start, atol=1e-4)
    model.save_pretrained(tmp_path / "model")
    assert torch.equal(RewardModel.from_pretrained(tmp_path / "model").raw_outputs(TEXTS), raw)


def test_features_that_count_several_times():
    torch.manual_seed(1)
    features, counts = torch.randn(6, 3), torch.tensor([1, 0, 3, 2, 1, 5])
    one, other = (Probe(3, HEAD, SHAPE) for _ in range(2))
    one.standardise(features, counts)
    other.standardise(features.repeat_interleave(counts, 0))
    assert torch.allclose(one.location, other.location, atol=1e-6)
    assert torch.allclose(one.scale, other.scale, atol=1e-6)
    assert torch.allclose(one.scale, features.repeat_interleave(counts, 0).std(0, correction=0))


def test_an_interrupted_save_leaves_the_old_folder_whole(backbones, tmp_path, monkeypatch):
    model = frozen_model(backbones("gpt2"))
    path = tmp_path / "model"
    model.save_pretrained(path)
    before = {file.name: file.read_bytes() for file in path.iterdir()}

    def full_disk(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(HeadFile, "save", full_disk)
    model.probe.standardise(torch.randn(9, 64))
    with pytest.raises(StorageError):
        model.save_pretrained(path)
    assert {file.name: file.read_bytes() for file in path.iterdir()} == before
    assert not list(Path(tmp_path).glob("*.partial"))
