"""The published files of five sources: counts as their papers give them."""

import json
from collections import Counter

import pytest

from hidden_context.data.collections import find_source
from hidden_context.data.collections.save import save_source
from hidden_context.data.example import Comparison, Judgement
from hidden_context.data.importers import read_row
from hidden_context.data.storage.rows import iter_rows, require_row
from support.published import people_of

pytestmark = pytest.mark.real_data


@pytest.fixture
def published(real_data, tmp_path):
    """Imports the published files of a source, and returns examples, answers and the report."""

    def run(name, pattern):
        copies = []
        for path in sorted((real_data / "people").glob(pattern)):
            copies.append(tmp_path / path.name)
            copies[-1].write_bytes(path.read_bytes())
        report = save_source(find_source(name), copies, tmp_path / "out.jsonl")
        examples = [read_row(require_row(row)) for _, row in iter_rows(report.output)]
        return examples, [[said.answer for said in e.judgements] for e in examples], report

    return run


def test_ukpconvarg(published):
    examples, answers, report = published("ukpconvarg", "ukpconvarg1.jsonl.gz")
    assert (len(examples), len(report.annotators)) == (16_927, 3_815)
    assert Counter(map(len, answers)) == {5: 16_927 - 190, 4: 190}
    votes = [[vote.preference for vote in given] for given in answers]
    assert sum(given.count(0.5) for given in votes) == 19_105
    assert sum(len(set(given)) > 1 for given in votes) == 13_598
    assert len({example.columns["topic"] for example in examples}) == 16
    assert len({example.prompt_key for example in examples}) == 32


def test_lamp(published):
    examples, answers, report = published("lamp", "lamp_rankings.jsonl.gz")
    assert (len(examples), report.judgements, len(report.annotators)) == (205, 603, 13)
    assert Counter(map(len, answers)) == {3: 197, 2: 4, 1: 4}
    assert len({example.columns["instruction"] for example in examples}) == 200
    assert all(sorted(one.ranks) == [1, 2, 3] for given in answers for one in given)


def test_hhh_alignment(published):
    examples, _, report = published("hhh_alignment", "hhh_alignment_eval.json.gz")
    assert len(examples) == report.judgements == 221
    subsets = {"honest": 61, "helpful": 59, "harmless": 58, "other": 43}
    assert Counter(example.data_subset for example in examples) == subsets
    assert all(example.judgements == (Judgement(Comparison(0, 1)),) for example in examples)
    assert Counter(len(example.prompt) for example in examples) == {1: 180, 3: 40, 5: 1}
    assert len({example.prompt_key for example in examples}) == 102
    assert not any("###" in json.dumps(example.columns) for example in examples)


def test_dices(published):
    examples, answers, report = published("dices", "dices_350.jsonl.gz")
    assert (len(examples), len(report.annotators)) == (350, 123)
    assert {len(given) for given in answers} == {123}
    values = Counter(getattr(one, "value", None) for given in answers for one in given)
    assert values == {0.0: 26_292, 1.0: 14_064, None: 2_694}
    assert all(example.prompt[0]["role"] == "user" for example in examples)


def test_pluriharms(published):
    examples, _, report = published("pluriharms", "pluriharms_*.csv.gz")
    assert (len(examples), len(report.annotators), report.described) == (150, 100, 100)
    assert (report.judgements, report.abstentions) == (150 * 100 - 275, 275)
    people = people_of(report)
    assert all(isinstance(values["Factor_3"], float) for values in people.values())
    assert len({values["Age"] for values in people.values()}) == 6
