"""The four networks of the synthetic experiments and their likelihoods of a comparison.

Every network has four linear layers with ReLU between them; the categorical one normalises its
hidden layers by batch. ``Learner.log_prob_preferred`` takes both alternatives of all pairs through
the network in one forward pass of twice the batch.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from hidden_context import heads
from hidden_context.distributions import CategoricalReward, NormalReward, RewardDistribution
from hidden_context.distributions.log_space import Likelihood
from hidden_context.synthetic.arithmetic import Arithmetic
from hidden_context.synthetic.training_pass import training_pass
from hidden_context.worlds.grids import Environment

NUM_LAYERS = 4
LOG_STDDEV_SHIFT = 2.0
"""σ = exp(raw − 2): networks start at a standard deviation of about 0.14 reward units."""

LEARNERS = ("base", "mean_and_stddev", "categorical", "classifier")


class Perceptron(nn.Sequential):
    """A sequence of layers; ``arithmetic`` only changes how training passes compute.

    Evaluation, parameters and state dict always come from the layers.

    Attributes:
        arithmetic: Precision of the hidden layers in training mode; None for layer by layer.
    """

    arithmetic: Arithmetic | None = None

    def forward(self, inputs: Tensor) -> Tensor:
        """Apply the layers in turn, ``(B, inputs) -> (B, outputs)``."""
        if self.training and self.arithmetic is not None:
            return training_pass(self, inputs, self.arithmetic)
        outputs: Tensor = super().forward(inputs)
        return outputs


def perceptron(inputs: int, outputs: int, width: int, batch_norm: bool = False) -> Perceptron:
    """Build a multilayer perceptron of four linear layers.

    Args:
        inputs: The number of coordinates of the input.
        outputs: The number of outputs.
        width: Width of the three hidden layers.
        batch_norm: Whether each hidden layer is normalised by batch before its ReLU.

    Returns:
        The network, ``(B, inputs) -> (B, outputs)``.
    """
    layers: list[nn.Module] = []
    for _ in range(NUM_LAYERS - 1):
        layers.append(nn.Linear(inputs, width))
        if batch_norm:
            layers.append(nn.BatchNorm1d(width))
        # In place: neither the linear layer nor batch norm needs its own output for its gradient.
        layers.append(nn.ReLU(inplace=True))
        inputs = width
    layers.append(nn.Linear(inputs, outputs))
    return Perceptron(*layers)


class Learner(nn.Module, ABC):
    """A network with its training likelihood."""

    def __init__(self, network: Perceptron) -> None:
        super().__init__()
        self.network = network

    @abstractmethod
    def log_prob_preferred(self, first: Tensor, second: Tensor, prefer_second: Tensor) -> Tensor:
        """Return the log-probability of the annotators' answers.

        Args:
            first: First alternatives, ``(B, d)``.
            second: Second alternatives, ``(B, d)``.
            prefer_second: Which of the two was preferred, ``(B,)`` bool.

        Returns:
            Log-probabilities, ``(B,)``, in nats.
        """


class RewardLearner(Learner):
    """A network that gives each alternative its own reward.

    Args:
        network: The network, with K outputs.
        distribution: Reads its raw outputs ``(..., K)`` as rewards of batch shape ``(...)``.
    """

    def __init__(
        self, network: Perceptron, distribution: Callable[[Tensor], RewardDistribution]
    ) -> None:
        super().__init__(network)
        self.distribution = distribution

    def compare(self, raw_chosen: Tensor, raw_rejected: Tensor) -> Tensor:
        """Return the log-probability of the choice, ``(B, K), (B, K) -> (B,)``, in nats."""
        return self.distribution(raw_chosen).log_prob_greater(self.distribution(raw_rejected))

    def log_prob_preferred(self, first: Tensor, second: Tensor, prefer_second: Tensor) -> Tensor:
        """Return the log-probabilities from one forward pass over chosen and rejected together.

        Batch norm therefore takes its statistics over all ``2B`` alternatives of the step, which
        are one population (both sides of a pair are drawn alike), and never over the chosen alone.
        """
        swap = prefer_second.unsqueeze(-1)
        chosen = torch.where(swap, second, first)
        rejected = torch.where(swap, first, second)
        raw_chosen, raw_rejected = self.network(torch.cat((chosen, rejected))).chunk(2)
        return self.compare(raw_chosen, raw_rejected)


class CategoricalLearner(RewardLearner):
    """A network that gives each alternative a categorical reward distribution on [0, 1]."""

    def compare(self, raw_chosen: Tensor, raw_rejected: Tensor) -> Tensor:
        """Return the log-probability of the choice, in training by products of probabilities."""
        if self.training and self.network.arithmetic is not None:
            by_products = log_prob_greater(raw_chosen, raw_rejected)
            if by_products is not None:
                return by_products
        return super().compare(raw_chosen, raw_rejected)


def log_prob_greater(logits: Tensor, other: Tensor) -> Tensor | None:
    """Return the log-probability that a categorical reward exceeds another; ties count half.

    The value equals ``CategoricalReward.log_prob_greater``, which sums logarithms, in a tenth of
    the time. It uses products of probabilities in float64, which reach down to e^-700.

    Args:
        logits: Logits of the first reward on K atoms, ``(B, K)``.
        other: Logits of the second reward, ``(B, K)``.

    Returns:
        Log-probabilities, ``(B,)``, in nats; None if a probability is too small for products.
    """
    ones = torch.ones(logits.shape[-1], logits.shape[-1], dtype=torch.float64)
    mass, other_mass = (
        (each.double() - each.detach().double().amax(-1, keepdim=True)).exp()
        for each in (logits, other)
    )
    # mass of the other below each atom, and half of that on it
    beaten = other_mass @ (ones.tril() + ones.tril(-1)).t() / 2
    joint = (mass * beaten).sum(-1) / (mass.sum(-1) * other_mass.sum(-1))
    result = joint.log().to(logits.dtype)
    return result if bool(result.detach().min() > -400) else None


def normal_reward(raw: Tensor, likelihood: Likelihood) -> NormalReward:
    """Read raw outputs ``(..., 2)`` as normal rewards of batch shape ``(...)``, σ = e^(raw₁−2)."""
    mean, log_stddev = raw.unbind(-1)
    return NormalReward(mean, (log_stddev - LOG_STDDEV_SHIFT).exp(), likelihood=likelihood)


class ClassifierLearner(Learner):
    """A classifier of pairs, with the logit that the second alternative is preferred.

    It need not be transitive, and may even contradict itself on a pair in reverse order.
    """

    def logit(self, first: Tensor, second: Tensor) -> Tensor:
        """Return the log-odds that the second is preferred, ``(B, d), (B, d) -> (B,)``, in nats."""
        return self.network(torch.cat((first, second), dim=-1)).squeeze(-1)

    def log_prob_preferred(self, first: Tensor, second: Tensor, prefer_second: Tensor) -> Tensor:
        """Return the log-probability of the annotators' answers (see the base class)."""
        return -nn.functional.binary_cross_entropy_with_logits(
            self.logit(first, second), prefer_second.to(first.dtype), reduction="none"
        )


def make_learner(
    name: str, environment: Environment, width: int, likelihood: Likelihood
) -> Learner:
    """Build one of the four learners with weights from PyTorch's global generator.

    Args:
        name: One of ``LEARNERS``: ``base``, ordinary preference learning; ``mean_and_stddev``, a
            normal reward; ``categorical``, probabilities on atoms of [0, 1], with batch norm; or
            the ``classifier`` of pairs.
        environment: The environment, which sets the numbers of inputs and atoms.
        width: Width of the hidden layers.
        likelihood: How ``mean_and_stddev`` compares two normal rewards.

    Returns:
        The learner, in training mode.
    """
    inputs, atoms = environment.dimension, environment.num_atoms
    if name == "base":
        return RewardLearner(perceptron(inputs, 1, width), heads.make("base").distribution)
    if name == "mean_and_stddev":
        read = partial(normal_reward, likelihood=likelihood)
        return RewardLearner(perceptron(inputs, 2, width), read)
    if name == "categorical":
        network = perceptron(inputs, atoms, width, batch_norm=True)
        return CategoricalLearner(network, CategoricalReward)
    if name == "classifier":
        return ClassifierLearner(perceptron(2 * inputs, 1, width))
    raise ValueError(f"{name!r} is not a learner; choose from {', '.join(LEARNERS)}")
