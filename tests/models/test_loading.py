"""What loads, by whom, and the sentence that everything else is refused with."""

import re
import shutil
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

from hidden_context import heads
from hidden_context.data.storage.files import read_json
from hidden_context.errors import HiddenContextError, MissingFileError, StorageError
from hidden_context.models.checkpoint.contents import ADAPTER_CONFIG, find_file, replace_folder
from hidden_context.models.checkpoint.head_file import HEAD_FILE, resolve_head
from hidden_context.models.network.backbone import LoraOptions
from hidden_context.models.network.modules import final_linear
from support.builders import sample_texts, tiny_tokenizer
from support.models import (
    damage,
    edit_json,
    edit_weights,
    load,
    one_by_one,
    refusal,
    sequence_model,
)

TEXTS = sample_texts(6)
BASE = heads.make("base")
HEADS = {
    "base": BASE,
    "mean_and_variance": heads.make("mean_and_variance", likelihood="logistic"),
    "categorical": heads.make("categorical", num_atoms=5),
}
WEIGHTS = "adapter_model.safetensors"


@pytest.mark.parametrize(
    ("tuning", "kind", "name"),
    [
        *(("full", kind, name) for kind in ("gpt2", "llama", "bert", "roberta") for name in HEADS),
        *(("lora", "gpt2", name) for name in HEADS),
        ("lora", "llama", "categorical"),
        ("lora", "bert", "base"),  # its pooler is new too, and has to be saved
        ("lora", "roberta", "mean_and_variance"),
        ("lora", "distilbert", "categorical"),
        ("lora", "t5", "base"),
    ],
)
def test_checkpoints_load_with_the_stock_classes(backbones, tmp_path, tuning, kind, name):
    head, folder = HEADS[name], backbones(kind, spread=1.0 if kind == "t5" else 5.0)
    lora = LoraOptions(target_modules={"distilbert": ["q_lin", "v_lin"]}.get(kind))
    model = sequence_model(folder, head, tuning=tuning, lora=lora)
    ours = model.raw_outputs(TEXTS, batch_size=1)
    assert ours.std(0).min() > 1e-3
    model.save_pretrained(tmp_path / "model")
    torch.manual_seed(5)  # what is not saved would be drawn differently now
    source = tmp_path / "model" if tuning == "full" else folder
    module = AutoModelForSequenceClassification.from_pretrained(source, num_labels=head.num_outputs)
    if tuning == "lora":
        module = PeftModel.from_pretrained(module, str(tmp_path / "model"))
    else:
        assert read_json(source / "config.json")["problem_type"] == "regression"
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "model")
    assert torch.allclose(one_by_one(module, tokenizer, TEXTS), ours, atol=1e-5, rtol=1e-5)
    again = load(tmp_path / "model")
    assert torch.allclose(again.raw_outputs(TEXTS), ours, atol=1e-5, rtol=1e-5)
    assert again.head == head


def test_bfloat16_adapters_keep_their_float32_head(backbones, tmp_path):
    model = sequence_model(backbones("roberta"), BASE, last=20.3, dtype=torch.bfloat16)
    head = final_linear(model.module.get_base_model())[1].weight.detach().clone()
    assert not torch.equal(head, head.bfloat16().float())
    ours = model.raw_outputs(TEXTS)
    model.save_pretrained(tmp_path / "adapter")
    again = load(tmp_path / "adapter", dtype="bfloat16")
    assert torch.equal(final_linear(again.module.get_base_model())[1].weight, head)
    assert torch.allclose(again.raw_outputs(TEXTS), ours, atol=1e-5, rtol=1e-5)


def test_folders_that_are_missing_or_at_home(backbones, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for path in (str(tmp_path / "nowhere"), Path("nowhere"), "./nowhere"):
        assert "does not exist" in refusal(load, path, error=MissingFileError)
    assert "no model could be read from 'nowhere'" in refusal(load, "nowhere")
    (tmp_path / "empty").mkdir()
    assert "no model could be read" in refusal(load, "./empty")
    folder = Path(backbones("gpt2", num_labels=1))
    monkeypatch.setenv("HOME", str(folder.parent))
    assert load(f"~/{folder.name}").head == BASE


@pytest.mark.parametrize("kind", ["gpt2", "bert"])
@pytest.mark.parametrize("head", [None, "mean_and_variance"])
def test_plain_backbones_are_refused(backbones, kind, head):
    assert "no trained reward head" in refusal(load, backbones(kind), head)


def test_wrong_heads_are_refused(backbones):
    one, three = backbones("gpt2", num_labels=1), backbones("gpt2", num_labels=3)
    assert "has num_outputs 1, not 2" in refusal(load, one, "mean_and_variance")
    assert "has 3 outputs and no reward_head.json" in refusal(load, three)
    assert load(three, {"type": "categorical", "num_atoms": 3}).head.num_outputs == 3


def test_adapters_without_head_file(copied, backbones):
    folder = copied("scalar")
    (folder / HEAD_FILE).unlink()
    # a vocabulary that is saved with an adapter is not taken for the head
    embeddings = {"base_model.model.transformer.wte.weight": torch.zeros(420, 32)}
    for extra in ({}, embeddings):
        edit_weights(folder / WEIGHTS, **extra)
        model = load(folder)
        assert (model.head, model.base_model, model.max_length) == (BASE, backbones("gpt2"), 128)
    message = refusal(load, folder, "mean_and_variance")
    assert "num_outputs 1, but the mean_and_variance head has num_outputs 2" in message


def test_adapters_whose_backbone_is_gone(saved, copied, backbones):
    edit_json((folder := copied("lora")) / ADAPTER_CONFIG, base_model_name_or_path="/gone/away")
    assert "--base_model" in refusal(load, folder)
    found = load(folder, base_model=backbones("gpt2")).raw_outputs(TEXTS)
    assert torch.equal(found, load(saved("lora")).raw_outputs(TEXTS))


@pytest.mark.parametrize(
    ("kind", "options", "words"),
    [
        *(("gpt2", {"n_layer": n}, r"only one of .* 2 weights \(.*former.h.") for n in (1, 3)),
        *(("gpt2", {"n_embd": 64}, ""), ("llama", {}, "")),
    ],
)
def test_adapters_for_another_backbone(saved, backbones, kind, options, words):
    message = refusal(load, saved("lora"), base_model=backbones(kind, **options))
    assert re.search(f"does not fit the backbone .*{words}", message)


def test_pickles_are_read_for_weights_only(copied):
    folder = copied("lora")
    (folder / WEIGHTS).unlink()

    class Malicious:
        def __reduce__(self):
            return (Path.touch, (folder / "pwned",))

    torch.save({"weight": Malicious()}, folder / "adapter_model.bin")
    assert "cannot be read" in refusal(load, folder)
    assert not (folder / "pwned").exists()


ENSEMBLE, FROZEN, PROBE = "adapter_ensemble.json", "frozen_backbone.json", "probe.safetensors"
GARBAGE = "garbage " * 9
TWO_MEMBERS = "2 members, but the ensemble head in reward_head.json has 3"


@pytest.mark.parametrize(
    ("kind", "file", "change", "words"),
    [
        *(
            (kind, HEAD_FILE, change, words)
            for kind in ("full", "lora", "ensemble", "frozen")
            for change, words in (
                ("{nonsense", "not valid JSON"),
                ("[1]", "a JSON object is needed"),
                ({"format": 99}, "has format 99, but this version reads 1; upgrade"),
                ({"head": None}, "'head' is missing"),
                ({"head": {"type": "alien"}}, "'alien' is not known"),
                ({"reward_scale": {"median": 1}}, "reward_head.json is damaged"),
            )
        ),
        *(
            ("full", "config.json", change, "")
            for change in ({"n_embd": "wide"}, {"n_head": 0}, {"quantization_config": 3})
        ),
        ("full", "model.safetensors", GARBAGE, "could not be loaded"),
        ("full", "tokenizer.json", {"model": {"type": "BPE2"}}, "pip install -U tokenizers"),
        ("lora", ADAPTER_CONFIG, {"base_model_name_or_path": None}, "does not name its backbone"),
        ("lora", ADAPTER_CONFIG, "{nonsense", "not valid JSON"),
        ("lora", WEIGHTS, GARBAGE, "cannot be read"),
        ("lora", WEIGHTS, None, "no adapter weights"),
        ("ensemble", ENSEMBLE, {"format": 2}, "has format 2, but this version reads 1"),
        ("ensemble", ENSEMBLE, {"members": []}, "names no members"),
        ("ensemble", ENSEMBLE, {"members": ["member_0", "member_1"]}, TWO_MEMBERS),
        ("ensemble", ENSEMBLE, {"members": ["member_0", "x", "y"]}, "x has no adapter"),
        ("ensemble", HEAD_FILE, {"head": BASE.to_dict()}, "3 members, .* base head .* has 1"),
        ("ensemble", HEAD_FILE, None, "reward_head.json is missing"),
        ("frozen", FROZEN, {"format": 3}, "has format 3, but this version reads 1 and 2; up"),
        ("frozen", FROZEN, {"trust_remote_code": True}, "allow it .*--trust_remote_code"),
        ("frozen", FROZEN, ["features"], "no complete frozen-backbone .*'features'"),
        ("frozen", FROZEN, "{oops", "not valid JSON"),
        ("frozen", PROBE, {"own": torch.ones(1)}, 'no complete .*Unexpected .*: "own"'),
        ("frozen", PROBE, ["location", "members.2"], 'no .*Missing .*: "location"'),
        ("frozen", PROBE, GARBAGE, "no complete frozen-backbone"),
        ("frozen", PROBE, None, "is missing"),
    ],
)
def test_damaged_folders_are_refused_by_name(copied, kind, file, change, words):
    damage((folder := copied(kind)) / file, change)
    message = refusal(load, folder)
    assert str(folder) in message
    assert re.search(words, message)


POOLER = "has 2 weights (bert.pooler.dense.bias, bert.pooler.dense.weight)"


@pytest.mark.parametrize(
    ("auto", "kind", "task", "words"),
    [
        (AutoModelForCausalLM, "llama", "CAUSAL_LM", "score.weight, so rewards would be random"),
        (AutoModelForSequenceClassification, "bert", "SEQ_CLS", POOLER),
    ],
)
def test_adapters_without_what_a_reward_is_read_by(backbones, tmp_path, auto, kind, task, words):
    base = auto.from_pretrained(backbones(kind), num_labels=1)
    get_peft_model(base, LoraConfig(task_type=task)).save_pretrained(tmp_path / "adapter")
    assert words in refusal(load, tmp_path / "adapter")


def test_a_tokenizer_can_be_named(backbones, tmp_path):
    tiny_tokenizer(eos="<s>", pad="<s>", max_length=40).save_pretrained(tmp_path / "tokenizer")
    name, folder = str(tmp_path / "tokenizer"), backbones("gpt2", num_labels=1)
    model = load(folder, tokenizer_name=name)
    assert (model.tokenizer.eos_token, model.max_length) == ("<s>", 40)
    assert "--tokenizer_name" in refusal(load, folder, tokenizer_name=str(tmp_path / "nothing"))


@pytest.mark.parametrize("form", [None, "scalar", BASE, BASE.to_dict()])
def test_heads_by_name_and_form(form):
    assert resolve_head(form) == (form and BASE)


def test_ids_that_cannot_be_are_refused(saved):
    folder = saved("lora")
    assert find_file(str(folder), HEAD_FILE) == folder / HEAD_FILE
    assert find_file(str(folder), "nothing.json") is None
    message = refusal(find_file, "not a valid id!", HEAD_FILE, error=HiddenContextError)
    assert "neither a local folder nor" in message
    assert find_file("some/model-nobody-has", HEAD_FILE) is None  # offline: not cached


def test_cached_models_load_offline(tmp_path, monkeypatch, backbones):
    """A model in the hub's cache that has none of this package's own files."""
    commit = "0" * 40
    repository = tmp_path / "models--someone--model"
    shutil.copytree(backbones("gpt2", num_labels=1), repository / "snapshots" / commit)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    for package in ("huggingface_hub", "transformers.utils.hub"):
        monkeypatch.setattr(f"{package}.constants.HF_HUB_CACHE", str(tmp_path))
    assert find_file("someone/model", HEAD_FILE) is None
    assert find_file("someone/model", "config.json").parent.name == commit
    assert load("someone/model").raw_outputs(TEXTS).shape == (6, 1)


def test_folders_are_replaced_whole(tmp_path):
    target = tmp_path / "deep" / "model"
    with replace_folder(target) as folder:
        (folder / "a").write_text("1")
        assert not target.exists()
    with replace_folder(target) as folder:
        (folder / "b").write_text("2")
        assert (target / "a").read_text() == "1"
    assert [file.name for file in target.iterdir()] == ["b"]
    assert [entry.name for entry in target.parent.iterdir()] == ["model"]
    with pytest.raises(StorageError), replace_folder(target / "b" / "model"):
        pass


@pytest.mark.parametrize(
    ("place", "error", "expected"),
    [
        ("inside", OSError(5, "broken disk"), StorageError),
        ("inside", SafetensorError("I/O error: disk full"), StorageError),
        ("inside", ValueError("a bug"), ValueError),
        ("last rename", OSError(13, "Permission denied"), StorageError),
    ],
)
def test_failed_folders_leave_no_trace(tmp_path, monkeypatch, place, error, expected):
    target = tmp_path / "model"
    target.mkdir()
    (target / "a").write_text("1")
    rename = type(target).rename

    def fail_for_partial(self, other):
        if place == "last rename" and self.name.endswith(".partial"):
            raise error
        return rename(self, other)

    monkeypatch.setattr(type(target), "rename", fail_for_partial)

    def write_half():
        with replace_folder(target) as folder:
            (folder / "a").write_text("2")
            if place == "inside":
                raise error

    with pytest.raises(expected, match=str(error.args[-1])):
        write_half()
    assert (target / "a").read_text() == "1"
    assert [entry.name for entry in tmp_path.iterdir()] == ["model"]
