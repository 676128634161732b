"""Several adapters on one backbone: what they compute, how they are saved, what is refused."""

import dataclasses
import shutil

import pytest
import torch

from hidden_context import heads
from hidden_context.errors import CheckpointError, ConfigError
from hidden_context.likelihood import LikelihoodOptions, make_likelihood
from hidden_context.models.adapter_ensemble import AdapterEnsembleRewardModel, adapter_name
from hidden_context.models.checkpoint.head_file import HEAD_FILE, HeadFile
from hidden_context.models.checkpoint.identity import weight_digests
from hidden_context.models.engine.pooling import LastAttendedPooling
from hidden_context.models.network.modules import Float32Linear, final_linear
from hidden_context.scoring.config import ModelOptions
from hidden_context.scoring.loading import load_model
from support.builders import sample_texts
from support.models import NORMAL, edit_json, load, refusal, sequence_model, write_ensemble

TEXTS = sample_texts(8)


def members(folder, count=3, **options):
    return [load(folder / f"member_{number}", **options) for number in range(count)]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("kind", ["gpt2", "llama", "bert"])
def test_raw_outputs_are_the_members_side_by_side(backbones, tmp_path, kind, dtype):
    write_ensemble(tmp_path / "model", backbones(kind), last=20.3, dtype=getattr(torch, dtype))
    model = load(tmp_path / "model", dtype=dtype)
    assert isinstance(model, AdapterEnsembleRewardModel)
    raw, each = model.raw_outputs(TEXTS), members(tmp_path / "model", dtype=dtype)
    alone = [member.raw_outputs(TEXTS) for member in each]
    assert torch.allclose(raw, torch.cat(alone, dim=-1), atol=1e-6, rtol=1e-6)
    assert (alone[0] - alone[1]).abs().mean() > 1e-2
    assert (alone[1] - alone[2]).abs().mean() > 1e-2
    assert raw.dtype == torch.float32
    assert not torch.equal(raw, raw.bfloat16().float())
    assert model.engine.name == ("padded" if kind == "bert" else "tree")
    embeddings = {"gpt2": "wte.weight", "llama": "embed_tokens.weight", "bert": "word_embeddings."}
    copies = [name for name, _ in model.module.named_parameters() if embeddings[kind] in name]
    assert len(copies) == 1  # one backbone, whatever the number of members
    for number, member in enumerate(each):  # whichever adapter is active
        model.activate(number)
        classifier = model.module.get_base_model()
        assert isinstance(classifier, LastAttendedPooling) == (kind != "bert")
        name, layer = final_linear(classifier)
        assert isinstance(layer, Float32Linear)
        assert not any(parameter.requires_grad for parameter in model.module.parameters())
        wrapper = classifier.get_submodule(name.split(".")[0])
        weight = wrapper.modules_to_save[adapter_name(number)].weight
        assert weight.dtype == torch.float32
        assert torch.equal(weight, final_linear(member.module.get_base_model())[1].weight)


def test_every_members_card_says_which_it_is(saved):
    card = (saved("ensemble") / "member_1" / "README.md").read_text()
    assert "- part: member 1 of an ensemble of 3" in card


@pytest.mark.slow
def test_it_can_be_compiled(saved, monkeypatch):
    """With kernels as they are: what is tested is that every member is traced."""
    original = torch.nn.Module.compile
    monkeypatch.setattr(
        torch.nn.Module, "compile", lambda self, **_: original(self, backend="eager")
    )
    model = load(saved("ensemble"))
    expected = model.raw_outputs(TEXTS[:2], engine="padded")
    model.compile()
    found = model.raw_outputs(TEXTS[:2], engine="padded")
    torch.compiler.reset()
    assert torch.allclose(found, expected, atol=1e-5, rtol=1e-5)


def test_what_was_learned_beside_the_network_is_every_members_own(backbones, tmp_path):
    write_ensemble(tmp_path / "made", backbones("llama"), heads.make("factor", num_factors=2))
    model = load(tmp_path / "made")
    options = LikelihoodOptions(3, inference="variational", names=("anna", "ben"), seed=5)
    model.likelihood = likelihood = make_likelihood(model.head, options)
    with torch.no_grad():
        for parameter in likelihood.parameters():
            parameter.add_(torch.randn_like(parameter))
    head = model.head.in_one_unit(*model.raw_outputs(TEXTS).chunk(2))
    likelihood.head = head
    model.save_pretrained(tmp_path / "saved")
    again = load(tmp_path / "saved")
    assert again.head == head
    assert again.likelihood.options == options
    state = likelihood.state_dict()
    torch.testing.assert_close(again.likelihood.state_dict(), state, rtol=0, atol=0)
    rewards = again.score(TEXTS, annotator="ben")
    for number, alone in enumerate(members(tmp_path / "saved")):
        for name, value in alone.likelihood.state_dict().items():
            assert torch.equal(value, state[f"members.{number}.{name}"]), name
        own, of_ensemble = alone.score(TEXTS, annotator="ben").mean, rewards.members.mean[:, number]
        found = (of_ensemble - own) / head.scale[number]
        assert torch.allclose(found, torch.zeros(8), atol=1e-5)
    assert not torch.allclose(rewards.mean, again.score(TEXTS, annotator="anna").mean, atol=1e-2)


@pytest.fixture
def folder(saved, tmp_path):
    return shutil.copytree(saved("ensemble"), tmp_path / "model")


def test_a_members_folder_replaced_is_another_member_that_is_known(folder, backbones):
    assert isinstance(load_model(str(folder), ModelOptions()), AdapterEnsembleRewardModel)
    digests, before = weight_digests(folder), load(folder).raw_outputs(TEXTS)
    (folder / "eval_results.jsonl").write_text("")
    assert weight_digests(folder) == digests
    assert sum("adapter_model" in name for name in digests) == 3
    assert "backbone/model.safetensors" in digests
    sequence_model(backbones("llama"), seed=9).save_pretrained(folder / "member_1")
    assert weight_digests(folder) != digests
    after = load(folder).raw_outputs(TEXTS)
    assert torch.equal(before[:, [0, 1, 4, 5]], after[:, [0, 1, 4, 5]])
    assert not torch.allclose(before[:, 2:4], after[:, 2:4], atol=1e-2)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"format": 2}, "has format 2, this package reads 1"),
        ({"members": []}, "names no members"),
        (
            {"members": ["member_0", "member_1"]},
            "has 2 members, but reward_head.json a ensemble head of 3",
        ),
        ({"members": ["member_0", "x", "y"]}, "x holds no adapter"),
        (lambda folder: (folder / HEAD_FILE).unlink(), "reward_head.json is missing"),
        (lambda folder: HeadFile(heads.make("base")).save(folder), "a base head of 1"),
    ],
)
def test_damaged_folders_are_refused(folder, change, words):
    if isinstance(change, dict):
        edit_json(folder / "adapter_ensemble.json", **change)
    else:
        change(folder)
    assert words in refusal(load, folder)


@pytest.mark.parametrize(
    ("number", "kind", "head", "words"),
    [
        (1, "llama", heads.make("base"), "has a head of 1 outputs, but the mean_and"),
        (2, "gpt2", NORMAL, "does not fit the backbone"),
        (0, "gpt2", NORMAL, "does not fit the backbone"),
    ],
)
def test_members_that_do_not_fit_are_refused(backbones, folder, number, kind, head, words):
    sequence_model(backbones(kind), head).save_pretrained(folder / f"member_{number}")
    assert words in refusal(load, folder, base_model=backbones("llama"))
    if kind == "gpt2":
        with pytest.raises(CheckpointError, match=r"name several backbones .*but share one"):
            load(folder)


def test_heads_and_adapters_have_to_fit(saved):
    model = load(saved("ensemble"))
    for head in (NORMAL, dataclasses.replace(model.head, num_members=2, location=(), scale=())):
        with pytest.raises(ConfigError, match="an ensemble of adapters needs an ensemble head"):
            AdapterEnsembleRewardModel(model.module, model.tokenizer, make_likelihood(head), 100)
