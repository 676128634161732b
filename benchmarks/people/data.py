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

import csv
import gzip
import json
import random
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from hidden_context.data.example import Abstention, Comparison, Example, Judgement, Ranking, Rating
from hidden_context.data.sources import load_examples
from hidden_context.data.splits.division import first_question

NAMES: Final = ("ukp", "pluriharms", "dices", "lamp", "relabelled")
FOLDS: Final = 4
TRAIN_PAIRS: Final = 2000
TEST_PAIRS: Final = 500

_UKP_SHARE: Final = {"a1": 1.0, "equal": 0.5, "a2": 0.0}
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
        number: Which of the folds is held out.
        train: Examples to learn from.
        test: Examples to judge by.
        train_groups: One or two groups of each training example.
        test_groups: One or two groups of each test example.
    """

    number: int
    train: list[Example]
    test: list[Example]
    train_groups: list[tuple[str, ...]]
    test_groups: list[tuple[str, ...]]


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
    pairs = _RatedPairs(data) if data.rated else None
    found = []
    for number in range(count):
        held_out = set(keys[number::count])
        rest = [n for n, group in enumerate(data.groups) if group not in held_out]
        out = [n for n, group in enumerate(data.groups) if group in held_out]
        if pairs is None:
            sides = [
                ([data.examples[n] for n in s], [(data.groups[n],) for n in s]) for s in (rest, out)
            ]
        else:
            draw = random.Random(number)
            sides = [pairs.draw(rest, TRAIN_PAIRS, draw), pairs.draw(out, TEST_PAIRS, draw)]
        (train, train_groups), (test, test_groups) = sides
        found.append(Fold(number, train, test, train_groups, test_groups))
    return found


class _RatedPairs:
    """Draws pairs of rated items; everybody who rated both items has a vote."""

    def __init__(self, data: Dataset) -> None:
        self.data = data
        self.ratings = [
            {
                said.annotator: said.answer.value if isinstance(said.answer, Rating) else None
                for said in example.judgements
            }
            for example in data.examples
        ]

    def draw(
        self, items: list[int], count: int, draw: random.Random
    ) -> tuple[list[Example], list[tuple[str, ...]]]:
        """Draw pairs of different items, in random order within each, and name their groups."""
        every = [(a, b) for a in items for b in items if a < b]
        chosen = draw.sample(every, min(count, len(every)))
        places = [(a, b) if draw.random() < 0.5 else (b, a) for a, b in chosen]
        groups = [(self.data.groups[a], self.data.groups[b]) for a, b in places]
        return [self._pair(a, b) for a, b in places], groups

    def _pair(self, a: int, b: int) -> Example:
        one, other = self.ratings[a], self.ratings[b]
        votes = tuple(Judgement(_vote(value, other.get(who)), who) for who, value in one.items())
        sides = (self.data.examples[a].responses[0], self.data.examples[b].responses[0])
        columns = {"first_item": self.data.groups[a], "second_item": self.data.groups[b]}
        return Example("", sides, votes, columns)


def _vote(first: float | None, second: float | None) -> Comparison | Abstention:
    """The higher rating wins; who did not rate both abstains."""
    if first is None or second is None:
        return Abstention()
    return Comparison(0, 1, 0.5 + 0.5 * ((first > second) - (first < second)))


def _ukp(folder: Path) -> Dataset:
    """Two arguments on one side of a debate; which is more convincing."""
    examples, groups = [], []
    for row in _jsonl(folder / "people" / "ukpconvarg1.jsonl.gz"):
        votes = tuple(
            Judgement(Comparison(0, 1, _UKP_SHARE[vote["value"]]), vote["annotator"], columns=vote)
            for vote in row["votes"]
        )
        columns = {name: row[name] for name in ("topic", "stance", "gold_label")}
        prompt = f"{row['topic']}\n\n{row['stance']}\n\n"
        sides = (row["argument1"], row["argument2"])
        examples.append(Example(prompt, sides, votes, columns))
        groups.append(row["topic"])
    return Dataset("ukp", examples, groups)


def _pluriharms(folder: Path) -> Dataset:
    """Prompts that people rated for harm, from 0 to 100; no answer is "unsure"."""
    people = folder / "people"
    answers = list(_csv(people / "pluriharms_annotations.csv.gz"))
    examples, groups = [], []
    for number, row in enumerate(_csv(people / "pluriharms_prompts.csv.gz"), start=1):
        votes = tuple(
            _rating(person[f"Rating_{number}"] or None, person["Participant_ID"])
            for person in answers
        )
        columns = {"item": number, "harm_level": float(row["Harm_Level"])}
        examples.append(Example("", (row["Question_Content"],), votes, columns))
        groups.append(f"{number:03}")
    known = {
        person["Participant_ID"]: {
            name: float(value) if name.startswith("Factor_") else value.strip()
            for name, value in person.items()
            if not name.startswith(("Rating_", "Trial_")) and name != "Participant_ID" and value
        }
        for person in answers
    }
    return Dataset("pluriharms", examples, groups, known, rated=True)


def _dices(folder: Path) -> Dataset:
    """Conversations whose last reply raters called safe or unsafe."""
    examples, groups = [], []
    for row in _jsonl(folder / "people" / "dices_350.jsonl.gz"):
        votes = tuple(
            _rating(_UNSAFE.get(said), f"rater{number:03}")
            for number, said in enumerate(row["unsafe"])
        )
        columns = {"item": row["item"], "expert_unsafe": row["expert_unsafe"]}
        examples.append(Example("", (_dialogue(row),), votes, columns))
        groups.append(f"{row['item']:03}")
    return Dataset("dices", examples, groups, rated=True)


def _lamp(folder: Path) -> Dataset:
    """Paragraphs of one story that writers put in order."""
    examples, groups = [], []
    for row in _jsonl(folder / "people" / "lamp_rankings.jsonl.gz"):
        votes = tuple(
            Judgement(Ranking(tuple(said["ranks"])), said["annotator"]) for said in row["rankings"]
        )
        columns = {"batch": row["batch"], "instruction": row["instruction"]}
        prompt = f"{row['instruction']}\n\n"
        examples.append(Example(prompt, tuple(row["responses"]), votes, columns))
        groups.append(row["instruction"])
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


def _rating(value: Any, annotator: str) -> Judgement:
    answer = Abstention() if value is None else Rating(0, float(value))
    return Judgement(answer, annotator)


def _dialogue(row: dict[str, Any]) -> str:
    """Write a conversation in turns of Human and Assistant, the reply that is judged the last."""
    context = re.sub(
        r"(?:^|\n)(USER|LAMDA): ?", lambda mark: f"\n\n{_SPEAKERS[mark[1]]}: ", row["context"]
    )
    return f"{context.rstrip()}\n\nAssistant: {row['response']}"


def _jsonl(path: Path) -> Iterator[dict[str, Any]]:
    with gzip.open(path, "rt", encoding="utf-8") as file:
        yield from map(json.loads, file)


def _csv(path: Path) -> Iterator[dict[str, str]]:
    with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
        yield from csv.DictReader(file)
