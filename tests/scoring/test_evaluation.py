"""Evaluating: the file of raw outputs, its rows read back as examples, metrics and warnings."""

import gzip
import json
import re
from collections import Counter
from pathlib import Path

import pytest
import yaml

from hidden_context import heads
from hidden_context.data.example import Rating
from hidden_context.data.importers import read_row
from hidden_context.data.report import keep_responses
from hidden_context.data.reshape import comparisons_of
from hidden_context.errors import ConfigError, DataError, HiddenContextWarning, MissingFileError
from hidden_context.likelihood import make_likelihood
from hidden_context.scoring import EvaluateConfig
from hidden_context.scoring.evaluation import TRAINING_CONFIG, measure, warn_of_trained_rows
from hidden_context.scoring.rows import read_scored, rows_of
from support.builders import preference_rows
from support.paper_layout import jailbroken_rows, read_rows, reward_checkpoint, write_rows
from support.scoring import evaluate


@pytest.fixture
def own(tmp_path):
    """A model in a folder of the test's own, where results are written."""
    return reward_checkpoint(tmp_path / "own", "base")


def test_a_subset_that_is_missing_or_null_is_filled_and_metrics_and_counts_lie_beside_the_rows(
    own, tmp_path
):
    rows = [{side: row[side] for side in ("chosen", "rejected")} for row in preference_rows(4)]
    rows[1]["data_subset"] = None
    for row, objective in zip(rows, ("", "helpful", "", "helpful"), strict=True):
        row["objective"] = objective
    data = write_rows(tmp_path / "pairs.jsonl", rows)
    result = evaluate(own, data)
    assert result.path == Path(own) / "eval_results_both.jsonl"
    assert [row["data_subset"] for row in read_rows(result.path)] == ["both"] * 4
    # an empty objective is no group, and the one that is left is all there is to report
    assert not [name for name in result.metrics if name.startswith("objective")]
    stored = json.loads(Path(f"{result.path}.metrics.json").read_text())
    assert stored["metrics"] == result.metrics
    zeros = dict.fromkeys(("dropped", "unscored", "truncated", "refused"), 0)
    assert stored["counts"] == {"rows": 4, "written": 4, **zeros}
    packed = evaluate(own, data, output=str(tmp_path / "ge.jsonl.gz"))
    assert gzip.decompress(packed.path.read_bytes()) == result.path.read_bytes()
    ends = ["", ".config.yaml", ".heads", ".metrics.json"]
    assert sorted(path.name for path in tmp_path.glob("ge.*")) == [f"ge.jsonl.gz{e}" for e in ends]


def test_too_long_pairs_are_dropped_counted_and_never_scored(own, tmp_path):
    rows = preference_rows(5)
    rows[1]["rejected"] += " word" * 60
    data = write_rows(tmp_path / "pairs.jsonl", rows)
    result = evaluate(own, data, max_length=60)
    kept = read_rows(result.path)
    assert [row["chosen"] for row in kept] == [rows[i]["chosen"] for i in (0, 2, 3, 4)]
    assert (result.counts.dropped, result.report.kept, result.report.too_long) == (1, 4, 1)
    assert "1 dropped because a side is too long" in str(result.report)
    null = evaluate(own, data, max_length=60, over_length="null")
    assert read_rows(null.path)[1]["reward_output_rejected"] is None
    assert null.metrics == pytest.approx(result.metrics)
    with pytest.raises(DataError, match=r"none of 5 rows is left.*Raise --max_length"):
        evaluate(own, data, max_length=3, output=str(tmp_path / "results.jsonl"))
    assert not (tmp_path / "results.jsonl").exists()


def test_what_cannot_be_evaluated_is_refused(base, tmp_path):
    data = write_rows(tmp_path / "pairs.jsonl", preference_rows(3))
    with pytest.raises(ConfigError, match="is the input too"):
        evaluate(base, data, output=data)
    with pytest.raises(MissingFileError, match=r"org/model does not exist.*results with --output"):
        evaluate("org/model", data)
    prompts = write_rows(tmp_path / "prompts.jsonl", jailbroken_rows())
    with pytest.raises(DataError, match="line 1, field 'chosen': the column is missing"):
        evaluate(base, prompts, output=str(tmp_path / "o.jsonl"))


def losing(count):
    return [
        row | {"rejected": row["rejected"] + " It is so." * 60 * (number < count)}
        for number, row in enumerate(preference_rows(20))
    ]


@pytest.mark.parametrize(
    ("rows", "options", "words"),
    [
        (losing(4), {}, None),
        (losing(5), {}, "25% of the examples are lost: .*15 of 20 examples kept .5 dropped beca"),
        (losing(4), {"over_length": "null"}, None),
        (losing(5), {"over_length": "null"}, "25% of the examples are lost: .*5 texts without a"),
        ([*losing(0), *[{"chosen": " ", "rejected": "text"}] * 8], {"eval_fraction": 0.5},
         "29% of the examples are lost: .*8 dropped because a side is empty"),
        (losing(20)[:15] + losing(0), {"eval_dataset_size": 10, "seed": 3},
         "of the examples are lost: .*left out by the size limit"),
    ],
)  # fmt: skip
def test_more_than_a_fifth_of_the_rows_without_a_part_in_metrics_is_told(
    checkpoint, tmp_path, recwarn, rows, options, words
):
    data, output = write_rows(tmp_path / "pairs.jsonl", rows), str(tmp_path / "o.jsonl")
    options = {"output": output, "max_length": 100, **options}
    evaluate(checkpoint, data, **options)
    said = [str(each.message) for each in recwarn if "lost" in str(each.message)]
    assert len(said) == (words is not None)
    if words is not None:
        assert re.search(words, said[0])


TRAINED = {"train_split": "train", "eval_split": "test", "data_path": "pairs.jsonl"}
QUARTER, WHOLE = {"eval_fraction": 0.25}, {"eval_fraction": None}
TOPICS = {**QUARTER, "split_by": "topic", "split_balance": "true"}
TABLE = {"eval_fraction": 0.2, "split_balance": "sides.json"}
FOLDER = {"data_path": "data"}
TRAIN = {**FOLDER, "eval_split": "train"}


@pytest.mark.parametrize(
    ("trained", "given", "flags"),
    [
        (QUARTER, {}, "--eval_fraction 0.25"),
        (WHOLE, {}, "--eval_fraction 0.1"),
        (QUARTER, {"eval_fraction": 0.5}, "--eval_fraction 0.25"),
        (TOPICS, {}, "--eval_fraction 0.25 --split_by topic --split_balance"),
        ({**QUARTER, "split_by": "topic"}, QUARTER, "--eval_fraction 0.25 --split_by topic"),
        (TABLE, TABLE | {"split_balance": "false"},
         "--eval_fraction 0.2 --split_balance sides.json"),
        ({"eval_fraction": 0.0}, {}, None),
        (QUARTER, QUARTER, None),
        (WHOLE, {"eval_fraction": 0.1}, None),
        (QUARTER, {"eval_fraction": 0.1}, None),  # a part of what was held out
        (TOPICS, TOPICS | {"split_balance": "pairs.jsonl.splits"}, None),
        ({**QUARTER, "data_path": "other.jsonl"}, {}, None),
        # of several splits, what counts is which of them training divided
        ({**QUARTER, **FOLDER}, TRAIN, "--eval_fraction 0.25"),
        ({**QUARTER, **FOLDER}, {**FOLDER, "eval_split": "validation"}, None),
        ({**WHOLE, **FOLDER}, TRAIN, None),
        ({**WHOLE, **TRAIN}, TRAIN, "--eval_fraction 0.1"),  # one split for both is divided
        ("[1]", {}, None),
        ("a: [", {}, None),
        (None, {}, None),
    ],
)  # fmt: skip
def test_rows_of_the_training_are_told_with_the_options_that_leave_them_out(
    tmp_path, monkeypatch, recwarn, trained, given, flags
):
    monkeypatch.chdir(tmp_path)
    for path in ("pairs.jsonl", "data/train.jsonl"):
        write_rows(path, preference_rows(8))
    if trained is not None:
        content = trained if isinstance(trained, str) else yaml.safe_dump(TRAINED | trained)
        Path(TRAINING_CONFIG).write_text(content)
    config = EvaluateConfig(**{"checkpoint": ".", "data_path": "pairs.jsonl"} | given)
    said = f"some of the evaluated rows were used to train .; {flags} takes only the rows that its "
    warn_of_trained_rows(config)
    expected = [] if flags is None else [f"{said}training held out."]
    assert [str(each.message) for each in recwarn] == expected


def test_an_evaluation_says_it_and_goes_on(own, tmp_path, monkeypatch):
    """The data has the same path from where the training ran, or the same place."""
    data = write_rows(tmp_path / "pairs.jsonl", preference_rows(40))
    Path(own, TRAINING_CONFIG).write_text(yaml.safe_dump(TRAINED | QUARTER))
    monkeypatch.chdir(tmp_path)
    with pytest.warns(HiddenContextWarning, match="--eval_fraction 0.25 takes only the rows"):
        assert evaluate(own, data).counts.written == 40


PAIR = preference_rows(1)[0]
VOTES = {
    "prompt": "Tea?",
    "responses": ["Yes.", "No."],
    "judgements": [
        {"comparison": [0, 1], "annotator": "ann", "confidence": 3, "age": "30-39"},
        {"comparison": [1, 0], "annotator": "bob", "strength": 2, "weight": 0.5},
        {"comparison": [1, 0], "annotator": "cat", "preference": 0.5},
        {"comparison": [0, 1], "annotator": 7, "margin": -1.5},
        {"annotator": "dan", "abstains": True},
    ],
    "topic": "drinks",
}
RATING = {"response": 1, "rating": 4, "annotator": "eve", "weight": 2}
THREE = {"prompt": "Tea?", "responses": ["Yes.", "Perhaps.", "No."], "more": 1}
RANKINGS = [{"annotator": "ann", "ranks": [1, 2, 3]}, {"annotator": "bob", "ranks": [3, 2, 1]}]


def read(tmp_path, rows):
    """Write rows with made-up rewards and read them back."""
    written = []
    for number, row in enumerate(rows):
        names = ["_chosen", "_rejected"] if row.kind == "pair" else [""]
        raw = {f"reward_output{name}": [float(number), float(n)] for n, name in enumerate(names)}
        written.append({**row.columns, **raw})
    return read_scored(tmp_path.joinpath(write_rows(tmp_path / "r.jsonl", written)))


def said(example, texts):
    """What was said by whom about which texts, whichever stood first."""
    for judgement in example.judgements:
        who = (judgement.annotator, judgement.confidence)
        if isinstance(judgement.answer, Rating):
            yield *who, texts[judgement.answer.response], judgement.answer.value
        for comparison, share in comparisons_of(judgement.answer):
            sign = 1 if texts[comparison.first] < texts[comparison.second] else -1
            strengths = (comparison.preference - 0.5, comparison.strength, comparison.margin)
            both = frozenset((texts[comparison.first], texts[comparison.second]))
            signed = tuple(None if each is None else sign * each for each in strengths)
            yield *who, both, signed, round(judgement.weight * share, 9)


@pytest.mark.parametrize(
    ("row", "kinds"),
    [
        (PAIR, ["pair"]),
        ({**PAIR, "annotations": [{"annotator": "a", "strength": -1}, {}]}, ["pair"]),
        ({"text": "tea", "rating": 3, "annotator": 7, "weight": 0.5}, ["text"]),
        ({"prompt": "Tea?", "response": "Yes.", "ratings": [{"rating": 1}]}, ["text"]),
        ({**VOTES, "responses": ["Yes."], "judgements": [{"response": 0, "rating": 2}]}, ["text"]),
        (VOTES, ["pair"]),  # all votes on two responses are one row
        ({**VOTES, "judgements": VOTES["judgements"][-2:]}, ["pair"]),
        ({**VOTES, "judgements": [*VOTES["judgements"][1:3], RATING]}, ["pair"]),
        ({**THREE, "rankings": RANKINGS}, ["pair"] * 3),
        ({**THREE, "judgements": [*VOTES["judgements"], RATING]}, ["pair"]),
        ({**THREE, "judgements": [*VOTES["judgements"], {**RATING, "response": 2}]},
         ["pair", "text"]),  # what is in no pair stands alone
    ],
)  # fmt: skip
def test_what_was_said_is_read_back(tmp_path, row, kinds):
    example = read_row(row)
    rows = rows_of([example], "both")
    assert [made.kind for made in rows] == kinds
    assert {text for made in rows for text in made.texts} <= set(example.texts)
    assert all(made.columns.get("more") == row.get("more") for made in rows)
    if "judgements" not in row and "rankings" not in row:
        assert [made.columns for made in rows] == [{"data_subset": "both"} | row]
    examples, raw, _ = read(tmp_path, rows)
    found = Counter(
        each for again, made in zip(examples, rows, strict=True) for each in said(again, made.texts)
    )
    assert found == Counter(said(example, example.texts))
    assert raw.shape == (sum(len(made.texts) for made in rows), 2)


def test_all_votes_on_two_responses_are_one_row(tmp_path):
    (made,) = rows_of([read_row(VOTES, file="votes.jsonl", line=3)], "both")
    assert made.columns == {
        "prompt": "Tea?",
        "chosen": "Tea?Yes.",
        "rejected": "Tea?No.",
        "topic": "drinks",
        "data_subset": "both",
        "annotations": [
            {"age": "30-39", "annotator": "ann", "confidence": 3, "weight": 1, "preference": 1},
            {"annotator": "bob", "weight": 0.5, "preference": 0.0, "strength": -2},
            {"annotator": "cat", "weight": 1.0, "preference": 0.5},
            {"annotator": 7, "weight": 1.0, "preference": 0.0, "margin": -1.5},
            {"annotator": "dan", "weight": 1.0, "abstains": True},
        ],
    }
    assert (made.file, made.line, made.prompt) == ("votes.jsonl", 3, "Tea?")
    (again,), *_ = read(tmp_path, [made])
    assert again.abstentions == 1


def test_a_response_that_alone_held_text_is_read_back_alone(tmp_path):
    row = {**THREE, "responses": ["Yes.", " ", " "], "judgements": [{**RATING, "response": 0}]}
    example = keep_responses(read_row(row), [0])
    (made,) = rows_of([example], "both")
    assert made.texts == ("Tea?Yes.",)
    (again,), raw, _ = read(tmp_path, [made])
    assert again.judgements == example.judgements
    assert raw.shape == (1, 2)


def test_rows_without_a_reward_are_left_out_and_such_rows_alone_have_no_metrics(tmp_path):
    columns, path = {"chosen": "a", "rejected": "b", "reward_output_chosen": [1.0]}, tmp_path / "r"
    rows = [{**columns, "reward_output_rejected": value} for value in (None, [0.0])]
    write_rows(path, rows)
    examples, raw, _ = read_scored(path)
    assert [example.source_lines for example in examples] == [(2,)]
    assert raw.tolist() == [[1.0], [0.0]]
    write_rows(path, rows[:1])
    with pytest.raises(DataError, match="no pair has rewards for both sides"):
        measure(read_scored(path), make_likelihood(heads.make("base")), path)
