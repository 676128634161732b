"""Fitting a probe on a frozen backbone: features once, then seconds of training."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Literal

import torch

from hidden_context.data.chat import install_chat_template
from hidden_context.data.dialogue import canonical_prompt, first_user_turn
from hidden_context.data.example import Example
from hidden_context.data.groups import BY_FIRST_TURN, SplitOptions
from hidden_context.data.held_out import Splits
from hidden_context.data.report import ReadReport
from hidden_context.data.splits import fold_of
from hidden_context.data.usable import OverLength, keep_usable
from hidden_context.errors import DataError
from hidden_context.heads import Head
from hidden_context.likelihood import Likelihood
from hidden_context.models.feature_cache import FeatureCache
from hidden_context.models.featurizer import Featurizer, FeaturizerOptions
from hidden_context.models.frozen import FrozenRewardModel, Probe
from hidden_context.models.placement import resolve_device
from hidden_context.models.tokenizer import load_tokenizer
from hidden_context.statistics.judgement_metrics import grouped_judgement_metrics
from hidden_context.training.baselines import compare_with_baselines
from hidden_context.training.config import TrainConfig
from hidden_context.training.features import FeatureSet, feature_set
from hidden_context.training.fitted import Fitted, reward_scale
from hidden_context.training.labels import (
    make_linker,
    make_training_likelihood,
    member_draws,
    read_labels,
    training_labels,
)
from hidden_context.training.probe import probe_options, train_probe
from hidden_context.training.remaining import check_remaining


def make_featurizer(config: TrainConfig) -> Featurizer:
    """Make the featurizer of a configuration."""
    tokenizer = load_tokenizer(
        config.tokenizer_name or config.model_name,
        revision=None if config.tokenizer_name else config.revision,
        trust_remote_code=config.trust_remote_code,
    )
    install_chat_template(tokenizer, config.chat_template)
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


@contextmanager
def embedding_progress(total: int, disable: bool) -> Iterator[Callable[[int], None]]:
    """Show a bar that counts embeddings, each once; those found in the cache count at once."""
    from tqdm.auto import tqdm

    with tqdm(total=total, desc="embedding", unit="text", disable=disable) as bar:
        yield bar.update


def within_limit(
    featurizer: Featurizer,
    examples: Sequence[Example],
    over_length: OverLength,
    report: ReadReport | None = None,
    on_malformed: Literal["error", "skip"] = "error",
) -> list[Example]:
    """Drop responses that are cut when they are embedded, or keep them; counted either way.

    Raises:
        DataError: If features could not tell the responses of most examples apart.
    """
    rows = [each.inputs for each in examples]
    flat = iter(featurizer.token_ids([text for row in rows for text in row]))
    ids = [[next(flat) for _ in row] for row in rows]
    lengths = [list(map(featurizer.length, *both)) for both in zip(rows, ids, strict=True)]
    found = keep_usable(examples, lengths, featurizer.limit, over_length, on_malformed, report)
    featurizer.check(
        [each.inputs for each in found.examples],
        None if report is None else report.source,
        [ids[n][p] for n, places in zip(found.indices, found.places, strict=True) for p in places],
    )
    return found.examples


def response_groups(
    examples: Sequence[Example], options: SplitOptions = BY_FIRST_TURN
) -> list[str]:
    """Name the group of every response: its example's, or its own where texts meet in many pairs.

    Where an example has no prompt and its texts stand in other pairs too, such as pairs put
    together from single rated texts, each text is its own group.

    Args:
        examples: The examples.
        options: What a group is.

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
    """Number groups in the order of their names, so that folds do not depend on the order of rows.

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
    """Which examples each member holds out to stop by: another fifth of the groups each.

    Args:
        groups: Groups of all responses, in the order of their E examples.
        sizes: How many responses each example has, E numbers.
        members: Number of members.

    Returns:
        For each member a mask of shape ``(E,)`` of the examples it holds out, all of whose
        responses are in its fifth; and one of the examples it learns from, of which none is.
    """
    count = max(members, 5)
    fold = {key: fold_of(key, count, "probe member") for key in set(groups)}
    each = iter(groups)
    places = [{fold[next(each)] for _ in range(size)} for size in sizes]
    held_out = [torch.tensor([own == {k} for own in places]) for k in range(members)]
    learned = [torch.tensor([k not in own for own in places]) for k in range(members)]
    return held_out, learned


def fit(config: TrainConfig, head: Head, splits: Splits) -> Fitted:
    """Train a probe on a frozen backbone; see ``training.run``."""
    featurizer = make_featurizer(config)
    parts = {"train": splits.train, "validation": splits.validation, "test": splits.test}
    parts = {
        name: within_limit(
            featurizer,
            examples,
            config.over_length,
            splits.reports.get(name),
            config.on_malformed,
        )
        for name, examples in parts.items()
    }
    parts = {name: examples for name, examples in parts.items() if examples}
    if "train" not in parts:
        raise DataError("no training examples are left", remedy="Look at what was dropped and why")
    likelihood = make_training_likelihood(config, head, parts["train"])
    check_remaining(config, likelihood, splits, parts)
    labels = {
        name: training_labels(config, likelihood, examples)
        if name == "train"
        else read_labels(likelihood, examples)
        for name, examples in parts.items()
    }
    linkers = {
        name: make_linker(config, likelihood, examples)
        for name, examples in parts.items()
        if config.max_comparisons and name != "test"
    }
    texts = ([text for each in part for text in each.inputs] for part in parts.values())
    total = sum(map(featurizer.distinct, texts))
    groups = response_groups(parts["train"], splits.options)
    coded = group_codes(groups)
    with embedding_progress(total, config.disable_tqdm or config.quiet) as progress:
        features = {
            name: feature_set(
                featurizer,
                part,
                labels[name],
                progress,
                linkers.get(name),
                coded if name == "train" else None,
            )
            for name, part in parts.items()
        }
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
        draws=member_draws(
            config, head, parts["train"], None if "validation" in parts else learned_from
        ),
        learned_from=learned_from,
    )
    _bring_to_one_unit(likelihood, probe, features["train"])
    model = FrozenRewardModel(featurizer, probe, probe_options(config), likelihood)
    fitted = Fitted(model, {}, history, {name: len(part) for name, part in parts.items()})
    if "test" in features and config.evaluate_at_end:
        fitted.metrics = _evaluate(model, features["test"], parts["test"])
        if config.baselines:
            fitted.baselines = compare_with_baselines(
                likelihood, probe, features["train"], features["test"]
            )
    return fitted


def _bring_to_one_unit(likelihood: Likelihood, probe: Probe, train: FeatureSet) -> None:
    """Bring an ensemble's members to one unit by what they say of the training comparisons."""
    compared = train.labels.comparisons
    if not likelihood.head.num_members or not len(compared):
        return
    with torch.inference_mode():
        raw = probe(train.features)
    likelihood.head = likelihood.head.in_one_unit(raw[compared.first], raw[compared.second])


def _evaluate(
    model: FrozenRewardModel, features: FeatureSet, examples: Sequence[Example]
) -> dict[str, float]:
    with torch.inference_mode():
        raw = model.probe(features.features)
    model.reward_scale = reward_scale(model.head, raw)
    groups = {
        column: [getattr(example, column) for example in examples]
        for column in ("data_subset", "objective")
    }
    with torch.no_grad():
        return grouped_judgement_metrics(model.likelihood, raw, features.labels, groups)
