"""Reward models for tests: their trained weights moved, saved, loaded, damaged and refused."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from hidden_context import heads
from hidden_context.errors import CheckpointError
from hidden_context.export import ExportConfig, Exported, export_model
from hidden_context.heads import Head
from hidden_context.likelihood import Likelihood, make_likelihood
from hidden_context.models import RewardModel
from hidden_context.models.checkpoint.head_file import HeadFile, RewardScale
from hidden_context.models.engine.forward import classifier_of
from hidden_context.models.featurizer import Featurizer, FeaturizerOptions
from hidden_context.models.frozen import FrozenRewardModel, Probe, ProbeOptions
from hidden_context.models.network.backbone import build_model
from hidden_context.models.network.modules import final_linear
from hidden_context.models.network.tokenizer import load_tokenizer
from hidden_context.models.sequence import SequenceRewardModel

NORMAL = heads.make("mean_and_variance", likelihood="logistic")
SCALE = RewardScale(1.5, 2.0, 40)


def moved(module: Any, seed: int = 0, last: float = 20.0) -> Any:
    """Move the weights that are trained, to values that bfloat16 holds; the last layer the most."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.05).copy_(parameter.bfloat16())
        final_linear(classifier_of(module))[1].weight.mul_(last)
    return module


def sequence_model(
    base: str,
    head: Head = NORMAL,
    *,
    likelihood: Likelihood | None = None,
    seed: int = 0,
    last: float = 20.0,
    **options: Any,
) -> SequenceRewardModel:
    """A reward model as training leaves it; ``options`` are those of ``build_model``."""
    torch.manual_seed(seed)  # the last layer is drawn
    return SequenceRewardModel(
        moved(build_model(base, head, **options), seed, last),
        load_tokenizer(base),
        likelihood or make_likelihood(head),
        100,
        base_model=base,
        reward_scale=SCALE,
        card={"data": {"source": "tests"}, "metrics": {"accuracy": 0.75}},
    )


def write_ensemble(
    folder: Path, base: str, head: Head = NORMAL, seeds: Sequence[int] = (0, 1, 2), **options: Any
) -> None:
    """Write an ensemble of adapters by hand, from its documented format."""
    names = [f"member_{number}" for number in range(len(seeds))]
    for name, seed in zip(names, seeds, strict=True):
        sequence_model(base, head, seed=seed, **options).save_pretrained(folder / name)
    content = {"format": 1, "members": names}
    (folder / "adapter_ensemble.json").write_text(json.dumps(content))
    HeadFile(heads.EnsembleHead(head, len(seeds)), 100, base, SCALE).save(folder)
    load_tokenizer(base).save_pretrained(str(folder))


def frozen_model(
    base: str, head: Head = NORMAL, embed: str = "apart", **options: Any
) -> FrozenRewardModel:
    """A probe of three members on features of a backbone of width 32."""
    torch.manual_seed(0)
    shape = ProbeOptions(hidden=8, dropout=0.1, members=3)
    featurizer = Featurizer(base, FeaturizerOptions(embed=embed, max_length=100), **options)
    probe = Probe(64 if embed == "apart" else 32, head, shape).eval()
    probe.standardise(torch.randn(50, probe.location.shape[0]))
    probe.slope, probe.start = torch.randn_like(probe.slope), torch.randn_like(probe.start)
    return FrozenRewardModel(
        featurizer,
        probe,
        make_likelihood(head),
        reward_scale=SCALE,
        card={"data": {"source": "tests"}, "metrics": {"accuracy": 0.75}},
    )


def load(folder: str | Path, *args: Any, **options: Any) -> Any:
    """Load a reward model in float32 on the CPU."""
    return RewardModel.from_pretrained(
        folder, *args, **({"dtype": "float32", "device": "cpu"} | options)
    )


def export(checkpoint: str | Path, output: str | Path, **options: Any) -> Exported:
    """Export a checkpoint with the options of ``ExportConfig``."""
    return export_model(ExportConfig(checkpoint=str(checkpoint), output=str(output), **options))


def refusal(
    call: Callable[..., Any], *args: Any, error: type[Exception] = CheckpointError, **options: Any
) -> str:
    """The sentences that a call is refused with, in one line."""
    with pytest.raises(error) as caught:
        call(*args, **options)
    message = str(caught.value)
    assert "\n" not in message
    assert message.endswith(".")
    return message


def edit_json(path: Path, drop: Sequence[str] = (), **values: Any) -> None:
    """Change fields of a JSON file, or leave some out."""
    content = json.loads(path.read_text()) | values
    path.write_text(json.dumps({key: value for key, value in content.items() if key not in drop}))


def edit_weights(path: Path, drop: Sequence[str] = (), **values: Tensor) -> None:
    """Change weights of a file, or leave out those whose names hold one of some parts."""
    state = load_file(path) | values
    kept = {key: value for key, value in state.items() if not any(part in key for part in drop)}
    save_file(kept, path, {"format": "pt"})


def damage(path: Path, change: str | int | Sequence[str] | dict[str, Any] | None) -> None:
    """Remove a file, replace its text, cut bytes off, or leave out or change fields or weights."""
    edit: Any = edit_json if path.suffix == ".json" else edit_weights
    if change is None:
        path.unlink()
    elif isinstance(change, str):
        path.write_text(change)
    elif isinstance(change, int):
        path.write_bytes(path.read_bytes()[:-change])
    elif isinstance(change, dict):
        edit(path, **change)
    else:
        edit(path, change)


@contextmanager
def memory_of(model: Any, limit: float = math.inf) -> Iterator[SimpleNamespace]:
    """Inside, passes of more tokens than ``limit`` run out of memory; their sizes are counted."""
    memory = SimpleNamespace(limit=limit, passes=[], failed=0)

    def spend(module, args, options):
        size = options["input_ids"].numel()
        if size > memory.limit:
            memory.failed += 1
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.")
        memory.passes.append(size)

    handle = model.base_model.register_forward_pre_hook(spend, with_kwargs=True)
    try:
        yield memory
    finally:
        handle.remove()


def one_by_one(module: Any, tokenizer: Any, texts: Sequence[Any]) -> Tensor:
    """Outputs as Transformers and PEFT compute them, one text after the other."""
    ids = [torch.tensor([tokenizer(text)["input_ids"]]) for text in texts]
    with torch.no_grad():
        return torch.cat([module.eval()(input_ids=each).logits for each in ids])


def close(found: Tensor, expected: Tensor, share: float = 2e-6) -> None:
    """Assert that outputs differ by no more than a share of the greatest of them, or of 1.

    In float32 tiny models agree to 1e-6 of their outputs with AVX-512, and to 1.2e-6 with AVX2.
    """
    assert found.shape == expected.shape
    scale = max(1.0, float(expected.abs().max()))
    greatest = float((found - expected).abs().max())
    assert greatest <= share * scale, f"{greatest:.2e} of {scale:.2f}"
