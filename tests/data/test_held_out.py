import pytest

from hidden_context.data.splits.division import SplitOptions
from hidden_context.data.splits.held_out import load_evaluation, load_splits
from hidden_context.errors import ConfigError, DataError, MissingFileError
from support.rows import ranking


def rows(count, start=0):
    """Two pairs for every prompt."""
    return [
        {"prompt": f"prompt {i // 2}", "chosen": f" good {i}", "rejected": " bad", "row": i}
        for i in range(start, start + count)
    ]


def prompts(examples):
    return {example.prompt_key for example in examples}


def numbers(examples):
    return [example.columns["row"] for example in examples]


def test_both_splits_as_they_are(write_rows):
    write_rows("d/train.jsonl", rows(20))
    root = write_rows("d/test.jsonl", rows(8, start=16)).parent
    splits = load_splits(root)
    assert numbers(splits.train) == list(range(20))
    assert numbers(splits.test) == list(range(16, 24))
    assert (splits.prompt_overlap, splits.eval_fraction, splits.validation) == (2, 0.0, [])
    assert set(splits.reports) == {"train", "test"}
    assert load_evaluation(root).examples == splits.test
    with pytest.raises(ConfigError, match=r"has both splits.*--eval_split train"):
        load_splits(root, eval_fraction=0.2)


@pytest.mark.parametrize("there", ["train", "test"])
def test_the_only_split_is_divided_by_prompt(write_rows, there):
    root = write_rows(f"d/both/{there}.jsonl.gz", rows(400)).parent.parent
    with pytest.raises(MissingFileError, match=r"--eval_fraction 0\.1"):
        load_splits(root)
    splits = load_splits(root, eval_fraction=0.25, validation_fraction=0.1)
    sets = [prompts(splits.train), prompts(splits.validation), prompts(splits.test)]
    assert sum(map(len, sets)) == len(set.union(*sets)) == 200
    assert sorted(numbers(splits.train + splits.validation + splits.test)) == list(range(400))
    assert 60 < len(splits.test) < 140
    assert 10 < len(splits.validation) < 60
    assert splits.eval_fraction == 0.25
    # What evaluation reads is what training held out, whichever way it is asked for.
    assert load_evaluation(root, eval_fraction=0.25).examples == splits.test
    assert load_evaluation(root, split=there, eval_fraction=0.25).examples == splits.test
    same = load_splits(root, train_split=there, eval_split=there, eval_fraction=0.25)
    assert same.test == splits.test
    # The validation share leaves the test pairs alone.
    assert load_splits(root, eval_fraction=0.25).test == splits.test


def test_a_single_file_is_divided_by_a_tenth_unless_told_otherwise(write_rows):
    path = write_rows("a.jsonl", rows(400))
    splits = load_splits(path)
    assert splits.eval_fraction == 0.1
    assert 10 < len(splits.test) < 80
    assert load_evaluation(path, eval_fraction=0.1).examples == splits.test
    assert len(load_evaluation(path).examples) == 400
    assert load_splits(path, eval_fraction=0.3).eval_fraction == 0.3


def test_nothing_is_held_out_where_the_fraction_is_zero(write_rows):
    path = write_rows("a.jsonl", rows(400))
    splits = load_splits(path, eval_fraction=0)
    assert (numbers(splits.train), splits.test) == (list(range(400)), [])
    assert (set(splits.reports), splits.eval_fraction) == ({"train"}, 0.0)
    assert len(load_evaluation(path, eval_fraction=0)) == 400
    root = write_rows("d/train.jsonl", rows(20)).parent
    only = load_splits(root, eval_fraction=0, validation_fraction=0.3)
    assert sorted(numbers(only.train + only.validation)) == list(range(20))
    assert (bool(only.validation), only.test) == (True, [])
    same = load_splits(root, eval_split="train", eval_fraction=0)
    assert (len(same.train), same.test) == (20, [])
    write_rows("d/test.jsonl", rows(4, start=100))
    assert numbers(load_splits(root, eval_fraction=0).test) == [100, 101, 102, 103]
    with pytest.raises(MissingFileError, match="dev"):
        load_splits(root, train_split="dev", eval_fraction=0)


def test_reports_add_up(write_rows):
    extra = [{"prompt": "", "chosen": "", "rejected": "b"}, {"chosen": 1, "rejected": "b"}]
    path = write_rows("a.jsonl", [*rows(200), *extra, ranking()])
    splits = load_splits(path, validation_fraction=0.2, on_malformed="skip")
    reports = splits.reports
    assert sum(report.rows for report in reports.values()) == 203
    for name in ("train", "validation", "test"):
        assert reports[name].kept == len(getattr(splits, name))
    train = reports["train"]
    assert (train.empty, len(train.malformed), train.rows) == (1, 1, train.kept + 2)
    assert [report.rankings for report in reports.values()] == [1, 0, 0]  # as they were read


def test_limits_come_after_the_division(write_rows):
    path = write_rows("a.jsonl", rows(400))
    whole = load_splits(path, validation_fraction=0.2)
    small = load_splits(path, validation_fraction=0.2, train_limit=40, eval_limit=7)
    assert (len(small.train), len(small.validation), len(small.test)) == (40, 10, 7)
    assert set(numbers(small.train)) <= set(numbers(whole.train))
    assert set(numbers(small.test)) <= set(numbers(whole.test))
    assert load_evaluation(path, eval_fraction=0.1, limit=7).examples == small.test


def test_too_few_prompts_and_bad_fractions(write_rows):
    path = write_rows("a.jsonl", rows(2))
    words = "dividing 1 prompts leaves the .* --split_by annotator or --split_by response"
    with pytest.raises(DataError, match=rf"{words}"):
        load_splits(path)
    with pytest.raises(ConfigError, match="--eval_fraction has to be"):
        load_splits(path, eval_fraction=1.0)
    with pytest.raises(ConfigError, match="--validation_fraction has to be"):
        load_splits(path, validation_fraction=-0.1)


def by_topic(count):
    """Pairs of 21 topics, of which topic t has t pairs."""
    sizes = [topic for topic in range(22) for _ in range(topic)]
    return [row | {"topic": topic} for row, topic in zip(rows(count), sizes, strict=False)]


@pytest.mark.parametrize("balanced", [False, True])
def test_evaluation_reads_what_training_held_out_by_column(write_rows, tmp_path, balanced):
    path = write_rows("a.jsonl", by_topic(231))
    options = SplitOptions("topic", tmp_path / "sides.json" if balanced else None)
    wanted = {"eval_fraction": 0.2, "options": options}
    if balanced:
        with pytest.raises(MissingFileError, match="the file that training wrote"):
            load_evaluation(path, **wanted)
        load_splits(path, validation_fraction=0.1, eval_fraction=0, options=options)
        with pytest.raises(ConfigError, match="no division for evaluation"):
            load_evaluation(path, **wanted)
        (tmp_path / "sides.json").unlink()
    splits = load_splits(path, validation_fraction=0.25, **wanted)
    parts = (splits.train, splits.validation, splits.test)
    sets = [{example.columns["topic"] for example in part} for part in parts]
    assert sum(map(len, sets)) == len(set.union(*sets)) == 21
    assert splits.options == options
    assert load_evaluation(path, **wanted).examples == splits.test
    assert [*map(len, parts)] == [139, 46, 46] or not balanced


def test_groups_in_both_files_are_counted_by_column(write_rows):
    write_rows("d/train.jsonl", by_topic(50))
    root = write_rows("d/test.jsonl", by_topic(60)[40:]).parent
    assert load_splits(root, options=SplitOptions("topic")).prompt_overlap == 2
    assert load_splits(root).prompt_overlap == 5
