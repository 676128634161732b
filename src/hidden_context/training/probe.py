"""Training a probe on cached features of a frozen backbone: seconds on a laptop."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

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
    """

    def __init__(self, chosen: Tensor, rejected: Tensor, preference: Tensor) -> None:
        self.chosen, self.rejected, self.preference = chosen, rejected, preference

    def __len__(self) -> int:
        return len(self.preference)

    def __getitem__(self, index: Tensor) -> PairFeatures:
        return PairFeatures(self.chosen[index], self.rejected[index], self.preference[index])


def pair_features(
    featurizer: Featurizer,
    pairs: Sequence[Preference],
    progress: Callable[[int], None] | None = None,
) -> PairFeatures:
    """Compute the features of both sides of pairs."""
    texts = [text for pair in pairs for text in (pair.chosen, pair.rejected)]
    features = featurizer.features(texts, progress=progress).unflatten(0, (len(pairs), 2))
    chosen, rejected = features.unbind(1)
    return PairFeatures(chosen, rejected, torch.tensor([pair.preference for pair in pairs]))


def train_probe(
    config: TrainConfig, head: Head, train: PairFeatures, validation: PairFeatures | None
) -> tuple[Probe, list[dict[str, float]]]:
    """Train a probe by AdamW, keeping the epoch with the best validation loss where there is one.

    Args:
        config: The fields that begin with ``probe_``, and the seed.
        head: The head.
        train: Pairs to learn from.
        validation: Pairs to choose the epoch by; None trains all epochs.

    Returns:
        The probe, in evaluation mode, and its losses by epoch in nats.

    Raises:
        DivergedError: If the loss is not finite.
    """
    torch.manual_seed(config.seed)
    options = probe_options(config)
    probe = Probe(
        train.chosen.shape[1], head.num_outputs, options.hidden, options.dropout, options.members
    )
    probe.standardise(torch.cat([train.chosen, train.rejected]))
    optimizer = torch.optim.AdamW(
        probe.parameters(), lr=config.probe_learning_rate, weight_decay=config.probe_weight_decay
    )
    history: list[dict[str, float]] = []
    best, best_state, since_best = float("inf"), copy.deepcopy(probe.state_dict()), 0
    for epoch in range(1, config.probe_epochs + 1):
        entry = {
            "epoch": float(epoch),
            "loss": _epoch(config, probe, head, train, optimizer, epoch),
        }
        history.append(entry)
        if validation is None:
            continue
        entry["validation_loss"] = validation_loss(probe, head, validation)
        if entry["validation_loss"] < best:
            best, best_state, since_best = (
                entry["validation_loss"],
                copy.deepcopy(probe.state_dict()),
                0,
            )
        else:
            since_best += 1
            if since_best >= config.probe_patience:
                break
    if validation is not None:
        probe.load_state_dict(best_state)
    return probe.eval(), history


def probe_options(config: TrainConfig) -> ProbeOptions:
    """Shape of the probe that a configuration names."""
    return ProbeOptions(config.probe_hidden, config.probe_dropout, config.probe_members)


def validation_loss(probe: Probe, head: Head, pairs: PairFeatures) -> float:
    """Mean loss in nats of the members' averaged outputs, without penalties."""
    probe.eval()
    with torch.no_grad():
        loss = negative_log_likelihood(
            head, probe(pairs.chosen), probe(pairs.rejected), pairs.preference
        )
    return float(loss.mean())


def _epoch(
    config: TrainConfig,
    probe: Probe,
    head: Head,
    train: PairFeatures,
    optimizer: torch.optim.Optimizer,
    epoch: int,
) -> float:
    probe.train()
    total = 0.0
    for batch in torch.randperm(len(train)).split(config.probe_batch_size):
        pairs = train[batch]
        chosen, rejected = probe.member_outputs(pairs.chosen), probe.member_outputs(pairs.rejected)
        preference = pairs.preference.expand(chosen.shape[:-1])
        loss = negative_log_likelihood(head, chosen, rejected, preference).mean(-1)
        penalty = sum(
            (head.penalty(a, b) for a, b in zip(chosen, rejected, strict=True)),
            start=loss.new_zeros(()),
        )
        optimizer.zero_grad()
        (loss.sum() + penalty).backward()
        total += float(loss.mean()) * len(batch)
        if not total < float("inf"):
            raise DivergedError(
                f"training stopped in epoch {epoch}: the loss is not finite. Rows of the training "
                f"data (from 0): {', '.join(map(str, batch.tolist()))}. Lower "
                "--probe_learning_rate, or look at these rows."
            )
        optimizer.step()
    return total / len(train)
