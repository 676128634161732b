"""PandaLM's test set: three people compare two answers to an instruction."""

from __future__ import annotations

from typing import Final

from hidden_context.data.collections.source import Examples, Published, Source, user

_ANNOTATORS: Final = ("annotator1", "annotator2", "annotator3")
_PREFERENCES: Final = (0.5, 1.0, 0.0)  # preference for the first answer by vote: 0, 1 or 2


def _read(files: Published) -> Examples:
    """Read each pair with the votes of three people; a vote of 0 is a tie.

    The prompt is the instruction, followed by a blank line and the input if there is one.
    """
    for row in files.rows("pairs"):
        votes = {name: _PREFERENCES[row.level(name, 0, 2)] for name in _ANNOTATORS}
        prompt, given = row.text("instruction"), row.get("input")
        if given not in (None, "") and given == given:  # NaN in the published file
            prompt = f"{prompt}\n\n{row.text('input')}"
        yield row.example(
            prompt=user(prompt),
            responses=row.texts("response1", "response2"),
            judgements=[
                {"annotator": name, "comparison": [0, 1], "preference": vote}
                for name, vote in votes.items()
            ],
            item=row.get("idx"),
            **row.kept("motivation_app", "cmp_key"),
        )


SOURCE = Source(
    title="PandaLM test set",
    licence="Apache 2.0",
    citation=(
        "Wang, Yu, Yao, Zeng, Yang, Wang, Chen, Jiang, Xie, Wang, Xie, Ye, Zhang and Zhang (2024), "
        "PandaLM: An Automatic Evaluation Benchmark for LLM Instruction Tuning Optimization, ICLR"
    ),
    published="https://github.com/WeOpenML/PandaLM",
    files="data/testset-v1.json; the files of judgements by models have no annotators",
    columns={"pairs": ("instruction", "input", "response1", "response2", *_ANNOTATORS)},
    holds=("comparisons", "ties", "annotators"),
    gives=(
        "pairs of answers to 999 instructions, with a vote or a tie by each of three annotators, "
        "who have the names of their columns; pairs with much disagreement were left out before "
        "publication; the application of the instruction, and the two models (cmp_key, the first "
        "answer's first), as columns"
    ),
    examples=_read,
)
