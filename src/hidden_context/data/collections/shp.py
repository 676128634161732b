"""SHP: pairs of comments on a Reddit post; the later comment with the higher score is better."""

from __future__ import annotations

import re
from typing import Final

from hidden_context.data.collections.source import Examples, Published, Source, user

_DOMAIN: Final = re.compile(
    r"(?P<data_subset>.*?)(?:_(?P<split>train|validation|test))?", re.DOTALL
)
"""A domain such as ``askbaking_train``: the subreddit, and the split."""


def _read(files: Published) -> Examples:
    """Read each pair of comments with the single label that their scores give.

    A score counts the votes of unknown people, and none of them compared the two comments. So a
    pair is one judgement without an annotator, however high its scores. The scores pass through.
    """
    for row in files.rows("pairs"):
        post, *comments = [row.get(name) for name in ("post_id", "c_root_id_A", "c_root_id_B")]
        key = (str(post), *sorted(map(str, comments)))
        known = None not in (post, *comments)
        if known and row.repeats("pairs of comments that occur twice", *key):
            continue
        first_is_better = row.level("labels", 0, 1) == 1
        scores = [row.number("score_A"), row.number("score_B")]
        if (scores[1] > scores[0]) if first_is_better else (scores[0] > scores[1]):
            row.leave_out("pairs whose label is for the comment with the lower score")
            continue
        domain = row.get("domain")
        told = _DOMAIN.fullmatch(domain) if isinstance(domain, str) else None
        yield row.example(
            prompt=user(row.text("history")),
            responses=row.texts("human_ref_A", "human_ref_B"),
            judgements=[{"comparison": [0, 1], "preference": float(first_is_better)}],
            scores=scores,
            **row.with_values(told.groupdict() if told else {}).kept("data_subset", "split"),
            **row.kept("post_id", "score_ratio", "seconds_difference", "upvote_ratio"),
        )


SOURCE = Source(
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
