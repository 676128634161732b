"""The manifest: a file that records the side of each group, balanced by the sizes of groups."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from hidden_context.data.storage.files import read_json, write_json
from hidden_context.data.storage.locks import exclusive
from hidden_context.errors import ConfigError, DataError, MissingFileError

_FORMAT: Final = 1
_MOST_EXCHANGES: Final = 100


def balanced_sides(
    path: Path, keys: Sequence[str], shares: Mapping[str, float], purpose: str, by: str | None
) -> list[str]:
    """Return the side of each example; add new groups to the manifest.

    New groups are added from the largest to the smallest. Each goes to the side that is least
    full with the group added, relative to its share. After that, new groups change sides as long
    as this brings the shares closer to the target.

    Args:
        path: The manifest, a JSON file: ``{"format", "split_by", "divisions"}``, where
            ``divisions[purpose]`` has the ``shares`` of the sides, and the ``sides`` by the digest
            of each group.
        keys: The group of each example.
        shares: The part of all examples that each side is to have.
        purpose: The name of the division.
        by: The column that the groups are values of; None for first user turns.

    Raises:
        ConfigError: If the manifest has other shares for the purpose, or groups of another column.
        DataError: If the file is not a manifest.
        StorageError: If it cannot be written.
    """
    sizes = Counter(_digest(key) for key in keys)
    sides = _read(path, purpose, shares, by)[1]
    if not sizes.keys() <= sides.keys():
        with exclusive(path, wait=True):
            content, sides = _read(path, purpose, shares, by)
            _add(sides, sizes, shares)
            if {*sides.values()} == {*shares}:  # an empty side raises an error later
                write_json(path, content)
    return [sides[_digest(key)] for key in keys]


def require_division(path: Path, purpose: str) -> None:
    """Check that a run before this one has written a division.

    Raises:
        MissingFileError: If the manifest is not there.
        ConfigError: If it lacks the division.
    """
    if not path.is_file():
        raise MissingFileError(path, "Give --split_balance the file that training wrote")
    if purpose not in _load(path)["divisions"]:
        raise ConfigError(
            f"{path} has no division for {purpose}: give --split_balance the file that training "
            "wrote."
        )


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def _load(path: Path) -> dict[str, Any]:
    content = read_json(path)
    made = isinstance(content, dict) and {"format", "split_by", "divisions"} <= content.keys()
    if not made or content["format"] != _FORMAT:
        raise DataError(
            f"this is not a split manifest of format {_FORMAT}",
            file=path,
            remedy="Give --split_balance another file; it is created if it does not exist",
        )
    return content


def _read(
    path: Path, purpose: str, shares: Mapping[str, float], by: str | None
) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the content of the manifest, new if there is none, and the sides of one division."""
    empty: dict[str, Any] = {"format": _FORMAT, "split_by": by, "divisions": {}}
    content = _load(path) if path.exists() else empty
    new = {"shares": dict(shares), "sides": {}}
    division = content["divisions"].setdefault(purpose, new)
    for name, there, wanted in (
        ("split_by", content["split_by"], by),
        (f"shares for {purpose}", division["shares"], new["shares"]),
    ):
        if there != wanted:
            raise ConfigError(
                f"{path} was made with {name} {there}, but this run has {wanted}: give "
                "--split_balance another file, or the options it was made with."
            )
    return content, division["sides"]


def _add(sides: dict[str, str], sizes: Mapping[str, int], shares: Mapping[str, float]) -> None:
    """Give each new group a side; the others stay."""
    shares = {side: share for side, share in shares.items() if share > 0}
    filled = dict.fromkeys(shares, 0)
    for digest, side in sides.items():
        filled[side] += sizes.get(digest, 0)
    new = sorted(sizes.keys() - sides.keys(), key=lambda digest: (-sizes[digest], digest))
    for left, digest in zip(range(len(new), 0, -1), new, strict=True):
        empty = [side for side in shares if not filled[side]]
        choice = empty if len(empty) >= left else shares  # no side may stay empty
        side = min(choice, key=lambda name: (filled[name] + sizes[digest]) / shares[name])
        sides[digest] = side
        filled[side] += sizes[digest]
    for _ in range(_MOST_EXCHANGES):
        if not _exchange(sides, new, sizes, shares, filled):
            break


def _exchange(
    sides: dict[str, str],
    new: Sequence[str],
    sizes: Mapping[str, int],
    shares: Mapping[str, float],
    filled: dict[str, int],
) -> bool:
    """Move a new group from the fullest side to the emptiest, or exchange two, where that helps."""
    total = sum(filled.values())
    over, under = (
        pick(shares, key=lambda side: filled[side] - shares[side] * total) for pick in (max, min)
    )

    def distance(moved: int) -> float:
        return max(
            abs(filled[over] - moved - shares[over] * total) / shares[over],
            abs(filled[under] + moved - shares[under] * total) / shares[under],
        )

    giving, taking = ({sizes[d]: d for d in new if sides[d] == side} for side in (over, under))
    moves = [
        (distance(size - back), size, back)
        for size in giving
        for back in (0, *taking)
        if size > back and (back or size < filled[over])
    ]
    best, size, back = min(moves, default=(distance(0), 0, 0))
    if best >= distance(0):
        return False
    sides[giving[size]] = under
    if back:
        sides[taking[back]] = over
    filled[over] -= size - back
    filled[under] += size - back
    return True
