"""Folders, placement, cards, tokenizers and head files."""

from __future__ import annotations

import pytest
import torch
import yaml
from safetensors import SafetensorError

from hidden_context import heads
from hidden_context.errors import CheckpointError, ConfigError, StorageError
from hidden_context.likelihood import make_likelihood
from hidden_context.models.card import model_card
from hidden_context.models.folders import replace_folder
from hidden_context.models.head_file import HEAD_FILE, HeadFile, RewardScale, resolve_head
from hidden_context.models.placement import resolve_device, resolve_dtype
from hidden_context.models.tokenizer import (
    length_limit,
    load_tokenizer,
    padding_id,
    prepare_tokenizer,
)
from support.builders import tiny_config, tiny_tokenizer


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


@pytest.mark.parametrize(
    "error",
    [OSError(5, "broken disk"), SafetensorError("I/O error: disk full"), ValueError("a bug")],
)
def test_failed_folders_leave_no_trace(tmp_path, error):
    target = tmp_path / "model"
    target.mkdir()
    (target / "a").write_text("1")
    expected = ValueError if isinstance(error, ValueError) else StorageError

    def write_half():
        with replace_folder(target) as folder:
            (folder / "a").write_text("2")
            raise error

    with pytest.raises(expected):
        write_half()
    assert (target / "a").read_text() == "1"
    assert [entry.name for entry in tmp_path.iterdir()] == ["model"]


def test_the_old_folder_returns_if_the_last_rename_fails(tmp_path, monkeypatch):
    target = tmp_path / "model"
    target.mkdir()
    (target / "a").write_text("1")
    rename = type(target).rename

    def fail_for_partial(self, other):
        if self.name.endswith(".partial"):
            raise OSError(13, "Permission denied")
        return rename(self, other)

    monkeypatch.setattr(type(target), "rename", fail_for_partial)
    with pytest.raises(StorageError, match="Permission denied"), replace_folder(target):
        pass
    assert (target / "a").read_text() == "1"
    assert [entry.name for entry in tmp_path.iterdir()] == ["model"]


def test_a_file_where_the_folder_should_lie(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError), replace_folder(tmp_path / "file" / "model"):
        pass


def test_devices(monkeypatch):
    assert resolve_device("cpu") == torch.device("cpu")
    assert resolve_device(torch.device("cpu")) == torch.device("cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert resolve_device("auto") == torch.device("cuda")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert resolve_device("cuda:1") == torch.device("cuda:1")
    with pytest.raises(ConfigError, match="has 2 cuda devices"):
        resolve_device("cuda:2")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert resolve_device("auto") == torch.device("cpu")
    for missing in ("cuda", "cuda:0", "mps"):
        with pytest.raises(ConfigError, match="this machine has 0"):
            resolve_device(missing)
    with pytest.raises(ConfigError, match="not known"):
        resolve_device("abacus")


def test_precisions(monkeypatch):
    cpu, cuda = torch.device("cpu"), torch.device("cuda")
    assert resolve_dtype("auto", cpu) == torch.float32
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: True)
    assert resolve_dtype("auto", cuda) == torch.bfloat16
    imitated = lambda including_emulation=True: including_emulation  # noqa: E731
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", imitated)
    assert resolve_dtype("auto", cuda) == torch.float32
    assert resolve_dtype("bf16", cpu) == resolve_dtype("bfloat16", cpu) == torch.bfloat16
    assert resolve_dtype(torch.float64, cpu) == torch.float64
    with pytest.raises(ConfigError, match="not known"):
        resolve_dtype("int3", cpu)


def test_model_card():
    text = model_card(
        make_likelihood(heads.make("categorical", num_atoms=4)),
        base_model="someone/some-model",
        max_length=99,
        data={"train pairs": 12},
        metrics={"accuracy": 2 / 3},
    )
    header = yaml.safe_load(text.split("---")[1])
    assert header["base_model"] == "someone/some-model"
    assert header["tags"] == ["reward-model", "distributional-preference-learning", "categorical"]
    assert "- train pairs: 12" in text
    assert "| accuracy | 0.6667 |" in text
    assert "Raw outputs per text: 4" in text
    local = model_card(
        make_likelihood(heads.make("base")), base_model="/some/folder", max_length=None
    )
    assert "base_model" not in yaml.safe_load(local.split("---")[1])
    assert "not limited" in local


def test_padding_token_where_there_is_none():
    tokenizer = tiny_tokenizer(pad=None)
    tokenizer.padding_side = "left"
    assert padding_id(tokenizer) == 0
    prepare_tokenizer(tokenizer)
    assert (tokenizer.pad_token, tokenizer.padding_side) == ("</s>", "right")
    assert padding_id(tokenizer) == 2
    kept = tiny_tokenizer()
    prepare_tokenizer(kept)
    assert kept.pad_token == "<pad>"


def test_missing_tokenizers(tmp_path):
    with pytest.raises(CheckpointError, match="--tokenizer_name"):
        load_tokenizer(str(tmp_path / "nothing"))


@pytest.mark.parametrize(
    ("kind", "tokenizer_limit", "wanted", "expected"),
    [
        ("gpt2", 10**30, None, 128),
        ("gpt2", 10**30, 1024, 128),
        ("gpt2", 64, 1024, 64),
        ("gpt2", 64, 32, 32),
        ("roberta", 10**30, None, 129),  # 130 positions from pad_token_id + 1 on
        ("t5", 10**30, None, 1024),  # relative positions: no limit of its own
        ("t5", 10**30, 4096, 4096),
    ],
)
def test_length_limits(kind, tokenizer_limit, wanted, expected):
    tokenizer = tiny_tokenizer(max_length=tokenizer_limit)
    assert length_limit(tokenizer, tiny_config(kind), wanted) == expected


def test_roberta_takes_texts_of_the_limit_and_not_longer():
    """The limit of RoBERTa's kin, whose positions begin after the padding index."""
    from transformers import AutoModel

    config = tiny_config("roberta", pad_token_id=1)
    limit = length_limit(tiny_tokenizer(max_length=10**30), config, None)
    assert limit == 128
    model = AutoModel.from_config(config)
    ids = torch.full((1, limit + 1), 7)
    assert model(input_ids=ids[:, :-1])[0].shape == (1, limit, 32)
    with pytest.raises((IndexError, RuntimeError)):
        model(input_ids=ids)


@pytest.mark.parametrize(
    "head",
    [
        heads.make("base"),
        heads.make("mean_and_variance", variance_penalty=0.25),
        heads.make("categorical", num_atoms=6, entropy_coeff=0.0),
    ],
)
def test_head_files_come_back(tmp_path, head):
    stored = HeadFile(head, 77, "someone/model", RewardScale(1.5, 0.5, 10))
    stored.save(tmp_path)
    assert HeadFile.load(tmp_path / HEAD_FILE) == stored
    assert resolve_head(head.to_dict()) == head
    assert resolve_head(head) is head


def test_heads_by_name():
    assert resolve_head(None) is None
    assert resolve_head("scalar") == heads.make("base")
