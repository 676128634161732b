"""Every kind of checkpoint, whole and damaged in every way: loads exactly, or is refused by name.

Rewards of random weights would differ from load to load; each cell either gives the rewards of the
whole checkpoint or one sentence that names what is wrong.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from hidden_context import heads
from hidden_context.errors import HiddenContextError
from hidden_context.likelihood import make_likelihood
from hidden_context.models import RewardModel
from hidden_context.models.backbone import build_model
from hidden_context.models.featurizer import Featurizer, FeaturizerOptions
from hidden_context.models.frozen import FrozenRewardModel, Probe, ProbeOptions
from hidden_context.models.head_file import HeadFile
from hidden_context.models.modules import final_linear
from hidden_context.models.sequence import SequenceRewardModel
from hidden_context.models.tokenizer import load_tokenizer
from support.builders import CHAT_TEMPLATE, preference_rows, sample_texts, tiny_tokenizer

TEXTS = sample_texts(4)
NORMAL = heads.make("mean_and_variance")
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


def stock(module: Any, folder: Path) -> torch.Tensor:
    """Raw outputs as Transformers and PEFT compute them, one text after the other."""
    tokenizer = load_tokenizer(str(folder))
    ids = [torch.tensor([tokenizer(text)["input_ids"]]) for text in TEXTS]
    with torch.no_grad():
        return torch.cat([module.eval()(input_ids=each).logits for each in ids])


def moved(module: Any, seed: int) -> Any:
    """A module whose trained weights have all moved, to values that bfloat16 holds."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.1).copy_(parameter.bfloat16())
    return module


def whole_kit(folder: Path, base: Path, num_labels: int, head: heads.Head | None = None) -> Kit:
    module = AutoModelForSequenceClassification.from_pretrained(base, num_labels=num_labels)
    moved(module, num_labels).save_pretrained(folder)
    load_tokenizer(str(base)).save_pretrained(folder)
    if head is not None:
        HeadFile(head, 128).save(folder)
    return Kit(folder, stock(module, folder))


def write_adapter(folder: Path, base: Path, head: heads.Head, seed: int = 0) -> torch.Tensor:
    module = moved(build_model(str(base), head), seed)
    final_linear(module.get_base_model())
    model = SequenceRewardModel(
        module, load_tokenizer(str(base)), make_likelihood(head), 128, base_model=str(base)
    )
    model.save_pretrained(folder)
    return stock_adapter(folder, base, head.num_outputs)


def stock_adapter(folder: Path, base: Path, num_labels: int) -> torch.Tensor:
    from peft import PeftModel

    module = AutoModelForSequenceClassification.from_pretrained(base, num_labels=num_labels)
    module.config.pad_token_id = 0
    return stock(PeftModel.from_pretrained(module, folder), folder)


def ensemble_kit(folder: Path, base: Path) -> Kit:
    parts = [write_adapter(folder / f"member_{m}", base, NORMAL, m) for m in range(2)]
    names = {"format": 1, "members": ["member_0", "member_1"]}
    (folder / "adapter_ensemble.json").write_text(json.dumps(names))
    HeadFile(heads.EnsembleHead(NORMAL, 2), 128, str(base)).save(folder)
    load_tokenizer(str(base)).save_pretrained(folder)
    return Kit(folder, torch.cat(parts, dim=1), base)


def frozen_kit(folder: Path, base: Path) -> Kit:
    torch.manual_seed(0)
    options = ProbeOptions(4, 0.0, 2)
    featurizer = Featurizer(str(base), FeaturizerOptions(embed="together", max_length=128))
    probe = moved(Probe(32, NORMAL, options), 0).eval()
    FrozenRewardModel(featurizer, probe, options, make_likelihood(NORMAL)).save_pretrained(folder)
    module = AutoModelForCausalLM.from_pretrained(base)
    tokenizer = load_tokenizer(str(base))
    with torch.no_grad():
        features = [
            module(torch.tensor([tokenizer(text)["input_ids"]]), output_hidden_states=True)
            .hidden_states[featurizer.layer][0]
            .mean(0)
            for text in TEXTS
        ]
        return Kit(folder, probe(torch.stack(features)), base)


def paper_kit(folder: Path, base: Path) -> Kit:
    """The paper's adapters are pickled, and say nothing of their head."""
    raw = write_adapter(folder, base, NORMAL)
    (folder / "reward_head.json").unlink()
    weights = folder / "adapter_model.safetensors"
    torch.save(load_file(weights), folder / "adapter_model.bin")
    weights.unlink()
    return Kit(folder, raw, base, "mean_and_variance")


def trl_kit(folder: Path, base: Path) -> Kit:
    """Trained by TRL for two steps."""
    from datasets import Dataset
    from trl import RewardConfig, RewardTrainer

    rows = [{side: row[side] for side in ("chosen", "rejected")} for row in preference_rows(4)]
    options = {"max_steps": 2, "per_device_train_batch_size": 2, "learning_rate": 1e-2}
    quiet = {"report_to": "none", "disable_tqdm": True, "save_strategy": "no"}
    config = RewardConfig(str(folder), use_cpu=True, bf16=False, **options, **quiet)
    trainer = RewardTrainer(model=str(base), args=config, train_dataset=Dataset.from_list(rows))
    trainer.train()
    moved(trainer.model, 1).save_pretrained(folder)
    trainer.processing_class.save_pretrained(folder)
    module = AutoModelForSequenceClassification.from_pretrained(folder)
    return Kit(folder, stock(module, folder))


def saved_modules_kit(folder: Path, base: Path) -> Kit:
    """A plain PEFT adapter that is called one of a language model and saves head and vocabulary."""
    from peft import LoraConfig, get_peft_model

    module = AutoModelForSequenceClassification.from_pretrained(base, num_labels=1)
    saved = ["score", "embed_tokens"]
    config = LoraConfig(task_type="SEQ_CLS", r=2, target_modules=["q_proj"], modules_to_save=saved)
    wrapped = moved(get_peft_model(module, config), 3)
    wrapped.save_pretrained(folder)
    load_tokenizer(str(base)).save_pretrained(folder)
    raw = stock(wrapped, folder)
    path = folder / "adapter_config.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps(content | {"task_type": "CAUSAL_LM"}))
    return Kit(folder, raw, base)


@pytest.fixture(scope="module")
def kits(backbones, tmp_path_factory) -> dict[str, Kit]:
    root = tmp_path_factory.mktemp("kits")
    base = Path(
        shutil.copytree(
            backbones("llama", tokenizer=tiny_tokenizer(bos="<s>", chat_template=CHAT_TEMPLATE)),
            root / "base",
        )
    )
    weights = base / "model.safetensors"
    state = {key: value.bfloat16().float() for key, value in load_file(weights).items()}
    save_file(state, weights, {"format": "pt"})
    raw = write_adapter(root / "adapter", base, NORMAL)
    return {
        "scalar": whole_kit(root / "scalar", base, 1),
        "K outputs": whole_kit(root / "normal", base, 2, NORMAL),
        "adapter": Kit(root / "adapter", raw, base),
        "ensemble": ensemble_kit(root / "ensemble", base),
        "frozen": frozen_kit(root / "frozen", base),
        "paper": paper_kit(root / "paper", base),
        "TRL": trl_kit(root / "trl", base),
        "modules_to_save": saved_modules_kit(root / "saved", base),
    }


KINDS = ("scalar", "K outputs", "adapter", "ensemble", "frozen", "paper", "TRL", "modules_to_save")
State = dict[str, torch.Tensor]


def read(path: Path) -> State:
    return torch.load(path) if path.suffix == ".bin" else load_file(path)


def write(path: Path, state: State) -> None:
    if path.suffix == ".bin":
        torch.save(state, path)
    else:
        save_file(state, path, {"format": "pt"})


def places(kit: Kit) -> list[str]:
    """Which weights can be damaged: the checkpoint's own, and its backbone's."""
    own = [str(p.relative_to(kit.folder)) for p in kit.folder.rglob("*") if p.name in FILES]
    return sorted(own) + (["base"] if kit.base else [])


def copies(kit: Kit, tmp_path: Path, place: str) -> tuple[Kit, Path]:
    """A copy of a checkpoint and its backbone, and the file of weights to change."""
    shutil.rmtree(tmp_path / "copy", ignore_errors=True)
    folder = Path(shutil.copytree(kit.folder, tmp_path / "copy" / "model"))
    base = kit.base and Path(shutil.copytree(kit.base, tmp_path / "copy" / "base"))
    kit = kit._replace(folder=folder, base=base)
    if place == "base":
        assert base is not None
        return kit, base / "model.safetensors"
    return kit, folder / place


def outcome(kit: Kit) -> str:
    """Load and score: ``exact`` with the rewards of the whole, or the sentence of the refusal."""
    options: dict[str, Any] = {"dtype": "float32", "device": "cpu"}
    if kit.base is not None:
        options["base_model"] = str(kit.base)
    try:
        raw = RewardModel.from_pretrained(kit.folder, kit.head, **options).raw_outputs(TEXTS)
    except HiddenContextError as error:
        return str(error).replace("\n", " two lines ")
    assert torch.allclose(raw, kit.raw, atol=1e-4, rtol=1e-5), (raw - kit.raw).abs().max()
    return "exact"


def each_copy(kit: Kit, tmp_path: Path) -> Iterator[tuple[Kit, Path]]:
    for place in places(kit):
        yield copies(kit, tmp_path, place)


def some_keys(state: State, count: int = 5) -> list[str]:
    """A few names of weights, spread over the network, and the head's."""
    keys = [key for key in sorted(state) if not key.startswith("lm_head")]
    chosen = keys[:: max(1, len(keys) // count)]
    return sorted({*chosen, *(key for key in keys if "score" in key)})


@pytest.mark.parametrize("kind", KINDS)
def test_a_complete_checkpoint_loads_exactly(kits, kind):
    kit = kits[kind]
    assert kit.raw.std() > 1e-3
    assert outcome(kit) == "exact"


@pytest.mark.parametrize("kind", KINDS)
def test_a_missing_weight_is_named(kits, tmp_path, kind):
    for kit, path in each_copy(kits[kind], tmp_path):
        whole = read(path)
        for key in some_keys(whole):
            write(path, {name: value for name, value in whole.items() if name != key})
            message = outcome(kit)
            if path.parent == kit.base and f"base_model.model.{key}" in read_own(kit):
                assert message == "exact"  # an adapter brings the whole of it
            else:
                assert plain(key) in message or "no trained reward head" in message, (key, message)


def read_own(kit: Kit) -> State:
    files = [path for path in kit.folder.iterdir() if path.name in FILES]
    return read(files[0]) if files else {}


def plain(key: str) -> str:
    return key.removeprefix("base_model.model.").removeprefix("model.")


@pytest.mark.parametrize("kind", KINDS)
def test_a_surplus_weight_that_would_matter_is_named(kits, tmp_path, kind):
    for kit, path in each_copy(kits[kind], tmp_path):
        whole = read(path)
        key = min(key for key in whole if "layers.0." in key or key.startswith("members.0"))
        stem = key.rpartition(".")[0]
        for extra in (
            f"{stem}.lora_A.weight",
            f"{stem}.base_layer.weight",
            f"{stem}.surplus_bias",
            f"encoder.{key}",
        ):
            write(path, whole | {extra: torch.ones(2, 2)})
            assert plain(extra) in outcome(kit), extra


@pytest.mark.parametrize("kind", KINDS)
def test_leftovers_of_other_uses_change_nothing(kits, tmp_path, kind):
    kit, path = copies(kits[kind], tmp_path, places(kits[kind])[-1])  # the backbone's
    left = ("lm_head.weight", "model.layers.0.self_attn.rotary_emb.inv_freq", "model.position_ids")
    write(path, read(path) | {key: torch.ones(3) for key in (*left, "cls.predictions.bias")})
    assert outcome(kit) == "exact"


RENAMES: dict[str, Callable[[str], str]] = {
    "of a compiled model": lambda key: f"_orig_mod.{key}",
    "of a distributed model": lambda key: f"module.{key}",
    "of both": lambda key: f"module._orig_mod.{key}",
    "unknown": lambda key: f"network.{key}",
    "one layer": lambda key: key.replace("layers.1.mlp", "layers.1.ffn"),
    "of a member": lambda key: key.replace("members.1", "members.7"),
    "of an adapter": lambda key: key.replace("lora_A", "lora_C"),
}
DOCUMENTED = ("of a compiled model", "of a distributed model", "of both")


@pytest.mark.parametrize("kind", KINDS)
def test_renamed_weights_load_exactly_or_are_named(kits, tmp_path, kind):
    for kit, path in each_copy(kits[kind], tmp_path):
        whole = read(path)
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


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64], ids=str)
def test_another_precision_that_holds_the_weights_gives_the_same(kits, tmp_path, kind, dtype):
    for kit, path in each_copy(kits[kind], tmp_path):
        state = {key: value.to(dtype).contiguous() for key, value in read(path).items()}
        write(path, state)
        assert outcome(kit) == "exact"


def divide(path: Path) -> list[Path]:
    """Divide a file of weights into two shards and an index."""
    state = read(path)
    keys = sorted(state)
    parts, index = (keys[::2], keys[1::2]), {}
    shards = [path.with_name(f"model-0000{n}-of-00002.safetensors") for n in (1, 2)]
    for shard, part in zip(shards, parts, strict=True):
        save_file({key: state[key] for key in part}, shard, {"format": "pt"})
        index |= dict.fromkeys(part, shard.name)
    content = {"metadata": {"total_size": 1}, "weight_map": index}
    path.with_name("model.safetensors.index.json").write_text(json.dumps(content))
    path.unlink()
    return shards


@pytest.mark.parametrize("kind", KINDS)
def test_shards_load_exactly_and_missing_ones_are_refused(kits, tmp_path, kind):
    kit, path = copies(kits[kind], tmp_path, places(kits[kind])[-1])
    shards = divide(path)
    assert outcome(kit) == "exact"
    kept = shards[1].read_bytes()
    shards[1].unlink()
    assert shards[1].name in outcome(kit)
    # a shard of another model by the same name
    shards[1].write_bytes(shards[0].read_bytes())
    assert re.search(r"(lacks|has) \d+ weights \(", outcome(kit))
    shards[1].write_bytes(kept)
    assert outcome(kit) == "exact"


@pytest.mark.parametrize("kind", KINDS)
def test_another_vocabulary_is_refused_with_both_sizes(kits, tmp_path, kind):
    kit, path = copies(kits[kind], tmp_path, places(kits[kind])[-1])
    whole = read(path)
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
    options = {"base_model": str(kit.base)} if kit.base else {}
    model = RewardModel.from_pretrained(kit.folder, kit.head, **options)
    assert model.raw_outputs(["Rain?", "Rain and snow?"]).isfinite().all()
    with pytest.raises(HiddenContextError, match=rf"token {rows}.*{rows} tokens"):
        model.raw_outputs(["A cup of tea?"])
