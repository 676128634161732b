"""Loading a reward model of any kind from a folder or the hub."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hidden_context import heads
from hidden_context.errors import CheckpointError, ConfigError
from hidden_context.models.adapter_ensemble import AdapterEnsembleRewardModel
from hidden_context.models.checkpoint import contents, head_file
from hidden_context.models.checkpoint.contents import LoadOptions
from hidden_context.models.checkpoint.likelihood_file import load_likelihood
from hidden_context.models.checkpoint.reference import load_reference
from hidden_context.models.frozen import FrozenRewardModel
from hidden_context.models.network import weights
from hidden_context.models.network.adapters import load_adapter
from hidden_context.models.network.backbone import load_classifier, new_modules
from hidden_context.models.network.modules import final_linear
from hidden_context.models.network.tokenizer import length_limit, load_tokenizer
from hidden_context.models.reward_model import RewardModel
from hidden_context.models.sequence import SequenceRewardModel


def load_reward_model(
    path_or_id: str | Path, options: LoadOptions, *, reference: bool = True
) -> RewardModel:
    """Load a reward model; see ``RewardModel.from_pretrained``."""
    name, revision = contents.existing(path_or_id), options.revision
    kind = contents.kind_of(name, revision)
    if kind == "frozen" and options.tokenizer_name is not None:
        raise ConfigError(
            f"{name} always uses the tokenizer of its features; leave tokenizer_name out."
        )
    model: RewardModel
    if kind in ("frozen", "ensemble"):
        kept = FrozenRewardModel if kind == "frozen" else AdapterEnsembleRewardModel
        model = kept.load(contents.whole_folder(name, revision), options)
    else:
        model = _load_sequence(name, options, is_adapter=kind == "adapter")
    if reference:
        model.reference = load_reference(name, model.head, model.readout, revision)
    return model


def _load_sequence(name: str, options: LoadOptions, *, is_adapter: bool) -> SequenceRewardModel:
    """Load a classifier, or an adapter on its backbone."""
    revision, remote = options.revision, options.trust_remote_code
    head_path = contents.find_file(name, head_file.HEAD_FILE, revision)
    stored = head_file.HeadFile.load(head_path) if head_path else None
    wanted = head_file.resolve_head(options.head)
    if stored is not None:
        wanted = head_file.agreed_head(name, options.head, stored.head)
    source: dict[str, Any] = {"revision": revision, "trust_remote_code": remote}
    base = name
    if is_adapter:
        base = options.base_model or contents.adapter_base(name, revision)
        module, head = load_adapter(name, base, wanted, options.dtype, source)
    else:
        head = wanted or _head_of_classifier(name, source)
        loaded = load_classifier(name, head.num_outputs, scored=True, dtype=options.dtype, **source)
        module = loaded.model
        if f"{final_linear(module)[0]}.weight" in loaded.missing:
            new_modules(loaded)  # refuses a backbone that is not complete either
            raise _no_head(name)
        loaded.check_missing(loaded.missing)
    tokenizer_source = options.tokenizer_name or (
        name if contents.find_file(name, "tokenizer_config.json", revision) else base
    )
    tokenizer = load_tokenizer(
        tokenizer_source,
        revision=revision if tokenizer_source == name else None,
        trust_remote_code=remote,
    )
    stored = stored or head_file.HeadFile(head)
    return SequenceRewardModel(
        module.to(options.device).eval(),
        tokenizer,
        load_likelihood(name, head, revision),
        length_limit(tokenizer, module.config, options.max_length or stored.max_length),
        base_model=stored.base_model or base,
        reward_scale=stored.reward_scale,
    )


def _no_head(name: str) -> CheckpointError:
    return CheckpointError(
        f"{name!r} has no trained reward head; it is a backbone. Train one with "
        "`hidden-context train --model_name ...`, or give a reward model."
    )


def _head_of_classifier(name: str, source: dict[str, Any]) -> heads.Head:
    config = weights.load_config(name, **source)
    if not any("SequenceClassification" in kind for kind in config.architectures or ()):
        stored = weights.stored_weights(name, source["revision"])
        modules = {weights.unwrapped(key).rpartition(".")[0] for key in stored}
        if modules.isdisjoint(weights.VALUE_HEADS):
            raise _no_head(name)
    elif config.num_labels != 1:
        raise CheckpointError(
            f"{name} has {config.num_labels} outputs and no {head_file.HEAD_FILE}; name its "
            "head, such as mean_and_variance, if it is a reward model."
        )
    return heads.make("base")
