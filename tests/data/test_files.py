from __future__ import annotations

import errno
import gzip
import json
import math
import os
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from uuid import UUID

import numpy as np
import pytest

from hidden_context.data import files
from hidden_context.data.files import (
    atomic_write,
    iter_jsonl,
    read_json,
    write_json,
    write_jsonl,
    write_yaml_config,
)
from hidden_context.errors import DataError, MissingFileError, StorageError


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_content_appears_under_its_name_only_when_whole(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "a.txt"
    with atomic_write(path) as file:
        file.write("é\n")
        assert names(path.parent) == ["a.txt.partial"]
    assert names(path.parent) == ["a.txt"]
    assert path.read_bytes() == "é\n".encode()


@pytest.mark.parametrize("name", ["a.txt", "a.txt.gz"])
def test_failure_inside_leaves_what_was_there(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    with atomic_write(path) as file:
        file.write("old")
    before = path.read_bytes()
    with pytest.raises(ZeroDivisionError), atomic_write(path) as file:
        file.write(f"new {1 / 0}")
    assert path.read_bytes() == before
    assert names(tmp_path) == [name]


@pytest.mark.parametrize(("mode", "content"), [("w", "text\n"), ("wb", b"\x00\xff")])
def test_gzip_by_suffix_in_both_modes(tmp_path: Path, mode: str, content: str | bytes) -> None:
    path = tmp_path / "a.gz"
    with atomic_write(path, mode) as file:
        file.write(content)
    expected = content.encode() if isinstance(content, str) else content
    assert gzip.decompress(path.read_bytes()) == expected


def test_gzip_bytes_depend_on_the_content_alone(tmp_path: Path) -> None:
    rows = [{"a": 1}, {"b": "é"}]
    assert write_jsonl(tmp_path / "x.jsonl.gz", rows) == 2
    write_jsonl(tmp_path / "y.jsonl.gz", rows)
    assert (tmp_path / "x.jsonl.gz").read_bytes() == (tmp_path / "y.jsonl.gz").read_bytes()


def test_full_disk_while_writing(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    message = r"a\.txt could not be written.*Free some space"
    with pytest.raises(StorageError, match=message), atomic_write(path) as file:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert (path.read_text(), names(tmp_path), file.closed) == ("old", ["a.txt"], True)


def test_full_disk_at_the_final_flush(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(StorageError, match="No space left"), atomic_write(tmp_path / "a") as file:
        file.write("x")
    assert names(tmp_path) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz"])
def test_a_device_without_room(tmp_path: Path, name: str) -> None:
    (tmp_path / f"{name}.partial").symlink_to("/dev/full")
    with pytest.raises(StorageError, match="No space left"):
        write_jsonl(tmp_path / name, ({"text": os.urandom(999).hex()} for _ in range(999)))
    assert names(tmp_path) == []


def test_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError), atomic_write(tmp_path / "file" / "a.txt"):
        pass


def test_errors_about_other_files_pass_through(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError), atomic_write(tmp_path / "a"):
        list(iter_jsonl(tmp_path / "missing"))
    with pytest.raises(BrokenPipeError), atomic_write(tmp_path / "a"):
        raise BrokenPipeError
    assert names(tmp_path) == []


def test_write_json_converts_what_json_lacks(tmp_path: Path) -> None:
    @dataclass
    class Inner:
        x: float

    write_json(
        tmp_path / "a.json",
        {"nan": math.nan, "array": np.array([1.0, np.inf]), "path": tmp_path, "d": Inner(0.1)},
    )
    expected = {"nan": None, "array": [1.0, None], "path": str(tmp_path), "d": {"x": 0.1}}
    assert read_json(tmp_path / "a.json") == expected
    with pytest.raises(TypeError, match="object"):
        write_json(tmp_path / "b.json", object())
    assert names(tmp_path) == ["a.json"]


def test_yaml_config_reads_back(tmp_path: Path) -> None:
    from hidden_context.cli.arguments import parse
    from hidden_context.config import option

    @dataclass(frozen=True)
    class Config:
        rate: float = option(1.0, "")
        name: str | None = option(None, "")
        sizes: list[str] = option([], "")

    globals()["Config"] = Config  # where annotations are looked up
    config = Config(rate=3e-6, name=None, sizes=["a", "b"])
    write_yaml_config(tmp_path / "c.yaml", config)
    argv = ["--config", str(tmp_path / "c.yaml")]
    assert parse(Config, argv, prog="p", description="d") == config


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz"])
def test_iter_jsonl_numbers_lines_and_skips_blank_ones(tmp_path: Path, name: str) -> None:
    with atomic_write(tmp_path / name) as file:
        file.write('{"a": 1}\n\n{"b": "\\u2028"}\n')
    assert list(iter_jsonl(tmp_path / name)) == [(1, {"a": 1}), (3, {"b": "\u2028"})]


def test_gzip_is_known_by_its_content(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(gzip.compress(b'{"a": 1}\n'))
    assert list(iter_jsonl(tmp_path / "a.jsonl")) == [(1, {"a": 1})]


@pytest.mark.parametrize(
    ("line", "text"),
    [
        (b'{"a": ', "not valid JSON"),
        (b"[1, 2]", "a JSON object is needed on each line, not a list"),
        (b'{"a": "\xff"}', "not valid JSON"),
        (b'{"a": 1, "b": 2, "a": 1}', "not valid JSON: the key 'a' stands twice in one object"),
        (b'{"a": [{"b": {"c": 1, "c": null}}]}', "the key 'c' stands twice"),
        (b"version https://git-lfs.github.com/spec/v1", "Git LFS pointer"),
    ],
)
def test_broken_line_is_named(tmp_path: Path, line: bytes, text: str) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"a": 1}\n{"a": 2}\n' + line + b"\n")
    rows = iter_jsonl(path)
    assert [next(rows)[0], next(rows)[0]] == [1, 2]
    with pytest.raises(DataError, match=text) as caught:
        next(rows)
    assert (caught.value.file, caught.value.line) == (path, 3)


def test_damaged_gzip(tmp_path: Path) -> None:
    whole = gzip.compress(
        b"".join(json.dumps({"a": i * 7919}).encode() + b"\n" for i in range(999))
    )
    (tmp_path / "cut.jsonl.gz").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "bad.jsonl.gz").write_bytes(whole[:40] + b"\xff" * 40 + whole[80:])
    for name in ("cut.jsonl.gz", "bad.jsonl.gz"):
        with pytest.raises(DataError, match=r"gzip file is damaged or cut off"):
            list(iter_jsonl(tmp_path / name))


def test_missing_empty_and_folder(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match="does not exist"):
        list(iter_jsonl(tmp_path / "a.jsonl"))
    with pytest.raises(DataError, match="this is a folder"):
        list(iter_jsonl(tmp_path))
    (tmp_path / "a.jsonl").write_text("\n\n")
    assert list(iter_jsonl(tmp_path / "a.jsonl")) == []
    with pytest.raises(DataError, match="holds no rows"):
        list(iter_jsonl(tmp_path / "a.jsonl", allow_empty=False))


def test_read_json_names_the_line(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{\n"a": 1,\n}')
    with pytest.raises(DataError) as caught:
        read_json(tmp_path / "a.json")
    assert caught.value.line in (2, 3)
    for text, problem in (('[{"a": 1, "a": 1}]', "key 'a' stands twice"), ("[" * 9999, "deeply")):
        (tmp_path / "a.json").write_text(text)
        with pytest.raises(DataError, match=problem):
            read_json(tmp_path / "a.json")


def test_half_characters_survive_as_escapes(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "a.jsonl", [{"a": "\ud83d"}, {"a": "é"}])
    assert (tmp_path / "a.jsonl").read_text(encoding="utf-8").splitlines()[0] == '{"a": "\\ud83d"}'
    assert [row["a"] for _, row in iter_jsonl(tmp_path / "a.jsonl")] == ["\ud83d", "é"]


def test_rows_never_hold_a_bare_nan(tmp_path: Path) -> None:
    row = {"a": math.nan, "b": [1.5, -math.inf], "c": {"d": np.float64("nan")}, "e": "é"}
    write_jsonl(tmp_path / "a.jsonl", [row, {**row, "e": "\ud83d"}, {"a": np.array([np.nan])}])
    lines = (tmp_path / "a.jsonl").read_text(encoding="utf-8").splitlines()
    assert lines[0] == '{"a": null, "b": [1.5, null], "c": {"d": null}, "e": "é"}'
    assert lines[1] == '{"a": null, "b": [1.5, null], "c": {"d": null}, "e": "\\ud83d"}'
    assert lines[2] == '{"a": [null]}'


def test_rows_hold_what_json_lacks_in_a_form_that_it_has(tmp_path: Path) -> None:
    row = {
        "bytes": [b"\x00\xff", bytearray(b"a")],
        "decimal": Decimal("0.10"),
        "duration": {"d": timedelta(hours=-1, microseconds=5)},
        "times": (datetime(2024, 1, 2, 3, 4, 5), date(2024, 1, 2), time(3, 4)),
        "uuid": UUID(int=1),
        "set": {2, 1},
    }
    expected = {
        "bytes": ["AP8=", "YQ=="],
        "decimal": "0.10",
        "duration": {"d": -3599.999995},
        "times": ["2024-01-02T03:04:05", "2024-01-02", "03:04:00"],
        "uuid": "00000000-0000-0000-0000-000000000001",
        "set": [1, 2],
    }
    keys = {b"k": 1, date(2024, 1, 2): 2, (1, 2): 3}
    write_jsonl(tmp_path / "a.jsonl", [row, {"nan": math.nan, **row}, {"keys": keys}])
    assert [row for _, row in iter_jsonl(tmp_path / "a.jsonl")] == [
        expected,
        {"nan": None, **expected},
        {"keys": {"aw==": 1, "2024-01-02": 2, "[1, 2]": 3}},
    ]
    with pytest.raises(TypeError, match="a value of type object cannot be written as JSON"):
        write_jsonl(tmp_path / "b.jsonl", [{"a": object()}])
