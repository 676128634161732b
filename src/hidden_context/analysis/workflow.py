"""Analysis of score files: numbers with intervals by prompt, for all rows and by label."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from hidden_context.analysis import analysis_file
from hidden_context.analysis.card import check_card, write_card
from hidden_context.analysis.compare import compare, subset_differences
from hidden_context.analysis.config import AnalyzeConfig, check_output
from hidden_context.analysis.measure import choices, intervals, records, tests
from hidden_context.analysis.measure.evidence import PairEvidence, pair_evidence, response_evidence
from hidden_context.analysis.measure.votes import labels_of_pairs, votes_of_pairs
from hidden_context.analysis.read import heads
from hidden_context.analysis.read.files import PairScores, ResponseScores, Scores, read_score_file
from hidden_context.analysis.sections.benchmarks import section_accuracies
from hidden_context.analysis.sections.read import has_rewards, read_section_scores
from hidden_context.data.storage.files import write_json
from hidden_context.data.storage.locks import exclusive
from hidden_context.errors import ConfigError, DataError
from hidden_context.statistics.checks import Booleans, Codes, Floats
from hidden_context.statistics.interval import Resampling

if TYPE_CHECKING:
    from hidden_context.contexts import Contexts
    from hidden_context.heads import Head
    from hidden_context.likelihood import Likelihood
    from hidden_context.risk import RiskMeasure

_logger = logging.getLogger(__name__)


def _analyze_pairs(
    scores: PairScores, likelihood: Likelihood, config: AnalyzeConfig, risk_names: list[str]
) -> tuple[analysis_file.ScoresAnalysis, PairEvidence]:
    """Analyse pairs; also return the numbers of each."""
    from hidden_context.likelihood import LikelihoodOptions

    learned = likelihood.options != LikelihoodOptions()
    labels = None  # one vote of each pair's share
    if learned or any(len(said.judgements) > 1 for said in scores.said):
        labels = labels_of_pairs(scores, likelihood)
    sides = scores.chosen, scores.rejected
    evidence = pair_evidence(likelihood, *sides, scores.preference, risk_names, labels)
    resampling, cluster = _resampling(config), scores.facts.cluster
    analysis = _analysis(
        scores,
        likelihood.head,
        config,
        intervals.pair_moments(evidence, cluster),
        lambda rows: records.record_of_pairs(evidence, rows),
        evidence.difference_variance if evidence.has_variance else None,
        kind="pairs",
        with_likelihood=learned,
        calibration=tests.calibration_of(evidence, cluster, resampling),
        tests=tests.pair_tests(scores, evidence, resampling),
        votes=votes_of_pairs(scores, likelihood, config.by, resampling),
        frontier=choices.pair_frontier(scores, evidence, likelihood.head, resampling),
    )
    return analysis, evidence


def _analyze_responses(
    scores: ResponseScores, head: Head, config: AnalyzeConfig, risk_names: list[str]
) -> analysis_file.ScoresAnalysis:
    """Analyse rows of responses."""
    evidence = response_evidence(head, scores.outputs, scores.num_responses, risk_names)
    variance = None
    if (evidence.variance > 0).any():
        total = np.bincount(evidence.row, weights=evidence.variance)
        variance = total / np.maximum(scores.num_responses, 1)
    resampling, cluster = _resampling(config), scores.facts.cluster
    return _analysis(
        scores,
        head,
        config,
        intervals.response_moments(evidence, cluster, within=not head.has_context),
        lambda rows: records.record_of_responses(evidence, rows),
        variance,
        kind="responses",
        tests=tests.response_tests(evidence, cluster),
        frontier=choices.response_frontier(scores, evidence, head, resampling),
        borda=choices.borda_of(scores, evidence, head, resampling),
    )


def _analysis(
    scores: Scores,
    head: Head,
    config: AnalyzeConfig,
    moments: intervals.Moments,
    record: Callable[[Booleans], records.PairRecord | records.ResponseRecord],
    variance: Floats | None,
    **own: Any,
) -> analysis_file.ScoresAnalysis:
    """Complete the analysis of pairs or responses with each row's variance."""
    resampling, labels = _resampling(config), intervals.group_labels(scores, config.by)
    groups = [
        analysis_file.Group(group, record(rows), moments.intervals(rows, resampling))
        for group, rows in intervals.label_groups(labels, len(scores.rows))
        if rows.any()
    ]
    contexts = contexts_of(scores, variance, config.max_contexts, config.seed)
    return analysis_file.ScoresAnalysis(
        file=scores.file,
        name=scores.name,
        head=head.to_dict(),
        rows_left_out=scores.left_out,
        groups=groups,
        clusters=len(np.unique(scores.facts.cluster)),
        subset_differences=subset_differences(labels, moments, resampling),
        contexts=None if contexts is None else contexts[0].to_dict(),
        confounds=tests.confounds_of(scores.facts, variance, resampling),
        **own,
    )


def _resampling(config: AnalyzeConfig) -> Resampling:
    return Resampling(config.level, config.resamples, config.seed)


def contexts_of(
    scores: Scores,
    variance: Floats | None,
    max_contexts: int,
    seed: int,
) -> tuple[Contexts, Codes] | None:
    """Find clusters of prompts by variance.

    Returns:
        The clusters, and each row's place among their prompts, ``(N,)``; None if there is no
        variance, or if fewer than two prompts have kept texts.
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


def _analyze_file(
    config: AnalyzeConfig, path: str, measures: dict[str, RiskMeasure]
) -> tuple[list[analysis_file.ScoresAnalysis], list[tuple[PairScores, PairEvidence]]]:
    """Analyse all scores of a file; also return its pairs, for a comparison."""
    from hidden_context.likelihood import make_likelihood

    every = read_score_file(
        path,
        annotator_column=heads.known_column(path),
        label_names=tests.judged_columns(config.by),
        keep_prompts=config.contexts,
    )
    analyses, pairs = [], []
    for scores in every.values():
        likelihood = heads.saved_likelihood(path, scores.name, alone=len(every) == 1)
        saved = None if likelihood is None else likelihood.head
        head = heads.choose_head(
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
            analyses.append(_analyze_responses(scores, head, config, list(measures)))
            continue
        own = likelihood if head == saved and likelihood else make_likelihood(head)
        analysis, evidence = _analyze_pairs(scores, own, config, list(measures))
        analyses.append(analysis)
        pairs.append((scores, evidence))
    return analyses, pairs


def _check_measures(measures: dict[str, RiskMeasure], head: Head, scores: Scores) -> None:
    relative = next((name for name, measure in measures.items() if measure.is_relative), None)
    if relative is not None and not head.has_context:
        raise ConfigError(
            f"--risk {relative} needs a head with shared context: factor, or an ensemble of "
            f"factor heads; {scores.column} in {scores.file} is of a "
            f"{head.type} head."
        )


def run(config: AnalyzeConfig) -> analysis_file.Analysis:
    """Analyse score files, and write the numbers if requested.

    Args:
        config: The files, how to read them, groups, risk measures and resampling.

    Returns:
        One entry per file and set of scores in the file, and the requested comparison.

    Raises:
        ConfigError: If there is no file, the head, a risk measure or a column to group by is
            unknown, or the output is one of the inputs.
        MissingFileError: If a file does not exist.
        DataError: If a file cannot be used, or two models to compare scored different rows.
        CheckpointError: If a checkpoint's head, or its learned likelihood, is damaged.
        StorageError: If the output cannot be written.
    """
    from hidden_context import risk

    if not config.files:
        raise ConfigError("no score file is named.")
    # report a wrong name before any file is read
    measures = {name: risk.parse(name) for name in (text.strip() for text in config.risk)}
    if config.output:
        beside = [path for file in config.files for path in heads.head_files_of(file)]
        check_output(config.output, [*config.files, *beside])
    for path in config.files if config.card else ():
        check_card(path)
    with exclusive(config.output or None):
        analysis = _analyze(config, measures)
        for each in analysis.analyses if config.card else ():
            if each.kind == "pairs" and not each.name:
                _logger.info("wrote %s", write_card(each))
        if config.output:
            write_json(config.output, analysis_file.to_json(analysis))
            _logger.info("wrote %s", config.output)
    return analysis


def _analyze(config: AnalyzeConfig, measures: dict[str, RiskMeasure]) -> analysis_file.Analysis:
    resampling = _resampling(config)
    analyses: list[analysis_file.ScoresAnalysis] = []
    pairs: dict[str, list[tuple[PairScores, PairEvidence]]] = {}
    benchmarks: list[analysis_file.FileSections] = []
    for path in config.files:
        sections = read_section_scores(path, head_type=config.head)
        for each in sections:
            facts = path, each.name, each.style, each.ties, each.left_out
            accuracies = section_accuracies(each, resampling)
            benchmarks.append(analysis_file.FileSections(*facts, accuracies))
        if sections and not has_rewards(path):
            continue
        found, own = _analyze_file(config, path, measures)
        analyses += found
        if path in config.compare:
            pairs[path] = own
    comparisons = []
    if config.compare:
        first, second = (_one_model(pairs.get(path, []), path) for path in config.compare)
        comparisons = [compare(first, second, resampling)]
    return analysis_file.Analysis(config, analyses, comparisons, benchmarks)


def _one_model(
    pairs: list[tuple[PairScores, PairEvidence]], path: str
) -> tuple[PairScores, PairEvidence]:
    if len(pairs) != 1:
        problem = f"it has pairs scored by {len(pairs)} models, and a comparison needs one"
        remedy = "Compare files that evaluate wrote, or score pairs with each model alone"
        raise DataError(problem, file=path, remedy=remedy)
    return pairs[0]
