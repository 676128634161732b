"""Five sets of real votes by several people: how they are read, divided and paired.

    data = load("ukp", folder)          # folder holds people/ and relabeled_hh_rlhf/
    for fold in folds(data):
        run(config, fold.train, fold.test)

The protocol is the data's own (people/README.md): groups are sorted, shuffled with seed 0, and fold
k of 4 is every fourth; no group stands on two sides. PluriHarms and DICES hold ratings of single
items. Their pairs are drawn within each side, 2,000 to train and 500 to test on, and whoever rated
both items votes for the more harmful one.

A group key belongs to an item. Most examples have one group; a pair of two rated items has two. A
bootstrap over groups draws groups, and gives an example the product of its groups' counts.
"""

from __future__ import annotations

import itertools
import random
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from hidden_context.data.collections import find_source
from hidden_context.data.example import Abstention, Comparison, Example, Judgement, Ranking, Rating
from hidden_context.data.sources import load_examples
from hidden_context.data.splits.division import first_question
from hidden_context.data.storage.files import iter_jsonl

NAMES: Final = ("ukp", "pluriharms", "dices", "lamp", "relabelled")
FOLDS: Final = 4
TRAIN_PAIRS: Final = 2000
TEST_PAIRS: Final = 500

_UNSAFE: Final = {"Yes": 1.0, "No": 0.0}
_SPEAKERS: Final = {"USER": "Human", "LAMDA": "Assistant"}


@dataclass(frozen=True)
class Dataset:
    """Examples that several people judged.

    Attributes:
        name: One of ``NAMES``.
        examples: Pairs, rankings, or single rated items.
        groups: The group of each example.
        annotators: What is known of each annotator besides votes, by name; often nothing.
        rated: Whether the examples are rated items, of which pairs are to be drawn.
    """

    name: str
    examples: list[Example]
    groups: list[str]
    annotators: dict[str, dict[str, str | float]] = field(default_factory=dict)
    rated: bool = False


@dataclass(frozen=True)
class Fold:
    """One division of a data set into pairs or rankings to train and to test on.

    Attributes:
        train: Examples to learn from.
        test: Examples to judge by.
        train_groups: One or two groups of each training example.
        test_groups: One or two groups of each test example.
    """

    train: list[Example]
    test: list[Example]
    train_groups: Any
    test_groups: Any


def load(name: str, data_folder: str | Path) -> Dataset:
    """Read one of the data sets.

    Args:
        name: One of ``NAMES``.
        data_folder: The folder that holds ``people`` and ``relabeled_hh_rlhf``.
    """
    return _LOADERS[name](Path(data_folder))


def folds(data: Dataset, count: int = FOLDS) -> list[Fold]:
    """Divide a data set by the protocol; rated items are drawn as pairs within each side."""
    keys = sorted(set(data.groups))
    random.Random(0).shuffle(keys)
    found = []
    for number in range(count):
        held_out = set(keys[number::count])
        rest = [n for n, group in enumerate(data.groups) if group not in held_out]
        out = [n for n, group in enumerate(data.groups) if group in held_out]
        draw = random.Random(number)
        (train, train_groups), (test, test_groups) = (
            _rated_pairs(data, items, size, draw)
            if data.rated
            else ([data.examples[n] for n in items], [(data.groups[n],) for n in items])
            for items, size in ((rest, TRAIN_PAIRS), (out, TEST_PAIRS))
        )
        found.append(Fold(train, test, train_groups, test_groups))
    return found


def _rated_pairs(
    data: Dataset, items: list[int], count: int, draw: random.Random
) -> tuple[list[Example], list[tuple[str, ...]]]:
    """Draw pairs of rated items, in random order within each, and name their groups."""
    every = [(a, b) for a in items for b in items if a < b]
    chosen = draw.sample(every, min(count, len(every)))
    places = [(a, b) if draw.random() < 0.5 else (b, a) for a, b in chosen]
    pairs = [_pair(data.examples[a], data.examples[b]) for a, b in places]
    return pairs, [(data.groups[a], data.groups[b]) for a, b in places]


def _pair(first: Example, second: Example) -> Example:
    """Make a pair of two items; everybody who rated both has a vote."""
    ratings = [
        {said.annotator: getattr(said.answer, "value", None) for said in example.judgements}
        for example in (first, second)
    ]
    votes = (Judgement(_vote(value, ratings[1].get(who)), who) for who, value in ratings[0].items())
    return Example("", (first.responses[0], second.responses[0]), tuple(votes))


def _vote(first: float | None, second: float | None) -> Comparison | Abstention:
    """The higher rating wins; who did not rate both abstains."""
    if first is None or second is None:
        return Abstention()
    return Comparison(0, 1, 0.5 + 0.5 * ((first > second) - (first < second)))


@dataclass(frozen=True, eq=False)
class PairFold(Fold):
    """Pairs to learn from and to judge by: rankings become the pairs of their responses.

    Attributes:
        train: Training pairs.
        test: Test pairs.
        train_groups: Group of each side of each training pair, by number, ``(C, 2)``.
        test_groups: The same of the test pairs, ``(I, 2)``.
        names: Names of all annotators of the data set, sorted.
        length: Length of the first response minus the second's, in characters, ``(I,)``.
    """

    names: list[str]
    length: Any


def pair_fold(data: Dataset, fold: Fold) -> PairFold:
    """Make pairs of a fold's examples; a pair nobody judged is left out.

    Groups and annotators are numbered alike in all folds of a data set.
    """
    number = {key: n for n, key in enumerate(sorted(set(data.groups)))}
    names = {str(said.annotator) for each in data.examples for said in each.judgements}
    sides, groups = [], []
    for examples, keys in ((fold.train, fold.train_groups), (fold.test, fold.test_groups)):
        pairs = [
            (each, (number[key[0]], number[key[-1]]))
            for example, key in zip(examples, keys, strict=True)
            for each in _pairs_of(example)
            if any(not said.abstains for said in each.judgements)
        ]
        sides.append([pair for pair, _ in pairs])
        groups.append(np.array([group for _, group in pairs]))
    length = [len(str(each.responses[0])) - len(str(each.responses[1])) for each in sides[1]]
    return PairFold(*sides, *groups, sorted(names), np.array(length, dtype=float))


def _pairs_of(example: Example) -> list[Example]:
    rankings = [said for said in example.judgements if isinstance(said.answer, Ranking)]
    if not rankings:
        return [example]
    columns = {k: v for k, v in example.columns.items() if isinstance(v, str)}
    return [
        replace(
            example,
            responses=(example.responses[a], example.responses[b]),
            judgements=tuple(
                # the better one has the lower rank
                Judgement(_vote(said.answer.ranks[b], said.answer.ranks[a]), said.annotator)
                for said in rankings
            ),
            columns=columns,
        )
        for a, b in itertools.combinations(range(len(example.responses)), 2)
    ]


def _published(name: str, folder: Path, files: str) -> list[Example]:
    """Read files of one of the public collections that the package knows."""
    return list(find_source(name).read(sorted((folder / "people").glob(files)), Counter()))


def _ukp(folder: Path) -> Dataset:
    """Two arguments on one side of a debate; which is more convincing."""
    examples = _published("ukpconvarg", folder, "ukpconvarg1.jsonl.gz")
    return Dataset("ukp", examples, [str(each.columns["topic"]) for each in examples])


def _pluriharms(folder: Path) -> Dataset:
    """Prompts that people rated for harm, from 0 to 100; no answer is "unsure"."""
    examples = _published("pluriharms", folder, "pluriharms_*.csv.gz")
    paths = sorted((folder / "people").glob("pluriharms_*.csv.gz"))
    known = find_source("pluriharms").read_annotators(paths)
    groups = [f"{number:03}" for number in range(1, len(examples) + 1)]
    return Dataset("pluriharms", examples, groups, known, rated=True)


def _dices(folder: Path) -> Dataset:
    """Conversations whose last reply raters called safe or unsafe."""
    examples, groups = [], []
    for _, row in iter_jsonl(folder / "people" / "dices_350.jsonl.gz"):
        votes = tuple(
            Judgement(Rating(0, _UNSAFE[said]) if said in _UNSAFE else Abstention(), f"rater{n:03}")
            for n, said in enumerate(row["unsafe"])
        )
        context = re.sub(  # in turns of Human and Assistant, the reply that is judged the last
            r"(?:^|\n)(USER|LAMDA): ?", lambda mark: f"\n\n{_SPEAKERS[mark[1]]}: ", row["context"]
        )
        text = f"{context.rstrip()}\n\nAssistant: {row['response']}"
        examples.append(Example("", (text,), votes))
        groups.append(f"{row['item']:03}")
    return Dataset("dices", examples, groups, rated=True)


def _lamp(folder: Path) -> Dataset:
    """Paragraphs of one story that writers put in order."""
    found = _published("lamp", folder, "lamp_rankings.jsonl.gz")
    groups = [str(each.columns["instruction"]) for each in found]
    examples = [  # texts, not messages of a chat
        replace(
            each,
            prompt=f"{group}\n\n",
            responses=tuple(messages[0]["content"] for messages in each.responses),
        )
        for each, group in zip(found, groups, strict=True)
    ]
    return Dataset("lamp", examples, groups)


def _relabelled(folder: Path) -> Dataset:
    """Pairs of HH-RLHF, each judged by a person and by GPT-3.5, each by a criterion that is known.

    The four annotators are ``person helpful``, ``person harmless``, ``model helpful`` and ``model
    harmless``.
    """
    examples, groups = [], []
    for example in load_examples(folder / "relabeled_hh_rlhf", "both", "test").examples:
        row = example.columns
        # the chosen side follows the model's label; as the source has them, the person's is random
        sides = example.responses if row["label"] == 0 else example.responses[::-1]
        votes = (
            Judgement(Comparison(0, 1, 1.0 - row["label"]), f"model {row['objective']}"),
            Judgement(
                Comparison(0, 1, 1.0 - row["original_label"]), f"person {row['data_subset']}"
            ),
        )
        examples.append(Example(example.prompt, sides, votes, row))
        groups.append(first_question(example))
    return Dataset("relabelled", examples, groups)


_LOADERS: Final[dict[str, Callable[[Path], Dataset]]] = {
    "ukp": _ukp,
    "pluriharms": _pluriharms,
    "dices": _dices,
    "lamp": _lamp,
    "relabelled": _relabelled,
}
