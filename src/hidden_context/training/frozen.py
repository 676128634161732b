"""Fitting a probe on a frozen backbone: features once, then seconds of training."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch

from hidden_context import heads
from hidden_context.data.chat import install_chat_template
from hidden_context.data.held_out import Splits
from hidden_context.data.labels import labels_for
from hidden_context.data.preferences import Preference
from hidden_context.data.report import ReadReport
from hidden_context.data.splits import fold_of
from hidden_context.data.tokenize import OverLength
from hidden_context.errors import ConfigError, DataError
from hidden_context.heads import Head
from hidden_context.models.feature_cache import FeatureCache
from hidden_context.models.featurizer import Featurizer, FeaturizerOptions
from hidden_context.models.frozen import FrozenRewardModel
from hidden_context.models.placement import resolve_device
from hidden_context.models.tokenizer import load_tokenizer
from hidden_context.statistics.pair_metrics import grouped_pair_metrics
from hidden_context.training.config import TrainConfig
from hidden_context.training.fitted import Fitted, reward_scale
from hidden_context.training.objective import make_objective, member_weights
from hidden_context.training.probe import PairFeatures, pair_features, probe_options, train_probe


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
    """Show a bar that counts embeddings; those found in the cache count at once."""
    from tqdm.auto import tqdm

    with tqdm(total=total, desc="embedding", unit="text", disable=disable) as bar:
        yield bar.update
        bar.update(total - bar.n)


def within_limit(
    featurizer: Featurizer,
    pairs: Sequence[Preference],
    over_length: OverLength,
    report: ReadReport | None = None,
) -> list[Preference]:
    """Drop pairs of which a side is cut when it is embedded, or keep them; counted either way."""
    counts = featurizer.token_counts(
        [text for pair in pairs for text in (pair.chosen, pair.rejected)]
    )
    too_long = [
        max(sides) > featurizer.limit for sides in zip(counts[::2], counts[1::2], strict=True)
    ]
    if over_length == "truncate":
        kept = list(pairs)
    else:
        kept = [pair for pair, long in zip(pairs, too_long, strict=True) if not long]
    if report is not None:
        report.truncated += sum(too_long) if over_length == "truncate" else 0
        report.too_long += len(pairs) - len(kept)
        report.kept -= len(pairs) - len(kept)
        report.identical = sum(pair.identical for pair in kept)
    return kept


def member_folds(pairs: Sequence[Preference], members: int) -> list[torch.Tensor]:
    """Which pairs each member holds out to stop by: another fifth of the prompts each.

    Args:
        pairs: N training pairs.
        members: Number of members.

    Returns:
        For each member a mask of shape ``(N,)``.
    """
    count = max(members, 5)
    folds = torch.tensor([fold_of(pair.prompt_key, count, "probe member") for pair in pairs])
    return [folds == member for member in range(members)]


def fit(config: TrainConfig, head: Head, splits: Splits) -> Fitted:
    """Train a probe on a frozen backbone; see ``training.run``."""
    if config.resume_from_checkpoint not in (None, "false"):
        raise ConfigError(
            "--resume_from_checkpoint has nothing to go on from with --freeze_backbone: features "
            "are cached, and the probe trains in seconds."
        )
    featurizer = make_featurizer(config)
    parts = {"train": splits.train, "validation": splits.validation, "test": splits.test}
    parts = {
        name: within_limit(featurizer, pairs, config.over_length, splits.reports.get(name))
        for name, pairs in parts.items()
    }
    parts = {name: pairs for name, pairs in parts.items() if pairs}
    if "train" not in parts:
        raise DataError("no training pairs are left", remedy="Look at what was dropped and why")
    objective = make_objective(config, head, parts["train"])
    labels = {name: labels_for(objective, pairs) for name, pairs in parts.items()}
    per_text = 2 if config.embed == "apart" else 1
    total = sum(2 * per_text * len(pairs) for pairs in parts.values())
    with embedding_progress(total, config.disable_tqdm or config.quiet) as progress:
        features = {
            name: pair_features(featurizer, pairs, labels[name], progress)
            for name, pairs in parts.items()
        }
    probe, history = train_probe(
        config,
        objective,
        features["train"],
        features.get("validation") if config.probe_early_stopping else None,
        held_out=(
            member_folds(parts["train"], config.probe_members)
            if config.probe_early_stopping
            else None
        ),
        member_weight=member_weights(config, head, parts["train"]),
    )
    model = FrozenRewardModel(featurizer, probe, head, probe_options(config), objective=objective)
    if isinstance(head, heads.EnsembleHead):
        with torch.inference_mode():
            raw = [probe(side) for side in (features["train"].chosen, features["train"].rejected)]
        model.set_head(head.in_one_unit(*raw))
    metrics: dict[str, float] = {}
    if "test" in features and config.evaluate_at_end:
        metrics = _evaluate(model, features["test"], parts["test"])
    return Fitted(model, metrics, history, {name: len(pairs) for name, pairs in parts.items()})


def _evaluate(
    model: FrozenRewardModel, features: PairFeatures, pairs: Sequence[Preference]
) -> dict[str, float]:
    with torch.inference_mode():
        chosen, rejected = model.probe(features.chosen), model.probe(features.rejected)
    model.reward_scale = reward_scale(model.head, torch.cat([chosen, rejected]))
    groups = {
        column: {
            row: str(value)
            for row, pair in enumerate(pairs)
            if (value := getattr(pair, column)) is not None
        }
        for column in ("data_subset", "objective")
    }
    rows = torch.arange(len(pairs))
    labels = features.labels
    return grouped_pair_metrics(
        model.head, chosen, rejected, labels.vote_share, rows, groups, model.objective, labels
    )
