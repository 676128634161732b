"""Distinctive terms of a cluster: log-odds ratios with an informative Dirichlet prior."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_PRIOR_PROMPTS: Final = 10.0
_LEAST_Z: Final = 1.0


def log_odds(inside: Floats, outside: Floats, prompts: int) -> Floats:
    r"""How much more a term stands in a cluster's prompts than in the others, as z-scores.

    With :math:`y_w` the number of the cluster's prompts that hold term w, :math:`y'_w` that of the
    others, and a prior :math:`\alpha_w` in proportion to both together that weighs as much as ten
    prompts' terms,

    .. math:: \delta_w = \ln\frac{y_w + \alpha_w}{n + \alpha_0 - y_w - \alpha_w}
        - \ln\frac{y'_w + \alpha_w}{n' + \alpha_0 - y'_w - \alpha_w}, \qquad
        z_w = \frac{\delta_w}{\sqrt{1 / (y_w + \alpha_w) + 1 / (y'_w + \alpha_w)}}

    with n and n' the sums of y and y'.

    Args:
        inside: y, of shape ``(V,)``.
        outside: y', of shape ``(V,)``; every term stands in some prompt.
        prompts: Number of prompts, of the cluster and the others together.

    Returns:
        z, of shape ``(V,)``.

    Source: Monroe, Colaresi and Quinn (2008), "Fightin' Words", equations 16, 18 and 22.
    """
    prior = (inside + outside) * min(1.0, _PRIOR_PROMPTS / prompts)
    total = prior.sum()
    own, other = inside + prior, outside + prior
    delta = np.log(own / (inside.sum() + total - own)) - np.log(
        other / (outside.sum() + total - other)
    )
    return np.asarray(delta / np.sqrt(1 / own + 1 / other))


def distinctive_terms(
    counts: Any, terms: Sequence[str], label: NDArray[np.int64], count: int = 8
) -> list[list[str]]:
    """Name the terms by which each cluster differs from the rest.

    A term with a word of an already chosen one says little new and is left out.

    Args:
        counts: ``(P, V)`` sparse 0/1, which term stands in which prompt.
        terms: The V terms.
        label: ``(P,)``, clusters 0 to C − 1.
        count: Most terms of a cluster.

    Returns:
        Terms of each cluster, the most distinctive first; with a single cluster its most frequent.
    """
    clusters = int(label.max()) + 1
    if not terms:
        return [[] for _ in range(clusters)]
    total = np.asarray(counts.sum(0), dtype=np.float64).ravel()
    known = np.flatnonzero(total)  # a part of the prompts need not have every term
    total, names = total[known], [terms[place] for place in known.tolist()]
    found = []
    for cluster in range(clusters):
        inside = np.asarray(counts[label == cluster].sum(0), dtype=np.float64).ravel()[known]
        scores = total if clusters == 1 else log_odds(inside, total - inside, len(label))
        least = 0.0 if clusters == 1 else _LEAST_Z
        found.append(_best(scores, names, least, count) or _best(scores, names, 0.0, count))
    return found


def _best(scores: Floats, terms: Sequence[str], least: float, count: int) -> list[str]:
    chosen: list[str] = []
    words: set[str] = set()
    for place in map(int, np.argsort(-scores, kind="stable")):
        if len(chosen) == count or scores[place] <= least:
            break
        own = set(terms[place].split())
        if own & words:
            continue
        chosen.append(terms[place])
        words |= own
    return chosen
