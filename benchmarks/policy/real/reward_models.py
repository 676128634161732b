"""The reward models and judges: probes on a frozen language model, and what they say."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import torch
from kit import fit
from paper.layers import fill_cache, layer_featurizers
from policy.models import Raw, kept_raw
from policy.real.prompts import Division
from policy.rewards import MODELS

from hidden_context import heads
from hidden_context.data.example import Example
from hidden_context.distributions import RewardDistribution
from hidden_context.models import RewardModel
from hidden_context.models.featurizer import FeatureCache

LAYER: Final = 20
"""Two thirds deep: the package's default, and what training pairs chose."""
MAX_LENGTH: Final = 512
_ONE_PASS: Final = 32


@dataclasses.dataclass(frozen=True)
class Learner:
    """One reward model.

    Attributes:
        name: Its name.
        model: Its head and options, a name of ``policy.rewards.MODELS``.
        side: ``train`` or ``judges``: whose pairs it learns from.
        objective: The objective whose labels it sees; None for both.
    """

    name: str
    model: str
    side: str = "train"
    objective: str | None = None

    @property
    def file_name(self) -> str:
        """Its name among files."""
        return self.name.replace(" ", "_")

    def pairs(self, division: Division) -> list[Example]:
        """Return the pairs that it learns from."""
        there = division.train if self.side == "train" else division.judges
        return [pair for pair in there if self.objective in (None, pair.objective)]


LEARNERS: Final = (
    *(Learner(name, name) for name in MODELS),
    Learner("helpful only", "base", objective="helpful"),
    Learner("harmless only", "base", objective="harmless"),
    Learner("helpful judge", "base", "judges", "helpful"),
    Learner("harmless judge", "base", "judges", "harmless"),
)


Said = dict[str, RewardDistribution]
"""Rewards of ``responses``, batch shape ``(P, S)``, and of held-out ``pairs``, ``(M, 2)``.

The chosen response of a pair comes first.
"""


def prepare(backbone: str, texts: Sequence[Any], cache: Path, say: Callable[[str], Any]) -> None:
    """Compute the features of all texts into the cache, in bfloat16, no layer that is not read."""
    (featurizer,) = layer_featurizers(
        backbone, [LAYER], max_length=MAX_LENGTH, dtype=torch.bfloat16
    )
    featurizer.cache = FeatureCache(cache)
    done = 0

    def progress(count: int) -> None:
        nonlocal done
        done += count
        say(f"features: {done} of {len(texts)} texts")

    fill_cache([featurizer], texts, _ONE_PASS, progress)


def said(
    learner: Learner,
    division: Division,
    answered: Sequence[Example],
    folder: Path,
    made_by: Mapping[str, Any],
    training: Mapping[str, Any],
) -> Said:
    """Rewards by one model, which is trained unless they are kept already.

    Args:
        learner: Which.
        division: The pairs.
        answered: The prompts with the responses that are chosen among.
        folder: Where raw outputs and models are kept.
        made_by: What the outputs depend on, beside the learner.
        training: Options of ``TrainConfig`` that all share.

    Raises:
        ConfigError: If what is kept was made otherwise.
    """

    def make() -> Raw:
        model = trained(learner, division, folder, training)
        raw = {
            part: model.raw_outputs([text for each in examples for text in each.inputs])
            for part, examples in (("responses", answered), ("pairs", division.held_out))
        }
        return raw, {"head": model.head.to_dict()}

    path = folder / "raw" / f"{learner.file_name}.safetensors"
    raw, about = kept_raw(path, {"made_by": made_by}, make)
    head = heads.from_dict(about["head"])
    shape = (len(answered), len(answered[0].responses))
    return {
        "responses": head.distribution(raw["responses"].unflatten(0, shape)),
        "pairs": head.distribution(raw["pairs"].unflatten(0, (-1, 2))),
    }


def trained(
    learner: Learner, division: Division, folder: Path, training: Mapping[str, Any]
) -> RewardModel:
    """Train one reward model; it is saved under ``models`` in the folder, too."""
    final = {"final_dir": str(folder / "models" / learner.file_name)}
    return fit({**training, **MODELS[learner.model], **final}, learner.pairs(division)).model


def training_options(model: str, folder: Path, layer: int = LAYER) -> dict[str, Any]:
    """Return the options of ``TrainConfig`` that all reward models share."""
    return {
        "model_name": model,
        "freeze_backbone": True,
        "feature_layer": layer,
        "max_length": MAX_LENGTH,
        "over_length": "truncate",
        "precision": "bfloat16",
        "cache_dir": str(folder / "cache"),
        "baselines": False,
        "evaluate_at_end": False,
    }
