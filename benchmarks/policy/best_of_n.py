"""Best-of-n in closed form: who is chosen of n draws, and what that does in a known world."""

from __future__ import annotations

from collections.abc import Sequence
from math import comb
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray
from policy.worlds import JAILBREAK, PolicyWorld, Responses
from scipy.special import rel_entr

from hidden_context.errors import DataError
from hidden_context.worlds.utilities import KINDS


def selection(scores: ArrayLike, weights: ArrayLike, sizes: Sequence[int]) -> NDArray[np.float64]:
    r"""Return the probability that each response is the best of n, drawn with replacement.

    .. math:: \pi_n(i) = \frac{w_i}{F(r_i)-F(r_i^-)}\bigl[F(r_i)^n - F(r_i^-)^n\bigr]

    with F the distribution function of the reward under the policy. Of draws with equal rewards
    each is as likely to be taken.

    Args:
        scores: Rewards of S responses to each of P prompts, shape ``(P, S)``.
        weights: Their probabilities, of that shape; each row sums to 1.
        sizes: N values of n, each at least 1.

    Returns:
        Probabilities of shape ``(N, P, S)``; each row sums to 1.

    Raises:
        DataError: If a reward is not finite.
    """
    values, mass = _finite(scores), np.asarray(weights, dtype=float)
    power = np.asarray(sizes, dtype=float)[:, None]
    chosen = np.empty((len(sizes), *values.shape))
    for row, (rewards, own) in enumerate(zip(values, mass, strict=True)):
        _, level = np.unique(rewards, return_inverse=True)
        upto = np.cumsum([0.0, *np.bincount(level, own)])
        upto /= upto[-1]
        of_level = np.diff(upto)[level]
        share = np.divide(own, of_level, out=np.zeros_like(own), where=of_level > 0)
        chosen[:, row] = np.diff(upto**power, axis=1)[:, level] * share
    return chosen / chosen.sum(2, keepdims=True)


def best_of_subsets(scores: ArrayLike, sizes: Sequence[int]) -> NDArray[np.float64]:
    r"""Return the probability that each of S responses is the best of n of them, no one twice.

    .. math:: \pi_n(i) = \frac1m\left[\binom{b+m}{n} - \binom{b}{n}\right]\Big/\binom{S}{n}

    with b the responses of a lower reward and m those of the same one, itself included; of equal
    rewards each is as likely to be taken. An expectation over it is the mean over all subsets: an
    unbiased estimate of that for n fresh draws. At n = S it is the plain best of all.

    Args:
        scores: Rewards of shape ``(P, S)``.
        sizes: N values of n, from 1 to S.

    Returns:
        Probabilities of shape ``(N, P, S)``; each row sums to 1.

    Raises:
        DataError: If a reward is not finite.
    """
    values = _finite(scores)
    count = values.shape[1]
    below = (values[:, None, :] < values[:, :, None]).sum(2)
    same = (values[:, None, :] == values[:, :, None]).sum(2)
    # of ways to take n of k responses, in floats: the largest is a count of 16 over 8 or so
    ways = np.array([[comb(k, n) for k in range(count + 1)] for n in sizes], dtype=float)
    taken = ways[:, below + same] - ways[:, below]
    return np.asarray(taken / same / ways[:, -1][:, None, None])


def divergence(chosen: ArrayLike, weights: ArrayLike) -> NDArray[np.float64]:
    r"""Return :math:`\mathrm{KL}(\pi\|\pi_1)=\sum_i\pi(i)\log(\pi(i)/w_i)` in nats.

    Args:
        chosen: Probabilities of shape ``(…, P, S)``.
        weights: Those of the starting policy, shape ``(P, S)``.

    Returns:
        Divergences of shape ``(…, P)``.
    """
    return np.asarray(rel_entr(chosen, weights).sum(-1))


def divergence_bound(n: int) -> float:
    """Return log n − (n − 1)/n, the KL for a continuous reward and the most for any other."""
    return float(np.log(n) - (n - 1) / n)


def _finite(scores: ArrayLike) -> NDArray[np.float64]:
    values = np.asarray(scores, dtype=float)
    if not np.isfinite(values).all():
        raise DataError("a reward is not finite: there is no best response")
    return values


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
