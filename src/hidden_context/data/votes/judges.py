"""Judges that were asked several times: each single answer and the settled answer.

An entry in a list of judgements belongs to a judge if it has two keys: ``judge``, an object that
describes the judge, and ``answers``, a list of single answers, each with the order in which the two
responses were shown. ``relabel`` writes such entries.
"""

from __future__ import annotations

import dataclasses
from collections import ChainMap, Counter
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from hidden_context.data.checks import Place, describe, read_list, read_number
from hidden_context.data.dialogue import canonical_prompt
from hidden_context.data.example import Comparison, Example, Judgement
from hidden_context.data.votes.items import votes_of
from hidden_context.statistics.checks import Codes, Floats

_REMEDY: Final = (
    'Write each answer as {"shown": [0, 1], "vote": 0, "preference": 1.0}, or with '
    '"abstains": true in place of the preference'
)


_SETTLED: Final = 2
"""Where a judge's settled answer is counted, behind the two orders."""


@dataclass(frozen=True, eq=False)
class JudgeAnswers:
    """Answers of a judge to I pairs of responses, beside people's votes.

    The response whose text sorts first is the first side of an item.

    Attributes:
        name: The judge, as its entries name it.
        answers: Counts by item, order and answer, ``(I, 2, 3)``: order 0 shows the first side
            first; answers are first, equal, second.
        settled: The settled answer to each item, from the mean of the judge's answers, as a count
            of 1 by answer, ``(I, 3)``; 0 if the judge abstains.
        people: Counts of people's votes by answer, ``(I, 3)``.
        group: Number of each item's group, ``(I,)``.
        abstentions: Number of answers that are not votes.
    """

    name: str
    answers: Floats
    settled: Floats
    people: Floats
    group: Codes
    abstentions: int


def is_by_judge(judgement: Judgement) -> bool:
    """Tell whether a judgement holds the answers of a judge that was asked several times."""
    entry = _entry(judgement)
    return isinstance(entry.get("judge"), Mapping) and entry.get("answers") is not None


def people_of(examples: Sequence[Example]) -> tuple[list[Example], int]:
    """Remove the judgements of judges, unless no person judged.

    Args:
        examples: The examples.

    Returns:
        The examples with people's judgements alone, or unchanged where no person judged;
        and how many entries are judges'.
    """
    people, entries = [], 0
    for example in examples:
        kept = tuple(one for one in example.judgements if not is_by_judge(one))
        entries += len(example.judgements) - len(kept)
        people.append(dataclasses.replace(example, judgements=kept))
    if all(said.abstains for example in people for said in example.judgements):
        return list(examples), entries
    return people, entries


def judges_of(
    examples: Sequence[Example], groups: Sequence[Hashable] | None = None
) -> list[JudgeAnswers]:
    """Collect the answers of every judge, and people's votes on the same pairs.

    A preference or probability above one half is an answer for the first response; below one half,
    for the second. Rows with the same prompt, responses and objective are one item. An answer that
    appears in several rows of an item counts once.

    Args:
        examples: The examples.
        groups: Group of each example; its first user turn if not given.

    Returns:
        The judges, in the order in which they first occur; none where no entry is a judge's.

    Raises:
        DataError: If an answer is malformed, naming file, line and field.
    """
    abstained: Counter[str] = Counter()  # of all judges, in the order in which they first occur
    asked: list[Example] = []
    names: dict[str, tuple[str, int]] = {}
    for example in examples:
        said: list[Judgement] = []
        for judgement in example.judgements:
            if not is_by_judge(judgement):
                said.append(judgement)
                continue
            judge = str(judgement.annotator)
            abstained[judge] += 0
            for answer in _answers(example, judgement):
                if answer is None:
                    abstained[judge] += 1
                    continue
                order, vote, comparison = answer
                name = f"{judge}\n{order}\n{vote}"
                names[name] = judge, order
                said.append(Judgement(comparison, name))
            if isinstance(judgement.answer, Comparison):
                names[judge] = judge, _SETTLED
                share = _whole(judgement.answer.preference)
                settled = dataclasses.replace(judgement.answer, preference=share)
                said.append(dataclasses.replace(judgement, answer=settled))
        asked.append(dataclasses.replace(example, judgements=tuple(said)))
    return _counted(asked, groups, names, abstained) if abstained else []


def _counted(
    asked: Sequence[Example],
    groups: Sequence[Hashable] | None,
    names: Mapping[str, tuple[str, int]],
    abstained: Counter[str],
) -> list[JudgeAnswers]:
    """Count answers for each pair of texts; ``names`` maps the votes of judges to their judge."""
    found = votes_of(asked, groups)
    if found is None:
        nothing = np.zeros((0, 3))
        none = np.zeros((0, 2, 3)), nothing, nothing, np.zeros(0, np.int64)
        return [JudgeAnswers(judge, *none, count) for judge, count in abstained.items()]
    table = found.by_texts
    whose = [*(names.get(name) for name in found.names), None]  # an unnamed annotator is number −1

    def count(who: tuple[str, int] | None) -> Floats:
        """Count first answers for each pair of texts: a judge's in one order, or people's."""
        own = np.array([one == who for one in whose])[table.annotator]
        return table.select(own & table.is_first_answer).counts.whole

    people, group = count(None), np.zeros(table.items, np.int64)
    group[found.texts] = found.group
    results = []
    for judge, abstentions in abstained.items():
        counts = np.stack([count((judge, order)) for order in range(_SETTLED + 1)], axis=1)
        some = counts.sum((1, 2)) > 0
        answers, settled = counts[some, :_SETTLED], counts[some, _SETTLED]
        both = (answers, settled, people[some], group[some])
        results.append(JudgeAnswers(judge, *both, abstentions))
    return results


def _answers(
    example: Example, judgement: Judgement
) -> Iterator[tuple[int, int, Comparison] | None]:
    """Yield the order, number and comparison of each answer; None for an abstention."""
    place, entry = example.place(), _entry(judgement)
    answers = read_list(entry["answers"], "answers", place, _REMEDY, "answer")
    for number, answer in enumerate(answers):
        field = f"answers[{number}]"
        if not isinstance(answer, Mapping):
            raise place.error(f"an answer is needed, not {describe(answer)}", field, _REMEDY)
        if answer.get("abstains"):
            yield None
            continue
        shown = _shown(answer.get("shown"), len(example.responses), f"{field}.shown", place)
        pair = entry.get("comparison") or sorted(shown)
        if sorted(pair) != sorted(shown):
            problem = f"the responses {pair} are compared, but {list(shown)} were shown"
            raise place.error(problem, f"{field}.shown", _REMEDY)
        at, said = f"{field}.preference", answer.get("preference")
        share = read_number(said, at, place, low=0.0, high=1.0)
        if share is None:
            raise place.error("the value is missing", at, _REMEDY)
        first, second = (canonical_prompt(example.responses[each]) for each in shown)
        whole = Comparison(pair[0], pair[1], _whole(share))
        yield int(first > second), answer.get("vote", 0), whole


def _whole(share: float) -> float:
    """Return the side that a preference favours: 1, 0, or one half for neither."""
    return (1 + (share > 0.5) - (share < 0.5)) / 2


def _shown(value: Any, responses: int, field: str, place: Place) -> tuple[int, int]:
    """Read which two responses were shown, in their order."""
    is_pair = isinstance(value, Sequence) and len(value) == 2 and value[0] != value[1]
    if not is_pair or not all(type(one) is int and 0 <= one < responses for one in value):
        problem = f"the places of two of {responses} responses are needed, not {describe(value)}"
        raise place.error(problem, field, _REMEDY)
    return value[0], value[1]


def _entry(judgement: Judgement) -> Mapping[str, Any]:
    """Return the keys of the list entry itself, without the columns of its row."""
    columns = judgement.columns
    return columns.maps[0] if isinstance(columns, ChainMap) else {}
