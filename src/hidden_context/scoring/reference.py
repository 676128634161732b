"""Making a model's reference: where the data's texts lie, and how much their rewards vary."""

from __future__ import annotations

import dataclasses
import json
import random
from collections.abc import Sequence
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from hidden_context.data.example import Example, Text, as_input
from hidden_context.data.sources import load_examples
from hidden_context.data.splits.division import first_question
from hidden_context.errors import ConfigError, DataError
from hidden_context.models.checkpoint.reference import Reference
from hidden_context.models.reward_model import RewardModel
from hidden_context.scoring.config import LEAST_TEXTS, ModelOptions, ReferenceConfig
from hidden_context.scoring.loading import load_model, looks_local
from hidden_context.scoring.requests import Answers, Scorer, disagreement

_LEAST_PROMPTS: Final = 10
_JITTER: Final = 1e-6


def fit_place(features: Tensor) -> tuple[Tensor, Tensor, Tensor, list[float]]:
    r"""Fit the means and the shrunk correlations of features.

    Features are standardised first, because a transformer's features differ in scale by orders of
    magnitude, and Ledoit and Wolf (2004) shrink towards a multiple of the identity. With their
    covariance matrix S and \ :math:`W^\top W = (S + 10^{-6} I)^{-1}`, W is lower triangular.

    Args:
        features: Of shape ``(N, M, D)``, all finite.

    Returns:
        Location and spread in float32 (see ``Reference``): μ of shape ``(M, D)``, s of shape
        ``(M, D)`` and W of shape ``(M, D, D)``; and for each network Ledoit and Wolf's weight of
        the identity, in [0, 1].
    """
    from sklearn.covariance import ledoit_wolf

    location, scale = features.double().mean(0), features.double().std(0, correction=0)
    scale = torch.maximum(scale, 1e-5 * location.abs())  # do not take rounding for spread
    scale = scale.masked_fill(scale == 0, 1.0)
    whitening, shrinkage = [], []
    for m in range(features.shape[1]):
        standardised = (features[:, m].double() - location[m]) / scale[m]
        shrunk, weight = ledoit_wolf(standardised.numpy(), assume_centered=True)
        covariance = torch.from_numpy(shrunk)
        identity = torch.eye(len(covariance), dtype=torch.float64)
        lower = torch.linalg.cholesky(covariance + _JITTER * identity)
        whitening.append(torch.linalg.solve_triangular(lower, identity, upper=False))
        shrinkage.append(float(weight))
    return location.float(), scale.float(), torch.stack(whitening).float(), shrinkage


def make_reference(config: ReferenceConfig) -> tuple[Path, Reference]:
    """Make a model's reference from data, and write it into the model's folder.

    Args:
        config: The options.

    Returns:
        The file, and what is in it.

    Raises:
        MissingFileError: If the folder or the data is not there.
        ConfigError: If the model is not in a local folder.
        DataError: If a row is malformed, or there are too few prompts or texts.
        CheckpointError: If the model cannot be loaded.
        StorageError: If the file could not be written.
    """
    folder = Path(config.checkpoint).expanduser()
    if not folder.is_dir() and not looks_local(config.checkpoint):
        raise ConfigError(
            f"{config.checkpoint} is not a local folder, but a reference is written into the "
            "model's folder; download the model first."
        )
    # an earlier reference, even of another model, is replaced
    model = load_model(config.checkpoint, config, reference=False)
    data = load_examples(
        config.data_path, config.data_subset, config.split, on_malformed=config.on_malformed
    )
    chosen = draw(data.examples, config.texts, config.seed)
    found = reference_of(model, chosen, config, config.seed, config.data_path)
    facts = {"data": data.report.source, "seed": config.seed}
    found = dataclasses.replace(found, facts=facts | found.facts)
    return found.save(folder), found


def draw(examples: Sequence[Example], most: int, seed: int) -> list[Example]:
    """Draw examples of as many prompts as possible: one per prompt, then a second, and so on.

    Args:
        examples: The examples.
        most: Most distinct texts in all; an example is taken whole, or not at all.
        seed: Seed of the order of prompts and of the examples of a prompt.

    Returns:
        The examples, one of each prompt in each round.
    """
    generator = random.Random(seed)
    groups: dict[str, list[Example]] = {}
    for example in examples:
        groups.setdefault(first_question(example), []).append(example)
    order = sorted(groups)
    generator.shuffle(order)
    for key in order:
        generator.shuffle(groups[key])
    drawn: list[Example] = []
    seen: set[str] = set()
    rounds = zip_longest(*(groups[key] for key in order))
    for example in filter(None, chain.from_iterable(rounds)):
        seen |= set(map(_spelt, example.inputs))
        if len(seen) > most:
            break
        drawn.append(example)
    return drawn


def reference_of(
    model: RewardModel,
    examples: Sequence[Example],
    options: ModelOptions = ModelOptions(),  # noqa: B008 - frozen
    seed: int = 0,
    source: str | None = None,
) -> Reference:
    """Make the reference of a model from examples.

    Prompts (first user turns) are divided into halves at random. The distinct texts of one half
    show where texts lie, and the texts of the other half show which distances are usual. All texts
    count for σ and disagreement.

    Args:
        model: The model.
        examples: Of the data it was trained on, or of more of its kind.
        options: How texts are run.
        seed: Seed of the division.
        source: Where the examples come from, for errors.

    Returns:
        The reference.

    Raises:
        DataError: If a half has too few prompts or texts with a reward.
    """
    places: dict[str, int] = {}
    texts: list[Text] = []
    asked: list[list[int]] = []
    for example in examples:
        own = []
        for text in example.inputs:
            own.append(places.setdefault(_spelt(text), len(places)))
            if own[-1] == len(texts):
                texts.append(text)
        asked.append(own)
    scorer = Scorer(model, options, "truncate")
    answers = scorer.run(scorer.prepare(texts), with_features=True)
    prompts = [first_question(example) for example in examples]
    halves = _halves(prompts, asked, answers, seed, source)
    assert answers.features is not None
    fitted = fit_place(answers.features[halves[0]])
    scored = [n for n, reason in enumerate(answers.reasons) if reason is None]
    divided = []
    for own in asked:
        rewarded = [place for place in dict.fromkeys(own) if answers.reasons[place] is None]
        if len(rewarded) > 1:
            divided.append(disagreement(scorer.describe(answers.raw[rewarded]).preferred.tolist()))
    found = Reference(
        *fitted[:3],
        model.readout(),
        torch.empty(0),
        scorer.rewards(answers.raw[scored]).stddev.float().sort().values,
        torch.tensor(divided).sort().values,
        model.head.to_dict(),
        {
            "prompts": len(set(prompts)),
            "texts": len(scored),
            "without_reward": len(texts) - len(scored),
            "shrinkage": fitted[3],
        },
    )
    usual = found.distances(answers.features[halves[1]]).sort().values
    return dataclasses.replace(found, distance=usual)


def _halves(
    prompts: Sequence[str],
    asked: Sequence[Sequence[int]],
    answers: Answers,
    seed: int,
    source: str | None,
) -> tuple[list[int], list[int]]:
    """Divide texts with a reward into halves by prompt; a text in both goes to the first half.

    Raises:
        DataError: If a half has too few prompts or texts.
    """
    order = sorted(set(prompts))
    random.Random(seed).shuffle(order)
    first = set(order[: len(order) // 2])
    halves: tuple[dict[int, None], dict[int, None]] = ({}, {})
    for prompt, own in zip(prompts, asked, strict=True):
        scored = [place for place in own if answers.reasons[place] is None]
        halves[prompt not in first].update(dict.fromkeys(scored))
    fit = list(halves[0])
    usual = [place for place in halves[1] if place not in halves[0]]
    if len(first) < _LEAST_PROMPTS or min(len(fit), len(usual)) < LEAST_TEXTS:
        raise DataError(
            f"a reference needs at least {2 * _LEAST_PROMPTS} prompts and {2 * LEAST_TEXTS} "
            f"texts; prompts in the data: {len(order)}, texts in the two halves: {len(fit)} and "
            f"{len(usual)}",
            file=source,
            remedy="Give more of the data that the model was trained on",
        )
    return fit, usual


def _spelt(text: Text) -> str:
    """Write a text and its context as a key that equal texts share."""
    given: Any = as_input(text)
    return json.dumps([given.conversation, given.tools], sort_keys=True, default=repr)
