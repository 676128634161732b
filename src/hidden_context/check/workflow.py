"""From a file to the answer: do people disagree, where, about what, and who?"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np

from hidden_context.check import answer, scores
from hidden_context.check.config import CheckConfig
from hidden_context.check.covariates import Known, compare_covariates
from hidden_context.check.features import WORDS, features_of
from hidden_context.check.findings import Explained, KnownVoters, Predicted
from hidden_context.check.items import Items, read_items
from hidden_context.check.judges import compare_judges
from hidden_context.check.known import TOO_FEW, know_voters
from hidden_context.check.numbers import counted
from hidden_context.check.predict import Forecast, forecast
from hidden_context.check.results import SPLIT_BY_SHARES, VERSION, Found, Observed, Settings
from hidden_context.check.topics import Topics, find_topics, rank_topics
from hidden_context.data.annotators import annotators_path, read_annotators
from hidden_context.data.sources import load_examples
from hidden_context.data.splits.division import SplitOptions
from hidden_context.data.storage.files import write_json
from hidden_context.report.html.page import write_people_page

Say = Callable[[str], None]

_SIDES: Final = {
    "comparisons": {"first": "first response", "equal": "equal", "second": "second response"},
    "ratings": {"first": "high", "equal": "in the middle", "second": "low"},
}


def run(config: CheckConfig, say: Say | None = None) -> Found:
    """Check a data set, and write ``check.json`` and ``check.html``.

    Args:
        config: The options.
        say: Called with a few words at each step; None for silence.

    Returns:
        What was found.

    Raises:
        MissingFileError: If the data, or the table of annotators, is not there.
        DataError: If a row is malformed, nobody judged anything, or an example has no group.
        StorageError: If the results cannot be written.
    """
    found = check(config, say)
    config.folder.mkdir(parents=True, exist_ok=True)
    content = found.to_dict()
    write_json(config.folder / "check.json", content)
    write_people_page(content, config.folder / "check.html")
    return found


def check(config: CheckConfig, say: Say | None = None) -> Found:
    """Check a data set without writing anything; see ``run``."""
    tell = say or (lambda _: None)
    tell("reading")
    data = load_examples(
        config.data_path,
        config.data_subset,
        config.split,
        limit=config.size,
        on_malformed=config.on_malformed,
        seed=config.seed,
    )
    options = SplitOptions(config.split_by)
    people, judges, lines_of_judges = compare_judges(
        data.examples, options, data.report.source, config.seed
    )
    items = read_items(people, options, data.report.source)
    of_judges = sum(one.abstentions for one in data.examples) - sum(
        one.abstentions for one in people
    )
    items = dataclasses.replace(items, abstentions=data.report.abstentions - of_judges)
    known = _read_known(config)
    if config.anonymise:
        items, known = anonymised(items, known, config.seed)
    tell("looking at the votes")
    observed, missing = answer.look(items, config.seed)
    topics = find_topics(items, config.seed)
    answers, advice, voters = None, None, None
    if observed.judged and config.predict:
        from hidden_context.models.network.threads import cpu_threads

        tell("predicting votes")
        features = features_of(items, config.embed, config.max_length, config.seed)
        with cpu_threads(1):  # of small networks: more threads would wait for each other
            answers = forecast(items, features, answer.MEASURES, config.seed)
            if answers is not None:
                advice = answer.weigh_measures(items, answers.values, config.seed)
                voters = know_voters(items, features, answers.answers, config.seed)
    predicted, lines = _predicted(items, topics, answers, voters, config)
    tell("comparing people")
    covariates, more = compare_covariates(items, known, config.seed) if known else ([], [])
    explained = Explained(
        *answer.kind_sentence(items), covariates, topics.contexts, topics.contexts_by
    )
    missing += lines + more + lines_of_judges + _not_found(items, observed, known, answers, config)
    return Found(
        version=VERSION,
        source=data.report.source,
        report=str(data.report),
        settings=_settings(config, options, items, answers),
        answer=answer.answer_of(items, observed, predicted, explained),
        observed=observed,
        predicted=predicted,
        explained=explained,
        advice=advice,
        missing=list(dict.fromkeys(missing)),
        judges=judges,
    )


def _settings(
    config: CheckConfig, options: SplitOptions, items: Items, answers: Forecast | None
) -> Settings:
    return Settings(
        unit="pair" if items.are_pairs else "rating",
        features=config.embed or WORDS,
        group_by=options.unit,
        groups=len(items.votes.group_names),
        folds=0 if answers is None else answers.folds,
        sides=_SIDES[items.votes.kind],
        middle=items.votes.middle,
        split_means=answer.FEW if items.has_few_votes else SPLIT_BY_SHARES,
        anonymised=config.anonymise,
        seed=config.seed,
    )


def _read_known(config: CheckConfig) -> Known:
    if config.annotators is not None:
        return read_annotators(config.annotators)
    beside = annotators_path(config.data_path)
    return read_annotators(beside) if Path(config.data_path).is_file() and beside.is_file() else {}


def anonymised(items: Items, known: Known, seed: int) -> tuple[Items, Known]:
    """Replace annotators' names by a01, a02 … in random order; texts stay."""
    names = items.votes.names
    width = max(2, len(str(len(names))))
    order = np.random.default_rng(seed).permutation(len(names))
    new = [f"a{number + 1:0{width}d}" for number in order.tolist()]
    called = dict(zip(names, new, strict=True))
    votes = dataclasses.replace(items.votes, names=tuple(new))
    known = {called[name]: row for name, row in known.items() if name in called}
    return dataclasses.replace(items, votes=votes), known


def _predicted(
    items: Items,
    topics: Topics,
    found: Forecast | None,
    voters: KnownVoters | None,
    config: CheckConfig,
) -> tuple[Predicted | None, list[str]]:
    """Rank topics and items; without a forecast by the votes alone."""
    counts = items.votes.table.counts
    if not counts.judged.any():
        return None, []
    answers = None if found is None else found.answers["model"]
    chance = None
    if answers is not None:
        chance = scores.calibrated(
            scores.chance_of_split(answers, items, config.seed), items, config.seed
        )
    ranked, hidden = rank_topics(items, topics, chance, config.seed)
    verdict, lines = "", list[str]()
    if found is not None:
        verdict, lines = scores.judge_models(items, found, config.seed)
        lines += [] if voters else [TOO_FEW]
    return Predicted(
        topics_by=topics.by,
        topics=ranked,
        topics_hidden=hidden,
        top=scores.most_split(items, topics, answers),
        scores=[] if found is None else scores.score_models(items, found, config.seed),
        floor=scores.floor_of(items),
        verdict=verdict,
        voters=voters,
    ), lines


def _not_found(
    items: Items, observed: Observed, known: Known, answers: Forecast | None, config: CheckConfig
) -> list[str]:
    """Say what the data could not answer, one line each."""
    lines = []
    if not known and observed.annotators:
        lines.append("Nothing is known about the annotators; give their table with --annotators.")
    if observed.judged and config.predict and answers is None:
        lines.append("There are too few items to predict votes (20 are needed).")
    if items.has_few_votes:
        lines.append("Most items have two or three votes: a split looks like one dissenter.")
    if not config.predict:
        lines.append("No votes were predicted (--no_predict).")
    if len(items.votes.group_names) == 1 and len(items) > 1:
        lines.append("All items belong to one group, so intervals by group are not possible.")
    if not items.are_pairs:
        lines.append("Ratings are no choices between responses: risk measures were not compared.")
    if items.ratings_left_out:
        ratings = counted(items.ratings_left_out, "rating")
        lines.append(f"Left out: {ratings}, because the data hold comparisons as well.")
    return lines
