"""Do contexts learned from votes mean anything? PluriHarms' people answered questionnaires too."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from people.contenders import PEOPLE, fit
from people.data import Dataset, folds

from hidden_context.models.frozen import FrozenRewardModel

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
    with np.load(path) as arrays:
        location = arrays["location"].reshape(len(arrays["names"]), -1)
        return dict(zip(arrays["names"].tolist(), location, strict=True))


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
    generator = np.random.default_rng(seed)
    order = np.argsort(generator.random((PERMUTATIONS, len(target))), axis=1)
    values = np.vstack([target, target[order]])
    # what the other people's regression predicts of each, in closed form
    predicted = values - (values - values @ hat.T) / (1 - np.diag(hat))
    centred = [each - each.mean(1, keepdims=True) for each in (predicted, values)]
    products = (centred[0] * centred[1]).sum(1)
    scales = np.sqrt((centred[0] ** 2).sum(1) * (centred[1] ** 2).sum(1))
    found = products / scales
    return float(found[0]), float((1 + (found[1:] >= found[0]).sum()) / (1 + PERMUTATIONS))
