from __future__ import annotations

import functools
import hashlib
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hidden_context.data import download as module
from hidden_context.data.download import blob_id, download
from hidden_context.data.files import read_json
from hidden_context.data.paper_files import COMMIT, files_of
from hidden_context.errors import ConfigError, DataError, MissingFileError, StorageError

CONTENT = bytes(range(256)) * 5000


def blob(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


class Handler(http.server.SimpleHTTPRequestHandler):
    """Serves a folder with byte ranges; keeps a log and can break off or ignore ranges."""

    log: list[tuple[str, str | None]]
    break_after: int | None
    ranges: bool

    def do_GET(self) -> None:
        wanted = self.headers.get("Range")
        self.log.append((self.path, wanted))
        path = Path(self.translate_path(self.path))
        if not path.is_file():
            self.send_error(404)
            return
        content = path.read_bytes()
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and self.ranges else 0
        if start and start >= len(content):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(content)}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        body = content[start:]
        if type(self).break_after is not None:
            body, type(self).break_after = body[: type(self).break_after], None
        self.wfile.write(body)

    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setattr(module.time, "sleep", lambda seconds: None)
    folder = tmp_path / "served"
    (folder / "sub").mkdir(parents=True)
    (folder / "sub" / "a.bin").write_bytes(CONTENT)

    class OwnHandler(Handler):
        log: list[tuple[str, str | None]] = []  # noqa: RUF012
        break_after = None
        ranges = True

    handler = functools.partial(OwnHandler, directory=str(folder))
    httpd = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=httpd.serve_forever, daemon=True)
    thread.start()
    OwnHandler.folder = folder  # type: ignore[attr-defined]
    OwnHandler.url = f"http://127.0.0.1:{httpd.server_address[1]}"  # type: ignore[attr-defined]
    yield OwnHandler
    httpd.shutdown()
    httpd.server_close()


def files_in(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def test_blob_id_is_that_of_git(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"hello\n")
    assert blob_id(tmp_path / "a") == "ce013625030ba8dba906f756967f9e9ca394464a"


def test_the_list_of_files() -> None:
    assert len(COMMIT) == 40
    everything = files_of("all")
    assert len(everything) == len(files_of("data")) + len(files_of("evaluations")) == 19
    assert [name for name, known in everything.items() if known is None] == [
        "jailbroken_evaluations_categorical.jsonl"
    ]
    assert (
        "reward_models/relabeled_hh_rlhf/helpful/mean_and_variance_Llama-2-7b-hf"
        "__0_3e-06_cosine_2_0.0_peft_last_checkpoint/eval_results_both.jsonl"
    ) in everything


def test_fetch_verify_and_skip(server: Any, tmp_path: Path) -> None:
    out = tmp_path / "out"
    files = {"sub/a.bin": blob(CONTENT)}
    result = download(out, base_url=server.url, files=files)
    assert (result.fetched, result.present, result.missing) == (["sub/a.bin"], [], [])
    assert (out / "sub" / "a.bin").read_bytes() == CONTENT
    assert files_in(out) == ["manifest.json", "sub/a.bin"]
    entry = read_json(result.manifest)["files"]["sub/a.bin"]
    assert entry == {"blob": blob(CONTENT), "size": len(CONTENT), "known_beforehand": True}
    requests = len(server.log)
    again = download(out, base_url=server.url, files=files)
    assert (again.fetched, again.present, len(server.log)) == ([], ["sub/a.bin"], requests)


def test_broken_connection_is_taken_up_where_it_stopped(server: Any, tmp_path: Path) -> None:
    server.break_after = 70_000
    download(tmp_path / "out", base_url=server.url, files={"sub/a.bin": blob(CONTENT)})
    assert (tmp_path / "out" / "sub" / "a.bin").read_bytes() == CONTENT
    assert [wanted for _, wanted in server.log] == [None, "bytes=70000-"]


@pytest.mark.parametrize("ranges", [True, False])
@pytest.mark.parametrize("have", [1000, len(CONTENT)])
def test_partial_file_of_an_earlier_run(
    server: Any, tmp_path: Path, have: int, ranges: bool
) -> None:
    server.ranges = ranges
    partial = tmp_path / "out" / "sub" / "a.bin.partial"
    partial.parent.mkdir(parents=True)
    partial.write_bytes(CONTENT[:have])
    download(tmp_path / "out", base_url=server.url, files={"sub/a.bin": blob(CONTENT)})
    assert (tmp_path / "out" / "sub" / "a.bin").read_bytes() == CONTENT
    assert server.log == [("/sub/a.bin", f"bytes={have}-")]
    assert not partial.exists()


def test_wrong_partial_file_is_fetched_from_the_beginning(server: Any, tmp_path: Path) -> None:
    partial = tmp_path / "out" / "sub" / "a.bin.partial"
    partial.parent.mkdir(parents=True)
    partial.write_bytes(b"wrong" * 100)
    download(tmp_path / "out", base_url=server.url, files={"sub/a.bin": blob(CONTENT)})
    assert (tmp_path / "out" / "sub" / "a.bin").read_bytes() == CONTENT
    assert [wanted for _, wanted in server.log] == ["bytes=500-", None]


def test_corrupted_content_leaves_nothing(server: Any, tmp_path: Path) -> None:
    (server.folder / "sub" / "a.bin").write_bytes(CONTENT[:-1] + b"x")
    with pytest.raises(DataError, match=f"git blob id .* instead of {blob(CONTENT)}"):
        download(tmp_path / "out", base_url=server.url, files={"sub/a.bin": blob(CONTENT)})
    assert files_in(tmp_path / "out") == []


def test_large_file_pointer_is_no_data(server: Any, tmp_path: Path) -> None:
    (server.folder / "p").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:1\n")
    with pytest.raises(DataError, match="Git LFS pointer"):
        download(tmp_path / "out", base_url=server.url, files={"p": None})
    assert files_in(tmp_path / "out") == []


def test_file_without_a_known_id_is_recorded_and_held_to_it(server: Any, tmp_path: Path) -> None:
    out, files = tmp_path / "out", {"sub/a.bin": None}
    download(out, base_url=server.url, files=files)
    assert download(out, base_url=server.url, files=files).present == ["sub/a.bin"]
    (out / "sub" / "a.bin").write_bytes(b"changed")
    assert download(out, base_url=server.url, files=files).fetched == ["sub/a.bin"]
    (out / "sub" / "a.bin").unlink()
    (server.folder / "sub" / "a.bin").write_bytes(b"other")
    with pytest.raises(DataError, match="does not match"):
        download(out, base_url=server.url, files=files)


def test_missing_at_the_source(server: Any, tmp_path: Path) -> None:
    lines: list[str] = []
    result = download(
        tmp_path / "out",
        base_url=server.url,
        files={"none": None, "sub/a.bin": None},
        report=lines.append,
    )
    assert (result.missing, result.fetched) == (["none"], ["sub/a.bin"])
    assert lines[0] == "none: not at the source, left out"
    with pytest.raises(MissingFileError, match="None of the 1 files is there, such as none"):
        download(tmp_path / "out", base_url=server.url, files={"none": None})


def test_nobody_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.time, "sleep", lambda seconds: None)
    with pytest.raises(DataError, match=r"failed 4 times .*--mirror"):
        download(tmp_path / "out", base_url="http://127.0.0.1:9", files={"a": None})


def test_mirror(tmp_path: Path) -> None:
    mirror, out = tmp_path / "mirror", tmp_path / "out"
    (mirror / "sub").mkdir(parents=True)
    (mirror / "sub" / "a.bin").write_bytes(CONTENT)
    (mirror / "b").write_bytes(b"b")
    files = {"sub/a.bin": blob(CONTENT), "b": None, "c": None}
    result = download(out, mirror=mirror, files=files)
    assert (result.fetched, result.missing) == (["sub/a.bin", "b"], ["c"])
    assert (out / "sub" / "a.bin").read_bytes() == CONTENT
    assert files_in(out) == ["b", "manifest.json", "sub/a.bin"]
    (mirror / "sub" / "a.bin").write_bytes(b"corrupted")
    with pytest.raises(DataError, match="check the mirror"):
        download(tmp_path / "other", mirror=mirror, files=files)
    assert files_in(tmp_path / "other") == []
    with pytest.raises(MissingFileError, match="None of the 19 files"):
        download(out, mirror=tmp_path / "nowhere")


def test_folder_of_another_commit(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text('{"commit": "x", "files": {}}')
    with pytest.raises(ConfigError, match="belongs to commit x"):
        download(tmp_path, mirror=tmp_path, files={"a": None})


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("mirrored", [True, False])
def test_full_disk_leaves_nothing(server: Any, tmp_path: Path, mirrored: bool) -> None:
    partial = tmp_path / "out" / "sub" / "a.bin.partial"
    partial.parent.mkdir(parents=True)
    partial.symlink_to("/dev/full")
    mirror = server.folder if mirrored else None
    with pytest.raises(StorageError, match=r"a\.bin.* could not be written: No space left"):
        download(tmp_path / "out", mirror=mirror, base_url=server.url, files={"sub/a.bin": None})
    assert list(partial.parent.iterdir()) == []


def test_server_errors(server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    codes = [503, 503]

    def do_get(handler: Any) -> None:
        if codes:
            handler.send_error(codes.pop())
        else:
            Handler.do_GET(handler)

    monkeypatch.setattr(server, "do_GET", do_get)
    download(tmp_path / "out", base_url=server.url, files={"sub/a.bin": blob(CONTENT)})
    assert (tmp_path / "out" / "sub" / "a.bin").read_bytes() == CONTENT
    codes.append(403)
    with pytest.raises(DataError, match="the server answers 403"):
        download(tmp_path / "other", base_url=server.url, files={"sub/a.bin": None})
