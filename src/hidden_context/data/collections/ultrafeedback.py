"""UltraFeedback: four answers to each prompt, rated by GPT-4 on four aspects and overall."""

from __future__ import annotations

from statistics import fmean
from typing import Any, Final

from hidden_context.data.collections.source import Examples, Published, Row, Source, user
from hidden_context.data.example import Example

_JUDGE: Final = "GPT-4"
ASPECTS: Final = ("instruction_following", "honesty", "truthfulness", "helpfulness")
_NOT_APPLICABLE: Final = "N/A"
_BEST: Final = {**dict.fromkeys(ASPECTS, 5), "overall": 10}


def _read(files: Published) -> Examples:
    """Read each prompt with its answers once per aspect and once overall, or pairs of answers."""
    if files.of_kind["answers"] and files.of_kind["pairs"]:
        problem = "the files hold the same ratings twice: single ratings and their means"
        raise files.error(problem, files.of_kind["pairs"][0])
    for row in files.rows("answers"):
        yield from _examples(row)
    yield from map(_pair, files.rows("pairs"))


def _examples(row: Row) -> Examples:
    answers = row.entries_or_none("completions")
    if not answers:
        row.leave_out("prompts without answers")
        return
    prompt, responses = row.text("instruction"), [answer.text("response") for answer in answers]
    for objective in _BEST:
        entries = [
            entry
            for number, answer in enumerate(answers)
            for entry in _rated(number, answer, objective)
        ]
        if all("abstains" in entry for entry in entries):
            row.leave_out(f"prompts without a rated answer for {objective}")
            continue
        yield row.example(
            prompt=user(prompt),
            responses=responses,
            judgements=entries,
            criterion=objective,
            models=[answer.get("model") for answer in answers],
            principles=[answer.get("principle") for answer in answers],
            **row.kept("source"),
        )


def _rated(number: int, answer: Row, objective: str) -> list[dict[str, Any]]:
    """Read the rating of an answer; a rating that does not apply is an abstention."""
    overall = objective == "overall"
    said, field = (answer, "overall_score") if overall else (_said(answer, objective), "Rating")
    if said.get(field) in (None, ""):
        answer.leave_out(f"answers without a rating for {objective}")
        return []
    if said[field] == _NOT_APPLICABLE:
        return [{"annotator": _JUDGE, "abstains": True, "said": _NOT_APPLICABLE}]
    value = said.number(field)
    if not 1 <= value <= _BEST[objective]:
        answer.leave_out(f"ratings for {objective} that are not from 1 to {_BEST[objective]}")
        return []
    if overall and value == _BEST["overall"] and _is_poor(answer):
        answer.leave_out(
            "overall ratings of 10 for answers with low aspect ratings, a known error in the first "
            "version"
        )
        return []
    return [{"annotator": _JUDGE, "response": number, "rating": value}]


def _said(answer: Row, aspect: str) -> Row:
    """Return the annotation of an answer on one aspect, empty if there is none."""
    return answer.object_or_empty("annotations").object_or_empty(aspect)


def _is_poor(answer: Row) -> bool:
    """Return whether an answer's overall 10 is not credible: its true rating is or may be 1.

    Where the mean over aspects is at most 2, the authors set a 10 to 1; up to 4, they had the
    answer judged again. They published the mean in the same row. A missing mean shows that the file
    is not yet corrected.
    """
    aspects = [_said(answer, aspect) for aspect in ASPECTS]
    rated = [said for said in aspects if said.get("Rating") not in (None, "", _NOT_APPLICABLE)]
    limit = 4 if answer.get("fine-grained_score") is None else 2
    return bool(rated) and fmean(said.number("Rating") for said in rated) <= limit


def _pair(row: Row) -> Example:
    """Read a pair with the better answer first; the margin is the difference of mean ratings."""
    better, worse = (row.number(f"{side}-rating", 1, 5) for side in ("chosen", "rejected"))
    if better < worse:
        problem = f"at least the rating of the rejected answer is needed, {worse:g}"
        raise row.error(problem, "chosen-rating")
    return row.example(
        prompt=user(row.text("prompt")),
        responses=[row.listed(side, "message") for side in ("chosen", "rejected")],
        judgements=[{"annotator": _JUDGE, "comparison": [0, 1], "margin": better - worse}],
        criterion="mean",
        models=[row.get("chosen-model"), row.get("rejected-model")],
        **row.kept("source"),
    )


SOURCE = Source(
    title="UltraFeedback",
    licence="MIT",
    citation=(
        "Cui, Yuan, Ding, Yao, Zhu, Ni, Xie, Liu and Sun (2023), UltraFeedback: Boosting Language "
        "Models with High-quality Feedback, arXiv:2310.01377; for the cleaned pairs Bartolome, "
        "Martin and Vila (2023), Notus, https://github.com/argilla-io/notus"
    ),
    published="https://huggingface.co/datasets/openbmb/UltraFeedback",
    files=(
        "the JSON Lines of openbmb/UltraFeedback, such as evol_instruct.jsonl, or the parquet file "
        "of argilla/ultrafeedback-binarized-preferences-cleaned"
    ),
    columns={
        "answers": ("instruction", "completions"),
        "pairs": ("prompt", "chosen", "rejected", "chosen-rating", "rejected-rating"),
    },
    holds=("comparisons", "ratings", "abstentions", "annotators"),
    gives=(
        "four answers of models with GPT-4's ratings, 1 to 5, for instruction_following, honesty,"
        " truthfulness and helpfulness, and 1 to 10 overall, each in its own row: choose one with"
        " --data_subset helpfulness; N/A is an abstention; or pairs of two answers with the "
        "difference of their mean ratings as margin; no person judged"
    ),
    examples=_read,
)
