"""What a division leaves together, and what training and evaluation hold out."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hidden_context.data.importers import read_row
from hidden_context.data.splits.division import (
    EVALUATION_SALT,
    VALIDATION_SALT,
    SplitOptions,
    first_question,
    folds,
    prompt_fraction,
    prompt_overlap,
    split_by_prompt,
)
from hidden_context.data.splits.held_out import load_evaluation, load_splits
from hidden_context.errors import ConfigError, DataError, MissingFileError
from support.rows import assistant, ranking, user


def as_text(messages, end="\n"):
    names = {"user": "Human", "assistant": "Assistant"}
    return "".join(f"{end}{end}{names[m['role']]}: {m['content']}" for m in messages)


def test_the_first_question_is_the_same_in_every_format():
    chats = [user("Tea  or\ncoffee?"), assistant("Tea."), user("Why?")]
    sides = {"chosen": "So.", "rejected": "No."}
    whole = {side: [*chats, assistant(text)] for side, text in sides.items()}
    system = {"role": "system", "content": "You are terse."}
    texts = {side: as_text(messages) for side, messages in whole.items()}
    rows = [
        whole,
        texts,
        {side: text.replace("\n", "\r\n") for side, text in texts.items()},
        {side: text.removeprefix("\n\n") for side, text in texts.items()},
        {side: f"A dialogue.{text}" for side, text in texts.items()},
        {"prompt": chats} | {side: [assistant(text)] for side, text in sides.items()},
        {"prompt": [system, *chats]} | {side: [assistant(text)] for side, text in sides.items()},
        {"prompt": as_text(chats)} | sides,
        {"prompt": as_text(chats) + "\n\nAssistant:"} | sides,
        {"prompt": "Tea  or\ncoffee?"} | sides,
        {"prompt": "Tea  or\ncoffee?"} | whole,
        {"prompt": "Tea or coffee?\n\nAssistant: Tea.\n\nHuman: Why?\n\nAssistant:"} | sides,
        {side: [system, *messages] for side, messages in whole.items()},
        {"prompt": [system]} | whole,
        {"prompt": chats, "responses": ["So.", "No."], "ranks": [1, 2]},
        {"messages": whole["chosen"], "rating": 3},
    ]
    assert [first_question(read_row(row)) for row in rows] == ["Tea or coffee?"] * len(rows)
    # sides that begin with different questions belong to both
    both = {"chosen": [user("a"), assistant("x")], "rejected": [user("b"), assistant("y")]}
    assert first_question(read_row(both)) == "a\0b"


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "Tea?", "chosen": " a", "rejected": " b"},
        {"prompt": "Tea? Human: no", "chosen": " a", "rejected": " b\n\nHuman: c\n\nAssistant: d"},
        {"prompt": "\n\nHuman: Tea?\n\nAssistant:", "chosen": " a", "rejected": " b"},
        {side: f"\n\nHuman: Tea?\n\nAssistant: {side}" for side in ("chosen", "rejected")},
        {"chosen": [user("Tea?"), assistant("a")], "rejected": [user("Tea?"), assistant("b")]},
        {"chosen": "some text a", "rejected": "some text b"},
        {"chosen": "a", "rejected": "b"},
        {"chosen": "\n\nAssistant: a", "rejected": "\n\nAssistant: b"},
    ],
)
def test_prompts_of_one_turn_keep_their_sides(row):
    """What is hashed for them is what always was."""
    example = read_row(row)
    assert first_question(example) == example.prompt_key


def pair(**columns):
    return read_row({"prompt": "p", "chosen": " a", "rejected": " b"} | columns, line=7)


def test_a_column_s_values_are_spelt_alike():
    def key(value):
        return SplitOptions("topic").keys([pair(topic=value)])[0]

    assert key("Ban  bottles ") == key("Ban bottles")
    assert key(3) == key(3.0) == key("3")
    assert key({"b": 1, "a": [{"c": 2, "d": None}]}) == key({"a": [{"c": 2}], "b": 1, "e": None})
    assert key(False) == "false"


@pytest.mark.parametrize("value", [None, "", " ", float("nan")])
def test_an_empty_value_is_an_error_that_names_the_row(value):
    examples = [pair(topic="a"), pair(topic=value)]
    words = r"file, line 7, field 'topic': 1 of 2 .* \(there: prompt, chosen, rejected, topic\)"
    with pytest.raises(DataError, match=words):
        SplitOptions("topic").keys(examples, "file")
    with pytest.raises(DataError, match="2 of 2 examples have no value"):
        split_by_prompt(examples, 0.5, options=SplitOptions("topics"))


def test_data_of_one_prompt_is_divided_by_annotator_or_response():
    who = [pair(annotator=f"judge {n % 20}") for n in range(100)]
    options = SplitOptions("annotator")
    rest, held_out = split_by_prompt(who, 0.5, options=options)
    assert len(rest) + len(held_out) == 100
    assert not {*options.keys(rest)} & {*options.keys(held_out)}
    assert options.keys([pair(annotations=[{"annotator": "ann", "preference": 1}])]) == ["ann"]
    several = [{"annotator": "ann", "preference": 1}, {"annotator": "bob", "preference": 0}]
    with pytest.raises(DataError, match=r"have different values in this column \(ann, bob\)"):
        options.keys([pair(annotations=several)])
    sides = [pair(chosen=f" {one}", rejected=f" {two}") for one, two in ("xy", "yx", "xz")]
    rated = read_row({"prompt": "p", "response": "x", "rating": 1})
    one, swapped, other, alone = SplitOptions("response").keys([*sides, rated])
    assert one == swapped != other
    assert alone == "x"


def test_prompt_fraction_is_stable_for_ever():
    # Changing any of these would move rows between the training and the test set of old runs.
    assert prompt_fraction("", "") == 0.4304816492364817
    assert prompt_fraction("hello", "evaluation") == 0.5763549865938171
    assert (EVALUATION_SALT, VALIDATION_SALT) == ("evaluation", "validation")
    for refused in (lambda: split_by_prompt([], 1.5), lambda: folds([], 1)):
        with pytest.raises(ConfigError):
            refused()


def test_prompt_fraction_is_uniform_and_salts_are_independent():
    first = [prompt_fraction(f"prompt {i}", "a") for i in range(20_000)]
    second = [prompt_fraction(f"prompt {i}", "b") for i in range(20_000)]
    assert all(0 <= x < 1 for x in first)
    deciles = [sum(i / 10 <= x < (i + 1) / 10 for x in first) for i in range(10)]
    assert max(abs(count - 2000) for count in deciles) < 5 * (20_000 * 0.09) ** 0.5
    both = sum(x < 0.3 and y < 0.3 for x, y in zip(first, second, strict=True))
    assert abs(both - 1800) < 5 * (20_000 * 0.09 * 0.91) ** 0.5


@settings(max_examples=50)
@given(
    st.lists(st.text(" ab", max_size=3), min_size=1, max_size=60),
    st.floats(0, 1),
    st.floats(0, 1),
)
def test_no_prompt_on_both_sides_and_larger_fractions_only_add(prompts, one, two):
    pairs = [pair(prompt=prompt) for prompt in prompts]
    small, large = sorted((one, two))
    rest, held_out = split_by_prompt(pairs, small)
    assert prompt_overlap(rest, held_out) == 0
    assert len(rest) + len(held_out) == len(pairs)
    order = {id(p): n for n, p in enumerate(pairs)}
    places = [[order[id(p)] for p in side] for side in (rest, held_out)]
    assert places == [*map(sorted, places)]
    assert {*map(id, held_out)} <= {*map(id, split_by_prompt(pairs, large)[1])}


@settings(max_examples=30)
@given(st.lists(st.text("ab", max_size=3), min_size=1, max_size=40), st.integers(2, 6))
def test_folds_hold_out_every_example_once_and_no_prompt_twice(prompts, k):
    pairs = [pair(prompt=prompt) for prompt in prompts]
    divisions = folds(pairs, k)
    assert len(divisions) == k
    held = [id(p) for _, held_out in divisions for p in held_out]
    assert sorted(held) == sorted(map(id, pairs))
    for rest, held_out in divisions:
        assert prompt_overlap(rest, held_out) == 0
        assert len(rest) + len(held_out) == len(pairs)


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


def by_topic(count):
    """Pairs of 21 topics, of which topic t has t pairs."""
    sizes = [topic for topic in range(22) for _ in range(topic)]
    return [row | {"topic": topic} for row, topic in zip(rows(count), sizes, strict=False)]


def test_both_splits_as_they_are(write_rows):
    write_rows("d/train.jsonl", by_topic(50))
    root = write_rows("d/test.jsonl", by_topic(60)[40:]).parent
    splits = load_splits(root)
    assert numbers(splits.train) == list(range(50))
    assert numbers(splits.test) == list(range(40, 60))
    assert (splits.prompt_overlap, splits.eval_fraction, splits.validation) == (5, 0.0, [])
    assert load_splits(root, options=SplitOptions("topic")).prompt_overlap == 2
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
    words = r"leaves no example .* \(groups: 1\).* --split_by annotator or --split_by response"
    with pytest.raises(DataError, match=words):
        load_splits(path)
    with pytest.raises(ConfigError, match="--eval_fraction has to be"):
        load_splits(path, eval_fraction=1.0)
    with pytest.raises(ConfigError, match="--validation_fraction has to be"):
        load_splits(path, validation_fraction=-0.1)


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
