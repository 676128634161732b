"""Fetching the paper's data: verified by git blob id, resumable, or from a local mirror."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import os
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from hidden_context.data.storage.files import partial_path, read_json, storage_error, write_json
from hidden_context.data.storage.locks import exclusive_folder
from hidden_context.errors import ConfigError, DataError, MissingFileError, StorageError

REPOSITORY = "cassidylaidlaw/hidden-context"
COMMIT = "13c98bbaa75d57773c69bf005b214f75821a49e9"
BASE_URL = f"https://raw.githubusercontent.com/{REPOSITORY}/{COMMIT}/data"

Group = Literal["data", "evaluations", "all"]


def _evaluation(subset: str, model: str) -> str:
    """Return the path of one Llama-2-7B model's results on all test pairs of the paper."""
    epochs = 1 if subset == "both" else 2
    options = {"base": "", "categorical": "_10_0.1", "mean_and_variance": "_0.0"}[model]
    run = f"{model}_Llama-2-7b-hf__0_3e-06_cosine_{epochs}{options}_peft_last_checkpoint"
    return f"reward_models/relabeled_hh_rlhf/{subset}/{run}/eval_results_both.jsonl"


# Git blob ids by path in the repository's data folder; None where none is known beforehand.
DATA_FILES: dict[str, str | None] = {
    "relabeled_hh_rlhf/both/train.jsonl.gz": "8d49ad9c2ee03c23ba2672a32404f7ebeb24da4f",
    "relabeled_hh_rlhf/both/test.jsonl.gz": "33636d1fe03e1eddc6cb4c7cffcc4cd13156f94b",
    "relabeled_hh_rlhf/harmless/train.jsonl.gz": "eac96324bc524001245b7665644c3bd62d0b3fe4",
    "relabeled_hh_rlhf/harmless/test.jsonl.gz": "f3e8d2da1f33f35fafa3b3386ff820f7c702aa80",
    "relabeled_hh_rlhf/helpful/train.jsonl.gz": "a84e1037b48227d92205827e1039a21528cc7bc8",
    "relabeled_hh_rlhf/helpful/test.jsonl.gz": "dad658ef7134ccf69bef6b88c2b7861398d6abbd",
    "jailbroken_responses.jsonl": "e5a2f7712d4a2d2f73e29de8fc38bec9fa916f1c",
}

EVALUATION_FILES: dict[str, str | None] = {
    "jailbroken_evaluations_base.jsonl": "7bbf1d519513a8d8639cbead793b3b84b7d83912",
    "jailbroken_evaluations_categorical.jsonl": None,
    "jailbroken_evaluations_mean_and_variance.jsonl": "d4caaf0e7f700215b0d37b11b56a9b703b545261",
    _evaluation("both", "base"): "6ae4262a7249c187acff1a4e72102bce593bb2d2",
    _evaluation("both", "categorical"): "6713c73ea41febc37012aeb466dd4b77c07b8348",
    _evaluation("both", "mean_and_variance"): "115810c29ab2c4098497c068cfc48dc33abd6ae4",
    _evaluation("harmless", "base"): "41beb62a559514b0657f314fbb98786034054d61",
    _evaluation("harmless", "categorical"): "666658e03b12670770c7293b781607edf42feb06",
    _evaluation("harmless", "mean_and_variance"): "e076973f0cb42d9dd2f639f0d9bddfa096f19117",
    _evaluation("helpful", "base"): "2be733cb7a3212e5ccfd91adf143e1de521d59a5",
    _evaluation("helpful", "categorical"): "a5af8b766c3385484e8ff80c4860b27c6ec5d132",
    _evaluation("helpful", "mean_and_variance"): "9f70be2b129978b13b0e2d516b7a366f26320f2f",
}


def files_of(group: Group) -> dict[str, str | None]:
    """Return the files of a group with their blob ids: ``data``, ``evaluations`` or ``all``."""
    if group == "all":
        return {**DATA_FILES, **EVALUATION_FILES}
    return dict(DATA_FILES if group == "data" else EVALUATION_FILES)


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

    Verified files are not downloaded again, and an interrupted transfer resumes where it stopped. A
    file has to match its blob id if the id is known. Other blob ids are recorded in
    ``manifest.json`` and checked from then on.

    Args:
        output: The folder to fill, in the layout of the repository's ``data`` folder.
        only: ``data``, ``evaluations`` or ``all``.
        mirror: A local folder of the same layout to copy from instead of the network.
        base_url: Where the layout begins on the network.
        files: Files to download instead of the paper's, each with its blob id or None.
        report: Called with a line about each file.

    Returns:
        The files that were fetched, were present and are missing.

    Raises:
        MissingFileError: If the source has none of the files.
        DataError: If a file does not match its blob id (it is then removed) or the network fails.
        StorageError: If a file cannot be written.
        ConfigError: If the manifest is of another commit's files.
    """
    output, wanted = Path(output), files_of(only) if files is None else files
    with exclusive_folder(output):
        result = DownloadResult(manifest=output / MANIFEST)
        manifest = _read_manifest(result.manifest)
        for name, known in wanted.items():
            target = output / name
            expected = known or manifest["files"].get(name, {}).get("blob")
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
                report(
                    f"{name}: {target.stat().st_size} bytes, {'verified' if expected else 'new'}"
                )
            manifest["files"][name] = {
                "blob": expected or blob_id(target),
                "size": target.stat().st_size,
                "known_beforehand": known is not None,
            }
            write_json(result.manifest, manifest)
        if len(result.missing) == len(wanted):
            raise MissingFileError(
                mirror if mirror is not None else base_url,
                f"The source has none of the files ({len(wanted)} wanted, such as "
                f"{next(iter(wanted), '')})",
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
            "the source has a Git LFS pointer instead of the data"
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
    with _writing(partial):
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, partial)
    _finish(partial, target, expected, str(source))


def _fetch(url: str, target: Path, expected: str | None) -> None:
    """Download one file; resume a partial file, and retry if the connection breaks."""
    partial = partial_path(target)
    with _writing(partial):
        target.parent.mkdir(parents=True, exist_ok=True)
    resumed = partial.is_file() and partial.stat().st_size > 0
    # The part from an earlier run may be wrong: then once more from the beginning.
    for may_be_wrong in (resumed, False):
        _transfer_with_retries(url, partial)
        try:
            _finish(partial, target, expected, url)
            break
        except DataError:
            if not may_be_wrong:
                raise


def _transfer_with_retries(url: str, partial: Path) -> None:
    for attempt in range(_ATTEMPTS):
        try:
            if _transfer(url, partial):
                return
            reason = "the connection closed early"
        except urllib.error.HTTPError as error:
            reason = f"the server answers {error.code} {error.reason}"
            if error.code == 404:
                raise MissingFileError(url) from error
            if error.code < 500 and error.code != 429:
                raise DataError(reason, file=url) from error
        except StorageError:  # an OSError that is not a network error
            raise
        except (http.client.HTTPException, OSError) as error:
            reason = str(getattr(error, "reason", None) or error)
        if attempt + 1 < _ATTEMPTS:
            time.sleep(0.5 * 2**attempt)
    raise DataError(
        f"the download failed {_ATTEMPTS} times ({reason})",
        file=url,
        remedy="Run the command again to resume the download, or give --mirror a local copy",
    )


def _transfer(url: str, partial: Path) -> bool:
    """Append the rest to a partial file; return whether it is complete."""
    have = partial.stat().st_size if partial.is_file() else 0
    request = urllib.request.Request(url, headers={"User-Agent": "hidden-context"})
    if have:
        request.add_header("Range", f"bytes={have}-")
    try:
        response = urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS)
    except urllib.error.HTTPError as error:
        if error.code != 416:
            raise
        # Nothing is left to send: the file is complete if the sizes agree, else start again.
        total = error.headers.get("Content-Range", "").rpartition("/")[2]
        if total == str(have):
            return True
        partial.unlink()
        return False
    with response:
        length = response.headers.get("Content-Length")
        with _writing(partial):
            mode = "ab" if response.status == 206 else "wb"
            file = open(partial, mode)  # noqa: SIM115 - closed by the with below
        with file:
            start = file.tell()
            while chunk := response.read(_CHUNK):
                with _writing(partial):
                    file.write(chunk)
            return length is None or file.tell() - start == int(length)


@contextlib.contextmanager
def _writing(partial: Path) -> Iterator[None]:
    """Turn a failed write into a storage error and remove the partial file."""
    try:
        yield
    except OSError as error:
        with contextlib.suppress(OSError):
            partial.unlink()
        raise storage_error(partial, error) from error
