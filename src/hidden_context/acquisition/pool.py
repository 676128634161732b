"""Items that can be asked about: judged items, and a pool of items without votes."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from hidden_context.acquisition.config import NextConfig
from hidden_context.check.items import NOBODY, Items, read_items
from hidden_context.data.checks import Place
from hidden_context.data.dialogue import Conversation, canonical_prompt, is_blank
from hidden_context.data.example import Comparison, Example, Judgement, Ranking, Rating
from hidden_context.data.importers import read_row
from hidden_context.data.report import has_votes
from hidden_context.data.sources import files_of_split, load_examples
from hidden_context.data.splits.division import SplitOptions
from hidden_context.data.storage.rows import iter_rows, require_row
from hidden_context.data.votes.judges import people_of
from hidden_context.errors import DataError

ID_COLUMNS: Final = ("item", "id", "item_id")
"""Columns that may name an item; the first that a row has counts."""
_UNASKED: Final = "\0unasked"
_SAID: Final = (
    *("judgements", "rankings", "ranks", "annotations", "ratings", "rating", "annotator"),
    *("preference", "strength", "margin", "rating_chosen", "rating_rejected", "votes"),
)
_REMEDY: Final = (
    'Write {"prompt": "...", "responses": ["...", "..."]}, {"chosen": "...", "rejected": "..."} '
    'or {"text": "..."}'
)


@dataclass(frozen=True, eq=False)
class Pool:
    """I items that can be asked about, with or without votes.

    Attributes:
        items: The items; the pool's items have no votes.
        ids: Name of each item: its row's ``item``, ``id`` or ``item_id``, else file and line.
        prompts: The prompt of each item as it was read.
        responses: The one or two responses of each item as they were read.
        groups: Name of each item's group.
        unjudged: How many items have no vote.
        report: How the votes were read.
    """

    items: Items
    ids: list[str]
    prompts: list[Conversation]
    responses: list[tuple[Conversation, ...]]
    groups: list[str]
    unjudged: int
    report: str = ""

    def __len__(self) -> int:
        """Number I of items."""
        return len(self.ids)


def read_pool(config: NextConfig) -> Pool:
    """Read the judged data, its rows without a vote, and the pool.

    Args:
        config: The options.

    Returns:
        The items. Of the pool, an item that the judged data hold as well is left out.

    Raises:
        MissingFileError: If a file is not there.
        DataError: If a row is malformed, nobody judged anything, the pool holds no item of the
            kind that was judged, or a row has no group.
    """
    data = load_examples(
        config.data_path,
        config.data_subset,
        config.split,
        on_malformed=config.on_malformed,
        seed=config.seed,
    )
    asked = list(_unjudged(config)) if data.report.unjudged else []
    asked += _read_file(config.pool) if config.pool else []
    options, report = SplitOptions(config.split_by), data.report
    pool = make_pool(data.examples, asked, options, report.source)
    return dataclasses.replace(pool, report=str(report))


def make_pool(
    judged: Sequence[Example],
    unjudged: Sequence[Example],
    options: SplitOptions,
    source: str | None = None,
) -> Pool:
    """Put judged examples and examples without votes together; see ``read_pool``.

    Where people judged as well, what language models said is no vote.
    """
    people, _ = people_of(judged)
    judged = [one for one in people if any(not said.abstains for said in one.judgements)]
    unjudged = [*unjudged, *(one for one in people if all(j.abstains for j in one.judgements))]
    known = {_key(example) for example in judged}
    compared = any(
        isinstance(said.answer, (Comparison, Ranking)) for e in judged for said in e.judgements
    )
    lowest = min(
        (j.answer.value for e in judged for j in e.judgements if isinstance(j.answer, Rating)),
        default=0.0,
    )
    more: dict[tuple[str, ...], Example] = {}
    for example in unjudged:
        more.setdefault(_key(example), example)
    new = [example for key, example in more.items() if key not in known]
    examples = [*judged, *(_with_a_mark(example, compared, lowest) for example in new)]
    marked = read_items(examples, options, source)
    items = _without_marks(marked)
    return Pool(
        items=items,
        ids=_ids(items, examples),
        prompts=[examples[row].prompt for row in items.votes.example.tolist()],
        responses=[
            tuple(examples[row].responses[place] for place in places if place != NOBODY)
            for row, places in zip(
                items.votes.example.tolist(), items.votes.places.tolist(), strict=True
            )
        ],
        groups=[str(items.votes.group_names[number]) for number in items.group.tolist()],
        unjudged=int((items.counts.sum(1) == 0).sum()),
    )


def _unjudged(config: NextConfig) -> Iterator[Example]:
    """Yield the rows of local data that nobody judged."""
    for path in files_of_split(config.data_path, config.data_subset, config.split):
        if path.is_dir():
            continue
        for line, row in iter_rows(path):
            if isinstance(row, DataError):
                continue  # was counted when the votes were read
            try:
                example = read_row(row, file=str(path), line=line)
            except DataError:
                continue
            if not has_votes(example):
                yield _without_votes(example, Place(path, line))


def _read_file(path: str) -> list[Example]:
    """Read a pool; its columns about votes are ignored."""
    found = []
    for line, item in iter_rows(path):
        row, place = require_row(item), Place(Path(path), line)
        bare = {name: value for name, value in row.items() if name not in _SAID}
        example = read_row({**bare, **_kind_of(bare, place)}, file=path, line=line)
        found.append(_without_votes(dataclasses.replace(example, columns=row), place))
    if not found:
        raise DataError("the pool holds no rows", file=path, remedy=_REMEDY)
    return found


def _kind_of(row: dict[str, Any], place: Place) -> dict[str, Any]:
    """Return the column that makes a row without votes one of a known kind."""
    if row.get("chosen") is not None and row.get("rejected") is not None:
        return {}
    if row.get("responses") is not None:
        return {"judgements": [{"abstains": True}]}
    if any(row.get(name) is not None for name in ("text", "response", "messages")):
        return {"rating": 0.0}
    raise place.error("the row holds no responses to ask about", "responses", _REMEDY)


def _without_votes(example: Example, place: Place) -> Example:
    for number, response in enumerate(example.responses):
        if is_blank(response):
            raise place.error("a response is blank", f"responses[{number}]", _REMEDY)
    return dataclasses.replace(example, judgements=())


def _with_a_mark(example: Example, compared: bool, lowest: float) -> Example:
    """Add placeholder votes, so that an example is read as items; they are dropped again."""
    count = len(example.responses)
    if compared and count < 2:
        raise DataError(
            "the votes compare responses, and this row has one",
            file=example.source_file,
            line=next(iter(example.source_lines), None),
            field="responses",
            remedy="Give the pool rows of two responses or more, or votes that are ratings",
        )
    marks = (
        [Judgement(Ranking(tuple(range(1, count + 1))), _UNASKED)]
        if compared
        else [Judgement(Rating(place, lowest), _UNASKED) for place in range(count)]
    )
    return dataclasses.replace(example, judgements=tuple(marks))


def _without_marks(items: Items) -> Items:
    votes = items.votes
    if _UNASKED not in votes.names:
        return items
    mark = votes.names.index(_UNASKED)
    kept = votes.table.annotator != mark
    rating = None if votes.rating is None else votes.rating[kept]
    # the mark is the last annotator: pools are read after votes
    names = tuple(name for name in votes.names if name != _UNASKED)
    table = dataclasses.replace(votes.table.select(kept), annotators=len(names))
    return dataclasses.replace(
        items, votes=dataclasses.replace(votes, table=table, names=names, rating=rating)
    )


def _key(example: Example) -> tuple[str, ...]:
    responses = sorted(canonical_prompt(response) for response in example.responses)
    return (str(example.objective), canonical_prompt(example.prompt), *responses)


def _ids(items: Items, examples: Sequence[Example]) -> list[str]:
    rows = items.votes.example.tolist()
    several = Counter(rows)
    names = {row: _name(examples[row]) for row in rows}
    uses = Counter(names.values())
    found = []
    for row, places in zip(rows, items.votes.places.tolist(), strict=True):
        own = names[row]
        if not own or uses[own] > 1:
            own = _line(examples[row], row)
        part = "-".join(str(place) for place in places if place != NOBODY)
        found.append(own if several[row] == 1 else f"{own}#{part}")
    return found


def _name(example: Example) -> str:
    values = (example.columns.get(column) for column in ID_COLUMNS)
    return next((str(value) for value in values if isinstance(value, (str, int))), "")


def _line(example: Example, row: int) -> str:
    if example.source_file is None or not example.source_lines:
        return f"example {row}"
    return f"{Path(example.source_file).name}:{example.source_lines[0]}"
