"""Do tests of annotators keep their level, and do posteriors hold? On votes of known tendencies.

Simulates votes in the shape of two published data sets. Prints a table and writes the numbers:

    python benchmarks/error_rates/votes.py --data_sets 400

- Rejections at 5 % by each test whether annotators choose differently, where all are alike.
- The same where annotators differ in one way.
- How often posterior intervals of annotators hold the truth, and how many annotators that are said
  to lie clearly away lie on the other side.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from error_rates.intervals import rejections, share_row, write
from error_rates.trials import Floats, Trial
from kit import script_parser
from numpy.typing import NDArray
from scipy.special import expit

from hidden_context.statistics.significance.answers import answers_test
from hidden_context.statistics.significance.permutation import annotator_permutation_test
from hidden_context.statistics.votes.random_effects import random_effects
from hidden_context.statistics.votes.table import VoteTable
from hidden_context.statistics.votes.tilts import DEVIATION, POSITION, READINESS, tilts_of


@dataclass(frozen=True)
class Shape:
    """How many people vote on how many items, and what typical people answer.

    Attributes:
        items: I.
        annotators: A.
        votes_per_item: Shares of the items with 1, 2, 3 … votes.
        activity: Standard deviation of the logarithm of how much people vote.
        spread: Standard deviation of the items' difference of utility, in logits.
        threshold: Half-width of the zone of ``equal``, in logits.
    """

    items: int
    annotators: int
    votes_per_item: tuple[float, ...]
    activity: float
    spread: float
    threshold: float


UKP: Final = Shape(16_927, 3_815, (0, 0, 0, 0.01, 0.99), 1.5, 1.8, 0.72)
"""84,000 votes, 22 a person, 5 an item; 23 % equal, α .27."""
MT_BENCH: Final = Shape(2_400, 65, (0.68, 0.25, 0.07), 1.0, 2.7, 1.05)
"""3,340 votes of 65 judges, mostly one or two an item; 24 % equal, α .39."""


@dataclass(frozen=True)
class Sizes:
    """Standard deviations of people's tendencies, in logits.

    Attributes:
        readiness: Of the logarithm of the threshold for ``equal``.
        sharpness: Of the logarithm of what a difference of utility counts.
        position: Of what standing first counts.
        taste: Of what a feature of the items counts, itself of standard deviation 1.
    """

    readiness: float = 0.0
    sharpness: float = 0.0
    position: float = 0.0
    taste: float = 0.0


@dataclass(frozen=True, eq=False)
class Drawn:
    """A data set and its truth.

    Attributes:
        table: The votes.
        utility: ``(I,)``, difference of utility for a typical person.
        feature: ``(I,)``, what tastes are about.
        people: By kind of tendency ``(A,)``, each person's, in logits.
    """

    table: VoteTable
    utility: Floats
    feature: Floats
    people: dict[str, Floats]


def draw_votes(shape: Shape, sizes: Sizes, generator: np.random.Generator) -> Drawn:
    """Draw people, items and votes; items go to people at random, each side first half the time."""
    people = {
        name: size * generator.normal(size=shape.annotators) for name, size in vars(sizes).items()
    }
    utility = shape.spread * generator.normal(size=shape.items)
    feature = generator.normal(size=shape.items)
    count = 1 + generator.choice(
        len(shape.votes_per_item), shape.items, p=np.array(shape.votes_per_item)
    )
    who = _assigned(shape, count, generator)
    item = np.repeat(np.arange(shape.items), count)
    shown = generator.choice((-1, 1), len(item))
    first, equal = _answers(shape, people, who, utility[item], feature[item], shown)
    drawn = generator.random(len(item))
    share = np.where(drawn < first, 1.0, np.where(drawn < first + equal, 0.5, 0.0))
    table = VoteTable.of(
        item, who, share, shown=shown, items=shape.items, annotators=shape.annotators
    )
    return Drawn(table, utility, feature, people)


def _assigned(
    shape: Shape, count: NDArray[np.int64], generator: np.random.Generator
) -> NDArray[np.int64]:
    """Draw each item's people, all different, the active ones more often."""
    active = np.exp(shape.activity * generator.normal(size=shape.annotators))
    who = generator.choice(shape.annotators, (len(count), count.max()), p=active / active.sum())
    used = np.arange(count.max()) < count[:, None]
    while True:
        own = np.sort(np.where(used, who, -1 - np.arange(count.max())), axis=1)
        again = (np.diff(own, axis=1) == 0).any(1)
        if not again.any():
            return np.asarray(who[used])
        fresh = (int(again.sum()), int(count.max()))
        who[again] = generator.choice(shape.annotators, fresh, p=active / active.sum())


def _answers(
    shape: Shape,
    people: dict[str, Floats],
    who: NDArray[np.int64],
    utility: Floats,
    feature: Floats,
    shown: NDArray[np.int64] | int,
) -> tuple[Floats, Floats]:
    """Return the probabilities of the first side and of ``equal``."""
    lead = np.exp(people["sharpness"][who]) * utility + people["taste"][who] * feature
    lead = lead + people["position"][who] * shown
    threshold = shape.threshold * np.exp(people["readiness"][who])
    first = expit(lead - threshold)
    return first, 1 - first - expit(-lead - threshold)


def truth_of(shape: Shape, data: Drawn, most: int = 2000) -> dict[str, Floats]:
    """Return each person's tendencies as ``Effects`` have them, with either side shown first."""
    people, utility, feature = data.people, data.utility, data.feature
    who = np.arange(shape.annotators)[:, None]
    orders = [_answers(shape, people, who, utility[:most], feature[:most], s) for s in (1, -1)]
    first, equal = np.mean(orders, axis=0)
    answers = np.stack([first, equal, 1 - first - equal])
    front, back = ((first + equal / 2).mean(1) for first, equal in orders)
    return {
        DEVIATION: (answers * (1 - answers.mean(1, keepdims=True))).sum(0).mean(1),
        READINESS: equal.mean(1),
        POSITION: (1 + front - back) / 2,
    }


@dataclass(frozen=True)
class VoteTrials:
    """Tests of votes in one shape.

    Attributes:
        shape: The shape.
        resamples: Of each test.
    """

    shape: Shape
    resamples: int

    def answers(
        self, number: int, sizes: Sizes = Sizes(), feature: bool = False, across: bool = False
    ) -> float:
        """Votes change places within their item, or among all items."""
        data = self._drawn(number, sizes)
        found = answers_test(
            data.table,
            np.zeros(data.table.items) if across else None,
            features={"feature": data.feature} if feature else None,
            resamples=self.resamples,
            seed=number,
        )
        return 1.0 if found is None else found.p_value

    def by_rewards(self, number: int, sizes: Sizes = Sizes()) -> float:
        """The test of ``analyze``: signs within pairs, of the true utility and of the feature."""
        data = self._drawn(number, sizes)
        table = data.table
        sign = 2 * table.share - 1
        features = np.stack([data.utility[table.item], data.feature[table.item]], axis=1)
        alone = np.bincount(table.item)[table.item] == 1
        return annotator_permutation_test(
            features * sign[:, None],
            table.annotator,
            None if alone.mean() > 0.5 else table.item,
            resamples=self.resamples,
            seed=number,
        ).p_value

    def _drawn(self, number: int, sizes: Sizes) -> Drawn:
        return draw_votes(self.shape, sizes, np.random.default_rng([self.shape.items, number, 5]))


def intervals_hold(shape: Shape, sizes: Sizes, number: int) -> dict[str, Floats]:
    """Hold posterior intervals of annotators against the truth.

    Returns:
        By tendency: people, those whose interval holds the truth, those who lie clearly away, and
        of these those on the other side in truth, and as their posteriors say.
    """
    data = draw_votes(shape, sizes, np.random.default_rng([shape.items, number, 6]))
    true, found = truth_of(shape, data), {}
    for name, tilt in tilts_of(data.table).items():
        effect = random_effects(
            tilt, data.table.answer, data.table.annotator, data.table.annotators
        )
        truth, typical = true[name], np.median(true[name])
        inside = (effect.low <= truth) & (truth <= effect.high)
        wrong = (effect.above & (truth < typical)) | (effect.below & (truth > typical))
        numbers = (inside.size, inside.sum(), effect.clear.sum(), wrong.sum(), effect.wrong_sign)
        found[name] = np.array(numbers, dtype=float)
    return found


def level_trials(resamples: int) -> tuple[dict[str, Trial], dict[str, Trial]]:
    """Return tests of votes by people who are all alike, by name: first the slow ones."""
    eighth = replace(UKP, items=UKP.items // 8, annotators=UKP.annotators // 8)
    ukp, part, bench = (VoteTrials(shape, resamples) for shape in (UKP, eighth, MT_BENCH))
    return {"UKPConvArg1, within items": ukp.answers}, {
        "an eighth of UKPConvArg1, within items": part.answers,
        "an eighth of UKPConvArg1, by rewards alone": part.by_rewards,
        "MT-Bench, within items": bench.answers,
        "MT-Bench, across items": partial(bench.answers, across=True),
        "MT-Bench, within items, with a feature": partial(bench.answers, feature=True),
        "MT-Bench, across items, with a feature": partial(bench.answers, feature=True, across=True),
        "MT-Bench, by rewards alone": bench.by_rewards,
    }


def power_trials(resamples: int) -> tuple[dict[str, Trial], dict[str, Trial]]:
    """Return tests of votes by people who differ in one way, by name: first the slow ones."""
    large, small = VoteTrials(UKP, resamples), VoteTrials(MT_BENCH, resamples)
    of_large, of_small = dict[str, Trial](), dict[str, Trial]()
    for kind, size in (("readiness", 0.3), ("sharpness", 0.4), ("position", 0.3), ("taste", 0.5)):
        options: dict[str, Any] = {"sizes": Sizes(**{kind: size}), "feature": kind == "taste"}
        name = f"MT-Bench, {kind} {size}"
        of_small[f"{name}, within items"] = partial(small.answers, **options)
        of_small[f"{name}, across items"] = partial(small.answers, **options, across=True)
        of_small[f"{name}, by rewards alone"] = partial(small.by_rewards, sizes=options["sizes"])
        size = 0.1 if kind == "readiness" else 0.15
        options["sizes"] = Sizes(**{kind: size})
        name = f"UKPConvArg1, {kind} {size}"
        of_large[f"{name}, within items"] = partial(large.answers, **options)
        of_large[f"{name}, by rewards alone"] = partial(large.by_rewards, sizes=options["sizes"])
    return of_large, of_small


def coverage_rows(data_sets: int, progress: Callable[[str], None]) -> list[dict[str, Any]]:
    """Count how often posterior intervals of annotators hold the truth."""
    part = replace(UKP, items=UKP.items // 4, annotators=UKP.annotators // 4)
    rows = []
    for shape, name in ((part, "a quarter of UKPConvArg1"), (MT_BENCH, "MT-Bench")):
        for sizes, words in (
            (Sizes(), "all alike"),
            (Sizes(0.5, 0.3, 0.1, 0.3), "readiness .5, sharpness .3, position .1, taste .3"),
        ):
            total: dict[str, Floats] = {}
            for number in range(data_sets):
                for tendency, counts in intervals_hold(shape, sizes, number).items():
                    total[tendency] = total.get(tendency, np.zeros(5)) + counts
            for tendency, (people, inside, clear, wrong, said) in total.items():
                row = share_row("intervals", f"{name}, {words}: {tendency}", inside, people)
                rows.append(row | {"clear": clear, "wrong": wrong, "wrong_said": said})
                progress(f"{row['row']}: {inside / people:.1%}, clear {clear:.0f}, wrong {wrong}")
    return rows


def main() -> None:
    parser = script_parser(__doc__)
    add = partial(parser.add_argument, type=int)
    add("--data_sets", default=400, help="data sets of each row in a small shape")
    add("--level_sets", default=100, help="data sets of UKPConvArg1's size, people alike")
    add("--power_sets", default=20, help="data sets of UKPConvArg1's size, people different")
    add("--interval_sets", default=6, help="data sets of each row of intervals")
    add("--resamples", default=99)
    parser.add_argument("--output", type=Path, default=Path("results/statistics_votes.json"))
    options = parser.parse_args()
    rows: list[dict[str, Any]] = []
    say = partial(print, flush=True)
    for part, trials, slow_sets in (
        ("alike", level_trials(options.resamples), options.level_sets),
        ("different", power_trials(options.resamples), options.power_sets),
    ):
        rows += rejections(part, trials[0], slow_sets, say)
        rows += rejections(part, trials[1], options.data_sets, say)
    rows += coverage_rows(options.interval_sets, say)
    write(rows, options.output)


if __name__ == "__main__":
    main()
