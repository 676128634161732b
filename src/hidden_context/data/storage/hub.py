"""Preference data through the ``datasets`` library: from the Hugging Face hub, or saved to disk."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hidden_context.data.storage.layouts import HH_FOLDERS, split_remedy
from hidden_context.data.storage.rows import data_suffix
from hidden_context.data.storage.tables import BATCH_ROWS, iter_table_rows
from hidden_context.errors import ConfigError, DataError, HiddenContextError, MissingFileError

HH_RLHF = "Anthropic/hh-rlhf"

_HUB_ID = re.compile(r"^[\w.-]+(/[\w.-]+)?$")


def is_hub_id(data_path: str) -> bool:
    """Tell whether a path that does not exist locally may be a data set on the hub.

    It is a missing local path if its parent folder exists, if it leads upwards, if it has the
    suffix of a data file, or if it is in ``data/``, where this package downloads to.
    """
    if not _HUB_ID.match(data_path) or data_path.startswith(".") or data_suffix(data_path):
        return False
    parent = Path(data_path).parent
    return parent == Path(".") or not (parent.is_dir() or parent == Path("data"))


def is_hh_rlhf(data_path: str) -> bool:
    """Tell whether a hub id is HH-RLHF's, which has a folder for each data subset."""
    return data_path.lower() == HH_RLHF.lower()


def _subsets(data_subset: str) -> dict[str, str]:
    if data_subset == "both":
        return dict(HH_FOLDERS)
    if data_subset not in HH_FOLDERS:
        raise ConfigError(
            f"{HH_RLHF} has no data subset {data_subset!r}; choose both, helpful or harmless."
        )
    return {data_subset: HH_FOLDERS[data_subset]}


def _hub_error(data_path: str, error: Exception) -> HiddenContextError:
    """Make the error for a failure of the hub, with the remedy."""
    reason = " ".join(str(error).split())[:300] or type(error).__name__
    remedy = (
        f"If {data_path!r} is meant as a local folder, it is not there; else check the name and "
        "the connection (HF_HUB_OFFLINE=1 uses only what is in the cache; private data needs "
        "'hf auth login')"
    )
    if isinstance(error, FileNotFoundError):
        return MissingFileError(
            data_path, f"It is neither a local path nor a data set on the hub: {reason}. {remedy}"
        )
    return DataError(
        f"the data set could not be loaded from the hub ({type(error).__name__}: {reason})",
        file=data_path,
        remedy=remedy,
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
    folders = _subsets(data_subset) if is_hh_rlhf(data_path) else {"": None}
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
    except Exception as error:  # whatever arrow and the library make of a damaged folder
        raise DataError(
            f"the folder cannot be read as a saved data set: {error}", file=folder
        ) from error
    yield from iter_dataset_rows(table, folder)
