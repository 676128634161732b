"""Texts rated one by one, by annotators who each have a level and a unit of their own."""

from __future__ import annotations

import json
import math
import random
from collections import Counter
from functools import partial
from statistics import correlation, fmean, pstdev

import pytest
import torch

from hidden_context.errors import DataError
from hidden_context.likelihood.single import members_of
from hidden_context.training import TrainConfig
from hidden_context.training.workflow import load_run_data
from support import runs
from support.builders import TOPICS
from support.paper_layout import write_rows
from support.runs import logged, losses

WORDS = ("cruel", "rude", "vague", "clear", "kind")  # from the worst to the best
LEVELS = {"ann": -1.2, "bob": -0.7, "cat": -0.2, "dan": 0.2, "eve": 0.7, "fay": 1.2}
UNITS = {"ann": 0.7, "bob": 1.5, "cat": 1.0, "dan": 0.7, "eve": 1.3, "fay": 1.0}


def rated_rows(count: int, seed: int, step: int = 1):
    """Each text rated by four of six, from 0 to 100 in steps; its quality is that of its word."""
    draw = random.Random(seed)
    rows = []
    for number in range(count):
        word = number % len(WORDS)
        ratings = []
        for annotator in draw.sample(sorted(LEVELS), 4):
            felt = (word - 2) / 2 + draw.gauss(0, 0.2)
            value = 50 + 18 * (LEVELS[annotator] + UNITS[annotator] * felt)
            value = step * round(min(max(value, 0), 100) / step)
            ratings.append({"annotator": annotator, "rating": value})
        prompt = f"\n\nHuman: What about {draw.choice(TOPICS)} {seed}{number}?\n\nAssistant:"
        row = {"prompt": prompt, "response": f" An answer that is {WORDS[word]}."}
        rows.append(row | {"ratings": ratings})
    return rows


ROWS, TEST = rated_rows(60, seed=1), rated_rows(20, seed=2)


frozen = partial(runs.frozen, probe_learning_rate=1e-2, probe_epochs=40)
fine_tuned = partial(runs.fine_tuned, learning_rate=5e-3, per_device_train_batch_size=16)


def values_of(rows) -> list[float]:
    return [entry["rating"] for row in rows for entry in row["ratings"]]


def rewards_of(model, rows) -> torch.Tensor:
    """Mean reward of every text."""
    return model.score([row["prompt"] + row["response"] for row in rows]).mean


def order_found(model, rows) -> float:
    """Correlation of mean rewards with the quality of each text's word."""
    quality = [WORDS.index(row["response"].split()[-1].strip(".")) for row in rows]
    return correlation(rewards_of(model, rows).tolist(), quality)


@pytest.mark.parametrize("kind", ["gaussian", "ordinal"])
@pytest.mark.parametrize("way", [fine_tuned, frozen])
def test_ratings_alone_are_learned_with_every_annotator_s_way(learned, tmp_path, way, kind):
    rows = rated_rows(80, seed=1, step=1 if kind == "gaussian" else 10)
    options = {"data_path": write_rows(tmp_path / "rated.jsonl", rows), "eval_fraction": 0.25}
    splits = load_run_data(TrainConfig(**options))
    result, again = learned(way, ratings=kind, reward_model_type="mean_and_variance", **options)
    train, test = ([example.columns for example in part] for part in (splits.train, splits.test))
    assert (len(train) + len(test), 10 < len(test) < 30) == (80, True)
    stored = json.loads((result.path / "likelihood.json").read_text())
    assert (stored["ratings"], stored["rating_weight"], stored["styles"]) == (kind, 1.0, True)
    assert stored["names"] == sorted(LEVELS)
    known, held_out = values_of(train), values_of(test)
    if kind == "gaussian":
        assert stored["rating_location"] == pytest.approx(fmean(known))
        assert stored["rating_scale"] == pytest.approx(pstdev(known))
        spread = 2 * math.log(pstdev(known)) + math.log(2 * math.pi)
        squares = fmean((value - fmean(known)) ** 2 for value in held_out) / pstdev(known) ** 2
        constant = 0.5 * (spread + squares)
        assert result.metrics["rating_rmse"] < 0.75 * pstdev(held_out)
    else:
        assert stored["grades"] == sorted(set(known))
        assert (stored["rating_location"], stored["rating_scale"]) == (0, 1)
        counts = Counter(known)
        constant = fmean(-math.log(counts[value] / len(known)) for value in held_out)
        assert "rating_rmse" not in result.metrics
    assert result.metrics["loss"] < constant - 0.25
    assert "accuracy" not in result.metrics
    (styles,) = (part.ratings.styles for part in members_of(again.likelihood))
    names = sorted(LEVELS)
    levels, units = styles.level.detach().tolist(), styles.log_unit.detach().tolist()
    assert correlation(levels, [LEVELS[name] for name in names]) > 0.95
    assert correlation(units, [math.log(UNITS[name]) for name in names]) > 0.7
    assert order_found(again, test) > 0.9


@pytest.mark.parametrize("way", [fine_tuned, frozen])
def test_without_styles_the_levels_are_noise(learned, way):
    found = {}
    for styles in (True, False):
        result, _ = learned(way, ROWS, TEST, into=str(styles), rating_styles=styles)
        stored = json.loads((result.path / "likelihood.json").read_text())
        assert (stored["styles"], bool(stored["names"])) == (styles, styles)
        found[styles] = result.metrics["loss"]
    assert found[True] < found[False] - 0.2


@pytest.mark.parametrize("way", [fine_tuned, frozen])
def test_comparisons_of_ratings_alone_learn_the_order(learned, way):
    """Nothing is said of level and unit, and no two texts share a prompt."""
    options = {"anchor_weight": 0.0, "max_comparisons": 64, "num_train_epochs": 12}
    result, again = learned(way, ROWS, TEST, **options)
    assert order_found(again, TEST) > 0.9
    assert again.likelihood.options.rating_weight == 0
    assert not list(again.likelihood.parameters())
    curve = losses(result)
    assert curve[-1] < 0.8 * curve[0]
    if way is frozen:  # members choose their epoch by comparisons they hold out
        held_out = logged(result, "validation_loss")
        assert len(held_out) == len(curve)
        assert min(held_out) < 0.6 < math.log(2)
    assert "loss" not in result.metrics  # ratings are not read, so nothing is predicted of them
    mean = float(rewards_of(again, TEST).mean())
    assert result.metrics["reward_mean"] == pytest.approx(mean, abs=1e-5)


def all_rated(*ratings):
    """The rows, each with the same ratings."""
    return [row | {"ratings": list(ratings)} for row in ROWS]


TENS = rated_rows(60, seed=1, step=10)
STRANGE = [*TENS[:2], TEST[2] | {"ratings": [{"annotator": "ann", "rating": 47}]}]
PAIRS, SAME = [{"chosen": "a b", "rejected": "a c"}], all_rated({"annotator": "a", "rating": 3})
ANONYMOUS = all_rated({"rating": 1}, {"rating": 2})
ORDINAL, UNREAD = {"ratings": "ordinal"}, {"anchor_weight": 0}
LINKED = {"max_comparisons": 9}


@pytest.mark.parametrize("way", [fine_tuned, frozen])
@pytest.mark.parametrize(
    ("rows", "test", "options", "message"),
    [
        (ROWS, None, UNREAD, "--anchor_weight 0 ignores them.*--max_comparisons 64"),
        (ROWS, None, ORDINAL, r"different ratings is \d\d.* 2 to 20 grades: take --ratings gau"),
        (SAME, None, {}, "all ratings are equal"),
        (SAME, None, ORDINAL, "the number of different ratings is 1"),
        (PAIRS, None, LINKED, "no training example has what --max_comparisons 9"),
        (ANONYMOUS, None, LINKED | UNREAD, "'annotator': no annotator .* rated two responses"),
        (TENS, STRANGE, ORDINAL, "line 3, field 'rating': no training example has the rating 47"),
    ],
)
def test_what_cannot_be_learned_from_ratings_is_told(
    learned, tmp_path, way, rows, test, options, message
):
    with pytest.raises(DataError, match=message):
        learned(way, rows, test, **options)
    assert not (tmp_path / "final").exists()


def test_ratings_that_are_compared_alone_choose_no_checkpoint(learned):
    with pytest.raises(DataError, match="--validation_fraction has no loss to choose a checkp"):
        learned(fine_tuned, ROWS, **LINKED, **UNREAD, validation_fraction=0.2)


def test_a_step_without_any_comparison_changes_nothing(learned):
    """A last step of one text, which has nothing to be compared with."""
    options = LINKED | UNREAD | {"num_train_epochs": 1, "optim": "sgd"}
    first, last = losses(learned(fine_tuned, rated_rows(17, seed=1), **options)[0])
    assert first > 0
    assert last == 0


@pytest.mark.parametrize("way", [fine_tuned, frozen])
def test_annotators_who_want_opposite_things_are_told_apart_by_ratings(backbones, learned, way):
    """Three of six rate kind texts high, three cruel ones."""
    rows = rated_rows(60, seed=1)
    for row in rows:
        for entry in row["ratings"]:
            if entry["annotator"] in ("bob", "dan", "fay"):
                level = 50 + 18 * LEVELS[entry["annotator"]]
                entry["rating"] = min(max(2 * level - entry["rating"], 0), 100)
    train, test = rows[:48], rows[48:]
    options = {"reward_model_type": "factor", "annotators": "variational", "probe_members": 1}
    options |= {"objective_learning_rate": 0.1, "num_train_epochs": 8, "learning_rate": 1e-2}
    if way is fine_tuned:
        layers = ["q_proj", "v_proj", "up_proj", "down_proj"]
        options |= {"backbone": backbones("llama", spread=1.0), "tuning": "lora"}
        options |= {"lora_target_modules": layers, "per_device_train_batch_size": 8}
    result, again = learned(way, train, test, **options)
    likelihood = again.likelihood
    assert likelihood.names.names == tuple(sorted(LEVELS))
    with torch.no_grad():
        location = likelihood.posterior(torch.arange(6))[0].squeeze(-1)
    one, other = location[::2], location[1::2]  # by name
    assert float(one.max()) < float(other.min()) or float(other.max()) < float(one.min())
    assert abs(float(one.mean() - other.mean())) > 1
    assert result.metrics["rating_rmse"] < 0.8 * pstdev(values_of(test))
    assert 0 < result.metrics["r2"] < 1
