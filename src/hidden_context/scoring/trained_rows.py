"""Whether an evaluation takes in rows that its checkpoint was trained on."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any, Final

from hidden_context.data.held_out import DEFAULT_EVAL_FRACTION
from hidden_context.data.sources import is_single_table
from hidden_context.errors import HiddenContextWarning
from hidden_context.scoring.config import EvaluateConfig

TRAINING_CONFIG: Final = "training_config.yaml"
_NO_BALANCE: Final = (None, "", "false")


def warn_of_trained_rows(config: EvaluateConfig) -> None:
    """Warn where training held out a part of the data, and not only that part is evaluated.

    What training did stands in the ``training_config.yaml`` of a local checkpoint; nothing is said
    of one without it, or of other data.
    """
    trained = _training_options(Path(config.checkpoint) / TRAINING_CONFIG)
    fraction = _fraction_held_out(trained, config)
    if not fraction:
        return
    by, balance = trained.get("split_by"), trained.get("split_balance")
    balanced = balance not in _NO_BALANCE
    same = config.split_by == by and (config.split_balance not in _NO_BALANCE) == balanced
    if same and 0 < config.eval_fraction <= fraction:
        return
    flags = f"--eval_fraction {fraction:g}" + (f" --split_by {by}" if by else "")
    if balanced:
        flags += " --split_balance" + ("" if balance == "true" else f" {balance}")
    warnings.warn(
        f"rows that {config.checkpoint} was trained on are among those evaluated; {flags} takes "
        "the ones that its training held out.",
        HiddenContextWarning,
        stacklevel=3,
    )


def _training_options(path: Path) -> dict[str, Any]:
    import yaml

    if not path.is_file():
        return {}
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        return {}
    return found if isinstance(found, dict) else {}


def _fraction_held_out(trained: dict[str, Any], config: EvaluateConfig) -> float:
    """Return the share that training held out of the split that is evaluated; 0 for none."""
    path = trained.get("data_path")
    if path != config.data_path and Path(str(path)).resolve() != Path(config.data_path).resolve():
        return 0.0
    splits = trained.get("train_split"), trained.get("eval_split")
    single = is_single_table(config.data_path)
    fraction = trained.get("eval_fraction")
    if fraction is None:
        fraction = DEFAULT_EVAL_FRACTION if single or splits[0] == splits[1] else 0.0
    # with a fraction, training found one of its two splits alone, and divided that one
    return float(fraction) if single or config.eval_split in splits else 0.0
