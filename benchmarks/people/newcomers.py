"""New people: losses on their votes after the model was shown 0, 5, 10 and 20 of them."""

from __future__ import annotations

import dataclasses
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from people.contenders import PEOPLE, fit, raw_outputs
from people.data import Dataset, Fold, folds
from people.pairs import pair_fold
from people.resample import Resamples

from hidden_context.data.example import Example
from hidden_context.data.labels import labels_of
from hidden_context.likelihood import adapt
from hidden_context.models.frozen import FrozenRewardModel
from hidden_context.statistics.votes.losses import three_way_losses, two_way_losses

SHOWN: Final = (0, 5, 10, 20)
_SHARE: Final = 4


def newcomers(data: Dataset, count: int, folder: Path, shared: dict[str, Any]) -> dict[str, Any]:
    """Hold every fourth annotator out of training, then show the model k of their votes.

    Their votes shown are of training groups, their votes predicted of test groups. Only people with
    at least ``max(SHOWN)`` votes to show take part, so that every k is about the same people.

    Returns:
        By way of counting and k the loss with its interval, and the difference to k = 0.
    """
    names = sorted({str(s.annotator) for e in data.examples for s in e.judgements})
    random.Random(0).shuffle(names)
    new = set(names[::_SHARE])
    rows: list[dict[str, Any]] = []
    for number, fold in enumerate(folds(data)[:count]):
        path = folder / f"{data.name}-{number}-newcomers.json"
        if not path.exists():
            rest = [_votes_by(each, lambda name: name not in new) for each in fold.train]
            kept = dataclasses.replace(fold, train=rest)
            model = fit(PEOPLE["annotators"], kept, shared)
            path.write_text(json.dumps(_of_fold(model, data, fold, new)), encoding="utf-8")
        rows.append(json.loads(path.read_text(encoding="utf-8")))
    return _summary(rows)


def _votes_by(example: Example, wanted: Callable[[str], bool]) -> Example:
    """An example with the votes of the annotators wanted alone."""
    rest = tuple(said for said in example.judgements if wanted(str(said.annotator)))
    return dataclasses.replace(example, judgements=rest)


def _of_fold(model: FrozenRewardModel, data: Dataset, fold: Fold, new: set[str]) -> dict[str, Any]:
    pairs = pair_fold(data, fold)
    shown = _votes_of(pairs.train, new)
    people = sorted(name for name, votes in shown.items() if len(votes) >= max(SHOWN))
    place = {name: number for number, name in enumerate(people)}
    test = [_votes_by(each, place.__contains__) for each in pairs.test]
    raw_test = raw_outputs(model, test)
    labels = labels_of(test, lambda name: place.get(str(name), -1), levels=3)
    compared = labels.comparisons
    found: dict[str, Any] = {
        "people": people,
        "item": compared.example.tolist(),
        "annotator": [pairs.names.index(people[n]) for n in compared.annotator.tolist()],
        "groups": pairs.test_groups.tolist(),
        "losses": {},
    }
    share = compared.preference.double().numpy()
    for k in SHOWN:
        chosen: dict[int, list[Any]] = {}
        for name in people:
            for row, judgement in random.Random(name).sample(shown[name], len(shown[name]))[:k]:
                chosen.setdefault(row, []).append(judgement)
        examples = [
            dataclasses.replace(pairs.train[row], judgements=tuple(said))
            for row, said in sorted(chosen.items())
        ]
        said = labels_of(examples, lambda name: place[str(name)], levels=3)
        likelihood = adapt(model.likelihood, raw_outputs(model, examples), said, people)
        with torch.no_grad():
            log_probs = likelihood.outcome_log_probs(raw_test, labels).double().numpy()
        found["losses"][str(k)] = {
            "two_way": two_way_losses(log_probs, share).tolist(),
            "three_way": three_way_losses(log_probs, share).tolist(),
        }
    return found


def _votes_of(examples: list[Example], people: set[str]) -> dict[str, list[Any]]:
    votes: dict[str, list[Any]] = {}
    for row, example in enumerate(examples):
        for said in example.judgements:
            if str(said.annotator) in people and not said.abstains:
                votes.setdefault(str(said.annotator), []).append((row, said))
    return votes


def _summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    starts = np.cumsum([0, *(len(row["groups"]) for row in rows)])
    item = np.concatenate(
        [np.array(row["item"], dtype=int) + s for row, s in zip(rows, starts, strict=False)]
    )
    annotator = np.concatenate([np.array(row["annotator"], dtype=int) for row in rows])
    draws = Resamples(np.concatenate([row["groups"] for row in rows]), item, annotator)
    found: dict[str, Any] = {
        "people": len(np.unique(annotator)),
        "votes": len(item),
    }
    for way in ("two_way", "three_way"):
        by_k = {
            k: np.concatenate([np.array(row["losses"][k][way]) for row in rows])
            for k in map(str, SHOWN)
        }
        found[way] = {k: draws.mean(values, people=True) for k, values in by_k.items()}
        found[f"{way}_minus_none"] = {
            k: draws.mean(values - by_k["0"], people=True) for k, values in by_k.items() if k != "0"
        }
    return found
