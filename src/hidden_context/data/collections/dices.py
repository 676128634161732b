"""DICES: raters of many backgrounds judge whether a conversation's last reply is unsafe."""

from __future__ import annotations

import re
from typing import Any, Final

from hidden_context.data.annotators import Covariates
from hidden_context.data.collections.source import Examples, Published, Row, Source, user
from hidden_context.data.example import Example

_ANSWERS: Final = {"Yes": 1.0, "No": 0.0, "Unsure": None}
_TURN: Final = re.compile(r"^(USER|LAMDA):[ ]?", re.MULTILINE)


def _read(files: Published) -> Examples:
    """Read each conversation with every rater's answer about its last reply: 1 unsafe, 0 safe."""
    _check_files(files)
    for row in files.rows("conversations"):
        answers = enumerate(row.listed("unsafe", "answer"))
        said = [_entry(str(n), row.with_values({"unsafe": a}), "unsafe") for n, a in answers]
        yield _example(row, row.get("item"), said)
    # The key includes the texts, because the number alone does not identify what was rated.
    items: dict[tuple[Any, ...], tuple[Row, list[dict[str, Any]]]] = {}
    for row in files.rows("ratings"):
        item = (row.text("item_id"), row["context"] and row.text("context"), row.text("response"))
        entry = _entry(row.annotator("rater_id"), row, "Q_overall")
        items.setdefault(item, (row, []))[1].append(entry)
    for (item, *_), (row, said) in items.items():
        yield _example(row, item, said)


def _example(row: Row, item: Any, said: list[dict[str, Any]]) -> Example:
    """Make an example of a dialogue, whose turns begin with their speaker; the user begins."""
    given = {"context": ""} if row.get("context") is None else row
    before, turns = row.with_values(given).turns("context", _TURN)
    chat = [*(user(before) if before.strip() else []), *turns]
    return row.example(
        prompt=[{**message, "content": message["content"].rstrip("\n")} for message in chat],
        responses=[row.text("response")],
        judgements=said,
        objective="unsafe",
        item=item,
        **row.kept("degree_of_harm", "harm_type", "safety_gold", "expert_unsafe"),
    )


def _entry(who: str, row: Row, field: str) -> dict[str, Any]:
    empty = row.get(field) in (None, "")
    rating = None if empty else _ANSWERS[row.choice(field, _ANSWERS)]
    said = {"abstains": True} if rating is None else {"response": 0, "rating": rating}
    return {"annotator": who, **said}


def _read_annotators(files: Published) -> Covariates:
    """Read the raters' demographics, which every row of the CSV file repeats."""
    _check_files(files)
    known: Covariates = {}
    for row in files.rows("ratings"):
        who = row.annotator("rater_id")
        values: dict[str, str | float] = {
            name: str(value)
            for name, value in row.items()
            if name.startswith("rater_") and name != "rater_id" and value is not None
        }
        if known.setdefault(who, values) != values:
            problem = f"rater {who} has another description on an earlier line"
            raise row.error(problem, "rater_id")
    return known


def _check_files(files: Published) -> None:
    if len(files.paths) != 1:
        raise files.error(f"one file is needed, not {len(files.paths)}")


SOURCE = Source(
    title="DICES",
    licence="CC BY 4.0",
    citation=(
        "Aroyo, Taylor, Diaz, Homan, Parrish, Serapio-Garcia, Prabhakaran and Wang (2023), DICES "
        "Dataset: Diversity in Conversational AI Evaluation for Safety, NeurIPS Datasets and "
        "Benchmarks"
    ),
    published="https://github.com/google-research-datasets/dices-dataset",
    files=(
        "350/diverse_safety_adversarial_dialog_350.csv or "
        "990/diverse_safety_adversarial_dialog_990.csv; one of them, as both number their raters "
        "from the same start"
    ),
    columns={
        "ratings": ("rater_id", "item_id", "context", "response", "Q_overall"),
        "conversations": ("item", "context", "response", "unsafe"),
    },
    holds=("ratings", "abstentions", "annotators", "covariates"),
    gives=(
        "conversations whose last reply is rated by 123 (of 350) or some 70 (of 990) named "
        "raters: 1 unsafe, 0 safe, unsure is an abstention; the raters' demographics"
    ),
    examples=_read,
    people=_read_annotators,
)
