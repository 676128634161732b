from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hidden_context.data import sources
from hidden_context.data.example import Abstention, Comparison, Judgement, Rating
from hidden_context.data.sources import (
    ExampleData,
    available_splits,
    limit_examples,
    load_examples,
)
from hidden_context.errors import ConfigError, DataError, MissingFileError

WriteRows = Callable[..., Path]


def rows(count: int, subset: str | None = None, start: int = 0) -> list[dict[str, Any]]:
    result = []
    for i in range(start, start + count):
        row: dict[str, Any] = {"prompt": f"p{i}", "chosen": f" good {i}", "rejected": " bad"}
        result.append({**row, "data_subset": subset} if subset else row)
    return result


@pytest.mark.parametrize(
    "name", ["a.jsonl", "a.json", "a.jsonl.gz", "a.json.gz", "a.parquet", "a.csv"]
)
def test_a_single_file_of_every_format(write_rows: WriteRows, name: str) -> None:
    path = write_rows(name, rows(3))
    data = load_examples(path, split="whatever")
    assert [p.text(0) for p in data] == ["p0 good 0", "p1 good 1", "p2 good 2"]
    assert [p.columns for p in data] == rows(3)
    assert (data.report.rows, data.report.kept, data.report.source) == (3, 3, str(path))
    assert available_splits(path) == []


def test_csv_cells_stay_as_they_are_but_for_numbers(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text(
        "chosen,rejected,margin,preference,id,flag,day,objective,prompt\n"
        '12,"1\n3",0.5,1,007,true,2024-01-02 03:04:05,helpful,\n'
        '13,14,,,1e3,,"",,\n'
    )
    first, second = load_examples(path)
    assert first.texts == ("12", "1\n3")
    assert first.columns == {
        "chosen": "12", "rejected": "1\n3", "margin": 0.5, "preference": 1.0, "id": "007",
        "flag": "true", "day": "2024-01-02 03:04:05", "objective": "helpful", "prompt": "",
    }  # fmt: skip
    assert second.columns == {
        "chosen": "13", "rejected": "14", "margin": None, "preference": None, "id": "1e3",
        "flag": None, "day": None, "objective": None, "prompt": "",
    }  # fmt: skip
    assert (first.judgements, second.judgements) == (
        (Judgement(Comparison(0, 1, 1.0, None, 0.5)),),
        (Judgement(Comparison(0, 1)),),
    )
    assert second.objective is None


def test_csv_labels_are_numbers(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text(
        "chosen,rejected,strength,rating_chosen,rating_rejected,weight,annotator\n"
        "a,b,-2,3,4.5,0.25,7\nc,d,,,,,\n"
    )
    first, second = load_examples(path)
    assert first.judgements == (
        Judgement(Comparison(0, 1, 0.0, -2), "7", 0.25),
        Judgement(Rating(0, 3.0), None, 0.25),
        Judgement(Rating(1, 4.5), None, 0.25),
    )
    assert second.judgements == (Judgement(Comparison(0, 1)),)
    path.write_text("chosen,rejected,strength\na,b,1\na,b,1.5\n")
    with pytest.raises(DataError, match="an integer is needed") as caught:
        load_examples(path)
    assert (caught.value.line, caught.value.field) == (2, "strength")


@pytest.mark.parametrize("name", ["a.jsonl", "a.parquet"])
def test_annotations_from_files(write_rows: WriteRows, name: str) -> None:
    annotated = [
        {
            **row,
            "annotations": [
                {"annotator": "a", "strength": i},
                {"annotator": "b", "preference": 1.0},
                {"annotator": "c"},
            ],
        }
        for i, row in enumerate(rows(2), start=-1)
    ]
    data = load_examples(write_rows(name, annotated))
    assert [example.judgements for example in data] == [
        (
            Judgement(Comparison(0, 1, preference, strength), "a"),
            Judgement(Comparison(0, 1, 1.0), "b"),
            Judgement(Abstention(), "c"),
        )
        for preference, strength in ((0.0, -1), (0.5, 0))
    ]
    assert data.report.abstentions == 2
    assert str(data.report).endswith("2 of 2 examples kept (2 abstentions, which are no votes).")
    annotated[1]["annotations"][0]["strength"] = 99
    with pytest.raises(DataError) as caught:
        load_examples(write_rows(name, annotated))
    assert (caught.value.line, caught.value.field) == (2, "annotations[0].strength")


@pytest.mark.parametrize("field", ["margin", "preference", "strength", "weight"])
def test_csv_numbers_that_are_none_name_row_and_field(tmp_path: Path, field: str) -> None:
    path = tmp_path / "a.csv"
    path.write_text(f"chosen,rejected,{field}\na,b,1\na,b,half\n")
    with pytest.raises(DataError, match="a number is needed, not 'half'") as caught:
        load_examples(path)
    assert (caught.value.file, caught.value.line, caught.value.field) == (path, 2, field)
    report = load_examples(path, on_malformed="skip").report
    assert (report.kept, len(report.malformed)) == (1, 1)


@pytest.mark.parametrize("name", ["a.jsonl", "a.csv", "a.parquet"])
def test_an_empty_group_is_none(write_rows: WriteRows, name: str) -> None:
    empty = [{**row, "objective": "", "data_subset": ""} for row in rows(2)]
    data = load_examples(write_rows(name, empty))
    assert [(one.objective, one.data_subset) for one in data] == [(None, None)] * 2


def test_each_example_knows_its_line(write_rows: WriteRows) -> None:
    path = write_rows("a.jsonl", [{"chosen": "", "rejected": "b"}, *rows(3)])
    path.write_text("\n" + path.read_text())
    assert [one.source_lines for one in load_examples(path)] == [(3,), (4,), (5,)]
    assert [one.source_lines for one in load_examples(write_rows("a.csv", rows(2)))] == [(1,), (2,)]


def test_negative_limits_are_refused() -> None:
    with pytest.raises(ConfigError, match="cannot be negative: -1"):
        limit_examples(ExampleData(), -1)


def test_chat_messages_through_parquet(write_rows: WriteRows) -> None:
    chat = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    other = [chat[0], {"role": "assistant", "content": "c"}]
    (example,) = load_examples(write_rows("a.parquet", [{"chosen": chat, "rejected": other}]))
    assert (example.prompt, example.texts) == (chat[:1], (chat, other))


@pytest.mark.parametrize("name", ["a.parquet", "a.csv", "a.jsonl"])
def test_errors_in_tables_name_the_row(write_rows: WriteRows, name: str) -> None:
    path = write_rows(name, [{**row, "preference": 0.5 + i} for i, row in enumerate(rows(2))])
    with pytest.raises(DataError) as caught:
        load_examples(path)
    assert (caught.value.line, caught.value.field) == (2, "preference")


@pytest.mark.parametrize(
    ("name", "text"),
    [("a.parquet", "parquet file cannot be read"), ("a.csv", "CSV file cannot be read")],
)
def test_damaged_tables(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text("a,b\n1,2,3\n")
    with pytest.raises(DataError, match=text):
        load_examples(tmp_path / name)


def test_unknown_kind_of_file(tmp_path: Path) -> None:
    (tmp_path / "a.xlsx").write_text("")
    with pytest.raises(DataError, match=r"not read.*Known kinds: \.jsonl\.gz"):
        load_examples(tmp_path / "a.xlsx")


def test_broken_line_is_an_error_or_skipped_and_counted(write_rows: WriteRows) -> None:
    path = write_rows("a.jsonl", rows(4))
    lines = path.read_text().splitlines()
    lines[2] = lines[2][:10]
    lines[3] = json.dumps({"chosen": 1, "rejected": "x"})
    path.write_text("\n".join(lines))
    with pytest.raises(DataError) as caught:
        load_examples(path)
    assert (caught.value.file, caught.value.line) == (path, 3)
    data = load_examples(path, on_malformed="skip")
    report = data.report
    assert (report.rows, report.kept, len(report.malformed)) == (4, 2, 2)
    assert report.malformed[0].startswith(f"{path}, line 3: not valid JSON")
    assert report.malformed[1].startswith(f"{path}, line 4, field 'chosen'")
    assert "2 of 4 examples kept (2 skipped as malformed)" in str(report)
    assert report.to_dict()["malformed"] == report.malformed


def test_empty_sides_are_dropped_and_identical_ones_counted(write_rows: WriteRows) -> None:
    extra = [{"chosen": " ", "rejected": "b"}, {"chosen": "b", "rejected": "b"}]
    report = load_examples(write_rows("a.jsonl", rows(1) + extra)).report
    assert (report.rows, report.kept, report.empty, report.identical) == (3, 2, 1, 1)


def test_nothing_usable(write_rows: WriteRows) -> None:
    with pytest.raises(DataError, match="no rows"):
        load_examples(write_rows("a.jsonl", []))
    with pytest.raises(DataError, match=r"no usable row.*1 dropped because a side is empty"):
        load_examples(write_rows("b.jsonl", [{"chosen": "", "rejected": "b"}]))


def test_relabelled_layout_reads_the_folder_of_the_subset(write_rows: WriteRows) -> None:
    mixed = rows(2, "harmless") + rows(1, "helpful", 2)
    for subset, count in (("both", 3), ("helpful", 2)):
        path = write_rows(f"r/{subset}/test.jsonl.gz", mixed[:count])
    root = path.parent.parent
    assert len(load_examples(root, "both", "test")) == 3
    helpful = load_examples(root, "helpful", "test")
    assert [p.data_subset for p in helpful] == ["harmless", "harmless"]
    inside = load_examples(root / "helpful", "both", "test")
    assert inside.examples == helpful.examples
    assert load_examples(root / "helpful", "helpful", "test").examples == inside.examples
    assert available_splits(root, "helpful") == ["test"]


def test_missing_split_says_what_is_there_and_what_to_do(write_rows: WriteRows) -> None:
    root = write_rows("r/both/test.jsonl.gz", rows(1)).parent.parent
    with pytest.raises(MissingFileError) as caught:
        load_examples(root)
    message = str(caught.value)
    assert message.startswith(f"{root / 'both' / 'train.jsonl.gz'} does not exist.")
    assert f"Splits in {root / 'both'}: test." in message
    assert "--train_split test or --eval_fraction 0.1" in message
    with pytest.raises(MissingFileError, match="data subsets both: give one as --data_subset"):
        load_examples(root, "helpful", "test")


def test_folder_with_the_split_files_itself_is_filtered_by_column(write_rows: WriteRows) -> None:
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


def test_parquet_shards_of_the_hub(write_rows: WriteRows) -> None:
    write_rows("hub/data/train-00000-of-00002.parquet", rows(2))
    path = write_rows("hub/data/train-00001-of-00002.parquet", rows(1, start=2))
    data = load_examples(path.parent.parent)
    assert [p.prompt for p in data] == ["p0", "p1", "p2"]


def test_one_split_in_two_formats_is_refused(write_rows: WriteRows) -> None:
    write_rows("own/train.jsonl", rows(1))
    folder = write_rows("own/train.csv", rows(1)).parent
    with pytest.raises(DataError, match=r"more than once: train\.csv, train\.jsonl"):
        load_examples(folder)


def test_local_copy_of_hh_rlhf(write_rows: WriteRows) -> None:
    helpful = write_rows("hh/helpful-base/train.jsonl.gz", rows(1))
    root = helpful.parent.parent
    with pytest.raises(MissingFileError, match="harmless-base does not exist"):
        load_examples(root)
    write_rows("hh/harmless-base/train.jsonl.gz", rows(2))
    data = load_examples(root)
    assert [p.data_subset for p in data] == ["harmless", "harmless", "helpful"]
    assert [p.columns["data_subset"] for p in load_examples(root, "helpful")] == ["helpful"]
    assert available_splits(root) == ["train"]


def test_folders_saved_by_datasets(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    table = datasets.Dataset.from_list(rows(3))
    table.save_to_disk(tmp_path / "table")
    datasets.DatasetDict({"train": table, "test": table.select([1])}).save_to_disk(tmp_path / "d")
    assert [p.columns for p in load_examples(tmp_path / "table")] == rows(3)
    assert [p.columns for p in load_examples(tmp_path / "d", split="test")] == rows(3)[1:2]
    assert available_splits(tmp_path / "d") == ["test", "train"]
    assert sources.is_single_table(tmp_path / "table")
    with pytest.raises(MissingFileError, match="Splits in"):
        load_examples(tmp_path / "d", split="validation")


def test_hh_rlhf_on_the_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("datasets")
    calls = []

    def load_dataset(path: str, *, data_dir: str, split: str, revision: str | None) -> Any:
        calls.append((path, data_dir, split, revision))
        return datasets.Dataset.from_list(rows(2 if data_dir == "harmless-base" else 1))

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    data = load_examples("Anthropic/hh-rlhf", "both", "test", revision="abc")
    assert [p.data_subset for p in data] == ["harmless", "harmless", "helpful"]
    assert [call[1] for call in calls] == ["harmless-base", "helpful-base"]
    assert calls[0] == ("Anthropic/hh-rlhf", "harmless-base", "test", "abc")
    assert len(load_examples("Anthropic/hh-rlhf", "helpful")) == 1
    with pytest.raises(ConfigError, match="no data subset 'x'"):
        load_examples("Anthropic/hh-rlhf", "x")


def test_other_data_on_the_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("datasets")
    failures: list[Exception] = []

    def load_dataset(path: str, *, split: str, revision: str | None) -> Any:
        if failures:
            raise failures.pop()
        return datasets.Dataset.from_list(rows(2, "helpful") + rows(1, "other", 2))

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    assert len(load_examples("org/pairs", "helpful")) == 2
    failures.append(datasets.exceptions.DatasetNotFoundError("Dataset 'org/pairs' doesn't exist"))
    with pytest.raises(MissingFileError, match="neither a local path nor a data set on the hub"):
        load_examples("org/pairs")
    failures.append(ConnectionError("Couldn't reach the Hub"))
    with pytest.raises(DataError, match=r"Couldn't reach the Hub.*local folder.*HF_HUB_OFFLINE"):
        load_examples("org/pairs")
    failures.append(ValueError("Unknown split \"train\". Should be one of ['test']."))
    with pytest.raises(MissingFileError, match=r"Should be one of \['test'\].*--eval_fraction"):
        load_examples("org/pairs")


@pytest.mark.parametrize(
    "path", ["data/relabeled_hh_rlhf", "./x", "/nowhere/x", "x.jsonl", "a/b/c"]
)
def test_local_paths_are_not_looked_for_on_the_hub(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(MissingFileError, match="does not exist"):
        load_examples(path)


def test_limit_is_spread_over_subsets_in_input_order(write_rows: WriteRows) -> None:
    mixed = rows(50, "a") + rows(50, "b", 50) + rows(3, "c", 100)
    path = write_rows("a.jsonl", mixed)
    data = load_examples(path, limit=23)
    assert Counter(p.data_subset for p in data) == {"a": 10, "b": 10, "c": 3}
    numbers = [int(str(p.prompt)[1:]) for p in data]
    assert numbers == sorted(numbers)
    assert (data.report.kept, data.report.limited, data.report.rows) == (23, 80, 103)
    assert load_examples(path, limit=23).examples == data.examples
    assert load_examples(path, limit=23, seed=1).examples != data.examples
    assert len(load_examples(path, limit=999)) == 103
    with pytest.raises(ConfigError):
        load_examples(path, limit=-1)
