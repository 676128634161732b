"""Files on remote storage: fsspec's memory and local file systems stand for object stores."""

from pathlib import Path

import fsspec
import pytest

from hidden_context.cli.score import main
from hidden_context.data.storage.rows import iter_rows
from hidden_context.errors import (
    ConfigError,
    MissingDependencyError,
    MissingFileError,
    StorageError,
)
from hidden_context.scoring import ScoreConfig
from hidden_context.scoring.remote import fetch, local_files, put
from support.builders import preference_rows
from support.paper_layout import write_rows
from support.scoring import score

OPTIONS = {"names": ["m"], "window": 4}


@pytest.fixture
def memory():
    """A file system in memory that holds nine pairs."""
    files = fsspec.filesystem("memory")
    files.store.clear()
    yield files
    files.store.clear()


@pytest.fixture
def source(memory, tmp_path):
    """Nine pairs, here and in memory."""
    path = write_rows(tmp_path / "pairs.jsonl", preference_rows(9, 5))
    memory.pipe_file("/in/pairs.jsonl", Path(path).read_bytes())
    return path


def cached(tmp_path):
    return {each.name for each in (tmp_path / "cache").rglob("*") if each.is_file()}


def test_a_remote_file_is_scored_as_a_local_one_and_an_interrupted_run_goes_on(
    memory, source, checkpoint, tmp_path, interrupt, calls
):
    address = "memory://out/deep/scores.jsonl"
    run = ("memory://in/pairs.jsonl", checkpoint, address)
    interrupt(2, score, *run, **OPTIONS)
    assert not memory.exists("/out/deep/scores.jsonl")
    assert cached(tmp_path) == {"pairs.jsonl", "scores.jsonl.m.partial"}
    calls.clear()
    there = score(*run, **OPTIONS)
    assert [len(call.texts) for call in calls] == [2]  # one window was left
    here = score(source, checkpoint, tmp_path / "out.jsonl", **OPTIONS)
    assert memory.cat_file("/out/deep/scores.jsonl") == here.path.read_bytes()
    assert (there.place, there.counts) == (address, here.counts)
    ends = ("", ".config.yaml", ".heads/m/reward_head.json")
    assert sorted(memory.find("/out")) == [f"/out/deep/scores.jsonl{end}" for end in ends]
    said = memory.cat_file("/out/deep/scores.jsonl.config.yaml").decode()
    assert "input: memory://in/pairs.jsonl\n" in said
    assert f"output: {address}\n" in said
    assert cached(tmp_path) == set()


def test_parquet_in_and_out(source, checkpoint, tmp_path, capsys):
    here = score(source, checkpoint, tmp_path / "out.jsonl", **OPTIONS)
    local = score(source, checkpoint, tmp_path / "out.parquet", **OPTIONS).path
    address = f"file://{tmp_path}/far/again.parquet"
    flags = f"--models {checkpoint} --names m --output {address} --window 4 --disable_tqdm"
    assert main([f"file://{local}", *flags.split()]) == 0
    assert capsys.readouterr().out == f"{address}: 9 of 9 rows written\n"
    expected = [row for _, row in iter_rows(here.path)]
    for path in (local, tmp_path / "far/again.parquet"):
        assert [row for _, row in iter_rows(path)] == expected


def test_a_file_is_fetched_anew_where_it_changed(memory):
    memory.pipe_file("/in.jsonl", b"one\n")
    first = fetch("memory://in.jsonl")
    assert (first.name, first.read_bytes()) == ("in.jsonl", b"one\n")
    first.write_bytes(b"kept\n")
    assert fetch("memory://in.jsonl").read_bytes() == b"kept\n"
    memory.pipe_file("/in.jsonl", b"other\n")
    assert fetch("memory://in.jsonl").read_bytes() == b"other\n"


@pytest.mark.parametrize(
    ("given", "output", "error", "words"),
    [
        ("i", "memory://folder/", ConfigError, "names no file"),
        ("i", "memory://", ConfigError, "names no file"),
        ("i", "nowhere://a.jsonl", ConfigError, r"nowhere://a\.jsonl: .*nowhere"),
        ("memory://a", "memory://a", ConfigError, "is the input too"),
        ("memory://no.jsonl", "o", MissingFileError, r"memory://no\.jsonl does not exist"),
        ("s3://bucket/a.jsonl", "o", MissingDependencyError, "Install s3fs"),
    ],
)
def test_addresses_that_cannot_be(memory, monkeypatch, given, output, error, words):
    original = fsspec.core.url_to_fs

    def url_to_fs(address):
        if address.startswith("s3"):
            raise ImportError("Install s3fs to access S3")
        return original(address)

    monkeypatch.setattr(fsspec.core, "url_to_fs", url_to_fs)
    config = ScoreConfig(input=given, models=["m"], output=output)
    with pytest.raises(error, match=words), local_files(config):
        pass


def test_a_place_that_cannot_be_written(memory, tmp_path, monkeypatch):
    memory.pipe_file("/out.jsonl", b"earlier")
    result = tmp_path / "out.jsonl"
    result.write_bytes(b"new")

    def full(*args, **options):
        raise OSError("quota")

    monkeypatch.setattr("shutil.copyfileobj", full)
    with pytest.raises(StorageError, match=rf"quota The result is kept in {result}"):
        put(result, "memory://out.jsonl")
    assert memory.cat_file("/out.jsonl") == b"earlier"
    assert result.read_bytes() == b"new"
