"""The start of a probe: a logistic regression, converted to raw outputs of the head."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional

from hidden_context.baselines import LogisticRegression, VotedPairs, fit_linear
from hidden_context.heads import Head
from hidden_context.models.frozen import Probe
from hidden_context.training.config import FrozenOptions
from hidden_context.training.frozen.features import FeatureSet

# This many pairs determine two numbers for each raw output well enough.
_MOST_PAIRS: Final = 4096
_MOST_STEPS: Final = 100


class LinearStart:
    r"""Linear reward :math:`w\cdot x`, and the head's raw outputs that follow it.

    .. math:: \text{raw} = a + b\,(w\cdot x)

    w is a logistic regression of the votes. a and b are two numbers for each raw output. They bring
    the head's P(first preferred) as near to the regression's probability as the head can come, so
    every head starts from the same predictions. In training, a member's linear part comes from the
    member's own data. The part that the member ends with, which is kept here, comes from all data.

    Args:
        head: The head of one member.
        pairs: The training pairs, by whose groups the penalty is chosen.
    """

    def __init__(self, head: Head, pairs: VotedPairs) -> None:
        self.baseline = fit_linear("logistic", pairs)
        level = torch.from_numpy(pairs.features @ self.baseline.weights)
        self.start, self.along = read_as_raw(head, level, pairs)
        self.parts = list[tuple[Tensor, Tensor]]()  # the slope and start that members end with

    def slope(self, pairs: VotedPairs | None = None) -> Tensor:
        """Return the slope of each raw output, ``(K, D)``, fitted on ``pairs`` if given."""
        weights = self.baseline.weights
        if pairs is not None:
            weights = LogisticRegression(pairs).fit(self.baseline.penalty or 1.0)
        return torch.outer(self.along, torch.from_numpy(weights).to(self.along))

    @classmethod
    def of(cls, config: FrozenOptions, probe: Probe, train: FeatureSet) -> LinearStart | None:
        """Fit the start; None if it is switched off, or the labels are not comparisons alone."""
        if not config.probe_linear or len(train.labels.ratings) or train.linker is not None:
            return None
        pairs = train.voted_pairs(train.features, train.labels.weight)
        return None if pairs is None else cls(probe.head.member, pairs)

    def beside(
        self, network: nn.Module, train: FeatureSet, judged: Tensor, drawn: Tensor | None
    ) -> nn.Module:
        """Add the linear part of a member's own training pairs to its network."""
        weight = train.weight(drawn)
        own, every = (train.voted_pairs(train.features, weight, to) for to in (judged, None))
        self.parts.append((self.slope(every if drawn is not None else None), self.start))
        assert isinstance(network, nn.Sequential)
        return Beside(network, self.slope(own), self.start)

    def give(self, probe: Probe) -> None:
        """Give the probe its final linear part: one for all members, or one for each member."""
        slopes, starts = zip(*self.parts[: probe.head.num_members or 1], strict=True)
        probe.slope, probe.start = torch.cat(slopes), torch.cat(starts)


def read_as_raw(head: Head, level: Tensor, pairs: VotedPairs) -> tuple[Tensor, Tensor]:
    """Find raw outputs a + b·level that predict the same as a logistic regression.

    Args:
        head: The head.
        level: Linear reward of each response, of shape ``(R,)``.
        pairs: The pairs that are looked at.

    Returns:
        a and b, float32 of shape ``(K,)`` each.
    """
    chosen = torch.linspace(0, len(pairs) - 1, min(len(pairs), _MOST_PAIRS)).long()
    first, second = (level[torch.from_numpy(side)[chosen]] for side in (pairs.first, pairs.second))
    share = torch.sigmoid(first - second)
    both = torch.zeros((2, head.num_outputs), dtype=torch.float64, requires_grad=True)

    def loss() -> Tensor:
        one, other = (both[0] + both[1] * side.unsqueeze(-1) for side in (first, second))
        forward, backward = head.log_prob_preferred(one, other), head.log_prob_preferred(other, one)
        return -(share * forward + (1 - share) * backward).mean()

    minimise([both], loss, _MOST_STEPS)
    found = both.detach().float()
    return found[0], found[1]


def minimise(parameters: Iterable[Tensor], loss: Callable[[], Tensor], steps: int) -> None:
    """Minimise a loss by L-BFGS, in at most so many steps."""
    optimizer = torch.optim.LBFGS(parameters, max_iter=steps, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        found = loss()
        found.backward()
        return found.detach()

    optimizer.step(closure)


def silence(network: nn.Module) -> dict[str, Tensor]:
    """Set a network's output layer to zero, and return its values from before."""
    assert isinstance(network, nn.Sequential)
    before = {n: value.detach().clone() for n, value in network[-1].state_dict().items()}
    with torch.no_grad():
        for parameter in network[-1].parameters():
            parameter.zero_()
    return before


class Beside(nn.Module):
    """A network plus a fixed linear part.

    Args:
        network: The network, whose last layer gives raw outputs.
        slope: Slope of each raw output, of shape ``(K, D)``.
        start: Raw outputs at features of 0, of shape ``(K,)``.
    """

    def __init__(self, network: nn.Sequential, slope: Tensor, start: Tensor) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("slope", slope)
        self.register_buffer("start", start)

    def forward(self, features: Tensor) -> Tensor:
        """Map standardised features ``(…, D)`` to raw outputs ``(…, K)``."""
        linear = functional.linear(features, self.get_buffer("slope"), self.get_buffer("start"))
        return linear + self.network(features)
