"""Every source and every kind of row as examples, and the report of what was read."""

import json
from collections import Counter
from unittest import mock

import datasets
import pytest

from hidden_context.data import sources
from hidden_context.data.example import Comparison, Judgement, Ranking, Rating
from hidden_context.data.sources import available_splits, load_examples
from hidden_context.data.summary import summarize_examples
from hidden_context.errors import ConfigError, DataError, MissingFileError
from support.rows import assistant, ranking, user


def rows(count, subset=None, start=0):
    own = {"data_subset": subset} if subset else {}
    numbers = range(start, start + count)
    return [{"prompt": f"p{i}", "chosen": f" good {i}", "rejected": " bad", **own} for i in numbers]


@pytest.mark.parametrize(
    "name", ["a.jsonl", "a.json", "a.jsonl.gz", "a.json.gz", "a.parquet", "a.csv"]
)
def test_a_single_file_of_every_format(write_rows, name):
    path = write_rows(name, rows(3))
    data = load_examples(path, split="whatever")
    assert [(p.text(0), p.columns) for p in data] == [
        (f"p{n} good {n}", row) for n, row in enumerate(rows(3))
    ]
    assert (data.report.rows, data.report.kept, data.report.source) == (3, 3, str(path))
    assert available_splits(path) == []
    path = write_rows(name, [{**row, "preference": 0.5 + i} for i, row in enumerate(rows(2))])
    with pytest.raises(DataError, match="line 2, field 'preference'"):
        load_examples(path)


def test_csv_cells_stay_as_they_are_but_for_numbers(tmp_path):
    path = tmp_path / "a.csv"
    header = "chosen,rejected,margin,preference,id,flag,day,objective,prompt,weight"
    cells = '12,"1\n3",0.5,1,007,true,2024-01-02 03:04:05,helpful,,0.25\n13,14,,,1e3,,"",,,\n'
    path.write_text(f"{header}\n{cells}")
    first, second = load_examples(path)
    assert first.texts == ("12", "1\n3")
    values = (0.5, 1.0, "007", "true", "2024-01-02 03:04:05", "helpful", "", 0.25)
    assert first.columns == dict(zip(header.split(","), (*first.texts, *values), strict=True))
    given = {"chosen": "13", "rejected": "14", "id": "1e3", "prompt": ""}
    assert second.columns == dict.fromkeys(first.columns) | given
    assert first.judgements == (Judgement(Comparison(0, 1, 1.0, None, 0.5), None, 0.25),)
    assert second.judgements == (Judgement(Comparison(0, 1)),)


@pytest.mark.parametrize("field", ["margin", "preference", "strength", "weight", "rating"])
def test_csv_numbers_that_are_none_name_row_and_field(tmp_path, field):
    path, texts = tmp_path / "a.csv", "prompt,response" if field == "rating" else "chosen,rejected"
    path.write_text(f"{texts},{field}\na,b,1\na,b,half\n")
    with pytest.raises(DataError, match=f"line 2, field '{field}': a number is needed, not 'half'"):
        load_examples(path)
    report = load_examples(path, on_malformed="skip").report
    assert (report.kept, len(report.malformed)) == (1, 1)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.parquet", "parquet file cannot be read"),
        ("a.xlsx", r"not read.*Known kinds: \.jsonl\.gz"),
    ],
)
def test_damaged_and_unknown_files(tmp_path, name, text):
    (tmp_path / name).write_text("a,b\n1,2,3\n")
    with pytest.raises(DataError, match=text):
        load_examples(tmp_path / name)


def test_broken_line_is_an_error_or_skipped_and_counted(write_rows):
    path = write_rows("a.jsonl", rows(4))
    lines = path.read_text().splitlines()
    lines[2] = lines[2][:10]
    lines[3] = json.dumps({"chosen": 1, "rejected": "x"})
    path.write_text("\n".join(lines))
    with pytest.raises(DataError, match=r"a\.jsonl, line 3: not valid JSON"):
        load_examples(path)
    report = load_examples(path, on_malformed="skip").report
    assert (report.rows, report.kept, len(report.malformed)) == (4, 2, 2)
    assert report.malformed[0].startswith(f"{path}, line 3: not valid JSON")
    assert report.malformed[1].startswith(f"{path}, line 4, field 'chosen'")
    assert "2 of 4 examples kept (2 skipped as malformed)" in str(report)


def test_nothing_usable(write_rows):
    with pytest.raises(DataError, match="no rows"):
        load_examples(write_rows("a.jsonl", []))
    with pytest.raises(DataError, match=r"no usable row.*1 dropped because a side is empty"):
        load_examples(write_rows("b.jsonl", [{"chosen": "", "rejected": "b"}]))


def test_relabelled_layout_reads_the_folder_of_the_subset(write_rows):
    mixed = rows(2, "harmless") + rows(1, "helpful", 2)
    for subset, count in (("both", 3), ("helpful", 2)):
        path = write_rows(f"r/{subset}/test.jsonl.gz", mixed[:count])
    root = path.parent.parent
    assert len(load_examples(root, "both", "test")) == 3
    helpful = load_examples(root, "helpful", "test").examples
    assert [p.data_subset for p in helpful] == ["harmless", "harmless"]
    for subset in ("both", "helpful"):
        assert load_examples(root / "helpful", subset, "test").examples == helpful
    assert available_splits(root, "helpful") == ["test"]


def test_missing_split_says_what_is_there_and_what_to_do(write_rows):
    root = write_rows("r/both/test.jsonl.gz", rows(1)).parent.parent
    words = rf"^{root}/both/train\.jsonl\.gz does not exist\. .*Splits in {root}/both: test\."
    with pytest.raises(MissingFileError, match=f"{words}.*--train_split test or --eval_fraction"):
        load_examples(root)
    with pytest.raises(
        MissingFileError, match="--data_subset one of the folder's data subsets: both"
    ):
        load_examples(root, "helpful", "test")


def test_folder_with_the_split_files_itself_is_filtered_by_column(write_rows):
    path = write_rows("own/train.parquet", rows(2, "helpful") + rows(3, "harmless", 2))
    write_rows("own/test.csv", rows(1))
    assert available_splits(path.parent) == ["test", "train"]
    assert len(load_examples(path.parent, "harmless")) == 3
    assert len(load_examples(path, "helpful")) == 2
    assert load_examples(path, "helpful").report.rows == 2
    with pytest.raises(DataError, match=r"no row has data_subset 'x' \(there: harmless, helpful\)"):
        load_examples(path, "x")
    with pytest.raises(DataError, match="no such column"):
        load_examples(path.parent, "helpful", "test")


def test_parquet_shards_of_the_hub(write_rows):
    write_rows("hub/data/train-00000-of-00002.parquet", rows(2))
    path = write_rows("hub/data/train-00001-of-00002.parquet", rows(1, start=2))
    assert [p.prompt for p in load_examples(path.parent.parent)] == ["p0", "p1", "p2"]


def test_one_split_in_two_formats_is_refused(write_rows):
    write_rows("own/train.jsonl", rows(1))
    folder = write_rows("own/train.csv", rows(1)).parent
    with pytest.raises(DataError, match=r"more than once: train\.csv, train\.jsonl"):
        load_examples(folder)


def test_local_copy_of_hh_rlhf(write_rows):
    helpful = write_rows("hh/helpful-base/train.jsonl.gz", rows(1))
    root = helpful.parent.parent
    with pytest.raises(MissingFileError, match="harmless-base does not exist"):
        load_examples(root)
    write_rows("hh/harmless-base/train.jsonl.gz", rows(2))
    assert [p.data_subset for p in load_examples(root)] == ["harmless", "harmless", "helpful"]
    assert [p.columns["data_subset"] for p in load_examples(root, "helpful")] == ["helpful"]
    assert available_splits(root) == ["train"]


def test_folders_saved_by_datasets(tmp_path):
    table = datasets.Dataset.from_list(rows(3))
    table.save_to_disk(tmp_path / "table")
    datasets.DatasetDict({"train": table, "test": table.select([1])}).save_to_disk(tmp_path / "d")
    assert [p.columns for p in load_examples(tmp_path / "table")] == rows(3)
    assert [p.columns for p in load_examples(tmp_path / "d", split="test")] == rows(3)[1:2]
    assert available_splits(tmp_path / "d") == ["test", "train"]
    assert sources.is_single_table(tmp_path / "table")
    with pytest.raises(MissingFileError, match="Splits in"):
        load_examples(tmp_path / "d", split="validation")


@pytest.fixture
def load_dataset(monkeypatch):
    monkeypatch.setattr(datasets, "load_dataset", mock.Mock())
    return datasets.load_dataset


def test_hh_rlhf_on_the_hub(load_dataset):
    load_dataset.side_effect = [datasets.Dataset.from_list(rows(count)) for count in (2, 1, 1)]
    data = load_examples("Anthropic/hh-rlhf", "both", "test", revision="abc")
    assert [p.data_subset for p in data] == ["harmless", "harmless", "helpful"]
    assert load_dataset.call_args_list == [
        mock.call("Anthropic/hh-rlhf", data_dir=name, split="test", revision="abc")
        for name in ("harmless-base", "helpful-base")
    ]
    assert len(load_examples("Anthropic/hh-rlhf", "helpful")) == 1
    with pytest.raises(ConfigError, match="no data subset 'x'"):
        load_examples("Anthropic/hh-rlhf", "x")


def test_other_data_on_the_hub(load_dataset):
    load_dataset.return_value = datasets.Dataset.from_list(rows(2, "helpful") + rows(1, "other", 2))
    assert len(load_examples("org/pairs", "helpful")) == 2
    load_dataset.assert_called_once_with("org/pairs", split="train", revision=None)
    missing = datasets.exceptions.DatasetNotFoundError("Dataset 'org/pairs' doesn't exist")
    split = ValueError("Unknown split \"train\". Should be one of ['test'].")
    away = ConnectionError("Couldn't reach the Hub")
    for failure, kind, words in (
        (missing, MissingFileError, "neither a local path nor a data set on the hub"),
        (away, DataError, r"Couldn't reach the Hub.*local folder.*HF_HUB_OFFLINE"),
        (split, MissingFileError, r"Should be one of \['test'\].*--eval_fraction"),
    ):
        load_dataset.side_effect = failure
        with pytest.raises(kind, match=words):
            load_examples("org/pairs")


@pytest.mark.parametrize("path", ["data/relabeled_hh_rlhf", "./x", "/no/x", "x.jsonl", "a/b/c"])
def test_local_paths_are_not_looked_for_on_the_hub(tmp_path, monkeypatch, path):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(MissingFileError, match="does not exist"):
        load_examples(path)


def test_limit_is_spread_over_subsets_in_input_order(write_rows):
    path = write_rows("a.jsonl", rows(50, "a") + rows(50, "b", 50) + rows(3, "c", 100))
    data = load_examples(path, limit=23)
    assert Counter(p.data_subset for p in data) == {"a": 10, "b": 10, "c": 3}
    numbers = [int(str(p.prompt)[1:]) for p in data]
    assert numbers == sorted(numbers)
    assert (data.report.kept, data.report.limited, data.report.rows) == (23, 80, 103)
    assert load_examples(path, limit=23).examples == data.examples
    assert load_examples(path, limit=23, seed=1).examples != data.examples
    assert len(load_examples(path, limit=999)) == 103
    with pytest.raises(ConfigError, match="cannot be negative: -1"):
        load_examples(path, limit=-1)


CHAT = [user("abc"), assistant("d")]

JUDGED = {
    "prompt": "p4",
    "responses": [" a", " b"],
    "judgements": [
        {"annotator": "ann", "comparison": [0, 1], "strength": -1},
        {"annotator": "bob", "response": 0, "rating": 3},
        {"annotator": "cat", "ranks": [1, 2]},
        {"annotator": "cat", "abstains": True},
    ],
}


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "a.parquet"])
def test_files_may_hold_rows_of_every_kind(write_rows, name):
    pair = {"prompt": "p", "chosen": " x", "rejected": " y", "annotator": "bob"}
    rated = {"prompt": "p5", "response": " x", "rating": 2.5}
    rows = [pair, ranking(1, annotator="ann"), ranking(2), ranking(3), JUDGED, rated]
    data = load_examples(write_rows(name, rows))
    assert [example.source_lines for example in data] == [(n,) for n in range(1, 7)]
    kinds = [[type(j.answer).__name__ for j in example.judgements] for example in data]
    of_judged = ["Comparison", "Rating", "Ranking", "Abstention"]
    assert kinds == [["Comparison"], *[["Ranking"]] * 3, of_judged, ["Rating"]]
    report = data.report
    assert (report.rows, report.kept, report.rankings, report.abstentions) == (6, 6, 4, 1)
    assert str(report).endswith(
        f"{name}: 6 of 6 examples kept (4 rows of the source were rankings, 1 abstention, which "
        "is not a vote, 1 repeated judgement by an annotator of the same responses in one row)."
    )
    summary = summarize_examples(data.examples)
    assert (summary.rows, summary.annotators, summary.prompts) == (6, 3, 6)
    assert (summary.responses, summary.judgements, summary.abstentions) == (14, 8, 1)
    assert (summary.lengths["prompt"].maximum, summary.lengths["text"].maximum) == (2, 4)
    (chat,) = load_examples(write_rows("b.jsonl", [{"messages": CHAT, "rating": 1}])).examples
    lengths = summarize_examples([chat]).lengths
    assert (lengths["prompt"].median, lengths["text"].mean) == (9, len("user: abc\n\nassistant: d"))


def test_csv_ratings_are_numbers_unless_they_are_another_s(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("prompt,response,rating\np, x,3.5\np, y,\np,,1\n")
    data = load_examples(path, on_malformed="skip")
    assert [example.judgements for example in data] == [(Judgement(Rating(0, 3.5)),)]
    assert (data.report.empty, len(data.report.malformed)) == (1, 1)
    path.write_text("chosen,rejected,rating\na,b,good\n")
    assert load_examples(path).examples[0].columns["rating"] == "good"


def test_the_report_adds_up(write_rows):
    rows = [
        ranking(0, responses=[" a", " ", " c"]),
        ranking(1, ranks=[1]),
        ranking(2, responses=[" a", " a", " a"]),
        ranking(3, responses=[" ", " ", " c"]),
        ranking(4),
        {"chosen": "a", "rejected": "b", "annotations": [{"annotator": "ann"}, {}]},
    ]
    path = write_rows("a.jsonl", rows)
    report = load_examples(path, on_malformed="skip", limit=2).report
    counts = {"rows": 6, "kept": 2, "empty": 1, "limited": 1, "unjudged": 1}
    counts |= {"rankings": 4, "left_out": 1, "abstentions": 2}
    assert {name: getattr(report, name) for name in counts} == counts
    (malformed,) = report.malformed
    assert malformed.startswith(f"{path}, line 2, field 'ranks': one rank for each")
    text = "2 of 6 examples kept (4 rows of the source were rankings, 2 abstentions, which are not "
    assert text in str(report)
    assert "1 dropped because a side is empty, 1 dropped because nobody judged them" in str(report)
    assert "1 response left out, empty or too long" in str(report)
    one = str(load_examples(write_rows("b.jsonl", rows[2:3])).report)
    assert "(1 row of the source was a ranking, 1 kept with all responses the same)" in one


def test_blank_responses_leave_what_is_said_of_the_others(write_rows):
    rows = [
        ranking(0, responses=[" a", " ", " c"], ratings=[2, 3, None]),
        {"text": " ", "rating": 1},
        {**ranking(1), "responses": [" ", " b"], "ranks": [1, 2], "ratings": [2, 1]},
        {"text": "a", "rating": 1},
    ]
    data = load_examples(write_rows("a.jsonl", rows))
    assert [example.texts for example in data] == [("p0 a", "p0 c"), ("a",)]
    assert data.examples[0].judgements == (Judgement(Ranking((2, 2))), Judgement(Rating(0, 2.0)))
    assert (data.report.empty, data.report.left_out) == (2, 1)


def test_annotators_twice_and_keys_that_are_not_read_are_told_once(write_rows):
    votes = [
        {"annotator": "ann", "preference": 1, "comment": "x"},
        {"annotator": "ann", "preference": 0, "label": 1},
        {"annotator": "bob", "preference": None, "comment": "unsure"},
    ]
    pair = {"chosen": "a", "rejected": "b", "annotations": votes}
    data = load_examples(write_rows("a.jsonl", [pair, pair, {"chosen": "a", "rejected": "b"}]))
    report = data.report
    assert (report.abstentions, report.repeated) == (2, 2)
    assert report.unread == ["annotations.comment", "annotations.label"]
    assert str(report).endswith(
        " 2 repeated judgements by annotators of the same responses in one row). Keys that are "
        "not read: annotations.comment, annotations.label."
    )
