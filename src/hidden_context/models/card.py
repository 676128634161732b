"""The model card that every saved folder gets."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import yaml

from hidden_context.heads import Head

_MEANING = {
    "base": "one reward per text; P(a preferred to b) = sigmoid(r_a - r_b)",
    "mean_and_variance": "mean, and standard deviation before softplus, of a normal reward",
    "categorical": "logits of the probabilities of rewards evenly spaced from 0 to 1",
}


def model_card(
    head: Head,
    *,
    base_model: str | None,
    max_length: int | None,
    data: Mapping[str, Any] | None = None,
    metrics: Mapping[str, float] | None = None,
) -> str:
    """Write a model card in Markdown with the hub's YAML header.

    Args:
        head: The reward head.
        base_model: Id or path of the backbone.
        max_length: Longest text in tokens.
        data: Facts about the training data, shown as a list.
        metrics: Metrics on the evaluation set, shown as a table.

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
        f"# Reward model with a {head.type} head",
        "",
        "Learns a distribution of reward per response from preference data whose annotators may "
        "disagree (distributional preference learning, arXiv 2312.08358).",
        "",
        f"- Backbone: `{base_model or 'unknown'}`",
        f"- Raw outputs per text: {head.num_outputs} ({_MEANING.get(head.type, head.type)})",
        f"- Head: `{json.dumps(head.to_dict())}`",
        f"- Longest text: {max_length or 'not limited'} tokens",
        "",
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
