import json
from operator import attrgetter

import numpy as np
import pytest
from rich.console import Console

from check.people import checked, pair, rated, two_camps
from hidden_context.check import CheckConfig, check, run
from hidden_context.check.answer import across_sentence
from hidden_context.check.known import TOO_FEW
from hidden_context.check.tables import print_found
from hidden_context.cli.main import main
from hidden_context.errors import ConfigError, DataError, MissingFileError
from support.paper_layout import write_rows


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("check")
    data = write_rows(folder / "people.jsonl", two_camps(people=12))
    known = [{"annotator": f"p{n}", "camp": f"c{n % 2}"} for n in range(12)]
    write_rows(folder / "people.annotators.jsonl", known)
    config = CheckConfig(
        data_path=data, split_by="topic", anonymise=True, output_dir=str(folder / "out")
    )
    said = []
    return folder, run(config, said.append), said


def test_the_answer_says_where_and_who(whole):
    _, found, said = whole
    assert said == ["reading", "looking at the votes", "predicting votes", "comparing people"]
    assert found.answer.verdict == "disagree"
    assert found.answer.headline == "Your people disagree: they are split on 50 % of 60 pairs."
    text = " ".join(found.answer.sentences)
    assert "Most split: “taxes” (100 %). Least: “weather” (0 %)." in text
    assert "on 100 % of the split pairs people stand against each other" in text
    assert "No annotator stands out from the others" in text  # each camp is as large
    assert "Votes go with what is known of people: camp." in text
    assert (found.settings.groups, found.settings.folds, found.observed.annotators) == (2, 2, 12)
    shares = {kind.name: kind.share for kind in found.observed.kinds if kind.share}
    assert shares == pytest.approx({"unanimous": 0.5, "conflict": 0.5})
    voters = found.predicted.voters
    assert (voters.people, voters.votes, voters.interval_by) == (12, 360, "prompt")
    assert (voters.folds, voters.by_habits) == (2, None)


def test_the_files_and_the_terminal_hold_the_same_and_no_name(whole, capsys):
    folder, found, _ = whole
    text = (folder / "out" / "check.json").read_text(encoding="utf-8")
    assert json.loads(text) == found.to_dict()
    page = (folder / "out" / "check.html").read_text(encoding="utf-8")
    assert found.answer.headline.split(":")[0] in page
    assert found.predicted.voters.sentence.split()[0] in page
    assert {who.name for who in found.observed.people} == {f"a{n:02}" for n in range(1, 13)}
    assert not any(f'"p{n}"' in text for n in range(12))
    assert found.explained.covariates[0].p_adjusted < 0.05
    print_found(found, folder / "out" / "check.html", Console(width=100))
    printed = capsys.readouterr().out
    assert printed.startswith(found.answer.headline)
    for part in (
        *("taxes", "The most split items", "camp", "If a reward model chose by", "a constant"),
        *(f"The whole answer: {folder}"[:40], "split: people lean apart"),
    ):
        assert part in printed
    assert found.predicted.voters.sentence.split(" (")[0] in " ".join(printed.split())


UNNAMED = {"prompt": "سؤال؟ 🤷 <b>", "annotations": [{"preference": v} for v in (1, 0)]}
RANKED = [{"annotator": who, "ranks": ranks} for who, ranks in (("x", [1, 2, 3]), ("y", [3, 2, 1]))]
SHARED = {"chosen": "yes", "rejected": "no"}
RATED_TOO = {"annotator": "a", "response": 0, "rating": 3}
SPLIT = ([1, 1, 0, 0, 0.5], [1, 0, 0.5, 0.5, 0.5], [1, 1, 0.5, 0.5, 0])
FEW = "There are too few votes an item to tell conflict from indifference."


def case(rows, *missing, **found):
    """Rows, lines of what could not be found, and what is: names with two underscores for a dot."""
    return rows, missing, {name.replace("__", "."): value for name, value in found.items()}


CASES = {
    "one vote an item": case(
        [pair(n, {"a": 1.0}) for n in range(8)],
        "No item was judged by several people",
        answer__verdict="unknown",
        answer__sentences=["The data hold 8 pairs with one vote each."],
        predicted=None,
        advice=None,
        explained__sentence="",
    ),
    "three items without names": case(
        [{**UNNAMED, "chosen": f"да {n}", "rejected": f"нет {n}"} for n in range(3)],
        "There are too few items to predict votes (20 are needed).",
        "No annotator is named",
        "All items belong to one group, so intervals by group are not possible.",
        observed__split__estimate=1.0,
        observed__people=[],
        observed__annotator_test=None,
        predicted__scores=[],
        predicted__top=3,
    ),
    "ratings": case(
        [rated(n, {f"p{k}": float(k + 1) for k in range(5)}) for n in range(4)],
        "Ratings are no choices between responses: risk measures were not compared.",
        "No votes were predicted (--no_predict).",
        settings__unit="rating",
        settings__middle=3,
        predicted__top=4,
    ),
    "rankings": case(
        [{"prompt": "q?", "responses": ["a", "b", "c"], "judgements": RANKED}],
        observed__items=3,
        observed__split__estimate=1.0,
        observed__split__low=np.nan,
        explained__sentence=FEW,
    ),
    "one dissenter of three": case(
        [pair(n, {"a": 1.0, "b": 1.0, "c": float(n % 4 > 0)}) for n in range(40)],
        "Most items have two or three votes: a split looks like one dissenter.",
        observed__split__estimate=0.25,
        predicted__top=10,
    ),
    "shares of several people": case(
        [{"prompt": f"q {n}", **SHARED, "preference": [0.6, 0.9][n % 2]} for n in range(10)],
        observed__split__estimate=0.5,
        answer__sentences=[FEW],
    ),
    "agreement": case(
        [pair(n, [1] * 6) for n in range(40)],
        answer__verdict="agree",
        answer__headline="Your people mostly agree: they are split on 0 % of 40 pairs.",
        explained__conflict_share=np.nan,
    ),
    "a part split": case([pair(n, [1, n > 2] * 3) for n in range(40)], answer__verdict="partly"),
    "everybody equal": case([pair(n, [0.5] * 5) for n in range(5)], answer__verdict="agree"),
    "split items of every kind": case(
        [pair(n, votes) for n, votes in enumerate(SPLIT)],
        explained__sentence="It is indifference more than conflict: on 33 % of the split pairs "
        "people stand against each other, on 33 % most say equal, on 33 % it is too close to call.",
    ),
    "ratings beside comparisons": case(
        [{**pair(0, {}), "judgements": [*pair(0, [1, 0])["judgements"], RATED_TOO]}],
        "Left out: 1 rating, because the data hold comparisons as well.",
        observed__votes=2,
        observed__split__estimate=1.0,
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_small_data_sets(tmp_path, capsys, case):
    rows, missing, said = CASES[case]
    predict = case == "three items without names"
    found = checked(tmp_path / "d.jsonl", rows, predict=predict)
    for name, expected in said.items():
        value = attrgetter(name)(found)
        value = len(value) if isinstance(expected, int) and isinstance(value, list) else value
        is_nan = isinstance(expected, float) and np.isnan(expected)
        assert np.isnan(value) if is_nan else value == expected, name
    for line in missing:
        assert any(each.startswith(line) for each in found.missing), line
    print_found(found, tmp_path / "page.html")
    assert capsys.readouterr().out.startswith(found.answer.headline)


@pytest.mark.parametrize(("more", "said"), [([], "reading …"), (["--quiet"], "")])
def test_the_command_prints_the_answer_and_writes_both_files(tmp_path, capsys, more, said):
    rows = [pair(n, {f"p{k}": (k + n) % 2 for k in range(6)}) for n in range(6)]
    data, folder = write_rows(tmp_path / "votes.jsonl", rows), tmp_path / "out"
    assert main(["check", data, "--output_dir", str(folder), "--no_predict", *more]) == 0
    printed = capsys.readouterr()
    assert printed.out.startswith("Your people disagree: they are split on 100 % of 6 pairs.")
    assert printed.err.split("\n")[0] == said
    assert json.loads((folder / "check.json").read_text())["answer"]["verdict"] == "disagree"
    assert (folder / "check.html").read_text().startswith("<!doctype html>")


def test_too_few_known_voters_are_said_to_be_too_few(tmp_path):
    rows = [pair(n, {"a": 1.0, "b": 0.0, "c": float(n % 2)}) for n in range(24)]
    few = checked(tmp_path / "d.jsonl", rows, predict=True)
    assert few.predicted.voters is None
    assert TOO_FEW in few.missing


def test_single_votes_are_tested_across_items(tmp_path):
    draw = np.random.default_rng(1)
    rows = []
    for n in range(200):
        equal = draw.random() < (0.05 if n % 8 < 4 else 0.8)
        vote = 0.5 if equal else float(draw.random() < 0.5)
        rows.append(pair(n, {f"w{n % 8}": vote}, data_subset="one"))
    observed = checked(tmp_path / "d.jsonl", rows).observed
    assert observed.annotator_test is None
    assert observed.across_test.p_value == 0.001
    assert observed.across_test.sentence == across_sentence(0.001)
    assert across_sentence(0.4) == "Across items nobody clearly answers differently (p = 0.40)."


def test_kinds_are_in_words_of_a_scale_and_of_few_votes(tmp_path):
    rows = [rated(n, {f"p{k}": 1.0 + 2 * (n % 3) for k in range(5)}) for n in range(6)]
    kinds = checked(tmp_path / "r.jsonl", rows).observed.kinds
    labels = {kind.label: kind.items for kind in kinds if kind.items}
    assert labels == {"all on one half of the scale": 4, "all in the middle": 2}
    few = checked(tmp_path / "d.jsonl", CASES["one dissenter of three"][0])
    assert few.settings.split_means.startswith("Split: not all say the same")
    split = [kind.name for kind in few.observed.kinds if kind.is_split]
    assert split == ["majority", "conflict", "mixed", "indifference"]


def test_topics_alike_and_many_topics_and_covariates(tmp_path, capsys):
    rows = [pair(n, [1, 0, 0.5, 0.5, 0.5], topic=f"t{n % 12:02}") for n in range(120)]
    found = checked(tmp_path / "d.jsonl", rows, split_by="topic")
    assert found.explained.indifference_share == 1.0
    assert found.explained.sentence.startswith("It is indifference more than conflict")
    assert "No topic is clearly more split than another." in found.answer.sentences
    print_found(found, tmp_path / "page.html")
    assert "… 4 more" in capsys.readouterr().out
    known = [
        {"annotator": f"p{k}", **{f"c{n}": f"v{(k + n) % 2}" for n in range(5)}} for k in range(12)
    ]
    rows = [pair(n, [0, 1] * 6) for n in range(10)]
    table = write_rows(tmp_path / "known.jsonl", known)
    found = checked(tmp_path / "e.jsonl", rows, annotators=table)
    last = "Votes go with what is known of people: c0, c1, c2 and 2 more."
    assert found.answer.sentences[-1] == last


def test_wrong_input_is_named(tmp_path):
    with pytest.raises(MissingFileError):
        check(CheckConfig(data_path=str(tmp_path / "none.jsonl")))
    with pytest.raises(DataError, match=r"d\.jsonl"):
        checked(tmp_path / "d.jsonl", [{"prompt": "q", "responses": ["a", "b"]}])
    with pytest.raises(DataError, match="split_by"):
        checked(tmp_path / "e.jsonl", [pair(0, {"a": 1.0})], split_by="topic")
    with pytest.raises(ConfigError, match="--size"):
        CheckConfig(data_path="x", size=-1)


def test_an_embedding_model_gives_the_features(tmp_path, backbones):
    model = str(backbones("bert"))
    found = checked(tmp_path / "d.jsonl", two_camps(24), predict=True, embed=model)
    assert found.settings.features == model
    scores = found.predicted.scores
    assert [score.name for score in scores] == ["model", "linear", "length", "constant"]
    assert all(score.nll.estimate > found.predicted.floor for score in scores)
