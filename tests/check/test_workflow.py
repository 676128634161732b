import json

import numpy as np
import pytest

from check.people import pair, rated, two_camps, write
from hidden_context.check import CheckConfig, check, run
from hidden_context.check.answer import across_sentence
from hidden_context.check.known import TOO_FEW
from hidden_context.check.tables import print_found
from hidden_context.errors import ConfigError, DataError, MissingFileError


def checked(path, rows, **options):
    options = {"predict": False, **options}
    return check(CheckConfig(data_path=str(write(path, rows)), **options))


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("check")
    data = write(folder / "people.jsonl", two_camps(people=12))
    known = [{"annotator": f"p{n}", "camp": f"c{n % 2}"} for n in range(12)]
    write(folder / "people.annotators.jsonl", known)
    config = CheckConfig(
        data_path=str(data), split_by="topic", anonymise=True, output_dir=str(folder / "out")
    )
    said = []
    return folder, run(config, said.append), said


def test_the_answer_says_where_and_who(whole):
    _, found, said = whole
    assert said == ["reading", "looking at the votes", "foretelling votes", "comparing people"]
    answer = found.answer
    assert answer.verdict == "disagree"
    assert answer.headline == "Your people disagree: they are split on 50 % of 60 pairs."
    text = " ".join(answer.sentences)
    assert "Most split: “taxes” (100 %). Least: “weather” (0 %)." in text
    assert "on 100 % of the split pairs people stand against each other" in text
    assert "No annotator stands out from the others" in text  # each camp is as large
    assert "Votes go with what is known of people: camp." in text
    assert found.settings.groups == 2
    assert found.settings.folds == 2
    assert found.observed.annotators == 12
    shares = {kind.name: kind.share for kind in found.observed.kinds}
    assert shares == pytest.approx(
        {
            "unanimous": 0.5,
            "majority": 0,
            "conflict": 0.5,
            "mixed": 0,
            "indifference": 0,
            "equal": 0,
        }
    )


def test_the_files_hold_the_same_and_no_name(whole):
    folder, found, _ = whole
    text = (folder / "out" / "check.json").read_text(encoding="utf-8")
    assert json.loads(text) == found.to_dict()
    page = (folder / "out" / "check.html").read_text(encoding="utf-8")
    assert found.answer.headline.split(":")[0] in page
    names = {person.name for person in found.observed.people}
    assert names == {f"a{n:02}" for n in range(1, 13)}
    for name in (f'"p{n}"' for n in range(12)):
        assert name not in text
    assert found.explained.covariates[0].p_adjusted < 0.05


def test_the_terminal_shows_the_answer_first(whole, capsys):
    from rich.console import Console

    folder, found, _ = whole
    print_found(found, folder / "out" / "check.html", Console(width=100))
    printed = capsys.readouterr().out
    assert printed.startswith(found.answer.headline)
    for part in (
        "taxes",
        "The most split items",
        "camp",
        "If a reward model chose by",
        "a constant",
    ):
        assert part in printed
    assert f"The whole answer: {folder}"[:40] in printed
    assert "split: people lean apart" in printed
    assert found.predicted.voters.sentence.split(" (")[0] in " ".join(printed.split())


def test_who_votes_is_measured_or_said_to_be_unknown(whole, tmp_path):
    folder, found, _ = whole
    voters = found.predicted.voters
    assert (voters.people, voters.votes, voters.interval_by) == (12, 360, "prompt")
    assert voters.folds == 2
    assert voters.by_habits is None
    page = (folder / "out" / "check.html").read_text(encoding="utf-8")
    assert voters.sentence.split()[0] in page
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
    found = checked(tmp_path / "d.jsonl", rows)
    assert found.observed.annotator_test is None
    assert found.observed.across_test.p_value == 0.001
    assert found.observed.across_test.sentence == across_sentence(0.001)
    assert across_sentence(0.4) == ("Across items nobody is seen to answer differently (p = 0.40).")


def test_kinds_of_ratings_are_in_words_of_a_scale(tmp_path):
    rows = [rated(n, {f"p{k}": 1.0 + 2 * (n % 3) for k in range(5)}) for n in range(6)]
    kinds = checked(tmp_path / "d.jsonl", rows).observed.kinds
    labels = {kind.label: kind.items for kind in kinds if kind.items}
    assert labels == {"all on one half of the scale": 4, "all in the middle": 2}


def test_one_vote_an_item_says_nothing_of_disagreement(tmp_path, capsys):
    found = checked(tmp_path / "d.jsonl", [pair(n, {"a": 1.0}) for n in range(8)])
    assert found.answer.verdict == "unknown"
    assert found.answer.sentences == ["There are 8 pairs with one vote each."]
    assert found.predicted is None
    assert found.advice is None
    assert found.explained.sentence == ""
    assert found.missing[0].startswith("No item was judged by several people")
    print_found(found, tmp_path / "page.html")
    assert "Nobody can say" in capsys.readouterr().out


def test_three_items_without_names_give_the_observed_part(tmp_path):
    rows = [
        {
            "prompt": "سؤال؟ 🤷 <b>",
            "chosen": f"да {n}",
            "rejected": f"нет {n}",
            "annotations": [{"preference": v} for v in (1, 0)],
        }
        for n in range(3)
    ]
    found = checked(tmp_path / "d.jsonl", rows, predict=True)
    assert found.observed.split.estimate == 1.0
    assert found.observed.people == []
    assert found.observed.annotator_test is None
    assert found.predicted.scores == []
    assert len(found.predicted.top) == 3
    assert found.predicted.top[0].prompt == "سؤال؟ 🤷 <b>"
    assert "There are too few items to foretell votes (20 are needed)." in found.missing
    assert any("No annotator is named" in line for line in found.missing)
    assert "All items are of one group, so that intervals by group are not possible." in (
        found.missing
    )


def test_ratings_alone_are_high_and_low(tmp_path):
    rows = [rated(n, {f"p{k}": float(k + 1) for k in range(5)}) for n in range(4)]
    found = checked(tmp_path / "d.jsonl", rows)
    assert found.settings.unit == "rating"
    assert found.settings.middle == 3
    assert found.settings.sides["first"] == "high"
    assert found.predicted.top[0].responses == ["text number 0"]
    assert found.predicted.top[0].prompt == ""
    assert "Ratings of single texts are no choices, so risk measures were not compared." in (
        found.missing
    )
    assert "No votes were foretold (--no_predict)." in found.missing


def test_rankings_are_pairs(tmp_path):
    row = {
        "prompt": "q?",
        "responses": ["a", "b", "c"],
        "judgements": [
            {"annotator": "x", "ranks": [1, 2, 3]},
            {"annotator": "y", "ranks": [3, 2, 1]},
        ],
    }
    found = checked(tmp_path / "d.jsonl", [row])
    assert found.observed.items == 3
    assert found.observed.split.estimate == 1.0
    assert np.isnan(found.observed.split.low)
    assert found.explained.sentence == (
        "There are too few votes an item to tell conflict from indifference."
    )


def test_a_dissenter_among_three_is_a_split_and_is_said_to_be_no_more(tmp_path):
    rows = [pair(n, {"a": 1.0, "b": 1.0, "c": float(n % 4 > 0)}) for n in range(40)]
    found = checked(tmp_path / "d.jsonl", rows)
    assert found.observed.split.estimate == 0.25
    assert found.settings.split_means.startswith("Split: not all say the same")
    assert [kind.name for kind in found.observed.kinds if kind.is_split] == [
        "majority",
        "conflict",
        "mixed",
        "indifference",
    ]
    assert "Most items have two or three votes: a split looks like one dissenter." in found.missing
    assert len(found.predicted.top) == 10


def test_shares_of_several_people_are_taken_as_they_are(tmp_path):
    rows = [
        {"prompt": f"q {n}", "chosen": "yes", "rejected": "no", "preference": [0.6, 0.9][n % 2]}
        for n in range(10)
    ]
    found = checked(tmp_path / "d.jsonl", rows)
    assert found.observed.split.estimate == 0.5
    assert found.answer.sentences == [
        "There are too few votes an item to tell conflict from indifference."
    ]


def test_people_who_agree_are_said_to_agree(tmp_path):
    rows = [pair(n, {f"p{k}": 1.0 for k in range(6)}) for n in range(40)]
    found = checked(tmp_path / "d.jsonl", rows)
    assert found.answer.verdict == "agree"
    assert found.answer.headline.startswith("Your people mostly agree: they are split on 0 %")
    assert np.isnan(found.explained.conflict_share)
    rows[:3] = [pair(n, {f"p{k}": k % 2 for k in range(6)}) for n in range(3)]
    assert checked(tmp_path / "e.jsonl", rows).answer.verdict == "partly"


def test_everybody_equal_is_not_split_and_mostly_equal_is_indifference(tmp_path):
    equal = [pair(n, {f"p{k}": 0.5 for k in range(5)}) for n in range(5)]
    found = checked(tmp_path / "d.jsonl", equal)
    assert found.answer.verdict == "agree"
    mostly = [
        pair(n, {"a": 1.0, "b": 0.0, "c": 0.5, "d": 0.5, "e": 0.5}, topic=f"t{n % 2}")
        for n in range(40)
    ]
    found = checked(tmp_path / "e.jsonl", mostly, split_by="topic")
    assert found.explained.indifference_share == 1.0
    assert found.explained.sentence.startswith("It is indifference more than conflict")
    assert "No topic is clearly more split than another." in found.answer.sentences


def test_mixed_data_count_what_is_left_out(tmp_path):
    row = pair(0, {"a": 1.0, "b": 0.0})
    row["judgements"].append({"annotator": "a", "response": 0, "rating": 3})
    found = checked(tmp_path / "d.jsonl", [row])
    assert "1 ratings were left out: the data hold comparisons as well." in found.missing


def test_a_table_of_annotators_can_be_named(tmp_path):
    known = write(tmp_path / "known.jsonl", [{"annotator": "a", "age": "30"}])
    found = checked(tmp_path / "d.jsonl", [pair(0, {"a": 1.0, "b": 0.0})], annotators=str(known))
    assert "Something is known of 1 annotators only; five are needed." in found.missing


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
    config = CheckConfig(
        data_path=str(write(tmp_path / "d.jsonl", two_camps(24))), embed=str(backbones("bert"))
    )
    found = check(config)
    assert found.settings.features == config.embed
    assert [score.name for score in found.predicted.scores] == [
        "model",
        "linear",
        "length",
        "constant",
    ]
    assert all(score.nll.estimate > found.predicted.floor for score in found.predicted.scores)


def test_split_items_of_every_kind_are_told_apart(tmp_path):
    kinds = ([1.0, 1.0, 0.0, 0.0, 0.5], [1.0, 0.0, 0.5, 0.5, 0.5], [1.0, 0.5, 0.5, 0.0, 1.0])
    rows = [pair(n, dict(zip("abcde", kinds[n % 3], strict=True))) for n in range(12)]
    found = checked(tmp_path / "d.jsonl", rows)
    assert found.explained.sentence == (
        "It is indifference more than conflict: on 33 % of the split pairs people stand against "
        "each other, on 33 % most say equal, on 33 % it is too close to call."
    )


def test_many_topics_and_covariates_are_cut_on_the_terminal(tmp_path, capsys):
    rows = [
        pair(n, {f"p{k}": float(k < n % 3 + 2) for k in range(6)}, topic=f"t{n % 12:02}")
        for n in range(120)
    ]
    found = checked(tmp_path / "d.jsonl", rows, split_by="topic")
    print_found(found, tmp_path / "page.html")
    printed = capsys.readouterr().out
    assert "… 4 more" in printed
    known = [
        {"annotator": f"p{k}", **{f"c{n}": f"v{(k + n) % 2}" for n in range(5)}} for k in range(12)
    ]
    rows = [pair(n, {f"p{k}": float(k % 2) for k in range(12)}) for n in range(10)]
    table = write(tmp_path / "known.jsonl", known)
    found = checked(tmp_path / "e.jsonl", rows, annotators=str(table))
    assert found.answer.sentences[-1] == (
        "Votes go with what is known of people: c0, c1, c2 and 2 more."
    )
