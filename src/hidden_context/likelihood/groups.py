"""Groups of annotators: each group's value of a reward, and the worst-off group."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from hidden_context.distributions import RewardDistribution
from hidden_context.errors import ConfigError
from hidden_context.likelihood.annotators import AnnotatorNames
from hidden_context.likelihood.base import Likelihood
from hidden_context.likelihood.labels import UNKNOWN

Groups = Mapping[str, Sequence[object]]


def check_groups(likelihood: Likelihood, groups: Groups) -> AnnotatorNames:
    """Check that a model knows every annotator of every group.

    Args:
        likelihood: The model's likelihood.
        groups: Annotators' names by group.

    Returns:
        The annotators.

    Raises:
        ConfigError: If the model has learned no annotators, there is no group, or a group is empty,
            names an annotator twice, or one that the model does not know.
    """
    likelihood.check_annotators()
    known = likelihood.names
    if not groups:
        raise ConfigError("there are no groups; give at least one group of annotators.")
    for group, members in groups.items():
        names = [str(member) for member in members]
        if not names:
            raise ConfigError(f"the group {group!r} holds no annotator.")
        if len(set(names)) < len(names):
            twice = sorted({name for name in names if names.count(name) > 1})
            raise ConfigError(f"the group {group!r} names {', '.join(twice)} more than once.")
        unknown = [name for name in names if known.index(name) == UNKNOWN]
        if unknown:
            raise ConfigError(
                f"the group {group!r} has annotators that the model does not know: "
                f"{', '.join(unknown)}."
            )
    return known


def group_values(
    likelihood: Likelihood,
    rewards: RewardDistribution,
    groups: Groups,
    measure: Callable[[RewardDistribution], Tensor],
) -> dict[str, Tensor]:
    r"""Return the mean of a measure over each group's annotators.

    .. math:: v_g = \frac1{|g|}\sum_{u \in g} \rho\bigl(r \mid u\bigr)

    with :math:`r \mid u` the rewards as annotator u would give them (``Likelihood.rewards_of``).

    Args:
        likelihood: The model's likelihood.
        rewards: What its head's ``distribution`` gave, of any batch shape.
        groups: Annotators' names by group; one may be in several.
        measure: ρ, a risk measure; a relative one takes the last batch dimension as that of the
            candidates.

    Returns:
        Per group a value of the batch shape, in reward units.

    Raises:
        ConfigError: If ``check_groups`` refuses the groups, the rewards are not the model's, or the
            measure cannot be taken of them.
    """
    check_groups(likelihood, groups)
    return {
        group: measure(likelihood.rewards_by_annotator(rewards, members)).mean(0)
        for group, members in groups.items()
    }


def worst_group(values: Mapping[str, Tensor]) -> Tensor:
    r"""Return the value for the worst-off group, :math:`\min_g v_g`.

    The response with the largest such value is the max-min choice: it serves the worst-off group
    best.

    Args:
        values: Per group a value in reward units, all of one shape, as ``group_values`` gave them.

    Returns:
        The least, of that shape.

    Raises:
        ConfigError: If there is no group.

    Source: max-min of Rawls (1971); MaxMin-RLHF (Chakraborty et al., 2024) for reward models.
    """
    if not values:
        raise ConfigError("there are no groups; give at least one group of annotators.")
    return torch.stack(list(values.values())).amin(0)
