"""Real part of the ground-truth benchmark: pairs judged by a known objective.

The relabelled HH-RLHF pairs say by which objective each was judged. A factor model that is given
the objective as its annotator is compared with models that ignore it, on held-out prompts: mean
loss on each objective's labels, with 95 % intervals of the paired difference by prompt.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import torch
from ground_truth.metrics import ratio_interval
from kit import fit, numbered

from hidden_context.data.example import Example
from hidden_context.data.labels import labels_of
from hidden_context.data.sources import load_examples
from hidden_context.data.splits.division import first_question, folds

KNOWN: Final = "factor, objective known"
MODELS: Final[dict[str, dict[str, Any]]] = {
    "base": {"reward_model_type": "base"},
    "mean_and_variance": {"reward_model_type": "mean_and_variance"},
    "factor": {"reward_model_type": "factor"},
    KNOWN: {
        "reward_model_type": "factor",
        "annotators": "variational",
        "annotator_column": "objective",
    },
}


def held_out_losses(
    options: dict[str, Any], backbone: str, train: Sequence[Example], test: Sequence[Example]
) -> np.ndarray:
    """Train one model and return its loss on each held-out pair, in nats."""
    common = {"model_name": backbone, "freeze_backbone": True, "max_length": 512}
    model = fit({**common, "over_length": "truncate", **options}, train).model
    raw = model.raw_outputs([text for pair in test for text in pair.inputs])
    likelihood = model.likelihood
    labels = labels_of(test, likelihood.names.index, likelihood.options.column)
    with torch.no_grad():
        return likelihood.negative_log_likelihood(raw, labels).numpy()


def paired_difference(
    first: np.ndarray, second: np.ndarray, prompts: Sequence[str], seed: int = 0
) -> dict[str, float]:
    """Mean of first − second with its 95 % bootstrap interval by prompt."""
    cluster = numbered(prompts)
    total, count = np.bincount(cluster, first - second), np.bincount(cluster).astype(float)
    low, high = ratio_interval(total, count, seed)
    return {"difference": float(total.sum() / count.sum()), "low": low, "high": high}


def compare(
    data: str, backbone: str, num_folds: int, limit: int = 0, progress: Any = print
) -> dict[str, Any]:
    """Cross-validate all models on the relabelled pairs.

    Args:
        data: Folder that holds ``relabeled_hh_rlhf``.
        backbone: Folder of the frozen backbone.
        num_folds: Folds by prompt.
        limit: Number of pairs; 0 for all.
        progress: Called with a line after each model.

    Returns:
        Mean losses by objective, and paired differences to the model that knows the objective.
    """
    pairs = load_examples(f"{data}/relabeled_hh_rlhf", "both", "test").examples
    if limit:
        pairs = pairs[:: max(1, len(pairs) // limit)][:limit]
    losses: dict[str, list[np.ndarray]] = {name: [] for name in MODELS}
    held_out: list[Example] = []
    for number, (train, test) in enumerate(folds(pairs, num_folds)):
        held_out += test
        for name, options in MODELS.items():
            losses[name].append(held_out_losses(options, backbone, train, test))
            progress(f"fold {number} {name}: {losses[name][-1].mean():.4f} nats")
    joined = {name: np.concatenate(parts) for name, parts in losses.items()}
    prompts = [first_question(pair) for pair in held_out]
    loss: dict[str, dict[str, float]] = {name: {} for name in MODELS}
    gain: dict[str, dict[str, Any]] = {name: {} for name in MODELS if name != KNOWN}
    for objective in ("helpful", "harmless"):
        rows = [n for n, pair in enumerate(held_out) if pair.objective == objective]
        asked, known = [prompts[n] for n in rows], joined[KNOWN][rows]
        for name, values in joined.items():
            loss[name][objective] = float(values[rows].mean())
            if name != KNOWN:
                gain[name][objective] = paired_difference(values[rows], known, asked)
    return {"pairs": len(held_out), "loss": loss, "gain": gain}
