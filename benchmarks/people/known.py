"""People whom a model knows: new ones after a few votes, and what learned contexts mean.

New people: losses on their votes after the model was shown 0, 5, 10 and 20 of them. Contexts:
PluriHarms' people answered questionnaires too, against which what was learned of them is held.
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from people.contenders import PEOPLE, fit, raw_outputs, read
from people.data import Dataset, Fold, folds, pair_fold
from people.resample import Resamples
from scipy import stats

from hidden_context.data.example import Example
from hidden_context.data.labels import labels_of
from hidden_context.data.storage.files import read_json, write_json
from hidden_context.likelihood import adapt
from hidden_context.models.frozen import FrozenRewardModel
from hidden_context.statistics.votes.losses import three_way_losses, two_way_losses

SHOWN: Final = (0, 5, 10, 20)
_SHARE: Final = 4


def newcomers(data: Dataset, folder: Path, shared: dict[str, Any]) -> dict[str, Any]:
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
    for number, fold in enumerate(folds(data)):
        path = folder / f"{data.name}-{number}-newcomers.json"
        if not path.exists():
            rest = [_votes_by(each, lambda name: name not in new) for each in fold.train]
            model = fit(PEOPLE["annotators"], dataclasses.replace(fold, train=rest), shared)
            write_json(path, _of_fold(model, data, fold, new))
        rows.append(read_json(path))
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
    found: dict[str, Any] = {"people": len(np.unique(annotator)), "votes": len(item)}
    for way in ("two_way", "three_way"):
        by_k = {
            k: np.concatenate([np.array(row["losses"][k][way], dtype=float) for row in rows])
            for k in map(str, SHOWN)
        }
        found[way] = {k: draws.mean(values, people=True) for k, values in by_k.items()}
        found[f"{way}_minus_none"] = {
            k: draws.mean(values - by_k["0"], people=True) for k, values in by_k.items() if k != "0"
        }
    return found


FACTORS: Final = ("Factor_1", "Factor_2", "Factor_3")
PERMUTATIONS: Final = 2000


def psychology(data: Dataset, folder: Path, shared: dict[str, Any]) -> dict[str, Any]:
    """Hold learned contexts against published factors, and against contexts of other items.

    Returns:
        For each factor the cross-validated correlation of what a regression on the contexts
        predicts of it, with its permutation p; and canonical correlations of contexts between the
        training sets of folds, which share two thirds of their items, and between two disjoint
        halves of the items.
    """
    whole = [_contexts(folder / f"{data.name}-{n}-contexts.npz") for n in range(4)]
    halves = []
    for number, fold in enumerate(folds(data, 2)):
        path = folder / f"{data.name}-half-{number}-contexts.npz"
        if not path.exists():
            save_contexts(fit(PEOPLE["annotators"], fold, shared), path)
        halves.append(_contexts(path))
    names = sorted(set.intersection(*(set(each) for each in whole + halves)))
    tables = [np.array([each[name] for name in names]) for each in whole]
    between = [canonical(tables[a], tables[b]).tolist() for a in range(4) for b in range(a + 1, 4)]
    apart = canonical(*(np.array([each[name] for name in names]) for each in halves))
    known = data.annotators
    found: dict[str, Any] = {
        "people": len(names),
        "canonical_between_folds": {"mean": float(np.mean(between)), "pairs": between},
        "canonical_between_halves": apart.tolist(),
    }
    for factor in FACTORS:
        target = np.array([float(known[name][factor]) for name in names])
        each = [regressed(table, target) for table in tables]
        found[factor] = {"correlation": [r for r, _ in each], "p_value": [p for _, p in each]}
    return found


def save_contexts(model: FrozenRewardModel, path: Path) -> None:
    """Write the mean context of each annotator that a model knows."""
    likelihood: Any = model.likelihood
    with torch.no_grad():
        location, _ = likelihood.posterior(torch.arange(len(likelihood.names)))
    np.savez(path, names=np.array(likelihood.names.names), location=location.numpy())


def _contexts(path: Path) -> dict[str, Any]:
    found = read(path)
    location = found["location"].reshape(len(found["names"]), -1)
    return dict(zip(found["names"].tolist(), location, strict=True))


def canonical(first: Any, second: Any) -> Any:
    """Canonical correlations of two tables of contexts of the same people, largest first.

    They do not depend on signs, scales and rotations, which votes leave open.
    """
    sides = [np.linalg.qr(each - each.mean(0))[0] for each in (first, second)]
    return np.linalg.svd(sides[0].T @ sides[1], compute_uv=False).clip(0, 1)


def regressed(contexts: Any, target: Any, seed: int = 0) -> tuple[float, float]:
    """Leave-one-out multiple correlation of a target on contexts, and its permutation p."""
    design = np.column_stack([np.ones(len(contexts)), contexts])
    hat = design @ np.linalg.pinv(design)
    order = np.argsort(np.random.default_rng(seed).random((PERMUTATIONS, len(target))), axis=1)
    values = np.vstack([target, target[order]])
    # what the other people's regression predicts of each, in closed form
    predicted = values - (values - values @ hat.T) / (1 - np.diag(hat))
    found = stats.pearsonr(predicted, values, axis=1).statistic
    return float(found[0]), float((1 + (found[1:] >= found[0]).sum()) / (1 + PERMUTATIONS))
