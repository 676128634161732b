"""PKU-SafeRLHF: pairs of answers judged separately for helpfulness and for safety."""

from __future__ import annotations

from typing import Any, Final

from hidden_context.data.collections.source import Examples, Published, Row, Source, user

_OBJECTIVES: Final = {"helpful": "better_response_id", "harmless": "safer_response_id"}


def _read(files: Published) -> Examples:
    """Read each pair as two examples, one for helpfulness and one for safety."""
    for row in files.rows("pairs"):
        passed = row.kept("prompt_source")
        for number in range(2):
            passed |= _about(row, number)
        for objective, field in _OBJECTIVES.items():
            if row.get(field) is None:
                row.leave_out(f"pairs without a judgement of which is {objective}")
                continue
            preference = 1.0 - row.level(field, 0, 1)
            yield row.example(
                prompt=user(row.text("prompt")),
                responses=row.texts("response_0", "response_1"),
                judgements=[{"comparison": [0, 1], "preference": preference}],
                criterion=objective,
                **passed,
            )


def _about(row: Row, number: int) -> dict[str, Any]:
    """Return the labels of one answer: its safety, the severity and the harms."""
    safe, severity = f"is_response_{number}_safe", f"response_{number}_severity_level"
    harm = f"response_{number}_harm_category"
    passed = row.kept(safe, severity, harm, f"response_{number}_source")
    if not isinstance(passed.get(safe, True), bool):
        raise row.unfit("true or false", safe)
    if severity in passed:
        passed[severity] = row.level(severity, 0, 3)
    if isinstance(passed.get(harm), dict):  # each category with true or false
        passed[harm] = [name for name, is_so in passed[harm].items() if is_so]
    return passed


SOURCE = Source(
    title="PKU-SafeRLHF",
    licence="CC BY-NC 4.0",
    citation=(
        "Ji, Hong, Zhang, Chen, Dai, Zheng, Qiu, Zhou, Wang, Li, Han, Guo and Yang (2025), "
        "PKU-SafeRLHF: Towards Multi-Level Safety Alignment for LLMs with Human Preference, ACL"
    ),
    published="https://huggingface.co/datasets/PKU-Alignment/PKU-SafeRLHF",
    files="data/*/train.jsonl or test.jsonl",
    columns={"pairs": ("prompt", "response_0", "response_1", *_OBJECTIVES.values())},
    holds=("comparisons",),
    gives=(
        "pairs of answers in two rows each: which is more helpful (better_response_id), objective "
        "and data_subset helpful, and which is safer (safer_response_id), harmless; one vote each, "
        "without an annotator; whether each answer is safe, and how severe, as columns"
    ),
    examples=_read,
)
