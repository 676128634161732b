"""From replies to judgements, and from judgements to rows that hold them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from hidden_context.data.example import Comparison, Example
from hidden_context.data.importers.pairs import is_pair
from hidden_context.data.published import has_lists, plain_row
from hidden_context.relabel.questions import Objective, Orders, Pair, Question, pairs_of
from hidden_context.relabel.replies import Verdict

_DIGITS = 8  # of a prompt's digest, in the annotator's name


@dataclass(frozen=True, slots=True)
class Judge:
    """A language model that judges one objective.

    Attributes:
        model: The name of the model.
        objective: The objective that it judges.
    """

    model: str
    objective: Objective

    @property
    def annotator(self) -> str:
        """The name as an annotator: model, objective, and a digest of the prompt."""
        return f"{self.model}/{self.objective.name}/{self.objective.digest[:_DIGITS]}"

    def entry(
        self,
        pair: Pair,
        said: Sequence[tuple[Question, Verdict]],
        orders: Orders,
    ) -> dict[str, Any]:
        """Write the judgement of a pair.

        The preference is the mean over orders of the mean over votes. Where every answer abstains,
        or one order of two, the entry abstains too.

        Args:
            pair: The places of the two responses.
            said: Every question about the pair, with the answer.
            orders: The orders that were asked for.

        Returns:
            An entry for ``annotations``; one for ``judgements`` names the two responses as well.
        """
        answers = [self._answer(pair, question, verdict) for question, verdict in said]
        by_order: dict[tuple[int, ...], list[float]] = {}
        for answer in answers:
            if "preference" in answer:
                by_order.setdefault(tuple(answer["shown"]), []).append(answer["preference"])
        entry: dict[str, Any] = {"annotator": self.annotator}
        if by_order and (orders == "first" or len(by_order) == 2):
            entry["preference"] = fmean(fmean(votes) for votes in by_order.values())
        else:
            entry["abstains"] = True
        if len(by_order) == 1:
            entry["one_order"] = True
        entry["judge"] = {
            "model": self.model,
            "objective": self.objective.name,
            "prompt": self.objective.digest,
        }
        return {**entry, "answers": answers}

    def _answer(self, pair: Pair, question: Question, verdict: Verdict) -> dict[str, Any]:
        answer: dict[str, Any] = {"shown": list(question.shown), "vote": question.vote}
        if verdict.first is None:
            return {**answer, "abstains": True, "text": verdict.text, "reason": verdict.reason}
        preference = verdict.first if question.shown == pair else 1 - verdict.first
        return {**answer, "preference": preference}


def judged_row(
    example: Example, judges: Sequence[Judge], entry_of: Callable[[Pair, Judge], dict[str, Any]]
) -> dict[str, Any]:
    """Add the judges' entries to a row; nothing that people said is lost.

    Args:
        example: The row with all its responses.
        judges: The judges.
        entry_of: Makes the entry of a judge about a pair of responses, given by their places.

    Returns:
        A pair's row with ``annotations``, of which the first is the row's own vote where it had no
        such list. Any other row with ``judgements``, into which ``ranks``, ``rankings``,
        ``ratings`` and lists of chosen and rejected responses were moved. A row with fewer than
        two responses as it is.

    Raises:
        DataError: If the row already has an entry by the same judge, naming file, line and field.
    """
    row = example.columns
    pairs = pairs_of(example)
    entries = [(pair, entry_of(pair, judge)) for pair in pairs for judge in judges]
    if not entries:
        return row
    if is_pair(row) or not (row.get("judgements") or row.get("responses") or has_lists(row)):
        row = plain_row(row)  # JudgeBench has its pair under other names
        field, before = "annotations", row.get("annotations") or [_own_vote(example, row)]
        added = [entry for _, entry in entries]
    else:
        field, (row, before) = "judgements", _as_judgements(example)
        added = [_compared(entry, pair) for pair, entry in entries]
    names = {entry["annotator"] for entry in added}
    for number, entry in enumerate(before):
        if entry.get("annotator") in names:
            raise example.place().error(
                f"the row has a judgement by {entry['annotator']!r} already",
                f"{field}[{number}].annotator",
                "Relabel the file that it was made from, or leave out this objective",
            )
    return {**row, field: [*before, *added]}


def _compared(entry: dict[str, Any], pair: Pair) -> dict[str, Any]:
    """Name the two responses in an entry of ``judgements``; an abstention names none."""
    if entry.get("abstains"):
        return entry
    return {"annotator": entry["annotator"], "comparison": list(pair), **entry}


def _own_vote(example: Example, row: Mapping[str, Any]) -> dict[str, Any]:
    """Write the vote of a pair's row as an entry."""
    judgements = example.judgements
    who, answer = next(
        (j.annotator, j.answer) for j in judgements if isinstance(j.answer, Comparison)
    )
    entry = {
        "annotator": who,
        "preference": answer.preference,
        "strength": answer.strength,
        "margin": answer.margin,
    }
    return {name: value for name, value in entry.items() if value is not None}


def _as_judgements(example: Example) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Split a row of several responses into its other columns and a list of judgements."""
    row = plain_row(example.columns)
    if has_lists(example.columns):
        return row, _written(example)
    if row.get("judgements") is not None:
        return row, list(row["judgements"])
    moved = ("ranks", "rankings", "ratings")
    rest = {name: value for name, value in row.items() if name not in moved}
    who = {} if row.get("annotator") in (None, "") else {"annotator": row["annotator"]}
    if row.get("ranks") is not None:
        said = [{**who, "ranks": row["ranks"]}]
    else:
        said = [_ranking(entry) for entry in row.get("rankings") or ()]
    ratings = [
        {"response": place, "rating": value}
        for place, value in enumerate(row.get("ratings") or ())
        if value is not None
    ]
    if ratings and who:  # nobody is said to have rated, so the row must name nobody
        del rest["annotator"]
        said = [{**who, **entry} for entry in said]
    return rest, [*said, *ratings]


def _ranking(entry: Mapping[str, Any]) -> dict[str, Any]:
    """Write an entry of ``rankings``; one without ranks is an abstention."""
    if entry.get("ranks") is not None:
        return dict(entry)
    return {**{k: v for k, v in entry.items() if k != "ranks"}, "abstains": True}


def _written(example: Example) -> list[dict[str, Any]]:
    """Write the comparisons that a benchmark's row stands for."""
    own = example.columns.get("weight") or 1.0
    return [
        {
            "comparison": [judgement.answer.first, judgement.answer.second],
            "preference": judgement.answer.preference,
            "weight": judgement.weight / own,
        }
        for judgement in example.judgements
        if isinstance(judgement.answer, Comparison)
    ]
