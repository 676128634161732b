"""Judges that were asked several times: set apart from people, and compared with them."""

import numpy as np
import pytest

from check.people import JUDGE, checked, judged, pair
from hidden_context.check.judges import NO_PEOPLE
from hidden_context.check.tables import print_found
from hidden_context.cli.main import main
from hidden_context.data.importers import read_row
from hidden_context.data.votes.judges import judges_of
from hidden_context.errors import DataError
from hidden_context.report.html.page import render_people_page
from support.paper_layout import write_rows

ALIKE = {f"p{n}": 1.0 for n in range(4)}


def always_first(number):
    """A pair that four people judged alike, and a judge that takes what it is shown first."""
    return judged(pair(number, ALIKE), [([0, 1], 0.9), ([1, 0], 0.2)])


def test_a_judge_is_no_person_and_page_and_terminal_name_it(tmp_path, capsys):
    found = checked(tmp_path / "j.jsonl", [always_first(n) for n in range(12)])
    alone = checked(tmp_path / "p.jsonl", [pair(n, ALIKE) for n in range(12)])
    assert found.observed == alone.observed
    (judge,) = found.judges
    assert (judge.name, judge.answers, judge.abstentions) == (JUDGE, 24, 0)
    assert judge.alone.other_order.estimate == judge.alone.leaning.estimate == 1.0
    assert (judge.people.items, judge.people.differ.estimate) == (12, 0.5)
    assert judge.people.settled.estimate == 0.0  # .55 on average is for the first
    assert judge.people.noise.estimate == 0.5  # half of its two answers differ: ½ · ½ of ½
    assert judge.people.lasting.estimate == pytest.approx(0.5)
    assert "changes its answer on 100 %" in judge.sentence
    assert "50 % (50 to 50 %) of its disagreement with people is its own noise" in judge.sentence
    page, without = (render_people_page(each.to_dict()) for each in (found, alone))
    assert 'id="judges"' in page
    assert JUDGE in page
    assert 'id="judges"' not in without
    print_found(found, tmp_path / "check.html")
    assert "Language models as judges" in capsys.readouterr().out


def the_judge(*rows):
    return judges_of([read_row(row) for row in rows])[0]


def test_the_same_from_one_row_a_vote_and_from_responses_the_other_way_round():
    """Where each vote is a row, relabelling repeats the judge's answers in each."""
    nested, flat, turned = [], [], []
    for number in range(8):
        votes = {"ann": 1.0, "bob": float(number % 2)}
        answers = [([0, 1], 0.7), ([1, 0], 0.4 if number % 3 else 0.8)]
        row = pair(number, votes)
        nested.append(judged(row, answers))
        flat += [judged(pair(number, {who: share}), answers) for who, share in votes.items()]
        opposite = {who: 1 - share for who, share in votes.items()}
        other = pair(number, opposite, responses=row["responses"][::-1])
        turned.append(judged(other, [(shown[::-1], 1 - share) for shown, share in answers]))
    found = the_judge(*nested)
    assert found.answers.sum() == 16
    for again in (the_judge(*flat), the_judge(*turned)):
        np.testing.assert_array_equal(found.answers, again.answers)
        np.testing.assert_array_equal(found.people, again.people)


def test_inspect_tells_judges_from_people(tmp_path, capsys):
    shown = []
    for row in (always_first, lambda number: pair(number, ALIKE)):
        rows = write_rows(tmp_path / "rows.jsonl", map(row, range(6)))
        assert main(["data", "inspect", rows]) == 0
        shown.append(capsys.readouterr().out)
    assert "judgements by language models: 6;" in shown[0]
    lines, people = (
        [line for line in text.splitlines() if "split" in line or "differ" in line]
        for text in shown
    )
    assert lines
    assert lines == people


def test_abstentions_and_judges_alone(tmp_path):
    rows = [judged(pair(n, {}), [([0, 1], 1.0), ([1, 0], None)]) for n in range(6)]
    found = checked(tmp_path / "j.jsonl", rows)
    (judge,) = found.judges
    assert (judge.answers, judge.abstentions, judge.people) == (6, 6, None)
    assert NO_PEOPLE in found.missing
    silent = [judged(pair(n, {"a": 1.0, "b": 1.0}), [([0, 1], None)]) for n in range(3)]
    (judge,) = checked(tmp_path / "s.jsonl", silent).judges
    assert judge.sentence == f"{JUDGE} gave 3 abstentions and no answer."


@pytest.mark.parametrize(
    ("answers", "field"),
    [
        ([{"shown": [0, 1]}], r"answers\[0\].preference"),
        ([{"shown": [0, 2], "preference": 1}], r"answers\[0\].shown"),
        ([{"shown": [0, 0], "preference": 1}], r"answers\[0\].shown"),
        ([{"shown": [0, 1], "preference": 2}], r"answers\[0\].preference"),
        (["A"], r"answers\[0\]"),
        ("A", "answers"),
    ],
)
def test_malformed_answers_are_named(answers, field):
    row = judged(pair(0, {"a": 1.0}), [([0, 1], 1.0)])
    row["judgements"][-1]["answers"] = answers
    with pytest.raises(DataError, match=field) as refused:
        judges_of([read_row(row, line=1)])
    assert refused.value.line == 1
