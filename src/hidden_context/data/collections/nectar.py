"""Nectar: seven answers to each prompt by several models, ranked by GPT-4."""

from __future__ import annotations

import re
from collections import Counter
from typing import Final

from hidden_context.data.collections.source import Examples, Messages, Published, Row, Source

_TURN: Final = re.compile(r"\n\n(Human|Assistant):(?: |$)")


def _read(files: Published) -> Examples:
    """Read each prompt with its ranking.

    Where there were too few answers, one was repeated. Its copies have different ranks, and neither
    rank can be right, so both copies are left out.
    """
    for row in files.rows("rankings"):
        prompt = _read_turns(row)
        entries, count = list(row.entries("answers")), row.level("num_responses", 0)
        if len(entries) != count:
            problem = f"{len(entries)} answers are given, not {count} as 'num_responses' says"
            raise row.error(problem, "answers")
        answers = [(one.text("answer"), one.text("model"), _rank(one, count)) for one in entries]
        copies = Counter(text for text, _, _ in answers)
        single = [answer for answer in answers if copies[answer[0]] == 1]
        twice = len(answers) - len(single)
        row.leave_out("answers that occur twice for one prompt, at two ranks", twice)
        if prompt is None:
            row.leave_out("prompts that are not turns of Human and Assistant, one after the other")
        elif sum(rank is not None for _, _, rank in single) < 2:
            row.leave_out("prompts with fewer than two ranked answers")
        else:
            yield row.example(
                prompt=prompt,
                responses=[text for text, _, _ in single],
                judgements=[{"annotator": "GPT-4", "ranks": [rank for _, _, rank in single]}],
                models=[model for _, model, _ in single],
                **row.kept("turns", "source", "good_natured"),
            )


def _rank(answer: Row, count: int) -> int | None:
    """Read the rank of an answer (1 is the best), or return None if it has no rank."""
    return None if answer.get("rank") is None else answer.level("rank", 1, count)


def _read_turns(row: Row) -> Messages | None:
    """Read the prompt as chat messages, without the mark that announces the answer.

    Returns:
        The messages; None if the turns do not alternate between human and assistant up to the
        announcement, for example because a turn quotes a dialogue.
    """
    before, turns = row.turns("prompt", _TURN)
    if before.strip() or not turns or turns[-1]["content"].strip():
        return None
    roles = [turn["role"] for turn in turns]
    if roles != ["user", "assistant"] * (len(roles) // 2) or not turns[-2]["content"].strip():
        return None
    return turns[:-1]


SOURCE = Source(
    title="Nectar",
    licence="Apache 2.0 (not to be used to compete with OpenAI; a non-commercial research preview)",
    citation=(
        "Zhu, Frick, Wu, Zhu and Jiao (2023), Starling-7B: Improving LLM Helpfulness & "
        "Harmlessness with RLAIF, https://starling.cs.berkeley.edu"
    ),
    published="https://huggingface.co/datasets/berkeley-nest/Nectar",
    files="data/rlaif.parquet",
    columns={"rankings": ("prompt", "answers", "num_responses", "good_natured")},
    holds=("rankings", "annotators"),
    gives=(
        "prompts with up to seven answers ranked by GPT-4, 1 the best, for harmlessness first and "
        "then helpfulness; no person judged, and the order in which GPT-4 saw the answers is not "
        "published"
    ),
    examples=_read,
)
