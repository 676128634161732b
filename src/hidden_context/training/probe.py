"""Training a probe on cached features of a frozen backbone: seconds on a laptop."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from hidden_context.data.preferences import Preference
from hidden_context.errors import DivergedError
from hidden_context.heads import Head
from hidden_context.models.featurizer import Featurizer
from hidden_context.models.frozen import Probe, ProbeOptions
from hidden_context.objectives import negative_log_likelihood
from hidden_context.training.config import TrainConfig


class PairFeatures:
    """Features of preference pairs.

    Args:
        chosen: Features of shape ``(N, D)``.
        rejected: Features of shape ``(N, D)``.
        preference: Share of annotators for ``chosen``, of shape ``(N,)``.
        lines: Where each pair stood in its source (file line or table row, from 1), of shape
            ``(N,)``; None for 1 to N.
    """

    def __init__(
        self, chosen: Tensor, rejected: Tensor, preference: Tensor, lines: Tensor | None = None
    ) -> None:
        self.chosen, self.rejected, self.preference = chosen, rejected, preference
        self.lines = torch.arange(1, len(preference) + 1) if lines is None else lines

    def __len__(self) -> int:
        return len(self.preference)

    def __getitem__(self, index: Tensor) -> PairFeatures:
        return PairFeatures(
            self.chosen[index], self.rejected[index], self.preference[index], self.lines[index]
        )

    def map(self, function: Callable[[Tensor], Tensor]) -> PairFeatures:
        """Apply a function to the features of both sides."""
        return PairFeatures(
            function(self.chosen), function(self.rejected), self.preference, self.lines
        )


def pair_features(
    featurizer: Featurizer,
    pairs: Sequence[Preference],
    progress: Callable[[int], None] | None = None,
) -> PairFeatures:
    """Compute the features of both sides of pairs."""
    texts = [text for pair in pairs for text in (pair.chosen, pair.rejected)]
    features = featurizer.features(texts, progress=progress).unflatten(0, (len(pairs), 2))
    chosen, rejected = features.unbind(1)
    preference = torch.tensor([pair.preference for pair in pairs])
    lines = torch.tensor([pair.source_line or row for row, pair in enumerate(pairs, start=1)])
    return PairFeatures(chosen, rejected, preference, lines)


def train_probe(
    config: TrainConfig,
    head: Head,
    train: PairFeatures,
    validation: PairFeatures | None = None,
    held_out: Sequence[Tensor] | None = None,
) -> tuple[Probe, list[dict[str, float]]]:
    """Train each member of a probe by AdamW, keeping its epoch with the best validation loss.

    Args:
        config: The fields that begin with ``probe_``, and the seed.
        head: The head.
        train: N pairs to learn from.
        validation: Pairs to choose every member's epoch by.
        held_out: Where ``validation`` is None, a mask of shape ``(N,)`` for each member of the
            pairs that it does not learn from but chooses its epoch by. Without either, all epochs
            are trained.

    Returns:
        The probe, in evaluation mode, and the members' losses by epoch in nats.

    Raises:
        DivergedError: If a loss is not finite.
    """
    torch.manual_seed(config.seed)
    options = probe_options(config)
    probe = Probe(
        train.chosen.shape[1], head.num_outputs, options.hidden, options.dropout, options.members
    )
    probe.standardise(torch.cat([train.chosen, train.rejected]))
    train = train.map(probe.standardised)
    shared = None if validation is None else validation.map(probe.standardised)
    history: list[dict[str, float]] = []
    for number, member in enumerate(probe.members):
        learn, stop = train, shared
        if shared is None and held_out is not None and bool(held_out[number].any()):
            mask = held_out[number]
            if not bool(mask.all()):
                learn, stop = train[~mask], train[mask]
        entries = _train_member(config, head, member, learn, stop)
        history += [{"member": float(number), **entry} for entry in entries]
    return probe.eval(), history


def _train_member(
    config: TrainConfig,
    head: Head,
    member: nn.Module,
    learn: PairFeatures,
    stop: PairFeatures | None,
) -> list[dict[str, float]]:
    decayed = [p for p in member.parameters() if p.dim() > 1]
    others = [p for p in member.parameters() if p.dim() <= 1]
    optimizer = torch.optim.AdamW(
        [
            {"params": decayed, "weight_decay": config.probe_weight_decay},
            {"params": others, "weight_decay": 0.0},
        ],
        lr=config.probe_learning_rate,
    )
    history: list[dict[str, float]] = []
    best, best_state, since_best = float("inf"), copy.deepcopy(member.state_dict()), 0
    for epoch in range(1, config.probe_epochs + 1):
        loss = _epoch(config, head, member, learn, optimizer, epoch)
        history.append({"epoch": float(epoch), "loss": loss})
        if stop is None:
            continue
        current = validation_loss(head, member, stop)
        history[-1]["validation_loss"] = current
        since_best += 1
        if current < best:
            best, best_state, since_best = current, copy.deepcopy(member.state_dict()), 0
        elif since_best >= config.probe_patience:
            break
    if stop is not None:
        member.load_state_dict(best_state)
    return history


def probe_options(config: TrainConfig) -> ProbeOptions:
    """Shape of the probe that a configuration names."""
    return ProbeOptions(config.probe_hidden, config.probe_dropout, config.probe_members)


def validation_loss(head: Head, member: nn.Module, pairs: PairFeatures) -> float:
    """Mean loss in nats of a network on standardised pairs, without penalties."""
    member.eval()
    with torch.no_grad():
        chosen, rejected = member(pairs.chosen), member(pairs.rejected)
        loss = negative_log_likelihood(head, chosen, rejected, pairs.preference)
    return float(loss.mean())


def _epoch(
    config: TrainConfig,
    head: Head,
    member: nn.Module,
    learn: PairFeatures,
    optimizer: torch.optim.Optimizer,
    epoch: int,
) -> float:
    member.train()
    total = 0.0
    for batch in torch.randperm(len(learn)).split(config.probe_batch_size):
        pairs = learn[batch]
        chosen, rejected = member(pairs.chosen), member(pairs.rejected)
        loss = negative_log_likelihood(head, chosen, rejected, pairs.preference).mean()
        optimizer.zero_grad()
        (loss + head.penalty(chosen, rejected)).backward()
        total += loss.item() * len(batch)
        if not total < float("inf"):
            raise DivergedError(
                f"training stopped in epoch {epoch}: the loss is not finite. Lines of the "
                f"training data (from 1): {', '.join(map(str, pairs.lines.tolist()))}. Lower "
                "--probe_learning_rate, or look at these lines."
            )
        optimizer.step()
    return total / len(learn)
