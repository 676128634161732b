"""Training a probe on cached features of a frozen backbone, in seconds on a laptop."""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Sequence
from typing import Any, Final

import torch
from torch import Tensor, nn

from hidden_context.errors import DivergedError
from hidden_context.likelihood import EnsembleLikelihood, Likelihood
from hidden_context.models.frozen import Probe, ProbeOptions
from hidden_context.training.config import TrainConfig
from hidden_context.training.frozen.features import FeatureSet, with_links
from hidden_context.training.frozen.people import fit_with_annotators
from hidden_context.training.frozen.starts import Beside, LinearStart, minimise, silence
from hidden_context.training.links import Linker
from hidden_context.training.schedules import cosine_factor, prior_weight

# Largest gradient norm with ratings, because the density of ratings without noise has no bound.
_MOST_GRADIENT: Final = 1.0
# Most steps of an epoch; with more votes steps grow, as many votes on few texts say the same.
_MOST_STEPS_AN_EPOCH: Final = 256
# Steps of L-BFGS to fit the thresholds between answers, of which there are one to three.
_MOST_STEPS: Final = 20


@dataclasses.dataclass(frozen=True)
class _Member:
    """One network with its own likelihood and training data.

    Attributes:
        network: The network.
        likelihood: Its likelihood.
        train: All training features, standardised.
        learn: Indices of the judgements it learns from.
        linker: Draws comparisons between the examples it learns from; None for none.
        stop: Standardised responses and labels that choose the epoch; None for none.
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
    learned_from: Sequence[Tensor] | None = None,
) -> tuple[Probe, list[dict[str, float]]]:
    """Train each member of a probe by AdamW and keep its best epoch by validation loss.

    A step is a fixed number of votes, on any number of examples. With comparisons alone, each
    member starts from a logistic regression, and its network learns the rest. Epoch 0 is this
    start, which is kept if no later epoch predicts held-out votes better.

    Args:
        config: The fields that begin with ``probe_``, and the seed.
        likelihood: The head, and what is to be learned beside the probe; it is trained too.
        train: E examples to learn from.
        validation: Examples to choose every member's epoch by.
        held_out: Where ``validation`` is None, a mask of shape ``(E,)`` for each member of the
            examples that it does not learn from but chooses its epoch by. Without either, all
            epochs are trained.
        draws: How often each member sees each example, of shape ``(E, M)``; None for once.
        learned_from: A mask of shape ``(E,)`` for each member of the examples that it learns from,
            where that is not all that it does not hold out.

    Returns:
        The probe, in evaluation mode, and the members' losses by epoch in nats per vote.

    Raises:
        DivergedError: If a loss is not finite.
    """
    torch.manual_seed(config.seed)
    options = ProbeOptions(config.probe_hidden, config.probe_dropout, config.probe_members)
    probe = Probe(train.features.shape[1], likelihood.head, options)
    probe.standardise(train.features, train.times_named())
    train = dataclasses.replace(train, features=probe.standardised(train.features))
    shared = None
    if validation is not None:
        features = probe.standardised(validation.features)
        validation = dataclasses.replace(validation, features=features)
        shared = validation.part(torch.ones(len(validation), dtype=torch.bool), config.seed)
    history: list[dict[str, float]] = []
    if isinstance(likelihood, EnsembleLikelihood):
        parts = [member for member in likelihood.members if isinstance(member, Likelihood)]
    else:  # copies that are averaged at the end
        parts = [copy.deepcopy(likelihood) for _ in probe.members]
    linear = LinearStart.of(config, probe, train)
    for number, (network, own) in enumerate(zip(probe.members, parts, strict=True)):
        drawn = None if draws is None else draws[:, number]
        if linear is not None and own.knows_annotators and config.ensemble != "heads":
            silence(network)
            if number and not probe.head.num_members:  # every member would find the same
                own.load_state_dict(parts[0].state_dict())
                continue
            slope, start, entries = fit_with_annotators(config, own, train, linear, drawn)
            linear.parts.append((slope, start))
        else:
            learns, stop = torch.ones(len(train), dtype=torch.bool), shared
            # nothing is held out where one side would be empty
            if validation is None and held_out is not None:
                rest = ~held_out[number] if learned_from is None else learned_from[number]
                if train.has_votes(rest):
                    stop = train.part(held_out[number], config.seed)
                    learns = learns if stop is None else rest
            judged = learns[train.labels.example].nonzero().squeeze(-1)
            linker = None if train.linker is None else train.linker.within(learns)
            if linear is not None:
                network = linear.beside(network, train, judged, drawn)
            member = _Member(network, own, train, judged, linker, stop, drawn)
            entries = _train_member(config, member)
        history += [{"member": float(number), **entry} for entry in entries]
    if linear is not None:
        linear.give(probe)
    _take_over(likelihood, parts)
    return probe.eval(), history


def _take_over(likelihood: Likelihood, parts: Sequence[Likelihood]) -> None:
    """Take the mean of the copies; an ensemble's members are trained in place."""
    if isinstance(likelihood, EnsembleLikelihood):
        return
    learned = [dict(part.named_parameters()) for part in parts]
    with torch.no_grad():
        for name, value in likelihood.named_parameters():
            value.copy_(torch.stack([part[name] for part in learned]).mean(0))


def _train_member(config: TrainConfig, member: _Member) -> list[dict[str, float]]:
    network, stop = member.network, member.stop
    both = nn.ModuleList([network, member.likelihood])
    optimizer = _optimizer(config, member)
    history: list[dict[str, float]] = []
    best, best_state, since_best = float("inf"), copy.deepcopy(both.state_dict()), 0
    learns_annotators = member.likelihood.knows_annotators
    # at a constant rate, what is learned about single annotators would keep jittering
    learned = optimizer.param_groups[-1] if list(member.likelihood.parameters()) else None
    # held-out votes may say that the network adds nothing to the linear part; an ensemble keeps
    # its random start, which is its prior
    if stop is not None and isinstance(network, Beside) and config.ensemble != "heads":
        entry, best_state = _silent(member, network, stop)
        best = entry["validation_loss"]
        history.append(entry)
    for epoch in range(1, config.probe_epochs + 1):
        prior = prior_weight(config.annotator_warmup, (epoch - 1) / config.probe_epochs)
        if learned is not None:
            factor = cosine_factor(epoch - 1, config.probe_epochs)
            learned["lr"] = config.objective_learning_rate * factor
        loss = _epoch(config, member, optimizer, epoch, prior)
        history.append({"epoch": float(epoch), "loss": loss})
        if stop is None:
            continue
        current = validation_loss(member.likelihood, network, stop)
        history[-1]["validation_loss"] = current
        since_best += 1
        if current < best:
            best, best_state, since_best = current, copy.deepcopy(both.state_dict()), 0
        elif since_best >= config.probe_patience and (prior == 1 or not learns_annotators):
            break
    if stop is not None:
        both.load_state_dict(best_state)
    return history


def _silent(
    member: _Member, network: Beside, stop: FeatureSet
) -> tuple[dict[str, float], dict[str, Tensor]]:
    """Return losses and state of the linear part alone, with fitted thresholds of the answers."""
    likelihood, before = member.likelihood, silence(network.network)
    labels, responses = member.train.labels.take(member.learn)
    learned = FeatureSet(member.train.features[responses], labels)
    if parameters := list(likelihood.parameters()):
        raw = network(learned.features).detach()
        weight, votes = labels.weight.to(raw), labels.votes.sum()
        minimise(parameters, lambda: (weight * likelihood(raw, labels)).sum() / votes, _MOST_STEPS)
    entry = {
        "epoch": 0.0,
        "loss": validation_loss(likelihood, network, learned),
        "validation_loss": validation_loss(likelihood, network, stop),
    }
    state = copy.deepcopy(nn.ModuleList([network, likelihood]).state_dict())
    network.network[-1].load_state_dict(before)
    return entry, state


def _optimizer(config: TrainConfig, member: _Member) -> torch.optim.Optimizer:
    """Make AdamW, without weight decay on an ensemble's output layers."""
    weights = [p for p in member.network.parameters() if p.dim() > 1]
    others = [p for p in member.network.parameters() if p.dim() <= 1]
    if config.ensemble == "heads":
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


def validation_loss(likelihood: Likelihood, network: nn.Module, data: FeatureSet) -> float:
    """Return a network's loss in nats per vote on standardised features, without penalties."""
    network.eval()
    votes = data.labels.votes
    with torch.no_grad():
        loss = likelihood.negative_log_likelihood(network(data.features), data.labels)
        return float((loss * votes.to(loss)).sum() / votes.sum())


def _epoch(
    config: TrainConfig, member: _Member, optimizer: torch.optim.Optimizer, epoch: int, prior: float
) -> float:
    network, likelihood, train = member.network, member.likelihood, member.train
    network.train()
    own = train.labels.votes[member.learn]
    linked = 0.0 if member.linker is None else member.linker.num_votes
    all_votes = float(own.sum()) + linked
    size = max(config.probe_batch_size, math.ceil(all_votes / _MOST_STEPS_AN_EPOCH))
    total = seen = 0.0
    for number, batch in enumerate(_batches(own, linked, size)):
        labels, responses = train.labels.take(member.learn[batch])
        if member.linker is not None:
            share = min(size / all_votes, 1 - number * size / all_votes)
            seed = int(torch.randint(2**31, ()))
            labels, responses = with_links(member.linker, labels, responses, share, seed)
        votes = float(labels.votes.sum())
        if not votes:
            continue
        raw = network(train.features[responses])
        weight = labels.weight.to(raw)
        if member.draws is not None:
            weight = weight * member.draws[labels.example].to(raw)
        loss = (weight * likelihood(raw, labels)).sum() / votes
        optimizer.zero_grad()
        (loss + likelihood.penalty(raw, labels) + prior * likelihood.prior() / all_votes).backward()
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
    """Divide judgements into batches with equal numbers of votes, in random order.

    Args:
        votes: Votes of each judgement, of shape ``(S,)``.
        linked: Votes of the comparisons that are drawn for the batches beside them.
        size: Votes of a batch, the last one smaller.
    """
    own = float(votes.sum())
    order = torch.randperm(len(votes))
    # rounding errors in the votes must not add a batch
    count = max(math.ceil((own + linked) / size - 1e-6), 1)
    share = (own + linked) / max(own, 1e-9)
    batch = (votes[order].double().cumsum(0) * share / size - 1e-6).floor().long()
    return order.split(torch.bincount(batch.clamp(0, count - 1), minlength=count).tolist())
