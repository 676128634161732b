"""SHP: of two comments on a Reddit post, the one that came later and yet has the higher score."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from hidden_context.data.checks import Place
from hidden_context.data.collections.published import (
    kept,
    level_of,
    number_of,
    rows_of,
    sort_files,
    text_of,
)
from hidden_context.data.collections.source import LeftOut, Source
from hidden_context.data.example import Example
from hidden_context.data.importers import read_row

_COLUMNS: Final = ("history", "human_ref_A", "human_ref_B", "labels", "score_A", "score_B")
_FILES = "train.json, validation.json and test.json of any subreddits, or parquet files of them"
_SPLITS: Final = ("train", "validation", "test")
_PASSED: Final = ("post_id", "score_ratio", "seconds_difference", "upvote_ratio")
_AGAINST = "pairs whose label is for the comment with the lower score"
_TWICE = "pairs of comments that stand twice"


def _read(files: Sequence[Path], left_out: LeftOut) -> Iterator[Example]:
    """Read each pair of comments with the one label that is made of their scores.

    A score counts votes of unknown people, none of whom compared the two: so a pair is one
    judgement of nobody known, however high its scores, which pass through.
    """
    seen: set[tuple[str, ...]] = set()
    for path in sort_files(files, {"pairs": _COLUMNS}, f"Give {_FILES}")["pairs"]:
        for place, row in rows_of(path):
            names = [row.get(name) for name in ("post_id", "c_root_id_A", "c_root_id_B")]
            key = (str(names[0]), *sorted(map(str, names[1:])))
            if None not in names and key in seen:
                left_out[_TWICE] += 1
                continue
            seen.add(key)
            first_is_better = level_of(row, "labels", place, 0, 1) == 1
            scores = [number_of(row, f"score_{side}", place) for side in "AB"]
            if (scores[1] > scores[0]) if first_is_better else (scores[0] > scores[1]):
                left_out[_AGAINST] += 1
                continue
            yield _example(row, first_is_better, scores, place)


def _example(
    row: Mapping[str, Any], first_is_better: bool, scores: Sequence[float], place: Place
) -> Example:
    return read_row(
        {
            "prompt": [{"role": "user", "content": text_of(row, "history", place)}],
            "responses": [text_of(row, f"human_ref_{side}", place) for side in "AB"],
            "judgements": [{"comparison": [0, 1], "preference": float(first_is_better)}],
            "scores": list(scores),
            **_subreddit(row),
            **kept(row, *_PASSED),
        },
        file=place.file,
        line=place.line,
    )


def _subreddit(row: Mapping[str, Any]) -> dict[str, str]:
    """Divide a domain such as ``askbaking_train`` into the subreddit and the split."""
    domain = row.get("domain")
    if not isinstance(domain, str):
        return {}
    name, mark, split = domain.rpartition("_")
    if mark and split in _SPLITS:
        return {"data_subset": name, "split": split}
    return {"data_subset": domain}


SOURCE = Source(
    name="shp",
    title="Stanford Human Preferences (SHP)",
    licence="not stated; the texts are of Reddit's users, under the terms of Reddit's API",
    citation=(
        "Ethayarajh, Choi and Swayamdipta (2022), Understanding Dataset Difficulty with V-Usable "
        "Information, ICML, PMLR 162, pages 5988-6008"
    ),
    published="https://huggingface.co/datasets/stanfordnlp/SHP",
    files=_FILES,
    holds=("comparisons",),
    gives=(
        "pairs of comments on a post, of which the later one has the higher score of votes; one "
        "judgement each, by nobody known, without ties; the two scores and score_ratio pass "
        "through; the subreddit in data_subset, the split in split"
    ),
    read=_read,
)
