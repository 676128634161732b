"""A file through an endpoint: the right judgement or an abstention for every pair."""

from __future__ import annotations

import pytest

from hidden_context.data.importers import read_row
from hidden_context.data.sources import load_examples
from hidden_context.data.storage.files import iter_jsonl
from hidden_context.data.votes.judges import judges_of
from hidden_context.errors import DataError
from hidden_context.relabel.questions import BUILT_IN, Objective
from relabel.fake_endpoint import (
    ABSTENTIONS,
    Asked,
    Response,
    better,
    numbered_rows,
    quality,
    says,
    troubled,
)
from support.rows import assistant, user

HELPFUL = Objective("helpful", BUILT_IN["helpful"])
HARMLESS = Objective("harmless", BUILT_IN["harmless"])
NAME = f"m/helpful/{HELPFUL.digest[:8]}"


def test_every_pair_ends_with_the_right_judgement_or_an_abstention(serve, relabel):
    rows = numbered_rows(60)
    endpoint = serve(troubled)
    result, written = relabel(rows, endpoint, objectives=["helpful", "harmless"], concurrency=16)
    assert endpoint.most > 1
    kinds = set()
    for row, before in zip(written, rows, strict=True):
        own, *entries = row.pop("annotations")
        assert row == before
        assert own == {"preference": 1.0}
        assert [entry["annotator"] for entry in entries] == [
            NAME,
            f"m/harmless/{HARMLESS.digest[:8]}",
        ]
        for entry, objective in zip(entries, (HELPFUL, HARMLESS), strict=True):
            kinds |= check(entry, before, objective)
    assert kinds == {None, "unparseable", "refusal", "filter"}
    assert result.judged + result.abstained == 120
    assert result.asked == 240
    assert len(set(endpoint.asked)) == 240
    assert len(endpoint.answered) == len(set(endpoint.answered))


def check(entry, row, objective):
    """Compare an entry with what the endpoint is known to say; return the reasons in it."""
    texts = {0: row["chosen"].strip(), 1: row["rejected"].strip()}
    dialogue = row["prompt"].strip().removesuffix("Assistant:").strip()
    larger = quality(texts[0]) > quality(texts[1])
    right = float(larger if objective is HELPFUL else not larger)
    expected, reasons = [], set()
    for shown in ((0, 1), (1, 0)):
        text = objective.question(dialogue, *(texts[place] for place in shown))
        said, reason = ABSTENTIONS.get(Asked(text).number % 10, ("", None))
        reasons.add(reason)
        answer = {"preference": right}
        if reason is not None:
            answer = {"abstains": True, "text": said, "reason": reason}
        expected.append({"shown": list(shown), "vote": 0, **answer})
    assert entry["answers"] == expected
    assert entry["judge"] == {"model": "m", "objective": objective.name, "prompt": objective.digest}
    count = sum("preference" in answer for answer in expected)
    assert entry.get("preference") == (right if count == 2 else None)
    assert entry.get("abstains", False) is (count < 2)
    assert entry.get("one_order", False) is (count == 1)
    return reasons


def test_the_rows_are_read_as_people_s_votes_and_a_judge_s(serve, relabel):
    rows = [{**row, "annotator": "ann"} for row in numbered_rows(12)]
    relabel(rows, serve(lambda asked: says(better(asked))))
    examples = load_examples("out.jsonl").examples
    assert [str(one.annotator) for one in examples[0].judgements] == ["ann", NAME]
    assert [one.judgements[1].answer.preference for one in examples] == [0.0, 1.0] * 6
    (judge,) = judges_of(examples)
    assert judge.name == NAME
    assert judge.answers.sum((0, 2)).tolist() == [12, 12]  # in both orders
    assert judge.people.sum() == 12


def test_log_probabilities_are_averaged_over_orders(serve, relabel):
    top = {"A": 0.6, " A": 0.1, "B": 0.2, "The": 0.1}
    result, (row,) = relabel(numbered_rows(1), serve(lambda asked: says("A", top=top)))
    entry = row["annotations"][1]
    assert [one["preference"] for one in entry["answers"]] == pytest.approx([7 / 9, 2 / 9])
    assert entry["preference"] == pytest.approx(0.5)
    assert result.judged == 1


def test_votes_are_averaged_within_each_order_first(serve, relabel):
    """Three votes in one order, one of them an abstention, and three in the other."""
    said = {(0, 0): "A", (0, 1): "?", (0, 2): "B", (1, 0): "B", (1, 1): "B", (1, 2): "A"}

    def respond(asked: Asked) -> Response:
        swapped = quality(asked.reply("A")) == 1
        return says(said[swapped, asked.attempt])

    endpoint = serve(respond)
    result, (row,) = relabel(numbered_rows(1), endpoint, votes=3, concurrency=1, temperature=0.7)
    entry = row["annotations"][1]
    assert [one.get("preference") for one in entry["answers"]] == [1, None, 0, 1, 1, 0]
    assert entry["preference"] == pytest.approx((1 / 2 + 2 / 3) / 2)
    assert [one["vote"] for one in entry["answers"]] == [0, 1, 2] * 2
    assert {asked.body["temperature"] for asked in endpoint.requests} == {0.7}
    assert result.reasons == {"unparseable": 1}


def test_one_order_alone_is_a_judgement_only_where_it_was_asked_for(serve, relabel):
    _, (row,) = relabel(numbered_rows(1), serve(lambda asked: says("A")), orders="first")
    entry = row["annotations"][1]
    assert (entry["preference"], entry["one_order"]) == (1.0, True)
    assert [one["shown"] for one in entry["answers"]] == [[0, 1]]


RANKED = {
    "prompt": "Which number?",
    "responses": ["number 5", "number 9", "number 7"],
    "ranks": [3, 1, 2],
    "ratings": [1, None, 4],
    "annotator": "ann",
    "weight": 2.0,
}
SAID = [{"annotator": "ann", "preference": 0.0, "note": "x"}, {"annotator": 7, "strength": 2}]
BOB = {"annotator": "bob", "comparison": [1, 0]}
LISTS = {"prompt": "p", "chosen": ["number 4", "number 5"], "rejected": ["number 1"]}
RESPONSES = {"prompt": "p", "responses": ["number 4", "number 1"]}
RANKINGS = [{"annotator": "ann", "ranks": [1, 2]}, {"annotator": "bob"}]
BENCH = {"question": "q", "response_A": "number 1", "response_B": "number 2", "label": "B>A"}
BLANK = {"prompt": "p", "responses": ["number 2", "  ", "number 5"], "ranks": [2, 3, 1]}
WHOLE = {"preference": 1.0, "weight": 1.0}


@pytest.mark.parametrize(
    ("row", "people", "judged"),
    [
        (
            RANKED,
            [
                {"annotator": "ann", "ranks": [3, 1, 2]},
                {"response": 0, "rating": 1},
                {"response": 2, "rating": 4},
            ],
            {(0, 1): 0.0, (0, 2): 0.0, (1, 2): 1.0},
        ),
        # entries are added to what several annotators said
        ({**numbered_rows(1)[0], "annotations": SAID, "preference": 0.5}, SAID, {None: 0.0}),
        ({**RESPONSES, "judgements": [BOB]}, [BOB], {(0, 1): 1.0}),
        (
            LISTS,
            [{"comparison": [0, 2], **WHOLE}, {"comparison": [1, 2], **WHOLE}],
            {(0, 1): 0.0, (0, 2): 1.0, (1, 2): 1.0},
        ),
        (
            {**RESPONSES, "rankings": RANKINGS},
            [RANKINGS[0], {**RANKINGS[1], "abstains": True}],
            {(0, 1): 1.0},
        ),
        (BENCH, [{"preference": 1.0}], {None: 1.0}),  # a pair under other names
        # blank responses are not asked about and keep their places
        (BLANK, [{"ranks": [2, 3, 1]}], {(0, 2): 0.0}),
    ],
    ids=["ranking", "annotations", "judgements", "lists", "rankings", "judgebench", "blank"],
)
def test_every_kind_of_row_is_judged_pair_by_pair_and_keeps_what_it_says(
    endpoint, relabel, row, people, judged
):
    _, (written,) = relabel([row], endpoint)
    assert len(endpoint.asked) == 2 * len(judged)
    said = written["annotations" if None in judged else "judgements"]
    own, entries = said[: len(people)], said[len(people) :]
    assert own == people
    for entry, (pair, preference) in zip(entries, judged.items(), strict=True):
        assert (entry.get("comparison"), entry["preference"]) == (pair and list(pair), preference)
        first, second = (one["shown"] for one in entry["answers"])
        assert first == second[::-1] == list(pair or (0, 1))
        assert [one["preference"] for one in entry["answers"]] == [preference] * 2
    moved = {"ranks", "rankings", "ratings", "annotator"}
    assert not moved & set(written)
    moved |= {"judgements", "annotations"} | (set(LISTS) if row is LISTS else set())
    assert all(written[name] == row[name] for name in set(row) - moved)
    before, after = read_row(row), read_row(written)
    assert after.responses == before.responses
    assert after.judgements[: len(before.judgements)] == before.judgements


CHAT = [user("Tea?"), assistant("Which?"), user("Any.")]


@pytest.mark.parametrize(
    ("chosen", "rejected", "dialogue"),
    [
        (
            *([*CHAT, assistant(f"It is number {n}.")] for n in (3, 2)),
            "user: Tea?\n\nassistant: Which?\n\nuser: Any.",
        ),
        # texts without a known prompt are shown whole
        ("It is number 3.", "It is number 2.", None),
    ],
)
def test_the_question_shows_chats_as_dialogues(endpoint, relabel, chosen, rejected, dialogue):
    rows = [{"chosen": chosen, "rejected": rejected}]
    _, (written,) = relabel(rows, endpoint, orders="first")
    (asked,) = endpoint.requests
    assert asked.text == HELPFUL.question(dialogue, "It is number 3.", "It is number 2.")
    assert written["annotations"][1]["preference"] == 1.0


def test_a_second_judgement_by_the_same_judge_is_refused_before_anything_is_asked(
    endpoint, relabel
):
    _, written = relabel(numbered_rows(2), endpoint)
    with pytest.raises(DataError, match=r"in\.jsonl, line 1, field 'annotations\[1\]\.annotator'"):
        relabel(written, endpoint, output="again.jsonl")
    assert len(endpoint.asked) == 4
    _, again = relabel(written, endpoint, objectives=["overall"], output="again.jsonl")
    assert [len(row["annotations"]) for row in again] == [3, 3]


def test_rated_texts_alone_cannot_be_compared(endpoint, relabel):
    with pytest.raises(DataError, match="no row has two responses to compare"):
        relabel([{"text": "Tea.", "rating": 3}], endpoint)
    _, rows = relabel([{"text": "Tea.", "rating": 3}, *numbered_rows(1)], endpoint)
    assert rows[0] == {"text": "Tea.", "rating": 3}
    assert len(endpoint.asked) == 2


@pytest.mark.real_data
def test_the_paper_s_rows_keep_their_columns_and_the_responses_are_shown_whole(
    serve, relabel, real_data
):
    path = real_data / "relabeled_hh_rlhf" / "both" / "test.jsonl.gz"
    endpoint = serve(lambda asked: says("A"))
    result, written = relabel([], endpoint, data_path=str(path), limit=40, concurrency=8)
    assert (result.asked, result.judged, len(written)) == (80, 40, 40)
    before = load_examples(path, limit=40).examples
    known = {row["Index"]: row for _, row in iter_jsonl(path)}
    shown = {asked.text for asked in endpoint.requests}
    for example, row in zip(before, written, strict=True):
        own, entry = row.pop("annotations")
        assert row == known[row["Index"]] == example.columns
        assert (own, entry["preference"]) == ({"preference": 1.0}, 0.5)
        sides = [row[side].removeprefix(row["prompt"]) for side in ("chosen", "rejected")]
        first, second = (side.strip().removeprefix("Assistant: ").strip() for side in sides)
        dialogue = f"<conversation>\n{row['prompt'].strip()}\n</conversation>"
        letters = [
            f"<reply_{letter}>\n{text}\n</reply_{letter}>"
            for letter, text in (("a", first), ("b", second))
        ]
        assert sum(all(part in text for part in (dialogue, *letters)) for text in shown) == 1
