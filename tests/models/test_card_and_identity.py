"""A checkpoint's folder: its model card, and the digests of all files that a model consists of."""

import os
import shutil

import pytest
import torch
import yaml

from hidden_context import heads
from hidden_context.data.storage.files import default_cache_dir
from hidden_context.errors import MissingFileError
from hidden_context.likelihood import LikelihoodOptions, make_likelihood
from hidden_context.models.checkpoint import identity
from hidden_context.models.checkpoint.card import model_card
from hidden_context.models.checkpoint.head_file import HeadFile
from hidden_context.models.checkpoint.identity import file_digest, weight_digests
from hidden_context.models.network.backbone import build_model
from support.builders import tiny_backbone
from support.runs import spied

BASE = heads.make("base")
PEOPLE = {"inference": "variational", "names": ("ann", "bob", "cat"), "column": "worker"}
GRADES = {"ratings": "ordinal", "rating_weight": 1.0, "grades": (1, 2, 5)}
LEARNED = "## Learned beside the network (`likelihood.json`)"


def card(head, options=None, state=None, **facts):
    """The card of a head; ``state`` gives learned parameters, ``raw_gaps`` by the gaps."""
    likelihood = make_likelihood(head, options or LikelihoodOptions())
    with torch.no_grad():
        for name, values in (state or {}).items():
            value = torch.tensor(values)
            gaps = name.endswith("raw_gaps")  # softplus gives the gaps
            likelihood.get_parameter(name).copy_(torch.log(torch.expm1(value)) if gaps else value)
    return model_card(likelihood, **({"base_model": "gpt2", "max_length": 64} | facts))


def test_facts_and_header():
    head, data = heads.make("categorical", num_atoms=4), {"train pairs": 12}
    facts = {"base_model": "someone/some-model", "data": data, "metrics": {"accuracy": 2 / 3}}
    text = card(head, **facts, precision="bfloat16")
    header = yaml.safe_load(text.split("---")[1])
    assert header["base_model"] == "someone/some-model"
    assert header["tags"] == ["reward-model", "distributional-preference-learning", "categorical"]
    for line in ("- train pairs: 12", "| accuracy | 0.6667 |", "Raw outputs per text: 4"):
        assert line in text
    precision = "- Trained with the backbone in bfloat16\n"
    assert f"- Longest text: 64 tokens\n{precision}" in text
    assert text.replace(precision, "") == card(head, **facts)
    local = card(BASE, base_model="/some/folder", max_length=None)
    assert "base_model" not in yaml.safe_load(local.split("---")[1])
    assert "not limited" in local


@pytest.mark.parametrize("kind", heads.types())
def test_every_head_says_what_its_raw_outputs_are(kind):
    head = heads.make(kind)
    text = card(head)
    assert f"- Raw outputs per text: {head.num_outputs} ({head.meaning})" in text
    assert text.count("# Reward model with an ensemble head") == (kind == "ensemble")
    assert "Learned beside the network" not in text


@pytest.mark.parametrize(
    ("head", "names"),
    [
        (BASE, []),
        (heads.make("mean_and_variance"), []),
        (heads.make("mixture"), []),
        (heads.make("factor"), ["shared_context", "noise"]),
        (heads.EnsembleHead(heads.make("factor"), 2), ["shared_context", "noise", "ignorance"]),
        (heads.EnsembleHead(BASE, 2), ["noise", "ignorance"]),
        (heads.EnsembleHead(heads.make("quantile"), 2), ["unsplit", "ignorance"]),
    ],
)
def test_causes_of_variance_are_explained_where_the_head_tells_them_apart(head, names):
    text = card(head)
    part = text.partition("## Causes of variance")[2].partition("##")[0]
    listed = [line[2:].split(":")[0] for line in part.splitlines() if line.startswith("- ")]
    assert listed == names
    assert ("what the model does not know" in text) == ("ignorance" in names)


@pytest.mark.parametrize(
    ("head", "options", "state", "lines"),
    [
        (
            heads.make("factor", num_factors=2),
            LikelihoodOptions(5, **PEOPLE, rating_weight=0.5),
            {"outcomes.raw_gaps": [0.25, 0.75], "ratings.log_noise": [-0.6931471805599453]},
            [
                "- Answers: strengths of 5 levels; thresholds in reward units: 0.25, 1",
                "- Annotators: 3, by the column `worker` (variational; factors: 2)",
                "- Noise of absolute ratings, in reward units: 0.5",
            ],
        ),
        (
            BASE,
            LikelihoodOptions(names=("ann", "bob"), styles=True, **GRADES),
            {"ratings.first_threshold": -1.5, "ratings.raw_gaps": [2.0]},
            [
                "- Ratings: 3 grades; thresholds in reward units: -1.5, 0.5",
                "- Styles of ratings: a level and a unit of each of 2 annotators",
            ],
        ),
        (
            *(heads.EnsembleHead(BASE, 2), LikelihoodOptions(3)),
            {f"members.{m}.outcomes.raw_gaps": [gap] for m, gap in ((0, 0.5), (1, 2.0))},
            ["- Answers: a side or a tie; thresholds in reward units, member by member: 0.5; 2"],
        ),
        (
            *(BASE, LikelihoodOptions(margin_scale=1.5), {}),
            ["- Margins: 1.5 reward units per unit of the data's"],
        ),
    ],
    ids=["annotators", "grades", "ensemble", "margins"],
)
def test_what_was_learned_is_listed_and_nothing_else(head, options, state, lines):
    part = card(head, options, state).partition(LEARNED)[2].partition("##")[0]
    found = [line for line in part.splitlines() if line.startswith("- ")]
    assert found == lines


def changed(before, after):
    return {name for name in {*before, *after} if before.get(name) != after.get(name)}


def test_an_adapter_is_its_weights_and_its_backbones(tmp_path):
    base, adapter = tiny_backbone(tmp_path / "base", "gpt2"), tmp_path / "adapter"
    build_model(base, BASE).save_pretrained(adapter)
    HeadFile(BASE, 64, base).save(adapter)
    before = weight_digests(adapter)
    assert set(before) == {
        *("adapter_config.json", "adapter_model.safetensors", "reward_head.json"),
        *("backbone/config.json", "backbone/model.safetensors"),
    }
    for name in ("eval_results_both.jsonl", "eval_results_both.jsonl.metrics.json", "README.md"):
        (adapter / name).write_text("{}\n")
    assert weight_digests(adapter) == before
    (adapter / "modeling_own.py").write_text("x = 1\n")  # code of the repository counts
    assert changed(before, weight_digests(adapter)) == {"modeling_own.py"}
    (adapter / "modeling_own.py").unlink()
    tiny_backbone(tmp_path / "base", "gpt2", seed=1)
    assert changed(before, weight_digests(adapter)) == {"backbone/model.safetensors"}
    other = tiny_backbone(tmp_path / "other", "gpt2")
    assert weight_digests(adapter, base_model=other) == before  # the same content elsewhere
    shutil.move(tmp_path / "base", tmp_path / "moved")
    with pytest.raises(MissingFileError, match="base does not exist"):
        weight_digests(adapter)


def test_a_repository_of_the_hub_is_its_commit(tmp_path, monkeypatch):
    """The cache of the hub has a folder for each commit."""
    snapshot = tmp_path / "hub" / "snapshots" / "abc123"
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text("{}")

    def find(name, file, revision=None):
        path = snapshot / file
        return path if name == "org/model" and path.is_file() else None

    monkeypatch.setattr("hidden_context.models.checkpoint.contents.find_file", find)
    assert weight_digests("org/model") == {"org/model": "abc123"}


def test_the_digest_of_a_large_file_is_kept_until_the_file_changes(tmp_path, monkeypatch):
    monkeypatch.setattr(identity, "CACHED_FROM", 4)
    read = spied(monkeypatch, identity, "_read", str)
    path = tmp_path / "model.safetensors"
    path.write_bytes(b"12345")
    first = file_digest(path)
    assert file_digest(path) == first
    assert len(read) == 1
    status = path.stat()
    path.write_bytes(b"54321")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))  # the same size and time
    assert file_digest(path) != first
    assert len(read) == 2
    for kept in (default_cache_dir() / "digests").iterdir():
        kept.write_text("cut off")
    assert file_digest(path) != first
    assert len(read) == 3
    (tmp_path / "small").write_bytes(b"123")
    file_digest(tmp_path / "small"), file_digest(tmp_path / "small")
    assert len(read) == 5
    assert len(list((default_cache_dir() / "digests").iterdir())) == 2


def test_where_digests_cannot_be_kept_files_are_read_again(tmp_path, monkeypatch):
    monkeypatch.setattr(identity, "CACHED_FROM", 1)
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("HIDDEN_CONTEXT_CACHE", str(tmp_path / "file"))
    (tmp_path / "weights").write_bytes(b"12345")
    assert file_digest(tmp_path / "weights") == file_digest(tmp_path / "weights")
