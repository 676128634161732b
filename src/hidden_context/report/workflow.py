"""The report workflow: analysis, the paper's tables, comparisons, and the page around them."""

from __future__ import annotations

import logging
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hidden_context import heads
from hidden_context.analysis import workflow as analyses
from hidden_context.analysis.analysis_file import naming_the_file, read_analysis, to_json
from hidden_context.analysis.config import (
    AnalyzeConfig,
    ScoreFileOptions,
    SummarizeConfig,
    check_output,
)
from hidden_context.analysis.measure.evidence import PairEvidence, pair_evidence
from hidden_context.analysis.measure.tests import judged_columns
from hidden_context.analysis.read.files import PairScores, read_score_file
from hidden_context.analysis.sections.read import has_rewards
from hidden_context.data.storage.files import atomic_write, to_plain
from hidden_context.data.storage.locks import exclusive
from hidden_context.errors import DataError
from hidden_context.likelihood import make_likelihood
from hidden_context.paper import workflow as paper
from hidden_context.report.config import ReportConfig
from hidden_context.report.html.page import render
from hidden_context.report.html.pairs import PairsMeta, encode, pairs_payload
from hidden_context.statistics.checks import sample_rows

if TYPE_CHECKING:
    from hidden_context.paper.summary import Summary

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ReportResult:
    """The page that was made.

    Attributes:
        path: The page.
        pairs: What it says about its comparisons; None where no file has pairs.
        size: Bytes of the page.
    """

    path: Path
    pairs: PairsMeta | None
    size: int


def run(config: ReportConfig, summary: Summary | None = None) -> ReportResult:
    """Make a report and write it.

    Args:
        config: The files, and how much of them to show.
        summary: The paper's tables, where they are at hand; otherwise they are made from
            ``config.data_dir``.

    Returns:
        Where it is, and what it shows.

    Raises:
        ConfigError: If the output is an input, or an option cannot work.
        MissingFileError: If a file does not exist.
        DataError: If a file cannot be used.
        StorageError: If the page cannot be written.
    """
    files = list(dict.fromkeys([*config.files, *config.compare]))
    check_output(config.output, [*files, *filter(None, [config.analysis])])
    with exclusive(config.output):
        analysis = _analysis(config, files)
        if summary is None and config.data_dir:
            summary = paper.run(SummarizeConfig(data_dir=config.data_dir))
        tables = None if summary is None else summary.to_dict()
        with naming_the_file(config.analysis):
            packed, meta = _pairs(config, files, analysis)
            html = render(config.title, analysis, tables, packed, meta)
        with atomic_write(config.output) as file:
            file.write(html)
    path = Path(config.output)
    _logger.info("wrote %s", path)
    return ReportResult(path, meta, path.stat().st_size)


def _analysis(config: ReportConfig, files: list[str]) -> dict[str, Any]:
    """Read an analysis made before, or make it."""
    if config.analysis:
        return read_analysis(config.analysis)
    if not files:
        return {"analyses": [], "comparisons": [], "sections": []}
    shared = {field.name: getattr(config, field.name) for field in fields(ScoreFileOptions)}
    options = AnalyzeConfig(files=files, contexts=True, **shared)
    return dict(to_plain(to_json(analyses.run(options))))


def _pairs(
    config: ReportConfig, files: list[str], analysis: dict[str, Any]
) -> tuple[str | None, PairsMeta | None]:
    """Pack the comparisons of the first file with pairs."""
    for path in files:
        if not has_rewards(path):
            continue
        file = read_score_file(path, label_names=judged_columns(config.by), keep_prompts=True)
        scores = next((each for each in file.values() if isinstance(each, PairScores)), None)
        if scores is None:
            continue
        own = _analysis_of(analysis, scores, config.analysis)
        head = heads.from_dict(own["head"])
        likelihood = make_likelihood(head)
        evidence = pair_evidence(likelihood, scores.chosen, scores.rejected, scores.preference)
        places = sample_rows(len(scores.chosen), config.seed, config.max_pairs)
        contexts = _contexts(scores, evidence, own, analysis["config"])
        payload, meta = pairs_payload(scores, evidence, head, places, config.max_text, contexts)
        return encode(payload), meta
    return None, None


def _analysis_of(analysis: dict[str, Any], scores: PairScores, path: str | None) -> dict[str, Any]:
    """Find the analysis of a set of pairs, and check that it fits them."""
    for own in analysis["analyses"]:
        if (own["file"], own["name"], own["kind"]) == (scores.file, scores.name, "pairs"):
            covered, pairs = own["groups"][0]["n"], len(scores.chosen)
            if covered == pairs:
                return dict(own)
            problem = f"it covers {covered} pairs of {scores.file}, which has {pairs}"
            raise DataError(problem, file=path, remedy="Analyze the file again")
    problem = f"it has no analysis of the pairs in {scores.file}"
    remedy = "Name the same files here as in hidden-context analyze"
    raise DataError(problem, file=path, remedy=remedy)


def _contexts(
    scores: PairScores, evidence: PairEvidence, own: dict[str, Any], options: dict[str, Any]
) -> list[str] | None:
    """Name the context of each pair; None without contexts."""
    spread = evidence.difference_variance if own["contexts"] else None
    found = analyses.contexts_of(scores, spread, options["max_contexts"], options["seed"])
    if found is None:
        return None
    contexts, cluster = found
    names = [context.name for context in contexts.clusters]
    return [names[place] if place >= 0 else "" for place in contexts.assignment[cluster].tolist()]
