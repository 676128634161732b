"""Analysis of any score files: numbers with intervals by prompt, whole and by label."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hidden_context.analysis import frontier, sections
from hidden_context.analysis.benchmark_accuracy import section_accuracies
from hidden_context.analysis.benchmark_files import has_rewards, read_section_scores
from hidden_context.analysis.borda import borda_of
from hidden_context.analysis.card import check_card, write_card
from hidden_context.analysis.comparison import compare
from hidden_context.analysis.config import AnalyzeConfig
from hidden_context.analysis.evidence import PairEvidence, pair_evidence, response_evidence
from hidden_context.analysis.groups import group_labels, label_groups
from hidden_context.analysis.intervals import (
    Moments,
    Resampling,
    pair_moments,
    response_moments,
)
from hidden_context.analysis.outputs import check_output
from hidden_context.analysis.records import record_of_pairs, record_of_responses
from hidden_context.analysis.results import Analysis, FileSections, Group, ScoresAnalysis
from hidden_context.analysis.score_files import PairScores, ResponseScores, read_score_file
from hidden_context.analysis.score_heads import (
    choose_head,
    head_files_of,
    known_column,
    saved_likelihood,
)
from hidden_context.analysis.subsets import subset_differences
from hidden_context.analysis.votes import votes_of_pairs
from hidden_context.data.files import write_json
from hidden_context.data.locks import exclusive
from hidden_context.errors import ConfigError, DataError

if TYPE_CHECKING:
    from hidden_context.contexts import Contexts
    from hidden_context.heads import Head
    from hidden_context.likelihood import Labels, Likelihood
    from hidden_context.risk import RiskMeasure

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Analysed:
    """One set of pairs with what a comparison of two models needs."""

    scores: PairScores
    evidence: PairEvidence


def _groups(
    scores: PairScores | ResponseScores, by: list[str], moments: Moments, resampling: Resampling
) -> list[tuple[dict[str, str], NDArray[Any], dict[str, Any]]]:
    labels = group_labels(scores, by)
    return [
        (group, rows, moments.intervals(rows, resampling))
        for group, rows in label_groups(labels, len(moments.cluster))
        if rows.any()
    ]


def analyze_pairs(
    scores: PairScores, likelihood: Likelihood, config: AnalyzeConfig, risk_names: list[str]
) -> tuple[ScoresAnalysis, PairEvidence]:
    """Analyse pairs.

    Args:
        scores: The pairs with their facts.
        likelihood: The head that reads the raw outputs, and what was learned beside the network.
        config: Groups and resampling.
        risk_names: Risk measures by which the pairs are compared as well.

    Returns:
        The analysis, and what every pair adds to its numbers.
    """
    from hidden_context.likelihood import LikelihoodOptions

    facts, resampling, head = scores.facts, _resampling(config), likelihood.head
    sides, labels = (scores.chosen, scores.rejected), _labels(scores, likelihood)
    evidence = pair_evidence(likelihood, *sides, scores.preference, risk_names, labels)
    moments = pair_moments(evidence, facts.cluster)
    groups = [
        Group(group, record_of_pairs(evidence, rows), intervals)
        for group, rows, intervals in _groups(scores, config.by, moments, resampling)
    ]
    spread = evidence.difference_variance if evidence.has_variance else None
    analysis = ScoresAnalysis(
        scores.file,
        "pairs",
        scores.name,
        head.to_dict(),
        scores.left_out,
        groups,
        likelihood.options != LikelihoodOptions(),
        clusters=len(np.unique(facts.cluster)),
        calibration=sections.calibration_of(evidence, facts.cluster, resampling),
        tests=sections.pair_tests(scores, evidence, resampling),
        votes=votes_of_pairs(scores, likelihood, config.by, resampling),
        frontier=frontier.pair_frontier(scores, evidence, head, resampling),
        subset_differences=subset_differences(group_labels(scores, config.by), moments, resampling),
        contexts=_contexts(scores, spread, config),
        confounds=sections.confounds_of(facts, spread, resampling),
    )
    return analysis, evidence


def analyze_responses(
    scores: ResponseScores, head: Head, config: AnalyzeConfig, risk_names: list[str]
) -> ScoresAnalysis:
    """Analyse rows of responses."""
    facts, resampling = scores.facts, _resampling(config)
    evidence = response_evidence(head, scores.outputs, scores.num_responses, risk_names)
    moments = response_moments(evidence, facts.cluster, within=not head.has_context)
    groups = [
        Group(group, record_of_responses(evidence, rows), intervals)
        for group, rows, intervals in _groups(scores, config.by, moments, resampling)
    ]
    spread = None
    if (evidence.variance > 0).any():
        total = np.bincount(evidence.row, weights=evidence.variance)
        spread = total / np.maximum(scores.num_responses, 1)
    return ScoresAnalysis(
        scores.file,
        "responses",
        scores.name,
        head.to_dict(),
        scores.left_out,
        groups,
        clusters=len(np.unique(facts.cluster)),
        tests=sections.response_tests(evidence, facts.cluster),
        frontier=frontier.response_frontier(scores, evidence, head, resampling),
        subset_differences=subset_differences(group_labels(scores, config.by), moments, resampling),
        borda=borda_of(scores, evidence, head, resampling),
        contexts=_contexts(scores, spread, config),
        confounds=sections.confounds_of(facts, spread, resampling),
    )


def _resampling(config: AnalyzeConfig) -> Resampling:
    return Resampling(config.level, config.resamples, config.seed)


def _contexts(
    scores: PairScores | ResponseScores, spread: NDArray[np.float64] | None, config: AnalyzeConfig
) -> dict[str, Any] | None:
    found = contexts_of(scores, spread, config.max_contexts, config.seed)
    return None if found is None else found[0].to_dict()


def contexts_of(
    scores: PairScores | ResponseScores,
    variance: NDArray[np.float64] | None,
    max_contexts: int,
    seed: int,
) -> tuple[Contexts, NDArray[np.int64]] | None:
    """Find clusters of prompts by variance.

    Returns:
        The clusters, and the number among their prompts of each row's, ``(N,)``; None where there
        is no variance, or there are not two prompts whose texts were kept.
    """
    facts = scores.facts
    if variance is None or not facts.prompts:
        return None
    from hidden_context.contexts import find_contexts

    codes, cluster = np.unique(facts.cluster, return_inverse=True)
    prompts = [facts.prompts[code] for code in codes]
    if sum(map(bool, prompts)) < 2:
        return None
    found = find_contexts(
        prompts, cluster, variance, max_clusters=max_contexts, seed=seed, rows=scores.rows + 1
    )
    return found, cluster


def _labels(scores: PairScores, likelihood: Likelihood) -> Labels | None:
    """Collect what annotators said; None where each pair has one vote of its share."""
    from hidden_context.data.labels import labels_of
    from hidden_context.likelihood import LikelihoodOptions

    if likelihood.options == LikelihoodOptions() and not _split_votes(scores):
        return None
    names = likelihood.names
    levels = likelihood.options.levels
    return labels_of(scores.said, names.index, names.column, levels, scores.file)


def _split_votes(scores: PairScores) -> bool:
    return any(len(example.judgements) > 1 for example in scores.said)


def _analyze_file(
    config: AnalyzeConfig, path: str, measures: dict[str, RiskMeasure]
) -> tuple[list[ScoresAnalysis], list[_Analysed]]:
    from hidden_context.likelihood import make_likelihood

    file = read_score_file(
        path,
        annotator_column=known_column(path),
        label_names=sections.judged_columns(config.by),
        keep_prompts=config.contexts,
    )
    every = file.all_scores()
    analyses: list[ScoresAnalysis] = []
    pairs: list[_Analysed] = []
    for scores in every:
        likelihood = saved_likelihood(path, scores.name, alone=len(every) == 1)
        saved = None if likelihood is None else likelihood.head
        head = choose_head(
            scores.width,
            file=scores.file,
            field=scores.column,
            name=scores.name,
            saved=saved,
            head_type=config.head,
            likelihood=config.likelihood,
        )
        _check_measures(measures, head, scores)
        if isinstance(scores, ResponseScores):
            analyses.append(analyze_responses(scores, head, config, list(measures)))
            continue
        own = likelihood if head == saved and likelihood else make_likelihood(head)
        analysis, evidence = analyze_pairs(scores, own, config, list(measures))
        analyses.append(analysis)
        if path in config.compare:
            pairs.append(_Analysed(scores, evidence))
    return analyses, pairs


def _check_measures(
    measures: dict[str, RiskMeasure], head: Head, scores: PairScores | ResponseScores
) -> None:
    relative = next((name for name, measure in measures.items() if measure.is_relative), None)
    if relative is not None and not head.has_context:
        raise ConfigError(
            f"--risk {relative} needs a head that knows what the answers to a prompt have in "
            f"common: factor, or an ensemble of such; {scores.column} in {scores.file} is of a "
            f"{head.type} head."
        )


def run(config: AnalyzeConfig) -> Analysis:
    """Analyse score files, and write the numbers if asked to.

    Args:
        config: The files, how to read them, groups, risk measures and resampling.

    Returns:
        One entry per file and set of scores in it, and the comparison that was asked for.

    Raises:
        ConfigError: If there is no file, the head, a risk measure or a column to group by is
            unknown, or the output is one of the inputs.
        MissingFileError: If a file does not exist.
        DataError: If a file cannot be used, or two models to compare scored different rows.
        CheckpointError: If a checkpoint's head, or what it learned beside its network, is damaged.
        StorageError: If the output cannot be written.
    """
    from hidden_context import risk

    if not config.files:
        raise ConfigError("no score file is named.")
    # a wrong name is told before any file is read
    measures = {name: risk.parse(name) for name in (text.strip() for text in config.risk)}
    if config.output:
        beside = [path for file in config.files for path in head_files_of(file)]
        check_output(config.output, [*config.files, *beside])
    for path in config.files if config.card else ():
        check_card(path)
    with exclusive(config.output or None):
        return _analyze(config, measures)


def _analyze(config: AnalyzeConfig, measures: dict[str, RiskMeasure]) -> Analysis:
    analyses: list[ScoresAnalysis] = []
    compared: dict[str, _Analysed] = {}
    benchmarks: list[FileSections] = []
    for path in config.files:
        sections_of_file = _sections(config, path)
        benchmarks += sections_of_file
        if sections_of_file and not has_rewards(path):
            continue
        found, pairs = _analyze_file(config, path, measures)
        analyses += found
        if path in config.compare:
            compared[path] = _only(pairs, path)
    comparisons = []
    if config.compare:
        first, second = (
            compared[path] if path in compared else _only([], path) for path in config.compare
        )
        evidence = first.evidence, second.evidence
        comparisons = [compare((first.scores, second.scores), evidence, _resampling(config))]
    analysis = Analysis(config, analyses, comparisons, benchmarks)
    for each in analyses if config.card else ():
        if each.kind == "pairs" and not each.name:
            _logger.info("wrote %s", write_card(each))
    if config.output:
        write_json(config.output, analysis.to_dict())
        _logger.info("wrote %s", config.output)
    return analysis


def _sections(config: AnalyzeConfig, path: str) -> list[FileSections]:
    """Return accuracies by section if a file is in the style of a benchmark, else nothing."""
    found = []
    for scores in read_section_scores(path, head_type=config.head):
        records = section_accuracies(scores, **vars(_resampling(config)))
        counts = scores.ties, scores.left_out
        found.append(FileSections(path, scores.name, scores.style, *counts, records))
    return found


def _only(pairs: list[_Analysed], path: str) -> _Analysed:
    if len(pairs) != 1:
        raise DataError(
            f"it has pairs scored by {len(pairs)} models, and a comparison needs one",
            file=path,
            remedy="Compare files that evaluate wrote, or score pairs with each model alone",
        )
    return pairs[0]
