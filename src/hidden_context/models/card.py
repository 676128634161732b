"""The model card that every saved folder gets."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

import torch
import yaml

from hidden_context.heads import Head
from hidden_context.objectives import Objective

_CAUSES: Final = {
    "disagreement": "what people disagree about: each would judge the same again, but not as the "
    "next does",
    "noise": "what one person's judgement varies by from one time to another",
    "unsplit": "disagreement and noise, which this head does not tell apart",
    "epistemic": "what the model does not know: where its members differ. More data would make it "
    "less",
}


def model_card(
    head: Head,
    *,
    base_model: str | None,
    max_length: int | None,
    data: Mapping[str, Any] | None = None,
    metrics: Mapping[str, float] | None = None,
    objective: Objective | None = None,
) -> str:
    """Write a model card in Markdown with the hub's YAML header.

    Args:
        head: The reward head.
        base_model: Id or path of the backbone.
        max_length: Longest text in tokens.
        data: Facts about the training data, shown as a list.
        metrics: Metrics on the evaluation set, shown as a table.
        objective: What was learned beside the network; None for nothing.

    Returns:
        The text of ``README.md``.
    """
    header: dict[str, Any] = {
        "library_name": "hidden-context",
        "pipeline_tag": "text-classification",
        "tags": ["reward-model", "distributional-preference-learning", head.type],
    }
    if base_model and "/" in base_model and not base_model.startswith((".", "/")):
        header["base_model"] = base_model
    lines = [
        "---",
        yaml.safe_dump(header, sort_keys=False).strip(),
        "---",
        "",
        f"# Reward model with {'an' if head.type[0] in 'aeiou' else 'a'} {head.type} head",
        "",
        "Learns a distribution of reward per response from preference data whose annotators may "
        "disagree (distributional preference learning, arXiv 2312.08358).",
        "",
        f"- Backbone: `{base_model or 'unknown'}`",
        f"- Raw outputs per text: {head.num_outputs} ({head.meaning})",
        f"- Head: `{json.dumps(head.to_dict())}`",
        f"- Longest text: {max_length or 'not limited'} tokens",
        "",
        *_causes(head),
        *_learned(objective),
    ]
    if data:
        lines += ["## Data", "", *(f"- {name}: {value}" for name, value in data.items()), ""]
    if metrics:
        lines += ["## Metrics on the evaluation set", "", "| metric | value |", "|---|---|"]
        lines += [f"| {name} | {value:.4g} |" for name, value in metrics.items()]
        lines += [""]
    lines += [
        "## Use",
        "",
        "```python",
        "from hidden_context import RewardModel, risk",
        "",
        'model = RewardModel.from_pretrained("path/to/this/folder")',
        'rewards = model.score(["\\n\\nHuman: Hello!\\n\\nAssistant: Hello, how can I help?"])',
        "print(rewards.mean, rewards.stddev, risk.parse('quantile:0.01')(rewards))",
        "```",
        "",
        "The unit of reward is not identified by comparisons: compare rewards of different models "
        "after standardising them (`reward_scale` in `reward_head.json`).",
        "",
    ]
    return "\n".join(lines)


def _causes(head: Head) -> list[str]:
    """Say what the causes of variance mean, where the head tells some apart."""
    rewards = head.distribution(torch.zeros(1, head.num_outputs))
    causes = list(rewards.difference_parts(rewards))
    if len(causes) < 2:
        return []
    return [
        "## Causes of variance",
        "",
        "`rewards.difference_parts(others)`, and the shares in the metrics, tell apart",
        "",
        *(f"- {cause}: {_CAUSES[cause]}." for cause in causes),
        "",
    ]


def _learned(objective: Objective | None) -> list[str]:
    """List what was learned beside the network."""
    if objective is None or objective.is_plain:
        return []
    outcomes, known = objective.outcomes, objective.annotators
    lines = ["## Learned beside the network (`objective.json`)", ""]
    if outcomes.levels > 2:
        kind = (
            "a side or a tie" if outcomes.levels == 3 else f"strengths of {outcomes.levels} levels"
        )
        lines.append(
            f"- Answers: {kind}; thresholds in reward units{_by_member(objective)}: "
            f"{_numbers(outcomes.thresholds)}"
        )
    if outcomes.margin_scale:
        lines.append(f"- Margins: {outcomes.margin_scale:g} reward units per unit of the data's")
    if known is not None:
        lines.append(
            f"- Annotators: {len(known.names)}, by the column `{known.column}` ({known.inference}; "
            f"factors: {known.num_factors})"
        )
    if objective.anchor_weight:
        lines.append(
            f"- Noise of absolute ratings, in reward units{_by_member(objective)}: "
            f"{_numbers(objective.log_rating_noise.exp())}"
        )
    return [*lines, ""]


def _by_member(objective: Objective) -> str:
    return ", member by member" if objective.num_members > 1 else ""


def _numbers(values: torch.Tensor) -> str:
    """Write ``(M, N)`` numbers: those of a member by commas, the members by semicolons."""
    return "; ".join(", ".join(f"{value:.3g}" for value in row) for row in values.tolist())
