"""A permutation test of hidden context: do annotators choose differently?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final

import numpy as np

from hidden_context.errors import ConfigError
from hidden_context.statistics.checks import Codes, Floats, batches, numbered

_ROUNDING: Final = 1e-9  # equal statistics whose sums were taken in another order are ties


@dataclass(frozen=True)
class TestResult:
    """What a test found, and what it cannot say.

    Attributes:
        name: Name of the test.
        question: What it asks, one sentence.
        statistic: The test statistic.
        p_value: Probability of a statistic at least as extreme if the answer is no.
        resamples: How often the null was drawn; 0 for an exact test.
        limit: What the test cannot say.
    """

    __test__: ClassVar[bool] = False

    name: str
    question: str
    statistic: float
    p_value: float
    resamples: int
    limit: str


def annotator_permutation_test(
    features: Floats,
    annotator: Codes,
    strata: Codes | None = None,
    *,
    block: Codes | None = None,
    resamples: int = 999,
    seed: int = 0,
) -> TestResult:
    r"""Test whether annotators choose differently, by permuting who judged.

    A label is carried by features of the chosen minus those of the rejected response, such as the
    differences of mean reward, of σ and of length. If who judges does not matter for the choice,
    annotators may change places within strata of exchangeable pairs. The statistic is the sum of
    squares between annotators of the features, centred by stratum and standardised:

    .. math:: T = \sum_a n_a \lVert \bar f_a \rVert^2

    Each annotator may have few labels: the p-value is valid for any numbers. But then take few
    features, because each in which annotators do not differ drowns the others; that of σ alone is
    the one that shows opposite objectives. There are two ways to use it:

    - Strata of pairs, such as topics or rounds of collection, within which annotators got their
      pairs at random; None for one stratum. Where pairs went to annotators by topic, the topics
      have to be the strata, or else the test finds the topics.
    - Strata that are unordered pairs, each judged several times. The features of one stratum then
      differ in sign alone, and only choices are permuted: nothing is assumed about who got which
      pair.

    Strata with one row or one annotator say nothing and are left out.

    Args:
        features: Features of the chosen minus the rejected response, of shape ``(N, q)``.
        annotator: Number of each row's annotator, of shape ``(N,)``.
        strata: Number of each row's stratum, of shape ``(N,)``.
        block: Number of each row's block, of shape ``(N,)``: rows that came to their annotator
            together, such as the comparisons of one conversation, and so move together. Each
            annotator's rows of a block count once, with their mean features. None where every row
            came alone.
        resamples: How many permutations.
        seed: Of the permutations.

    Returns:
        The result; its p-value is (1 + #{T* ≥ T}) / (1 + resamples).

    Raises:
        ConfigError: If lengths differ, a feature is not finite, or no stratum has two annotators.
    """
    features = np.asarray(features, dtype=np.float64)
    features = features[:, None] if features.ndim == 1 else features
    size = len(features)
    who = numbered(annotator, size, "annotator")
    where = np.zeros(size, np.int64) if strata is None else numbered(strata, size, "stratum")
    if not np.isfinite(features).all():
        raise ConfigError("features must be finite numbers.")
    if block is not None:
        features, who, where = _by_block(features, who, where, numbered(block, size, "block"))
    both = np.unique(where * (who.max() + 1) + who) // (who.max() + 1)
    telling = (np.bincount(both) > 1)[where]  # strata of two annotators or more
    if not telling.any():
        raise ConfigError(
            "no stratum has labels of two annotators, so there is nothing to permute; use larger "
            "strata, or none."
        )
    features, who, where = features[telling], who[telling], where[telling]
    observed, drawn = _permuted(_standardised(features, where), who, where, resamples, seed)
    return TestResult(
        name="annotator_permutation",
        question="Do annotators choose differently?",
        statistic=observed,
        p_value=permutation_p_value(drawn, observed),
        resamples=resamples,
        limit=(
            "This test assumes that pairs were assigned to annotators at random. If annotators "
            "chose topics, group by topic first. Annotators may differ in care as well as in "
            "objectives, and the test finds only differences that the features show."
        ),
    )


def _by_block(
    features: Floats, who: Codes, where: Codes, block: Codes
) -> tuple[Floats, Codes, Codes]:
    if len(np.unique(np.stack([block, where]), axis=1)[0]) != block.max() + 1:
        raise ConfigError("the rows of one block must lie in one stratum.")
    number = np.unique(block * (who.max() + 1) + who, return_inverse=True)[1]
    first = np.unique(number, return_index=True)[1]
    count = np.bincount(number)
    means = np.stack([np.bincount(number, weights=column) / count for column in features.T], axis=1)
    return means, who[first], where[first]


def _standardised(features: Floats, where: Codes) -> Floats:
    count = np.bincount(where)
    centred = np.empty_like(features)
    for column, values in enumerate(features.T):
        sums = np.bincount(where, weights=values)
        centred[:, column] = values - (sums / np.maximum(count, 1))[where]
    spread = centred.std(0)
    level = np.abs(features).max(0, initial=0.0)
    varies = spread > 1e-12 * level  # a constant feature has no spread but rounding
    return np.asarray(centred * np.where(varies, 1 / np.where(varies, spread, 1.0), 0.0))


def _permuted(
    values: Floats, who: Codes, where: Codes, resamples: int, seed: int
) -> tuple[float, Floats]:
    """Return the statistic as found, and of permutations within strata, ``(resamples,)``."""
    slots = np.argsort(where, kind="stable")  # strata lie side by side
    values, who, where = values[slots], who[slots], where[slots]
    by_annotator = np.argsort(who, kind="stable")
    starts = np.flatnonzero(np.diff(who[by_annotator], prepend=-1))
    count = np.diff([*starts, len(who)])

    def statistics(order: Codes) -> Floats:
        """Take orders ``(R, N)`` of the features over the slots to statistics ``(R,)``."""
        placed = order[:, by_annotator]
        total = np.zeros(len(order))
        for column in values.T:
            sums = np.add.reduceat(column[placed], starts, axis=1)
            total += (sums**2 / count).sum(1)
        return total

    size = len(who)
    observed = float(statistics(np.arange(size)[None])[0])
    generator = np.random.default_rng(seed)
    drawn = []
    for count_drawn in batches(resamples, size):
        # a uniform number after the stratum's keeps the strata in their places
        key = where + generator.random((count_drawn, size))
        drawn.append(statistics(np.argsort(key, axis=1)))
    return observed, np.concatenate(drawn)


def permutation_p_value(drawn: Floats, observed: float) -> float:
    """Return (1 + #{drawn ≥ observed}) / (1 + #drawn)."""
    reached = int((drawn >= observed - _ROUNDING * max(1.0, abs(observed))).sum())
    return (1 + reached) / (1 + len(drawn))
