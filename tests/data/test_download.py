import http.server
import threading
from pathlib import Path

import pytest

from hidden_context.data.storage import download as module
from hidden_context.data.storage.download import COMMIT, download, files_of
from hidden_context.data.storage.files import read_json
from hidden_context.errors import ConfigError, DataError, MissingFileError, StorageError

CONTENT = bytes(range(256)) * 5000
BLOB = "7fa3c9965d3726fbade707251a3ce65c81cb8436"  # of git hash-object
KNOWN, NEW = {"sub/a.bin": BLOB}, {"sub/a.bin": None}


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves a file with byte ranges; keeps a log, and can fail, break off or ignore ranges."""

    def do_GET(self):
        server, wanted = self.server, self.headers.get("Range")
        server.log.append((self.path, wanted))
        code = server.codes.pop() if server.codes else None
        if code or self.path != "/sub/a.bin":
            self.send_error(code or 404)
            return
        content = server.content
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and server.ranges else 0
        body = content[start:]
        if start and not body:
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(content)}")
        else:
            self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: server.break_after])
        server.break_after = None

    def log_message(self, *args):
        pass


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(module.time, "sleep", lambda seconds: None)
    httpd = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    httpd.log, httpd.codes, httpd.break_after, httpd.ranges = [], [], None, True
    httpd.content = CONTENT
    threading.Thread(target=httpd.serve_forever, daemon=True).start()
    yield httpd
    httpd.shutdown()
    httpd.server_close()


@pytest.fixture
def fetch(server, tmp_path):
    """Downloads files from the server into a folder."""
    url = f"http://127.0.0.1:{server.server_address[1]}"
    return lambda files, **options: download(
        tmp_path / "out", **{"base_url": url, "files": files, **options}
    )


@pytest.fixture
def mirror(tmp_path):
    folder = tmp_path / "mirror"
    (folder / "sub").mkdir(parents=True)
    (folder / "sub" / "a.bin").write_bytes(CONTENT)
    (folder / "b").write_bytes(b"b")
    return folder


@pytest.fixture
def partial(tmp_path):
    """The file that an interrupted run leaves."""
    path = tmp_path / "out" / "sub" / "a.bin.partial"
    path.parent.mkdir(parents=True)
    return path


def files_in(folder):
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def test_the_list_of_files():
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


def test_fetch_verify_and_skip(server, fetch, tmp_path):
    result = fetch(KNOWN)
    assert (result.fetched, result.present, result.missing) == (["sub/a.bin"], [], [])
    assert (tmp_path / "out" / "sub" / "a.bin").read_bytes() == CONTENT
    assert files_in(tmp_path / "out") == ["manifest.json", "sub/a.bin"]
    entry = read_json(result.manifest)["files"]["sub/a.bin"]
    assert entry == {"blob": BLOB, "size": len(CONTENT), "known_beforehand": True}
    again = fetch(KNOWN)
    assert (again.fetched, again.present, len(server.log)) == ([], ["sub/a.bin"], 1)


@pytest.mark.parametrize(
    ("have", "ranges", "break_after", "wanted"),
    [
        (b"", True, 70_000, [None, "bytes=70000-"]),  # the connection breaks
        (CONTENT[:1000], True, None, ["bytes=1000-"]),
        (CONTENT[:1000], False, None, ["bytes=1000-"]),
        (CONTENT, True, None, [f"bytes={len(CONTENT)}-"]),
        (CONTENT, False, None, [f"bytes={len(CONTENT)}-"]),
        (b"wrong" * 100, True, None, ["bytes=500-", None]),
        (CONTENT + b"more", True, None, [f"bytes={len(CONTENT) + 4}-", None]),
    ],
)
def test_a_transfer_goes_on_where_it_stopped(
    have, ranges, break_after, wanted, server, fetch, partial
):
    server.ranges, server.break_after = ranges, break_after
    partial.write_bytes(have)
    fetch(KNOWN)
    assert partial.with_suffix("").read_bytes() == CONTENT
    assert server.log == [("/sub/a.bin", one) for one in wanted]
    assert not partial.exists()


@pytest.mark.parametrize(
    ("content", "files", "message"),
    [
        (CONTENT[:-1] + b"x", KNOWN, f"git blob id .* instead of {BLOB}"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n", NEW, "Git LFS pointer"),
    ],
)
def test_wrong_content_leaves_nothing(content, files, message, server, fetch, tmp_path):
    server.content = content
    with pytest.raises(DataError, match=message):
        fetch(files)
    assert files_in(tmp_path / "out") == []


def test_file_without_a_known_id_is_recorded_and_held_to_it(server, fetch, tmp_path):
    fetched = tmp_path / "out" / "sub" / "a.bin"
    fetch(NEW)
    assert fetch(NEW).present == ["sub/a.bin"]
    fetched.write_bytes(b"changed")
    assert fetch(NEW).fetched == ["sub/a.bin"]
    fetched.unlink()
    server.content = b"other"
    with pytest.raises(DataError, match="does not match"):
        fetch(NEW)


def test_missing_at_the_source(fetch):
    lines = []
    result = fetch({"none": None, **NEW}, report=lines.append)
    assert (result.missing, result.fetched) == (["none"], ["sub/a.bin"])
    assert lines[0] == "none: not at the source, left out"
    with pytest.raises(MissingFileError, match=r"none of the files \(1 wanted, such as none"):
        fetch({"none": None})


def test_mirror(mirror, tmp_path):
    out = tmp_path / "out"
    files = {**KNOWN, "b": None, "c": None}
    result = download(out, mirror=mirror, files=files)
    assert (result.fetched, result.missing) == (["sub/a.bin", "b"], ["c"])
    assert (out / "sub" / "a.bin").read_bytes() == CONTENT
    assert files_in(out) == ["b", "manifest.json", "sub/a.bin"]
    (mirror / "sub" / "a.bin").write_bytes(b"corrupted")
    with pytest.raises(DataError, match="check the mirror"):
        download(tmp_path / "other", mirror=mirror, files=files)
    assert files_in(tmp_path / "other") == []
    with pytest.raises(MissingFileError, match=r"none of the files \(19 wanted"):
        download(out, mirror=tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("manifest", "error", "message"),
    [
        ('{"commit": "x", "files": {}}', ConfigError, "belongs to commit x"),
        ("[]", DataError, "not a manifest of downloaded files"),
    ],
)
def test_folder_of_something_else(manifest, error, message, tmp_path):
    (tmp_path / "manifest.json").write_text(manifest)
    with pytest.raises(error, match=message):
        download(tmp_path, mirror=tmp_path, files={"a": None})


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("mirrored", [True, False])
def test_full_disk_leaves_nothing(mirrored, mirror, fetch, partial):
    partial.symlink_to("/dev/full")
    with pytest.raises(StorageError, match=r"a\.bin.* could not be written: No space left"):
        fetch(NEW, mirror=mirror if mirrored else None)
    assert list(partial.parent.iterdir()) == []


def test_a_folder_stands_where_the_file_belongs(fetch, partial):
    partial.with_suffix("").mkdir()
    with pytest.raises(StorageError, match=r"a\.bin could not be written"):
        fetch(KNOWN)


def test_server_errors(server, fetch, tmp_path):
    server.codes = [403]
    with pytest.raises(DataError, match="the server answers 403"):
        fetch(NEW)
    with pytest.raises(DataError, match=r"failed 4 times .*--mirror"):
        fetch(NEW, base_url="http://127.0.0.1:9")  # where nobody answers
    server.codes = [503, 503]
    fetch(KNOWN)
    assert (tmp_path / "out" / "sub" / "a.bin").read_bytes() == CONTENT
