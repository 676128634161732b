"""Summaries of Reddit posts and news: pairs that workers compared, and single ones they rated."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypeAlias

from hidden_context.data.checks import Place, describe, read_list
from hidden_context.data.collections.fields import object_of
from hidden_context.data.collections.published import (
    level_of,
    number_of,
    person_of,
    rows_of,
    sort_files,
    text_of,
)
from hidden_context.data.collections.source import LeftOut, Source
from hidden_context.data.example import Example
from hidden_context.data.importers import read_row

_KINDS = {
    "comparisons": ("info", "summaries", "choice", "worker"),
    "axes": ("info", "summary", "worker"),
}
_FILES = "comparisons/*.json and axis_evals/*.json, any of them"
_REMEDY = f"Give {_FILES}"
AXES: Final = ("overall", "accuracy", "coverage", "coherence")
_INFO: Final = ("subreddit", "site", "title")

_Item: TypeAlias = "dict[str, Any]"
_Key: TypeAlias = "tuple[Any, ...]"


def _read(files: Sequence[Path], left_out: LeftOut) -> Iterator[Example]:
    """Read each pair of summaries once, with all votes on it, and each rated one for each axis."""
    found = sort_files(files, _KINDS, _REMEDY)
    items: dict[_Key, _Item] = {}
    places: dict[_Key, Place] = {}
    for path in found["comparisons"]:
        for place, row in rows_of(path):
            _add_vote(row, place, items, places)
    for path in found["axes"]:
        for place, row in rows_of(path):
            _add_ratings(row, place, items, places, left_out)
    for key, item in items.items():
        content = _prompt_of(item["info"], places[key])
        built = {name: value for name, value in item.items() if name != "info"}
        yield read_row(
            {"prompt": [{"role": "user", "content": content}], **built},
            file=places[key].file,
            line=places[key].line,
        )


def _add_vote(
    row: _Item, place: Place, items: dict[_Key, _Item], places: dict[_Key, Place]
) -> None:
    """Add a worker's vote to its pair; the summary that was shown first is named first."""
    summaries = read_list(row.get("summaries"), "summaries", place, _REMEDY, "summary")
    if len(summaries) != 2:
        problem = f"two summaries are needed, not {len(summaries)}"
        raise place.error(problem, "summaries", _REMEDY)
    texts = [_summary_text(one, f"summaries[{n}]", place) for n, one in enumerate(summaries)]
    info, key = _begin(row, place)
    key = ("comparisons", *key, *sorted(texts))
    if key not in items:
        places[key] = place
        items[key] = _item(row, info, texts, "overall", "comparisons")
        items[key]["policies"] = [_interned(one.get("policy")) for one in summaries]
    shown = [0, 1] if items[key]["responses"] == texts else [1, 0]
    entry = {
        "annotator": sys.intern(person_of(row, "worker", place)),
        "comparison": shown,
        "preference": 1.0 - level_of(row, "choice", place, 0, 1),
    }
    extra = object_of(row, "extra", place, needed=False)
    if extra.get("confidence") is not None:
        entry["confidence"] = number_of(extra, "confidence", place, prefix="extra.")
    items[key]["judgements"].append(entry)


def _add_ratings(
    row: _Item,
    place: Place,
    items: dict[_Key, _Item],
    places: dict[_Key, Place],
    left_out: LeftOut,
) -> None:
    """Add a worker's ratings, 1 to 7, of one summary; an axis that was not rated is left alone."""
    text = _summary_text(row.get("summary"), "summary", place)
    axes = row["summary"].get("axes")
    if not isinstance(axes, Mapping):
        raise place.error(f"ratings are needed, not {describe(axes)}", "summary.axes", _REMEDY)
    worker = sys.intern(person_of(row, "worker", place))
    if axes.get("compatible") is not None:
        left_out["answers to 'compatible', which is yes or no"] += 1
    info, begun = _begin(row, place)
    for axis in AXES:
        if axes.get(axis) is None:
            continue
        key = ("axes", *begun, text, axis)
        if key not in items:
            places[key] = place
            items[key] = _item(row, info, [text], axis, f"axis_{axis}")
            items[key]["policies"] = [_interned(row["summary"].get("policy"))]
        rating = level_of(axes, axis, place, 1, 7, "summary.axes.")
        entry = {"annotator": worker, "response": 0, "rating": float(rating)}
        items[key]["judgements"].append(entry)


def _begin(row: _Item, place: Place) -> tuple[dict[str, Any], _Key]:
    """Return what a summary is of, and what tells it from others; equal texts are stored once."""
    info = row.get("info")
    if not isinstance(info, Mapping):
        raise place.error(f"a post or an article is needed, not {describe(info)}", "info", _REMEDY)
    known = {name: _interned(value) for name, value in info.items() if value is not None}
    split = "" if row.get("split") is None else text_of(row, "split", place)
    if isinstance(known.get("id"), int):
        known["id"] = str(known["id"])
    for name in ("id", "post", "article"):
        if name in known:
            text_of(known, name, place, "info.")
    return known, (known.get("id"), known.get("post"), known.get("article"), split)


def _item(row: _Item, info: _Item, texts: list[str], objective: str, subset: str) -> _Item:
    item: _Item = {
        "info": info,
        "responses": texts,
        "judgements": [],
        "objective": objective,
        "data_subset": subset,
    }
    named = {"item": info.get("id"), "split": _interned(row.get("split"))}
    named |= {name: info.get(name) for name in _INFO}
    return item | {name: value for name, value in named.items() if value is not None}


def _prompt_of(info: Mapping[str, Any], place: Place) -> str:
    """Write what is to be summarised, as the published models were asked for it."""
    title = f"TITLE: {info['title']}\n\n" if info.get("title") else ""
    if info.get("post") is not None:
        where = f"SUBREDDIT: r/{info['subreddit']}\n\n" if info.get("subreddit") else ""
        return f"{where}{title}POST: {info['post']}\n\nTL;DR:"
    if info.get("article") is not None:
        return f"{title}{info['article']}\n\nTL;DR:"
    raise place.error("a 'post' or an 'article' is needed", "info", _REMEDY)


def _summary_text(summary: Any, field: str, place: Place) -> str:
    if not isinstance(summary, Mapping) or not isinstance(summary.get("text"), str):
        problem = f"a summary with its 'text' is needed, not {describe(summary)}"
        raise place.error(problem, field, _REMEDY)
    return sys.intern(summary["text"])


def _interned(value: Any) -> Any:
    """Return the same object for equal texts: posts stand in the files once for every vote."""
    return sys.intern(value) if type(value) is str else value


SOURCE = Source(
    name="summarize_from_feedback",
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
    files=_FILES,
    holds=("comparisons", "ratings", "annotators"),
    gives=(
        "pairs of summaries with the votes of named workers (data_subset comparisons), confidence "
        "as published, 1 to 9; single summaries rated from 1 to 7 (data_subset axis_overall, "
        "axis_accuracy, axis_coverage, axis_coherence)"
    ),
    read=_read,
)
