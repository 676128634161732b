"""What the report takes from score files themselves: every row's numbers, by the head's rules."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from hidden_context.analysis.evidence import pair_evidence
from hidden_context.analysis.row_facts import FactsReader, RowFacts
from hidden_context.analysis.score_files import PairScores, ResponseScores, read_score_file
from hidden_context.analysis.score_heads import choose_head, saved_head

if TYPE_CHECKING:
    from hidden_context.heads import Head

Floats = NDArray[np.float64]

RIGHT, WRONG, TIED, UNKNOWN = 1, 0, 2, -1
"""What became of a row: the model's side is the annotators', is not, or either is tied; no label."""

_ROUNDING: Final = 1e-12


@dataclass(frozen=True, eq=False)
class ScoredRows:
    """Rows scored by one reward model, N of them with M texts in all.

    Attributes:
        file: Where they come from.
        name: The model's name in the columns; empty for pairs scored by a single one.
        kind: ``pairs`` (chosen, rejected) or ``responses``.
        head: The head that reads the raw outputs.
        outputs: ``(M, K)``, raw outputs of all texts, row after row.
        counts: ``(N,)``, texts of each row.
        rows: ``(N,)``, the place of each row in its file, from 0.
        labels: Per label column that occurs, ``(N,)`` strings; empty where a row has none.
        preference: ``(N,)``, share of annotators for the chosen text; NaN for responses.
        probability: ``(N,)``, P(first ≻ second); NaN unless a row has two texts.
        difference: ``(N,)``, first mean reward minus second, in reward units; NaN likewise.
        variance: ``(N,)``, of the difference, or of a single reward on average where a row has not
            two texts; in squared reward units.
        verdict: ``(N,)``, ``RIGHT``, ``WRONG``, ``TIED`` or ``UNKNOWN``.
        facts: Prompts and lengths.
        left_out: Rows without a reward.
        context: ``(N,)``, the context of each row's prompt; −1 where it has none.
        context_names: The contexts' names.
    """

    file: str
    name: str
    kind: str
    head: Head
    outputs: Floats
    counts: NDArray[np.int64]
    rows: NDArray[np.int64]
    labels: dict[str, NDArray[np.str_]]
    preference: Floats
    probability: Floats
    difference: Floats
    variance: Floats
    verdict: NDArray[np.int64]
    facts: RowFacts
    left_out: int
    context: NDArray[np.int64]
    context_names: list[str] = field(default_factory=list)

    @property
    def has_variance(self) -> bool:
        """Whether single rewards have any spread."""
        import torch

        with torch.no_grad():
            return bool((self.head.distribution(torch.from_numpy(self.outputs)).variance > 0).any())


def read_scored(
    path: str | Path,
    *,
    head_type: str | None = None,
    likelihood: str | None = None,
    known: dict[str, dict[str, Any]] | None = None,
) -> list[ScoredRows]:
    """Read a score file and compute every row's numbers.

    Args:
        path: The file.
        head_type: The head that was asked for; None lets the file say.
        likelihood: The likelihood that was asked for.
        known: The JSON forms of heads by the models' names, pairs as ``pairs/NAME`` and responses
            as ``responses/NAME``, as an analysis has them; these go before all else.

    Returns:
        One entry per set of scores: pairs, named pairs, then responses, as an analysis has them.

    Raises:
        MissingFileError: If the file does not exist.
        DataError: If it cannot be used.
        ConfigError: If the head is unknown.
    """
    from hidden_context import heads

    every = read_score_file(path, facts=FactsReader(keep_prompts=True)).all_scores()
    # the checkpoint around the file can have written one set of scores, not those of several models
    saved = saved_head(path) if len(every) == 1 else None
    found = []
    for scores in every:
        kind = "pairs" if isinstance(scores, PairScores) else "responses"
        told = (known or {}).get(f"{kind}/{scores.name}")
        head = choose_head(
            scores.width,
            file=scores.file,
            field=scores.column,
            name=scores.name,
            saved=saved if told is None else heads.from_dict(told),
            head_type=head_type,
            likelihood=likelihood,
        )
        found.append(
            _of_pairs(scores, head)
            if isinstance(scores, PairScores)
            else _of_responses(scores, head)
        )
    return found


def _of_pairs(scores: PairScores, head: Head) -> ScoredRows:
    assert scores.facts is not None
    evidence = pair_evidence(head, scores.chosen, scores.rejected, scores.preference)
    size = len(scores.rows)
    return ScoredRows(
        file=scores.file,
        name=scores.name,
        kind="pairs",
        head=head,
        outputs=np.stack([scores.chosen, scores.rejected], axis=1).reshape(2 * size, -1),
        counts=np.full(size, 2, dtype=np.int64),
        rows=scores.rows,
        labels=scores.labels,
        preference=scores.preference,
        probability=evidence.probability,
        difference=evidence.difference,
        variance=evidence.difference_variance,
        verdict=_verdict(evidence.probability, scores.preference),
        facts=scores.facts,
        left_out=scores.left_out,
        context=np.full(size, -1, dtype=np.int64),
    )


def _verdict(probability: Floats, preference: Floats) -> NDArray[np.int64]:
    sides = np.sign(probability - 0.5) * np.sign(preference - 0.5)
    close = np.abs(probability - 0.5) <= _ROUNDING
    return np.select([close | (sides == 0), sides > 0], [TIED, RIGHT], WRONG)


def _of_responses(scores: ResponseScores, head: Head) -> ScoredRows:
    assert scores.facts is not None
    import torch

    counts = scores.num_responses
    size = len(counts)
    with torch.no_grad():
        single = head.distribution(torch.from_numpy(scores.outputs)).variance.double().numpy()
    starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
    variance = np.add.reduceat(single, starts) / counts
    probability, difference = np.full(size, np.nan), np.full(size, np.nan)
    two = np.flatnonzero(counts == 2)
    if len(two):
        first, second = scores.outputs[starts[two]], scores.outputs[starts[two] + 1]
        evidence = pair_evidence(head, first, second, np.ones(len(two)))
        probability[two], difference[two] = evidence.probability, evidence.difference
        variance[two] = evidence.difference_variance
    return ScoredRows(
        file=scores.file,
        name=scores.name,
        kind="responses",
        head=head,
        outputs=scores.outputs,
        counts=counts,
        rows=scores.rows,
        labels=scores.labels,
        preference=np.full(size, np.nan),
        probability=probability,
        difference=difference,
        variance=variance,
        verdict=np.full(size, UNKNOWN),
        facts=scores.facts,
        left_out=scores.left_out,
        context=np.full(size, -1, dtype=np.int64),
    )


def find_scored_contexts(scored: ScoredRows) -> tuple[dict[str, Any] | None, ScoredRows]:
    """Cluster the prompts by their variance, and note every row's context.

    Args:
        scored: Rows of one model.

    Returns:
        What an analysis has as ``contexts``, or None where there is nothing to find; and the rows
        with their contexts.
    """
    import dataclasses

    codes, cluster = np.unique(scored.facts.cluster, return_inverse=True)
    prompts = [scored.facts.prompts[code] for code in codes] if scored.facts.prompts else []
    if sum(map(bool, prompts)) < 2 or not scored.has_variance:
        return None, scored
    from hidden_context.contexts import find_contexts

    contexts = find_contexts(prompts, cluster, scored.variance, rows=scored.rows)
    names = [f"{place + 1}: {each.name}" for place, each in enumerate(contexts.clusters)]
    own = contexts.assignment[cluster]
    return contexts.to_dict(), dataclasses.replace(scored, context=own, context_names=names)


def spread_by_group(scored: ScoredRows) -> list[dict[str, Any]]:
    """Describe where the variance lies, by the columns that split the rows.

    Args:
        scored: Rows of one model.

    Returns:
        For all rows and then each part: ``labels``, ``n``, ``share`` of rows, ``mean_variance``,
        ``variance_share`` of the summed variance, and ``quantiles`` of the standard deviation at
        5, 25, 50, 75 and 95 %. Empty where single rewards have no spread.
    """
    from hidden_context.analysis.metrics import label_groups

    if not scored.has_variance:
        return []
    labels = {
        name: values
        for name, values in scored.labels.items()
        if name in ("data_subset", "objective") and len(np.unique(values)) <= 50
    }
    total = scored.variance.sum()
    found = []
    for group, rows in label_groups(labels, len(scored.rows)):
        if not rows.any():
            continue
        own = scored.variance[rows]
        found.append(
            {
                "labels": group,
                "n": int(rows.sum()),
                "share": float(rows.mean()),
                "mean_variance": float(own.mean()),
                "variance_share": float(own.sum() / total),
                "quantiles": np.quantile(np.sqrt(own), [0.05, 0.25, 0.5, 0.75, 0.95]).tolist(),
            }
        )
    return found
