"""LoRA adapters of reward models: reading a folder, and loading it on its backbone."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

import torch
from torch import nn

from hidden_context import heads
from hidden_context.errors import CheckpointError, MissingDependencyError, first_line
from hidden_context.models.checkpoint import contents
from hidden_context.models.checkpoint.head_file import HEAD_FILE
from hidden_context.models.network.backbone import load_classifier
from hidden_context.models.network.modules import final_linear
from hidden_context.models.network.weights import is_leftover, shapes_in, some

# adapters' own weights, and vocabularies
_NO_HEAD: Final = re.compile(r"lora_|oft_|embed|wte|lm_head")
_NO_LAYERS: Final = ("XLORA", "POLY", "SHADOW", "CPT")
_UNFIT: Final = "the adapter {} does not fit the backbone {} ({{error}})."
_IN_PEFT: Final = "base_model.model."  # what PEFT puts before the names of a model's weights


def adapter_shapes(name: str, revision: str | None = None) -> dict[str, tuple[int, ...]]:
    """Read the names and shapes of an adapter's weights.

    Raises:
        CheckpointError: If there are none, or they are damaged.
    """
    paths = (contents.find_file(name, file, revision) for file in contents.ADAPTER_WEIGHTS)
    path = next(filter(None, paths), None)
    if path is None:
        raise CheckpointError(f"{name} has an {contents.ADAPTER_CONFIG} but no adapter weights.")
    with contents.as_checkpoint_error(f"{path}: the adapter's weights cannot be read ({{error}})."):
        return shapes_in(path)


def head_of_adapter(
    name: str, head: heads.Head | None, shapes: dict[str, tuple[int, ...]]
) -> heads.Head:
    """Return the given head, or by default a scalar head, if the adapter's weights fit it.

    Raises:
        CheckpointError: If the weights have another number of outputs.
    """
    sizes = [
        shape[0]
        for key, shape in shapes.items()
        if key.endswith(".weight") and len(shape) == 2 and not _NO_HEAD.search(key)
    ]
    # of all matrices that are saved whole the head has the fewest rows
    outputs = min(sizes, default=None)
    if head is None:
        if outputs not in (None, 1):
            raise CheckpointError(
                f"{name} has {outputs} outputs but no {HEAD_FILE}; name the head: "
                f"mean_and_variance for 2 outputs, or categorical (--num_outputs {outputs} on the "
                "command line)."
            )
        return heads.make("base")
    if outputs is not None and outputs != head.num_outputs:
        raise CheckpointError(
            f"{name} has a head with num_outputs {outputs}, but the {head.type} head has "
            f"num_outputs {head.num_outputs}. Give the head (or --num_outputs) of its training."
        )
    return head


def load_adapter(
    name: str,
    base: str,
    wanted: heads.Head | None,
    dtype: torch.dtype,
    options: dict[str, Any],
    adapter: str = "default",
) -> tuple[Any, heads.Head]:
    """Load an adapter on its backbone.

    Args:
        name: Folder or hub id of the adapter.
        base: Folder or hub id of the backbone.
        wanted: The head; None takes a scalar head if the weights fit one.
        dtype: Precision of the backbone.
        options: ``revision`` of the adapter, and ``trust_remote_code``.
        adapter: The adapter's name within the PEFT model.

    Returns:
        The PEFT model, and the head.

    Raises:
        CheckpointError: If backbone or adapter cannot be loaded, or do not fit each other.
    """
    from peft import PeftModel

    shapes = adapter_shapes(name, options["revision"])
    head = head_of_adapter(name, wanted, shapes)
    config = _adapter_config(name, options["revision"])
    try:
        loaded = load_classifier(
            base, head.num_outputs, dtype=dtype, **(options | {"revision": None})
        )
    except (CheckpointError, MissingDependencyError) as error:
        raise type(error)(
            f"the adapter {name} needs its backbone: {error} Another one can be named as "
            "base_model (--base_model)."
        ) from error
    untrained = {key for key in loaded.missing if _IN_PEFT + key not in shapes}
    if untrained:
        raise CheckpointError(
            f"neither the adapter {name} nor its backbone {base} has {some(untrained)}, so "
            "rewards would be random. Give an adapter trained for sequence classification, or as "
            "base_model the reward model it was trained on."
        )
    model = loaded.model
    _fit(model, config, shapes)
    with contents.as_checkpoint_error(_UNFIT.format(name, base), _misfit):
        wrapped = PeftModel.from_pretrained(
            model, name, adapter, revision=options["revision"], config=config
        )
    check_matched(wrapped, name, base, shapes, adapter)
    return wrapped, head


def _adapter_config(name: str, revision: str | None = None) -> Any:
    """Read an adapter's configuration, and refuse kinds that need a special forward pass."""
    from peft import PeftConfig

    with contents.as_checkpoint_error(  # kinds that this PEFT does not know, too
        f"{name}: the installed PEFT cannot read {contents.ADAPTER_CONFIG} ({{error}}). A later "
        "PEFT may: pip install -U peft."
    ):
        config = PeftConfig.from_pretrained(name, revision=revision)
    kind = str(getattr(config.peft_type, "value", config.peft_type))
    if config.is_prompt_learning or config.is_adaption_prompt or kind in _NO_LAYERS:
        raise CheckpointError(
            f"{name} is a {kind} adapter, which adds to a model's input or routes between "
            "adapters; only adapters of a model's layers, such as LORA, load as reward models."
        )
    return config


def _fit(model: Any, config: Any, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Adjust model and configuration to the weights that an adapter was saved with.

    These can include a saved head under any task name, the head's bias, and all embeddings of a
    vocabulary of another size.
    """
    module, layer = final_linear(model)
    if config.task_type != "SEQ_CLS":
        config.task_type = "SEQ_CLS" if f"{_IN_PEFT}{module}.weight" in shapes else None
    if f"{_IN_PEFT}{module}.bias" in shapes and layer.bias is None:
        layer.bias = nn.Parameter(layer.weight.new_zeros(layer.out_features))
    embedding = model.get_input_embeddings()
    place = next(name for name, part in model.named_modules() if part is embedding)
    for key in (f"{_IN_PEFT}{place}.weight", f"{_IN_PEFT}{place}.base_layer.weight"):
        if shapes.get(key, embedding.weight.shape)[0] != embedding.num_embeddings:
            model.resize_token_embeddings(shapes[key][0], mean_resizing=False)


def add_adapter(module: Any, name: str, base: str, head: heads.Head, adapter: str) -> None:
    """Load a further adapter into a PEFT model.

    Args:
        module: The PEFT model.
        name: Folder of the adapter.
        base: Folder or hub id of the backbone, for errors.
        head: The head of every adapter.
        adapter: The adapter's name within the PEFT model.

    Raises:
        CheckpointError: If the adapter cannot be loaded, or does not fit backbone or head.
    """
    shapes = adapter_shapes(name)
    head_of_adapter(name, head, shapes)
    device = str(next(module.parameters()).device)
    config = _adapter_config(name)
    config.task_type = next(iter(module.peft_config.values())).task_type
    with contents.as_checkpoint_error(_UNFIT.format(name, base), _misfit):
        module.add_adapter(adapter, config)
        module.load_adapter(name, adapter, torch_device=device)
    check_matched(module, name, base, shapes, adapter)


def _misfit(error: Exception) -> str:
    """Quote the part of PEFT's error that names the weight that does not fit."""
    if isinstance(error, KeyError):  # raised for a module of which nothing is saved
        return f"it lacks the weight {error.args[0]}"
    sizes = (line.strip() for line in str(error).splitlines() if "size mismatch" in line)
    return next(sizes, first_line(error))


def check_matched(
    module: Any, name: str, base: str, keys: Iterable[str], adapter: str = "default"
) -> None:
    """Refuse weights that only the file or only the model has, which PEFT ignores.

    Args:
        module: The PEFT model.
        name: Folder or hub id of the adapter, for errors.
        base: Folder or hub id of the backbone, for errors.
        keys: Names of the weights in the adapter's file.
        adapter: The adapter's name within the PEFT model; all but ``default`` are members of an
            ensemble, and hold no weights of the backbone.

    Raises:
        CheckpointError: If there are such weights; names some of them.
    """
    from peft import get_peft_model_state_dict

    expected = get_peft_model_state_dict(module, adapter_name=adapter, save_embedding_layers=False)
    stored = set(keys)
    brought = stored & {*module.state_dict()}  # weights of the backbone
    if brought and adapter != "default":
        raise CheckpointError(
            f"the member {name} contains {some(brought)} of the backbone, but all members of an "
            "ensemble share one backbone. Train members without their own vocabulary or biases."
        )
    # PEFT saves a resized vocabulary by this name too, with the original beside it
    again = {
        key
        for key in stored
        if key.replace(".modules_to_save.", ".") in expected
        and key.replace(".modules_to_save.", ".original_module.") in stored
    }
    surplus = stored - {*expected} - brought - again
    unmatched = {*expected} - stored
    unmatched |= {key for key in surplus if not is_leftover(key.removeprefix(_IN_PEFT))}
    if unmatched:
        raise CheckpointError(
            f"the adapter {name} does not fit the backbone {base}: only one of the two has "
            f"{some(unmatched)}. Give the base_model of its training, or the complete adapter."
        )
