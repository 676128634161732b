"""Loading a reward model of any kind from a folder or the hub."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from hidden_context import heads
from hidden_context.errors import CheckpointError, ConfigError
from hidden_context.models.adapter_ensemble import AdapterEnsembleRewardModel
from hidden_context.models.adapters import (
    adapter_base,
    adapter_shapes,
    head_of_adapter,
    load_adapter,
)
from hidden_context.models.backbone import load_classifier, new_modules
from hidden_context.models.contents import existing, kind_of, whole_folder
from hidden_context.models.frozen import FrozenRewardModel
from hidden_context.models.head_file import HEAD_FILE, HeadFile, agreed_head, resolve_head
from hidden_context.models.likelihood_file import load_likelihood
from hidden_context.models.modules import final_linear
from hidden_context.models.placement import resolve_device, resolve_dtype
from hidden_context.models.reference import load_reference
from hidden_context.models.repository import find_file
from hidden_context.models.reward_model import RewardModel
from hidden_context.models.sequence import SequenceRewardModel
from hidden_context.models.tokenizer import length_limit, load_tokenizer
from hidden_context.models.weights import (
    VALUE_HEADS,
    check_missing,
    load_config,
    stored_weights,
    unwrapped,
)


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
    reference: bool = True,
) -> RewardModel:
    """Load a reward model; see ``RewardModel.from_pretrained``."""
    name = existing(path_or_id)
    model = _load(
        name,
        head=head,
        base_model=base_model,
        dtype=dtype,
        device=device,
        max_length=max_length,
        tokenizer_name=tokenizer_name,
        revision=revision,
        trust_remote_code=trust_remote_code,
    )
    if reference:
        model.reference = load_reference(name, model.head, model.readout, revision)
    return model


def _load(
    name: str,
    *,
    head: heads.Head | dict[str, Any] | str | None,
    base_model: str | None,
    dtype: str | torch.dtype,
    device: str | torch.device,
    max_length: int | None,
    tokenizer_name: str | None,
    revision: str | None,
    trust_remote_code: bool,
) -> RewardModel:
    """Load a reward model of the kind that a folder or repository holds."""
    target = resolve_device(device)
    options: dict[str, Any] = {
        "head": head,
        "base_model": base_model,
        "dtype": resolve_dtype(dtype, target),
        "device": target,
        "max_length": max_length,
        "trust_remote_code": trust_remote_code,
    }
    kind = kind_of(name, revision)
    if kind == "frozen":
        if tokenizer_name is not None:
            raise ConfigError(
                f"{name} keeps the tokenizer its features were made with; leave tokenizer_name out."
            )
        return FrozenRewardModel.load(whole_folder(name, revision), **options)
    options["tokenizer_name"] = tokenizer_name
    if kind == "ensemble":
        return AdapterEnsembleRewardModel.load(whole_folder(name, revision), **options)
    return _load_sequence(name, revision, is_adapter=kind == "adapter", **options)


def _load_sequence(
    name: str,
    revision: str | None,
    *,
    is_adapter: bool,
    head: heads.Head | dict[str, Any] | str | None,
    base_model: str | None,
    dtype: torch.dtype,
    device: torch.device,
    max_length: int | None,
    tokenizer_name: str | None,
    trust_remote_code: bool,
) -> SequenceRewardModel:
    """Load a classifier, or an adapter on its backbone."""
    head_path = find_file(name, HEAD_FILE, revision)
    stored = HeadFile.load(head_path) if head_path else None
    wanted = resolve_head(head) if stored is None else agreed_head(name, head, stored.head)
    options: dict[str, Any] = {"revision": revision, "trust_remote_code": trust_remote_code}
    if is_adapter:
        base = base_model or adapter_base(name, revision)
        shapes = adapter_shapes(name, revision)
        final_head = head_of_adapter(name, wanted, shapes)
        module = load_adapter(name, base, final_head, shapes, dtype, options)
    else:
        base = name
        final_head = wanted or _head_of_classifier(name, options)
        loaded = load_classifier(name, final_head.num_outputs, scored=True, dtype=dtype, **options)
        module = loaded.model
        if f"{final_linear(module)[0]}.weight" in loaded.missing:
            new_modules(name, loaded)  # refuses a backbone that is not complete either
            raise _no_head(name)
        check_missing(name, loaded, loaded.missing)
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
        module.to(device).eval(),
        tokenizer,
        load_likelihood(name, final_head, revision),
        length_limit(tokenizer, module.config, wanted_length),
        base_model=stored.base_model if stored and stored.base_model else base,
        reward_scale=stored.reward_scale if stored else None,
    )


def _no_head(name: str) -> CheckpointError:
    return CheckpointError(
        f"{name!r} has no trained reward head; it is a backbone. Train one with "
        "`hidden-context train --model_name ...`, or give a reward model."
    )


def _head_of_classifier(name: str, options: dict[str, Any]) -> heads.Head:
    config = load_config(name, **options)
    if not any("SequenceClassification" in kind for kind in config.architectures or ()):
        stored = stored_weights(name, options["revision"])
        if not any(unwrapped(key).rpartition(".")[0] in VALUE_HEADS for key in stored):
            raise _no_head(name)
    elif config.num_labels != 1:
        raise CheckpointError(
            f"{name} has {config.num_labels} outputs and no {HEAD_FILE}; name its head, such as "
            "mean_and_variance, if it is a reward model."
        )
    return heads.make("base")
