"""The Trainer of reward models: Transformers' own, with our loss, schedules and metrics."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from transformers import EvalPrediction, Trainer, TrainerCallback

from hidden_context.errors import DivergedError
from hidden_context.heads import Head
from hidden_context.models.sequence import SequenceRewardModel
from hidden_context.objectives import negative_log_likelihood
from hidden_context.statistics.pair_metrics import grouped_pair_metrics, pair_metrics
from hidden_context.training.dataset import PairCollator, PreferenceDataset
from hidden_context.training.schedules import PAPER_SCHEDULES, paper_schedule

_GROUP_COLUMNS = ("data_subset", "objective")


class PreferenceTrainer(Trainer):
    """Train a sequence reward model on preference pairs.

    The loss of an optimiser step is the sum of per-pair losses over all its micro-batches and
    processes, divided by the number of pairs, so accumulation equals a large batch. A head's
    penalty is added per micro-batch and averaged over them.

    Args:
        reward_model: The model, its tokenizer and head.
        schedule: ``cosine`` or ``step`` for the paper's schedules, else None.
        collator: How pairs become batches.
        **options: As for ``transformers.Trainer``.
    """

    def __init__(
        self,
        reward_model: SequenceRewardModel,
        collator: PairCollator,
        *,
        schedule: str | None = None,
        **options: Any,
    ) -> None:
        self.reward_model, self.schedule = reward_model, schedule
        self.head: Head = reward_model.head
        self._window: list[dict[str, float]] = []
        self._rows: Tensor | None = None
        super().__init__(
            model=reward_model.module,
            data_collator=collator,
            processing_class=reward_model.tokenizer,
            compute_metrics=self._compute_metrics,
            **options,
        )
        # The Trainer shall not divide by the number of micro-batches: compute_loss itself divides
        # by the number of pairs of the whole optimiser step.
        self.model_accepts_loss_kwargs = True
        self.add_callback(_FiniteGradients(self))

    def raw_outputs(self, model: nn.Module, inputs: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Run both sides in one forward pass; each raw output has shape ``(B, K)``."""
        input_ids = inputs["input_ids"].transpose(0, 1).flatten(0, 1)
        attention_mask = inputs["attention_mask"].transpose(0, 1).flatten(0, 1)
        logits = model(input_ids=input_ids, attention_mask=attention_mask).logits
        chosen, rejected = logits.chunk(2)
        return chosen, rejected

    def get_batch_samples(
        self, epoch_iterator: Iterator[Any], num_batches: int, device: torch.device
    ) -> tuple[list[Any], Tensor | int | None]:
        """Collect an optimiser step's micro-batches and count its pairs over all processes."""
        batches, _ = super().get_batch_samples(epoch_iterator, num_batches, device)
        pairs = torch.tensor(sum(len(batch["row"]) for batch in batches), device=device)
        if self.args.world_size > 1:
            pairs = self.accelerator.gather(pairs).sum()
        return batches, pairs

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """Compute this micro-batch's part of the optimiser step's loss, in nats per pair."""
        chosen, rejected = self.raw_outputs(model, inputs)
        loss = negative_log_likelihood(self.head, chosen, rejected, inputs["preference"])
        if num_items_in_batch is None:
            return (
                (loss.mean(), torch.stack([chosen, rejected], 1)) if return_outputs else loss.mean()
            )
        self._rows = inputs["row"]
        # gradients are averaged over processes, so each one's part is scaled up by their number
        total = loss.sum() / num_items_in_batch * self.args.world_size
        total = total + self.head.penalty(chosen, rejected) / self._micro_batches
        if not bool(torch.isfinite(total)):
            self.stop_diverged("the loss is not finite", loss.detach())
        with torch.no_grad():
            self._window.append(pair_metrics(self.head, chosen, rejected, inputs["preference"]))
        return total

    @property
    def _micro_batches(self) -> int:
        return int(getattr(self, "current_gradient_accumulation_steps", 1))

    def stop_diverged(self, cause: str, loss: Tensor | None = None) -> None:
        """Stop training with the step, the lines of the last micro-batch, and the cause."""
        rows = [] if self._rows is None else self._rows.tolist()
        if loss is not None:
            bad = (~torch.isfinite(loss)).tolist()
            rows = [row for row, wrong in zip(rows, bad, strict=True) if wrong] or rows
        dataset: Any = self.train_dataset
        lines = ", ".join(str(dataset.line_of(row)) for row in rows)
        raise DivergedError(
            f"training stopped at step {self.state.global_step + 1}: {cause}. Lines of the "
            f"training data (from 1): {lines}. Lower the learning rate, or look at these lines; "
            "the last saved checkpoint is intact."
        )

    def prediction_step(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        prediction_loss_only: bool,
        ignore_keys: list[str] | None = None,
    ) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        """Evaluate a batch: loss, raw outputs ``(B, 2, K)``, and row numbers as labels."""
        inputs = self._prepare_inputs(inputs)
        with torch.no_grad(), self.compute_loss_context_manager():
            loss, raw = self.compute_loss(model, inputs, return_outputs=True)
        if prediction_loss_only:
            return loss.detach(), None, None
        return loss.detach(), raw.detach().float(), inputs["row"]

    def _compute_metrics(self, prediction: EvalPrediction) -> dict[str, float]:
        raw = torch.as_tensor(prediction.predictions)
        rows = torch.as_tensor(prediction.label_ids)
        dataset = self._evaluated
        preference = torch.tensor([dataset.preferences[int(row)].preference for row in rows])
        groups = {column: dataset.group_of_rows(column) for column in _GROUP_COLUMNS}
        self.last_raw_outputs = raw
        return grouped_pair_metrics(self.head, raw[:, 0], raw[:, 1], preference, rows, groups)

    def evaluate(self, eval_dataset: Any = None, *args: Any, **options: Any) -> dict[str, float]:
        """Evaluate on a preference dataset; metrics by subset and objective where known."""
        self._evaluated: PreferenceDataset = (
            self.eval_dataset if eval_dataset is None else eval_dataset
        )
        return super().evaluate(eval_dataset, *args, **options)

    def create_scheduler(
        self, num_training_steps: int, optimizer: torch.optim.Optimizer | None = None
    ) -> Any:
        """Make the paper's schedule where one was chosen, else Transformers' own."""
        if self.schedule not in PAPER_SCHEDULES:
            return super().create_scheduler(num_training_steps, optimizer)
        if self.lr_scheduler is None:
            self.lr_scheduler: Any = paper_schedule(
                self.schedule, optimizer or self.optimizer, num_training_steps
            )
            self._created_lr_scheduler = True
        return self.lr_scheduler

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add the training pairs' accuracy, mean reward, mean σ and r² since the last line."""
        if "loss" in logs and self._window:
            for name in ("accuracy", "reward_mean", "reward_stddev", "r2"):
                values = [entry[name] for entry in self._window if name in entry]
                if values:
                    logs[name] = sum(values) / len(values)
            self._window = []
        super().log(logs, start_time)

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        super()._save(output_dir, state_dict)
        if self.args.should_save:
            self.reward_model.write_head_file(output_dir or self.args.output_dir)


class _FiniteGradients(TrainerCallback):
    """Stops training before an optimiser step would write NaN into the weights."""

    def __init__(self, trainer: PreferenceTrainer) -> None:
        self._stop: Callable[[str], None] = trainer.stop_diverged

    def on_pre_optimizer_step(
        self, args: Any, state: Any, control: Any, model: nn.Module | None = None, **_: Any
    ) -> None:
        gradients = [p.grad for p in model.parameters() if p.grad is not None] if model else []
        if gradients and not bool(torch.isfinite(nn.utils.get_total_norm(gradients))):
            self._stop("a gradient is not finite")
