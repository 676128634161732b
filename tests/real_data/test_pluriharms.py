"""Real people who rated prompts for harm, on the features that the data themselves describe."""

from __future__ import annotations

import csv
import gzip
import random
from pathlib import Path
from statistics import correlation, fmean, pstdev
from typing import Any

import pytest
import torch
from torch import Tensor

from hidden_context.data.example import Example
from hidden_context.data.importers import read_row
from hidden_context.likelihood import Likelihood
from hidden_context.models.frozen import Probe
from hidden_context.statistics.judgement_metrics import judgement_metrics
from hidden_context.training import TrainConfig
from hidden_context.training.features import FeatureSet, feature_set
from hidden_context.training.frozen import group_codes, response_groups
from hidden_context.training.labels import make_head, make_training_likelihood, training_labels
from hidden_context.training.probe import train_probe

pytestmark = [pytest.mark.real_data, pytest.mark.slow]

PEOPLE, PAIRS = 20, 200


def read(path: Path) -> list[dict[str, str]]:
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return list(csv.DictReader(file))


class Described:
    """Takes what the data say of a prompt (level of harm, actions, effects, topics) as features."""

    def __init__(self, rows: list[dict[str, str]]) -> None:
        self.texts = [row["Question_Content"] for row in rows]
        names = [name for name in rows[0] if not name.startswith("Question")]
        self.table = torch.tensor([[float(row[name]) for name in names] for row in rows])

    def features(self, texts: Any, progress: Any = None) -> Tensor:
        return self.table[[self.texts.index(text) for text in texts]]


@pytest.fixture(scope="module")
def prompts(real_data) -> Described:
    return Described(read(real_data / "people" / "pluriharms_prompts.csv.gz"))


@pytest.fixture(scope="module")
def ratings(real_data, prompts) -> dict[str, list[float | None]]:
    """Every person's rating of every prompt, from 0 to 100; None where unsure."""
    rows = read(real_data / "people" / "pluriharms_annotations.csv.gz")
    values = {
        row["Participant_ID"]: [row[f"Rating_{item + 1}"] for item in range(len(prompts.texts))]
        for row in rows
    }
    return {name: [float(v) if v else None for v in given] for name, given in values.items()}


def voted(prompts: Described, ratings: dict[str, list[float | None]]) -> list[dict[str, Any]]:
    """Pairs of prompts, and who finds the first one more harmful; unsure is no answer."""
    draw, rows = random.Random(0), []
    people = sorted(ratings)[:PEOPLE]
    for _ in range(PAIRS):
        first, second = draw.sample(range(len(prompts.texts)), 2)
        votes = []
        for name in people:
            one, other = ratings[name][first], ratings[name][second]
            entry: dict[str, Any] = {"annotator": name}
            if one is not None and other is not None:
                entry["preference"] = 0.5 + 0.5 * ((one > other) - (one < other))
            votes.append(entry)
        sides = {"chosen": prompts.texts[first], "rejected": prompts.texts[second]}
        rows.append({**sides, "annotations": votes})
    return rows


def trained(
    config: TrainConfig, prompts: Described, examples: list[Example]
) -> tuple[Likelihood, Probe, FeatureSet]:
    likelihood = make_training_likelihood(config, make_head(config), examples)
    features = feature_set(
        prompts,  # type: ignore[arg-type]
        examples,
        training_labels(config, likelihood, examples),
        groups=group_codes(response_groups(examples)),
    )
    probe, _ = train_probe(config, likelihood, features)
    return likelihood, probe, features


def test_nested_votes_are_learned_like_one_row_a_vote(prompts, ratings):
    rows = voted(prompts, ratings)
    nested = [read_row(row, line=number) for number, row in enumerate(rows, start=1)]
    single = [
        read_row({"chosen": row["chosen"], "rejected": row["rejected"], **vote})
        for row in rows
        for vote in row["annotations"]
        if "preference" in vote
    ]
    random.Random(1).shuffle(single)
    unsure = sum(example.abstentions for example in nested)
    assert (len(nested), len(single)) == (PAIRS, PAIRS * PEOPLE - unsure)
    assert unsure > 20
    config = TrainConfig(
        freeze_backbone=True, reward_model_type="factor", annotators="variational",
        probe_members=1, probe_hidden=16, probe_dropout=0.0, probe_weight_decay=0.1,
        probe_learning_rate=5e-3, probe_epochs=40, probe_batch_size=128,
    )  # fmt: skip
    contexts, losses = [], []
    for examples in (nested, single):
        likelihood, probe, features = trained(config, prompts, examples)
        labels = features.labels
        assert float(labels.votes.sum()) == len(single)
        location, _ = likelihood.posterior(torch.arange(PEOPLE))
        location = location.detach().squeeze(-1)
        contexts.append(location * torch.sign(location @ contexts[0]) if contexts else location)
        with torch.no_grad():
            raw = probe(features.features)
            known = judgement_metrics(likelihood, raw, labels)["loss"]
            stranger = likelihood.negative_log_likelihood(raw, labels.judged_by(None)).mean()
        assert known < float(stranger) - 0.02
        losses.append(known)
    assert correlation(contexts[0].tolist(), contexts[1].tolist()) > 0.99
    assert min(float(location.std()) for location in contexts) > 0.4
    assert max(losses) - min(losses) < 0.01


def test_levels_of_people_who_rate_prompts(prompts, ratings):
    people = sorted(ratings)[:PEOPLE]
    items = list(range(len(prompts.texts)))
    random.Random(0).shuffle(items)

    def rated(places: list[int]) -> list[Example]:
        return [
            read_row(
                {
                    "text": prompts.texts[place],
                    "ratings": [{"annotator": n, "rating": ratings[n][place]} for n in people],
                }
            )
            for place in places
        ]

    train, test = rated(items[:110]), rated(items[110:])
    config = TrainConfig(
        freeze_backbone=True, reward_model_type="mean_and_variance", probe_members=1,
        probe_hidden=16, probe_dropout=0.0, probe_weight_decay=0.3, probe_learning_rate=5e-3,
        probe_epochs=15, probe_batch_size=128,
    )  # fmt: skip
    likelihood, probe, features = trained(config, prompts, train)
    values = features.labels.ratings.value.tolist()
    assert likelihood.options.rating_location == pytest.approx(fmean(values))
    assert likelihood.options.rating_scale == pytest.approx(pstdev(values))
    style = likelihood.ratings.styles
    means = [
        fmean(v for v in (ratings[name][place] for place in items[:110]) if v is not None)
        for name in likelihood.names.names
    ]
    assert correlation(style.level.detach().tolist(), means) > 0.95
    labels = training_labels(config, likelihood, test)
    raw = probe(prompts.features([example.text(0) for example in test]))
    with torch.no_grad():
        metrics = judgement_metrics(likelihood, raw, labels)
    held_out = labels.ratings.value
    assert metrics["rating_rmse"] < 0.85 * float(held_out.std())
    constant = torch.distributions.Normal(fmean(values), pstdev(values))
    assert metrics["loss"] < float(-constant.log_prob(held_out).mean()) - 0.1
