"""From files to questions: what is written, what limits keep, and that it stays the same."""

import dataclasses
import json
from collections import Counter

import pytest

from acquisition.votes import bare, config, pair, table
from check.people import rated
from hidden_context.acquisition.workflow import choose, run
from hidden_context.cli.main import main
from hidden_context.errors import ConfigError, DataError
from support.paper_layout import read_rows, write_rows

ROWS, POOL = table(40), [bare(number) for number in range(40, 50)]
SOURCES = {row["id"]: row for row in [*ROWS, *POOL]}
SAID = {row["id"]: {said["annotator"] for said in row["judgements"]} for row in ROWS}


@pytest.fixture
def options(tmp_path):
    return config(tmp_path, ROWS, POOL)


def test_questions_are_rows_in_the_order_of_their_worth(options, tmp_path):
    chosen = run(options)
    rows = read_rows(tmp_path / "next.jsonl")
    assert [row["rank"] for row in rows] == list(range(1, 21))
    told = [row["expected_information"] for row in rows]
    assert told == sorted(told, reverse=True)
    assert min(told) > 0
    turned = set()
    for row in rows:
        source = SOURCES[row["item"]]
        assert sorted(row["responses"]) == sorted(source["responses"])
        turned.add(row["responses"] == source["responses"])
        assert (row["prompt"], row["group"]) == (source["prompt"], source["topic"])
        assert row["votes_so_far"] == len(source.get("judgements", []))
        assert row["annotator"] is None
        assert "cost" not in row
    assert turned == {True, False}
    assert not list(tmp_path.glob("*.partial*"))
    # the error drops by what the votes are expected to tell
    total = chosen.total
    assert (chosen.spent, chosen.unjudged, total.items) == (20, 10, 50)
    assert (total.before - total.after) * 50 == pytest.approx(sum(told))
    assert sum(each.chosen for each in chosen.groups) == total.chosen == 20
    before = sum(each.before * each.items for each in chosen.groups)
    assert before == pytest.approx(total.before * 50)
    # items without votes come before those with many
    asked = Counter(q.votes_so_far for q in chosen.questions)
    assert asked[0] + asked[1] > asked[4] + asked[5]


def test_the_same_again_from_rows_one_a_vote_and_with_sides_in_order(options, tmp_path):
    rows = [{**row, "judgements": [said]} for row in ROWS for said in row["judgements"]]
    flat = dataclasses.replace(options, data_path=write_rows(tmp_path / "flat.jsonl", rows))
    one, two = (choose(dataclasses.replace(each, ask="known")) for each in (options, flat))
    assert one == choose(dataclasses.replace(options, ask="known"))
    asked = [[(q.item, q.annotator) for q in found.questions] for found in (one, two)]
    assert asked[0] == asked[1]
    told = [q.expected_information for q in two.questions]
    assert told == pytest.approx([q.expected_information for q in one.questions])
    for question in choose(dataclasses.replace(options, shuffle_sides=False)).questions:
        assert list(question.responses) == SOURCES[question.item]["responses"]


def test_limits_of_items_groups_and_budgets_are_kept(options):
    def chosen(**changes):
        return choose(dataclasses.replace(options, **changes))

    few = chosen(budget=500, max_votes=3)
    votes = Counter(q.item for q in few.questions)
    assert all(votes[item] + len(SAID.get(item, ())) <= 3 for item in votes)
    assert len(few.questions) == sum(max(3 - len(said), 0) for said in SAID.values()) + 10 * 3
    planned = chosen(budget=500, max_votes=5, target="planned")
    assert planned.total.after == pytest.approx(0, abs=1e-12)
    assert planned.total.before > 0.01
    diverse = chosen(diversity=0.35)
    assert (max(each.chosen for each in diverse.groups), diverse.total.chosen) == (7, 20)
    assert len(chosen(cost=0.75, budget=4.5).questions) == 6


def test_annotators_are_asked_once_each_and_the_cheapest_first(options, tmp_path):
    chosen = choose(dataclasses.replace(options, budget=60, ask="known", max_questions=10))
    asked = [(q.item, q.annotator) for q in chosen.questions]
    assert len(set(asked)) == len(asked) == 50  # five annotators
    assert all(who not in SAID.get(item, ()) for item, who in asked)
    assert max(Counter(who for _, who in asked).values()) == 10
    known = [{"annotator": "p0", "pay": 2.0}, {"annotator": "x", "pay": 0.5}]
    who = write_rows(tmp_path / "who.jsonl", known)
    changes = {"annotators": who, "cost_column": "pay", "budget": 7.25, "max_questions": 9}
    chosen = choose(dataclasses.replace(options, **changes))
    assert Counter(q.annotator for q in chosen.questions) == {"x": 9, "p0": 1}
    assert (chosen.spent, chosen.questions[0].cost) == (6.5, 0.5)


@pytest.mark.parametrize("kind", ["pairs", "ratings"])
def test_label_studio_gets_a_list_of_tasks(tmp_path, kind):
    rows = ROWS
    if kind == "ratings":
        rows = [rated(n, {"a": n % 5}, topic="t") for n in range(20)]
    run(config(tmp_path, rows, budget=3, format="label_studio"))
    tasks = json.loads((tmp_path / "next.jsonl").read_text())
    assert [task["meta"]["rank"] for task in tasks] == [1, 2, 3]
    texts = {"response1", "response2"} if kind == "pairs" else {"text"}
    for task in tasks:
        assert set(task) == {"data", "meta"}
        assert set(task["data"]) == {"prompt", "item", *texts}
        assert task["meta"]["item"] == task["data"]["item"]


def test_whether_items_are_contested_is_asked_where_it_is_in_doubt(tmp_path):
    sure = [pair(n, {f"p{k}": 1.0 for k in range(12)}) for n in range(10)]
    doubt = [pair(n, {f"p{k}": float(k % 3 == 0) for k in range(6)}) for n in range(10, 20)]
    chosen = choose(config(tmp_path, sure + doubt, budget=10, aim="contested", max_votes=13))
    assert all(int(q.item[1:]) >= 10 for q in chosen.questions)
    assert chosen.total.after < chosen.total.before


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"pool": None, "max_votes": 1}, DataError, "no vote can be asked for"),
        ({"budget": 1, "cost": 2.0}, DataError, "--budget"),
        ({"target": "planned", "max_votes": 3}, ConfigError, "item i4 has 5 votes"),
        ({"budget": 0}, ConfigError, "must be positive"),
        ({"budget": 2.5}, ConfigError, "whole number"),
        ({"diversity": 0.0}, ConfigError, r"\(0, 1\]"),
        ({"cost": 0.0}, ConfigError, "must be positive"),
        ({"target": "planned"}, ConfigError, "--max_votes"),
        ({"target": "planned", "max_votes": 5, "aim": "contested"}, ConfigError, "everybody"),
        ({"format": "csv"}, ConfigError, "jsonl or label_studio"),
        ({"ask": "listed"}, ConfigError, "--annotators"),
        ({"cost_column": "pay"}, ConfigError, "--annotators"),
        ({"annotators": "x", "cost_column": "pay", "cost": 1.0}, ConfigError, "give one"),
        ({"max_questions": 2}, ConfigError, "--ask known"),
    ],
)
def test_options_that_cannot_work_are_refused(options, change, error, words):
    with pytest.raises(error, match=words):
        choose(dataclasses.replace(options, **change))


def test_the_command_line_prints_what_votes_are_expected_to_tell(options, tmp_path, capsys):
    output = tmp_path / "asked.jsonl"
    arguments = [options.data_path, "--budget", "6", "--split_by", "topic", "--quiet"]
    assert main(["next", *arguments, "--output", str(output)]) == 0
    printed = capsys.readouterr().out
    assert "of 40 items (0 without a vote), 6 of a budget of 6" in printed
    assert "before" in printed
    assert len(read_rows(output)) == 6


def test_an_embedding_model_gives_the_features(options, backbones):
    embedded = choose(dataclasses.replace(options, embed=str(backbones("bert")), budget=5))
    assert len(embedded.questions) == 5
    words = choose(dataclasses.replace(options, budget=5))
    assert embedded.total.before != pytest.approx(words.total.before, rel=1e-6)
