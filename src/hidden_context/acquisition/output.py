"""Writes questions for labelling tools."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hidden_context.acquisition.results import Question
from hidden_context.data.dialogue import to_text
from hidden_context.data.files import write_json, write_jsonl


def write_questions(path: str | Path, questions: Sequence[Question], format: str) -> None:
    """Write questions whole or not at all.

    Args:
        path: The file.
        questions: The questions, in order.
        format: ``jsonl``, or ``label_studio`` for one JSON list of tasks.

    Raises:
        StorageError: If the file cannot be written.
    """
    if format == "label_studio":
        write_json(path, [label_studio_task(question) for question in questions])
    else:
        write_jsonl(path, (question.to_dict() for question in questions))


def label_studio_task(question: Question) -> dict[str, Any]:
    """Write a question as a task of Label Studio.

    What a labelling configuration shows stands in ``data``: ``$prompt``, and ``$response1`` and
    ``$response2`` of a pair or ``$text`` of a rated text. The rest goes along in ``meta``, where
    annotators do not see it.

    Args:
        question: The question.

    Returns:
        The task.
    """
    data: dict[str, Any] = {"prompt": to_text(question.prompt)}
    texts = [to_text(response) for response in question.responses]
    if len(texts) == 1:
        data["text"] = texts[0]
    else:
        data |= {f"response{number}": text for number, text in enumerate(texts, start=1)}
    row = question.to_dict()
    meta = {name: value for name, value in row.items() if name not in ("prompt", "responses")}
    return {"data": {**data, "item": question.item}, "meta": meta}
