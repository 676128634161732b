"""``reference/reference.safetensors``: the usual values on the data that a model learned from."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from hidden_context.data.storage.files import atomic_write
from hidden_context.errors import CheckpointError
from hidden_context.heads import Head
from hidden_context.models.checkpoint import contents

_FORMAT: Final = 1
_TENSORS: Final = (
    *("location", "scale", "whitening", "readout"),
    *("distance", "sigma", "disagreement"),
)

Quantity: TypeAlias = Literal["sigma", "disagreement", "distance"]
"""What a reference knows the usual values of."""

QUANTITIES: Final[tuple[Quantity, ...]] = ("sigma", "disagreement", "distance")


@dataclasses.dataclass(frozen=True, eq=False)
class Reference:
    r"""Usual features, σ, disagreement and distances of the texts in a model's data.

    The distance of a text with features x is Mahalanobis's,

    .. math:: d(x)^2 = \sum_m \lVert W_m (x_m - \mu_m) / s_m \rVert^2,

    over the networks m of the model (one network, except in ensembles of adapters). W'W is the
    inverse of the shrunk correlation matrix of the features of one half of the data. The usual
    distances come from the other half, with which a new text of the same data is exchangeable.

    Attributes:
        location: μ, of shape ``(M, D)``.
        scale: s, of shape ``(M, D)``.
        whitening: W, lower triangles of shape ``(M, D, D)``.
        readout: The weights that the model reads rewards with, by which it is known.
        distance: Distances of texts that the fit did not see, ascending.
        sigma: Standard deviations of rewards, in reward units, ascending.
        disagreement: Disagreement among the responses to one prompt, in [0, ½], ascending.
        head: The model's head in its JSON form.
        facts: How it was made: data, seed, numbers of prompts and texts, shrinkage, precision.
    """

    location: Tensor
    scale: Tensor
    whitening: Tensor
    readout: Tensor
    distance: Tensor
    sigma: Tensor
    disagreement: Tensor
    head: dict[str, Any]
    facts: dict[str, Any]

    def distances(self, features: Tensor) -> Tensor:
        """Compute the distances ``(B,)`` of features ``(B, M, D)``; NaN stays NaN."""
        standardised = (features.float() - self.location) / self.scale
        whitened = torch.einsum("bmd,med->bme", standardised, self.whitening)
        return whitened.square().sum((1, 2)).sqrt()

    def percentiles(self, quantity: Quantity, values: Tensor) -> Tensor:
        """Return the share of the reference's values below each value, in [0, 1].

        Equal values do not count as below, so no value is unusual where nothing varies.

        Args:
            quantity: Which values.
            values: Of any shape.

        Returns:
            Of the same shape, in float64; NaN where a value is, or the reference has none.
        """
        usual = getattr(self, quantity)
        if not len(usual):
            return torch.full(values.shape, torch.nan, dtype=torch.float64)
        asked = values.to(usual).contiguous()
        found = torch.searchsorted(usual, asked).double() / len(usual)
        return found.masked_fill(asked.isnan(), torch.nan)

    def check(self, head: Head, readout: Tensor, source: str | Path) -> None:
        """Check that this is the reference of a given model.

        Args:
            head: The model's head.
            readout: The weights that it reads rewards with.
            source: Where the reference lies, for the error.

        Raises:
            CheckpointError: If it is the reference of another model or head.
        """
        if head.to_dict() != self.head:
            raise CheckpointError(
                f"{source} is the reference of the head {self.head}, but the model has the head "
                f"{head.to_dict()}. {_remedy(source)}"
            )
        # rounding to bfloat16 moves weights by 1e-3 of their norm at most; training moves them more
        same = readout.shape == self.readout.shape and bool(
            (readout - self.readout).norm() <= 3e-3 * self.readout.norm()
        )
        if not same:
            raise CheckpointError(
                f"{source} is the reference of another model: the weights of the output layer "
                f"differ. {_remedy(source)}"
            )

    def save(self, folder: str | Path) -> Path:
        """Write the file into a checkpoint's folder, whole or not at all.

        Raises:
            StorageError: If it could not be written; an earlier one is untouched.
        """
        path = Path(folder) / contents.REFERENCE_FILE
        about = {"format": _FORMAT, "head": self.head, "facts": self.facts}
        tensors = {name: getattr(self, name).contiguous() for name in _TENSORS}
        with atomic_write(path, "wb") as file:
            file.write(save(tensors, {"reference": json.dumps(about)}))
        return path

    @classmethod
    def load(cls, path: str | Path) -> Reference:
        """Read the file.

        Raises:
            CheckpointError: If it is damaged or of a later version.
        """
        with contents.as_checkpoint_error(f"{path} is damaged ({{error}}). {_remedy(path)}"):
            with safe_open(path, framework="pt") as file:
                about = json.loads((file.metadata() or {})["reference"])
                contents.check_format(path, about["format"], _FORMAT)
                tensors = {name: file.get_tensor(name) for name in _TENSORS}
            found = cls(**tensors, head=dict(about["head"]), facts=dict(about["facts"]))
            found.distances(found.location.unsqueeze(0))  # shapes that do not fit fail here
        return found


def load_reference(
    name: str, head: Head, readout: Callable[[], Tensor], revision: str | None = None
) -> Reference | None:
    """Read the reference of a loaded model, if its checkpoint has one.

    Args:
        name: Folder or hub id of the checkpoint.
        head: The model's head.
        readout: Gives the weights that it reads rewards with; asked where there is a reference.
        revision: Branch, tag or commit of a hub repository.

    Raises:
        CheckpointError: If it is damaged, or another model's.
    """
    path = contents.find_file(name, contents.REFERENCE_FILE, revision)
    if path is None:
        return None
    found = Reference.load(path)
    found.check(head, readout(), path)
    return found


def _remedy(path: str | Path) -> str:
    folder = Path(path).parent.parent
    return f"Make it anew (hidden-context reference {folder} DATA), or remove the file."
