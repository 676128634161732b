"""The vectors that rewards are read from: the same whichever way texts are run."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from hidden_context import heads
from hidden_context.data.files import write_json
from hidden_context.errors import HiddenContextError
from hidden_context.heads import EnsembleHead
from hidden_context.likelihood import make_likelihood
from hidden_context.models import RewardModel
from hidden_context.models.backbone import build_model
from hidden_context.models.engine.features import Features
from hidden_context.models.engine.forward import classifier_of
from hidden_context.models.featurizer import Featurizer, FeaturizerOptions
from hidden_context.models.frozen import FrozenRewardModel, Probe, ProbeOptions
from hidden_context.models.head_file import HeadFile
from hidden_context.models.modules import output_layers
from hidden_context.models.sequence import SequenceRewardModel
from hidden_context.models.tokenizer import load_tokenizer
from support.builders import sample_texts
from support.paper_layout import one_thread

__all__ = ["one_thread"]

SHARED = [5, 6, 7, 8, 9, 10, 11, 12]
SEQUENCES = [[*SHARED, 20, 21], [3, 4, 5], [*SHARED, 30], [*SHARED, 31, 32, 33], [40, 41]]


def read(model, features, layer):
    """Apply the output layer to features ``(B, 1, D)``."""
    bias = None if layer.bias is None else layer.bias.detach().float()
    return functional.linear(features[:, 0], layer.weight.detach().float(), bias)


@pytest.mark.parametrize("kind", ["gpt2", "llama", "bert", "roberta"])
def test_raw_outputs_are_read_from_them_whichever_way_texts_are_run(backbones, kind):
    model = RewardModel.from_pretrained(
        backbones(kind, num_labels=2, spread=1.0), "mean_and_variance", dtype="float32"
    )
    (_, layer), *others = output_layers(classifier_of(model.module))
    assert not others
    ways = ("padded", "tree", "cache") if kind in ("gpt2", "llama") else ("padded",)
    plain = model.raw_outputs_of_tokens(SEQUENCES, engine="padded")
    for way in ways:
        for batch in (1, 2, 16):
            raw, features = model.run_tokens(SEQUENCES, batch, engine=way, with_features=True)
            assert features.shape == (5, 1, layer.in_features)
            assert raw.flatten().tolist() == pytest.approx(plain.flatten().tolist(), abs=1e-5)
            found = read(model, features, layer)
            assert found.flatten().tolist() == pytest.approx(raw.flatten().tolist(), abs=1e-5)
    assert model.run_tokens(SEQUENCES)[1] is None
    assert model.readout().equal(layer.weight.detach().float().flatten())
    assert not layer._forward_pre_hooks


def test_encoder_decoders_that_run_texts_by_their_eos_keep_the_order(backbones):
    folder = backbones("t5", num_labels=1, spread=1.0)
    model = RewardModel.from_pretrained(folder, dtype="float32")
    eos = model.module.config.eos_token_id
    texts = [[5, eos, 6, eos], [7, 8, eos], [9, eos, 10, eos, 11, eos], [12, eos]]
    raw, features = model.run_tokens(texts, 4, engine="padded", with_features=True)
    alone = torch.cat([model.run_tokens([one], with_features=True)[1] for one in texts])
    assert features.flatten().tolist() == pytest.approx(alone.flatten().tolist(), abs=1e-5)
    (_, layer), *_ = output_layers(model.module)
    found = read(model, features, layer)
    assert found.flatten().tolist() == pytest.approx(raw.flatten().tolist(), abs=1e-5)


def test_an_ensemble_has_those_of_every_member(backbones, tmp_path):
    head, base = heads.make("mean_and_variance"), backbones("gpt2")
    for number in range(2):
        torch.manual_seed(number)
        module = build_model(base, head)
        with torch.no_grad():
            for parameter in module.parameters():
                if parameter.requires_grad:
                    parameter.add_(torch.randn_like(parameter) * 0.05)
        member = SequenceRewardModel(
            module, load_tokenizer(base), make_likelihood(head), 100, base_model=base
        )
        member.save_pretrained(tmp_path / f"member_{number}")
    write_json(
        tmp_path / "adapter_ensemble.json", {"format": 1, "members": ["member_0", "member_1"]}
    )
    HeadFile(EnsembleHead(head, 2), 100, base).save(tmp_path)
    load_tokenizer(base).save_pretrained(str(tmp_path))
    model = RewardModel.from_pretrained(tmp_path, dtype="float32")
    raw, features = model.run_tokens(SEQUENCES, with_features=True)
    assert features.shape[:2] == (5, 2)
    weights = model.readout().reshape(2, 2, -1)
    found = torch.einsum("bmd,mkd->bmk", features, weights).flatten(1)
    assert found.flatten().tolist() == pytest.approx(raw.flatten().tolist(), abs=1e-5)
    assert (features[:, 0] - features[:, 1]).abs().max() > 1e-3
    alone = RewardModel.from_pretrained(tmp_path / "member_1", dtype="float32")
    assert alone.run_tokens(SEQUENCES, with_features=True)[1][:, 0].flatten().tolist() == (
        pytest.approx(features[:, 1].flatten().tolist(), abs=1e-5)
    )
    assert alone.readout().equal(weights[1].flatten())


def test_a_probe_has_those_of_its_backbone(backbones):
    head, options = heads.make("mean_and_variance"), ProbeOptions(4, 0.0, 2)
    featurizer = Featurizer(backbones("gpt2"), FeaturizerOptions(embed="together"))
    width = featurizer.features(["a"]).shape[1]
    torch.manual_seed(0)
    model = FrozenRewardModel(
        featurizer, Probe(width, head, options).eval(), options, make_likelihood(head)
    )
    texts = [*sample_texts(3), " "]
    outputs = model.try_raw_outputs(texts, with_features=True)
    assert outputs.features.shape == (4, 1, width)
    assert outputs.features[:3, 0].equal(featurizer.features(texts[:3]))
    assert outputs.features[3].isnan().all()
    assert model.probe(outputs.features[:3, 0]).equal(outputs.raw[:3])
    assert model.try_raw_outputs(texts).features is None
    assert len(model.readout()) == 2 * width + 2 * 2 * 4


def test_memory_that_runs_out_loses_and_doubles_nothing(backbones, monkeypatch):
    model = RewardModel.from_pretrained(
        backbones("gpt2", num_labels=2, spread=1.0), "mean_and_variance", dtype="float32"
    )
    want = model.run_tokens(SEQUENCES, engine="padded", with_features=True)[1]
    run, failed = model.runner._run, []

    def once(sequences, batch, way, tokens):
        found = run(sequences, batch, way, tokens)
        if not failed:
            failed.append(len(batch))
            raise torch.OutOfMemoryError("CUDA out of memory")
        return found

    monkeypatch.setattr(model.runner, "_run", once)
    found = model.run_tokens(SEQUENCES, engine="padded", with_features=True)[1]
    assert failed[0] > 1
    assert found.flatten().tolist() == pytest.approx(want.flatten().tolist(), abs=1e-5)


def test_a_layer_that_reads_something_else_is_refused(backbones):
    model = RewardModel.from_pretrained(backbones("gpt2", num_labels=1), dtype="float32")
    assert isinstance(model, SequenceRewardModel)
    features = Features([model.module.score], 2)
    with pytest.raises(HiddenContextError, match="this model cannot have a reference"):
        features.keep(model.module, [[1], [2]], [0, 1])
