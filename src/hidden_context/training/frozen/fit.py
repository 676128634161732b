"""Fitting a probe on a frozen backbone: features are computed once, training takes seconds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import torch
from tqdm.auto import tqdm

from hidden_context.baselines import VotedPairs, baseline_metrics, fit_baselines, vote_metrics
from hidden_context.data.dialogue import canonical_prompt, first_user_turn
from hidden_context.data.example import Example
from hidden_context.data.report import ReadReport, keep_usable
from hidden_context.data.splits.division import BY_FIRST_TURN, SplitOptions, fold_of
from hidden_context.data.splits.held_out import Splits
from hidden_context.heads import Head
from hidden_context.likelihood import Labels, Likelihood
from hidden_context.models.featurizer import FeatureCache, Featurizer, FeaturizerOptions
from hidden_context.models.frozen import FrozenRewardModel, Probe
from hidden_context.models.network.precision import resolve_device
from hidden_context.training import fitted
from hidden_context.training import labels as labelling
from hidden_context.training.config import TrainConfig
from hidden_context.training.dataset import load_run_tokenizer
from hidden_context.training.frozen.features import FeatureSet, feature_set
from hidden_context.training.frozen.probe import train_probe


def make_featurizer(config: TrainConfig) -> Featurizer:
    """Make the featurizer of a configuration."""
    tokenizer = load_run_tokenizer(config)
    return Featurizer(
        config.model_name,
        FeaturizerOptions(config.pooling, config.embed, config.max_length, config.feature_layer),
        dtype=torch.bfloat16 if config.bf16 else torch.float32,
        device=resolve_device("auto"),
        revision=config.revision,
        trust_remote_code=config.trust_remote_code,
        cache=FeatureCache(config.cache_dir),
        tokenizer=tokenizer,
    )


def within_limit(
    featurizer: Featurizer,
    examples: Sequence[Example],
    config: TrainConfig,
    report: ReadReport | None = None,
) -> list[Example]:
    """Drop or keep responses that are too long to embed whole, and count them.

    Raises:
        DataError: If features could not tell the responses of most examples apart.
    """
    rows = [each.inputs for each in examples]
    flat = iter(featurizer.token_ids([text for row in rows for text in row]))
    ids = [[next(flat) for _ in row] for row in rows]
    lengths = [list(map(featurizer.length, *both)) for both in zip(rows, ids, strict=True)]
    found = keep_usable(
        examples, lengths, featurizer.limit, config.over_length, config.on_malformed, report
    )
    featurizer.check(
        [each.inputs for each in found.examples],
        None if report is None else report.source,
        [ids[n][p] for n, places in zip(found.indices, found.places, strict=True) for p in places],
    )
    return found.examples


def response_groups(
    examples: Sequence[Example], options: SplitOptions = BY_FIRST_TURN
) -> list[str]:
    """Return the group of every response: the group of its example, or of the text itself.

    Each text is its own group if the example has no prompt and one of its texts also stands in
    other pairs, for example in pairs put together from single rated texts.

    Args:
        examples: The examples.
        options: Options that say what a group is.

    Returns:
        The groups of all R responses, in order.
    """
    own = [
        [first_user_turn(text) or canonical_prompt(text) for text in example.texts]
        for example in examples
    ]
    # a pair counts once, however many rows its votes are spread over
    counts = Counter(key for keys in {frozenset(keys) for keys in own} for key in keys)
    groups: list[str] = []
    for example, keys, key in zip(examples, own, options.keys(examples), strict=True):
        apart = options.by is None and example.known_prompt is None
        meet = apart and any(counts[each] > 1 for each in keys)
        groups += keys if meet else [key] * len(keys)
    return groups


def group_codes(groups: Sequence[str]) -> torch.Tensor:
    """Number groups by name, so that folds do not depend on the order of rows.

    Args:
        groups: Groups of all R responses.

    Returns:
        The number of each response's group, of shape ``(R,)``.
    """
    numbers = {key: number for number, key in enumerate(sorted(set(groups)))}
    return torch.tensor([numbers[key] for key in groups])


def member_folds(
    groups: Sequence[str], sizes: Sequence[int], members: int
) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Choose the groups that each member holds out for early stopping.

    Each member holds out a share of 1/max(M, 5) of the groups, where M is the number of members.

    Args:
        groups: Groups of all responses, in the order of their E examples.
        sizes: Number of responses of each of E examples.
        members: Number M of members.

    Returns:
        For each member a mask of shape ``(E,)`` of the examples it holds out, all of whose
        responses are in its share; and one of the examples it learns from, of which none is.
    """
    count = max(members, 5)
    fold = {key: fold_of(key, count, "probe member") for key in set(groups)}
    each = iter(groups)
    places = [{fold[next(each)] for _ in range(size)} for size in sizes]
    held_out = [torch.tensor([own == {k} for own in places]) for k in range(members)]
    learned = [torch.tensor([k not in own for own in places]) for k in range(members)]
    return held_out, learned


def fit(config: TrainConfig, head: Head, splits: Splits) -> fitted.Fitted:
    """Train a probe on a frozen backbone; see ``training.run``."""
    featurizer = make_featurizer(config)
    parts: dict[str, list[Example]] = {}
    for name in ("train", "validation", "test"):
        report = splits.reports.get(name)
        if left := within_limit(featurizer, getattr(splits, name), config, report):
            parts[name] = left
    fitted.check_trainable(splits, parts)
    likelihood = labelling.make_training_likelihood(config, head, parts["train"])
    fitted.check_remaining(config, likelihood, splits, parts)
    labels = {name: labelling.read_labels(likelihood, part) for name, part in parts.items()}
    labels["train"] = labelling.training_labels(config, likelihood, parts["train"])
    texts = ([text for each in part for text in each.inputs] for part in parts.values())
    total = sum(map(featurizer.distinct, texts))
    groups = response_groups(parts["train"], splits.options)
    features: dict[str, FeatureSet] = {}
    hidden = config.disable_tqdm or config.quiet
    with tqdm(total=total, desc="embedding", unit="text", disable=hidden) as bar:
        for name, part in parts.items():
            linker = None if name == "test" else labelling.make_linker(config, likelihood, part)
            coded = group_codes(groups) if name == "train" else None
            features[name] = feature_set(featurizer, part, labels[name], bar.update, linker, coded)
    held_out = learned_from = None
    if config.probe_early_stopping:
        sizes = [len(example.responses) for example in parts["train"]]
        members = head.num_members or config.probe_members
        held_out, learned_from = member_folds(groups, sizes, members)
    probe, history = train_probe(
        config,
        likelihood,
        features["train"],
        features.get("validation") if config.probe_early_stopping else None,
        held_out=held_out,
        draws=labelling.member_draws(
            config, head, parts["train"], None if "validation" in parts else learned_from
        ),
        learned_from=learned_from,
    )
    if head.num_members:
        with torch.inference_mode():
            fitted.bring_to_one_unit(likelihood, probe(features["train"].features), labels["train"])
    model = FrozenRewardModel(featurizer, probe, likelihood)
    result = fitted.Fitted(model, {}, history, {name: len(part) for name, part in parts.items()})
    if "test" in features and config.evaluate_at_end:
        with torch.inference_mode():
            raw = probe(features["test"].features)
        result.metrics = fitted.test_metrics(model, raw, labels["test"], parts["test"])
        if config.baselines:
            result.baselines = compare_with_baselines(
                likelihood, probe, features["train"], features["test"]
            )
    return result


def compare_with_baselines(
    likelihood: Likelihood, probe: Probe, train: FeatureSet, test: FeatureSet
) -> dict[str, dict[str, float]]:
    """Compare baselines, fitted on a probe's training data, with the probe on test votes.

    Args:
        likelihood: The probe's; of annotators it takes somebody of the population.
        probe: The trained probe.
        train: The probe's training data.
        test: The test data.

    Returns:
        For each baseline and for ``probe`` the metrics of ``vote_metrics``; empty where one side
        has no comparisons.
    """
    pairs = [
        data.voted_pairs(probe.standardised(data.features), weight)
        for data, weight in ((train, train.labels.weight), (test, test.labels.votes))
    ]
    learned, tested = pairs
    if learned is None or tested is None:
        return {}
    metrics = baseline_metrics(fit_baselines(learned), tested)
    return {**metrics, "probe": vote_metrics(*_population(likelihood, probe, tested), tested)}


def _population(
    likelihood: Likelihood, probe: Probe, pairs: VotedPairs
) -> tuple[np.ndarray, np.ndarray]:
    """Return log-probabilities that a random annotator prefers either side, ``(C,)`` each."""
    rows = np.stack([pairs.first, pairs.second], axis=1).reshape(-1)
    labels = Labels.of_pairs(torch.ones(len(pairs)))
    with torch.no_grad():
        features = torch.from_numpy(pairs.features).float()
        raw = probe.raw_of_standardised(features)[torch.from_numpy(rows)]
        first = likelihood.log_prob_first(raw, labels)
        second = likelihood.log_prob_first(raw, labels.swapped())
    return first.double().numpy(), second.double().numpy()
