"""The layouts of local data sets: which files hold the rows of a split."""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass
from pathlib import Path

from hidden_context.data.storage.rows import SUFFIXES, data_suffix
from hidden_context.errors import DataError, MissingFileError

HH_FOLDERS = {"harmless": "harmless-base", "helpful": "helpful-base"}


_SHARD = re.compile(r"^(?P<split>.+)-\d{5}-of-\d{5}$")


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
    """Tell whether a path is one table without splits of its own."""
    return path.is_file() or is_saved_dataset(path)


def _split_name(path: Path) -> str | None:
    suffix = data_suffix(path)
    if suffix is None:
        return None
    stem = path.name[: -len(suffix)]
    shard = _SHARD.match(stem)
    return shard["split"] if shard else stem


def _splits_in(folder: Path) -> dict[str, list[Path]]:
    """Map each split of a folder to its files, in order."""
    if is_saved_dict(folder):
        tables = sorted(path for path in folder.iterdir() if is_saved_dataset(path))
        return {path.name: [path] for path in tables}
    found: dict[str, list[Path]] = {}
    for place in (folder, folder / "data"):  # the hub keeps parquet shards in data/
        if place.is_dir() and not found:
            for path in sorted(place.iterdir()):
                name = _split_name(path) if path.is_file() else None
                if name is not None:
                    found.setdefault(name, []).append(path)
    return found


def _folders(root: Path, data_subset: str) -> list[Part]:
    """Return the folders that hold the files of a split: HH-RLHF's, harmless first, or one.

    Raises:
        MissingFileError: If a copy of HH-RLHF lacks one of them.
    """
    copies = [
        Part(root / folder, added_subset=name)
        for name, folder in HH_FOLDERS.items()
        if data_subset in ("both", name)
    ]
    if copies and any((root / folder).is_dir() for folder in HH_FOLDERS.values()):
        for copy in copies:
            if not copy.path.is_dir():
                raise MissingFileError(copy.path, "Add it, or choose the other --data_subset")
        return copies
    if (root / data_subset).is_dir() and _splits_in(root / data_subset):
        return [Part(root / data_subset)]
    return [Part(root, filtered=data_subset not in ("both", root.resolve().name))]


def available_splits(root: Path, data_subset: str = "both") -> list[str]:
    """List the splits of a local folder; a single table has none.

    Args:
        root: The folder or file.
        data_subset: ``both``, ``helpful``, ``harmless`` or another subset.

    Returns:
        The names of the splits, sorted.

    Raises:
        MissingFileError: If the path does not exist.
    """
    if not root.exists():
        raise MissingFileError(root)
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
        raise _no_data(root, data_subset, split)
    return [
        dataclasses.replace(folder, path=path)
        for folder in folders
        for path in _files_of_split(folder.path, split)
    ]


def _files_of_split(folder: Path, split: str) -> list[Path]:
    splits = _splits_in(folder)
    if split not in splits:
        there = ", ".join(sorted(splits)) or "none"
        looked_for = folder / (split if is_saved_dict(folder) else f"{split}.jsonl.gz")
        raise MissingFileError(
            looked_for,
            f"Splits in {folder}: {there}. {split_remedy(split)}"
            if splits
            else f"Splits there: {there}",
        )
    paths = splits[split]
    formats = sorted({data_suffix(path) or "" for path in paths})
    sharded = all(_SHARD.match(path.name.removesuffix(data_suffix(path) or "")) for path in paths)
    if len(formats) > 1 or (len(paths) > 1 and not sharded):
        raise DataError(
            f"the split {split!r} is there more than once: {', '.join(p.name for p in paths)}",
            file=folder,
            remedy="Keep one of them, or give the file itself as data_path",
        )
    return paths


def _no_data(root: Path, data_subset: str, split: str) -> MissingFileError:
    """Make the error for a folder of no known layout."""
    subsets = sorted(path.name for path in root.iterdir() if path.is_dir() and _splits_in(path))
    looked_for = root / data_subset / f"{split}.jsonl.gz"
    if subsets:
        remedy = f"There are the data subsets {', '.join(subsets)}: give one as --data_subset"
    else:
        remedy = (
            f"A folder needs {{data_subset}}/{{split}} or {{split}} files of the kinds "
            f"{', '.join(SUFFIXES)}, or harmless-base and helpful-base folders"
        )
    return MissingFileError(looked_for, remedy)
