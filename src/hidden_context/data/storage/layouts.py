"""Where preference data lies: the layouts of local folders, saved data sets, and the hub."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hidden_context.data.storage.rows import BATCH_ROWS, SUFFIXES, data_suffix, iter_table_rows
from hidden_context.errors import ConfigError, DataError, HiddenContextError, MissingFileError

HH_FOLDERS = {"harmless": "harmless-base", "helpful": "helpful-base"}


_SHARD = re.compile(r"(?<=.)-\d{5}-of-\d{5}$")


def split_remedy(split: str) -> str:
    """Return the remedy for a missing split."""
    other = "--train_split test or " if split == "train" else ""
    return f"Give {other}--eval_fraction 0.1 to split the existing rows by prompt"


@dataclass(frozen=True)
class Part:
    """One file of a split, or a folder of files.

    Attributes:
        path: The file or folder.
        added_subset: The ``data_subset`` that the folder gives to rows without one.
        filtered: Whether rows of other ``data_subset`` values are left out.
    """

    path: Path
    added_subset: str | None = None
    filtered: bool = False


def is_saved_dataset(folder: Path) -> bool:
    """Tell whether a folder was written by ``Dataset.save_to_disk``: one table, no splits."""
    return (folder / "state.json").is_file() and (folder / "dataset_info.json").is_file()


def is_saved_dict(folder: Path) -> bool:
    """Tell whether a folder was written by ``DatasetDict.save_to_disk``."""
    return (folder / "dataset_dict.json").is_file()


def is_single(path: Path) -> bool:
    """Tell whether a path is one table without splits."""
    return path.is_file() or is_saved_dataset(path)


def _splits_in(folder: Path) -> dict[str, list[Path]]:
    """Map each split of a folder to its files, in order."""
    if is_saved_dict(folder):
        tables = sorted(path for path in folder.iterdir() if is_saved_dataset(path))
        return {path.name: [path] for path in tables}
    found: dict[str, list[Path]] = {}
    for place in (folder, folder / "data"):  # the hub keeps parquet shards in data/
        if place.is_dir() and not found:
            for path in sorted(place.iterdir()):
                suffix = data_suffix(path) if path.is_file() else None
                if suffix is not None:
                    found.setdefault(_SHARD.sub("", path.name[: -len(suffix)]), []).append(path)
    return found


def _folders(root: Path, data_subset: str) -> list[Part]:
    """Return the folders with the files of a split: HH-RLHF's (harmless first) or a single one.

    Raises:
        MissingFileError: If a copy of HH-RLHF lacks one of them.
    """
    copies = [Part(root / folder, name) for name, folder in _hh_folders(data_subset).items()]
    if copies and any((root / folder).is_dir() for folder in HH_FOLDERS.values()):
        for copy in copies:
            if not copy.path.is_dir():
                raise MissingFileError(copy.path, "Add it, or choose the other --data_subset")
        return copies
    if (root / data_subset).is_dir() and _splits_in(root / data_subset):
        return [Part(root / data_subset)]
    return [Part(root, filtered=data_subset not in ("both", root.resolve().name))]


def local_splits(root: Path, data_subset: str) -> list[str]:
    """List the splits of a local folder; a single table has none.

    Args:
        root: The folder or file.
        data_subset: ``both``, ``helpful``, ``harmless`` or another subset.

    Returns:
        The names of the splits, sorted.
    """
    if is_single(root):
        return []
    folders = _folders(root, data_subset)
    return sorted(set.intersection(*(set(_splits_in(folder.path)) for folder in folders)))


def find_parts(root: Path, data_subset: str, split: str) -> list[Part]:
    """Find the files of a split.

    Args:
        root: A file; a folder with ``{data_subset}/{split}.jsonl.gz`` (or another format);
            a folder with the split files themselves; a copy of HH-RLHF with ``harmless-base``
            and ``helpful-base``; or a folder written by ``save_to_disk``.
        data_subset: ``both``, ``helpful``, ``harmless`` or another subset.
        split: The split; ignored if ``root`` is a single table.

    Returns:
        The parts, in reading order.

    Raises:
        MissingFileError: If the split is missing, with the expected file, the existing splits and
            the remedy.
        DataError: If the folder holds a split in two formats.
    """
    if is_single(root):
        return [Part(root, filtered=data_subset != "both")]
    folders = _folders(root, data_subset)
    if folders[0].path == root and not _splits_in(root):
        subsets = sorted(path.name for path in root.iterdir() if path.is_dir() and _splits_in(path))
        remedy = (
            f"A folder needs {{data_subset}}/{{split}} or {{split}} files of the kinds "
            f"{', '.join(SUFFIXES)}, or harmless-base and helpful-base folders"
        )
        if subsets:
            remedy = f"Give --data_subset one of the folder's data subsets: {', '.join(subsets)}"
        raise MissingFileError(root / data_subset / f"{split}.jsonl.gz", remedy)
    return [
        dataclasses.replace(folder, path=path)
        for folder in folders
        for path in _files_of_split(folder.path, split)
    ]


def _files_of_split(folder: Path, split: str) -> list[Path]:
    splits = _splits_in(folder)
    if split not in splits:
        remedy = f"Splits in {folder}: {', '.join(sorted(splits)) or 'none'}"
        if splits:
            remedy += f". {split_remedy(split)}"
        missing = split if is_saved_dict(folder) else f"{split}.jsonl.gz"
        raise MissingFileError(folder / missing, remedy)
    paths = splits[split]
    formats = {data_suffix(path) for path in paths}
    sharded = all(_SHARD.search(path.name.removesuffix(data_suffix(path) or "")) for path in paths)
    if len(formats) > 1 or (len(paths) > 1 and not sharded):
        names = ", ".join(path.name for path in paths)
        raise DataError(
            f"the folder holds the split {split!r} more than once: {names}",
            file=folder,
            remedy="Keep one of them, or give the file itself as data_path",
        )
    return paths


HH_RLHF = "Anthropic/hh-rlhf"

_HUB_ID = re.compile(r"^[\w.-]+(/[\w.-]+)?$")


def is_hub_id(data_path: str) -> bool:
    """Tell whether a path that does not exist locally may be a data set on the hub.

    The path is a missing local path, not a hub id, if it names an existing parent folder, if it
    begins with a dot, if it has the suffix of a data file, or if it is in ``data/``, the download
    folder of this package.
    """
    if not _HUB_ID.match(data_path) or data_path.startswith(".") or data_suffix(data_path):
        return False
    parent = Path(data_path).parent
    return parent == Path(".") or not (parent.is_dir() or parent == Path("data"))


def is_hh_rlhf(data_path: str) -> bool:
    """Tell whether a hub id is HH-RLHF's, which has a folder for each data subset."""
    return data_path.lower() == HH_RLHF.lower()


def _hh_folders(data_subset: str) -> dict[str, str]:
    """Return HH-RLHF's folders for a data subset, harmless first; empty for an unknown subset."""
    return {name: place for name, place in HH_FOLDERS.items() if data_subset in ("both", name)}


def _hub_error(data_path: str, error: Exception) -> HiddenContextError:
    """Make the error for a failure of the hub, with the remedy."""
    reason = " ".join(str(error).split())[:300] or type(error).__name__
    checks = (
        "the name and the connection (HF_HUB_OFFLINE=1 uses only what is in the cache; private "
        "data needs 'hf auth login')"
    )
    if isinstance(error, FileNotFoundError):
        return MissingFileError(
            data_path,
            f"It is neither a local path nor a data set on the hub: {reason}. Check {checks}",
        )
    return DataError(
        f"the data set could not be loaded from the hub ({type(error).__name__}: {reason})",
        file=data_path,
        remedy=f"There is no local folder {data_path!r}; for a data set on the hub, check {checks}",
    )


def hub_splits(data_path: str, revision: str | None = None) -> list[str]:
    """List the splits of a data set on the hub.

    Raises:
        MissingFileError: If there is no such data set.
        DataError: If the hub cannot be reached.
    """
    if is_hh_rlhf(data_path):
        return ["test", "train"]
    import datasets

    try:
        return sorted(datasets.get_dataset_split_names(data_path, revision=revision))
    except Exception as error:  # the library raises its own, httpx's and the hub's errors
        raise _hub_error(data_path, error) from error


def iter_hub_rows(
    data_path: str, data_subset: str, split: str, revision: str | None = None
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the rows of a split on the hub; rows of HH-RLHF get a ``data_subset`` column.

    Args:
        data_path: The hub id.
        data_subset: For HH-RLHF which folders to read, harmless first; other data sets are
            filtered by the caller.
        split: The split.
        revision: A branch, tag or commit.

    Yields:
        The row number from 1, and the row.

    Raises:
        MissingFileError: If there is no such data set or split.
        DataError: If the hub cannot be reached.
        ConfigError: If HH-RLHF has no such data subset.
    """
    before = 0
    folders = _hh_folders(data_subset) if is_hh_rlhf(data_path) else {"": None}
    if not folders:
        raise ConfigError(
            f"{HH_RLHF} has no data subset {data_subset!r}; choose both, helpful or harmless."
        )
    for name, folder in folders.items():
        table = _load(data_path, folder, split, revision)
        for number, row in iter_dataset_rows(table, data_path):
            yield before + number, ({**row, "data_subset": name} if name else row)
        before += len(table)


def _load(data_path: str, folder: str | None, split: str, revision: str | None) -> Any:
    import datasets

    options = {"data_dir": folder} if folder else {}
    try:
        return datasets.load_dataset(data_path, split=split, revision=revision, **options)
    except Exception as error:  # the library raises its own, httpx's and the hub's errors
        if isinstance(error, ValueError) and "Unknown split" in str(error):
            reason = " ".join(str(error).split())
            raise MissingFileError(
                f"{data_path}: {split}", f"{reason} {split_remedy(split)}"
            ) from error
        raise _hub_error(data_path, error) from error


def iter_dataset_rows(table: Any, place: str | Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the rows of a ``datasets.Dataset``, numbered from 1, a batch at a time for speed."""
    return iter_table_rows(table.with_format("arrow").iter(batch_size=BATCH_ROWS), place)


def iter_saved_rows(folder: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the rows of a folder written by ``Dataset.save_to_disk``, numbered from 1.

    Raises:
        DataError: If the folder is damaged.
    """
    import datasets

    try:
        table = datasets.load_from_disk(str(folder))
    except Exception as error:  # Arrow and the library raise many errors for a damaged folder
        raise DataError(
            f"the folder cannot be read as a saved data set: {error}", file=folder
        ) from error
    yield from iter_dataset_rows(table, folder)
