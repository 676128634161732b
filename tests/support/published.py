"""A row of each public data set as published, one for each kind of its files."""

import copy
import functools
import json
import operator
import re
from pathlib import Path

from hidden_context.data.annotators import read_annotators
from hidden_context.data.collections.personalllm import MODELS
from hidden_context.data.example import Abstention, Comparison, Judgement, Ranking

_FILE = json.loads(Path(__file__).with_name("published_rows.json").read_text(encoding="utf-8"))
ROWS, BESIDE = _FILE["alone"], _FILE["beside"]
"""Rows of files that hold judgements, and rows of the files beside them."""

ROWS["personalllm"] |= {f"response_{n}_{m}": float(n) for n in range(1, 9) for m in MODELS}
ROWS["community_alignment"] = {
    f"{turn}_turn_{name.removeprefix('first_turn_')}": None
    for turn in ("first", "second", "third", "fourth")
    for name in ROWS["community_alignment"]
    if name.startswith("first_turn_")
} | ROWS["community_alignment"]

CHAT, OTHER = (ROWS["mt_bench_human"][f"conversation_{side}"] for side in "ab")


def by(**said):
    """Judgements by their annotators' names.

    A number is a preference for the first of two responses, a tuple holds ranks, None abstains.
    """
    forms = {float: lambda share: Comparison(0, 1, share), tuple: Ranking}
    answers = {who: forms.get(type(one), lambda one: one)(one) for who, one in said.items()}
    return tuple(Judgement(answers[who] or Abstention(), who) for who in said)


def told(who, *answers, **columns):
    """Judgements by one person."""
    return tuple(Judgement(answer, who, **columns) for answer in answers)


def row(kind, **columns):
    """A row of a kind with other columns."""
    return {**copy.deepcopy((ROWS | BESIDE)[kind]), **columns}


def passed(kind, *names):
    """The columns of a row of a kind that pass through."""
    return {name: ROWS[kind][name] for name in names}


def _steps(path):
    """The steps of a path such as ``votes[0].value``."""
    return [int(n) if n else name for name, n in re.findall(r"([^.\[\]]+)|\[(\d+)\]", path)]


def value_at(kind, path):
    """The value of a row of a kind at a path."""
    return functools.reduce(operator.getitem, _steps(path), ROWS[kind])


def replaced(kind, path, value):
    """A row of a kind with another value at a path."""
    changed, (*steps, last) = row(kind), _steps(path)
    functools.reduce(operator.getitem, steps, changed)[last] = value
    return changed


def people_of(report):
    """The table of annotators that an import wrote."""
    return read_annotators(report.table)
