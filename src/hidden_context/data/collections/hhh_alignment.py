"""HHH alignment: pairs in which the authors mark the helpful, honest or harmless answer."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from hidden_context.data.checks import Place
from hidden_context.data.collections.source import Examples, Published, Row, Source, user
from hidden_context.data.example import Example
from hidden_context.data.storage.files import read_json
from hidden_context.data.storage.rows import data_suffix
from hidden_context.errors import DataError

_SUBSETS: Final = ("harmless", "helpful", "honest", "other")
_SIDES: Final = ("chosen_instruction", "rejected_instruction")
_WRAPPED: Final = re.compile(
    r"###The instruction to evaluate:\n(?P<prompt>.*?)\n+###Response to evaluate:\n"
    r"(?P<response>.*?)\n+###Score Rubrics:",
    re.DOTALL,
)
_TURN: Final = re.compile(r"\n\s*\n\s*(Human|Assistant):\s*")


def _read(files: Published) -> Examples:
    """Read each pair as one vote without an annotator for the authors' preferred answer."""
    for path in files.paths:
        subset = _subset_of([path.parent.name, *re.split(r"[^a-z]+", path.name.lower())])
        task = _read_task(path)
        if task is not None:
            subset = _subset_of(str(task.get("name", "")).split("_")) or subset
            for row in Row(task, Place(path), files).entries("examples"):
                scores = row.object("target_scores")
                answers, labels = list(scores), list(scores.values())
                yield _pair(row, row.text("input"), answers, labels, "target_scores", subset)
        elif files.kind_of(path) == "wrapped":
            yield from map(_read_wrapped, files.rows_of(path))
        else:
            for row in files.rows_of(path):
                targets = row.object("targets")
                answers, labels = (targets.listed(f"{one}s", one) for one in ("choice", "label"))
                yield _pair(row, row.text("input"), answers, labels, "targets", subset)


def _read_task(path: Path) -> dict[str, Any] | None:
    """Read a BIG-bench task, which is one JSON document, or return None if the file holds rows."""
    if data_suffix(path) not in (".json", ".json.gz"):
        return None
    try:
        content = read_json(path)
    except DataError:  # JSON Lines, or what the reader of rows names
        return None
    return content if isinstance(content, dict) and "examples" in content else None


def _read_wrapped(row: Row) -> Example:
    """Read a pair whose sides are each wrapped in a prompt to a judge."""
    sides = []
    for name in _SIDES:
        side = _WRAPPED.search(row.text(name))
        if side is None:
            raise row.error("no instruction and response to evaluate are found in the text", name)
        sides.append(side)
    prompts, responses = ([side[part] for side in sides] for part in (1, 2))
    if prompts[0] != prompts[1]:
        raise row.error("the two sides answer different instructions", ", ".join(_SIDES))
    subset = row.choice("source", _SUBSETS)
    return _pair(row, prompts[0], responses, [1, 0], _SIDES[0], subset)


def _pair(
    row: Row, prompt: str, responses: list[Any], labels: list[Any], field: str, subset: str | None
) -> Example:
    """Make an example from two answers, one labelled 1 and the other 0.

    The example has ``chosen`` and ``rejected``, because the published order of the answers is not
    known to be the order in which anybody saw them.
    """
    numbers = [label for label in labels if not isinstance(label, bool) and label in (0, 1)]
    if len(responses) != 2 or sorted(numbers) != [0, 1] or len(labels) != 2:
        problem = f"two answers are needed, one labelled 1 and one 0, not {labels!r:.60}"
        raise row.error(problem, field)
    chosen, rejected = (
        row.with_values({field: responses[numbers.index(label)]}).text(field) for label in (1, 0)
    )
    # the first turn is the human's and has no mark
    first, turns = row.with_values({"input": prompt}).turns("input", _TURN)
    return row.example(
        prompt=[message for message in user(first) + turns if message["content"].strip()],
        chosen=[{"role": "assistant", "content": chosen}],
        rejected=[{"role": "assistant", "content": rejected}],
        **({} if subset is None else {"data_subset": subset}),
    )


def _subset_of(words: Sequence[str]) -> str | None:
    return next((word for word in words if word in _SUBSETS), None)


SOURCE = Source(
    title="Helpful, Honest and Harmless alignment",
    licence="Apache 2.0",
    citation=(
        "Askell, Bai, Chen, Drain, Ganguli, Henighan, Jones, Joseph, Mann, DasSarma et al. (2021), "
        "A General Language Assistant as a Laboratory for Alignment, arXiv:2112.00861"
    ),
    published="https://github.com/google/BIG-bench, or https://huggingface.co/datasets/HuggingFaceH4/hhh_alignment",
    files=(
        "bigbench/benchmark_tasks/hhh_alignment/*/task.json of BIG-bench, rows of "
        "HuggingFaceH4/hhh_alignment, or hhh_alignment_eval.json of prometheus-eval"
    ),
    columns={"wrapped": ("source", *_SIDES), "choices": ("input", "targets")},
    holds=("comparisons",),
    gives=(
        "221 pairs of answers, with the better one by their authors; data_subset helpful, honest, "
        "harmless or other, if the file or its folder says so"
    ),
    examples=_read,
)
