"""Training the study's reward models, whose raw outputs are kept beside its results."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import safetensors
import torch
from ground_truth.dialogues import PROBE
from kit import fit
from policy.rewards import MODELS
from policy.worlds import PolicyWorld, Responses, WorldName, starting_policy
from safetensors.torch import save
from torch import Tensor

from hidden_context import heads
from hidden_context.data.storage.files import atomic_write, read_json, write_json
from hidden_context.distributions import RewardDistribution
from hidden_context.errors import ConfigError
from hidden_context.training import TrainConfig, TrainResult
from hidden_context.training.frozen.fit import make_featurizer
from hidden_context.worlds.language_model import BackboneConfig, build_backbone

_ONE_PASS: Final = 128
Raw = tuple[dict[str, Tensor], dict[str, Any]]
"""Raw outputs by name, and facts about them."""


@dataclasses.dataclass(frozen=True)
class Sizes:
    """How large the study is.

    Attributes:
        comparisons: Training comparisons of each reward model.
        test: Test comparisons.
        prompts: Harmful prompts that policies answer, and as many benign ones.
        samples: Responses of the starting policy to each prompt.
        pretraining: Steps of the language model.
        epochs: Most passes of a reward model over the comparisons.
    """

    comparisons: int = 4000
    test: int = 1000
    prompts: int = 32
    samples: int = 2040
    pretraining: int = 200
    epochs: int = 60


@dataclasses.dataclass(frozen=True)
class Unit:
    """One world, seed and reward model; its results are one file."""

    world: WorldName
    seed: int
    model: str

    @property
    def name(self) -> str:
        """Its name among files."""
        return f"{self.world}_{self.seed}_{self.model}"


Prepared = tuple[Responses, Tensor]
"""The starting policy's responses of a seed, and their features, shape ``(P·S, D)``."""


def prepare(seed: int, folder: Path, sizes: Sizes) -> Prepared:
    """Train a seed's language model, draw the starting policy's responses and embed them."""
    responses = starting_policy(seed, sizes.prompts, sizes.samples)
    featurizer = make_featurizer(TrainConfig(**_options(seed, folder, sizes)))
    flat = [text for row in responses.texts for text in row]
    return responses, featurizer.features(flat, _ONE_PASS)


def language_model(folder: Path, seed: int, comparisons: int, steps: int) -> Path:
    """Train the quickstart's language model on a world's responses, unless it is there.

    Raises:
        ConfigError: If one is there that was trained otherwise.
    """
    wanted = {"seed": seed, "comparisons": comparisons, "steps": steps}
    if not same_as_kept(folder / "made.json", wanted):
        rows = PolicyWorld("objectives", seed).comparisons(comparisons)
        texts = [row[side] for row in rows for side in ("chosen", "rejected")]
        build_backbone(folder, texts, BackboneConfig(seed=seed, pretraining_steps=steps))
        write_json(folder / "made.json", wanted)
    return folder


def same_as_kept(path: Path, wanted: Mapping[str, Any]) -> bool:
    """Tell whether a file of settings exists; it must hold the wanted settings.

    Raises:
        ConfigError: If it is not, naming file, field and remedy.
    """
    if not path.is_file():
        return False
    check_kept(path, read_json(path), wanted)
    return True


def score(
    unit: Unit, prepared: Prepared, folder: Path, sizes: Sizes
) -> tuple[RewardDistribution, dict[str, float]]:
    """Rewards of the starting policy's responses by one model, which is trained if need be.

    Returns:
        Reward distributions of batch shape ``(P, S)``; loss in nats and accuracy on the test
        comparisons.

    Raises:
        ConfigError: If what is kept is of other sizes.
    """
    responses, features = prepared

    def make() -> Raw:
        trained = train(unit, folder, sizes)
        with torch.inference_mode():
            raw = trained.model.probe(features)
        test = {name: trained.metrics[name] for name in ("loss", "accuracy")}
        return {"raw": raw}, {"head": trained.model.head.to_dict(), "test": test}

    path = folder / "raw" / f"{unit.name}.safetensors"
    raw, about = kept_raw(path, {"sizes": dataclasses.asdict(sizes)}, make)
    outputs = raw["raw"].unflatten(0, responses.kinds.shape)
    return heads.from_dict(about["head"]).distribution(outputs), about["test"]


def kept_raw(path: Path, made_by: Mapping[str, Any], make: Callable[[], Raw]) -> Raw:
    """Read raw outputs and facts about them from a file, which is made first if it is not there.

    Raises:
        ConfigError: If what is kept was made otherwise.
    """
    if not path.is_file():
        raw, facts = make()
        with atomic_write(path, "wb") as file:
            file.write(save(raw, {k: json.dumps(v) for k, v in {**facts, **made_by}.items()}))
    with safetensors.safe_open(path, framework="pt") as file:
        about = {name: json.loads(value) for name, value in file.metadata().items()}
        found = {name: file.get_tensor(name).double() for name in file.keys()}  # noqa: SIM118
    for name, wanted in made_by.items():
        check_kept(path, about[name], wanted)
    return found, about


def saved_model(unit: Unit, folder: Path, sizes: Sizes) -> Path:
    """Train a reward model on its world, unless it is there, and return its folder."""
    path = folder / "reward_models" / unit.name
    if not path.is_dir():
        train(unit, folder, sizes).model.save_pretrained(path)
    return path


def check_kept(path: Path, held: Any, wanted: Mapping[str, Any]) -> None:
    """Check that what a file says of its making is what this run wants.

    Raises:
        ConfigError: If it is not, naming file, field and remedy.
    """
    for name, value in wanted.items():
        found = held.get(name) if isinstance(held, Mapping) else None
        if found != value:
            raise ConfigError(
                f"{path}: {name} is {found!r}, but this run has {value!r}. Give another --output, "
                "or remove what is there."
            )


def train(unit: Unit, folder: Path, sizes: Sizes) -> TrainResult:
    """Train one reward model on its world's comparisons."""
    world, options = PolicyWorld(unit.world, unit.seed), _options(unit.seed, folder, sizes)
    rows, test = world.comparisons(sizes.comparisons), world.comparisons(sizes.test, "test")
    return fit(options | MODELS[unit.model], rows, test)


def _options(seed: int, folder: Path, sizes: Sizes) -> dict[str, Any]:
    """Options of ``TrainConfig`` that all reward models of a seed share; makes their backbone."""
    backbone = folder / f"backbone_{seed}"
    language_model(backbone, seed, sizes.comparisons, sizes.pretraining)
    return {
        **PROBE,
        "model_name": str(backbone),
        "seed": seed,
        "cache_dir": str(folder / "cache"),
        "probe_epochs": sizes.epochs,
        "evaluate_at_end": True,
        "baselines": False,
    }
