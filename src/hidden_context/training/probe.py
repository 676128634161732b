"""Training a probe on cached features of a frozen backbone: seconds on a laptop."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from hidden_context.data.preferences import Preference
from hidden_context.errors import DivergedError
from hidden_context.models.featurizer import Featurizer
from hidden_context.models.frozen import Probe, ProbeOptions
from hidden_context.objectives import Labels, Objective
from hidden_context.training.config import TrainConfig
from hidden_context.training.objective import prior_weight


class PairFeatures:
    """Features and labels of preference pairs.

    Args:
        chosen: Features of shape ``(N, D)``.
        rejected: Features of shape ``(N, D)``.
        labels: What annotators said of the N pairs.
        lines: Where each pair stood in its source (file line or table row, from 1), of shape
            ``(N,)``; None for 1 to N.
    """

    def __init__(
        self, chosen: Tensor, rejected: Tensor, labels: Labels, lines: Tensor | None = None
    ) -> None:
        self.chosen, self.rejected, self.labels = chosen, rejected, labels
        self.lines = torch.arange(1, len(labels) + 1) if lines is None else lines

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: Tensor) -> PairFeatures:
        return PairFeatures(
            self.chosen[index], self.rejected[index], self.labels.select(index), self.lines[index]
        )

    def map(self, function: Callable[[Tensor], Tensor]) -> PairFeatures:
        """Apply a function to the features of both sides."""
        return PairFeatures(function(self.chosen), function(self.rejected), self.labels, self.lines)


def pair_features(
    featurizer: Featurizer,
    pairs: Sequence[Preference],
    labels: Labels,
    progress: Callable[[int], None] | None = None,
) -> PairFeatures:
    """Compute the features of both sides of pairs."""
    texts = [text for pair in pairs for text in (pair.chosen, pair.rejected)]
    features = featurizer.features(texts, progress=progress).unflatten(0, (len(pairs), 2))
    chosen, rejected = features.unbind(1)
    lines = torch.tensor([pair.source_line or row for row, pair in enumerate(pairs, start=1)])
    return PairFeatures(chosen, rejected, labels, lines)


class _Member(NamedTuple):
    """One network, its own objective, and how often it sees each pair, ``(N, 1)`` or None."""

    network: nn.Module
    objective: Objective
    weight: Tensor | None


def train_probe(
    config: TrainConfig,
    objective: Objective,
    train: PairFeatures,
    validation: PairFeatures | None = None,
    held_out: Sequence[Tensor] | None = None,
    member_weight: Tensor | None = None,
) -> tuple[Probe, list[dict[str, float]]]:
    """Train each member of a probe by AdamW, keeping its epoch with the best validation loss.

    Args:
        config: The fields that begin with ``probe_``, and the seed.
        objective: The head, and what is to be learned beside the probe; it is trained too.
        train: N pairs to learn from.
        validation: Pairs to choose every member's epoch by.
        held_out: Where ``validation`` is None, a mask of shape ``(N,)`` for each member of the
            pairs that it does not learn from but chooses its epoch by. Without either, all epochs
            are trained.
        member_weight: How often each member sees each pair, of shape ``(N, M)``; None for once.

    Returns:
        The probe, in evaluation mode, and the members' losses by epoch in nats.

    Raises:
        DivergedError: If a loss is not finite.
    """
    torch.manual_seed(config.seed)
    probe = Probe(train.chosen.shape[1], objective.head, probe_options(config))
    probe.standardise(torch.cat([train.chosen, train.rejected]))
    train = train.map(probe.standardised)
    shared = None if validation is None else validation.map(probe.standardised)
    history: list[dict[str, float]] = []
    parts = [objective.of_member(number) for number in range(len(probe.members))]
    for number, network in enumerate(probe.members):
        learn, stop = train, shared
        weight = None if member_weight is None else member_weight[:, number : number + 1]
        if shared is None and held_out is not None and bool(held_out[number].any()):
            mask = held_out[number]
            if not bool(mask.all()):
                learn, stop = train[~mask], train[mask]
                weight = None if weight is None else weight[~mask]
        member = _Member(network, parts[number], weight)
        entries = _train_member(config, member, learn, stop, probe.side_by_side)
        history += [{"member": float(number), **entry} for entry in entries]
    objective.take_members(parts)
    return probe.eval(), history


def _train_member(
    config: TrainConfig,
    member: _Member,
    learn: PairFeatures,
    stop: PairFeatures | None,
    keep_start: bool,
) -> list[dict[str, float]]:
    both = nn.ModuleList([member.network, member.objective])
    optimizer = _optimizer(config, member, keep_start)
    history: list[dict[str, float]] = []
    best, best_state, since_best = float("inf"), copy.deepcopy(both.state_dict()), 0
    learns_annotators = member.objective.annotators is not None
    for epoch in range(1, config.probe_epochs + 1):
        prior = prior_weight(config.annotator_warmup, (epoch - 1) / config.probe_epochs)
        loss = _epoch(config, member, learn, optimizer, epoch, prior)
        history.append({"epoch": float(epoch), "loss": loss})
        if stop is None:
            continue
        current = validation_loss(member.objective, member.network, stop)
        history[-1]["validation_loss"] = current
        since_best += 1
        if current < best:
            best, best_state, since_best = current, copy.deepcopy(both.state_dict()), 0
        elif since_best >= config.probe_patience and (prior == 1 or not learns_annotators):
            break
    if stop is not None:
        both.load_state_dict(best_state)
    return history


def _optimizer(config: TrainConfig, member: _Member, keep_start: bool) -> torch.optim.Optimizer:
    """AdamW; an ensemble's output layers are not drawn back from their random start to zero."""
    weights = [p for p in member.network.parameters() if p.dim() > 1]
    others = [p for p in member.network.parameters() if p.dim() <= 1]
    if keep_start:
        others.append(weights.pop())
    learned = list(member.objective.parameters())
    groups: list[dict[str, Any]] = [
        {"params": weights, "weight_decay": config.probe_weight_decay},
        {"params": others},
        {"params": learned, "lr": config.objective_learning_rate},
    ]
    return torch.optim.AdamW(groups, lr=config.probe_learning_rate, weight_decay=0.0)


def probe_options(config: TrainConfig) -> ProbeOptions:
    """Shape of the probe that a configuration names."""
    return ProbeOptions(config.probe_hidden, config.probe_dropout, config.probe_members)


def validation_loss(objective: Objective, network: nn.Module, pairs: PairFeatures) -> float:
    """Mean loss in nats of a network on standardised pairs, without penalties."""
    network.eval()
    with torch.no_grad():
        chosen, rejected = network(pairs.chosen), network(pairs.rejected)
        loss = objective.negative_log_likelihood(chosen, rejected, pairs.labels)
    return float(loss.mean())


def _epoch(
    config: TrainConfig,
    member: _Member,
    learn: PairFeatures,
    optimizer: torch.optim.Optimizer,
    epoch: int,
    prior: float,
) -> float:
    network, objective, weights = member
    network.train()
    total = 0.0
    for batch in torch.randperm(len(learn)).split(config.probe_batch_size):
        pairs = learn[batch]
        chosen, rejected = network(pairs.chosen), network(pairs.rejected)
        weight = None if weights is None else weights[batch]
        loss = objective.training_loss(chosen, rejected, pairs.labels, weight).mean()
        optimizer.zero_grad()
        penalty = objective.head.penalty(chosen, rejected)
        (loss + penalty + prior * objective.prior() / len(learn)).backward()
        total += loss.item() * len(batch)
        if not total < float("inf"):
            raise DivergedError(
                f"training stopped in epoch {epoch}: the loss is not finite. Lines of the "
                f"training data (from 1): {', '.join(map(str, pairs.lines.tolist()))}. Lower "
                "--probe_learning_rate, or look at these lines."
            )
        optimizer.step()
    return total / len(learn)
