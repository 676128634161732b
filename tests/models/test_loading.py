from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from hidden_context import heads
from hidden_context.errors import CheckpointError, HiddenContextError, MissingFileError
from hidden_context.likelihood import make_likelihood
from hidden_context.models import RewardModel
from hidden_context.models.adapters import adapter_shapes
from hidden_context.models.backbone import LoraOptions, build_model
from hidden_context.models.head_file import HEAD_FILE
from hidden_context.models.repository import find_file
from hidden_context.models.sequence import SequenceRewardModel
from hidden_context.models.tokenizer import load_tokenizer
from support.builders import sample_texts


@pytest.fixture(scope="module")
def adapter(backbones, tmp_path_factory):
    """A LoRA checkpoint of this package on a GPT-2 of two layers."""
    folder = tmp_path_factory.mktemp("adapter") / "adapter"
    base = backbones("gpt2")
    head = heads.make("base")
    module = build_model(base, head, lora=LoraOptions())
    SequenceRewardModel(
        module, load_tokenizer(base), make_likelihood(head), 64, base_model=base
    ).save_pretrained(folder)
    return folder


@pytest.fixture
def copy_of_adapter(adapter, tmp_path):
    return Path(shutil.copytree(adapter, tmp_path / "copy"))


def refusal(path, *args, **options) -> str:
    """The one-paragraph message that loading is refused with."""
    with pytest.raises(HiddenContextError) as caught:
        RewardModel.from_pretrained(path, *args, **options)
    assert isinstance(caught.value, (CheckpointError, MissingFileError))
    message = str(caught.value)
    assert "\n" not in message
    assert message.endswith(".")
    return message


def change(path: Path, **values):
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def test_missing_folders(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "does not exist" in refusal(str(tmp_path / "nowhere"))
    assert "does not exist" in refusal(Path("nowhere"))
    assert "does not exist" in refusal("./nowhere")
    assert "no model could be read from 'nowhere'" in refusal("nowhere")
    (tmp_path / "empty").mkdir()
    assert "no model could be read" in refusal("./empty")


def test_home_folder_is_expanded(backbones, monkeypatch):
    folder = Path(backbones("gpt2", num_labels=1))
    monkeypatch.setenv("HOME", str(folder.parent))
    assert RewardModel.from_pretrained(f"~/{folder.name}").head == heads.make("base")


def test_plain_backbones_are_refused(backbones):
    for kind in ("gpt2", "bert"):
        assert "no trained reward head" in refusal(backbones(kind))
        assert "no trained reward head" in refusal(backbones(kind), "mean_and_variance")


def test_wrong_heads_are_refused(backbones, adapter):
    one, three = backbones("gpt2", num_labels=1), backbones("gpt2", num_labels=3)
    assert "does not have 2 outputs" in refusal(one, "mean_and_variance")
    assert "has 3 outputs and no reward_head.json" in refusal(three)
    categorical = {"type": "categorical", "num_atoms": 3}
    assert RewardModel.from_pretrained(three, categorical).head.num_outputs == 3
    message = refusal(adapter, "categorical")
    assert "trained with a base head of 1 outputs" in message
    assert "categorical head of 10 outputs" in message


def test_damaged_head_files(copy_of_adapter):
    path = copy_of_adapter / HEAD_FILE
    content = json.loads(path.read_text())
    path.write_text("{nonsense")
    assert "not valid JSON" in refusal(copy_of_adapter)
    path.write_text("[1]")
    assert "a JSON object is needed" in refusal(copy_of_adapter)
    path.write_text("{}")
    assert "'head' is missing" in refusal(copy_of_adapter)
    path.write_text(json.dumps(content | {"format": 99}))
    assert "upgrade" in refusal(copy_of_adapter)
    path.write_text(json.dumps(content | {"head": {"type": "alien"}}))
    assert "'alien' is not known" in refusal(copy_of_adapter)
    path.write_text(json.dumps(content | {"reward_scale": {"median": 1}}))
    assert "reward_head.json" in refusal(copy_of_adapter)


def test_adapters_without_head_file(copy_of_adapter, backbones):
    (copy_of_adapter / HEAD_FILE).unlink()
    model = RewardModel.from_pretrained(copy_of_adapter)
    assert model.head == heads.make("base")
    assert model.base_model == backbones("gpt2")
    assert model.max_length == 128
    message = refusal(copy_of_adapter, "mean_and_variance")
    assert "has a head of 1 outputs, but the mean_and_variance head has 2" in message


def test_adapters_whose_backbone_is_gone(copy_of_adapter, backbones):
    config = copy_of_adapter / "adapter_config.json"
    change(config, base_model_name_or_path="/gone/away")
    assert "--base_model" in refusal(copy_of_adapter)
    expected = RewardModel.from_pretrained(copy_of_adapter, base_model=backbones("gpt2"))
    assert expected.raw_outputs(sample_texts(2)).shape == (2, 1)
    change(config, base_model_name_or_path=None)
    assert "does not name its backbone" in refusal(copy_of_adapter)
    config.write_text("{nonsense")
    assert "not valid JSON" in refusal(copy_of_adapter)


@pytest.mark.parametrize("layers", [1, 3])
def test_adapters_for_more_or_fewer_layers(adapter, backbones, layers):
    message = refusal(adapter, base_model=backbones("gpt2", n_layer=layers))
    assert "only one of them has 2 weights (base_model.model.transformer.h." in message


def test_adapters_for_another_architecture_or_width(adapter, backbones):
    assert "does not fit the backbone" in refusal(adapter, base_model=backbones("llama"))
    assert "does not fit the backbone" in refusal(adapter, base_model=backbones("gpt2", n_embd=64))


def test_damaged_and_missing_weights(copy_of_adapter, backbones, tmp_path):
    weights = copy_of_adapter / "adapter_model.safetensors"
    weights.write_bytes(b"garbage " * 9)
    assert "cannot be read" in refusal(copy_of_adapter)
    weights.unlink()
    assert "no adapter weights" in refusal(copy_of_adapter)
    whole = Path(shutil.copytree(backbones("gpt2", num_labels=1), tmp_path / "whole"))
    (whole / "model.safetensors").write_bytes(b"garbage " * 9)
    assert "could not be loaded" in refusal(whole)


def test_pickles_are_read_for_weights_only(copy_of_adapter):
    from safetensors.torch import load_file

    safe = copy_of_adapter / "adapter_model.safetensors"
    pickled = copy_of_adapter / "adapter_model.bin"
    expected = RewardModel.from_pretrained(copy_of_adapter).raw_outputs(sample_texts(3))
    state, shapes = load_file(safe), adapter_shapes(str(copy_of_adapter))
    safe.unlink()
    torch.save(state, pickled)
    assert adapter_shapes(str(copy_of_adapter)) == shapes
    assert torch.equal(
        RewardModel.from_pretrained(copy_of_adapter).raw_outputs(sample_texts(3)), expected
    )

    class Malicious:
        def __reduce__(self):
            return (Path.touch, (copy_of_adapter / "pwned",))

    torch.save({"weight": Malicious()}, pickled)
    assert "cannot be read" in refusal(copy_of_adapter)
    assert not (copy_of_adapter / "pwned").exists()


def test_an_adapter_of_a_language_model_is_no_reward_model(backbones, tmp_path):
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    base = backbones("llama")
    model = get_peft_model(
        AutoModelForCausalLM.from_pretrained(base), LoraConfig(task_type="CAUSAL_LM")
    )
    model.save_pretrained(tmp_path / "sft")
    message = refusal(tmp_path / "sft")
    assert "has the weight score.weight, so rewards would be random" in message


def test_an_adapter_without_the_new_pooler_is_refused(backbones, tmp_path):
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForSequenceClassification

    base = AutoModelForSequenceClassification.from_pretrained(backbones("bert"), num_labels=1)
    get_peft_model(base, LoraConfig(task_type="SEQ_CLS")).save_pretrained(tmp_path / "adapter")
    message = refusal(tmp_path / "adapter")
    assert "has 2 weights (bert.pooler.dense.bias, bert.pooler.dense.weight)" in message


def test_vocabulary_saved_with_an_adapter_is_not_taken_for_the_head(copy_of_adapter):
    from safetensors.torch import load_file, save_file

    (copy_of_adapter / HEAD_FILE).unlink()
    path = copy_of_adapter / "adapter_model.safetensors"
    extra = {"base_model.model.transformer.wte.weight": torch.zeros(420, 32)}
    save_file(load_file(path) | extra, path)
    assert RewardModel.from_pretrained(copy_of_adapter).head.num_outputs == 1


def test_files_are_found_in_folders_only_by_name(adapter):
    assert find_file(str(adapter), HEAD_FILE) == adapter / HEAD_FILE
    assert find_file(str(adapter), "nothing.json") is None


def test_ids_that_cannot_be_are_refused():
    with pytest.raises(CheckpointError, match="neither a local folder nor"):
        find_file("not a valid id!", HEAD_FILE)
    assert find_file("some/model-nobody-has", HEAD_FILE) is None  # offline: not cached


def test_cached_models_load_offline(tmp_path, monkeypatch, backbones):
    """A model in the hub's cache that has none of this package's own files."""
    commit = "0" * 40
    repository = tmp_path / "models--someone--model"
    shutil.copytree(backbones("gpt2", num_labels=1), repository / "snapshots" / commit)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("transformers.utils.hub.constants.HF_HUB_CACHE", str(tmp_path))
    assert find_file("someone/model", HEAD_FILE) is None
    config = find_file("someone/model", "config.json")
    assert config is not None
    assert config.parent.name == commit
    model = RewardModel.from_pretrained("someone/model")
    assert model.raw_outputs(sample_texts(2)).shape == (2, 1)
