"""What a configuration wants learned beside the network, and how its data are labelled for it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Final

import torch
from torch import Tensor

from hidden_context import heads
from hidden_context.data.labels import annotator_names
from hidden_context.data.preferences import Preference
from hidden_context.errors import ConfigError, DataError
from hidden_context.heads import FactorHead, Head
from hidden_context.heads.registry import options_for
from hidden_context.objectives import AnnotatorEmbeddings, Objective, Outcomes
from hidden_context.objectives.annotators import Inference
from hidden_context.training.config import TrainConfig

_LEVELS: Final = {"preference": 2, "ties": 3, "five_levels": 5, "seven_levels": 7}


def make_head(config: TrainConfig) -> Head:
    """Make the head that a configuration names, from those of its options that the head has.

    An ensemble of heads is made where one is asked for, and for a probe of several members whose
    raw outputs cannot be averaged.

    Raises:
        ConfigError: If the head, or an option of it, is unknown or cannot work.
    """
    kind = config.reward_model_type
    options = options_for(kind, dataclasses.asdict(config))
    head = heads.make(kind, **{**options, **config.head_options})
    members = config.probe_members if config.freeze_backbone else config.ensemble_members
    apart = config.freeze_backbone and members > 1 and not head.can_average
    if config.ensemble == "heads" or (apart and not isinstance(head, heads.EnsembleHead)):
        return heads.EnsembleHead(head, members, config.ensemble_prior_scale)
    return head


def make_objective(config: TrainConfig, head: Head, preferences: Sequence[Preference]) -> Objective:
    """Make the untrained objective of a configuration.

    Args:
        config: The options.
        head: The head.
        preferences: Training pairs, which say who the annotators are.

    Returns:
        The objective, on the CPU.

    Raises:
        ConfigError: If head and options do not fit together.
        DataError: If annotators are to be learned and none is named.
    """
    count = head.members[1]
    annotators = None
    if config.annotators != "ignore":
        annotators = _make_annotators(config, config.annotators, head, preferences)
    outcomes = Outcomes(_LEVELS[config.outcomes], count, config.margin_scale)
    return Objective(head, outcomes, annotators, config.anchor_weight)


def _make_annotators(
    config: TrainConfig, inference: Inference, head: Head, preferences: Sequence[Preference]
) -> AnnotatorEmbeddings:
    member, count = head.members
    if not isinstance(member, FactorHead) or not member.num_factors:
        raise ConfigError(
            f"--annotators {inference} needs --reward_model_type factor with "
            f"--num_factors of at least 1, not a {member.type} head."
        )
    names = annotator_names(preferences, config.annotator_column)
    if not names:
        raise DataError(
            "no training pair says who judged it",
            field=config.annotator_column,
            remedy="Name the column with --annotator_column, or leave --annotators out",
        )
    return AnnotatorEmbeddings(
        names, member.num_factors, count, inference, config.seed, config.annotator_column
    )


def check_labels(config: TrainConfig, preferences: Sequence[Preference]) -> None:
    """Refuse options whose labels no pair has: nothing would be learned by them.

    Raises:
        DataError: If no pair has a strength, margin or rating where they are asked for.
    """
    wanted: list[tuple[bool, str, str, Callable[[Preference], bool]]] = [
        (
            config.outcomes in ("five_levels", "seven_levels"),
            f"--outcomes {config.outcomes}",
            "strength",
            lambda pair: any(said.strength is not None for said in pair.annotations),
        ),
        (
            config.margin_scale > 0,
            f"--margin_scale {config.margin_scale:g}",
            "margin",
            lambda pair: any(said.margin is not None for said in pair.annotations),
        ),
        (
            config.anchor_weight > 0,
            f"--anchor_weight {config.anchor_weight:g}",
            "rating_chosen",
            lambda pair: pair.rating_chosen is not None or pair.rating_rejected is not None,
        ),
    ]
    for asked, option, field, has_it in wanted:
        if asked and not any(has_it(pair) for pair in preferences):
            raise DataError(
                f"no training pair has what {option} learns from",
                field=field,
                remedy=f"Add the column {field!r}, or leave the option out",
            )


def prior_weight(warmup: float, progress: float) -> float:
    """Weight of the annotators' prior, rising from 0 to 1 over the warm-up.

    Where annotators and loadings are both small, each learns only as fast as the other is large,
    and the prior would shrink the annotators before they are told apart.

    Args:
        warmup: Share of training that is warm-up.
        progress: Share of training that is done, in [0, 1].

    Returns:
        A number in [0, 1].

    Source: KL annealing of Bowman et al. (2016).
    """
    return 1.0 if progress >= warmup else progress / warmup


def member_weights(
    config: TrainConfig, head: Head, preferences: Sequence[Preference]
) -> Tensor | None:
    """Draw how often each member of an ensemble sees each pair: a bootstrap by prompt.

    Args:
        config: ``ensemble_bootstrap`` and the seed.
        head: The head.
        preferences: N training pairs.

    Returns:
        Poisson counts of shape ``(N, M)``, the same for all pairs of a prompt; None for once each.
    """
    count = head.members[1]
    if not isinstance(head, heads.EnsembleHead) or not config.ensemble_bootstrap:
        return None
    place: dict[str, int] = {}
    prompts = [place.setdefault(pair.prompt_key, len(place)) for pair in preferences]
    generator = torch.Generator().manual_seed(config.seed + 7919)
    return torch.poisson(torch.ones(len(place), count), generator)[torch.tensor(prompts)]
