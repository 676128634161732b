"""SHP: of two comments on a Reddit post, the later one that still has the higher score."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from hidden_context.data.collections.source import LeftOut, Published, Row, Source, user
from hidden_context.data.example import Example

_SPLITS: Final = ("train", "validation", "test")


def _read(files: Published, left_out: LeftOut) -> Iterator[Example]:
    """Read each pair of comments with the one label that their scores give.

    A score counts votes of unknown people, none of whom compared the two comments. So a pair is one
    judgement without an annotator, however high its scores, which pass through.
    """
    seen: set[tuple[str, ...]] = set()
    for row in files.rows("pairs"):
        names = [row.get(name) for name in ("post_id", "c_root_id_A", "c_root_id_B")]
        key = (str(names[0]), *sorted(map(str, names[1:])))
        if None not in names and key in seen:
            left_out["pairs of comments that occur twice"] += 1
            continue
        seen.add(key)
        first_is_better = row.level("labels", 0, 1) == 1
        scores = [row.number("score_A"), row.number("score_B")]
        if (scores[1] > scores[0]) if first_is_better else (scores[0] > scores[1]):
            left_out["pairs whose label is for the comment with the lower score"] += 1
            continue
        yield row.example(
            prompt=user(row.text("history")),
            responses=row.texts("human_ref_A", "human_ref_B"),
            judgements=[{"comparison": [0, 1], "preference": float(first_is_better)}],
            scores=scores,
            **_subreddit(row),
            **row.kept("post_id", "score_ratio", "seconds_difference", "upvote_ratio"),
        )


def _subreddit(row: Row) -> dict[str, str]:
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
    licence="not stated; the texts are by Reddit's users, under the terms of Reddit's API",
    citation=(
        "Ethayarajh, Choi and Swayamdipta (2022), Understanding Dataset Difficulty with V-Usable "
        "Information, ICML, PMLR 162, pages 5988-6008"
    ),
    published="https://huggingface.co/datasets/stanfordnlp/SHP",
    files="train.json, validation.json and test.json of any subreddits, or their parquet files",
    columns={"pairs": ("history", "human_ref_A", "human_ref_B", "labels", "score_A", "score_B")},
    holds=("comparisons",),
    gives=(
        "pairs of comments on a post, of which the later one has the higher score; one judgement "
        "each, without an annotator and without ties; the two scores and score_ratio pass "
        "through; the subreddit in data_subset, the split in split"
    ),
    examples=_read,
)
