"""Making a report: analysis, the paper's tables, comparisons, and the page around them."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hidden_context import heads
from hidden_context.analysis import score_analysis, summarize
from hidden_context.analysis.benchmark_files import has_rewards
from hidden_context.analysis.config import AnalyzeConfig, SummarizeConfig
from hidden_context.analysis.evidence import PairEvidence, pair_evidence
from hidden_context.analysis.outputs import check_output
from hidden_context.analysis.score_analysis import contexts_of
from hidden_context.analysis.score_files import PairScores, read_score_file
from hidden_context.analysis.sections import judged_columns
from hidden_context.data.files import atomic_write, to_plain
from hidden_context.data.locks import exclusive
from hidden_context.errors import DataError
from hidden_context.likelihood import make_likelihood
from hidden_context.report.analysis_file import as_it_was_written, read_analysis
from hidden_context.report.config import ReportConfig
from hidden_context.report.page import render
from hidden_context.report.pairs import PairsMeta, choose_pairs, encode, pairs_payload

if TYPE_CHECKING:
    from hidden_context.analysis.summary import Summary

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ReportResult:
    """What was made.

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
        summary: The paper's tables, where they are at hand; else those of ``config.data_dir``.

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
            summary = summarize.run(SummarizeConfig(data_dir=config.data_dir))
        tables = None if summary is None else summary.to_dict()
        with as_it_was_written(config.analysis):
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
    options = AnalyzeConfig(
        files=files,
        compare=config.compare,
        head=config.head,
        likelihood=config.likelihood,
        by=config.by,
        contexts=True,
        resamples=config.resamples,
        seed=config.seed,
    )
    return dict(to_plain(score_analysis.run(options).to_dict()))


def _pairs(
    config: ReportConfig, files: list[str], analysis: dict[str, Any]
) -> tuple[str | None, PairsMeta | None]:
    """Pack the comparisons of the first file that has pairs."""
    for path in files:
        if not has_rewards(path):
            continue
        file = read_score_file(path, label_names=judged_columns(config.by), keep_prompts=True)
        scores = next((each for each in file.all_scores() if isinstance(each, PairScores)), None)
        if scores is None:
            continue
        own = _analysis_of(analysis, scores, config.analysis)
        head = heads.from_dict(own["head"])
        likelihood = make_likelihood(head)
        evidence = pair_evidence(likelihood, scores.chosen, scores.rejected, scores.preference)
        places = choose_pairs(len(scores.chosen), config.max_pairs, config.seed)
        contexts = _contexts(scores, evidence, own, analysis["config"])
        payload, meta = pairs_payload(scores, evidence, head, places, config.max_text, contexts)
        return encode(payload), meta
    return None, None


def _analysis_of(analysis: dict[str, Any], scores: PairScores, path: str | None) -> dict[str, Any]:
    """Return the analysis of a set of pairs, and check that it is of these."""
    for own in analysis["analyses"]:
        if (own["file"], own["name"], own["kind"]) == (scores.file, scores.name, "pairs"):
            if own["groups"][0]["n"] == len(scores.chosen):
                return dict(own)
            raise DataError(
                f"it is of {own['groups'][0]['n']} pairs of {scores.file}, which has "
                f"{len(scores.chosen)}",
                file=path,
                remedy="Analyze the file again",
            )
    raise DataError(
        f"it has no analysis of the pairs in {scores.file}",
        file=path,
        remedy="Name the same files here as to hidden-context analyze",
    )


def _contexts(
    scores: PairScores, evidence: PairEvidence, own: dict[str, Any], options: dict[str, Any]
) -> list[str] | None:
    """Name the context of each pair, as the analysis has them; None where it has none."""
    spread = evidence.difference_variance if own["contexts"] else None
    found = contexts_of(scores, spread, options["max_contexts"], options["seed"])
    if found is None:
        return None
    contexts, cluster = found
    names = [context.name for context in contexts.clusters]
    return [names[place] if place >= 0 else "" for place in contexts.assignment[cluster].tolist()]
