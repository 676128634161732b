"""The examples of a training run: where they come from, which are held out, dropped and counted."""

from __future__ import annotations

import json
import warnings

import datasets
import pytest
import torch

from hidden_context.data.importers import read_row
from hidden_context.data.reshape import merge_prompts
from hidden_context.data.splits.division import fold_of
from hidden_context.errors import ConfigError, DataError, HiddenContextWarning
from hidden_context.models import RewardModel
from hidden_context.training import TrainConfig, run
from hidden_context.training.frozen.fit import member_folds, response_groups
from hidden_context.training.workflow import as_examples, load_run_data
from support.builders import CHAT_TEMPLATE, preference_rows, train_config
from support.paper_layout import write_rows
from support.runs import losses

ROWS = preference_rows(64, seed=1)
TEST = preference_rows(24, seed=2)


def test_rows_of_every_kind_and_files_train_alike(fit, tmp_path):
    write_rows(tmp_path / "train.jsonl", ROWS[:16])
    write_rows(tmp_path / "test.jsonl", TEST)
    kinds = {
        "dictionaries": ROWS[:16],
        "dataset": datasets.Dataset.from_list(ROWS[:16]),
        "examples": [read_row(dict(row)) for row in ROWS[:16]],
    }
    first, *others = [fit(rows, TEST, into=name) for name, rows in kinds.items()]
    others.append(fit(into="files", data_path=str(tmp_path)))
    assert len(losses(first)) == 2
    for other in others:
        assert losses(other) == losses(first)
        assert other.metrics == first.metrics
        assert other.reports["train"].kept == 16


def test_blank_rows_and_limits_in_memory_are_counted():
    rows = [*ROWS[:8], {"chosen": " ", "rejected": "something"}]
    splits = load_run_data(TrainConfig(train_dataset_size=5, eval_dataset_size=3), rows, TEST)
    report = splits.reports["train"]
    assert (report.rows, report.kept, report.empty, report.limited) == (9, 5, 1, 3)
    assert len(splits.train) == 5
    assert (splits.reports["test"].kept, splits.reports["test"].limited) == (3, 21)


def test_held_out_prompts_stand_on_one_side_only():
    rows = [row for row in ROWS for _ in range(2)]  # every prompt twice
    splits = load_run_data(TrainConfig(validation_fraction=0.25, eval_fraction=0.25), rows)
    parts = (splits.train, splits.validation, splits.test)
    sets = [{example.prompt_key for example in part} for part in parts]
    assert all(sets)
    assert sum(map(len, sets)) == len(set.union(*sets)) == 64
    for name, report in splits.reports.items():
        assert report.rows == report.kept == len(getattr(splits, name))
    with pytest.warns(HiddenContextWarning, match="2 prompts are in both"):
        given = load_run_data(TrainConfig(eval_fraction=0.25), rows, ROWS[:2])
    assert len(given.train) == 128  # pairs to evaluate on were given: nothing is held out
    with pytest.raises(DataError, match="leaves no example on the held-out side"):
        load_run_data(TrainConfig(validation_fraction=0.01), rows[:2])


LONG = " It is so." * 60


def too_long(rows, count=10**6):
    """The rows, of which the first ones have a response that is too long."""
    return [row | {"rejected": row["rejected"] + LONG} for row in rows[:count]] + rows[count:]


def read_of(folder) -> dict:
    return json.loads((folder / "metrics.json").read_text())["read"]


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize(
    ("over_length", "kept", "field"),
    [("drop", (16, 8), "too_long"), ("truncate", (19, 9), "truncated")],
)
def test_long_pairs_are_counted(fit, tmp_path, over_length, kept, field, frozen):
    options = {"max_length": 40 if frozen else 70, "over_length": over_length}
    rows = [*ROWS[3:19], *too_long(ROWS[:3])]
    result = fit(
        rows, [*TEST[:8], *too_long(TEST[:1])], freeze_backbone=frozen, probe_epochs=2, **options
    )
    read = read_of(tmp_path)
    assert (read["train"]["kept"], read["test"]["kept"]) == kept
    assert (read["train"][field], read["test"][field], read["train"]["rows"]) == (3, 1, 19)
    assert result.model.reward_scale.texts == 2 * kept[1]


@pytest.mark.parametrize("frozen", [False, True])
def test_rows_of_one_prompt_are_merged_and_counted(fit, tmp_path, frozen):
    """Their long responses alone are left out; those of the evaluation set stay by themselves."""
    options = {"max_length": 70, "freeze_backbone": frozen, "probe_epochs": 1}
    options |= {"embed": "together", "probe_members": 1}
    rows = [*ROWS[:16], *too_long(ROWS[:3])]
    result = fit(rows, [*TEST[:8], TEST[0]], **options)
    counts = ("rows", "kept", "merged", "left_out", "too_long")
    read = read_of(tmp_path)
    assert [read["train"][name] for name in counts] == [19, 16, 3, 3, 0]
    assert [read["test"][name] for name in counts] == [9, 9, 0, 0, 0]
    said = "16 of 16 examples kept (19 rows, one example for each prompt, 3 responses"
    assert said in str(result.reports["train"])
    assert "- train examples: 16" in (result.path / "README.md").read_text()
    apart = fit(rows, TEST[:8], into="b", merge_prompts=False, **options).reports["train"]
    assert [getattr(apart, name) for name in counts] == [19, 16, 0, 0, 3]


@pytest.mark.parametrize("frozen", [False, True])
def test_abstentions_are_counted_and_are_no_votes(fit, tmp_path, frozen):
    """Two who could not tell change the counts, and nothing that is learned."""
    votes, unsure = [{"annotator": "a", "preference": 1}], [{"annotator": "b"}, {"annotator": "c"}]
    judged = [row | {"annotations": votes} for row in ROWS[:12]]
    asked = [row | {"annotations": votes + unsure} for row in ROWS[:12]]
    nobody = ROWS[20] | {"annotations": [{"annotator": "b"}]}
    options = {"freeze_backbone": frozen, "probe_epochs": 2, "probe_members": 1}
    results = [
        fit(rows, rows, into=name, probe_batch_size=8, **options)
        for name, rows in (("a", judged), ("b", [*asked, nobody]))
    ]
    names = ("abstentions", "unjudged", "rows", "kept")
    for name, counts in (("a", [0, 0, 12, 12]), ("b", [25, 1, 13, 12])):
        for read in read_of(tmp_path / name).values():
            assert [read[field] for field in names] == counts
    assert losses(results[0]) == losses(results[1])
    assert results[0].metrics == results[1].metrics


@pytest.mark.parametrize("frozen", [False, True])
def test_nothing_left_is_an_error(fit, frozen):
    with pytest.raises(DataError, match=r"no training examples are left.*16 dropped because"):
        fit(ROWS[:16], freeze_backbone=frozen, max_length=1)


def test_chat_messages_with_a_given_template(fit, tmp_path):
    rows = preference_rows(16, seed=4, chat=True)
    with pytest.raises(ConfigError, match="--chat_template"):
        fit(rows)
    template = tmp_path / "template.jinja"
    template.write_text(CHAT_TEMPLATE)
    result = fit(rows, into="chat", chat_template=str(template))
    chat = rows[0]["chosen"]
    rendered = "".join(f"<{m['role']}> {m['content']}</s>" for m in chat)
    again = RewardModel.from_pretrained(result.path, dtype="float32")
    raw = result.model.raw_outputs([rendered])
    assert torch.allclose(again.raw_outputs([chat]), raw, atol=1e-6)


def test_rows_in_memory_are_numbered_from_one():
    given = [read_row(ROWS[0]), ROWS[1], read_row(ROWS[2], line=40)]
    assert [example.source_lines for example in as_examples(given)] == [(1,), (2,), (40,)]


def test_a_column_to_divide_by_holds_for_rows_in_memory_for_merging_and_for_members():
    """One prompt, 12 annotators: no annotator on two sides, nor held out in part by a member."""
    rows = [
        {"prompt": "Tea?", "chosen": f" {n % 3}", "rejected": " no", "who": n % 12}
        for n in range(120)
    ]
    config = TrainConfig(split_by="who", eval_fraction=0.25, validation_fraction=0.25)
    splits = load_run_data(config, rows)
    parts = (splits.train, splits.test, splits.validation)
    sets = [{row.columns["who"] for row in part} for part in parts]
    assert all(sets)
    assert sum(map(len, sets)) == len(set.union(*sets)) == 12
    merged = merge_prompts(splits.train, splits.options.keys(splits.train))
    assert sorted(example.columns["who"] for example in merged) == sorted(sets[0])
    assert {len(example.responses) for example in merged} == {2}
    folds = [fold_of(str(example.columns["who"]), 5, "probe member") for example in splits.train]
    groups = response_groups(splits.train, splits.options)
    held_out, _ = member_folds(groups, [2] * len(splits.train), 5)
    for member, mask in enumerate(held_out):
        assert mask.tolist() == [fold == member for fold in folds]
    with pytest.warns(HiddenContextWarning, match="12 values of 'who' are in both"):
        load_run_data(TrainConfig(split_by="who"), rows, rows)


# ---- Little left to train on: a warning with the reasons, or a stop, whichever way is trained


FEW = ROWS[:24]

WAYS = {
    "finetune": {"tuning": "lora"},
    "frozen": {"freeze_backbone": True, "probe_epochs": 1, "probe_members": 1},
    "ensemble": {"tuning": "lora", "ensemble": "lora", "ensemble_members": 2},
}


def train(backbones, folder, rows, evaluated=None, **options):
    config = train_config(backbones("gpt2"), folder, max_length=100, **options)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = run(config, rows, evaluated)
    said = [str(w.message) for w in caught if issubclass(w.category, HiddenContextWarning)]
    return result, list(dict.fromkeys(said))


@pytest.mark.parametrize("way", WAYS)
def test_training_stops_below_its_least_judgements(backbones, tmp_path, way):
    """What is too long is known once it is tokenized, and counts as gone."""
    with pytest.raises(DataError, match=r"19 judgements are left.*--min_judgements 20") as caught:
        train(backbones, tmp_path, too_long(FEW, 5), min_judgements=20, **WAYS[way])
    assert "19 of 24 examples kept (5 dropped because a side is too long)" in str(caught.value)
    assert "--min_judgements 0" in str(caught.value)
    assert not (tmp_path / "final").exists()
    result, said = train(backbones, tmp_path, too_long(FEW, 4), min_judgements=20, **WAYS[way])
    assert (result.reports["train"].kept, said) == (20, [])


@pytest.mark.parametrize("way", WAYS)
def test_few_judgements_and_many_losses_are_warned_of(backbones, tmp_path, way):
    _, said = train(backbones, tmp_path, too_long(FEW, 18), too_long(FEW, 6)[:12], **WAYS[way])
    assert [words.split(" of ")[0] for words in said if "are lost" in words] == ["75%", "50%"]
    assert "6 of 24 examples kept (18 dropped because a side is too long)" in said[-3]
    assert "6 of 12 examples kept (6 dropped because a side is too long)" in said[-2]
    assert said[-1].startswith("only 6 judgements are left to train on: training rows in memory")


BLANK = [{"chosen": " ", "rejected": "text"}] * 4
ONE_PROMPT = [
    {"prompt": "Tea?", "chosen": "It is kind.", "rejected": f"No. {n}" + LONG * (n % 4 > 0)}
    for n in range(12)
]
RATED = [row | {"rating_chosen": 2, "rating_rejected": 1} for row in FEW[:12]]
VOTES = [{"annotator": name, "preference": 1} for name in "abcde"]
VOTED = [row | {"annotations": [*VOTES, {"annotator": "f"}]} for row in FEW[:4]]


@pytest.mark.parametrize(
    ("rows", "options", "said"),
    [
        # a fifth may be lost unsaid; 4 of 28 rows are blank and 2 or 1 of the other 24 too long
        (
            [*BLANK, *too_long(FEW, 2)],
            {},
            "21% of the examples are lost: training rows in memory: 22 of 28 examples kept (4 "
            "dropped because a side is empty, 2 dropped because a side is too long",
        ),
        ([*BLANK, *too_long(FEW, 1)], {}, None),
        # most rows of one prompt lose a response, though the example they make is kept
        (
            [*ONE_PROMPT, *FEW],
            {},
            "25% of the examples are lost: training rows in memory: 25 of 25 examples kept (36 "
            "rows, one example for each prompt, 9 responses left out, empty or too long).",
        ),
        (FEW, {"train_dataset_size": 20}, None),
        # ratings count if they are read, every vote is a judgement, and an abstention is none
        (RATED, {"min_judgements": 36, "anchor_weight": 1.0}, None),
        (VOTED, {"min_judgements": 20, "weigh_by": "example"}, None),
    ],
)
def test_losses_are_warned_of_and_what_is_no_loss_is_not(backbones, tmp_path, rows, options, said):
    _, found = train(backbones, tmp_path, rows, **options)
    assert [said in text for text in found] == ([] if said is None else [True])


def test_ratings_that_are_not_read_are_no_judgements(backbones, tmp_path):
    with pytest.raises(DataError, match="12 judgements are left"):
        train(backbones, tmp_path, RATED, min_judgements=20)
