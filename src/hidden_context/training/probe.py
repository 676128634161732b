"""Training a probe on cached features of a frozen backbone: seconds on a laptop."""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any, Final

import torch
from torch import Tensor, nn

from hidden_context.data.example import Example
from hidden_context.errors import DivergedError
from hidden_context.likelihood import EnsembleLikelihood, Labels, Likelihood
from hidden_context.likelihood.labels import join_comparisons
from hidden_context.models.featurizer import Featurizer
from hidden_context.models.frozen import Probe, ProbeOptions
from hidden_context.training.config import TrainConfig
from hidden_context.training.labels import prior_weight
from hidden_context.training.links import Linker, compare, draw_pairs
from hidden_context.training.schedules import cosine_factor

# Comparisons of ratings by which an epoch is chosen: their mean loss is known to about a hundredth.
_MOST_HELD_OUT: Final = 4096
# Greatest norm of a gradient with ratings: the density of ratings without noise has no bound.
_MOST_GRADIENT: Final = 1.0


@dataclasses.dataclass(frozen=True)
class FeatureSet:
    """Features of responses, and what was said of them.

    Attributes:
        features: Of shape ``(R, D)``.
        labels: Labels of those responses.
        lines: Where each example stood in its source: lines of a file or rows of a table.
        linker: Draws comparisons between examples; None for none.
    """

    features: Tensor
    labels: Labels
    lines: Sequence[str] = ()
    linker: Linker | None = None

    def __len__(self) -> int:
        """Number E of examples."""
        return len(self.labels)


def feature_set(
    featurizer: Featurizer,
    examples: Sequence[Example],
    labels: Labels,
    progress: Callable[[int], None] | None = None,
    linker: Linker | None = None,
) -> FeatureSet:
    """Compute the features of every response of examples, each once."""
    texts = [text for example in examples for text in example.inputs]
    lines = [
        ", ".join(map(str, example.source_lines or (row,)))
        for row, example in enumerate(examples, start=1)
    ]
    return FeatureSet(featurizer.features(texts, progress=progress), labels, lines, linker)


@dataclasses.dataclass(frozen=True)
class _Member:
    """One network with its own likelihood, and what it learns from.

    Attributes:
        network: The network.
        likelihood: Its likelihood.
        train: All training features, standardised.
        learn: Indices of the judgements it learns from.
        linker: Draws comparisons between the examples it learns from; None for none.
        stop: Responses, standardised too, and labels it chooses its epoch by; None for none.
        draws: How often it sees each example, of shape ``(E,)``; None for once.
    """

    network: nn.Module
    likelihood: Likelihood
    train: FeatureSet
    learn: Tensor
    linker: Linker | None
    stop: FeatureSet | None
    draws: Tensor | None


def train_probe(
    config: TrainConfig,
    likelihood: Likelihood,
    train: FeatureSet,
    validation: FeatureSet | None = None,
    held_out: Sequence[Tensor] | None = None,
    draws: Tensor | None = None,
) -> tuple[Probe, list[dict[str, float]]]:
    """Train each member of a probe by AdamW, keeping its epoch with the best validation loss.

    A step is a fixed number of votes, whichever examples they are of.

    Args:
        config: The fields that begin with ``probe_``, and the seed.
        likelihood: The head, and what is to be learned beside the probe; it is trained too.
        train: E examples to learn from.
        validation: Examples to choose every member's epoch by.
        held_out: Where ``validation`` is None, a mask of shape ``(E,)`` for each member of the
            examples that it does not learn from but chooses its epoch by. Without either, all
            epochs are trained.
        draws: How often each member sees each example, of shape ``(E, M)``; None for once.

    Returns:
        The probe, in evaluation mode, and the members' losses by epoch in nats per vote.

    Raises:
        DivergedError: If a loss is not finite.
    """
    torch.manual_seed(config.seed)
    probe = Probe(train.features.shape[1], likelihood.head, probe_options(config))
    probe.standardise(_named(train))
    train = dataclasses.replace(train, features=probe.standardised(train.features))
    shared = None
    if validation is not None:
        features = probe.standardised(validation.features)
        validation = dataclasses.replace(validation, features=features)
        shared = _part(validation, torch.ones(len(validation), dtype=torch.bool), config.seed)
    history: list[dict[str, float]] = []
    parts = _likelihoods(likelihood, len(probe.members))
    for number, (network, own) in enumerate(zip(probe.members, parts, strict=True)):
        learns, stop = torch.ones(len(train), dtype=torch.bool), shared
        # nothing is held out where one side would be empty
        if validation is None and held_out is not None and _has_votes(train, ~held_out[number]):
            stop = _part(train, held_out[number], config.seed)
            learns = learns if stop is None else ~held_out[number]
        judged = learns[train.labels.example].nonzero().squeeze(-1)
        linker = None if train.linker is None else train.linker.within(learns)
        drawn = None if draws is None else draws[:, number]
        member = _Member(network, own, train, judged, linker, stop, drawn)
        entries = _train_member(config, member, bool(probe.head.num_members))
        history += [{"member": float(number), **entry} for entry in entries]
    _take_over(likelihood, parts)
    return probe.eval(), history


def _has_votes(data: FeatureSet, examples: Tensor) -> bool:
    """Whether there is a vote on some examples, a mask ``(E,)``."""
    votes = float(data.labels.votes[examples[data.labels.example]].sum())
    return votes > 0 or (data.linker is not None and data.linker.within(examples).num_votes > 0)


def _part(data: FeatureSet, examples: Tensor, seed: int) -> FeatureSet | None:
    """Take what was said of some examples, a mask ``(E,)``; None where there is no vote."""
    if not _has_votes(data, examples):
        return None
    judged = examples[data.labels.example].nonzero().squeeze(-1)
    labels, responses = data.labels.take(judged)
    if data.linker is not None:
        linker = Linker(data.linker.within(examples).labels, _MOST_HELD_OUT)
        labels, responses = _with_links(linker, labels, responses, 1.0, seed)
    return FeatureSet(data.features[responses], labels)


def _named(train: FeatureSet) -> Tensor:
    """Features of the responses, each as often as judgements name it, however rows are merged."""
    labels = train.labels if train.linker is None else train.linker.labels
    compared, rated = labels.comparisons, labels.ratings
    return train.features[torch.cat([compared.first, compared.second, rated.response])]


def _likelihoods(likelihood: Likelihood, count: int) -> list[Likelihood]:
    """The members' likelihoods: an ensemble's own, else copies, which are averaged at the end."""
    if isinstance(likelihood, EnsembleLikelihood):
        return [member for member in likelihood.members if isinstance(member, Likelihood)]
    return [copy.deepcopy(likelihood) for _ in range(count)]


def _take_over(likelihood: Likelihood, parts: Sequence[Likelihood]) -> None:
    """Take the mean of what copies learned; an ensemble's members are trained in place."""
    learned = [dict(part.named_parameters()) for part in parts]
    if isinstance(likelihood, EnsembleLikelihood):
        return
    with torch.no_grad():
        for name, value in likelihood.named_parameters():
            value.copy_(torch.stack([part[name] for part in learned]).mean(0))


def _train_member(config: TrainConfig, member: _Member, keep_start: bool) -> list[dict[str, float]]:
    both = nn.ModuleList([member.network, member.likelihood])
    optimizer = _optimizer(config, member, keep_start)
    history: list[dict[str, float]] = []
    best, best_state, since_best = float("inf"), copy.deepcopy(both.state_dict()), 0
    learns_annotators = member.likelihood.knows_annotators
    # what is learned of single people would go on jittering at its first rate
    learned = optimizer.param_groups[-1] if list(member.likelihood.parameters()) else None
    for epoch in range(1, config.probe_epochs + 1):
        prior = prior_weight(config.annotator_warmup, (epoch - 1) / config.probe_epochs)
        if learned is not None:
            factor = cosine_factor(epoch - 1, config.probe_epochs)
            learned["lr"] = config.objective_learning_rate * factor
        loss = _epoch(config, member, optimizer, epoch, prior)
        history.append({"epoch": float(epoch), "loss": loss})
        if member.stop is None:
            continue
        current = validation_loss(
            member.likelihood, member.network, member.stop.features, member.stop.labels
        )
        history[-1]["validation_loss"] = current
        since_best += 1
        if current < best:
            best, best_state, since_best = current, copy.deepcopy(both.state_dict()), 0
        elif since_best >= config.probe_patience and (prior == 1 or not learns_annotators):
            break
    if member.stop is not None:
        both.load_state_dict(best_state)
    return history


def _optimizer(config: TrainConfig, member: _Member, keep_start: bool) -> torch.optim.Optimizer:
    """AdamW; an ensemble's output layers are not drawn back from their random start to zero."""
    weights = [p for p in member.network.parameters() if p.dim() > 1]
    others = [p for p in member.network.parameters() if p.dim() <= 1]
    if keep_start:
        others.append(weights.pop())
    learned = list(member.likelihood.parameters())
    groups: list[dict[str, Any]] = [
        {"params": weights, "weight_decay": config.probe_weight_decay},
        {"params": others},
        {"params": learned, "lr": config.objective_learning_rate},
    ]
    return torch.optim.AdamW(
        [group for group in groups if group["params"]],
        lr=config.probe_learning_rate,
        weight_decay=0.0,
    )


def probe_options(config: TrainConfig) -> ProbeOptions:
    """Shape of the probe that a configuration names."""
    return ProbeOptions(config.probe_hidden, config.probe_dropout, config.probe_members)


def validation_loss(
    likelihood: Likelihood, network: nn.Module, features: Tensor, labels: Labels
) -> float:
    """Loss in nats per vote of a network on standardised features, without penalties."""
    network.eval()
    with torch.no_grad():
        loss = likelihood.negative_log_likelihood(network(features), labels)
        return float((loss * labels.votes.to(loss)).sum() / labels.votes.sum())


def _epoch(
    config: TrainConfig, member: _Member, optimizer: torch.optim.Optimizer, epoch: int, prior: float
) -> float:
    network, likelihood, train = member.network, member.likelihood, member.train
    network.train()
    own = train.labels.votes[member.learn]
    linked = 0.0 if member.linker is None else member.linker.num_votes
    size, all_votes = config.probe_batch_size, float(own.sum()) + linked
    total = seen = 0.0
    for number, batch in enumerate(_batches(own, linked, size)):
        labels, responses = train.labels.take(member.learn[batch])
        if member.linker is not None:
            share = min(size / all_votes, 1 - number * size / all_votes)
            seed = int(torch.randint(2**31, ()))
            labels, responses = _with_links(member.linker, labels, responses, share, seed)
        votes = float(labels.votes.sum())
        if not votes:
            continue
        raw = network(train.features[responses])
        weight = labels.weight.to(raw)
        if member.draws is not None:
            weight = weight * member.draws[labels.example].to(raw)
        loss = (weight * likelihood(raw, labels)).sum() / votes
        optimizer.zero_grad()
        penalty = likelihood.penalty(raw, labels)
        (loss + penalty + prior * likelihood.prior() / all_votes).backward()
        total, seen = total + loss.item() * votes, seen + votes
        if not total < float("inf"):
            rows = sorted(set(labels.example.tolist()))
            lines = [train.lines[row] if train.lines else str(row + 1) for row in rows]
            raise DivergedError(
                f"training stopped in epoch {epoch}: the loss is not finite. Lines of the "
                f"training data (from 1): {', '.join(lines)}. Lower --probe_learning_rate, or "
                "look at these lines."
            )
        if len(labels.ratings):
            for group in optimizer.param_groups:
                nn.utils.clip_grad_norm_(group["params"], _MOST_GRADIENT)
        optimizer.step()
    return total / max(seen, 1e-9)


def _batches(votes: Tensor, linked: float, size: int) -> Sequence[Tensor]:
    """Deal judgements into batches of a number of votes, in random order.

    Args:
        votes: Votes of each judgement, of shape ``(S,)``.
        linked: Votes of the comparisons that are drawn for the batches beside them.
        size: Votes of a batch, the last one smaller.
    """
    own = float(votes.sum())
    order = torch.randperm(len(votes))
    # a rounding more of votes must not make a batch more
    count = max(math.ceil((own + linked) / size - 1e-6), 1)
    share = (own + linked) / max(own, 1e-9)
    batch = (votes[order].double().cumsum(0) * share / size - 1e-6).floor().long()
    return order.split(torch.bincount(batch.clamp(0, count - 1), minlength=count).tolist())


def _with_links(
    linker: Linker, labels: Labels, responses: Tensor, share: float, seed: int
) -> tuple[Labels, Tensor]:
    """Add comparisons of responses that one annotator rated, drawn from all that the linker has."""
    ratings = linker.labels.ratings
    generator = torch.Generator().manual_seed(seed)
    first, second, count = draw_pairs(ratings.annotator, linker.most, generator)
    if not count:
        return labels, responses
    scale, votes = count / len(first) * share, linker.num_votes * share
    said = compare(ratings, first, second, linker.sizes, scale, votes)
    place = len(responses) + torch.arange(2 * len(first)).reshape(2, -1)
    moved = dataclasses.replace(said, first=place[0], second=place[1])
    joined = join_comparisons([labels.comparisons, moved])
    return (
        dataclasses.replace(labels, comparisons=joined),
        torch.cat([responses, said.first, said.second]),
    )
