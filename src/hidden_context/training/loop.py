"""The training loop: steps of a fixed number of votes, on Accelerate."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

import torch
from accelerate import Accelerator
from torch import Tensor
from torch.optim.lr_scheduler import ReduceLROnPlateau
from tqdm.auto import tqdm
from transformers import (
    DefaultFlowCallback,
    ProgressCallback,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
    set_seed,
)
from transformers.integrations import get_reporting_integration_callbacks
from transformers.trainer_callback import CallbackHandler, ExportableState
from transformers.trainer_utils import SaveStrategy

from hidden_context.errors import DivergedError
from hidden_context.models.engine.budget import TokenBudget, default_tokens
from hidden_context.models.engine.choose import Way
from hidden_context.models.engine.runner import Runner
from hidden_context.models.sequence import SequenceRewardModel
from hidden_context.statistics.evaluation.judgement_metrics import (
    grouped_judgement_metrics,
    judgement_metrics,
)
from hidden_context.training import checkpoints
from hidden_context.training.config import TrainConfig
from hidden_context.training.dataset import Batch, ExampleDataset, StepSampler, groups_of
from hidden_context.training.module import PreferenceModule
from hidden_context.training.optimizer import make_optimizer, make_scheduler
from hidden_context.training.runner import NotFiniteError, StepRunner
from hidden_context.training.schedules import prior_weight
from hidden_context.training.sharding.processes import is_sharded, make_accelerator, make_sharding

_SHOWN: Final = ("accuracy", "reward_mean", "reward_stddev", "r2")
# Numbers of a log line that the terminal shows; numbers by subset and objective are left out.
_PRINTED: Final = (
    *("loss", "eval_loss", *_SHOWN, *(f"eval_{name}" for name in _SHOWN), "grad_norm"),
    *("learning_rate", "train_runtime", "train_steps_per_second", "epoch"),
)


class _Lines(TrainerCallback):
    """Callback that prints each log line as a few ``name=value`` pairs."""

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        if state.is_local_process_zero:
            shown = [f"{name}={logs[name]:.4g}" for name in _PRINTED if name in logs]
            tqdm.write("  ".join([f"step={state.global_step}", *shown]))


class _Bar(_Lines, ProgressCallback):
    """Callback that shows progress bars below the log lines."""


class TrainingLoop(checkpoints.Running):
    """Training loop of a sequence reward model: network and likelihood learn together.

    A step is a fixed number of votes, run in as many forward and backward passes as the token
    budget asks for. Its loss is a sum over all passes and processes divided by the step's votes, so
    that it does not depend on the budget.

    Args:
        reward_model: The model, its tokenizer and likelihood.
        arguments: Transformers' arguments.
        config: Options beyond Transformers' arguments.
        train: Examples to learn from.
        evaluation: Examples to evaluate on along the way, or None.
        callbacks: Callbacks beside those for progress, logs and trackers.
        description: Options and data of the run, kept in its checkpoints.
    """

    def __init__(
        self,
        reward_model: SequenceRewardModel,
        arguments: TrainingArguments,
        config: TrainConfig,
        train: ExampleDataset,
        evaluation: ExampleDataset | None = None,
        callbacks: Sequence[TrainerCallback] = (),
        description: Mapping[str, Any] | None = None,
    ) -> None:
        set_seed(arguments.seed)
        self.reward_model, self.arguments, self.config = reward_model, arguments, config
        self.data, self.evaluation, self.description = train, evaluation, description
        self.num_weights = int(reward_model.module.num_parameters(exclude_embeddings=True))
        self.recomputes = config.gradient_checkpointing or any(
            getattr(arguments, name, False)  # its newer and its older name
            for name in ("activation_checkpointing", "gradient_checkpointing")
        )
        accelerator = make_accelerator(arguments, self.recomputes)
        module = self._make_module(accelerator)
        self.sampler = StepSampler(
            train.sizes,
            arguments.per_device_train_batch_size * accelerator.num_processes,
            train.votes,
            window=0 if train.linker else config.length_window,
            seed=arguments.seed if arguments.data_seed is None else arguments.data_seed,
            world_size=accelerator.num_processes,
            rank=accelerator.process_index,
        )
        steps = arguments.max_steps
        if steps <= 0:
            steps = max(1, -int(-arguments.num_train_epochs * len(self.sampler) // 1))
        optimizer = make_optimizer(module, arguments, config.objective_learning_rate)
        self.scheduler = make_scheduler(config.lr_scheduler_type, optimizer, arguments, steps)
        self.sharding = make_sharding(accelerator, module)
        self.sharding.prepare(optimizer)
        self.optimizer = self.sharding.optimizer
        dtype = torch.bfloat16 if arguments.bf16 else torch.float32
        tokens = config.tokens_per_batch or default_tokens(accelerator.device, dtype)
        self.runner = StepRunner(self.sharding, TokenBudget(tokens))
        shown = _Lines() if arguments.disable_tqdm else _Bar()
        self.handler = CallbackHandler(
            [
                DefaultFlowCallback(),
                *(kind() for kind in get_reporting_integration_callbacks(arguments.report_to)),
                *callbacks,
                *([] if config.quiet else [shown]),
            ],
            reward_model.module,
            reward_model.tokenizer,
            self.optimizer,
            self.scheduler,
        )
        self.handler.train_dataloader = self.sampler
        self.control = TrainerControl()
        self.state = TrainerState(
            max_steps=steps,
            num_train_epochs=-(-steps // len(self.sampler)),
            is_local_process_zero=accelerator.is_local_main_process,
            is_world_process_zero=accelerator.is_main_process,
        )
        self.state.compute_steps(arguments, steps)
        stateful = (*self.handler.callbacks, self.control)
        self.exportable = [each for each in stateful if isinstance(each, ExportableState)]
        self._lines: list[dict[str, float]] = []
        self._evaluated: tuple[int, ExampleDataset, Tensor] | None = None
        self._event("on_init_end")

    def _make_module(self, accelerator: Accelerator) -> PreferenceModule:
        network: Any = self.reward_model.module
        if not (is_sharded(accelerator) and self.config.engine == "padded"):
            network = network.to(accelerator.device)  # whole, to try ways of running it
        if self.recomputes:
            network.gradient_checkpointing_enable(
                gradient_checkpointing_kwargs={"use_reentrant": False}
            )
        # a way is tried on examples that are the same in every process
        places = sorted({0, len(self.data) // 2, len(self.data) - 1})
        sequences = [ids for place in places for ids in self.data[place]]
        choice = self.reward_model.runner.choice
        way: Way = choice.choose(sequences, self.config.engine, ways=("tree",))
        return PreferenceModule(
            network,
            self.reward_model.likelihood.to(accelerator.device),
            way,
            self.reward_model.runner.pad_token_id,
            self.config.pad_to_multiple_of,
            rounds=self.arguments.bf16 and is_sharded(accelerator),
        )

    def train(self, resume_from: str | None = None) -> None:
        """Train to the end.

        Args:
            resume_from: Folder of the checkpoint to go on from, or None.

        Raises:
            DivergedError: If the loss or a gradient is not finite.
            CheckpointError: If the checkpoint does not fit.
        """
        if resume_from is not None:
            checkpoints.load(self, resume_from)
        if self.config.tokens_per_batch is None:
            self.runner.tune(self.data.batch(range(min(len(self.data), 1024))))
        started, first = time.perf_counter(), self.state.global_step
        self._event("on_train_begin")
        if self.arguments.eval_on_start:
            self._evaluate(at_start=True)
        if resume_from is not None:
            checkpoints.load_random_state(resume_from, self.runner.accelerator)
        while self.state.global_step < self.state.max_steps:
            self._event("on_epoch_begin")
            self._epoch()
            self._event("on_epoch_end")
            self._act()
            if self.control.should_training_stop:
                break
        if self.arguments.load_best_model_at_end and self.state.best_model_checkpoint:
            checkpoints.load_weights(self, self.state.best_model_checkpoint)
            self._evaluated = None
        seconds = time.perf_counter() - started
        rate = (self.state.global_step - first) / max(seconds, 1e-9)
        self._log({"train_runtime": seconds, "train_steps_per_second": rate})
        self._event("on_train_end")

    def _epoch(self) -> None:
        per_epoch = len(self.sampler)
        self.sampler.epoch, done = divmod(self.state.global_step, per_epoch)
        for number, rows in enumerate(self.sampler):
            if number < done:
                continue
            self._event("on_step_begin")
            self._step(self.data.batch(rows, self.state.global_step))
            self.state.global_step += 1
            self.state.epoch = self.state.global_step / per_epoch
            self._event("on_step_end")
            self._act()
            if self.control.should_epoch_stop or self.control.should_training_stop:
                break

    def _step(self, batch: Batch) -> None:
        """Run one optimiser step."""
        self.runner.model.train()
        self.optimizer.zero_grad()
        progress = self.state.global_step / max(self.state.max_steps, 1)
        prior = prior_weight(self.config.annotator_warmup, progress) / self.data.num_votes
        try:
            result = self.runner.step(batch, prior)
        except NotFiniteError as error:
            self._stop_diverged(str(error), error.rows)
        self._event("on_pre_optimizer_step")
        norm = self.sharding.clip(self.arguments.max_grad_norm or float("inf"))
        if not norm < float("inf"):
            self._stop_diverged("a gradient is not finite", batch.rows)
        self.optimizer.step()
        self._event("on_optimizer_step")
        with torch.no_grad(), self.sharding.likelihood():
            labels = batch.labels.map(lambda values: values.to(result.raw.device))
            metrics = judgement_metrics(self.runner.module.likelihood, result.raw, labels)
        line = {"loss": result.loss, "grad_norm": norm}
        line["learning_rate"] = self.scheduler.get_last_lr()[0]
        self._lines.append(line | {name: metrics[name] for name in _SHOWN if name in metrics})
        self.state.total_flos += 6 * result.tokens * self.num_weights
        if not isinstance(self.scheduler, ReduceLROnPlateau):
            self.scheduler.step()

    def _stop_diverged(self, cause: str, rows: Sequence[int]) -> None:
        lines = ", ".join(self.data.lines_of(row) for row in rows)
        raise DivergedError(
            f"training stopped at step {self.state.global_step + 1}: {cause}. Lines of the "
            f"training data (from 1): {lines}. Lower the learning rate, or look at these lines; "
            "the last saved checkpoint is intact."
        )

    def _act(self) -> None:
        """Log, evaluate and save where the callbacks ask for it."""
        if self.control.should_log and self._lines:
            self._log(_means(self._lines))
            self._lines = []
        if self.control.should_evaluate:
            self._evaluate()
        if self.control.should_save:
            checkpoints.save(self)
            self._event("on_save")

    def _event(self, name: str, **values: Any) -> None:
        handle = getattr(self.handler, name)
        self.control = handle(self.arguments, self.state, self.control, **values)

    def _log(self, logs: dict[str, float]) -> None:
        logs = {**logs, "epoch": self.state.epoch}
        self.state.log_history.append({**logs, "step": self.state.global_step})
        self._event("on_log", logs=logs)

    def _evaluate(self, at_start: bool = False) -> None:
        """Evaluate during training; before the first step no checkpoint can be chosen."""
        if self.evaluation is None:
            self.control.should_evaluate = False
            return
        started = time.perf_counter()
        found = self.metrics_of(self.evaluation)
        metrics = {f"eval_{name}": value for name, value in found.items()}
        self._log({**metrics, "eval_runtime": time.perf_counter() - started})
        self._event("on_evaluate", metrics=metrics)
        if at_start:
            return
        if isinstance(self.scheduler, ReduceLROnPlateau):
            self.scheduler.step(metrics["eval_loss"])
        best = checkpoints.note_best(self, metrics)
        if self.arguments.save_strategy == SaveStrategy.BEST:
            self.control.should_save = best

    def metrics_of(self, data: ExampleDataset) -> dict[str, float]:
        """Return metrics on a dataset, overall and by subset and objective."""
        labels, raw = data.labels, self.raw_outputs_of(data)
        likelihood, device = self.runner.module.likelihood, self.runner.device
        with torch.no_grad(), self.sharding.likelihood():
            labels = labels.map(lambda values: values.to(device))
            groups = groups_of(data.examples)
            return grouped_judgement_metrics(likelihood, raw.to(device), labels, groups)

    def raw_outputs_of(self, data: ExampleDataset) -> Tensor:
        """Return raw outputs ``(R, K)`` of a dataset's responses, cached until the next step."""
        known = self._evaluated
        if known is None or known[0] != self.state.global_step or known[1] is not data:
            raw = self.runner.raw_outputs_of(data, self.arguments.per_device_eval_batch_size)
            self._evaluated = known = (self.state.global_step, data, raw)
        return known[2]

    def finish(self) -> None:
        """Assemble the whole model in every process, after training."""
        module = self.sharding.whole()
        if module is not self.runner.module:
            model = self.reward_model
            model.module, model.likelihood = module.network, module.likelihood
            model.runner = Runner(module.network, module.pad_token_id)


def _means(lines: Sequence[dict[str, float]]) -> dict[str, float]:
    """Average log lines over the steps with a value; norm and rate are the last step's."""
    means: dict[str, float] = {}
    for name in dict.fromkeys(name for line in lines for name in line):
        values = [line[name] for line in lines if name in line]
        means[name] = sum(values) / len(values)
    return means | {name: lines[-1][name] for name in ("grad_norm", "learning_rate")}
