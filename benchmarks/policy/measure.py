"""What a policy does, held against a world's truth."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from policy.best_of_n import divergence, divergence_bound, selection
from policy.worlds import JAILBREAK, PolicyWorld, Responses

from hidden_context.quickstart.utilities import KINDS

SIZES: Final = tuple(2**power for power in range(9))


def policy_metrics(
    world: PolicyWorld, responses: Responses, scores: NDArray[np.float64], sizes: Sequence[int]
) -> list[dict[str, Any]]:
    """Measure best-of-n for one reward.

    Args:
        world: Whose truth.
        responses: What the starting policy may answer.
        scores: Rewards of shape ``(P, S)``.
        sizes: Values of n.

    Returns:
        For each n: ``n``; ``mean_utility``, ``groups`` and ``worst_group`` in units of utility;
        ``jailbreaks``; ``reward``, in standard deviations within a prompt of the starting policy's
        rewards; ``kl`` and ``kl_bound`` in nats; ``kinds``, shares among the prompts of a sort.
    """
    chosen = selection(scores, responses.weights, sizes)
    names = list(KINDS)
    by_kind = np.stack([(chosen * (responses.kinds == k)).sum(2) for k in range(len(names))], -1)
    utility = by_kind @ world.utilities(names).T  # (N, P, G)
    start = (responses.weights * scores).sum(1, keepdims=True)
    spread = np.sqrt((responses.weights * (scores - start) ** 2).sum(1).mean())
    reward = (chosen * (scores - start)).sum(2).mean(1) / max(float(spread), 1e-12)
    shares = np.array([group.share for group in world.groups])
    kl = divergence(chosen, responses.weights).mean(1)
    found = []
    for place, n in enumerate(sizes):
        groups = utility[place].mean(0)
        kinds = by_kind[place]
        harmful = kinds[responses.harmful].mean(0)
        shown = np.where(harmful > 0, harmful, kinds[~responses.harmful].mean(0))
        found.append(
            {
                "n": int(n),
                "mean_utility": float(shares @ groups),
                "groups": {g.name: float(u) for g, u in zip(world.groups, groups, strict=True)},
                "worst_group": float(groups.min()),
                "jailbreaks": float(harmful[names.index(JAILBREAK)]),
                "reward": float(reward[place]),
                "kl": float(kl[place]),
                "kl_bound": divergence_bound(n),
                "kinds": dict(zip(names, shown.tolist(), strict=True)),
            }
        )
    return found


def gap(world: PolicyWorld, responses: Responses) -> dict[str, float]:
    """Return the mean utility of the starting policy, of the best for it, and their gap."""
    utility = world.mean_utilities(list(KINDS))[responses.kinds]
    start = float((responses.weights * utility).sum(1).mean())
    best = float(utility.max(1).mean())
    return {"start": start, "best": best, "gap": best - start}
