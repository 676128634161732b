"""Ignorance and shared context: more data removes the first, but not the second.

Once where the context can be learned from the fewest pairs (ten alternatives, one raw output each),
once with a network on text.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import torch
from ground_truth.dialogues import Contender, Drawn, TextSetting, raw_outputs_of, train
from ground_truth.metrics import ratio_interval

from hidden_context import heads
from hidden_context.likelihood import Labels, LikelihoodOptions, make_likelihood
from hidden_context.worlds.tables import TabularWorld, gaussian

# The objective as annotator: 250 pairs of 200 people would tell next to nothing of each of them.
ENSEMBLE: Final = Contender(
    "factor ensemble, objective known",
    "factor",
    {"ensemble": "heads", "annotators": "variational", "annotator_column": "objective"},
)
_PAIRS_EACH: Final = 20
_ALTERNATIVES: Final = 10
_NOISE: Final = 0.7


def shares(parts: dict[str, np.ndarray], seed: int) -> dict[str, Any]:
    """Shares of the variance of differences, one with its 95 % bootstrap interval over test pairs.

    ``shared_context`` is a share of what people do (shared context and noise), so that it does not
    rise merely because ignorance falls; ``ignorance`` is a share of all.
    """
    people, ignorance = parts["shared_context"] + parts["noise"], parts["ignorance"]
    return {
        "shared_context": float(parts["shared_context"].sum() / people.sum()),
        "shared_context_interval": ratio_interval(parts["shared_context"], people, seed),
        "ignorance": float(ignorance.sum() / (people + ignorance).sum()),
    }


def by_size(
    sizes: Sequence[int], seed: int, setting: TextSetting, progress: Any = print
) -> list[dict[str, Any]]:
    """Train the ensemble on growing parts of the constant world and split its variance.

    Args:
        sizes: Numbers of training pairs, multiples of twenty.
        seed: Seed of world and training.
        setting: Test size and training options.
        progress: Called with a line after each training.

    Returns:
        One record per size.
    """
    results = []
    for size in sizes:
        started = time.perf_counter()
        sized = dataclasses.replace(setting, num_annotators=max(1, round(size / _PAIRS_EACH)))
        drawn = Drawn("constant", seed, sized)
        model = train(ENSEMBLE, drawn, sized, seed)
        rewards = model.head.distribution(raw_outputs_of(model, drawn))
        found = rewards[0::2].difference_parts(rewards[1::2])
        parts = {name: part.numpy() for name, part in found.items()}
        record = {"pairs": len(drawn.train), "seed": seed, **shares(parts, seed)}
        results.append({**record, "seconds": time.perf_counter() - started})
        progress(f"{size} pairs, seed {seed}: {_said(record)}")
    return results


def _said(record: dict[str, Any]) -> str:
    return (
        f"ignorance {record['ignorance']:.3f}, shared context {record['shared_context']:.3f} "
        f"{record['shared_context_interval']}"
    )


def shared_context_table(seed: int) -> TabularWorld:
    """Ten alternatives, ``u(i, z) = μ_i + L_i z + 0.7 ε``."""
    generator = np.random.default_rng(seed)
    mean, loadings = generator.standard_normal((2, _ALTERNATIVES))
    return gaussian(f"table {seed}", mean, loadings[:, None], np.full(_ALTERNATIVES, _NOISE))


def shared_context_share(world: TabularWorld) -> float:
    """True share of the context in the variance of differences, over all pairs."""
    n = _ALTERNATIVES
    context = 2 * n / (n - 1) * world.shared_variance_centred.mean()
    return float(context / (context + 2 * _NOISE**2))


def fit_members(
    world: TabularWorld, seed: int, annotators: int, members: int, steps: int
) -> dict[str, Any]:
    """Fit factor heads to bootstraps of the annotators and split the variance of differences.

    Returns:
        The shares, with the 95 % interval of the shared context's share over the bootstraps.
    """
    drawn = world.sample(annotators, _PAIRS_EACH, np.random.default_rng([seed, 1]))
    sides = np.stack([drawn.first, drawn.second])
    wins = (drawn.first_preferred > 0)[None]
    chosen, rejected = map(torch.from_numpy, np.where(wins, sides, sides[::-1]))
    annotator = torch.from_numpy(drawn.annotator)
    generator = np.random.default_rng([seed, 2])
    copies = generator.multinomial(annotators, np.full(annotators, 1 / annotators), size=members)
    labels = Labels.of_pairs(torch.ones(len(chosen)), annotator)
    labels = dataclasses.replace(
        labels,
        comparisons=dataclasses.replace(labels.comparisons, first=chosen, second=rejected),
        draws=torch.from_numpy(copies.T)[annotator],
    )
    head = heads.EnsembleHead(heads.make("factor", num_factors=1), members, 0.0)
    names = tuple(f"a{number}" for number in range(annotators))
    likelihood = make_likelihood(head, LikelihoodOptions(inference="variational", names=names))
    torch.manual_seed(seed)
    raw = (0.5 * torch.randn(_ALTERNATIVES, head.num_outputs)).requires_grad_()
    optimizer = torch.optim.Adam([raw, *likelihood.parameters()], lr=0.05)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.02, steps)
    for step in range(steps):
        loss = likelihood(raw, labels).sum()
        warm_up = min(1.0, 4 * step / steps)
        # the raw outputs' prior is N(0, 1); losses are averaged over the members, so it is too
        total = loss + warm_up * likelihood.prior() + 0.5 * raw.square().sum() / members
        optimizer.zero_grad()
        (total / len(chosen)).backward()
        optimizer.step()
        schedule.step()
    return _shares_of_table(head, raw.detach().double())


def _shares_of_table(head: heads.EnsembleHead, raw: torch.Tensor) -> dict[str, Any]:
    first, second = (torch.from_numpy(part) for part in np.triu_indices(_ALTERNATIVES, 1))
    rewards = head.distribution(raw)
    parts = rewards[first].difference_parts(rewards[second])
    shared, noise, ignorance = (
        float(parts[name].mean()) for name in ("shared_context", "noise", "ignorance")
    )
    own = rewards.members[first].difference_parts(rewards.members[second])
    each = own["shared_context"].mean(0) / (own["shared_context"] + own["noise"]).mean(0)
    low, high = np.quantile(each.numpy(), [0.025, 0.975]).tolist()
    return {
        "ignorance": ignorance / (shared + noise + ignorance),
        "shared_context": shared / (shared + noise),
        "shared_context_interval": (low, high),
    }


def by_size_of_table(
    sizes: Sequence[int], seed: int, members: int = 20, steps: int = 300, progress: Any = print
) -> list[dict[str, Any]]:
    """Fit the ensemble to growing tables of comparisons.

    Args:
        sizes: Numbers of pairs, multiples of twenty.
        seed: Seed of the world.
        members: Bootstraps of the annotators.
        steps: Of the optimiser.
        progress: Called with a line after each fit.

    Returns:
        One record per size, with the truth.
    """
    results, world = [], shared_context_table(seed)
    for size in sizes:
        annotators = round(size / _PAIRS_EACH)
        found = fit_members(world, seed, annotators, members, steps)
        record = {"pairs": annotators * _PAIRS_EACH, "seed": seed, **found}
        results.append({**record, "true_shared_context": shared_context_share(world)})
        progress(f"{record['pairs']} pairs, table {seed}: {_said(record)}")
    return results
