"""What is learned beside the network: ``objective.json`` and ``objective.safetensors``."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from hidden_context.data.files import write_json
from hidden_context.errors import CheckpointError, ConfigError, first_line
from hidden_context.heads import FactorHead, Head
from hidden_context.models.head_file import read_checkpoint_json
from hidden_context.objectives import AnnotatorEmbeddings, Objective, Outcomes

OBJECTIVE_FILE: Final = "objective.json"
OBJECTIVE_WEIGHTS: Final = "objective.safetensors"
_FORMAT: Final = 1


def describe_objective(objective: Objective) -> dict[str, Any]:
    """What an objective is besides its numbers, as ``objective.json`` has it."""
    annotators = objective.annotators
    return {
        "format": _FORMAT,
        "levels": objective.outcomes.levels,
        "margin_scale": objective.outcomes.margin_scale,
        "anchor_weight": objective.anchor_weight,
        "annotators": annotators
        and {
            "inference": annotators.inference,
            "column": annotators.column,
            "names": list(annotators.names),
        },
    }


def save_objective(folder: str | Path, objective: Objective) -> None:
    """Write thresholds, annotators and the noise of ratings into a checkpoint's folder.

    A plain objective has none of them and leaves no files, those of an earlier run neither.
    """
    if objective.is_plain:
        for name in (OBJECTIVE_FILE, OBJECTIVE_WEIGHTS):
            (Path(folder) / name).unlink(missing_ok=True)
        return
    state = {name: value.contiguous() for name, value in objective.state_dict().items()}
    save_file(state, str(Path(folder) / OBJECTIVE_WEIGHTS))
    write_json(Path(folder) / OBJECTIVE_FILE, describe_objective(objective))


def load_objective(folder: str | Path, head: Head) -> Objective:
    """Read what was learned beside the network; a folder without it has a plain objective.

    Args:
        folder: The checkpoint's folder.
        head: Its head.

    Returns:
        The objective, on the CPU.

    Raises:
        CheckpointError: If files are missing or damaged, of a later version, or of another head.
    """
    path = Path(folder) / OBJECTIVE_FILE
    if not path.is_file():
        return Objective(head)
    content = read_checkpoint_json(path)
    if content.get("format") != _FORMAT:
        raise CheckpointError(
            f"{path} has format {content.get('format')}, this package reads {_FORMAT}; upgrade "
            "hidden-context."
        )
    try:
        member, count = head.members
        known = content["annotators"]
        annotators = known and AnnotatorEmbeddings(
            known["names"],
            member.num_factors if isinstance(member, FactorHead) else 0,
            count,
            known["inference"],
            column=known["column"],
        )
        outcomes = Outcomes(content["levels"], count, content["margin_scale"])
        objective = Objective(head, outcomes, annotators, content["anchor_weight"])
        objective.load_state_dict(load_file(str(path.with_name(OBJECTIVE_WEIGHTS))))
    except (KeyError, TypeError, ConfigError, OSError, RuntimeError, SafetensorError) as error:
        raise CheckpointError(
            f"{folder}: {OBJECTIVE_FILE} and {OBJECTIVE_WEIGHTS} do not fit its head "
            f"({first_line(error)}); the checkpoint is damaged."
        ) from error
    return objective
