"""Little left to train on: a warning with the reasons, or a stop, whichever way is trained."""

from __future__ import annotations

import warnings

import pytest

from hidden_context.errors import ConfigError, DataError, HiddenContextWarning
from hidden_context.training import TrainConfig, run
from support.builders import preference_rows, train_config

ROWS = preference_rows(24, seed=1)
LONG = " It is so." * 60

WAYS = {
    "finetune": {"tuning": "lora"},
    "frozen": {"freeze_backbone": True, "probe_epochs": 1, "probe_members": 1},
    "ensemble": {"tuning": "lora", "ensemble": "lora", "ensemble_members": 2},
}


def losing(count: int) -> list[dict[str, str]]:
    """The rows, of which some have a response that is too long."""
    return [
        row | {"rejected": row["rejected"] + LONG} if number < count else row
        for number, row in enumerate(ROWS)
    ]


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
        train(backbones, tmp_path, losing(5), min_judgements=20, **WAYS[way])
    assert "19 of 24 examples kept (5 dropped because a side is too long)" in str(caught.value)
    assert "--min_judgements 0" in str(caught.value)
    assert not (tmp_path / "final").exists()
    result, said = train(backbones, tmp_path, losing(4), min_judgements=20, **WAYS[way])
    assert (result.reports["train"].kept, said) == (20, [])


@pytest.mark.parametrize("way", WAYS)
def test_few_judgements_and_many_losses_are_warned_of(backbones, tmp_path, way):
    _, said = train(backbones, tmp_path, losing(18), losing(6)[:12], **WAYS[way])
    assert [words.split(" of ")[0] for words in said if "is lost" in words] == [
        "75% is lost",
        "50% is lost",
    ]
    assert "6 of 24 examples kept (18 dropped because a side is too long)" in said[-3]
    assert "6 of 12 examples kept (6 dropped because a side is too long)" in said[-2]
    assert said[-1].startswith("only 6 judgements are left to train on: training rows in memory")


def test_blank_rows_and_long_ones_add_up(backbones, tmp_path):
    """A fifth may be lost unsaid; 4 of 28 rows are blank and 2 or 1 of the other 24 too long."""
    blank = [{"chosen": " ", "rejected": "text"}] * 4
    _, said = train(backbones, tmp_path, [*blank, *losing(2)])
    assert len(said) == 1
    assert said[0].startswith("21% is lost of training rows in memory: 22 of 28 examples kept")
    assert "4 dropped because a side is empty, 2 dropped because a side is too long" in said[0]
    _, said = train(backbones, tmp_path, [*blank, *losing(1)])
    assert said == []


def test_rows_that_were_merged_count_one_by_one(backbones, tmp_path):
    """Of 40 rows with one prompt most lose a response, though the example they make is kept."""
    prompt = {"prompt": "Tea?", "chosen": "An answer that is kind."}
    rows = [prompt | {"rejected": f"No. {n}" + LONG * (n % 4 > 0)} for n in range(12)]
    _, said = train(backbones, tmp_path, [*rows, *ROWS])
    assert said == [
        "25% is lost of training rows in memory: 25 of 25 examples kept (36 rows, those of one "
        "prompt as one example, 9 responses left out, empty or too long)."
    ]


def test_a_size_limit_is_no_loss(backbones, tmp_path):
    _, said = train(backbones, tmp_path, ROWS, train_dataset_size=20)
    assert said == []


def test_ratings_that_are_not_read_are_no_judgements(backbones, tmp_path):
    rated = [row | {"rating_chosen": 2, "rating_rejected": 1} for row in ROWS[:12]]
    with pytest.raises(DataError, match="12 judgements are left"):
        train(backbones, tmp_path, rated, min_judgements=20)
    _, said = train(backbones, tmp_path, rated, min_judgements=36, anchor_weight=1.0)
    assert said == []


def test_every_vote_is_a_judgement_and_an_abstention_is_none(backbones, tmp_path):
    votes = [{"annotator": name, "preference": 1} for name in "abcde"]
    rows = [row | {"annotations": [*votes, {"annotator": "f"}]} for row in ROWS[:4]]
    _, said = train(backbones, tmp_path, rows, min_judgements=20, weigh_by="example")
    assert said == []


def test_a_negative_floor_is_refused():
    with pytest.raises(ConfigError, match="--min_judgements is -1"):
        TrainConfig(min_judgements=-1)
