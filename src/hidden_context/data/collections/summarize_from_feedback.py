"""Summaries of Reddit posts and news: workers compared pairs and rated single summaries."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any, Final, TypeAlias

from hidden_context.data.collections.source import Examples, Published, Row, Source, user

_AXES: Final = ("overall", "accuracy", "coverage", "coherence")
_TELLING: Final = ("id", "post", "article")

_Key: TypeAlias = "tuple[Any, ...]"
_Items: TypeAlias = "dict[_Key, tuple[Row, dict[str, Any]]]"


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
    texts = [sys.intern(one.text("text")) for one in summaries]
    key = ("comparisons", *_told_apart(row), *sorted(texts))
    if key not in items:
        items[key] = row.with_values({}), _item(row, summaries, "overall", "comparisons")
    item = items[key][1]
    item["judgements"].append(
        {
            "annotator": sys.intern(row.annotator("worker")),
            "comparison": [0, 1] if item["responses"] == texts else [1, 0],
            "preference": 1.0 - row.level("choice", 0, 1),
            **row.object_or_empty("extra").numbers("confidence"),
        }
    )


def _add_ratings(row: Row, items: _Items) -> None:
    """Add a worker's ratings of one summary, from 1 to 7; unrated axes are skipped."""
    summary = row.object("summary")
    text = sys.intern(summary.text("text"))
    axes, worker = summary.object("axes"), sys.intern(row.annotator("worker"))
    if axes.get("compatible") is not None:
        row.leave_out("answers about 'compatible', which are yes or no")
    begun = _told_apart(row)
    for axis in _AXES:
        if axes.get(axis) is None:
            continue
        key = ("axes", *begun, text, axis)
        if key not in items:
            items[key] = row.with_values({}), _item(row, [summary], axis, f"axis_{axis}")
        rating = float(axes.level(axis, 1, 7))
        items[key][1]["judgements"].append({"annotator": worker, "response": 0, "rating": rating})


def _told_apart(row: Row) -> _Key:
    """Return the key of the summarised text and its split; equal texts are stored once."""
    known = row.object("info").items()
    info = row["info"] = {name: _interned(value) for name, value in known if value is not None}
    if isinstance(info.get("id"), int):
        info["id"] = str(info["id"])
    told = [row.object("info").text(name) if name in info else None for name in _TELLING]
    return *told, None if row.get("split") is None else row.text("split")


def _item(row: Row, summaries: list[Any], objective: str, subset: str) -> dict[str, Any]:
    """Begin an item; its prompt is written at the end."""
    info = row["info"]
    columns = {"item": info.get("id"), "split": _interned(row.get("split"))}
    columns |= {name: info.get(name) for name in ("subreddit", "site", "title")}
    return {
        "prompt": info,
        "responses": [_interned(one["text"]) for one in summaries],
        "judgements": [],
        "objective": objective,
        "data_subset": subset,
        "policies": [_interned(one.get("policy")) for one in summaries],
        **{name: value for name, value in columns.items() if value is not None},
    }


def _prompt_of(info: Mapping[str, Any], row: Row) -> str:
    """Write the prompt for a summary in the form that the published models received."""
    title = f"TITLE: {info['title']}\n\n" if info.get("title") else ""
    if "post" in info:
        where = f"SUBREDDIT: r/{info['subreddit']}\n\n" if info.get("subreddit") else ""
        return f"{where}{title}POST: {info['post']}\n\nTL;DR:"
    if "article" in info:
        return f"{title}{info['article']}\n\nTL;DR:"
    raise row.error("a 'post' or an 'article' is needed", "info")


def _interned(value: Any) -> Any:
    """Return the same object for equal texts, because the files repeat a post for every vote."""
    return sys.intern(value) if type(value) is str else value


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
