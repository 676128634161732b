"""Tabular part of the ground-truth benchmark: what each likelihood can and cannot express."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import torch
from ground_truth.metrics import r_squared_error
from torch import Tensor

from hidden_context import heads
from hidden_context.distributions import FactorReward
from hidden_context.heads import Head
from hidden_context.statistics.evaluation.judgement_metrics import pairwise_probabilities
from hidden_context.synthetic.curves import spearman
from hidden_context.worlds.tables import TabularWorld, prop_3_3, tabular_worlds, thm_3_4

HEADS: Final[dict[str, Head]] = {
    "base": heads.make("base"),
    "mean_and_variance (paper)": heads.make("mean_and_variance", likelihood="logistic"),
    "categorical (paper)": heads.make("categorical"),
    "mean_and_variance": heads.make("mean_and_variance"),
    "mixture": heads.make("mixture"),
    "quantile": heads.make("quantile"),
    "factor F=1": heads.make("factor", num_factors=1),
    "factor F=2": heads.make("factor", num_factors=2),
}
_RIDGE: Final = 1e-6
_CONTEXTS: Final = 20_000


def fit_tabular(
    head: Head,
    probabilities: Tensor | np.ndarray,
    *,
    max_iterations: int = 2000,
    ridge: float = 0.0,
    seed: int = 0,
) -> Tensor:
    r"""Fit one raw output per alternative to pairwise probabilities, without any network.

    Minimises the cross-entropy per ordered pair of the fitted probabilities against the given
    ones,

    .. math:: -\frac{1}{n(n-1)}\sum_{a \ne b} p(a,b) \log \hat P(a \succ b)
        + \frac{\rho}{n}\,\|\text{raw}\|^2

    by L-BFGS in float64 from a small random start: what a head would learn from unlimited data
    about n alternatives. It tells what a likelihood can and cannot express apart from what a
    network can.

    Args:
        head: The head to fit.
        probabilities: Matrix of shape ``(n, n)``, entry (a, b) the probability that a is preferred
            to b; the diagonal plays no part.
        max_iterations: Upper bound on L-BFGS iterations.
        ridge: Weight ρ of the squared raw outputs; 0 for plain maximum likelihood.
        seed: Seed of the start.

    Returns:
        Raw outputs of shape ``(n, K)`` in float64.
    """
    n = len(probabilities)
    first, second = (~torch.eye(n, dtype=torch.bool)).nonzero(as_tuple=True)
    weight = torch.as_tensor(probabilities)[first, second].double()
    start = torch.randn(n, head.num_outputs, generator=torch.Generator().manual_seed(seed))
    raw = (0.1 * start.double()).requires_grad_()
    optimizer = torch.optim.LBFGS(
        [raw],
        max_iter=max_iterations,
        history_size=50,
        tolerance_grad=1e-11,
        tolerance_change=1e-15,
        line_search_fn="strong_wolfe",
    )

    def loss() -> Tensor:
        optimizer.zero_grad()
        log_likelihood = weight * head.log_prob_preferred(raw[first], raw[second])
        value = -log_likelihood.mean() + ridge * raw.square().sum() / n
        value.backward()
        return value

    optimizer.step(loss)
    return raw.detach()


def difference_variance(world: TabularWorld, seed: int) -> np.ndarray:
    """True variance of u_a − u_b over annotators and noise, of shape ``(n, n)``."""
    covariance = np.cov(world.contexts(_CONTEXTS, np.random.default_rng(seed)), rowvar=False)
    shared = np.add.outer(np.diag(covariance), np.diag(covariance)) - 2 * covariance
    return shared + np.add.outer(world.noise_variance, world.noise_variance)


def learned_difference_variance(head: Head, raw: Tensor) -> Tensor:
    """Variance of u_a − u_b as a head sees it, of shape ``(n, n)``."""
    n = len(raw)
    first = head.distribution(raw.unsqueeze(1).expand(n, n, -1))
    second = head.distribution(raw.unsqueeze(0).expand(n, n, -1))
    return torch.stack(list(first.difference_parts(second).values())).sum(0)


def error_of(head: Head, raw: Tensor, world: TabularWorld) -> float:
    """Mean error of a fitted head's probabilities, over all pairs of different alternatives."""
    gaps = pairwise_probabilities(head, raw).numpy() - world.probabilities
    return float(np.abs(gaps[~np.eye(len(raw), dtype=bool)]).mean())


def measure(
    world: TabularWorld, name: str, head: Head, iterations: int, seed: int
) -> dict[str, Any]:
    """Fit one head to one world's exact probabilities and hold it against the truth."""
    started = time.perf_counter()
    raw = fit_tabular(head, world.probabilities, max_iterations=iterations, seed=seed)
    rewards, off = head.distribution(raw), ~np.eye(len(raw), dtype=bool)
    learned = learned_difference_variance(head, raw).numpy()
    result: dict[str, Any] = {
        "world": world.name,
        "head": name,
        "seed": seed,
        "probability_error": error_of(head, raw, world),
        "r2_error": r_squared_error(rewards.mean, rewards.variance, world.mean, world.variance),
        "variance_spearman": spearman(learned[off], difference_variance(world, seed)[off]),
        "seconds": time.perf_counter() - started,
    }
    if isinstance(rewards, FactorReward):
        shared = rewards.relative(0).shared_variance.mean().item()
        noise = rewards.independent_variance.mean().item()
        true_shared = float(world.shared_variance_centred.mean())
        true_noise = float(world.noise_variance.mean())
        result["shared_share"] = shared / (shared + noise)
        result["true_shared_share"] = true_shared / (true_shared + true_noise)
    return result


def exact(seeds: Sequence[int], iterations: int, progress: Any = print) -> list[dict[str, Any]]:
    """Fit every head to the exact comparison probabilities of every world."""
    results = []
    for seed in seeds:
        for world in tabular_worlds(seed):
            for name, head in HEADS.items():
                results.append(measure(world, name, head, iterations, seed))
                error = results[-1]["probability_error"]
                progress(f"{world.name} {seed} {name}: error {error:.2e}")
    return results


def theorem_3_4(seed: int, judgements: int = 20_000) -> list[dict[str, Any]]:
    """Sample the two worlds of theorem 3.4, each on its own, and fit every head to each.

    The worlds have expected utilities 1 and −1 for b against 0 for a, and the same comparisons. No
    head can tell them apart: the probabilities it learns differ by sampling error alone.
    """
    results, tables = [], []
    for place, world in enumerate(thm_3_4()):
        found = world.sample(judgements, 1, np.random.default_rng([seed, place]))
        first = found.first_preferred
        share = float(np.where(found.first == 1, first, 1 - first).mean())  # who prefer b
        tables.append(torch.tensor([[0.5, 1 - share], [share, 0.5]], dtype=torch.float64))
    for name, head in HEADS.items():
        learned = []
        for table in tables:
            raw = fit_tabular(head, table, max_iterations=500, ridge=_RIDGE, seed=seed)
            learned.append(float(pairwise_probabilities(head, raw)[1, 0]))
        gap = abs(learned[0] - learned[1]) / float(np.sqrt(2 * 0.25 / judgements))
        names = {"head": name, "seed": seed, "first": learned[0], "second": learned[1]}
        results.append({**names, "gap_in_standard_errors": gap})
    return results


def proposition_3_3(iterations: int = 500) -> list[dict[str, Any]]:
    """Fit every head to the world in which preference learning prefers the wrong alternative."""
    world = prop_3_3()
    results = []
    for name, head in HEADS.items():
        raw = fit_tabular(head, world.probabilities, max_iterations=iterations, ridge=_RIDGE)
        best_first = head.distribution(raw).mean.argsort(descending=True)
        order, error = "".join("abc"[i] for i in best_first), error_of(head, raw, world)
        results.append({"head": name, "order": order, "probability_error": error})
    return results
