"""Every kind of checkpoint, whole and damaged in every way: loads exactly, or is refused by name.

Rewards of random weights would differ from load to load; each cell either gives the rewards of the
whole checkpoint or one sentence that names what is wrong.
"""

import re
import shutil
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from datasets import Dataset
from huggingface_hub import save_torch_state_dict
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification
from trl import RewardConfig, RewardTrainer

from hidden_context.errors import HiddenContextError
from hidden_context.models.checkpoint.head_file import HeadFile
from hidden_context.models.network.tokenizer import load_tokenizer
from support.builders import CHAT_TEMPLATE, preference_rows, sample_texts, tiny_tokenizer
from support.models import (
    NORMAL,
    edit_json,
    frozen_model,
    load,
    moved,
    one_by_one,
    sequence_model,
    write_ensemble,
)

TEXTS = sample_texts(4)
FILES = ("model.safetensors", "adapter_model.safetensors", "adapter_model.bin", "probe.safetensors")


class Kit(NamedTuple):
    """A whole checkpoint.

    Attributes:
        folder: Where it lies.
        raw: Its raw outputs, computed without this package's loaders.
        base: Folder of its backbone, or None where it is whole by itself.
        head: The head that has to be named, or None.
    """

    folder: Path
    raw: torch.Tensor
    base: Path | None = None
    head: str | None = None


def stock(module, folder):
    """Raw outputs as Transformers and PEFT compute them."""
    return one_by_one(module, load_tokenizer(str(folder)), TEXTS)


def classifier(folder, num_labels):
    return AutoModelForSequenceClassification.from_pretrained(folder, num_labels=num_labels)


def with_adapter(folder, base):
    module = classifier(base, 2)
    module.config.pad_token_id = 0
    return stock(PeftModel.from_pretrained(module, folder), folder)


def whole_kit(folder, base, num_labels):
    moved(classifier(base, num_labels), num_labels, last=1.0).save_pretrained(folder)
    load_tokenizer(str(base)).save_pretrained(folder)
    if num_labels == 2:
        HeadFile(NORMAL, 128).save(folder)
    return Kit(folder, stock(classifier(folder, num_labels), folder))


def adapter_kit(folder, base):
    sequence_model(str(base), last=1.0).save_pretrained(folder)
    return Kit(folder, with_adapter(folder, base), base)


def ensemble_kit(folder, base):
    write_ensemble(folder, str(base), seeds=(0, 1), last=1.0)
    parts = [with_adapter(folder / f"member_{m}", base) for m in range(2)]
    return Kit(folder, torch.cat(parts, dim=1), base)


def frozen_kit(folder, base):
    model = frozen_model(str(base), embed="together")
    for value in model.probe.state_dict().values():  # values that bfloat16 holds
        value.copy_(value.bfloat16())
    model.save_pretrained(folder)
    module = AutoModelForCausalLM.from_pretrained(base)
    features = []
    with torch.no_grad():
        for text in TEXTS:
            ids = torch.tensor([model.tokenizer(text)["input_ids"]])
            states = module(ids, output_hidden_states=True).hidden_states
            features.append(states[model.featurizer.layer][0].mean(0))
        return Kit(folder, model.probe(torch.stack(features)), base)


def paper_kit(folder, base):
    """The paper's adapters are pickled, and say nothing of their head."""
    kit = adapter_kit(folder, base)
    (folder / "reward_head.json").unlink()
    weights = folder / "adapter_model.safetensors"
    torch.save(load_file(weights), folder / "adapter_model.bin")
    weights.unlink()
    return kit._replace(head="mean_and_variance")


def trl_kit(folder, base):
    """Trained by TRL for two steps."""
    rows = [{side: row[side] for side in ("chosen", "rejected")} for row in preference_rows(4)]
    options = {"max_steps": 2, "per_device_train_batch_size": 2, "learning_rate": 1e-2}
    quiet = {"report_to": "none", "disable_tqdm": True, "save_strategy": "no"}
    config = RewardConfig(str(folder), use_cpu=True, bf16=False, **options, **quiet)
    trainer = RewardTrainer(model=str(base), args=config, train_dataset=Dataset.from_list(rows))
    trainer.train()
    moved(trainer.model, 1, last=1.0).save_pretrained(folder)
    trainer.processing_class.save_pretrained(folder)
    return Kit(folder, stock(classifier(folder, 1), folder))


def saved_modules_kit(folder, base):
    """A plain PEFT adapter that is called one of a language model and saves head and vocabulary."""
    saved = ["score", "embed_tokens"]
    config = LoraConfig(task_type="SEQ_CLS", r=2, target_modules=["q_proj"], modules_to_save=saved)
    wrapped = moved(get_peft_model(classifier(base, 1), config), 3, last=1.0)
    wrapped.save_pretrained(folder)
    load_tokenizer(str(base)).save_pretrained(folder)
    edit_json(folder / "adapter_config.json", task_type="CAUSAL_LM")
    return Kit(folder, stock(wrapped, folder), base)


KITS = {
    "scalar": lambda folder, base: whole_kit(folder, base, 1),
    "K outputs": lambda folder, base: whole_kit(folder, base, 2),
    "adapter": adapter_kit,
    "ensemble": ensemble_kit,
    "frozen": frozen_kit,
    "paper": paper_kit,
    "TRL": trl_kit,
    "modules_to_save": saved_modules_kit,
}


@pytest.fixture(scope="module")
def kits(backbones, tmp_path_factory):
    root = tmp_path_factory.mktemp("kits")
    tokenizer = tiny_tokenizer(bos="<s>", chat_template=CHAT_TEMPLATE)
    base = Path(shutil.copytree(backbones("llama", tokenizer=tokenizer), root / "base"))
    weights = base / "model.safetensors"
    state = {key: value.bfloat16().float() for key, value in load_file(weights).items()}
    save_file(state, weights, {"format": "pt"})
    return {name: make(root / name, base) for name, make in KITS.items()}


@pytest.fixture(params=KITS)
def kit(request, kits):
    """A checkpoint of each kind."""
    return kits[request.param]


def read(path):
    return torch.load(path) if path.suffix == ".bin" else load_file(path)


def write(path, state):
    if path.suffix == ".bin":
        torch.save(state, path)
    else:
        save_file(state, path, {"format": "pt"})


@pytest.fixture
def copies(kit, tmp_path):
    """Copies of a checkpoint and its backbone, each with a file of weights to damage, and these.

    The files are the checkpoint's own, and last its backbone's.
    """
    own = [path.relative_to(kit.folder) for path in kit.folder.rglob("*") if path.name in FILES]
    found = []
    for number, place in enumerate([*sorted(own), None][: len(own) + bool(kit.base)]):
        folder = Path(shutil.copytree(kit.folder, tmp_path / f"model {number}"))
        base = kit.base and Path(shutil.copytree(kit.base, tmp_path / f"base {number}"))
        path = folder / place if place else base / "model.safetensors"
        found.append((kit._replace(folder=folder, base=base), path, read(path)))
    return found


def loaded(kit):
    return load(kit.folder, kit.head, base_model=kit.base and str(kit.base))


def outcome(kit):
    """Load and score: ``exact`` with the rewards of the whole, or the sentence of the refusal."""
    try:
        raw = loaded(kit).raw_outputs(TEXTS)
    except HiddenContextError as error:
        return str(error).replace("\n", " two lines ")
    assert torch.allclose(raw, kit.raw, atol=1e-4, rtol=1e-5), (raw - kit.raw).abs().max()
    return "exact"


def some_keys(state, count=5):
    """A few names of weights, spread over the network, and the head's."""
    keys = [key for key in sorted(state) if not key.startswith("lm_head")]
    chosen = keys[:: max(1, len(keys) // count)]
    return sorted({*chosen, *(key for key in keys if "score" in key)})


def test_a_complete_checkpoint_loads_exactly(kit):
    assert kit.raw.std() > 1e-3
    assert outcome(kit) == "exact"


def test_a_missing_weight_is_named(copies):
    for kit, path, whole in copies:
        brought = {key for own in kit.folder.glob("adapter_model.*") for key in read(own)}
        for key in some_keys(whole):
            write(path, {name: value for name, value in whole.items() if name != key})
            message = outcome(kit)
            if path.parent == kit.base and f"base_model.model.{key}" in brought:
                assert message == "exact"  # an adapter brings the whole of it
            else:
                assert plain(key) in message or "no trained reward head" in message, (key, message)


def plain(key):
    return key.removeprefix("base_model.model.").removeprefix("model.")


def test_a_surplus_weight_that_would_matter_is_named(copies):
    for kit, path, whole in copies:
        key = min(key for key in whole if "layers.0." in key or key.startswith("members.0"))
        stem = key.rpartition(".")[0]
        parts = ("lora_A.weight", "base_layer.weight", "surplus_bias")
        for extra in (*(f"{stem}.{part}" for part in parts), f"encoder.{key}"):
            write(path, whole | {extra: torch.ones(2, 2)})
            assert plain(extra) in outcome(kit), extra


RENAMES = {
    "of a compiled model": lambda key: f"_orig_mod.{key}",
    "of a distributed model": lambda key: f"module.{key}",
    "of both": lambda key: f"module._orig_mod.{key}",
    "unknown": lambda key: f"network.{key}",
    "one layer": lambda key: key.replace("layers.1.mlp", "layers.1.ffn"),
    "of a member": lambda key: key.replace("members.1", "members.7"),
    "of an adapter": lambda key: key.replace("lora_A", "lora_C"),
}
DOCUMENTED = ("of a compiled model", "of a distributed model", "of both")


def test_renamed_weights_load_exactly_or_are_named(copies):
    for kit, path, whole in copies:
        for name, rename in RENAMES.items():
            renamed = {rename(key): value for key, value in whole.items()}
            if set(renamed) == set(whole):
                continue
            write(path, renamed)
            message = outcome(kit)
            if name in DOCUMENTED and path.name == "model.safetensors":
                assert message == "exact", name
            else:
                assert re.search(r"weights? [(\w]|Missing key", message), (name, message)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64], ids=str)
def test_another_precision_that_holds_the_weights_gives_the_same(copies, dtype):
    for kit, path, whole in copies:
        state = {key: value.to(dtype).contiguous() for key, value in whole.items()}
        write(path, state)
        assert outcome(kit) == "exact"


def test_shards_load_exactly_and_missing_ones_are_refused(copies):
    kit, path, whole = copies[-1]
    half = path.stat().st_size * 6 // 10
    save_torch_state_dict(whole, path.parent, max_shard_size=half)
    shards = sorted(path.parent.glob("model-*.safetensors"))
    assert len(shards) == 2
    assert outcome(kit) == "exact"
    kept = shards[1].read_bytes()
    shards[1].unlink()
    assert shards[1].name in outcome(kit)
    # a shard of another model by the same name
    shards[1].write_bytes(shards[0].read_bytes())
    assert re.search(r"(lacks|has) \d+ weights \(", outcome(kit))
    shards[1].write_bytes(kept)
    assert outcome(kit) == "exact"


def test_another_vocabulary_is_refused_with_both_sizes(copies):
    kit, path, whole = copies[-1]
    key = next(key for key in whole if "embed_tokens" in key)
    rows = len(whole[key])
    write(path, whole | {key: torch.cat([whole[key], torch.ones(1, 32)])})
    message = outcome(kit)
    assert str(rows) in message
    assert str(rows + 1) in message
    # the tokenizer alone
    write(path, whole)
    tokenizer = load_tokenizer(str(kit.folder))
    tokenizer.add_tokens(["tea"])
    tokenizer.add_special_tokens({"pad_token": "<|padding|>"})  # padding is masked, whatever it is
    tokenizer.save_pretrained(str(kit.folder))
    model = loaded(kit)
    assert model.raw_outputs(["Rain?", "Rain and snow?"]).isfinite().all()
    with pytest.raises(HiddenContextError, match=rf"token id {rows}.*{rows} tokens"):
        model.raw_outputs(["A cup of tea?"])
