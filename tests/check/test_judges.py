"""Judges that were asked several times: set apart from people, and compared with them."""

import numpy as np
import pytest

from check.people import pair, write
from hidden_context.check import CheckConfig, check
from hidden_context.check.judges import NO_PEOPLE
from hidden_context.check.tables import print_found
from hidden_context.cli.main import main
from hidden_context.data.judges import judges_of
from hidden_context.data.sources import load_examples
from hidden_context.errors import DataError
from hidden_context.report.people_page import render_people_page

JUDGE = {"model": "m", "objective": "helpful", "prompt": "12345678"}


def judged(row, answers, name="m/helpful/12345678", **more):
    """Add a judge's entry: ``answers`` holds what is shown and the preference for response 0."""
    said = [
        {"shown": shown, "vote": n // 2, "preference": share}
        if share is not None
        else {"shown": shown, "vote": n // 2, "abstains": True, "text": "No.", "reason": "refusal"}
        for n, (shown, share) in enumerate(answers)
    ]
    shares = [share for _, share in answers if share is not None]
    settled = {"comparison": [0, 1], "preference": sum(shares) / len(shares)} if shares else {}
    entry = {"annotator": name, "judge": JUDGE, "answers": said, **settled, **more}
    if not shares:
        entry["abstains"] = True
    return {**row, "judgements": [*row["judgements"], entry]}


def always_first(number):
    """A pair that four people judged alike, and a judge that takes what it is shown first."""
    row = pair(number, {f"p{n}": 1.0 for n in range(4)})
    return judged(row, [([0, 1], 0.9), ([1, 0], 0.2)])


def found_of(path, rows, **options):
    return check(CheckConfig(data_path=str(write(path, rows)), predict=False, **options))


def test_a_judge_is_no_person(tmp_path):
    rows = [always_first(n) for n in range(12)]
    found = found_of(tmp_path / "j.jsonl", rows)
    alone = found_of(
        tmp_path / "p.jsonl", [pair(n, {f"p{k}": 1.0 for k in range(4)}) for n in range(12)]
    )
    assert found.observed == alone.observed
    (judge,) = found.judges
    assert (judge.name, judge.answers, judge.abstentions) == ("m/helpful/12345678", 24, 0)
    assert judge.alone.other_order.estimate == 1.0
    assert judge.alone.leaning.estimate == 1.0
    assert judge.people.items == 12
    assert judge.people.differ.estimate == 0.5
    assert judge.people.settled.estimate == 0.0  # .55 on average is for the first
    assert judge.people.noise.estimate == 0.5  # half of its two answers differ: ½ · ½ of ½
    assert judge.people.lasting.estimate == pytest.approx(0.5)
    assert "answers otherwise on 100 %" in judge.sentence
    assert "50 % (50 to 50 %) of its disagreement with people is its own noise" in judge.sentence


def test_page_and_terminal_name_the_judge(tmp_path, capsys):
    found = found_of(tmp_path / "j.jsonl", [always_first(n) for n in range(12)])
    page = render_people_page(found.to_dict())
    assert 'id="judges"' in page
    assert "m/helpful/12345678" in page
    print_found(found, tmp_path / "check.html")
    shown = capsys.readouterr().out
    assert "Language models as judges" in shown
    without = found_of(tmp_path / "p.jsonl", [pair(n, {"a": 1.0, "b": 0.0}) for n in range(6)])
    assert without.judges == []
    assert 'id="judges"' not in render_people_page(without.to_dict())


def test_the_same_from_nested_rows_and_one_row_a_vote(tmp_path):
    """Where each vote is a row, relabelling repeats the judge's answers in each."""
    nested, flat = [], []
    for number in range(8):
        votes = {"ann": 1.0, "bob": float(number % 2)}
        answers = [([0, 1], 0.7), ([1, 0], 0.4 if number % 3 else 0.8)]
        nested.append(judged(pair(number, votes), answers))
        flat += [judged(pair(number, {who: share}), answers) for who, share in votes.items()]
    one, other = (
        judges_of(load_examples(write(tmp_path / f"{name}.jsonl", rows)).examples)[0]
        for name, rows in (("nested", nested), ("flat", flat))
    )
    assert one.answers.sum() == 16
    assert np.array_equal(one.answers, other.answers)
    assert np.array_equal(one.people, other.people)


def test_orders_follow_the_texts(tmp_path):
    """Rows that name the responses the other way round say the same."""
    row = pair(1, {"ann": 1.0, "bob": 0.0})
    turned = dict(row, responses=row["responses"][::-1])
    turned["judgements"] = [
        {"annotator": "ann", "comparison": [0, 1], "preference": 0.0},
        {"annotator": "bob", "comparison": [0, 1], "preference": 1.0},
    ]
    one = judged(row, [([0, 1], 1.0), ([1, 0], 0.0)])
    other = judged(turned, [([1, 0], 0.0), ([0, 1], 1.0)])
    found = [
        judges_of(load_examples(write(tmp_path / f"{n}.jsonl", [each])).examples)[0]
        for n, each in enumerate((one, other))
    ]
    assert np.array_equal(found[0].answers, found[1].answers)
    assert np.array_equal(found[0].people, found[1].people)


def test_inspect_tells_judges_from_people(tmp_path, capsys):
    rows = [always_first(n) for n in range(6)]
    assert main(["data", "inspect", str(write(tmp_path / "j.jsonl", rows))]) == 0
    shown = capsys.readouterr().out
    assert "judgements by language models: 6;" in shown
    bare = [pair(n, {f"p{k}": 1.0 for k in range(4)}) for n in range(6)]
    assert main(["data", "inspect", str(write(tmp_path / "p.jsonl", bare))]) == 0
    people = capsys.readouterr().out
    lines = [line for line in shown.splitlines() if "split" in line or "differ" in line]
    assert lines
    assert lines == [line for line in people.splitlines() if "split" in line or "differ" in line]


def test_abstentions_and_judges_alone(tmp_path):
    bare = pair(0, {})
    rows = [judged(dict(bare, prompt=f"q{n}"), [([0, 1], 1.0), ([1, 0], None)]) for n in range(6)]
    found = found_of(tmp_path / "j.jsonl", rows)
    (judge,) = found.judges
    assert (judge.answers, judge.abstentions) == (6, 6)
    assert judge.people is None
    assert NO_PEOPLE in found.missing
    silent = [judged(pair(n, {"a": 1.0, "b": 1.0}), [([0, 1], None)]) for n in range(3)]
    (judge,) = found_of(tmp_path / "s.jsonl", silent).judges
    assert judge.sentence == "m/helpful/12345678 gave 3 abstentions and no answer."


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
def test_malformed_answers_are_named(tmp_path, answers, field):
    row = judged(pair(0, {"a": 1.0}), [([0, 1], 1.0)])
    row["judgements"][-1]["answers"] = answers
    with pytest.raises(DataError, match=field) as refused:
        judges_of(load_examples(write(tmp_path / "bad.jsonl", [row])).examples)
    assert refused.value.line == 1
