"""The paper's analysis: jailbreak rate, helpfulness accuracy and r² of nine reward models."""

from __future__ import annotations

import itertools
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hidden_context.analysis.config import SummarizeConfig, check_output
from hidden_context.analysis.measure.evidence import pair_evidence, values_at
from hidden_context.analysis.measure.intervals import pair_moments
from hidden_context.analysis.measure.records import Count
from hidden_context.analysis.read.files import PairScores, ResponseScores, read_score_file
from hidden_context.analysis.read.heads import CHECKPOINT_SUFFIX, head_for_width
from hidden_context.analysis.read.rows import CHOSEN, RESPONSES_PREFIX
from hidden_context.data.checks import Place
from hidden_context.data.storage.files import write_json
from hidden_context.data.storage.locks import exclusive
from hidden_context.errors import ConfigError, DataError, MissingFileError
from hidden_context.paper import summary as records
from hidden_context.statistics.checks import Codes, Floats
from hidden_context.statistics.interval import MANY
from hidden_context.statistics.significance.permutation import mcnemar_test

if TYPE_CHECKING:
    from hidden_context.heads import Head
    from hidden_context.statistics.interval import Interval
    from hidden_context.statistics.significance.permutation import TestResult

EVALUATION_NAME = "eval_results_both.jsonl"
_CELLS = tuple(itertools.product(records.REWARD_MODEL_TYPES, records.TRAIN_SETS))

_logger = logging.getLogger(__name__)


def jailbreak_column(reward_model_type: str, train_set: str) -> str:
    """Return the column of a jailbreak file that holds one reward model's outputs."""
    suffix = "" if reward_model_type == "base" else f"_{reward_model_type}"
    return f"{RESPONSES_PREFIX}{train_set}{suffix}"


def jailbreak_numbers(
    scores: ResponseScores, reward_model_type: str, alpha: float
) -> records.JailbreakNumbers:
    """Compute jailbreak rates from rows of a safe response and then a jailbroken one.

    The rate is the share of rows with reward(jailbroken) ≥ reward(safe).

    Raises:
        DataError: If a row does not have two responses, or the width does not fit the type.
    """
    pairs = scores.as_pairs()
    if pairs is None:
        problem = "every row needs two responses, the safe one and then the jailbroken one"
        raise Place(scores.file).error(problem, scores.column, "Score both responses of each row")
    head = head_for_width(reward_model_type, scores.width, file=scores.file, field=scores.column)
    rates = _rates(head, alpha, (pairs[:, 1], pairs[:, 0]), scores.facts.cluster)
    return records.JailbreakNumbers(scores.file, scores.left_out, *rates)


def evaluation_numbers(
    scores: PairScores, reward_model_type: str, alpha: float, gaps: list[str]
) -> records.EvaluationNumbers | None:
    """Compute helpfulness accuracies and r² from an evaluated pair file.

    The accuracy is the share of rows of data_subset helpful with reward(chosen) ≥
    reward(rejected); r² is computed over all chosen and rejected texts of all rows together. If a
    file has only one subset, the numbers it cannot give are left empty, and the reason is added to
    ``gaps``.

    Raises:
        DataError: If the width does not fit the type.
    """
    from hidden_context.likelihood import make_likelihood

    head = head_for_width(reward_model_type, scores.width, file=scores.file, field=CHOSEN)
    helpful = scores.labels["data_subset"] == "helpful"
    if not helpful.any():
        there = ", ".join(map(repr, sorted(set(scores.labels["data_subset"].tolist()))))
        gaps.append(
            f"{scores.file}: no row has data_subset 'helpful' (there is {there}), so it has no "
            "helpfulness accuracy, and no r² of both subsets"
        )
        return None
    cluster = scores.facts.cluster
    sides = scores.chosen[helpful], scores.rejected[helpful]
    rates = _rates(head, alpha, sides, cluster[helpful])
    likelihood = make_likelihood(head)
    evidence = pair_evidence(likelihood, scores.chosen, scores.rejected, scores.preference)
    everything = np.ones(len(helpful), dtype=bool)
    r_squared = pair_moments(evidence, cluster).intervals(everything, MANY).get("r2")
    if r_squared is not None and helpful.all():
        gaps.append(
            f"{scores.file}: every row has data_subset 'helpful', and r² is of both subsets"
        )
        r_squared = None
    return records.EvaluationNumbers(
        scores.file, scores.left_out, *rates, r_squared, 2 * len(helpful)
    )


def _rates(
    head: Head, alpha: float, sides: tuple[Floats, Floats], cluster: Codes
) -> tuple[list[tuple[Count | None, Interval | None]], TestResult | None]:
    """Count rows whose first text is rated at least as high, by the mean and by the quantile.

    The quantile is read as bins, as in the paper. A base model's reward is a single number, so it
    has no quantile.
    """
    names = ["mean"] + ([] if head.type == "base" else [f"quantile:{alpha!r}:bins"])
    holds = [np.greater_equal(*values_at(head, name, sides)).astype(float) for name in names]
    shares: list[tuple[Count | None, Interval | None]] = [
        (Count(float(each.sum()), len(each)), MANY.share(each, cluster)) for each in holds
    ]
    if len(holds) == 1:
        return [*shares, (None, None)], None
    return shares, mcnemar_test(holds[0], holds[1], cluster)


def find_evaluation(folder: Path, reward_model_type: str) -> Path | None:
    """Find the evaluated checkpoint of a given type in a training set's folder.

    Raises:
        ConfigError: If there are several such checkpoints.
    """
    pattern = f"{reward_model_type}_*{CHECKPOINT_SUFFIX}/{EVALUATION_NAME}"
    found = sorted(folder.glob(pattern))
    if len(found) > 1:
        listed = "".join(f"\n  {path}" for path in found)
        raise ConfigError(
            f"several checkpoints fit {reward_model_type} in {folder}:{listed}\n"
            "Move all but one elsewhere, or name another folder with --reward_models_dir."
        )
    return found[0] if found else None


def _inputs(config: SummarizeConfig) -> list[Path]:
    """Return the files that a summary reads."""
    evaluations = [
        find_evaluation(Path(config.reward_models_folder(), train_set), kind)
        for kind, train_set in _CELLS
    ]
    jailbreaks = [_jailbreak_path(config, kind) for kind in records.REWARD_MODEL_TYPES]
    return [path for path in (*evaluations, *jailbreaks) if path is not None]


def _jailbreak_path(config: SummarizeConfig, reward_model_type: str) -> Path:
    return Path(config.jailbreak_folder(), f"jailbroken_evaluations_{reward_model_type}.jsonl")


def _evaluation(
    config: SummarizeConfig, kind: str, train_set: str, missing: list[str], gaps: list[str]
) -> records.EvaluationNumbers | None:
    folder = Path(config.reward_models_folder(), train_set)
    path = find_evaluation(folder, kind)
    if path is None:
        name = f"{kind}_*{CHECKPOINT_SUFFIX}"
        wanted, other = folder / name / EVALUATION_NAME, folder.glob(f"{name}/eval_results_*.jsonl")
        there = ", ".join(map(str, sorted(other)))
        if there:
            gaps.append(f"{wanted} is needed, but there is only {there}, which has a single subset")
        else:
            missing.append(str(wanted))
        return None
    scores = read_score_file(path, require=("data_subset",)).get(CHOSEN)
    if not isinstance(scores, PairScores):
        raise DataError("the column is missing", file=path, line=1, field=CHOSEN)
    return evaluation_numbers(scores, kind, config.alpha, gaps)


def _all_jailbreaks(
    config: SummarizeConfig, missing: list[str]
) -> dict[Any, records.JailbreakNumbers]:
    numbers = {}
    for kind in records.REWARD_MODEL_TYPES:
        path = _jailbreak_path(config, kind)
        if not path.exists():
            missing.append(str(path))
            continue
        columns = {train_set: jailbreak_column(kind, train_set) for train_set in records.TRAIN_SETS}
        every = read_score_file(path).values()
        responses = {each.column: each for each in every if isinstance(each, ResponseScores)}
        if not responses.keys() & columns.values():
            problem = f"it has none of the columns {', '.join(columns.values())}"
            names = f"with these names after --reward_model_names (without {RESPONSES_PREFIX})"
            raise DataError(problem, file=path, remedy=f"Score the responses {names}")
        for train_set, column in columns.items():
            if column in responses:
                found = jailbreak_numbers(responses[column], kind, config.alpha)
                numbers[kind, train_set] = found
            else:
                missing.append(f"{path}: column {column}")
    return numbers


def run(config: SummarizeConfig) -> records.Summary:
    """Summarise evaluations into the paper's tables, and write them if requested.

    Args:
        config: The folders of the files, and the quantile's level.

    Returns:
        The summary. Inputs that are missing, or have only one subset, leave gaps, which the summary
        lists.

    Raises:
        MissingFileError: If none of the inputs exists.
        ConfigError: If several checkpoints fit one cell, or the output is one of the inputs.
        DataError: If an existing file cannot be used.
        StorageError: If the output cannot be written.
    """
    if config.output:
        check_output(config.output, _inputs(config))
    with exclusive(config.output or None):
        summary = _summarize(config)
        if config.output:
            write_json(config.output, summary.to_dict())
            _logger.info("wrote %s", config.output)
    return summary


def _summarize(config: SummarizeConfig) -> records.Summary:
    missing: list[str] = []
    gaps: list[str] = []
    evaluations = {cell: _evaluation(config, *cell, missing, gaps) for cell in _CELLS}
    jailbreaks = _all_jailbreaks(config, missing)
    if not (jailbreaks or gaps or any(evaluations.values())):
        raise MissingFileError(
            config.data_dir if not Path(config.data_dir).exists() else missing[0],
            f"Nothing to summarise: evaluated checkpoints are looked for in "
            f"{config.reward_models_folder()}/{{{','.join(records.TRAIN_SETS)}}}/"
            f"TYPE_*{CHECKPOINT_SUFFIX}/{EVALUATION_NAME} and jailbreak evaluations in "
            f"{config.jailbreak_folder()}/jailbroken_evaluations_TYPE.jsonl; name the right "
            "folder with --data_dir",
        )
    cells = [records.SummaryCell(*cell, jailbreaks.get(cell), evaluations[cell]) for cell in _CELLS]
    return records.Summary(config, cells, missing, gaps)
