from __future__ import annotations

import json
from pathlib import Path

import pytest

from hidden_context import heads
from hidden_context.errors import CheckpointError, ConfigError, MissingFileError
from hidden_context.likelihood import LikelihoodOptions
from hidden_context.scoring.config import ModelOptions
from hidden_context.scoring.loading import load_model, read_likelihood, wanted_head
from support.builders import tiny_backbone


@pytest.mark.parametrize(
    ("options", "head"),
    [
        ({}, None),
        ({"num_outputs": 1}, heads.make("base")),
        ({"num_outputs": 2}, heads.make("mean_and_variance")),
        (
            {"num_outputs": 2, "likelihood": "logistic"},
            heads.make("mean_and_variance", likelihood="logistic"),
        ),
        ({"num_outputs": 10}, heads.make("categorical")),
        ({"head": "categorical", "num_outputs": 4}, heads.make("categorical", num_atoms=4)),
        ({"head": "scalar"}, heads.make("base")),
        ({"head": "factor", "num_outputs": 5}, heads.make("factor", num_factors=3)),
        ({"head": "mixture", "num_outputs": 6}, heads.make("mixture", num_components=2)),
        ({"head": "quantile", "num_outputs": 4}, heads.make("quantile", num_atoms=4)),
        ({"head": "quantile"}, heads.make("quantile")),
    ],
)
def test_the_head_that_options_name(options, head):
    assert wanted_head(ModelOptions(**options)) == head


def test_a_head_and_a_number_of_outputs_that_contradict():
    with pytest.raises(
        ConfigError, match="mean_and_variance head has num_outputs 2, but --num_outputs is 3"
    ):
        wanted_head(ModelOptions(head="mean_and_variance", num_outputs=3))
    with pytest.raises(ConfigError, match="mixture head has num_outputs 3, but --num_outputs is 4"):
        wanted_head(ModelOptions(head="mixture", num_outputs=4))
    with pytest.raises(ConfigError, match="'sparse' is not known; choose one of base, mean_and"):
        wanted_head(ModelOptions(head="sparse"))


def test_what_the_checkpoint_says_of_its_head_holds(checkpoint):
    agreeing = ModelOptions(num_outputs=2, likelihood="logistic")
    assert load_model(checkpoint, agreeing).head == heads.make("mean_and_variance")
    assert load_model(checkpoint, ModelOptions(head="mean_and_variance")).head.num_outputs == 2
    for options in ({"num_outputs": 1}, {"num_outputs": 10}, {"head": "base"}):
        with pytest.raises(
            CheckpointError, match=r"has a mean_and_variance head \(num_outputs 2\), but"
        ):
            load_model(checkpoint, ModelOptions(**options))


def test_a_head_s_name_alone_asks_for_no_size(categorical, factor):
    assert load_model(categorical, ModelOptions(head="categorical")).head.num_atoms == 5
    assert load_model(factor, ModelOptions(head="factor")).head.num_factors == 2
    with pytest.raises(CheckpointError, match=r"has a factor head \(num_outputs 4\), but factor"):
        load_model(factor, ModelOptions(head="factor", num_outputs=3))


def test_what_was_learned_beside_the_network_is_read_without_it(factor, checkpoint, tmp_path):
    known = read_likelihood(factor, ModelOptions())
    assert known.head == heads.make("factor", num_factors=2)
    assert known.names.names == ("7", "ann", "bob")
    assert load_model(factor, ModelOptions()).likelihood.names.names == known.names.names
    assert read_likelihood(checkpoint, ModelOptions()).options == LikelihoodOptions()
    ready = tiny_backbone(tmp_path / "ready", num_labels=1)
    assert read_likelihood(ready, ModelOptions()).head == heads.make("base")
    assert read_likelihood(ready, ModelOptions(num_outputs=2)).head.type == "mean_and_variance"
    with pytest.raises(MissingFileError):
        read_likelihood(str(tmp_path / "absent"), ModelOptions())


def test_a_two_atom_model_is_not_taken_for_mean_and_variance(categorical, tmp_path):
    # --num_outputs 2 stands for mean and variance, but the size is all that can be compared
    content = json.loads((Path(categorical) / "reward_head.json").read_text())
    assert content["head"]["type"] == "categorical"
    assert load_model(categorical, ModelOptions(num_outputs=5)).head.type == "categorical"


def test_a_ready_made_model_without_a_head_file_needs_no_name(tmp_path):
    ready = tiny_backbone(tmp_path / "ready", num_labels=1)
    assert load_model(ready, ModelOptions()).head == heads.make("base")
    with pytest.raises(CheckpointError, match="2 outputs"):
        load_model(ready, ModelOptions(num_outputs=2))


def test_options_reach_the_model(checkpoint, tmp_path):
    import torch

    model = load_model(checkpoint, ModelOptions(max_length=17, precision="bfloat16", device="cpu"))
    assert model.max_length == 17
    assert {p.dtype for p in model.module.transformer.parameters()} == {torch.bfloat16}


def test_paths_without_a_checkpoint_are_told_apart(checkpoint, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run" / "notes").mkdir(parents=True)
    with pytest.raises(MissingFileError, match=r"run/final does not exist. Give the folder of"):
        load_model("run/final", ModelOptions())
    with pytest.raises(CheckpointError, match=r"run holds no checkpoint: none of config.json, ad"):
        load_model("run", ModelOptions())
    (tmp_path / "run" / "final").symlink_to(checkpoint)
    with pytest.raises(CheckpointError, match=r"is in it. There is one in run/final\.$"):
        load_model("run", ModelOptions())
    with pytest.raises(CheckpointError, match=r"config.json is a file; give the folder"):
        load_model(f"{checkpoint}/config.json", ModelOptions())
