"""Checkpoints of a run: everything to resume the run exactly, and a loadable reward model."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, Final

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch.optim.lr_scheduler import LambdaLR
from transformers import TrainerState, TrainingArguments
from transformers.trainer_callback import ExportableState
from transformers.trainer_utils import rotate_checkpoints

from hidden_context.data.storage.files import read_json, write_json
from hidden_context.errors import CheckpointError, ConfigError, MissingFileError, first_line
from hidden_context.models.checkpoint.contents import replace_folder
from hidden_context.models.checkpoint.likelihood_file import load_likelihood
from hidden_context.models.network.adapters import check_matched
from hidden_context.models.sequence import SequenceRewardModel
from hidden_context.training.resume import RUN_FILE
from hidden_context.training.sharding.base import Sharding

STATE_FILE: Final = "trainer_state.json"
_OPTIMIZER: Final = "optimizer.pt"
_SCHEDULER: Final = "scheduler.pt"
_RANDOM: Final = "rng_state.pth"
_TAKEN_OVER: Final = (
    *("epoch", "global_step", "total_flos", "log_history"),
    *("best_metric", "best_global_step", "best_model_checkpoint"),
)
_UNREADABLE: Final = (OSError, EOFError, ValueError, RuntimeError, LookupError, UnpicklingError)


class Running:
    """A run whose state is saved and restored.

    Attributes:
        reward_model: The model that is trained.
        arguments: Folder of the run, number of checkpoints that are kept, and the metric by which
            the best one is chosen.
        state: Steps, log and best metric.
        sharding: Weights and optimiser, as they are divided over the processes.
        scheduler: The schedule.
        exportable: Callbacks and controls that have a state of their own.
        description: Options and data of the run; None to leave it out.
    """

    reward_model: SequenceRewardModel
    arguments: TrainingArguments
    state: TrainerState
    sharding: Sharding
    scheduler: Any
    exportable: Sequence[ExportableState]
    description: Mapping[str, Any] | None


def save(run: Running) -> None:
    """Write ``checkpoint-N`` whole or not at all, and remove old checkpoints beyond the limit.

    Args:
        run: The run.

    Raises:
        StorageError: If it could not be written.
    """
    state, output_dir = run.state, str(run.arguments.output_dir)
    folder = Path(output_dir) / f"checkpoint-{state.global_step}"
    best = Path(output_dir) / f"checkpoint-{state.best_global_step}"
    if best == folder or best.is_dir():
        state.best_model_checkpoint = str(best)
    states = gather_object([_random_state()])
    weights = run.sharding.weights(trained=hasattr(run.reward_model.module, "peft_config"))
    optimizer_state = run.sharding.optimizer_state()
    state.stateful_callbacks = {type(each).__name__: each.state() for each in run.exportable}
    with run.sharding.likelihood():
        if run.sharding.accelerator.is_main_process:
            with replace_folder(folder) as partial:
                run.reward_model.write_weights(partial, weights)
                _write(optimizer_state, partial / _OPTIMIZER)
                _write(run.scheduler.state_dict(), partial / _SCHEDULER)
                for rank, random_state in enumerate(states):
                    _write(random_state, partial / _random_file(rank, len(states)))
                if run.description is not None:
                    write_json(partial / RUN_FILE, run.description)
                state.save_to_json(str(partial / STATE_FILE))
    if run.sharding.accelerator.is_main_process:
        limit, kept = run.arguments.save_total_limit, state.best_model_checkpoint
        rotate_checkpoints(output_dir, limit, kept, use_mtime=True)
    run.sharding.accelerator.wait_for_everyone()


def _write(state: Any, path: Path) -> None:
    """Save with torch; on a full disk, raise the OSError instead of torch's error."""
    try:
        with path.open("wb") as file:
            torch.save(state, file)
    except RuntimeError as error:
        if isinstance(error.__context__, OSError):
            raise error.__context__ from error
        raise


def load(run: Running, folder: str | Path) -> None:
    """Restore weights, optimiser, schedule and callbacks.

    Args:
        run: The run, which is brought to where the checkpoint was written. Its state takes over the
            step, log and best metric; the number of steps and the intervals stay this run's.
        folder: The checkpoint's folder.

    Raises:
        CheckpointError: If the checkpoint is not complete, or of another model.
        ConfigError: If more steps are behind it than the run has.
    """
    folder, state = Path(folder), run.state
    if not (folder / STATE_FILE).is_file():
        raise CheckpointError(f"{folder} has no {STATE_FILE}; give a checkpoint-N folder of a run.")
    load_weights(run, folder)
    try:
        for name, restore in (
            (_OPTIMIZER, run.sharding.load_optimizer_state),
            (_SCHEDULER, run.scheduler.load_state_dict),
        ):
            restore(torch.load(folder / name, map_location="cpu", weights_only=True))
    except _UNREADABLE as error:
        raise CheckpointError(
            f"{folder}: the optimiser's state cannot be restored ({first_line(error)})."
        ) from error
    if isinstance(run.scheduler, LambdaLR):  # this run's length sets the rate of the step
        run.scheduler.last_epoch -= 1
        run.scheduler.step()
    stored = TrainerState.load_from_json(str(folder / STATE_FILE))
    for name in _TAKEN_OVER:
        setattr(state, name, getattr(stored, name))
    if state.global_step > state.max_steps:
        raise ConfigError(
            f"{folder} was saved at step {state.global_step}, but the run ends at step "
            f"{state.max_steps}; raise --max_steps or --num_train_epochs, or resume an earlier "
            "checkpoint."
        )
    for each in run.exportable:
        known: Any = stored.stateful_callbacks.get(type(each).__name__)
        entries = known if isinstance(known, list) else [known] if known else []
        for name, value in entries[-1].get("attributes", {}).items() if entries else ():
            setattr(each, name, value)


def note_best(run: Running, metrics: Mapping[str, float]) -> bool:
    """Record whether the model is the best so far.

    Args:
        run: The run, whose state holds the best step.
        metrics: Metrics of the evaluation.

    Returns:
        Whether it is; False where no metric was chosen.

    Raises:
        ConfigError: If the evaluation has no metric of that name.
    """
    state, name = run.state, run.arguments.metric_for_best_model
    if name is None:
        return False
    value = metrics.get(name if name.startswith("eval_") else f"eval_{name}")
    if value is None:
        raise ConfigError(f"metric_for_best_model is {name}, which the evaluation lacks.")
    best, sign = state.best_metric, 1 if run.arguments.greater_is_better else -1
    if best is not None and not sign * value > sign * best:
        return False
    state.best_metric, state.best_global_step = value, state.global_step
    return True


def load_weights(run: Running, folder: str | Path) -> None:
    """Restore network and likelihood from a checkpoint.

    Raises:
        CheckpointError: If weights are missing, or the likelihood has other options.
    """
    folder, likelihood = Path(folder), run.reward_model.likelihood
    stored = load_likelihood(folder, likelihood.head)
    if stored.options != likelihood.options:
        raise CheckpointError(
            f"{folder} was trained with other likelihood options or annotators. Resume it with its "
            "original options and data."
        )
    network = run.reward_model.module
    try:
        with run.sharding.loading():
            _load_network(network, folder, run.sharding)
            likelihood.load_state_dict(stored.state_dict())
    except (OSError, RuntimeError, KeyError, SafetensorError) as error:
        raise CheckpointError(f"{folder}: {first_line(error)}") from error


def _load_network(network: Any, folder: Path, sharding: Sharding) -> None:
    if hasattr(network, "peft_config"):
        from peft import get_peft_model_state_dict, load_peft_weights, set_peft_model_state_dict

        own = get_peft_model_state_dict(network)
        weights = sharding.fitting(load_peft_weights(str(folder), device="cpu"), own)
        set_peft_model_state_dict(network, weights)
        check_matched(network, str(folder), "of the run", weights)
        return
    index = folder / "model.safetensors.index.json"
    names = ["model.safetensors"]
    if index.is_file():
        names = sorted(set(read_json(index)["weight_map"].values()))
    seen: set[str] = set()
    for name in names:
        if not (folder / name).is_file():
            raise MissingFileError(folder / name, "The checkpoint is not complete")
        weights = sharding.fitting(load_file(str(folder / name)), network.state_dict())
        network.load_state_dict(weights, strict=False)
        seen |= set(weights)
    # a weight with several names is saved under one of them, and is there under each
    shared = {id(p) for n, p in network.named_parameters(remove_duplicate=False) if n in seen}
    missing = [n for n, p in network.named_parameters() if n not in seen and id(p) not in shared]
    if missing:
        raise CheckpointError(f"{len(missing)} weights are missing, such as {missing[0]}.")


def _random_state() -> dict[str, Any]:
    """Collect the random state in types that load without running code."""
    numpy: Any = np.random.get_state()  # noqa: NPY002 - whatever draws from it goes on as before
    name, keys, *rest = numpy
    states: dict[str, Any] = {
        "python": random.getstate(),
        "numpy": (name, torch.from_numpy(keys.astype(np.int64)), *rest),
        "cpu": torch.random.get_rng_state(),
    }
    if torch.cuda.is_available():
        states["cuda"] = torch.cuda.get_rng_state_all()
    return states


def _random_file(rank: int, count: int) -> str:
    return _RANDOM if count == 1 else f"rng_state_{rank}.pth"


def load_random_state(folder: str | Path, accelerator: Accelerator) -> None:
    """Restore this process's random state if the checkpoint has it.

    Raises:
        CheckpointError: If it cannot be read.
    """
    name = _random_file(accelerator.process_index, accelerator.num_processes)
    path = Path(folder) / name
    if not path.is_file():
        return
    try:
        states = torch.load(path, map_location="cpu", weights_only=True)
        name, keys, *rest = states["numpy"]
        np.random.set_state((name, keys.numpy().astype(np.uint32), *rest))  # noqa: NPY002
    except _UNREADABLE as error:
        raise CheckpointError(
            f"{path} cannot be read ({first_line(error)}); without the file the run draws "
            "other random numbers."
        ) from error
    random.setstate(states["python"])
    torch.random.set_rng_state(states["cpu"])
    if "cuda" in states and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(states["cuda"])
