"""Tests of hidden context: do annotators choose differently, and do responses differ in spread?"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from hidden_context.errors import ConfigError
from hidden_context.statistics.checks import Codes, Floats, numbered
from hidden_context.statistics.sigma_likelihood import common_sigma_ratios

_BATCH_NUMBERS: Final = 4_000_000
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

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON has them."""
        return asdict(self)


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
    telling = _with_two_annotators(who, where)
    if not telling.any():
        raise ConfigError(
            "no stratum has labels of two annotators, so that there is nothing to permute; take "
            "larger strata, or none."
        )
    values, who, where = (
        _standardised(features[telling], where[telling]),
        who[telling],
        where[telling],
    )
    observed, drawn = _permuted(values, who, where, resamples, seed)
    return TestResult(
        name="annotator_permutation",
        question="Do annotators choose differently?",
        statistic=observed,
        p_value=_p_value(drawn, observed),
        resamples=resamples,
        limit=(
            "It takes pairs as given to annotators at random within each stratum: where they went "
            "by topic, the topics have to be strata. A difference may be one of care as well as "
            "of objectives, and only what the features show can be found."
        ),
    )


def common_sigma_test(
    mean_difference: Floats,
    variance_sum: Floats,
    label: Floats,
    *,
    resamples: int = 199,
    seed: int = 0,
) -> TestResult:
    r"""Test whether labels speak for a spread of rewards that differs between pairs.

    The family of models is

    .. math:: P_i = \Phi\left(c\, \Delta\mu_i / \sqrt{(1 - t) \bar v + t v_i}\right).

    With t = 0 all pairs have one common σ, with t = 1 each has its own; the scale c is free in
    both. The statistic is the likelihood ratio of the best t in [0, 1] (a grid of 21) against
    t = 0. Labels are drawn anew from the fitted t = 0, because a parameter at the end of its range
    has no χ² for a limit. Above 4096 pairs the likelihood is that of 64 × 64 cells of similar
    pairs, of the found labels and the drawn ones alike, so that a million pairs need little more
    memory than their own three columns. Calling the other response chosen changes nothing.

    Args:
        mean_difference: Δμ, mean reward of the chosen minus the rejected response, ``(N,)``.
        variance_sum: v, variance of the difference of the two rewards, above 0, ``(N,)``.
        label: Share of annotators for the chosen response, in [0, 1], ``(N,)``; 1 for single
            labels. Shares of several annotators vary less than the single labels that are drawn,
            which makes the test reject too seldom.
        resamples: How many sets of labels are drawn from the null.
        seed: Of these draws.

    Returns:
        The result; its p-value is (1 + #{LR* ≥ LR}) / (1 + resamples).

    Raises:
        ConfigError: If shapes differ, there are no pairs, a variance is not above 0, or a label
            lies outside [0, 1].
    """
    observed, drawn = common_sigma_ratios(mean_difference, variance_sum, label, resamples, seed)
    return TestResult(
        name="common_sigma",
        question="Does the spread of rewards differ between responses, as the model says?",
        statistic=observed,
        p_value=_p_value(drawn, observed),
        resamples=resamples,
        limit=(
            "In anonymous single labels a conflict of 50 to 50 and indifference look alike: a "
            "small p-value says that spread differs between responses as the model says, not that "
            "annotators disagree. It takes mean differences as right up to their scale, and labels "
            "as independent given the rewards."
        ),
    )


# -- who judged -------------------------------------------------------------------------------


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


def _with_two_annotators(who: Codes, where: Codes) -> NDArray[np.bool_]:
    both = np.unique(where * (who.max() + 1) + who) // (who.max() + 1)
    return np.asarray((np.bincount(both) > 1)[where])


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
    step = max(1, _BATCH_NUMBERS // size)
    drawn = []
    for start in range(0, resamples, step):
        # a uniform number after the stratum's keeps the strata in their places
        key = where + generator.random((min(step, resamples - start), size))
        drawn.append(statistics(np.argsort(key, axis=1)))
    return observed, np.concatenate(drawn)


def _p_value(drawn: Floats, observed: float) -> float:
    reached = int((drawn >= observed - _ROUNDING * max(1.0, abs(observed))).sum())
    return (1 + reached) / (1 + len(drawn))
