"""Options of making a reference; every field is also a flag of ``reference``."""

from __future__ import annotations

import dataclasses
from typing import Final, Literal

from hidden_context.config import option
from hidden_context.errors import ConfigError
from hidden_context.scoring.config import ModelOptions

# Fewer in a half, and its 95th percentile is a matter of two or three texts.
LEAST_TEXTS: Final = 50


@dataclasses.dataclass(frozen=True)
class ReferenceConfig(ModelOptions):
    """Options of ``hidden-context reference``."""

    checkpoint: str = option(
        "", "folder of the model, which the reference is put into", positional=True
    )
    data_path: str = option(
        "",
        "hub id, folder or file of the data it was trained on, or of more of its kind",
        positional=True,
    )
    data_subset: str = option("both", "both, helpful or harmless, or another subset's name")
    split: str = option("train", "split to read; of no effect for a single file")
    texts: int = option(
        4000, "most texts to draw, of as many prompts as there are", least=4 * LEAST_TEXTS
    )
    on_malformed: Literal["error", "skip"] = option(
        "error", "malformed rows: an error, or skipped and counted"
    )
    seed: int = option(0, "seed of the draw, and of the division into halves")

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.checkpoint or not self.data_path:
            raise ConfigError(
                "reference needs a model and its data, as in: hidden-context reference CHECKPOINT "
                "DATA."
            )
