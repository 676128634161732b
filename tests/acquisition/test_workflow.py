"""From files to questions: what is written, what limits keep, and that it stays the same."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter

import pytest

from acquisition.votes import bare, config, one_a_vote, pair, table, write
from hidden_context.acquisition.workflow import choose, run
from hidden_context.errors import ConfigError, DataError


@pytest.fixture
def options(tmp_path):
    path = write(tmp_path / "votes.jsonl", table(40))
    pool = write(tmp_path / "pool.jsonl", [bare(number) for number in range(40, 50)])
    return config(path, tmp_path, pool=str(pool))


def test_questions_are_rows_in_the_order_of_their_worth(options, tmp_path):
    chosen = run(options)
    rows = [json.loads(line) for line in (tmp_path / "next.jsonl").read_text().splitlines()]
    assert [row["rank"] for row in rows] == list(range(1, 21))
    told = [row["expected_information"] for row in rows]
    assert told == sorted(told, reverse=True)
    assert min(told) > 0
    assert {row["annotator"] for row in rows} == {None}
    assert "cost" not in rows[0]
    known = {row["id"]: row for row in [*table(40), *(bare(n) for n in range(40, 50))]}
    for row in rows:
        source = known[row["item"]]
        assert sorted(row["responses"]) == sorted(source["responses"])
        assert row["prompt"] == source["prompt"]
        assert row["votes_so_far"] == len(source.get("judgements", []))
        assert row["group"] == source["topic"]
    assert (
        len({tuple(row["responses"]) == tuple(known[row["item"]]["responses"]) for row in rows})
        == 2
    )
    assert chosen.spent == 20
    assert not list(tmp_path.glob("*.partial*"))


def test_the_error_drops_by_what_the_votes_are_expected_to_tell(options):
    chosen = choose(options)
    total = chosen.total
    told = sum(each.expected_information for each in chosen.questions)
    assert total.items == 50
    assert (total.before - total.after) * 50 == pytest.approx(told)
    assert sum(each.chosen for each in chosen.groups) == total.chosen == 20
    assert sum(each.before * each.items for each in chosen.groups) == pytest.approx(
        total.before * 50
    )
    assert chosen.unjudged == 10


def test_items_without_votes_come_before_those_with_many(options):
    asked = Counter(q.votes_so_far for q in choose(options).questions)
    assert asked[0] + asked[1] > asked[4] + asked[5]


def test_the_same_again_and_another_order_of_sides_by_another_seed(options):
    one, two = choose(options), choose(options)
    assert one == two
    fixed = choose(dataclasses.replace(options, shuffle_sides=False))
    sources = {row["id"]: row["responses"] for row in [*table(40), *map(bare, range(40, 50))]}
    assert [list(q.responses) for q in fixed.questions] == [
        sources[q.item] for q in fixed.questions
    ]


def test_rows_one_a_vote_give_the_same_questions(options, tmp_path):
    rows = [row for each in table(40) for row in one_a_vote(each)]
    flat = dataclasses.replace(options, data_path=str(write(tmp_path / "flat.jsonl", rows)))
    one, two = choose(options), choose(flat)
    assert [q.item for q in one.questions] == [q.item for q in two.questions]
    assert [q.expected_information for q in two.questions] == pytest.approx(
        [q.expected_information for q in one.questions]
    )


def test_no_item_gets_more_votes_than_it_may_have(options):
    chosen = choose(dataclasses.replace(options, budget=500, max_votes=3))
    votes = Counter(q.item for q in chosen.questions)
    so_far = {row["id"]: len(row["judgements"]) for row in table(40)}
    assert all(votes[item] + so_far.get(item, 0) <= 3 for item in votes)
    assert len(chosen.questions) == sum(max(3 - n, 0) for n in so_far.values()) + 10 * 3


def test_no_error_is_left_once_the_planned_votes_are_in(options):
    planned = dataclasses.replace(options, budget=500, max_votes=5, target="planned")
    chosen = choose(planned)
    assert chosen.total.after == pytest.approx(0, abs=1e-12)
    assert chosen.total.before > 0.01


def test_one_group_gets_no_more_than_its_share(options):
    chosen = choose(dataclasses.replace(options, budget=20, diversity=0.35))
    assert max(each.chosen for each in chosen.groups) == 7
    assert chosen.total.chosen == 20


def test_annotators_are_asked_once_each_about_what_they_have_not_voted_on(options):
    chosen = choose(dataclasses.replace(options, budget=60, ask="known", max_questions=10))
    said = {row["id"]: {v["annotator"] for v in row["judgements"]} for row in table(40)}
    asked = [(q.item, q.annotator) for q in chosen.questions]
    assert len(set(asked)) == len(asked)
    assert all(who not in said.get(item, ()) for item, who in asked)
    assert max(Counter(who for _, who in asked).values()) == 10
    assert len(asked) == 50  # five annotators


def test_money_buys_votes_of_those_who_cost_less_first(options, tmp_path):
    known = [{"annotator": "p0", "pay": 2.0}, {"annotator": "x", "pay": 0.5}]
    who = str(write(tmp_path / "who.jsonl", known))
    chosen = choose(
        dataclasses.replace(
            options, annotators=who, cost_column="pay", budget=7.25, max_questions=9
        )
    )
    assert Counter(q.annotator for q in chosen.questions) == {"x": 9, "p0": 1}
    assert chosen.spent == 6.5
    assert chosen.questions[0].cost == 0.5


def test_a_cost_of_all_votes_divides_the_budget(options):
    assert len(choose(dataclasses.replace(options, cost=0.75, budget=4.5)).questions) == 6


def test_label_studio_gets_a_list_of_tasks(options, tmp_path):
    run(dataclasses.replace(options, format="label_studio", output=str(tmp_path / "n.json")))
    tasks = json.loads((tmp_path / "n.json").read_text())
    assert len(tasks) == 20
    assert set(tasks[0]) == {"data", "meta"}
    assert set(tasks[0]["data"]) == {"prompt", "response1", "response2", "item"}
    assert tasks[0]["meta"]["rank"] == 1
    assert tasks[0]["meta"]["item"] == tasks[0]["data"]["item"]


def test_label_studio_gets_the_text_of_a_rating(tmp_path):
    rows = [
        {"text": f"text {n}", "topic": "t", "ratings": [{"annotator": "a", "rating": n % 5}]}
        for n in range(20)
    ]
    path = write(tmp_path / "rated.jsonl", rows)
    run(config(path, tmp_path, budget=3, format="label_studio"))
    tasks = json.loads((tmp_path / "next.jsonl").read_text())
    assert [task["data"]["text"].startswith("text ") for task in tasks] == [True] * 3


def test_whether_items_are_contested_is_asked_where_it_is_in_doubt(tmp_path):
    sure = [pair(n, {f"p{k}": 1.0 for k in range(12)}) for n in range(10)]
    doubt = [pair(n, {f"p{k}": float(k % 3 == 0) for k in range(6)}) for n in range(10, 20)]
    path = write(tmp_path / "votes.jsonl", sure + doubt)
    chosen = choose(config(path, tmp_path, budget=10, aim="contested", max_votes=13))
    assert all(int(q.item[1:]) >= 10 for q in chosen.questions)
    assert chosen.total.after < chosen.total.before


def test_nothing_to_ask_is_said(options):
    with pytest.raises(DataError, match="no vote can be asked for"):
        choose(dataclasses.replace(options, pool=None, max_votes=1))
    with pytest.raises(DataError, match="--budget"):
        choose(dataclasses.replace(options, budget=1, cost=2.0))


def test_a_plan_below_what_there_is_is_refused(options):
    with pytest.raises(ConfigError, match=r"item i4 has 5 votes"):
        choose(dataclasses.replace(options, target="planned", max_votes=3))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"budget": 0}, "above 0"),
        ({"budget": 2.5}, "whole number"),
        ({"diversity": 0.0}, r"\(0, 1\]"),
        ({"cost": 0.0}, "above 0"),
        ({"target": "planned"}, "--max_votes"),
        ({"target": "planned", "max_votes": 5, "aim": "contested"}, "everybody"),
        ({"format": "csv"}, "jsonl or label_studio"),
    ],
)
def test_options_that_cannot_work_are_refused(options, change, words):
    with pytest.raises(ConfigError, match=words):
        dataclasses.replace(options, **change)


def test_the_command_line_prints_what_votes_are_expected_to_tell(options, tmp_path, capsys):
    from hidden_context.cli.main import main

    output = tmp_path / "asked.jsonl"
    arguments = [options.data_path, "--budget", "6", "--split_by", "topic", "--quiet"]
    assert main(["next", *arguments, "--output", str(output)]) == 0
    printed = capsys.readouterr().out
    assert "6 votes on " in printed
    assert "of 40 items (0 without a vote), 6 of a budget of 6" in printed
    assert "before" in printed
    assert len(output.read_text().splitlines()) == 6
    assert main(["next", str(tmp_path / "none.jsonl"), "--budget", "6"]) == 2
    assert "none.jsonl does not exist" in capsys.readouterr().err


def test_an_embedding_model_gives_the_features(options, backbones):
    embedded = choose(dataclasses.replace(options, embed=str(backbones("bert")), budget=5))
    assert len(embedded.questions) == 5
    words = choose(dataclasses.replace(options, budget=5))
    assert embedded.total.before != pytest.approx(words.total.before, rel=1e-6)
