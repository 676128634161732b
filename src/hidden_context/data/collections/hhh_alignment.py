"""HHH alignment: pairs of answers of which the authors say which is helpful, honest or harmless."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from hidden_context.data.checks import Place, describe, read_list
from hidden_context.data.collections.published import choice_of, rows_of, sort_files, text_of
from hidden_context.data.collections.source import LeftOut, Source
from hidden_context.data.example import Example
from hidden_context.data.files import read_json
from hidden_context.data.importers import read_row
from hidden_context.data.rows import data_suffix
from hidden_context.errors import DataError

SUBSETS: Final = ("harmless", "helpful", "honest", "other")
_KINDS = {
    "wrapped": ("source", "chosen_instruction", "rejected_instruction"),
    "choices": ("input", "targets"),
}
_FILES = (
    "bigbench/benchmark_tasks/hhh_alignment/*/task.json of BIG-bench, rows of "
    "HuggingFaceH4/hhh_alignment, or hhh_alignment_eval.json of prometheus-eval"
)
_REMEDY = f"Give {_FILES}"
_WRAPPED = re.compile(
    r"###The instruction to evaluate:\n(?P<prompt>.*?)\n+###Response to evaluate:\n"
    r"(?P<response>.*?)\n+###Score Rubrics:",
    re.DOTALL,
)
_TURN = re.compile(r"\n\s*\n\s*(Human|Assistant):\s*")
_ROLES: Final = {"Human": "user", "Assistant": "assistant"}


def _read(files: Sequence[Path], left_out: LeftOut) -> Iterator[Example]:
    """Read each pair as one vote, by nobody named, for the answer that its authors prefer."""
    for path in files:
        task = _read_task(path)
        if task is not None:
            subset = _subset_of(str(task.get("name", "")).split("_")) or _subset_of(_names(path))
            listed = read_list(task["examples"], "examples", Place(path), _REMEDY, "example")
            for number, row in enumerate(listed):
                yield _read_scored(row, f"examples[{number}]", subset, Place(path))
            continue
        found = sort_files([path], _KINDS, _REMEDY)
        for place, row in rows_of(path):
            if found["wrapped"]:
                yield _read_wrapped(row, place)
            else:
                yield _read_choices(row, _subset_of(_names(path)), place)


def _read_task(path: Path) -> dict[str, Any] | None:
    """Read a task of BIG-bench, which is one JSON document; None where the file holds rows."""
    if data_suffix(path) not in (".json", ".json.gz"):
        return None
    try:
        content = read_json(path)
    except DataError:  # JSON Lines, or what the reader of rows names
        return None
    return content if isinstance(content, dict) and "examples" in content else None


def _read_scored(row: Any, field: str, subset: str | None, place: Place) -> Example:
    """Read an example of BIG-bench: an input, and the score of each answer."""
    scores = row.get("target_scores") if isinstance(row, Mapping) else None
    if not isinstance(scores, Mapping) or not isinstance(row.get("input"), str):
        problem = f"an 'input' and its 'target_scores' are needed, not {describe(row)}"
        raise place.error(problem, field, _REMEDY)
    labels = list(scores.values())
    return _pair(row["input"], list(scores), labels, f"{field}.target_scores", subset, place)


def _read_choices(row: dict[str, Any], subset: str | None, place: Place) -> Example:
    targets = row.get("targets")
    if not isinstance(targets, Mapping):
        problem = f"'choices' with their 'labels' are needed, not {describe(targets)}"
        raise place.error(problem, "targets", _REMEDY)
    choices = read_list(targets.get("choices"), "targets.choices", place, _REMEDY, "choice")
    labels = read_list(
        targets.get("labels"), "targets.labels", place, _REMEDY, "label", len(choices)
    )
    return _pair(text_of(row, "input", place), choices, labels, "targets", subset, place)


def _read_wrapped(row: dict[str, Any], place: Place) -> Example:
    """Read a pair whose sides are each wrapped in a prompt to a judge."""
    names = ("chosen_instruction", "rejected_instruction")
    sides = [_WRAPPED.search(text_of(row, name, place)) for name in names]
    for name, side in zip(names, sides, strict=True):
        if side is None:
            problem = "no instruction and response to evaluate are found in the text"
            raise place.error(problem, name, _REMEDY)
    prompts, responses = ([side[part] for side in sides if side] for part in (1, 2))
    if prompts[0] != prompts[1]:
        problem = "the two sides answer different instructions"
        raise place.error(problem, ", ".join(names), _REMEDY)
    subset = choice_of(row, "source", place, SUBSETS)
    return _pair(prompts[0], responses, [1, 0], names[0], subset, place)


def _pair(
    prompt: str,
    responses: list[Any],
    labels: list[Any],
    field: str,
    subset: str | None,
    place: Place,
) -> Example:
    """Make the example of two answers, one of which is labelled 1 and the other 0.

    The row is one of ``chosen`` and ``rejected``: the order of the published answers says nothing
    of the order in which anybody saw them.
    """
    numbers = [label for label in labels if not isinstance(label, bool) and label in (0, 1)]
    if len(responses) != 2 or sorted(numbers) != [0, 1]:
        problem = f"two answers are needed, one labelled 1 and one 0, not {labels!r:.60}"
        raise place.error(problem, field, _REMEDY)
    row: dict[str, Any] = {"prompt": _messages(prompt)}
    for side, label in (("chosen", 1), ("rejected", 0)):
        answer = responses[numbers.index(label)]
        if not isinstance(answer, str):
            raise place.error(f"text is needed, not {describe(answer)}", field, _REMEDY)
        row[side] = [{"role": "assistant", "content": answer}]
    if subset is not None:
        row["data_subset"] = subset
    return read_row(row, file=place.file, line=place.line)


def _messages(prompt: str) -> list[dict[str, str]]:
    """Read the turns of a prompt as chat messages; the first is the human's and has no mark."""
    first, *parts = _TURN.split(prompt)
    turns = [("Human", first), *zip(parts[::2], parts[1::2], strict=True)]
    return [{"role": _ROLES[who], "content": text} for who, text in turns if text.strip()]


def _names(path: Path) -> list[str]:
    """Return the words of a path that may say which part a file is: its folder and its name."""
    return [path.parent.name, *re.split(r"[^a-z]+", path.name.lower())]


def _subset_of(words: Sequence[str]) -> str | None:
    return next((word for word in words if word in SUBSETS), None)


SOURCE = Source(
    name="hhh_alignment",
    title="Helpful, Honest and Harmless alignment",
    licence="Apache 2.0",
    citation=(
        "Askell, Bai, Chen, Drain, Ganguli, Henighan, Jones, Joseph, Mann, DasSarma et al. (2021), "
        "A General Language Assistant as a Laboratory for Alignment, arXiv:2112.00861"
    ),
    published="https://github.com/google/BIG-bench, or https://huggingface.co/datasets/HuggingFaceH4/hhh_alignment",
    files=_FILES,
    holds=("comparisons",),
    gives=(
        "221 pairs of answers, with the better one by their authors; data_subset helpful, honest, "
        "harmless or other, where the file or its folder says so"
    ),
    read=_read,
)
