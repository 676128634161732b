"""Collective Alignment 1: four answers ranked by personal taste and by what is best for all."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from hidden_context.data.annotators import Covariates
from hidden_context.data.collections.source import Examples, Messages, Published, Row, Source

_ROLES: Final = {
    "developer": "system",  # as system messages were renamed for the release
    **{role: role for role in ("system", "user", "assistant")},
}
_ABOUT: Final = (
    *("age", "gender", "education_level", "country_of_residence", "generative_ai_usage"),
    "ai_concern_level",
)


def _read(files: Published) -> Examples:
    """Read each prompt twice: with the personal rankings, and with the rankings for the world.

    Only some annotators were asked for a personal ranking and for unacceptable answers. An empty
    list means that the question was not asked. Unacceptable answers pass through.
    """
    if not files.of_kind["comparisons"]:
        raise files.error("the files hold annotators but no prompts", files.paths[0])
    for row in files.rows("comparisons", once="prompt_id"):
        prompt = _messages(row.object("prompt"))
        answers = {
            answer.text("response_index").strip(): _messages(answer)
            for answer in row.entries("responses")
        }
        if len(answers) < len(row["responses"]):
            raise row.error("two answers have the same 'response_index'", "responses")
        said = list(row.object("metadata").entries("assessments"))
        for objective in ("personal", "world"):
            rankings = [r for one in said for r in _rankings(one, objective, tuple(answers))]
            if not rankings:
                row.leave_out(f"prompts without a {objective} ranking")
                continue
            yield row.example(
                prompt=prompt,
                responses=list(answers.values()),
                judgements=rankings,
                criterion=objective,
                item=row["prompt_id"],
            )


def _rankings(said: Row, objective: str, names: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Yield the rankings of one assessment by one objective, if it was asked for."""
    who, blocks = said.annotator("annotator_id"), said.object("ranking_blocks")
    if blocks.get(objective) in (None, []):
        said.leave_out(f"assessments without a {objective} ranking")
        return
    unacceptable = _unacceptable(blocks)
    about = said.kept("importance", "representativeness", "subjectivity")
    for block in blocks.entries(objective):
        ranks = _ranks_of(block.text("ranking"), names)
        if ranks is None:
            said.leave_out("rankings that are not an order of the answers")
            continue
        yield {
            "annotator": who,
            "ranks": ranks,
            **{name: _plain(value) for name, value in about.items()},
            **block.kept("rationale"),
            **({"unacceptable": unacceptable} if unacceptable else {}),
        }


def _ranks_of(order: str, names: Sequence[str]) -> list[int | None] | None:
    """Read an order such as ``B>A=C``, the best first; a missing answer has no rank.

    Returns:
        The rank of each answer, 1 the best; None if the text names something else, an answer twice,
        or fewer than two answers.
    """
    ranks: dict[str, int] = {}
    for rank, group in enumerate(order.split(">"), start=1):
        for name in (part.strip() for part in group.split("=")):
            if name not in names or name in ranks:
                return None
            ranks[name] = rank
    return [ranks.get(name) for name in names] if len(ranks) > 1 else None


def _unacceptable(blocks: Mapping[str, Any]) -> list[str]:
    """List the statements about unacceptable answers as published."""
    said: list[str] = []
    for block in blocks.get("unacceptable") or ():
        rating = block.get("rating") if isinstance(block, Mapping) else None
        said += [rating] if isinstance(rating, str) else rating or ()
    return said


def _messages(holder: Row) -> Messages:
    return [
        {"role": _ROLES[message.choice("role", _ROLES)], "content": message.text("content")}
        for message in holder.entries("messages")
    ]


def _plain(value: Any) -> Any:
    """Return a text in plain letters, because scale labels are published in mathematical bold."""
    return unicodedata.normalize("NFKC", value) if isinstance(value, str) else value


def _read_annotators(files: Published) -> Covariates:
    """Read the annotators' demographics, without their texts about an ideal model."""
    known: Covariates = {}
    for row in files.rows("annotators"):
        who, told = row.annotator("annotator_id"), row.object("demographics")
        plain = {name: _plain(told.get(name)) for name in _ABOUT}
        values = row.with_values(plain).known(*_ABOUT)
        for name, value in values.items():
            if not isinstance(value, (str, int, float)) or isinstance(value, bool):
                raise told.unfit("text or a number", name)
        if known.setdefault(who, values) != values:
            raise row.error(f"{who!r} has other demographics on an earlier row", "demographics")
    return known


SOURCE = Source(
    title="Collective Alignment 1 (CoVal)",
    licence="CC BY 4.0",
    citation=(
        "OpenAI (2025), Collective alignment: public input on our Model Spec, "
        "https://openai.com/index/collective-alignment-aug-2025-updates"
    ),
    published="https://huggingface.co/datasets/openai/collective-alignment-1",
    files=(
        "comparisons.jsonl, and for what is known of the annotators annotators.jsonl or "
        "merged_comparisons_annotators.jsonl"
    ),
    columns={
        "comparisons": ("prompt_id", "prompt", "responses", "metadata"),
        "annotators": ("annotator_id", "demographics"),
    },
    holds=("rankings", "ties", "annotators", "covariates"),
    gives=(
        "rankings of four answers, ties included, by about 1,000 named annotators: all rank by "
        "what is best for the world, some by personal taste too; world and personal have a row "
        "each: choose one with --data_subset personal; rationales, and which answers are "
        "unacceptable, pass through; demographics of each annotator"
    ),
    examples=_read,
    people=_read_annotators,
)
