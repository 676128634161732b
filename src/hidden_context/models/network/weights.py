"""Loading a network so that no weight is random, and no weight that matters is left out."""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any, Final

import torch
from safetensors import safe_open
from torch import Tensor
from transformers import AutoConfig, AutoModel, PreTrainedModel

from hidden_context.errors import CheckpointError, MissingDependencyError, first_line
from hidden_context.models.checkpoint import contents
from hidden_context.models.engine.forward import quiet_loading

_FILES: Final = ("model.safetensors", "pytorch_model.bin")
_HEAD_FILES: Final = ("value_head.safetensors",)  # beside the network's
# Prefixes that torch.compile and DistributedDataParallel add to the names of weights.
_WRAPPERS: Final = r"^(?:(?:_orig_mod|module)\.)+"
# Names of the reward head in other trainers.
VALUE_HEADS: Final = ("v_head.summary", "v_head", "value_head")
_UNMERGED: Final = re.compile(r"(^|\.)(lora_\w+|base_layer|modules_to_save)\.")
# Buffers that older releases saved and that a model now computes.
_BUFFERS: Final = re.compile(r"(^|\.)(position_ids|(original_)?inv_freq|masked_bias)$")
# Poolers of models that go without one, and heads of pretraining.
_POOLERS: Final = re.compile(r"(^|\.)pooler\.")
_HEADS: Final = re.compile(
    r"^(lm_head|lm_loss|lm_predictions|mask_predictions|cls|predictions|sop_classifier|decoder"
    r"|discriminator_predictions|generator_predictions|generator_lm_head|vocab_transform"
    r"|vocab_layer_norm|vocab_projector|embedding_decoder|entity_predictions|pred_layer|mtp"
    r"|projection_head|output_projection|embed_out|qa_outputs|final_logits_bias)(\.|$)"
)


@dataclasses.dataclass(frozen=True)
class Loaded:
    """A loaded network, with the names of missing and surplus weights.

    Attributes:
        name: Folder or hub id of the checkpoint.
        revision: Branch, tag or commit of a hub repository.
        model: The network.
        missing: Weights that it has and the checkpoint lacks; they are drawn at random.
        surplus: Weights that the checkpoint holds and it has no place for.
        mismatched: Weights of another shape, with the shapes in the checkpoint and in the model.
        stored: Which file of the checkpoint holds which weight.
    """

    name: str
    revision: str | None
    model: PreTrainedModel
    missing: set[str]
    surplus: set[str]
    mismatched: dict[str, tuple[tuple[int, ...], tuple[int, ...]]]
    stored: dict[str, str]

    def read(self, key: str) -> Tensor:
        """Read one weight from the checkpoint."""
        path = contents.find_file(self.name, self.stored[key], self.revision)
        assert path is not None
        if path.suffix == ".safetensors":
            with safe_open(path, framework="pt") as weights:
                return weights.get_tensor(key)
        return torch.load(path, map_location="cpu", weights_only=True)[key]

    def check_shapes(self) -> None:
        """Check that all weights have the shapes of the model's weights.

        Raises:
            CheckpointError: If there are any; names the first with both shapes.
        """
        if self.mismatched:
            key, (stored, wanted) = min(self.mismatched.items())
            more = len(self.mismatched) - 1
            raise CheckpointError(
                f"{self.name}: the weight {key} has the shape {stored} in the checkpoint, but "
                f"{wanted} by its config.json{f', and so {more} more' if more else ''}; they "
                "belong to different models."
            )

    def check_surplus(self, *, scored: bool) -> None:
        """Refuse weights that have no place in the model and would change what it computes.

        Pretraining heads, poolers that the model does not use and buffers of older releases change
        nothing. If the head is trained anew or comes from elsewhere, weights outside the backbone
        change nothing either.

        Args:
            scored: Whether it is a reward model by itself, so that whatever is unknown matters.

        Raises:
            CheckpointError: If there are any; names some of them.
        """
        model = self.model
        base = f"{model.base_model_prefix}."
        modules = {module.removeprefix(base) for module, _ in model.named_modules()} - {""}
        known = {weight.removeprefix(base) for weight in model.state_dict()}

        def matters(key: str) -> bool:
            key = key.removeprefix(base)  # a backbone is saved with or without it
            if _UNMERGED.search(key):
                return True
            if _POOLERS.search(key):
                return key.rpartition(".")[0] in modules
            parts = key.split(".")
            if is_leftover(key) and (parts[0] not in modules or _BUFFERS.search(key)):
                return False
            inside = any(".".join(parts[place:]) in known for place in range(1, len(parts)))
            return scored or parts[0] in modules or inside

        surplus = {key for key in self.surplus if matters(key)}
        if surplus:
            remedy = "Give a checkpoint whose weights and config.json belong together."
            if any(_UNMERGED.search(key) for key in surplus):
                remedy = "Merge the adapter (PEFT's merge_and_unload), or save it as an adapter."
            lacking = f" and lacks {some(self.missing)}" if scored and self.missing else ""
            raise CheckpointError(
                f"{self.name} has {some(surplus)} that {type(model).__name__} does not "
                f"use{lacking}, so rewards would differ from the trained model's. {remedy}"
            )

    def check_missing(self, missing: Collection[str]) -> None:
        """Refuse a checkpoint that lacks weights the model reads.

        Args:
            missing: What it may not lack.

        Raises:
            CheckpointError: If there are any; names some of them.
        """
        if missing:
            surplus = {key for key in self.surplus if not is_leftover(key)}
            held = f" It holds {some(surplus)} without a place." if surplus else ""
            raise CheckpointError(
                f"{self.name} lacks {some(missing)} of {type(self.model).__name__}, which would be "
                f"drawn at random.{held} Give a complete checkpoint."
            )


def is_leftover(key: str) -> bool:
    """Return whether rewards ignore a weight of this name, such as a language model's head."""
    return not _UNMERGED.search(key) and bool(_BUFFERS.search(key) or _HEADS.search(key))


def some(keys: Collection[str]) -> str:
    """Count weights, and name the first few."""
    shown = ", ".join(sorted(keys)[:3])
    if len(keys) == 1:
        return f"the weight {shown}"
    return f"{len(keys)} weights ({shown}{', …' if len(keys) > 3 else ''})"


def shapes_in(path: Path) -> dict[str, tuple[int, ...]]:
    """Read the names and shapes of a file's weights, pickled ones with ``weights_only``."""
    if path.suffix == ".safetensors":
        with safe_open(path, framework="pt") as file:
            return {key: tuple(file.get_slice(key).get_shape()) for key in file.keys()}  # noqa: SIM118
    # the paper's adapters hold CUDA storages
    state = torch.load(path, map_location="cpu", weights_only=True)
    return {key: tuple(value.shape) for key, value in state.items()}


def stored_weights(name: str, revision: str | None = None) -> dict[str, str]:
    """Return which file of a folder or hub repository holds which weight."""
    return _weights_of(name, _FILES, revision) | _weights_of(name, _HEAD_FILES, revision)


def _weights_of(name: str, files: Iterable[str], revision: str | None) -> dict[str, str]:
    for file in files:
        path = contents.find_file(name, file, revision)
        if path is not None:
            return dict.fromkeys(shapes_in(path), file)
        path = contents.find_file(name, f"{file}.index.json", revision)
        if path is not None:
            return dict(contents.read_checkpoint_json(path)["weight_map"])
    return {}


def unwrapped(key: str) -> str:
    """Return a weight's name without the prefixes of compiled and distributed models."""
    return re.sub(_WRAPPERS, "", key)


def load_config(name: str, **options: Any) -> Any:
    """Load a model's configuration; ``options`` are ``revision`` and ``trust_remote_code``.

    Raises:
        CheckpointError: If there is none, or it is damaged.
    """
    with contents.as_checkpoint_error(f"no model could be read from {name!r} ({{error}})."):
        return AutoConfig.from_pretrained(name, **options)


def load_network(
    auto: Any,
    name: str,
    kind: str,
    *,
    revision: str | None = None,
    **options: Any,
) -> Loaded:
    """Load a network with Transformers; the caller judges missing and surplus weights.

    Names of weights may begin with ``_orig_mod.`` or ``module.``, as compiled and distributed
    models write them.

    Args:
        auto: Class of Transformers, such as ``AutoModel``.
        name: Hub id or folder.
        kind: What it is loaded as, for errors.
        revision: Branch, tag or commit of a hub repository.
        **options: Passed on to ``from_pretrained``.

    Raises:
        CheckpointError: If it cannot be loaded, or is an adapter.
        MissingDependencyError: If a package is needed that is not installed.
    """
    if contents.find_file(name, contents.ADAPTER_CONFIG, revision) is not None:
        raise CheckpointError(
            f"{name} is an adapter (it holds {contents.ADAPTER_CONFIG}), but {kind} is needed; "
            "merge the adapter into its backbone first (PEFT's merge_and_unload), or give the "
            "backbone."
        )
    try:
        stored = stored_weights(name, revision)
        wrapped = any(unwrapped(key) != key for key in stored)
        with quiet_loading():
            model, info = auto.from_pretrained(
                name,
                revision=revision,
                output_loading_info=True,
                ignore_mismatched_sizes=True,
                key_mapping={_WRAPPERS: ""} if wrapped else None,
                **options,
            )
    except ImportError as error:
        raise MissingDependencyError(
            f"the model {name!r} needs a package that is not installed ({first_line(error)})."
        ) from error
    except Exception as error:  # whatever a damaged file leads to
        raise CheckpointError(
            f"the model {name!r} could not be loaded as {kind} ({first_line(error)}). Check the "
            "id or path; offline, only local folders and cached models load."
        ) from error
    if wrapped:  # saving would bring the prefixes back
        used = getattr(model, "_weight_conversions", None) or []
        model._weight_conversions = [part for part in used if _WRAPPERS not in part.source_patterns]
    base = f"{model.base_model_prefix}."
    names = Counter(unwrapped(key).removeprefix(base) for key in stored)
    if twice := {key for key, count in names.items() if count > 1}:
        raise CheckpointError(
            f"{name} has several copies of {some(twice)} under different names, and the right copy "
            "is unknown. Give a checkpoint with each weight once."
        )
    mismatched = {key: (tuple(a), tuple(b)) for key, a, b in info["mismatched_keys"]}
    missing = {key for key in info["missing_keys"] if not _BUFFERS.search(key)}
    surplus = set(info["unexpected_keys"])
    return Loaded(name, revision, model, missing, surplus, mismatched, stored)


def load_backbone(name: str, **options: Any) -> PreTrainedModel:
    """Load a backbone for its hidden states; of an encoder-decoder, only the encoder.

    Args:
        name: Hub id or folder of any model that ``AutoModel`` loads.
        **options: Passed on to ``load_network``.

    Raises:
        CheckpointError: If it cannot be loaded, or lacks weights; a pooler may be missing.
    """
    loaded = load_network(AutoModel, name, "a backbone", **options)
    loaded.check_shapes()
    loaded.check_surplus(scored=False)
    whole = loaded.model
    model = whole.get_encoder() if whole.config.is_encoder_decoder else whole
    read = {id(value) for value in model.state_dict(keep_vars=True).values()}
    places = whole.state_dict(keep_vars=True)
    lacking = {key for key in loaded.missing if id(places[key]) in read}
    loaded.check_missing({key for key in lacking if "pooler" not in key.split(".")})
    return model
