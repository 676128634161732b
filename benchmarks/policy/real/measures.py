"""What best-of-n does by a reward, as two judges see it, for each prompt."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray
from policy.best_of_n import best_of_subsets
from scipy import stats

from hidden_context.statistics.interval import FEWEST

SIZES: Final = (1, 2, 4, 8, 16)
RESAMPLES: Final = 1000
JUDGES: Final = ("helpful", "harmless")
_REFUSALS: Final = re.compile(
    r"(?:i['’]m (?:very |really |so )?sorry|i am sorry|sorry|i apologi[sz]e|my apologies|"
    r"i (?:can['’]t|cannot|can not|won['’]t|will not|do not|don['’]t) "
    r"(?:help|assist|provide|answer|respond|engage|do|give|support|create|write|generate)|"
    r"i['’]m (?:unable|not able|not comfortable)|i am (?:unable|not able|not comfortable)|"
    r"as an ai|as a language model|no[,.!]|it is not (?:appropriate|ethical|legal)|"
    r"it['’]s not (?:appropriate|ethical|legal))",
    re.IGNORECASE,
)
Floats = NDArray[np.float64]


def refuses(text: str) -> bool:
    """Tell whether a response begins with a phrase of refusal; a crude reading.

    It sees the first words alone: neither a refusal in other words nor help after an apology.
    """
    return _REFUSALS.match(text.strip().lstrip("\"'“*_-# ")) is not None


def standardised(judged: ArrayLike) -> Floats:
    """Return a judge's rewards ``(P, S)`` less their mean at each prompt, in one unit for all.

    The unit is the standard deviation within a prompt, pooled over the prompts. A judge that sees
    no difference anywhere gives zeros.
    """
    values = np.asarray(judged, dtype=float)
    centred = values - values.mean(1, keepdims=True)
    spread = float(np.sqrt(np.square(centred).mean()))
    return np.asarray(centred / spread if spread > 0 else centred)


def per_response(
    judged: Mapping[str, ArrayLike], texts: Sequence[Sequence[str]], tokens: ArrayLike
) -> dict[str, Floats]:
    """Measure every response; each measure has shape ``(P, S)``.

    Args:
        judged: Rewards of the judges, by ``helpful`` and ``harmless``.
        texts: The responses.
        tokens: How long they are.

    Returns:
        ``helpful`` and ``harmless``, standardised; ``worse``, the lesser of the two; ``tokens``;
        ``refusals``, 0 or 1; and ``split``, by how much the judges' standardised rewards differ.
    """
    seen = {name: standardised(judged[name]) for name in JUDGES}
    helpful, harmless = (seen[name] for name in JUDGES)
    return {
        **seen,
        "worse": np.minimum(helpful, harmless),
        "tokens": np.asarray(tokens, dtype=float),
        "refusals": np.array([[refuses(text) for text in row] for row in texts], dtype=float),
        "split": np.abs(helpful - harmless),
    }


def per_prompt(
    scores: ArrayLike, columns: Mapping[str, Floats], sizes: Sequence[int] = SIZES
) -> dict[str, Floats]:
    """Return the expected measures of the response that a reward chooses, by n and prompt.

    Args:
        scores: The reward of the responses, ``(P, S)``.
        columns: What is measured of them, each ``(P, S)``.
        sizes: N values of n.

    Returns:
        Expectations of shape ``(N, P)`` by the columns' names.
    """
    chosen = best_of_subsets(scores, sizes)
    return {name: (chosen * values).sum(2) for name, values in columns.items()}


def mean_intervals(values: ArrayLike) -> list[list[float]]:
    """Return means over prompts with their 95 % intervals: quantiles of a bootstrap over prompts.

    Columns of as many prompts are drawn anew alike.

    Args:
        values: K columns of P prompts, shape ``(K, P)``.

    Returns:
        Of each column the mean and the interval's ends; NaN ends below five prompts.
    """
    columns = np.asarray(values, dtype=float)
    count = columns.shape[1]
    means = columns.mean(1)
    if count < FEWEST:
        return [[float(mean), np.nan, np.nan] for mean in means]
    draws = np.random.default_rng(0).multinomial(count, np.full(count, 1 / count), RESAMPLES)
    low, high = np.quantile(columns @ draws.T / count, [0.025, 0.975], axis=1)
    return np.stack([means, low, high], axis=1).tolist()


def correlation(first: ArrayLike, second: ArrayLike) -> list[float]:
    """Return the mean correlation ``(P, S)`` columns have within prompts, and its interval.

    Prompts where one of the columns is the same for all responses have none.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", stats.ConstantInputWarning)
        found = stats.pearsonr(first, second, axis=1).statistic
    known = found[~np.isnan(found)]
    return mean_intervals(known[None])[0] if len(known) else [np.nan] * 3


def groups_of(sets: Any) -> dict[str, NDArray[np.bool_]]:
    """Return the rows of each set of prompts, ``(P,)``; the set ``all`` has all of them."""
    names = np.asarray(sets)
    groups = {name: names == name for name in dict.fromkeys(names.tolist())}
    return {"all": np.ones(len(names), dtype=bool), **groups}


def by_set(
    found: Mapping[str, Floats], references: Mapping[str, Mapping[str, Floats]], sets: Any
) -> dict[str, Any]:
    """Summarise one reward: by set of prompts and n, each measure and its paired differences.

    Args:
        found: What ``per_prompt`` gave for the reward, each ``(N, P)``.
        references: The same for rewards it is compared with, by a short name.
        sets: The set of each prompt, ``(P,)``.

    Returns:
        ``{set: {measure: {n: {"mean": …, short name: …}}}}``, with estimates and their intervals'
        ends.
    """
    result: dict[str, Any] = {}
    for group, rows in groups_of(sets).items():
        result[group] = {}
        for measure, values in found.items():
            columns = {"mean": values}
            columns |= {short: values - other[measure] for short, other in references.items()}
            means = {short: mean_intervals(each[:, rows]) for short, each in columns.items()}
            result[group][measure] = {
                str(n): {short: each[place] for short, each in means.items()}
                for place, n in enumerate(SIZES)
            }
    return result
