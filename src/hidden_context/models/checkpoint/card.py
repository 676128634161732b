"""The model card that every saved folder gets."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from importlib import resources
from typing import Any

import torch
import yaml

from hidden_context.likelihood import Likelihood, LikelihoodOptions
from hidden_context.likelihood.single import members_of
from hidden_context.models.checkpoint.likelihood_file import LIKELIHOOD_FILE


def model_card(
    likelihood: Likelihood,
    *,
    base_model: str | None,
    max_length: int | None,
    data: Mapping[str, Any] | None = None,
    metrics: Mapping[str, float] | None = None,
    precision: str | None = None,
) -> str:
    """Write a model card in Markdown with the hub's YAML header.

    Args:
        likelihood: The head, and what was learned beside the network.
        base_model: Id or path of the backbone.
        max_length: Longest text in tokens.
        data: Facts about the training data, shown as a list.
        metrics: Metrics on the evaluation set, shown as a table.
        precision: What the backbone computed in while the model was trained.

    Returns:
        The text of ``README.md``.
    """
    from jinja2 import Environment, StrictUndefined

    head = likelihood.head
    header: dict[str, Any] = {
        "library_name": "hidden-context",
        "pipeline_tag": "text-classification",
        "tags": ["reward-model", "distributional-preference-learning", head.type],
    }
    if base_model and "/" in base_model and not base_model.startswith((".", "/")):
        header["base_model"] = base_model
    rewards = head.distribution(torch.zeros(1, head.num_outputs))
    environment = Environment(
        trim_blocks=True, keep_trailing_newline=True, undefined=StrictUndefined
    )
    environment.filters["numbers"] = _numbers
    text = (resources.files(__package__) / "model_card.md.j2").read_text(encoding="utf-8")
    return environment.from_string(text).render(
        header=yaml.safe_dump(header, sort_keys=False).strip(),
        head=head,
        head_json=json.dumps(head.to_dict()),
        base_model=base_model,
        max_length=max_length,
        causes=list(rewards.difference_parts(rewards)),
        options=likelihood.options,
        defaults=LikelihoodOptions(),
        likelihood_file=LIKELIHOOD_FILE,
        members=members_of(likelihood),
        data=data,
        metrics=metrics,
        precision=precision,
    )


def _numbers(members: Iterable[torch.Tensor]) -> str:
    """Format numbers with commas within a member and semicolons between members."""
    return "; ".join(", ".join(f"{value:.3g}" for value in row.tolist()) for row in members)
