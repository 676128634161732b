"""Network and likelihood as one module: token ids and labels in, the loss of a pass out."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from hidden_context.data.tokens.trees import tree_of
from hidden_context.likelihood import Labels, Likelihood
from hidden_context.models.engine.choose import Way
from hidden_context.models.engine.forward import classifier_of, padded_outputs, tree_outputs
from hidden_context.training.dataset import Tokens


class Totals(NamedTuple):
    """Totals of the whole step, by which the sums of a pass are divided.

    Attributes:
        votes: Votes of the whole step, over all processes.
        comparisons: Comparisons of the whole step, likewise.
        prior: Weight of the likelihood's prior in this pass, per nat.
    """

    votes: float
    comparisons: float
    prior: float = 0.0


class PassOutput(NamedTuple):
    """Output of a pass.

    Attributes:
        loss: The pass's part of the step's loss, in nats per vote, a scalar.
        raw: Raw outputs of the responses, of shape ``(R, K)``.
        nats: Loss of each judgement, of shape ``(J,)``, without weights.
    """

    loss: Tensor
    raw: Tensor
    nats: Tensor


class PreferenceModule(nn.Module):
    r"""All learned parameters in one module that Accelerate can wrap.

    .. math:: \frac1V\sum_j w_j\,\ell_j + \frac1C\sum_c \text{penalty}_c
        + \lambda\cdot\text{prior}

    with V votes and C comparisons in the step. A pass computes its own part of this loss, and the
    parts of a step add up to the whole loss.

    Args:
        network: The classifier whose logits are the raw outputs, wrapped or not.
        likelihood: The head, and what is learned beside the network.
        way: How token sequences are run; for ``tree`` within ``tree_attention_in``.
        pad_token_id: Id to pad with.
        pad_to_multiple_of: Padded lengths are rounded up to a multiple of this.
        rounds: Whether the module lets the network compute in bfloat16 itself, where no accelerator
            does.
    """

    def __init__(
        self,
        network: Any,
        likelihood: Likelihood,
        way: Way = "padded",
        pad_token_id: int = 0,
        pad_to_multiple_of: int = 1,
        *,
        rounds: bool = False,
    ) -> None:
        super().__init__()
        self.network, self.likelihood, self.way = network, likelihood, way
        self.pad_token_id, self.pad_to_multiple_of = pad_token_id, pad_to_multiple_of
        self.rounds = rounds
        inside = {type(part).__name__ for part in network.modules()}
        layers = getattr(classifier_of(network), "_no_split_modules", None) or ()
        # layers that Accelerate divides and gathers one by one; Transformers may name absent ones
        self._no_split_modules = sorted(inside & set(layers))

    def forward(
        self, tokens: list[Tokens], labels: Labels | None = None, totals: Totals | None = None
    ) -> PassOutput | Tensor:
        """Run examples in one pass.

        Args:
            tokens: Token ids of each response of each example, R in all.
            labels: Labels of the examples; None for raw outputs alone.
            totals: Totals that sums are divided by; None for the pass's own.

        Returns:
            The output, or without labels raw outputs of shape ``(R, K)``.
        """
        device = next(self.parameters()).device.type
        with torch.autocast(device, torch.bfloat16) if self.rounds else nullcontext():
            raw = self.raw_outputs(tokens)
        if labels is None:
            return raw
        with torch.autocast(device_type=raw.device.type, enabled=False):
            return self.loss(raw, labels, totals)

    def raw_outputs(self, tokens: list[Tokens]) -> Tensor:
        """Return raw outputs ``(R, K)``; in a tree, what an example's responses share runs once."""
        sequences = [ids for example in tokens for ids in example]
        if self.way != "tree":
            return padded_outputs(
                self.network, sequences, self.pad_token_id, self.pad_to_multiple_of
            )
        trees, place = [], 0
        for example in tokens:
            trees.append(tree_of(sequences, range(place, place + len(example))))
            place += len(example)
        return tree_outputs(self.network, sequences, trees)

    def loss(self, raw: Tensor, labels: Labels, totals: Totals | None = None) -> PassOutput:
        """Return the pass's part of the step's loss (see the class)."""
        count = len(labels.comparisons)
        totals = totals or Totals(float(labels.votes.sum()), count)
        labels = labels.map(lambda values: values.to(raw.device))
        nats = self.likelihood(raw, labels)
        loss = (labels.weight.to(nats) * nats).sum() / totals.votes
        if count:
            loss = loss + self.likelihood.penalty(raw, labels) * (count / totals.comparisons)
        loss = loss + totals.prior * self.likelihood.prior().to(loss)
        for parameter in self.likelihood.parameters():
            # every parameter gets a gradient, because another process may use it
            loss = loss + 0.0 * parameter.sum()
        return PassOutput(loss, raw, nats)
