"""Learned parameters beside the network: ``likelihood.json`` and ``likelihood.safetensors``."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, Final

from safetensors.torch import load_file, save_file
from torch import Tensor

from hidden_context.data.storage.files import write_json
from hidden_context.errors import in_one_line
from hidden_context.heads import Head
from hidden_context.likelihood import Likelihood, LikelihoodOptions, make_likelihood
from hidden_context.likelihood.covariates import Covariate, CovariateCoding
from hidden_context.models.checkpoint import contents

LIKELIHOOD_FILE: Final = "likelihood.json"
LIKELIHOOD_WEIGHTS: Final = "likelihood.safetensors"
_FORMAT: Final = 2
_NAMES: Final = {
    _FORMAT: (LIKELIHOOD_FILE, LIKELIHOOD_WEIGHTS),
    1: ("objective.json", "objective.safetensors"),
}
# Fields that were added to this format later.
_ADDED: Final = ("taste", "habits", "covariates")
FILES: Final = tuple(name for names in _NAMES.values() for name in names)


def save_likelihood(folder: str | Path, likelihood: Likelihood) -> None:
    """Write thresholds, annotators and the parameters of ratings to a checkpoint's folder.

    A likelihood with the default options has learned none of these. It writes no files and removes
    the files of an earlier run.

    Args:
        folder: The checkpoint's folder.
        likelihood: The likelihood.
    """
    for name in FILES:
        (Path(folder) / name).unlink(missing_ok=True)
    if likelihood.options == LikelihoodOptions():
        return
    state = {name: value.contiguous() for name, value in likelihood.state_dict().items()}
    save_file(state, str(Path(folder) / LIKELIHOOD_WEIGHTS))
    content = {"format": _FORMAT, **dataclasses.asdict(likelihood.options)}
    write_json(Path(folder) / LIKELIHOOD_FILE, content)


def load_likelihood(folder: str | Path, head: Head, revision: str | None = None) -> Likelihood:
    """Read the likelihood of a checkpoint; a folder without one gets the default options.

    Args:
        folder: The checkpoint's folder or hub id.
        head: Its head.
        revision: Branch, tag or commit of a hub repository.

    Returns:
        The likelihood, on the CPU.

    Raises:
        CheckpointError: If files are missing or damaged, of a later version, or of another head.
    """
    for number, (name, weights) in _NAMES.items():
        path = contents.find_file(str(folder), name, revision)
        if path is not None:
            contents.find_file(str(folder), weights, revision)  # fetched beside it from the hub
            return _read(path, path.with_name(weights), number, head)
    return make_likelihood(head)


def _read(path: Path, weights: Path, number: int, head: Head) -> Likelihood:
    content = contents.read_checkpoint_json(path)
    contents.check_format(path, content.get("format"), number)
    with contents.as_checkpoint_error(
        f"{path.parent}: {path.name} and {weights.name} do not fit its head ({{error}}); the "
        "checkpoint is damaged.",
        in_one_line,
    ):
        options = (_options if number == _FORMAT else _old_options)(content)
        likelihood = make_likelihood(head, options)
        state = load_file(str(weights))
        likelihood.load_state_dict(state if number == _FORMAT else _by_member(state, head))
    return likelihood


def _options(content: dict[str, Any]) -> LikelihoodOptions:
    """Read the description; fields that an earlier version did not write were not learned."""
    values = {
        field.name: content[field.name]
        for field in dataclasses.fields(LikelihoodOptions)
        if field.name in content or field.name not in _ADDED
    }
    for name in ("names", "grades", "habits"):
        values[name] = _tuple(values.get(name, []))
    coding = values.get("covariates")
    if coding is not None:
        columns = (Covariate(**column) for column in coding["columns"])
        values["covariates"] = CovariateCoding(tuple(columns))
    return LikelihoodOptions(**values)


def _old_options(content: dict[str, Any]) -> LikelihoodOptions:
    """Read the description of the first format."""
    known = content["annotators"] or {"inference": None, "names": [], "column": "annotator"}
    return LikelihoodOptions(
        levels=content["levels"],
        margin_scale=content["margin_scale"],
        inference=known["inference"],
        names=_tuple(known["names"]),
        column=known["column"],
        rating_weight=content["anchor_weight"],
    )


def _by_member(state: dict[str, Tensor], head: Head) -> dict[str, Tensor]:
    """Read the tensors of the first format, which kept the members of a head along an axis."""
    result: dict[str, Tensor] = {}
    for old, values in state.items():
        of_annotators = old.startswith("annotators.")
        if not (of_annotators or values.numel()):
            continue  # nothing was learned
        name = "ratings.log_noise" if old == "log_rating_noise" else old
        prefixes = [f"members.{number}." for number in range(head.num_members)] or [""]
        parts = values.unbind(int(of_annotators))
        result |= {f"{p}{name}": part for p, part in zip(prefixes, parts, strict=True)}
    return result


def _tuple(values: Any) -> tuple[Any, ...]:
    if not isinstance(values, list):
        raise TypeError(f"a list is needed, not {values!r}")
    return tuple(values)
