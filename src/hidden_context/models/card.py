"""The model card that every saved folder gets."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, Final

import torch
import yaml

from hidden_context.heads import Head
from hidden_context.likelihood import Likelihood, LikelihoodOptions
from hidden_context.models.likelihood_file import LIKELIHOOD_FILE, members_of

_CAUSES: Final = {
    "disagreement": "what people disagree about: each would judge the same again, but not as the "
    "next does",
    "noise": "what one person's judgement varies by from one time to another",
    "unsplit": "disagreement and noise, which this head does not tell apart",
    "epistemic": "what the model does not know: where its members differ. More data would make it "
    "less",
}


def model_card(
    likelihood: Likelihood,
    *,
    base_model: str | None,
    max_length: int | None,
    data: Mapping[str, Any] | None = None,
    metrics: Mapping[str, float] | None = None,
) -> str:
    """Write a model card in Markdown with the hub's YAML header.

    Args:
        likelihood: The head, and what was learned beside the network.
        base_model: Id or path of the backbone.
        max_length: Longest text in tokens.
        data: Facts about the training data, shown as a list.
        metrics: Metrics on the evaluation set, shown as a table.

    Returns:
        The text of ``README.md``.
    """
    head = likelihood.head
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
        *_learned(likelihood),
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


def _learned(likelihood: Likelihood) -> list[str]:
    """List what was learned beside the network."""
    options, members = likelihood.options, members_of(likelihood)
    if options == LikelihoodOptions():
        return []
    each = ", member by member" if len(members) > 1 else ""
    lines = [f"## Learned beside the network (`{LIKELIHOOD_FILE}`)", ""]
    if options.levels > 2:
        kind = "a side or a tie" if options.levels == 3 else f"strengths of {options.levels} levels"
        thresholds = _numbers(member.outcomes.thresholds for member in members)
        lines.append(f"- Answers: {kind}; thresholds in reward units{each}: {thresholds}")
    if options.margin_scale:
        lines.append(f"- Margins: {options.margin_scale:g} reward units per unit of the data's")
    if options.inference is not None:
        lines.append(
            f"- Annotators: {len(options.names)}, by the column `{options.column}` "
            f"({options.inference}; factors: {likelihood.head.num_factors})"
        )
    rated = [member.ratings for member in members if member.ratings is not None]
    if rated and options.ratings == "gaussian":
        noise = _numbers(part.log_noise.exp() for part in rated)
        lines.append(f"- Noise of absolute ratings, in reward units{each}: {noise}")
    elif rated:
        thresholds = _numbers(part.thresholds for part in rated)
        lines.append(
            f"- Ratings: {len(options.grades)} grades; thresholds in reward units{each}: "
            f"{thresholds}"
        )
    if rated and options.styles:
        lines.append(
            f"- Styles of ratings: a level and a unit of each of {len(options.names)} annotators"
        )
    return [*lines, ""]


def _numbers(members: Iterable[torch.Tensor]) -> str:
    """Write numbers: those of a member by commas, the members by semicolons."""
    return "; ".join(", ".join(f"{value:.3g}" for value in row.tolist()) for row in members)
