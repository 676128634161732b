"""Evaluating what annotators said: votes, strengths, ties, rankings, and annotators by name."""

from __future__ import annotations

import json
import math
from pathlib import Path
from statistics import NormalDist

import pytest
import torch

from hidden_context import RewardModel, heads, scoring
from hidden_context.data.importers import read_row
from hidden_context.data.labels import labels_of
from hidden_context.errors import DataError
from hidden_context.likelihood import LikelihoodOptions, make_likelihood
from hidden_context.models.likelihood_file import save_likelihood
from hidden_context.models.sequence import SequenceRewardModel
from hidden_context.scoring import EvaluateConfig
from hidden_context.scoring.evaluation import metrics_of_file
from support.builders import preference_rows, tiny_backbone, train_config
from support.paper_layout import read_rows, reward_checkpoint, write_rows

BASE = heads.make("base")
PHI = NormalDist().cdf


def evaluate(checkpoint, data, **options):
    return scoring.evaluate(
        EvaluateConfig(checkpoint=str(checkpoint), data_path=data, disable_tqdm=True, **options)
    )


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


def gaps_of(rows):
    return [r["reward_output_chosen"][0] - r["reward_output_rejected"][0] for r in rows]


def pair(gap, **columns):
    return {"reward_output_chosen": [gap], "reward_output_rejected": [0.0], **columns}


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return reward_checkpoint(tmp_path_factory.mktemp("models") / "base", "base")


# columns of a row, and its votes
SAID = [
    ({"strength": -2}, [0.0]),
    ({"strength": 0}, [0.5]),
    (
        {"annotations": [{"preference": 1}, {"strength": 3}, {"annotator": 7, "preference": 0}]},
        [1.0, 1.0, 0.0],
    ),
    ({"preference": 0.25, "strength": -1}, [0.25]),
    # what training learns from goes before a summary of it
    ({"preference": 1, "annotations": [{"strength": -1}, {"preference": 0.5}]}, [0.0, 0.5]),
    # an abstention is no vote
    ({"annotations": [{"annotator": "ann"}, {"preference": 1}]}, [1.0]),
    ({}, [1.0]),
]


def test_votes_and_strengths_count_as_what_they_are_and_stay_as_they_were(base, tmp_path):
    rows = preference_rows(len(SAID))
    for row, (columns, _) in zip(rows, SAID, strict=True):
        row.update(columns)
    result = evaluate(base, write_rows(tmp_path / "pairs.jsonl", rows))
    written = read_rows(result.path)
    losses, right = [], []
    votes = [(gap, w) for gap, (_, own) in zip(gaps_of(written), SAID, strict=True) for w in own]
    assert len(votes) == 10
    for gap, share in votes:
        losses.append(-share * math.log(sigmoid(gap)) - (1 - share) * math.log(sigmoid(-gap)))
        right.append(0.5 if share == 0.5 else float((gap > 0) == (share > 0.5)))
    assert result.metrics["loss"] == pytest.approx(sum(losses) / len(losses), abs=1e-9)
    assert result.metrics["accuracy"] == pytest.approx(sum(right) / len(right), abs=1e-9)
    for row in written:
        del row["reward_output_chosen"], row["reward_output_rejected"]
    assert written == rows


def test_a_ranking_is_evaluated_as_its_pairs(base, tmp_path):
    ranking = {
        "prompt": "\n\nHuman: Tea?\n\nAssistant:",
        "responses": [" No.", " Yes, kindly.", " An exact answer."],
        "ranks": [2, 1, 1],
    }
    result = evaluate(base, write_rows(tmp_path / "ranked.jsonl", [ranking]))
    written = read_rows(result.path)
    sides = [(row["chosen"], row["rejected"]) for row in written]
    no, yes, exact = (ranking["prompt"] + response for response in ranking["responses"])
    assert sides == [(yes, no), (exact, no), (yes, exact)]
    assert [row["preference"] for row in written] == [1.0, 1.0, 0.5]
    first, second, tie = gaps_of(written)
    assert first - second == pytest.approx(tie, abs=1e-5)  # the same responses to one prompt
    losses = [math.log1p(math.exp(-gap)) for gap in (first, second)]
    losses.append(-0.5 * math.log(sigmoid(tie)) - 0.5 * math.log(sigmoid(-tie)))
    assert result.metrics["loss"] == pytest.approx(sum(losses) / 3, abs=1e-9)
    accuracy = ((first > 0) + (second > 0) + 0.5) / 3
    assert result.metrics["accuracy"] == pytest.approx(accuracy, abs=1e-9)


def test_ratings_of_single_texts_are_rows_of_their_own(tmp_path):
    folder = reward_checkpoint(tmp_path / "rated", "base")
    likelihood = make_likelihood(
        BASE, LikelihoodOptions(rating_weight=0.5, rating_location=3.0, rating_scale=2.0)
    )
    with torch.no_grad():
        likelihood.ratings.log_noise.fill_(math.log(0.7))
    save_likelihood(folder, likelihood)
    text = "\n\nHuman: Tea?\n\nAssistant: Yes, kindly."
    rows = [
        {"text": text, "rating": 4, "more": 1},
        {"prompt": "Tea?", "response": "No.", "ratings": [{"rating": 1.5}, {"rating": None}]},
        {
            "prompt": "Rain?",
            "responses": ["It is so.", "No.", "Perhaps."],
            "judgements": [
                {"comparison": [0, 1]},
                {"response": 0, "rating": 5},
                {"response": 2, "rating": 2, "annotator": "ann"},
                {"response": 2, "rating": 3, "annotator": "bob"},
                {"abstains": True},
            ],
            "more": 3,
        },
    ]
    result = evaluate(folder, write_rows(tmp_path / "rated.jsonl", rows))
    first, second, compared, alone = written = read_rows(result.path)
    for row, given in ((first, rows[0]), (second, rows[1])):
        assert {name: row[name] for name in given} == given
        assert "reward_output_chosen" not in row
    assert (compared["chosen"], compared["rating_chosen"]) == ("Rain?It is so.", 5)
    assert (alone["text"], alone["more"]) == ("Rain?Perhaps.", 3)
    assert [(r["annotator"], r["rating"]) for r in alone["ratings"]] == [("ann", 2), ("bob", 3)]
    rewards = [row["reward_output"][0] for row in (first, second, alone, alone)]
    rewards.append(compared["reward_output_chosen"][0])
    errors = [y - (3 + 2 * u) for y, u in zip((4, 1.5, 2, 3, 5), rewards, strict=True)]
    assert result.metrics["rating_rmse"] == pytest.approx(
        math.sqrt(sum(e * e for e in errors) / 5), abs=1e-6
    )
    scale = 2 * 0.7
    losses = [
        0.5 * (e / scale) ** 2 + math.log(scale) + 0.5 * math.log(2 * math.pi) for e in errors
    ]
    (gap,) = gaps_of([compared])
    losses.append(math.log1p(math.exp(-gap)))
    assert result.metrics["loss"] == pytest.approx(sum(losses) / 6, abs=1e-6)
    assert result.metrics["accuracy"] == float(gap > 0)
    assert (result.counts.written, result.report.kept, len(written)) == (4, 4, 4)
    # a model that reads no ratings has no loss of them
    path = Path(write_rows(tmp_path / "alone.jsonl", [first, second]))
    assert set(metrics_of_file(path, make_likelihood(BASE))) == {"reward_mean"}
    of_ratings = metrics_of_file(path, likelihood)
    assert set(of_ratings) == {"loss", "rating_rmse", "reward_mean"}
    assert of_ratings["loss"] == pytest.approx(sum(losses[:2]) / 2, abs=1e-6)


def with_thresholds(levels, *thresholds):
    likelihood = make_likelihood(BASE, LikelihoodOptions(levels))
    with torch.no_grad():
        gaps = torch.tensor(thresholds).diff(prepend=torch.zeros(1))
        likelihood.outcomes.raw_gaps.copy_(torch.log(torch.expm1(gaps)))
    return likelihood


def test_a_tie_is_an_answer_of_its_own_where_the_model_learned_one(tmp_path):
    rows = [pair(1.0), pair(0.2, preference=0.5), pair(-1.0, strength=2), pair(2.0, strength=-1)]
    path = Path(write_rows(tmp_path / "r.jsonl", rows))
    metrics = metrics_of_file(path, with_thresholds(3, 0.5))
    probabilities = [
        sigmoid(1.0 - 0.5),  # D > δ
        sigmoid(0.5 - 0.2) - sigmoid(-0.5 - 0.2),  # −δ < D ≤ δ
        sigmoid(-1.0 - 0.5),
        sigmoid(-0.5 - 2.0),  # D ≤ −δ
    ]
    expected = -sum(map(math.log, probabilities)) / 4
    assert metrics["loss"] == pytest.approx(expected, abs=1e-6)
    assert metrics["accuracy"] == pytest.approx((1 + 0.5 + 0 + 0) / 4, abs=1e-9)
    # the population's shares, without the thresholds
    plain = metrics_of_file(path, make_likelihood(BASE))
    assert plain["loss"] != pytest.approx(expected, abs=1e-3)


def test_strengths_are_intervals_and_one_beyond_the_last_is_told_by_line(tmp_path):
    likelihood = with_thresholds(5, 0.25, 1.0)
    rows = [pair(0.5, strength=1), pair(0.5, strength=-2), pair(0.5), pair(0.5, strength=0)]
    path = Path(write_rows(tmp_path / "r.jsonl", rows))
    metrics = metrics_of_file(path, likelihood)
    probabilities = [
        sigmoid(1.0 - 0.5) - sigmoid(0.25 - 0.5),  # τ₁ < D ≤ τ₂
        sigmoid(-1.0 - 0.5),  # D ≤ −τ₂
        sigmoid(0.5),  # a bare preference: D > 0
        sigmoid(0.25 - 0.5) - sigmoid(-0.25 - 0.5),
    ]
    expected = -sum(map(math.log, probabilities)) / 4
    assert metrics["loss"] == pytest.approx(expected, abs=1e-6)
    rows.insert(2, pair(0.5, annotations=[{"strength": 1}, {"strength": 3}]))
    write_rows(path, rows)
    with pytest.raises(DataError, match=r"line 3, field 'strength': strength 3 is beyond 5 le"):
        metrics_of_file(path, likelihood)


def test_what_the_model_cannot_read_is_told_before_anything_is_scored(tmp_path, monkeypatch):
    folder = reward_checkpoint(tmp_path / "five", "base")
    save_likelihood(folder, with_thresholds(5, 0.25, 1.0))
    rows = preference_rows(3)
    rows[1]["strength"] = 3
    data = write_rows(tmp_path / "pairs.jsonl", rows)
    with monkeypatch.context() as patch:
        patch.setattr(SequenceRewardModel, "try_raw_outputs", None)
        with pytest.raises(DataError, match=r"pairs.jsonl, line 2, field 'strength'"):
            evaluate(folder, data)
    rows[1]["strength"] = 2
    metrics = evaluate(folder, write_rows(data, rows)).metrics
    written = read_rows(Path(folder) / "eval_results_both.jsonl")
    first, second, third = gaps_of(written)
    expected = -sum(map(math.log, [sigmoid(first), sigmoid(second - 1.0), sigmoid(third)])) / 3
    assert metrics["loss"] == pytest.approx(expected, abs=1e-6)


@pytest.fixture(scope="module")
def annotated(tmp_path_factory):
    """Rows of ann, bob, of both and an unknown one, and a factor model trained on them."""
    from hidden_context.training import run

    folder = tmp_path_factory.mktemp("annotated")
    rows = preference_rows(12, 3)
    for number, row in enumerate(rows):
        row["annotator"] = ("ann", "bob", "zoe", None)[number % 4]
        if number % 4 == 3:
            row["annotations"] = [
                {"annotator": "bob", "preference": 0},
                {"annotator": "ann", "preference": 1},
                {"preference": 1},
            ]
    config = train_config(
        tiny_backbone(folder / "backbone"),
        folder / "run",
        reward_model_type="factor",
        annotators="variational",
        objective_learning_rate=0.5,
        freeze_backbone=True,
        probe_linear=False,
        probe_members=1,
        probe_epochs=3,
        probe_learning_rate=0.03,
        probe_early_stopping=False,
        cache_dir=str(folder),
        quiet=True,
    )
    trained = run(config, [row for row in rows if row["annotator"] != "zoe"])
    return rows, trained.path


def test_a_known_annotator_is_predicted_as_such(annotated, tmp_path):
    rows, folder = annotated
    result = evaluate(folder, write_rows(tmp_path / "pairs.jsonl", rows))
    written = read_rows(result.path)
    model = RewardModel.from_pretrained(folder, device="cpu")
    annotators, names = model.likelihood.annotators, model.likelihood.names
    assert annotators.inference == "variational"
    assert names.names == ("ann", "bob")
    location = dict(zip(names.names, annotators.location[:, 0].tolist(), strict=True))
    scale = dict(zip(names.names, annotators.log_scale[:, 0].exp().tolist(), strict=True))

    losses, right = [], []
    for row in written:
        (mean_a, load_a, s_a), (mean_b, load_b, s_b) = (
            row["reward_output_chosen"],
            row["reward_output_rejected"],
        )
        noise = math.log1p(math.exp(s_a)) ** 2 + math.log1p(math.exp(s_b)) ** 2
        said = row.get("annotations") or [{"annotator": row["annotator"], "preference": 1}]
        each = []
        for one in said:
            m, t = location.get(one.get("annotator"), 0.0), scale.get(one.get("annotator"), 1.0)
            spread = math.sqrt(((load_a - load_b) * t) ** 2 + noise)
            p = PHI((mean_a - mean_b + (load_a - load_b) * m) / spread)
            each.append(
                (-math.log(p if one["preference"] else 1 - p), (p > 0.5) == one["preference"])
            )
        losses += [loss for loss, _ in each]
        right += [hit for _, hit in each]
    assert len(losses) == 9 + 3 * 3
    assert result.metrics["loss"] == pytest.approx(sum(losses) / 18, abs=1e-6)
    assert result.metrics["accuracy"] == pytest.approx(sum(right) / 18, abs=1e-9)

    raw = [
        torch.tensor([row[f"reward_output_{side}"] for row in written], dtype=torch.float64)
        for side in ("chosen", "rejected")
    ]
    labels = labels_of([read_row(row) for row in rows], names.index)
    with torch.no_grad():
        both = torch.stack(raw, 1).flatten(0, 1)
        expected = model.likelihood.negative_log_likelihood(both, labels)
    assert result.metrics["loss"] == pytest.approx(expected.mean().item(), abs=1e-9)
    helpful = torch.tensor([rows[e]["objective"] == "helpful" for e in labels.example.tolist()])
    assert result.metrics["objective_helpful_loss"] == pytest.approx(
        expected[helpful].mean().item(), abs=1e-9
    )
    population = metrics_of_file(result.path, make_likelihood(model.head))["loss"]
    assert abs(population - result.metrics["loss"]) > 1e-4

    parts = [model.head.distribution(side) for side in raw]
    votes = labels.example  # a pair counts as often as it was judged
    shared = (parts[0].loadings - parts[1].loadings)[votes].square().sum(-1).mean()
    noise = (parts[0].independent_variance + parts[1].independent_variance)[votes].mean()
    share = (shared / (shared + noise)).item()
    assert result.metrics["shared_context_share"] == pytest.approx(share, abs=1e-9)
    assert result.metrics["noise_share"] == pytest.approx(1 - share, abs=1e-9)
    stored = json.loads(Path(f"{result.path}.metrics.json").read_text())
    assert stored["metrics"] == result.metrics
    assert stored["counts"]["written"] == 12


def test_the_column_that_names_annotators_is_the_model_s(tmp_path):
    head = heads.make("factor", num_factors=1)
    options = LikelihoodOptions(inference="map", names=("x", "y"), column="objective")
    likelihood = make_likelihood(head, options)
    with torch.no_grad():
        likelihood.annotators.location.copy_(torch.tensor([[2.0], [-1.0]]))
    raw = math.log(math.expm1(1.0))
    row = {"reward_output_chosen": [0.5, 1.0, raw], "reward_output_rejected": [0.0, 0.0, raw]}
    rows = [{**row, "objective": name} for name in ("x", "y", "other")]
    path = Path(write_rows(tmp_path / "r.jsonl", rows))
    metrics = metrics_of_file(path, likelihood)
    root = math.sqrt(2)
    # D has mean ½ + z and noise 2; for one who is not known, variance 3
    expected = {"x": 2.5 / root, "y": -0.5 / root, "other": 0.5 / math.sqrt(3)}
    for name, z in expected.items():
        assert metrics[f"objective_{name}_loss"] == pytest.approx(-math.log(PHI(z)), abs=1e-6)
        assert metrics[f"objective_{name}_accuracy"] == (z > 0)


OPTIONS = {
    "factor": {"num_factors": 2},
    "mixture": {"num_components": 2},
    "quantile": {"num_atoms": 4},
    "ensemble": {"member": heads.make("factor"), "num_members": 2},
}


@pytest.mark.parametrize("kind", OPTIONS)
def test_every_head_is_evaluated(kind, tmp_path):
    head = heads.make(kind, **OPTIONS[kind])
    folder = reward_checkpoint(tmp_path / kind, kind, **OPTIONS[kind])
    result = evaluate(folder, write_rows(tmp_path / "pairs.jsonl", preference_rows(4)))
    raw = [
        torch.tensor([row[f"reward_output_{side}"] for row in read_rows(result.path)]).double()
        for side in ("chosen", "rejected")
    ]
    log_probs = head.log_prob_preferred(*raw)
    assert result.metrics["loss"] == pytest.approx(-log_probs.mean().item(), abs=1e-9)
    assert result.metrics["reward_stddev"] > 0
    shares = {name: value for name, value in result.metrics.items() if name.endswith("_share")}
    names = {
        "factor": ["shared_context", "noise"],
        "ensemble": ["shared_context", "noise", "ignorance"],
    }
    of_all = {name for name in shares if not name.startswith(("data_subset", "objective"))}
    assert of_all == {f"{name}_share" for name in names.get(kind, [])}
    if of_all:
        assert sum(shares[name] for name in of_all) == pytest.approx(1, abs=1e-9)


def test_a_file_without_rewards_has_no_metrics(tmp_path):
    row = {"reward_output_chosen": None, "reward_output_rejected": [0.0]}
    path = Path(write_rows(tmp_path / "r.jsonl", [row]))
    with pytest.raises(DataError, match="no pair has rewards for both sides"):
        metrics_of_file(path, make_likelihood(BASE))
