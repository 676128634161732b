"""Votes of 3,815 people on pairs of arguments: counts, the floor, and what length alone finds."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path

import numpy as np
import pytest

from hidden_context.statistics.contested_measures import compare_measures
from hidden_context.statistics.vote_losses import entropy_floor
from hidden_context.statistics.votes import VoteTable

pytestmark = pytest.mark.real_data

SHARES = {"a1": 1.0, "equal": 0.5, "a2": 0.0}


@pytest.fixture(scope="module")
def pairs():
    folder = os.environ.get("HIDDEN_CONTEXT_DATA")
    path = Path(folder or "", "people", "ukpconvarg1.jsonl.gz")
    if not folder or not path.is_file():
        pytest.skip("HIDDEN_CONTEXT_DATA has no people/ukpconvarg1.jsonl.gz")
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


@pytest.fixture(scope="module")
def table(pairs):
    votes = [(number, vote) for number, pair in enumerate(pairs) for vote in pair["votes"]]
    names = {name: code for code, name in enumerate(sorted({v["annotator"] for _, v in votes}))}
    return VoteTable.of(
        [number for number, _ in votes],
        [names[vote["annotator"]] for _, vote in votes],
        [SHARES[vote["value"]] for _, vote in votes],
    )


def test_counts_and_floor(table):
    assert (table.items, len(table), table.annotators) == (16_927, 84_445, 3_815)
    assert (table.share == 0.5).sum() == 19_105
    counts = table.counts
    assert int(counts.unanimous.sum() + counts.equal_only.sum()) == 16_927 - 13_598
    two, three = (np.average(each, weights=counts.votes) for each in entropy_floor(counts))
    assert two == pytest.approx(0.457, abs=0.005)
    assert three == pytest.approx(0.599, abs=0.002)


def test_length_finds_some_contested_pairs_and_tells_conflict_from_indifference(pairs, table):
    length = np.array([abs(len(p["argument1"]) - len(p["argument2"])) for p in pairs], dtype=float)
    group = np.unique([pair["topic"] for pair in pairs], return_inverse=True)[1]
    assert group.max() == 15
    counts = table.counts
    (found,) = compare_measures({"length": -length}, counts.contested, group)
    assert 0.54 < found.auroc.low < found.auroc.estimate < found.auroc.high < 0.63
    either = counts.conflict | counts.indifference
    (apart,) = compare_measures({"length": length[either]}, counts.conflict[either], group[either])
    assert apart.auroc.estimate == pytest.approx(0.716, abs=0.01)
