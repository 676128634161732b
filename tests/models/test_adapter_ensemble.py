"""Several adapters on one backbone: what they compute, how they are saved, what is refused."""

from __future__ import annotations

import dataclasses
import json
import shutil
import warnings
from pathlib import Path

import pytest
import torch

from hidden_context import heads
from hidden_context.data.files import write_json
from hidden_context.errors import CheckpointError, ConfigError, DataError, HiddenContextWarning
from hidden_context.heads import EnsembleHead
from hidden_context.likelihood import LikelihoodOptions, make_likelihood
from hidden_context.models import RewardModel
from hidden_context.models.adapter_ensemble import AdapterEnsembleRewardModel, adapter_name
from hidden_context.models.backbone import build_model
from hidden_context.models.engine.pooling import LastAttendedPooling
from hidden_context.models.head_file import HEAD_FILE, HeadFile
from hidden_context.models.identity import weight_digests
from hidden_context.models.modules import Float32Linear, final_linear
from hidden_context.models.sequence import SequenceRewardModel
from hidden_context.models.tokenizer import load_tokenizer
from hidden_context.scoring.config import ModelOptions
from hidden_context.scoring.loading import load_model
from support.builders import sample_texts

TEXTS = sample_texts(8)
CHOSEN, REJECTED = TEXTS[:4], TEXTS[4:]
NORMAL = heads.make("mean_and_variance")


def write_member(path, backbone, head, seed, dtype=torch.float32):
    """Save an adapter whose trainable weights have all moved, as after training."""
    torch.manual_seed(seed)
    module = build_model(backbone, head, dtype=dtype)
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.05)
        final_linear(module.get_base_model())[1].weight.mul_(20)
    tokenizer = load_tokenizer(backbone)
    model = SequenceRewardModel(module, tokenizer, make_likelihood(head), 100, base_model=backbone)
    model.save_pretrained(path)


def write_ensemble(folder, backbone, member=NORMAL, seeds=(0, 1, 2), dtype=torch.float32):
    """Write an ensemble's folder by hand, from its documented format."""
    folder = Path(folder)
    for number, seed in enumerate(seeds):
        write_member(folder / f"member_{number}", backbone, member, seed, dtype)
    names = [f"member_{number}" for number in range(len(seeds))]
    write_json(folder / "adapter_ensemble.json", {"format": 1, "members": names})
    head = EnsembleHead(member, len(seeds))
    HeadFile(head, 100, backbone).save(folder)
    load_tokenizer(backbone).save_pretrained(str(folder))
    return load(folder)


def load(folder, **options):
    return RewardModel.from_pretrained(folder, dtype="float32", device="cpu", **options)


def in_one_unit(model):
    head = model.head.in_one_unit(model.raw_outputs(CHOSEN), model.raw_outputs(REJECTED))
    model.likelihood.head = head
    return model


@pytest.fixture(scope="module")
def saved(backbones, tmp_path_factory):
    """Folder of an ensemble of three members, written by ``save_pretrained``."""
    folder = tmp_path_factory.mktemp("ensemble")
    model = in_one_unit(write_ensemble(folder / "by hand", backbones("llama")))
    model.card = {"data": {"source": "tests"}, "metrics": {"accuracy": 0.75}}
    model.save_pretrained(folder / "saved")
    return folder / "saved"


@pytest.mark.parametrize("kind", ["gpt2", "llama", "bert"])
def test_raw_outputs_are_the_members_side_by_side(backbones, tmp_path, kind):
    model = write_ensemble(tmp_path / "model", backbones(kind))
    assert isinstance(model, AdapterEnsembleRewardModel)
    raw = model.raw_outputs(TEXTS)
    assert raw.shape == (8, 6)
    assert raw.dtype == torch.float32
    alone = [load(tmp_path / "model" / f"member_{m}").raw_outputs(TEXTS) for m in range(3)]
    assert torch.allclose(raw, torch.cat(alone, dim=-1), atol=1e-6, rtol=1e-6)
    assert (alone[0] - alone[1]).abs().mean() > 1e-2
    assert (alone[1] - alone[2]).abs().mean() > 1e-2
    expected = "padded" if kind == "bert" else "tree"
    assert model.engine.name == expected
    for number in range(3):  # whichever adapter is active
        model.activate(number)
        classifier = model.module.get_base_model()
        assert isinstance(classifier, LastAttendedPooling) == (expected == "tree")
        _, layer = final_linear(classifier)
        assert isinstance(layer, Float32Linear)
        assert not any(parameter.requires_grad for parameter in model.module.parameters())


def test_a_comparison_is_the_mean_of_the_members_probabilities(saved):
    model = load(saved)
    together = model.score(CHOSEN).log_prob_greater(model.score(REJECTED)).exp()
    each = []
    for number in range(3):
        member = load(saved / f"member_{number}")
        assert member.head == NORMAL
        each.append(member.score(CHOSEN).log_prob_greater(member.score(REJECTED)).exp())
    each = torch.stack(each)
    assert torch.allclose(together, each.mean(0), atol=1e-6)
    assert each.std(0).min() > 1e-3


def test_everything_about_the_model_comes_back(backbones, saved):
    model = load(saved)
    by_hand = load(saved.with_name("by hand"))
    assert torch.equal(model.raw_outputs(TEXTS), by_hand.raw_outputs(TEXTS))
    expected = by_hand.head.in_one_unit(by_hand.raw_outputs(CHOSEN), by_hand.raw_outputs(REJECTED))
    assert model.head == expected
    assert min(expected.scale) > 0
    assert (model.max_length, model.base_model) == (100, backbones("llama"))
    assert load(saved, max_length=7).max_length == 7
    assert {path.name for path in saved.iterdir()} == {
        *("adapter_ensemble.json", "reward_head.json", "README.md"),
        *("tokenizer.json", "tokenizer_config.json", "member_0", "member_1", "member_2"),
    }
    card = (saved / "README.md").read_text()
    assert "ensemble" in card
    assert "| accuracy | 0.75 |" in card
    assert "- part: member 1 of an ensemble of 3" in (saved / "member_1" / "README.md").read_text()
    assert model.module.get_base_model() is not None
    copies = [name for name, _ in model.module.named_parameters() if "embed_tokens" in name]
    assert len(copies) == 1  # one backbone, whatever the number of members


def test_ignorance_is_where_members_differ(backbones, saved, tmp_path):
    model = load(saved)
    parts = model.score(CHOSEN).difference_parts(model.score(REJECTED))
    assert parts["ignorance"].min() > 1e-3
    same = in_one_unit(write_ensemble(tmp_path / "same", backbones("llama"), seeds=(4, 4)))
    parts = same.score(CHOSEN).difference_parts(same.score(REJECTED))
    assert torch.allclose(parts.pop("ignorance"), torch.zeros(4), atol=1e-12)
    assert sum(parts.values()).min() > 0
    alone = load(tmp_path / "same" / "member_0")
    expected = alone.score(CHOSEN).log_prob_greater(alone.score(REJECTED))
    found = same.score(CHOSEN).log_prob_greater(same.score(REJECTED))
    assert torch.allclose(found, expected, atol=1e-6)


def test_bfloat16_backbones_keep_every_members_float32_head(backbones, tmp_path):
    folder = backbones("llama")
    write_ensemble(tmp_path / "model", folder, seeds=(0, 1), dtype=torch.bfloat16)
    model = RewardModel.from_pretrained(tmp_path / "model", dtype="bfloat16", device="cpu")
    raw = model.raw_outputs(TEXTS)
    alone = [
        RewardModel.from_pretrained(tmp_path / "model" / f"member_{m}", dtype="bfloat16")
        for m in range(2)
    ]
    expected = torch.cat([member.raw_outputs(TEXTS) for member in alone], dim=-1)
    assert torch.allclose(raw, expected, atol=1e-6, rtol=1e-6)
    assert not torch.equal(raw, raw.bfloat16().float())
    wrapper = model.module.get_base_model().score
    for number, member in enumerate(alone):
        weight = wrapper.modules_to_save[adapter_name(number)].weight
        assert weight.dtype == torch.float32
        assert not torch.equal(weight, weight.bfloat16().float())
        assert torch.equal(weight, final_linear(member.module.get_base_model())[1].weight)


def test_ways_batches_budgets_and_long_texts(saved):
    model = load(saved)
    expected = model.raw_outputs(TEXTS)
    for options in (
        {"engine": "padded", "batch_size": 3},
        {"engine": "cache"},
        {"tokens_per_batch": 40},
        {"engine": "tree", "tokens_per_batch": 1},
    ):
        found = model.raw_outputs(TEXTS, **options)
        assert torch.allclose(found, expected, atol=1e-5, rtol=1e-5)
        assert model.engine.name == options.get("engine", "tree")
    assert model.raw_outputs([]).shape == (0, 6)
    limited = load(saved, max_length=20)
    with pytest.warns(HiddenContextWarning, match="8 of 8 texts are longer than 20 tokens"):
        cut = limited.raw_outputs(TEXTS)
    members = [load(saved / f"member_{m}", max_length=20) for m in range(3)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", HiddenContextWarning)
        alone = torch.cat([member.raw_outputs(TEXTS) for member in members], dim=-1)
    assert torch.allclose(cut, alone, atol=1e-6, rtol=1e-6)
    dropped = limited.try_raw_outputs([*TEXTS[:1], "Tea?"], over_length="drop")
    assert dropped.raw[0].isnan().all()
    assert dropped.raw[1].isfinite().all()
    assert "more than 20" in dropped.reasons[0]
    with pytest.raises(DataError, match="text 1 cannot be scored"):
        model.score([TEXTS[0], ""])


@pytest.mark.slow
def test_it_can_be_compiled(saved, monkeypatch):
    """With kernels as they are: what is tested is that every member is traced."""
    original = torch.nn.Module.compile
    monkeypatch.setattr(
        torch.nn.Module, "compile", lambda self, **_: original(self, backend="eager")
    )
    model = load(saved)
    expected = model.raw_outputs(TEXTS[:2], engine="padded")
    model.compile()
    found = model.raw_outputs(TEXTS[:2], engine="padded")
    torch.compiler.reset()
    assert torch.allclose(found, expected, atol=1e-5, rtol=1e-5)


def test_what_was_learned_beside_the_network_is_every_members_own(backbones, tmp_path):
    member = heads.make("factor", num_factors=2)
    model = write_ensemble(tmp_path / "made", backbones("llama"), member)
    options = LikelihoodOptions(3, inference="variational", names=("anna", "ben"), seed=5)
    likelihood = make_likelihood(model.head, options)
    with torch.no_grad():
        for parameter in likelihood.parameters():
            parameter.add_(torch.randn_like(parameter))
    model.likelihood = likelihood
    head = model.head.in_one_unit(model.raw_outputs(CHOSEN), model.raw_outputs(REJECTED))
    model.likelihood.head = head
    model.save_pretrained(tmp_path / "saved")
    again = load(tmp_path / "saved")
    assert again.likelihood.options == options
    for name, value in likelihood.state_dict().items():
        assert torch.equal(again.likelihood.state_dict()[name], value), name
    rewards = again.score(TEXTS, annotator="ben")
    for number in range(3):
        alone = load(tmp_path / "saved" / f"member_{number}")
        for name, value in alone.likelihood.state_dict().items():
            assert torch.equal(value, likelihood.state_dict()[f"members.{number}.{name}"]), name
        own = (alone.score(TEXTS, annotator="ben").mean - head.location[number]) / head.scale[
            number
        ]
        parts = (rewards.members.mean[:, number] - head.location[number]) / head.scale[number]
        assert torch.allclose(parts, own, atol=1e-5)
    assert not torch.allclose(rewards.mean, again.score(TEXTS, annotator="anna").mean, atol=1e-2)


def test_other_commands_load_it_and_know_when_a_member_has_changed(saved, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(saved, folder)
    options = ModelOptions(precision="float32")
    model = load_model(str(folder), options)
    assert isinstance(model, AdapterEnsembleRewardModel)
    before = weight_digests(folder)
    (folder / "eval_results.jsonl").write_text("")
    assert weight_digests(folder) == before
    assert sum("adapter_model" in name for name in before) == 3
    assert "backbone/model.safetensors" in before
    write_member(folder / "member_1", model.base_model, NORMAL, 9)
    assert weight_digests(folder) != before


def test_a_members_folder_replaced_is_another_member(saved, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(saved, folder)
    write_member(folder / "member_1", load(saved).base_model, NORMAL, 9)
    before, after = load(saved).raw_outputs(TEXTS), load(folder).raw_outputs(TEXTS)
    assert torch.equal(before[:, [0, 1, 4, 5]], after[:, [0, 1, 4, 5]])
    assert not torch.allclose(before[:, 2:4], after[:, 2:4], atol=1e-2)


def change_json(path, **changes):
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_damaged_folders_are_refused(backbones, saved, tmp_path):
    folder = tmp_path / "model"

    def refused(match, change):
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(saved, folder)
        change()
        with pytest.raises(CheckpointError, match=match):
            load(folder)

    config = folder / "adapter_ensemble.json"
    refused("has format 2, this package reads 1", lambda: change_json(config, format=2))
    refused("names no members", lambda: change_json(config, members=[]))
    refused(
        "has 2 members, but reward_head.json a ensemble head of 3",
        lambda: change_json(config, members=["member_0", "member_1"]),
    )
    refused("member_2 holds no adapter", lambda: shutil.rmtree(folder / "member_2"))
    refused("reward_head.json is missing", (folder / HEAD_FILE).unlink)
    plain = HeadFile(heads.make("base"))
    refused("reward_head.json a base head of 1", lambda: plain.save(folder))


def test_members_that_do_not_fit_are_refused(backbones, saved, tmp_path):
    for number, backbone, head, match in (
        (1, backbones("llama"), heads.make("base"), "has a head of 1 outputs, but the mean_and"),
        (2, backbones("gpt2"), NORMAL, "does not fit the backbone"),
        (0, backbones("gpt2"), NORMAL, "does not fit the backbone"),
    ):
        folder = tmp_path / f"model {number}"
        shutil.copytree(saved, folder)
        write_member(folder / f"member_{number}", backbone, head, 0)
        with pytest.raises(CheckpointError, match=match):
            load(folder, base_model=backbones("llama"))
    with pytest.raises(CheckpointError, match=r"name several backbones .*but share one"):
        load(tmp_path / "model 2")
    with pytest.raises(CheckpointError, match="trained with a ensemble head of 6 outputs"):
        load(saved, head="base")
    assert load(saved, head="ensemble").head.num_outputs == 6


def test_heads_and_adapters_have_to_fit(saved):
    model = load(saved)
    for head in (NORMAL, dataclasses.replace(model.head, num_members=2, location=(), scale=())):
        with pytest.raises(ConfigError, match="an ensemble of adapters needs an ensemble head"):
            AdapterEnsembleRewardModel(model.module, model.tokenizer, make_likelihood(head), 100)
