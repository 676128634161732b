"""Keeping the vectors that rewards are read from, for those who ask: what the output layer sees."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from hidden_context.errors import HiddenContextError
from hidden_context.models.engine.forward import classifier_of
from hidden_context.models.engine.pooling import LastEosPooling, equal_counts


class Features:
    """The pooled hidden states of B texts, taken where they go into the output layer.

    The network computes what it always does; only inside ``listening`` a hook keeps its input.

    Args:
        layers: The output layer; several where adapters have one each, of which one runs at a time.
        count: Number B of texts.
    """

    def __init__(self, layers: Sequence[nn.Linear], count: int) -> None:
        self.layers = layers
        self.vectors = torch.empty(count, layers[0].in_features)
        self._seen: list[Tensor] = []

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Keep what goes into the output layer, inside the block."""

        def keep(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            self._seen.append(inputs[0].detach())

        handles = [layer.register_forward_pre_hook(keep) for layer in self.layers]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def forget(self) -> None:
        """Forget what a pass saw that is not to be kept."""
        self._seen.clear()

    def keep(self, module: Any, sequences: Sequence[Sequence[int]], members: Sequence[int]) -> None:
        """Put what was seen since the last time into the rows of texts.

        Args:
            module: The classifier that ran, wrapped or not.
            sequences: All B sequences.
            members: Those that ran, in the order of their raw outputs.

        Raises:
            HiddenContextError: If the output layer did not read one vector of each.
        """
        found = torch.cat(self._seen) if self._seen else torch.empty(0)
        self.forget()
        if found.shape != (len(members), self.vectors.shape[1]):
            raise HiddenContextError(
                f"the output layer of {type(classifier_of(module)).__name__} reads vectors of "
                f"shape {tuple(found.shape)} for {len(members)} texts, so that rewards have no "
                "features; this model cannot have a reference."
            )
        classifier = classifier_of(module)
        if isinstance(classifier, LastEosPooling):  # it runs texts by their number of EOS tokens
            eos = int(classifier.config.eos_token_id)
            counts = torch.tensor([list(sequences[n]).count(eos) for n in members])
            found = found[torch.cat(equal_counts(counts)).argsort().to(found.device)]
        self.vectors[list(members)] = found.float().cpu()
