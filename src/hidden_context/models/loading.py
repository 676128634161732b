"""Loading a reward model of any kind from a folder or the hub."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig

from hidden_context import heads
from hidden_context.errors import CheckpointError, ConfigError, MissingFileError, first_line
from hidden_context.models.backbone import LOADING_ERRORS, load_classifier
from hidden_context.models.head_file import (
    HEAD_FILE,
    HeadFile,
    read_checkpoint_json,
    resolve_head,
)
from hidden_context.models.modules import final_linear
from hidden_context.models.objective_file import (
    OBJECTIVE_FILE,
    OBJECTIVE_WEIGHTS,
    load_objective,
)
from hidden_context.models.placement import resolve_device, resolve_dtype
from hidden_context.models.repository import find_file
from hidden_context.models.reward_model import RewardModel
from hidden_context.models.sequence import SequenceRewardModel
from hidden_context.models.tokenizer import length_limit, load_tokenizer
from hidden_context.objectives import Objective

ADAPTER_CONFIG = "adapter_config.json"
ENSEMBLE_CONFIG = "adapter_ensemble.json"
FROZEN_CONFIG = "frozen_backbone.json"
_ADAPTER_WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin")


def _existing(path_or_id: str | Path) -> str:
    """Return the name of a folder that is there, or else of what can only be a hub id."""
    name = str(path_or_id)
    looks_local = name.startswith((".", "/", "~")) or name.count("/") > 1
    if isinstance(path_or_id, Path) or looks_local:
        name = str(Path(name).expanduser())
        if not Path(name).is_dir():
            raise MissingFileError(name, "Give the folder of a checkpoint, or a hub id")
    return name


def load_reward_model(
    path_or_id: str | Path,
    *,
    head: heads.Head | dict[str, Any] | str | None = None,
    base_model: str | None = None,
    dtype: str | torch.dtype = "auto",
    device: str | torch.device = "auto",
    max_length: int | None = None,
    tokenizer_name: str | None = None,
    revision: str | None = None,
    trust_remote_code: bool = False,
) -> RewardModel:
    """Load a reward model; see ``RewardModel.from_pretrained``."""
    name = _existing(path_or_id)
    target = resolve_device(device)
    precision = resolve_dtype(dtype, target)
    options: dict[str, Any]
    frozen_config = find_file(name, FROZEN_CONFIG, revision)
    if frozen_config is not None:
        frozen_config = _whole_folder(name, revision) / FROZEN_CONFIG
        if tokenizer_name is not None:
            raise ConfigError(
                f"{name} keeps the tokenizer its features were made with; leave tokenizer_name out."
            )
        options = {"dtype": precision, "device": target, "trust_remote_code": trust_remote_code}
        return _load_frozen(
            frozen_config, head, base_model=base_model, max_length=max_length, **options
        )
    if find_file(name, ENSEMBLE_CONFIG, revision) is not None:
        from hidden_context.models.adapter_ensemble import AdapterEnsembleRewardModel

        ensemble = AdapterEnsembleRewardModel.load(
            _whole_folder(name, revision),
            base_model=base_model,
            dtype=precision,
            device=target,
            max_length=max_length,
            tokenizer_name=tokenizer_name,
            trust_remote_code=trust_remote_code,
        )
        ensemble.set_head(_agreed_head(name, head, ensemble.head))
        return ensemble
    head_path = find_file(name, HEAD_FILE, revision)
    stored = HeadFile.load(head_path) if head_path else None
    wanted = resolve_head(head) if stored is None else _agreed_head(name, head, stored.head)
    adapter_path = find_file(name, ADAPTER_CONFIG, revision)
    options = {"revision": revision, "trust_remote_code": trust_remote_code}
    if adapter_path is not None:
        base = base_model or adapter_base(name, adapter_path)
        shapes = adapter_shapes(name, revision)
        final_head = head_of_adapter(name, wanted, shapes)
        module = load_adapter(name, base, final_head, shapes, precision, options)
    else:
        base = name
        final_head = wanted or _head_of_classifier(name, options)
        module, new_modules = load_classifier(
            name, final_head.num_outputs, dtype=precision, **options
        )
        if final_linear(module)[0] in new_modules:
            raise _no_head(name)
    tokenizer_source = tokenizer_name or (
        name if find_file(name, "tokenizer_config.json", revision) else base
    )
    tokenizer = load_tokenizer(
        tokenizer_source,
        revision=revision if tokenizer_source == name else None,
        trust_remote_code=trust_remote_code,
    )
    wanted_length = max_length or (stored.max_length if stored else None)
    return SequenceRewardModel(
        module.to(target).eval(),
        tokenizer,
        final_head,
        length_limit(tokenizer, module.config, wanted_length),
        base_model=stored.base_model if stored and stored.base_model else base,
        reward_scale=stored.reward_scale if stored else None,
        objective=_objective(name, revision, final_head),
    )


def _whole_folder(name: str, revision: str | None) -> Path:
    """Return a local folder, or fetch all files of a hub repository into one."""
    if Path(name).is_dir():
        return Path(name)
    from huggingface_hub import snapshot_download

    return Path(snapshot_download(name, revision=revision))


def _objective(name: str, revision: str | None, head: heads.Head) -> Objective:
    path = find_file(name, OBJECTIVE_FILE, revision)
    if path is None:
        return Objective(head)
    find_file(name, OBJECTIVE_WEIGHTS, revision)  # fetched beside it from the hub
    return load_objective(path.parent, head)


def _load_frozen(
    config_path: Path,
    wanted: heads.Head | dict[str, Any] | str | None,
    **options: Any,
) -> RewardModel:
    from hidden_context.models.frozen import WEIGHTS_FILE, FrozenRewardModel

    folder = str(config_path.parent)
    if not Path(folder, WEIGHTS_FILE).is_file() or not Path(folder, HEAD_FILE).is_file():
        raise CheckpointError(f"{folder}: {WEIGHTS_FILE} or {HEAD_FILE} is missing.")
    model = FrozenRewardModel.load(folder, **options)
    model.set_head(_agreed_head(folder, wanted, model.head))
    return model


def _agreed_head(
    name: str, wanted: heads.Head | dict[str, Any] | str | None, stored: heads.Head
) -> heads.Head:
    """Return the head asked for if it fits the stored one; a type's name leaves its options."""
    head = resolve_head(wanted)
    if head is None or (isinstance(wanted, str) and head.type == stored.type):
        return stored
    if head.type != stored.type or head.num_outputs != stored.num_outputs:
        raise CheckpointError(
            f"{name} was trained with a {stored.type} head of {stored.num_outputs} outputs, but a "
            f"{head.type} head of {head.num_outputs} outputs was asked for. Leave the head "
            "out, or give the one it has."
        )
    return head


def _no_head(name: str) -> CheckpointError:
    return CheckpointError(
        f"{name!r} has no trained reward head; it is a backbone. Train one with "
        "`hidden-context train --model_name ...`, or give a reward model."
    )


def adapter_base(name: str, config_path: Path) -> str:
    """Return the id or path of the backbone that an adapter names.

    Raises:
        CheckpointError: If it names none.
    """
    base = read_checkpoint_json(config_path).get("base_model_name_or_path")
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
    for filename in _ADAPTER_WEIGHTS:
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


def _head_of_classifier(name: str, options: dict[str, Any]) -> heads.Head:
    try:
        config = AutoConfig.from_pretrained(name, **options)
    except (OSError, ValueError, KeyError) as error:
        raise CheckpointError(
            f"no model could be read from {name!r} ({first_line(error)})."
        ) from error
    if not any("SequenceClassification" in kind for kind in config.architectures or ()):
        raise _no_head(name)
    if config.num_labels != 1:
        raise CheckpointError(
            f"{name} has {config.num_labels} outputs and no {HEAD_FILE}; name its head, such as "
            "mean_and_variance, if it is a reward model."
        )
    return heads.make("base")


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
