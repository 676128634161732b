"""Fetching the paper's data: verified by git blob id, resumable, or from a mirror on disk."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import os
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hidden_context.data.files import partial_path, read_json, storage_error, write_json
from hidden_context.data.locks import exclusive_folder
from hidden_context.data.paper_files import BASE_URL, COMMIT, REPOSITORY, Group, files_of
from hidden_context.errors import ConfigError, DataError, MissingFileError

MANIFEST = "manifest.json"

_CHUNK = 1 << 20
_ATTEMPTS = 4
_TIMEOUT_SECONDS = 60.0


@dataclass
class DownloadResult:
    """What became of each file, by its path relative to the output folder.

    Attributes:
        fetched: Files fetched now.
        present: Files that were there already and passed verification.
        missing: Files that the source does not have.
        manifest: Where blob ids and sizes are recorded.
    """

    manifest: Path
    fetched: list[str] = field(default_factory=list)
    present: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)


def blob_id(path: str | Path) -> str:
    """Return git's blob id of a file: SHA-1 of ``"blob <size>"``, NUL and the content."""
    path = Path(path)
    digest = hashlib.sha1(f"blob {path.stat().st_size}\0".encode(), usedforsecurity=False)
    with open(path, "rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def download(
    output: str | Path,
    *,
    only: Group = "all",
    mirror: str | Path | None = None,
    base_url: str = BASE_URL,
    files: Mapping[str, str | None] | None = None,
    report: Callable[[str], None] = lambda message: None,
) -> DownloadResult:
    """Fetch the paper's data at its pinned commit.

    Files that are there and verified are not fetched again; a transfer that broke off is taken up
    where it stopped. A file whose blob id is known has to match it; the others' blob ids are
    recorded in ``manifest.json`` and hold from then on.

    Args:
        output: The folder to fill, in the layout of the repository's ``data`` folder.
        only: ``data``, ``evaluations`` or ``all``.
        mirror: A local folder of the same layout to copy from instead of the network.
        base_url: Where the layout begins on the network.
        files: Other files than the paper's: path to blob id or None.
        report: Called with a line on each file.

    Returns:
        What was fetched, was there, and is missing at the source.

    Raises:
        MissingFileError: If the source has none of the files.
        DataError: If a file does not match its blob id (it is then removed) or the network fails.
        StorageError: If a file cannot be written.
        ConfigError: If the manifest is of another commit's files.
    """
    output = Path(output)
    wanted = dict(files_of(only) if files is None else files)
    with exclusive_folder(output):
        return _download(output, wanted, mirror, base_url, report)


def _download(
    output: Path,
    wanted: Mapping[str, str | None],
    mirror: str | Path | None,
    base_url: str,
    report: Callable[[str], None],
) -> DownloadResult:
    result = DownloadResult(manifest=output / MANIFEST)
    manifest = _read_manifest(result.manifest)
    for name, known in wanted.items():
        target = output / name
        recorded = manifest["files"].get(name, {}).get("blob")
        expected = known or recorded
        if expected and target.is_file() and blob_id(target) == expected:
            result.present.append(name)
            report(f"{name}: already there, verified")
        else:
            try:
                if mirror is not None:
                    _copy(Path(mirror) / name, target, expected)
                else:
                    _fetch(f"{base_url.rstrip('/')}/{name}", target, expected)
            except MissingFileError:
                result.missing.append(name)
                report(f"{name}: not at the source, left out")
                continue
            result.fetched.append(name)
            report(f"{name}: {target.stat().st_size} bytes, {'verified' if expected else 'new'}")
        manifest["files"][name] = {
            "blob": expected or blob_id(target),
            "size": target.stat().st_size,
            "known_beforehand": known is not None,
        }
        write_json(result.manifest, manifest)
    if len(result.missing) == len(wanted):
        raise MissingFileError(
            mirror if mirror is not None else base_url,
            f"None of the {len(wanted)} files is there, such as {next(iter(wanted), '')}",
        )
    return result


def _read_manifest(path: Path) -> dict[str, Any]:
    if path.is_file():
        manifest = read_json(path)
        if not isinstance(manifest, dict) or not isinstance(manifest.get("files"), dict):
            raise DataError("this is not a manifest of downloaded files", file=path)
        if manifest.get("commit") != COMMIT:
            raise ConfigError(
                f"{path} belongs to commit {manifest.get('commit')}, not {COMMIT}. Choose another "
                "--output, or remove the folder."
            )
        return manifest
    return {"repository": REPOSITORY, "commit": COMMIT, "files": {}}


def _finish(partial: Path, target: Path, expected: str | None, source: str) -> None:
    """Verify a complete partial file and give it its name; remove it if it is wrong."""
    with open(partial, "rb") as file:
        pointer = file.read(23) == b"version https://git-lfs"
    actual = blob_id(partial)
    if pointer or (expected and actual != expected):
        partial.unlink()
        raise DataError(
            "a Git LFS pointer came instead of the data"
            if pointer
            else f"the content does not match: git blob id {actual} instead of {expected}",
            file=source,
            remedy="Nothing was kept; try again, or check the mirror",
        )
    try:
        os.replace(partial, target)
    except OSError as error:
        raise storage_error(target, error) from error


def _copy(source: Path, target: Path, expected: str | None) -> None:
    """Copy one file of a mirror."""
    if not source.is_file():
        raise MissingFileError(source)
    partial = partial_path(target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, partial)
    except OSError as error:
        with contextlib.suppress(OSError):
            partial.unlink()
        raise storage_error(target, error) from error
    _finish(partial, target, expected, str(source))


def _fetch(url: str, target: Path, expected: str | None) -> None:
    """Fetch one file, taking up a partial one and trying again where the connection breaks."""
    partial = partial_path(target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise storage_error(target, error) from error
    resumed = partial.is_file() and partial.stat().st_size > 0
    _transfer_with_retries(url, partial)
    try:
        _finish(partial, target, expected, url)
    except DataError:
        if not resumed:
            raise
        # What was there from before may be the wrong part: once more from the beginning.
        _transfer_with_retries(url, partial)
        _finish(partial, target, expected, url)


def _transfer_with_retries(url: str, partial: Path) -> None:
    for attempt in range(_ATTEMPTS):
        try:
            if _transfer(url, partial):
                return
            reason = "the connection closed early"
        except urllib.error.HTTPError as error:
            if error.code == 404:
                raise MissingFileError(url) from error
            if error.code < 500 and error.code != 429:
                raise DataError(
                    f"the server answers {error.code} {error.reason}", file=url
                ) from error
            reason = f"the server answers {error.code} {error.reason}"
        except (urllib.error.URLError, http.client.HTTPException, OSError) as error:
            if isinstance(error, _WriteError):
                with contextlib.suppress(OSError):
                    partial.unlink()
                raise storage_error(partial, error) from error
            reason = str(getattr(error, "reason", None) or error)
        if attempt + 1 < _ATTEMPTS:
            time.sleep(0.5 * 2**attempt)
    raise DataError(
        f"the download failed {_ATTEMPTS} times ({reason})",
        file=url,
        remedy="Run the command again to go on where it stopped, or give --mirror a local copy",
    )


class _WriteError(OSError):
    """Writing failed, not the network; both are OSErrors."""


def _transfer(url: str, partial: Path) -> bool:
    """Append what is missing to a partial file; return whether it is complete."""
    have = partial.stat().st_size if partial.is_file() else 0
    request = urllib.request.Request(url, headers={"User-Agent": "hidden-context"})
    if have:
        request.add_header("Range", f"bytes={have}-")
    try:
        response = urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS)
    except urllib.error.HTTPError as error:
        if error.code != 416:
            raise
        # Nothing beyond what we have: complete if the sizes agree, else from the beginning.
        total = error.headers.get("Content-Range", "").rpartition("/")[2]
        if total == str(have):
            return True
        partial.unlink()
        return False
    with response:
        resuming = response.status == 206
        length = response.headers.get("Content-Length")
        received = _write_stream(response, partial, append=resuming)
    return length is None or received == int(length)


def _write_stream(response: Any, partial: Path, append: bool) -> int:
    received = 0
    try:
        file = open(partial, "ab" if append else "wb")  # noqa: SIM115 - closed by the with below
    except OSError as error:
        raise _WriteError(error.errno, error.strerror) from error
    with file:
        while chunk := response.read(_CHUNK):
            try:
                file.write(chunk)
            except OSError as error:
                raise _WriteError(error.errno, error.strerror) from error
            received += len(chunk)
    return received
