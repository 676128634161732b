"""HelpSteer3: pairs in many languages, each compared in seven levels by up to three people."""

from __future__ import annotations

from hidden_context.data.collections.helpsteer2 import strength_entry
from hidden_context.data.collections.source import Examples, Published, Source


def _read(files: Published) -> Examples:
    """Read each pair with the preference of each person."""
    for row in files.rows("preference"):
        people = row.entries_or_none("individual_preference")
        if not people:
            row.leave_out("rows without a preference of any person")
            continue
        yield row.example(
            prompt=row.listed("context", "message"),
            responses=row.texts("response1", "response2"),
            judgements=[
                {**strength_entry(one, "score"), **one.kept("reasoning")} for one in people
            ],
            **row.kept("domain", "language", "overall_preference"),
        )


SOURCE = Source(
    title="HelpSteer3-Preference",
    licence="CC BY 4.0",
    citation=(
        "Wang, Zeng, Delalleau, Shin, Soares, Bukharin, Evans, Dong and Kuchaiev (2025), "
        "HelpSteer3-Preference: Open Human-Annotated Preference Data across Diverse Tasks and "
        "Languages, arXiv:2505.11475"
    ),
    published="https://huggingface.co/datasets/nvidia/HelpSteer3",
    files="preference/train.jsonl.gz and preference/validation.jsonl.gz",
    columns={"preference": ("context", "response1", "response2", "individual_preference")},
    holds=("comparisons", "ties"),
    gives=(
        "pairs of answers with the strength (-3 to 3) that each of up to three unnamed annotators "
        "gave, ties included; the domain and language of each pair"
    ),
    examples=_read,
)
