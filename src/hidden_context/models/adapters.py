"""LoRA adapters of reward models: what a folder holds, and loading it on its backbone."""

from __future__ import annotations

from typing import Any

import torch

from hidden_context import heads
from hidden_context.errors import CheckpointError, first_line
from hidden_context.models.backbone import LOADING_ERRORS, load_classifier
from hidden_context.models.contents import ADAPTER_CONFIG, ADAPTER_WEIGHTS
from hidden_context.models.head_file import HEAD_FILE, read_checkpoint_json
from hidden_context.models.repository import find_file


def adapter_base(name: str, revision: str | None = None) -> str:
    """Return the id or path of the backbone that an adapter names.

    Raises:
        CheckpointError: If it names none.
    """
    path = find_file(name, ADAPTER_CONFIG, revision)
    base = path and read_checkpoint_json(path).get("base_model_name_or_path")
    if not base:
        raise CheckpointError(f"{name}: the adapter does not name its backbone; give base_model.")
    return str(base)


def adapter_shapes(name: str, revision: str | None = None) -> dict[str, tuple[int, ...]]:
    """Read the names and shapes of an adapter's weights.

    Pickled weights are read with ``weights_only`` and mapped to the CPU: the paper's hold CUDA
    storages.

    Raises:
        CheckpointError: If there are none, or they are damaged.
    """
    for filename in ADAPTER_WEIGHTS:
        path = find_file(name, filename, revision)
        if path is None:
            continue
        try:
            if path.suffix == ".safetensors":
                from safetensors import safe_open

                with safe_open(path, framework="pt") as file:
                    return {key: tuple(file.get_slice(key).get_shape()) for key in file.keys()}  # noqa: SIM118
            state = torch.load(path, map_location="cpu", weights_only=True)
            return {key: tuple(value.shape) for key, value in state.items()}
        except LOADING_ERRORS as error:
            raise CheckpointError(
                f"{path}: the adapter's weights cannot be read ({first_line(error)})."
            ) from error
    raise CheckpointError(f"{name} has an {ADAPTER_CONFIG} but no adapter weights.")


def head_of_adapter(
    name: str, head: heads.Head | None, shapes: dict[str, tuple[int, ...]]
) -> heads.Head:
    """Return the head given if an adapter's weights fit it, or without one a scalar head.

    Raises:
        CheckpointError: If the weights have another number of outputs.
    """
    sizes = [
        shape[0]
        for key, shape in shapes.items()
        if key.endswith(".weight") and "lora_" not in key and len(shape) == 2
    ]
    # of all matrices that are saved whole the head has the fewest rows
    outputs = min(sizes, default=None)
    if head is None:
        if outputs not in (None, 1):
            raise CheckpointError(
                f"{name} has {outputs} outputs and no {HEAD_FILE}, so its head has to be named: "
                f"mean_and_variance for 2 outputs, or categorical (--num_outputs {outputs} on the "
                "command line)."
            )
        return heads.make("base")
    if outputs is not None and outputs != head.num_outputs:
        raise CheckpointError(
            f"{name} has a head of {outputs} outputs, but the {head.type} head has "
            f"{head.num_outputs}. Give the head (or --num_outputs) it was trained with."
        )
    return head


def load_adapter(
    name: str,
    base: str,
    head: heads.Head,
    shapes: dict[str, tuple[int, ...]],
    dtype: torch.dtype,
    options: dict[str, Any],
    adapter: str = "default",
) -> Any:
    """Load an adapter on its backbone.

    Args:
        name: Folder or hub id of the adapter.
        base: Folder or hub id of the backbone.
        head: The head.
        shapes: What ``adapter_shapes`` gives.
        dtype: Precision of the backbone.
        options: ``revision`` of the adapter, and ``trust_remote_code``.
        adapter: The adapter's name within the PEFT model.

    Returns:
        The PEFT model.

    Raises:
        CheckpointError: If backbone or adapter cannot be loaded, or do not fit each other.
    """
    from peft import PeftModel

    base_options = {**options, "revision": None}
    try:
        model, new_modules = load_classifier(base, head.num_outputs, dtype=dtype, **base_options)
    except CheckpointError as error:
        raise CheckpointError(
            f"the adapter {name} needs its backbone: {error} Another one can be named as "
            "base_model (--base_model)."
        ) from error
    untrained = [part for part in new_modules if not any(f".{part}." in key for key in shapes)]
    if untrained:
        raise CheckpointError(
            f"neither the adapter {name} nor its backbone {base} has weights for "
            f"{', '.join(untrained)}, so rewards would be random. Give an adapter trained for "
            "sequence classification, or as base_model the reward model it was trained on."
        )
    try:
        wrapped = PeftModel.from_pretrained(model, name, adapter, revision=options["revision"])
    except (*LOADING_ERRORS, TypeError) as error:
        raise _unfit_adapter(name, base, error) from error
    _check_matched(wrapped, name, base, shapes, adapter)
    return wrapped


def add_adapter(
    module: Any, name: str, base: str, shapes: dict[str, tuple[int, ...]], adapter: str
) -> None:
    """Load a further adapter into a PEFT model.

    Args:
        module: The PEFT model.
        name: Folder of the adapter.
        base: Folder or hub id of the backbone, for errors.
        shapes: What ``adapter_shapes`` gives.
        adapter: The adapter's name within the PEFT model.

    Raises:
        CheckpointError: If the adapter cannot be loaded, or does not fit the backbone.
    """
    try:
        module.load_adapter(name, adapter, torch_device=str(next(module.parameters()).device))
    except (*LOADING_ERRORS, TypeError) as error:
        raise _unfit_adapter(name, base, error) from error
    _check_matched(module, name, base, shapes, adapter)


def _unfit_adapter(name: str, base: str, error: Exception) -> CheckpointError:
    return CheckpointError(
        f"the adapter {name} does not fit the backbone {base} ({first_line(error)})."
    )


def _check_matched(
    module: Any, name: str, base: str, shapes: dict[str, tuple[int, ...]], adapter: str
) -> None:
    """Refuse what PEFT passes over: layers that the backbone lacks, or has more of."""
    from peft import get_peft_model_state_dict

    expected = get_peft_model_state_dict(module, adapter_name=adapter, save_embedding_layers=False)
    unmatched = {key for key in {*shapes} ^ {*expected} if "lora_" in key}
    if unmatched:
        raise CheckpointError(
            f"the adapter {name} does not fit the backbone {base}: {len(unmatched)} weights are "
            f"on one side only, such as {min(unmatched)}. Give the base_model it was trained on."
        )
