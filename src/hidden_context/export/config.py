"""Options of an export; every field is also a flag of ``hidden-context export``."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Literal

from hidden_context.config import check_given, check_options, option
from hidden_context.errors import ConfigError

Form = Literal["full", "scalar", "adapters"]
Precision = Literal["float32", "bfloat16", "float16"]


@dataclasses.dataclass(frozen=True)
class ExportConfig:
    """Options of ``export.export_model``."""

    checkpoint: str = option("", "reward model to export: a folder or a hub id", positional=True)
    output: str = option("", "folder to write")
    form: Form = option(
        "full",
        "full: one classifier with all raw outputs; scalar: one with the mean reward alone; "
        "adapters: LoRA adapters as PEFT folders",
    )
    dtype: Precision = option("float32", "precision of the backbone's weights in the folder")
    drop_constant: bool = option(
        False,
        "with scalar: leave out a constant that the model's class has no place for; every reward "
        "changes by it, and no comparison does",
    )
    write_base: bool = option(
        False, "with adapters: also write their backbone as a classifier, as vLLM needs it"
    )
    overwrite: bool = option(False, "replace an earlier export")
    head: str | None = option(None, "head of a checkpoint that does not say, such as base")
    base_model: str | None = option(None, "backbone, instead of the one the checkpoint names")
    tokenizer_name: str | None = option(None, "tokenizer, instead of the checkpoint's")
    revision: str | None = option(None, "branch, tag or commit of a hub checkpoint")
    trust_remote_code: bool = option(False, "let code from the model's repository run")
    device: str = option("cpu", "where weights are merged and the export is checked: cpu, cuda …")

    def __post_init__(self) -> None:
        check_options(self)
        needed = {"a checkpoint": self.checkpoint, "--output": self.output}
        check_given(needed, "export CHECKPOINT --output FOLDER")
        if self.drop_constant and self.form != "scalar":
            raise ConfigError(
                "--drop_constant needs --form scalar: with several raw outputs, dropping a "
                "constant may change comparisons."
            )
        if self.write_base and self.form != "adapters":
            raise ConfigError("--write_base needs --form adapters; leave it out.")
        if self.form == "adapters" and self.dtype != "float32" and not self.write_base:
            raise ConfigError(
                "adapters keep the precision they were trained in; --dtype is for the backbone of "
                "--write_base. Leave it out."
            )

    @property
    def folder(self) -> Path:
        """The folder to write, as an absolute path."""
        return Path(self.output).expanduser().resolve()
