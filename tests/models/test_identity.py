"""The digests of all files that a model consists of."""

import os
import shutil
from pathlib import Path

import pytest

from hidden_context import heads
from hidden_context.data.storage.files import default_cache_dir
from hidden_context.errors import MissingFileError
from hidden_context.models.checkpoint import identity
from hidden_context.models.checkpoint.head_file import HeadFile
from hidden_context.models.checkpoint.identity import file_digest, weight_digests
from hidden_context.models.network.backbone import build_model
from support.builders import tiny_backbone


@pytest.fixture
def adapter(tmp_path):
    """An adapter and its local backbone, whose folders are ``adapter`` and ``base``."""
    base = tiny_backbone(tmp_path / "base", "gpt2")
    build_model(base, heads.make("base")).save_pretrained(tmp_path / "adapter")
    HeadFile(heads.make("base"), 64, base).save(tmp_path / "adapter")
    return tmp_path / "adapter"


def changed(before, after):
    return {name for name in {*before, *after} if before.get(name) != after.get(name)}


def test_an_adapter_is_its_weights_and_its_backbones(adapter, tmp_path):
    before = weight_digests(adapter)
    assert set(before) == {
        *("adapter_config.json", "adapter_model.safetensors", "reward_head.json"),
        *("backbone/config.json", "backbone/model.safetensors"),
    }
    (adapter / "eval_results_both.jsonl").write_text("{}\n")
    (adapter / "eval_results_both.jsonl.metrics.json").write_text("{}\n")
    (adapter / "README.md").write_text("")
    assert weight_digests(adapter) == before
    tiny_backbone(tmp_path / "base", "gpt2", seed=1)
    assert changed(before, weight_digests(adapter)) == {"backbone/model.safetensors"}
    other = tiny_backbone(tmp_path / "other", "gpt2")
    assert weight_digests(adapter, base_model=other) == before  # the same content elsewhere
    shutil.move(tmp_path / "base", tmp_path / "moved")
    with pytest.raises(MissingFileError, match="base does not exist"):
        weight_digests(adapter)


def test_code_of_the_repository_counts(tmp_path):
    folder = Path(tiny_backbone(tmp_path / "model", "gpt2"))
    before = weight_digests(folder)
    (folder / "modeling_own.py").write_text("x = 1\n")
    assert changed(before, weight_digests(folder)) == {"modeling_own.py"}


def test_a_repository_of_the_hub_is_its_commit(tmp_path, monkeypatch):
    """The cache of the hub has a folder for each commit."""
    snapshot = tmp_path / "hub" / "snapshots" / "abc123"
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text("{}")

    def find(name, file, revision=None):
        path = snapshot / file
        return path if name == "org/model" and path.is_file() else None

    monkeypatch.setattr(identity, "find_file", find)
    monkeypatch.setattr("hidden_context.models.checkpoint.contents.find_file", find)
    assert weight_digests("org/model") == {"org/model": "abc123"}


def test_the_digest_of_a_large_file_is_kept_until_the_file_changes(tmp_path, monkeypatch):
    monkeypatch.setattr(identity, "CACHED_FROM", 4)
    read, original = [], identity._read
    monkeypatch.setattr(identity, "_read", lambda path: (read.append(path), original(path))[1])
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
