"""Probes on a frozen backbone: what they compute, and which folders are refused."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file

from hidden_context import heads
from hidden_context.errors import ConfigError
from hidden_context.models.checkpoint.contents import FROZEN_CONFIG, PROBE_WEIGHTS
from hidden_context.models.frozen import Probe, ProbeOptions
from support.builders import sample_texts
from support.models import NORMAL, edit_json, edit_weights, load, refusal

TEXTS = sample_texts(10)
LINEAR = ProbeOptions(0, 0.0, 1)


@pytest.fixture
def folder(saved, tmp_path):
    return shutil.copytree(saved("frozen"), tmp_path / "model")


def test_probe_is_the_mean_of_standardised_members():
    torch.manual_seed(0)
    probe = Probe(5, NORMAL, ProbeOptions(4, 0.5, 3)).eval()
    features = torch.randn(40, 5) * 3 + 7
    probe.standardise(features)
    features[0, 0] = 1e4  # an outlier is cut at 8 standard deviations
    standardised = (features - probe.location) / probe.scale
    assert standardised[0, 0] > 1e3
    assert torch.allclose(standardised[1:].mean(0), torch.zeros(5), atol=0.2)
    standardised[0, 0] = 8
    by_hand = []
    for first, _, _, last in probe.members:
        hidden = torch.relu(standardised @ first.weight.T + first.bias)
        by_hand.append(hidden @ last.weight.T + last.bias)
    plain = probe(features)
    assert torch.allclose(plain, torch.stack(by_hand).mean(0), atol=1e-6)
    assert plain.abs().max() < 0.1  # nearly equal rewards to start from
    probe.slope, probe.start = torch.randn(2, 5), torch.tensor([1.0, -2.0])
    linear = standardised @ probe.slope.T + probe.start
    assert torch.allclose(probe(features) - plain, linear, atol=1e-4)
    assert sum(p.numel() for p in Probe(5, NORMAL, LINEAR).parameters()) == 5 * 2 + 2


def test_features_that_count_several_times_or_are_constant():
    features, counts = torch.randn(6, 3), torch.tensor([1, 0, 3, 2, 1, 5])
    one, other = (Probe(3, NORMAL, LINEAR) for _ in range(2))
    one.standardise(features, counts)
    repeated = features.repeat_interleave(counts, 0)
    other.standardise(repeated)
    assert torch.allclose(one.location, other.location, atol=1e-6)
    for scale in (other.scale, repeated.std(0, correction=0)):
        assert torch.allclose(one.scale, scale, atol=1e-6)
    one.standardise(torch.ones(4, 3))
    assert one(torch.ones(4, 3)).isfinite().all()


@pytest.mark.parametrize("options", [{"hidden": -1}, {"members": 0}, {"dropout": 1.0}])
def test_impossible_probes(options):
    with pytest.raises(ConfigError, match="cannot be built"):
        ProbeOptions(**options)


def test_a_probe_has_an_ensemble_head_of_as_many_members():
    with pytest.raises(ConfigError, match="a probe of 3 members cannot have an ensemble head of 2"):
        Probe(5, heads.EnsembleHead(NORMAL, 2), ProbeOptions(members=3))


def test_features_are_those_of_the_backbone(saved):
    model = load(saved("frozen"))
    texts = [*TEXTS[:3], " "]
    outputs = model.try_raw_outputs(texts, with_features=True)
    assert outputs.reasons == [None, None, None, "it has no text"]
    assert outputs.features.shape == (4, 1, 64)
    assert outputs.features[:3, 0].equal(model.featurizer.features(texts[:3]))
    assert outputs.features[3].isnan().all()
    assert model.probe(outputs.features[:3, 0]).equal(outputs.raw[:3])
    assert model.try_raw_outputs(texts).features is None
    assert len(model.readout()) == 2 * 64 + 3 * 2 * 8


def test_another_backbone_but_no_other_tokenizer_can_be_named(saved, backbones):
    raw = load(saved("frozen")).raw_outputs(TEXTS)
    other = load(saved("frozen"), base_model=backbones("gpt2", seed=3))
    assert (other.raw_outputs(TEXTS) - raw).abs().max() > 1e-4
    assert load(saved("frozen"), max_length=9999).max_length == 100
    message = refusal(load, saved("frozen"), tokenizer_name="other", error=ConfigError)
    assert "keeps the tokenizer" in message


@pytest.mark.parametrize(
    ("drop", "values", "words"),
    [
        ([], {"format": 3}, "has format 3, this package reads 1 and 2; upgrade"),
        ([], {"trust_remote_code": True}, "allow it with trust_remote_code=True (--trust_remote"),
        (["features"], {}, "no complete frozen-backbone reward model ('features')"),
    ],
)
def test_damaged_descriptions_are_checkpoint_errors(folder, drop, values, words):
    edit_json(folder / FROZEN_CONFIG, drop, **values)
    assert words in refusal(load, folder)
    if "trust_remote_code" in values:
        assert load(folder, trust_remote_code=True).head == NORMAL
    (folder / FROZEN_CONFIG).write_text("{oops")
    assert "not valid JSON" in refusal(load, folder)


def test_damaged_weights_are_checkpoint_errors(folder):
    weights = folder / PROBE_WEIGHTS
    edit_weights(weights, **{"members.9.0.bias": torch.ones(1)})
    assert "no complete frozen-backbone" in (message := refusal(load, folder))
    assert 'Unexpected key(s) in state_dict: "members.9.0.bias"' in message
    edit_weights(weights, ["location", "members.9"])
    assert 'Missing key(s) in state_dict: "location"' in refusal(load, folder)
    weights.write_bytes(b"garbage" * 9)
    assert "no complete frozen-backbone" in refusal(load, folder)
    weights.unlink()
    assert "is missing" in refusal(load, folder)


def test_a_folder_of_the_first_format_has_no_linear_part(folder):
    model = load(folder)
    for name in ("slope", "start"):
        setattr(model.probe, name, torch.zeros_like(getattr(model.probe, name)))
    assert json.loads((folder / FROZEN_CONFIG).read_text())["format"] == 2
    assert load_file(folder / PROBE_WEIGHTS)["slope"].shape == (2, 64)
    edit_weights(folder / PROBE_WEIGHTS, ["slope", "start"])
    # a folder of this format cannot lack it
    assert 'Missing key(s) in state_dict: "slope"' in refusal(load, folder)
    edit_json(folder / FROZEN_CONFIG, format=1)
    assert torch.equal(load(folder).raw_outputs(TEXTS), model.raw_outputs(TEXTS))
