"""Files on remote storage: fsspec's memory and local file systems stand for object stores."""

from __future__ import annotations

from pathlib import Path

import fsspec
import pytest

from hidden_context import scoring
from hidden_context.cli.score import main
from hidden_context.data.rows import iter_rows
from hidden_context.errors import (
    ConfigError,
    MissingDependencyError,
    MissingFileError,
    StorageError,
)
from hidden_context.scoring import ScoreConfig
from hidden_context.scoring import partial as partial_module
from hidden_context.scoring.remote import fetch, local_files, put
from support.builders import preference_rows
from support.paper_layout import write_rows


@pytest.fixture
def memory(monkeypatch, tmp_path):
    """An empty file system in memory, and an empty cache folder."""
    monkeypatch.setenv("HIDDEN_CONTEXT_CACHE", str(tmp_path / "cache"))
    files = fsspec.filesystem("memory")
    files.store.clear()
    yield files
    files.store.clear()


def score(source, model, output, **options):
    config = ScoreConfig(
        input=str(source),
        models=[model],
        names=["m"],
        output=str(output),
        disable_tqdm=True,
        window=4,
        **options,
    )
    return scoring.score_file(config)


def cached(tmp_path):
    return sorted(each for each in (tmp_path / "cache").rglob("*") if each.is_file())


def test_a_remote_file_is_scored_as_a_local_one(memory, checkpoint, tmp_path):
    source = write_rows(tmp_path / "pairs.jsonl", preference_rows(9, 5))
    memory.pipe_file("/in/pairs.jsonl", Path(source).read_bytes())
    here = score(source, checkpoint, tmp_path / "out.jsonl")
    there = score("memory://in/pairs.jsonl", checkpoint, "memory://out/deep/scores.jsonl")
    assert memory.cat_file("/out/deep/scores.jsonl") == here.path.read_bytes()
    assert (there.place, there.counts) == ("memory://out/deep/scores.jsonl", here.counts)
    assert sorted(memory.find("/out")) == [
        "/out/deep/scores.jsonl",
        "/out/deep/scores.jsonl.config.yaml",
        "/out/deep/scores.jsonl.heads/m/reward_head.json",
    ]
    said = memory.cat_file("/out/deep/scores.jsonl.config.yaml").decode()
    assert "input: memory://in/pairs.jsonl\n" in said
    assert "output: memory://out/deep/scores.jsonl\n" in said
    assert cached(tmp_path) == []


def test_parquet_in_and_out(memory, checkpoint, tmp_path, capsys):
    source = write_rows(tmp_path / "pairs.jsonl", preference_rows(9, 5))
    here = score(source, checkpoint, tmp_path / "out.jsonl")
    local = score(source, checkpoint, tmp_path / "out.parquet").path
    assert [row for _, row in iter_rows(local)] == [row for _, row in iter_rows(here.path)]
    address = f"file://{tmp_path}/far/again.parquet"
    flags = f"--models {checkpoint} --names m --output {address} --window 4 --disable_tqdm"
    assert main([f"file://{local}", *flags.split()]) == 0
    assert capsys.readouterr().out == f"{address}: 9 of 9 rows written\n"
    found = [row for _, row in iter_rows(tmp_path / "far/again.parquet")]
    assert found == [row for _, row in iter_rows(local)]


def test_an_interrupted_run_goes_on(memory, checkpoint, tmp_path, monkeypatch):
    memory.pipe_file(
        "/in.jsonl", Path(write_rows(tmp_path / "p", preference_rows(9, 5))).read_bytes()
    )
    original, calls = partial_module.PartialScores.append, []

    def append(self, *args):
        original(self, *args)
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(partial_module.PartialScores, "append", append)
    with pytest.raises(KeyboardInterrupt):
        score("memory://in.jsonl", checkpoint, "memory://out.jsonl")
    assert not memory.exists("/out.jsonl")
    assert {each.name for each in cached(tmp_path)} == {"in.jsonl", "out.jsonl.m.partial"}
    result = score("memory://in.jsonl", checkpoint, "memory://out.jsonl")
    assert (len(calls), result.counts.written) == (3, 9)  # one window was left
    assert memory.cat_file("/out.jsonl").count(b"\n") == 9


def test_a_file_is_fetched_anew_where_it_changed(memory):
    memory.pipe_file("/in.jsonl", b"one\n")
    first = fetch("memory://in.jsonl")
    assert (first.name, first.read_bytes()) == ("in.jsonl", b"one\n")
    first.write_bytes(b"kept\n")
    assert fetch("memory://in.jsonl").read_bytes() == b"kept\n"
    memory.pipe_file("/in.jsonl", b"other\n")
    assert fetch("memory://in.jsonl").read_bytes() == b"other\n"


class TestWhatCannotBe:
    def test_a_file_that_is_not_there(self, memory):
        with pytest.raises(MissingFileError, match=r"memory://no\.jsonl does not exist"):
            fetch("memory://no.jsonl")

    @pytest.mark.parametrize("address", ["memory://folder/", "memory://"])
    def test_an_address_without_a_name(self, memory, address):
        config = ScoreConfig(input="i", models=["m"], output=address)
        with pytest.raises(ConfigError, match="names no file"), local_files(config):
            pass

    def test_a_file_system_that_nobody_knows(self, memory):
        config = ScoreConfig(input="i", models=["m"], output="nowhere://a.jsonl")
        with (
            pytest.raises(ConfigError, match=r"nowhere://a\.jsonl: .*nowhere"),
            local_files(config),
        ):
            pass

    def test_a_file_system_whose_library_is_missing(self, memory, monkeypatch):
        def missing(address):
            raise ImportError("Install s3fs to access S3")

        monkeypatch.setattr(fsspec.core, "url_to_fs", missing)
        with pytest.raises(MissingDependencyError, match="Install s3fs"):
            fetch("s3://bucket/a.jsonl")

    def test_the_input_as_output(self, memory):
        address = "memory://a.jsonl"
        config = ScoreConfig(input=address, models=["m"], output=address)
        with pytest.raises(ConfigError, match="is the input too"), local_files(config):
            pass

    def test_a_place_that_cannot_be_written(self, memory, tmp_path, monkeypatch):
        memory.pipe_file("/out.jsonl", b"earlier")
        result = tmp_path / "work" / "out.jsonl"
        result.parent.mkdir()
        result.write_bytes(b"new")

        def full(*args, **options):
            raise OSError("quota")

        monkeypatch.setattr("shutil.copyfileobj", full)
        with pytest.raises(StorageError, match=rf"quota The result is kept in {result}"):
            put(result, "memory://out.jsonl")
        assert memory.cat_file("/out.jsonl") == b"earlier"
        assert result.read_bytes() == b"new"
