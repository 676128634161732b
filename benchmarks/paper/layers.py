"""Features of several layers of a frozen backbone from one pass, and which layer to take.

The package computes the features of one layer at a time and keeps them in its cache. A language
model on a processor takes long for a pass, so here one pass fills the cache for several layers.
"""

from __future__ import annotations

import types
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import GroupKFold
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from hidden_context.data.example import Text
from hidden_context.models.featurizer import Featurizer, FeaturizerOptions

# Inverse penalties tried on standardised features.
PENALTIES = (1e-5, 1e-4, 1e-3, 1e-2)
TEXTS_AT_ONCE = 256


class Remembering:
    """A network that keeps the hidden states of some layers for each batch it has seen.

    Args:
        model: The network.
        layers: The hidden states that are kept, from 0 (the embeddings).
    """

    def __init__(self, model: Any, layers: Sequence[int]) -> None:
        self.model, self.layers, self.config = model, tuple(layers), model.config
        self.known: dict[bytes, dict[int, Tensor]] = {}

    def __call__(
        self, input_ids: Tensor, attention_mask: Tensor, output_hidden_states: bool
    ) -> types.SimpleNamespace:
        """Run the network, or look up the hidden states of a batch it has seen."""
        key = input_ids.numpy().tobytes()
        if key not in self.known:
            found = self.model(
                input_ids=input_ids,
                attention_mask=attention_mask,
                output_hidden_states=output_hidden_states,
            ).hidden_states
            self.known[key] = {layer: found[layer] for layer in self.layers}
        return types.SimpleNamespace(hidden_states=self.known[key])


def layer_featurizers(
    backbone: str, layers: Sequence[int], *, max_length: int, dtype: torch.dtype
) -> list[Featurizer]:
    """Make one featurizer for each layer, on one network."""
    made = [
        Featurizer(backbone, FeaturizerOptions(max_length=max_length, layer=layer), dtype=dtype)
        for layer in layers
    ]
    wanted, network = [each.layer for each in made], made[0].model
    if hasattr(network, "layers"):  # those after the deepest that is wanted are left out
        # One more than is wanted: the last hidden states of a model are normalised, others are not.
        network.layers = network.layers[: max(wanted) + 1]
    shared = Remembering(network, wanted)
    for each in made:
        each.model = shared
    return made


def fill_cache(
    featurizers: Sequence[Featurizer], texts: Sequence[Text], batch_size: int, progress: Any = None
) -> None:
    """Compute the features of texts for every layer, each batch of texts once, into the cache.

    What a broken off run has computed is found again.

    Args:
        featurizers: Those of ``layer_featurizers``.
        texts: The texts.
        batch_size: Texts per forward pass.
        progress: Called with the number of texts just done.
    """
    for start in range(0, len(texts), TEXTS_AT_ONCE):
        part = texts[start : start + TEXTS_AT_ONCE]
        for each in featurizers:
            each.features(part, batch_size)
        featurizers[0].model.known.clear()
        if progress is not None:
            progress(len(part))


def linear_loss(differences: np.ndarray, groups: Sequence[str], penalty: float) -> float:
    """Held-out loss of a logistic regression on differences of features, in nats per pair.

    Args:
        differences: Features of the chosen response less those of the rejected one, ``(N, D)``.
        groups: A name for each pair; a group is never on two sides of the five divisions.
        penalty: Inverse penalty on the weights.
    """
    signs = np.where(np.arange(len(differences)) % 2, 1.0, -1.0)  # sides in turn, no intercept
    losses = []
    for rest, held_out in GroupKFold(5).split(differences, groups=groups):
        scale = StandardScaler(with_mean=False).fit(differences[rest])
        model = LogisticRegression(C=penalty, fit_intercept=False, max_iter=200)
        model.fit(scale.transform(differences[rest]) * signs[rest, None], signs[rest])
        odds = model.predict_proba(scale.transform(differences[held_out]) * signs[held_out, None])
        losses.append(log_loss(signs[held_out], odds, labels=model.classes_))
    return float(np.mean(losses))


def layer_losses(
    featurizers: Sequence[Featurizer], pairs: Sequence[Sequence[Text]], groups: Sequence[str]
) -> dict[int, float]:
    """Held-out loss of a linear reward on each layer's features, by its best penalty.

    Args:
        featurizers: One for each layer.
        pairs: Chosen and rejected text of each training pair.
        groups: A name for each pair, such as its first question.

    Returns:
        For each layer the loss in nats per pair; the layer to take has the least.
    """
    losses = {}
    for each in featurizers:
        chosen, rejected = (each.features([pair[side] for pair in pairs]) for side in (0, 1))
        differences = (chosen - rejected).numpy()
        losses[each.layer] = min(linear_loss(differences, groups, c) for c in PENALTIES)
    return losses
