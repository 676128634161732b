"""Summaries of Reddit posts and news: workers compared pairs and rated single summaries."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeAlias

from hidden_context.data.collections.source import Examples, Published, Row, Source, user

_AXES: Final = ("overall", "accuracy", "coverage", "coherence")
_TELLING: Final = ("id", "post", "article")

_Items: TypeAlias = "dict[tuple[str | None, ...], tuple[Row, dict[str, Any]]]"


def _read(files: Published) -> Examples:
    """Read each pair of summaries once with all its votes, and each rated summary once per axis."""
    items: _Items = {}
    for row in files.rows("comparisons"):
        _add_vote(row, items)
    for row in files.rows("axes"):
        _add_ratings(row, items)
    for row, item in items.values():
        yield row.example(**{**item, "prompt": user(_prompt_of(item["prompt"], row))})


def _add_vote(row: Row, items: _Items) -> None:
    """Add a worker's vote to its pair; the vote names first the summary shown first."""
    summaries = list(row.entries("summaries"))
    if len(summaries) != 2:
        raise row.error(f"two summaries are needed, not {len(summaries)}", "summaries")
    item = _item(row, summaries, "overall", "comparisons", items)
    item["judgements"].append(
        {
            "annotator": row.annotator("worker"),
            "comparison": [0, 1] if item["responses"][0] == summaries[0]["text"] else [1, 0],
            "preference": 1.0 - row.level("choice", 0, 1),
            **row.object_or_empty("extra").numbers("confidence"),
        }
    )


def _add_ratings(row: Row, items: _Items) -> None:
    """Add a worker's ratings of one summary, from 1 to 7; unrated axes are skipped."""
    summary, worker = row.object("summary"), row.annotator("worker")
    axes = summary.object("axes")
    if axes.get("compatible") is not None:
        row.leave_out("answers about 'compatible', which are yes or no")
    for axis in axes.kept(*_AXES):
        item = _item(row, [summary], axis, f"axis_{axis}", items)
        rating = float(axes.level(axis, 1, 7))
        item["judgements"].append({"annotator": worker, "response": 0, "rating": rating})


def _item(
    row: Row, summaries: Sequence[Row], objective: str, subset: str, items: _Items
) -> dict[str, Any]:
    """Return the item of a row, or begin one, whose prompt is written at the end.

    Equal texts are stored once, because the files repeat a post for every vote.
    """
    texts = [sys.intern(summary.text("text")) for summary in summaries]
    known = row.object("info")
    info = known.with_values(
        {n: sys.intern(v) if type(v) is str else v for n, v in known.items() if v is not None}
    )
    if isinstance(info.get("id"), int):
        info["id"] = str(info["id"])
    told = [info.text(name) if name in info else None for name in _TELLING]
    split = None if row.get("split") is None else row.text("split")
    key = (*told, split, subset, *sorted(texts))
    if key not in items:
        about = info.with_values({**info, "item": info.get("id"), "split": split})
        item = {
            "prompt": info,
            "responses": texts,
            "judgements": [],
            "objective": objective,
            "data_subset": subset,
            "policies": [summary.get("policy") for summary in summaries],
            **about.kept("item", "split", "subreddit", "site", "title"),
        }
        items[key] = row.with_values({}), item
    return items[key][1]


def _prompt_of(info: Mapping[str, Any], row: Row) -> str:
    """Write the prompt for a summary in the form that the published models received."""
    title = f"TITLE: {info['title']}\n\n" if info.get("title") else ""
    if "post" in info:
        where = f"SUBREDDIT: r/{info['subreddit']}\n\n" if info.get("subreddit") else ""
        return f"{where}{title}POST: {info['post']}\n\nTL;DR:"
    if "article" in info:
        return f"{title}{info['article']}\n\nTL;DR:"
    raise row.error("a 'post' or an 'article' is needed", "info")


SOURCE = Source(
    title="Summarize from Feedback",
    licence="not stated for the judgements; the Reddit posts (TL;DR) are CC BY 4.0",
    citation=(
        "Stiennon, Ouyang, Wu, Ziegler, Lowe, Voss, Radford, Amodei and Christiano (2020), "
        "Learning to summarize from human feedback, NeurIPS"
    ),
    published=(
        "https://openaipublic.blob.core.windows.net/summarize-from-feedback/dataset; described at "
        "https://github.com/openai/summarize-from-feedback"
    ),
    files="comparisons/*.json and axis_evals/*.json, any of them",
    columns={
        "comparisons": ("info", "summaries", "choice", "worker"),
        "axes": ("info", "summary", "worker"),
    },
    holds=("comparisons", "ratings", "annotators"),
    gives=(
        "pairs of summaries with the votes of named workers (data_subset comparisons), confidence "
        "as published, 1 to 9; single summaries rated from 1 to 7 (data_subset axis_overall, "
        "axis_accuracy, axis_coverage, axis_coherence)"
    ),
    examples=_read,
)
