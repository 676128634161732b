"""Exports as PEFT folders: an ensemble's adapters, or one, each with the last layer it needs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from hidden_context.data.storage.files import write_json
from hidden_context.errors import CheckpointError, ConfigError
from hidden_context.export.check import Sample, Written, load_plain, logits_of, plain_tokenizer
from hidden_context.export.config import ExportConfig
from hidden_context.export.output_layer import name_outputs, settle_padding
from hidden_context.models.adapter_ensemble import AdapterEnsembleRewardModel
from hidden_context.models.checkpoint.contents import (
    ADAPTER_CONFIG,
    adapter_base,
    as_checkpoint_error,
    read_checkpoint_json,
)
from hidden_context.models.engine.forward import quiet_loading
from hidden_context.models.network.adapters import adapter_shapes
from hidden_context.models.network.modules import final_linear, specialise_for_rewards
from hidden_context.models.network.weights import some
from hidden_context.models.sequence import SequenceRewardModel

BASE: Final = "base"
_IN_PEFT: Final = "base_model.model."


def write_adapters(
    source: SequenceRewardModel, sample: Sample, config: ExportConfig, folder: Path
) -> Written:
    """Write the adapters as PEFT folders, and run each from its folder.

    The folder is what ``save_pretrained`` writes: an ensemble's members lie in ``member_0``, …; one
    adapter lies in the folder itself. With ``write_base`` there is ``base`` too.

    Args:
        source: The reward model; PEFT holds its adapters.
        sample: What it made of some texts.
        config: What is asked for.
        folder: An empty folder.

    Returns:
        What the outputs are that PEFT loads, and what they have to be.

    Raises:
        ConfigError: If the model has no adapters, or its last layer a bias without a place.
        CheckpointError: If PEFT cannot load an adapter.
    """
    if not hasattr(source.module, "peft_config"):
        raise ConfigError(
            f"{config.checkpoint} has no adapters: it is a whole network. Export it with "
            "--form full."
        )
    source.save_pretrained(folder)
    numbered = sorted(folder.glob("member_*"), key=lambda path: int(path.name.split("_")[1]))
    members = numbered if isinstance(source, AdapterEnsembleRewardModel) else [folder]
    notes = _settle_configurations(members, config.base_model)
    for member in members:
        plain_tokenizer(member, sample)
    base, tokenizer = _base_of(members, config, sample.raw.shape[-1] // len(members)), None
    if config.write_base:
        notes += _write_base(base, source.tokenizer, sample.dtype, folder / BASE)
        base, _ = load_plain(
            str(folder / BASE), dtype="auto", trust_remote_code=config.trust_remote_code
        )
        tokenizer = plain_tokenizer(folder / BASE, sample)
    found = _adapter_outputs(base.to(source.device), members, sample, tokenizer)
    return source, found, sample.raw, notes


def _settle_configurations(members: Sequence[Path], base_model: str | None) -> list[str]:
    """Write the backbone and the saved modules into each adapter's configuration."""
    for member in members:
        path = member / ADAPTER_CONFIG
        content = read_checkpoint_json(path)
        keys = [key.removeprefix(_IN_PEFT) for key in adapter_shapes(str(member))]
        saved = sorted(
            name
            for name in set(content.get("modules_to_save") or ())
            if any(f".{name}." in f".{key}" for key in keys)
        )
        content |= {"modules_to_save": saved}
        write_json(path, content | ({"base_model_name_or_path": base_model} if base_model else {}))
    others = sorted(set(saved) - {"score", "classifier"})
    note = f"vLLM does not serve the adapters: beside the last layer they hold {', '.join(others)}"
    return [note] if others else []


def _base_of(members: Sequence[Path], config: ExportConfig, outputs: int) -> Any:
    """Load the backbone as Transformers' classifier; the adapters bring its last layer.

    Raises:
        ConfigError: If they bring a bias that the classifier has no place for.
        CheckpointError: If it lacks weights that an adapter does not bring either.
    """
    name = config.base_model or adapter_base(str(members[0]))
    base, info = load_plain(
        name,
        num_labels=outputs,
        problem_type="regression",
        dtype=torch.float32,
        trust_remote_code=config.trust_remote_code,
    )
    place, layer = final_linear(base)
    for member in members:
        brought = {key.removeprefix(_IN_PEFT) for key in adapter_shapes(str(member))}
        if f"{place}.bias" in brought and layer.bias is None:
            raise ConfigError(
                f"{type(base).__name__} has no bias in {place}, and PEFT would pass over the one "
                "that the adapter brings. Serve the checkpoint itself with `hidden-context serve`."
            )
        lacking = info["missing_keys"] - brought
        if lacking:
            raise CheckpointError(
                f"{name} and the adapter {member.name} both lack {some(lacking)}, so a program "
                "that loads them would compute random rewards. Export with --form full."
            )
    return base


def _write_base(base: Any, tokenizer: Any, dtype: torch.dtype, folder: Path) -> list[str]:
    """Write the backbone as a classifier whose last layer is NaN: alone it gives no reward."""
    specialise_for_rewards(base)
    torch.nn.init.constant_(final_linear(base)[1].weight, float("nan"))
    note = settle_padding(base, tokenizer)
    name_outputs(base)
    base.base_model.to(dtype)
    with quiet_loading():
        base.save_pretrained(str(folder))
    tokenizer.save_pretrained(str(folder))
    return [f"in {BASE}, {note}"] if note else []


def _adapter_outputs(base: Any, members: Sequence[Path], sample: Sample, tokenizer: Any) -> Tensor:
    """Run each adapter on its backbone with PEFT alone; without a tokenizer, texts run singly."""
    from peft import PeftModel

    if tokenizer is None:  # the caller chooses padding, and one text needs none
        base.config.pad_token_id = base.config.get_text_config().pad_token_id = None
    rows: list[Tensor] = []
    for member in members:
        problem = f"PEFT cannot load the adapter {member.name} ({{error}})."
        with as_checkpoint_error(problem), quiet_loading():
            model = PeftModel.from_pretrained(base, str(member)).eval()
        rows.append(logits_of(model, tokenizer, sample))
        base = model.unload()
    return torch.cat(rows, dim=-1)
