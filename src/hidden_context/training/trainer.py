"""The Trainer of reward models: Transformers' own, with our loss, schedules and metrics."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from transformers import EvalPrediction

from hidden_context.errors import ConfigError, DivergedError
from hidden_context.models.budget import TokenBudget, default_tokens, tune
from hidden_context.models.engine import Way
from hidden_context.models.forward import tree_attention_in
from hidden_context.models.sequence import SequenceRewardModel
from hidden_context.objectives import Labels
from hidden_context.statistics.pair_metrics import grouped_pair_metrics, pair_metrics
from hidden_context.training.dataset import PairTokens, PreferenceDataset, collate_pairs
from hidden_context.training.micro_batches import (
    MicroBatch,
    bring_to,
    divide,
    raw_outputs_of_pairs,
    tokens_too_many,
)
from hidden_context.training.objective import prior_weight
from hidden_context.training.objective_trainer import FiniteGradients, ObjectiveTrainer
from hidden_context.training.sampler import StepLoader, StepSampler
from hidden_context.training.schedules import PAPER_SCHEDULES, paper_schedule

_GROUP_COLUMNS = ("data_subset", "objective")


@dataclasses.dataclass(frozen=True)
class EngineOptions:
    """How a step's pairs are run.

    Attributes:
        engine: ``tree``, ``padded``, or ``auto`` for the tree where it is right for the model.
        tokens_per_batch: Most tokens of a forward pass; None leaves it to the device.
        length_window: Steps whose pairs are sorted by length together.
        pad_to_multiple_of: Padded lengths are rounded up to a multiple of this.
    """

    engine: Literal["auto", "tree", "padded"] = "auto"
    tokens_per_batch: int | None = None
    length_window: int = 50
    pad_to_multiple_of: int = 1


class PreferenceTrainer(ObjectiveTrainer):
    """Train a sequence reward model on preference pairs.

    A batch of the Trainer is an optimiser step: a fixed number of pairs, run in as many forward
    and backward passes as the token budget asks for. The step's loss is the sum of per-pair losses
    over all passes and processes, divided by the number of pairs, so it does not depend on the
    budget. A head's penalty is a mean over the pairs of a pass; passes count by their pairs.

    Args:
        reward_model: The model, its tokenizer and head.
        engine_options: How a step's pairs are run.
        schedule: ``cosine`` or ``step`` for the paper's schedules, else None.
        annotator_warmup: Share of training over which the annotators' prior sets in.
        **options: As for ``ObjectiveTrainer``.
    """

    def __init__(
        self,
        reward_model: SequenceRewardModel,
        engine_options: EngineOptions | None = None,
        *,
        schedule: str | None = None,
        annotator_warmup: float = 0.25,
        **options: Any,
    ) -> None:
        self.schedule, self.annotator_warmup = schedule, annotator_warmup
        self.engine_options = engine_options or EngineOptions()
        self._window: list[dict[str, float]] = []
        self._rows: Tensor | None = None
        self.tokens_seen = 0
        super().__init__(
            reward_model,
            data_collator=collate_pairs,
            processing_class=reward_model.tokenizer,
            compute_metrics=self._compute_metrics,
            **options,
        )
        if self.args.gradient_accumulation_steps != 1:
            raise ConfigError(
                "gradient_accumulation_steps has to be 1: a batch of this Trainer is an optimiser "
                "step, and tokens_per_batch divides it into forward passes."
            )
        # The Trainer shall not divide the loss: it is divided by the pairs of the whole step.
        self.model_accepts_loss_kwargs = True
        # Several GPUs need a process each (accelerate launch); DataParallel cannot divide a row.
        self.args._n_gpu = min(self.args.n_gpu, 1)
        self.way = self._choose_way()
        dtype = torch.bfloat16 if self.args.bf16 else torch.float32
        self.budget = TokenBudget(
            self.engine_options.tokens_per_batch or default_tokens(self.args.device, dtype)
        )
        self._tuned = False
        self.add_callback(FiniteGradients(self.stop_diverged, self.objective))

    def _choose_way(self) -> Way:
        """Try the tree on pairs that are the same in every process."""
        dataset: Any = self.train_dataset if self.train_dataset is not None else self.eval_dataset
        if dataset is None or not len(dataset):
            return "padded"
        places = {0, len(dataset) // 2, len(dataset) - 1}
        sides = [dataset[place][side] for place in places for side in ("chosen", "rejected")]
        choice = self.reward_model.runner.choice
        return choice.choose(sides, self.engine_options.engine, ways=("tree",))

    def get_train_dataloader(self) -> DataLoader[Any]:
        """Make a loader whose batches are this process's share of each optimiser step."""
        dataset: Any = self.train_dataset
        arguments = self.args
        sampler = StepSampler(
            dataset.sizes,
            arguments.per_device_train_batch_size * arguments.world_size,
            window=self.engine_options.length_window,
            seed=arguments.seed if arguments.data_seed is None else arguments.data_seed,
            world_size=arguments.world_size,
            rank=arguments.process_index,
        )
        return StepLoader(
            dataset,
            batch_sampler=sampler,
            collate_fn=self.data_collator,
            num_workers=arguments.dataloader_num_workers,
            persistent_workers=arguments.dataloader_persistent_workers,
        )

    def get_batch_samples(
        self, epoch_iterator: Iterator[Any], num_batches: int, device: torch.device
    ) -> tuple[list[Any], Tensor | int | None]:
        """Collect an optimiser step and count its pairs over all processes."""
        batches, _ = super().get_batch_samples(epoch_iterator, num_batches, device)
        pairs = torch.tensor(sum(len(batch["row"]) for batch in batches), device=device)
        if self.args.world_size > 1:
            pairs = self.accelerator.gather(pairs).sum()
        return batches, pairs

    def training_step(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        num_items_in_batch: Tensor | int | None = None,
    ) -> Tensor:
        """Run an optimiser step's passes forward and backward; return its loss.

        If memory runs out the step begins anew with half the token budget. With several processes
        one of them cannot do that by itself, which is an error.
        """
        model.train()
        self.objective.zero_grad()  # the Trainer does so with the network alone
        inputs = self._prepare_inputs(inputs)
        self._tune_once(model)
        pairs = len(inputs["row"]) if num_items_in_batch is None else num_items_in_batch
        while True:
            batches = self._passes(inputs)
            try:
                with self._attention():
                    return self._accumulate(model, inputs, batches, pairs)
            except Exception as error:
                alone = self.args.world_size == 1 and not self.is_deepspeed_enabled
                tried = tokens_too_many(error, batches, alone)
            model.zero_grad()  # of passes that had run
            self.objective.zero_grad()
            self.budget.halve(tried)

    def _tune_once(self, model: nn.Module) -> None:
        """Find a good token budget on a GPU by running pairs of the training data."""
        device, named = self.args.device, self.engine_options.tokens_per_batch
        if self._tuned or named or device.type != "cuda" or self.args.world_size > 1:
            return
        self._tuned = True
        dataset: Any = self.train_dataset
        tokens = collate_pairs([dataset[i] for i in range(min(len(dataset), 1024))])["tokens"]

        def run(budget: int) -> int:
            batch = divide(tokens, self.way, budget)[0]
            with self._attention():
                with self.compute_loss_context_manager():
                    raw = self._raw_outputs(model, tokens, batch.pairs)
                self.accelerator.backward(raw.sum())
            model.zero_grad()
            torch.cuda.synchronize(device)
            return batch.tokens

        with torch.random.fork_rng(devices=[device]):  # dropout shall draw as without this
            self.budget.tokens = tune(run, self.budget.tokens)

    def _attention(self) -> AbstractContextManager[None]:
        """Attention of the way chosen, for forward and backward passes."""
        return tree_attention_in(self.reward_model.module) if self.way == "tree" else nullcontext()

    def _passes(self, inputs: Mapping[str, Any]) -> list[MicroBatch]:
        """Divide a step into forward passes, equally many in every process."""
        tokens: PairTokens = inputs["tokens"]
        if self.is_deepspeed_enabled:  # it counts backward passes itself
            return [MicroBatch(list(range(len(tokens.chosen))), 0)]
        batches = divide(tokens, self.way, self.budget.tokens)
        if self.args.world_size == 1:
            return batches
        count = torch.tensor([len(batches)], device=self.args.device)
        return bring_to(int(self.accelerator.gather(count).max()), batches)

    def _accumulate(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        batches: Sequence[MicroBatch],
        pairs: Tensor | int,
    ) -> Tensor:
        total = torch.zeros((), device=self.args.device)
        raw_outputs, order = [], []
        for number, batch in enumerate(batches):
            last = number == len(batches) - 1
            with nullcontext() if last else self.accelerator.no_sync(model):
                with self.compute_loss_context_manager():
                    raw = self._raw_outputs(model, inputs["tokens"], batch.pairs)
                loss = self._part_of_loss(raw, inputs, batch, pairs)
                options = {"scale_wrt_gas": False} if self.is_deepspeed_enabled else {}
                self.accelerator.backward(loss * batch.weight, **options)
            if batch.weight:
                total += loss.detach()
                raw_outputs.append(raw.detach())
                order += batch.pairs
        self.tokens_seen += sum(batch.tokens for batch in batches)
        self.share_gradients()
        raw = torch.cat(raw_outputs)
        labels = self._labels(self.train_dataset, inputs["row"][order])
        with torch.no_grad():
            metrics = pair_metrics(
                self.head, raw[:, 0], raw[:, 1], labels.vote_share, self.objective, labels
            )
        self._window.append(metrics)
        return total

    def _labels(self, dataset: Any, rows: Tensor) -> Labels:
        """Labels of rows of a dataset, on the rows' device."""
        labels: Labels = dataset.labels.select(rows.cpu())
        return labels.map(lambda values: values.to(rows.device))

    def _raw_outputs(self, model: nn.Module, tokens: PairTokens, pairs: Sequence[int]) -> Tensor:
        pad = self.reward_model.runner.pad_token_id
        multiple = self.engine_options.pad_to_multiple_of
        return raw_outputs_of_pairs(model, tokens, pairs, self.way, pad, multiple)

    def _part_of_loss(
        self, raw: Tensor, inputs: Mapping[str, Any], batch: MicroBatch, pairs: Tensor | int
    ) -> Tensor:
        """Compute a pass's part of the step's loss, in nats per pair."""
        chosen, rejected = raw.unbind(1)
        dataset: Any = self.train_dataset
        self._rows = rows = inputs["row"][batch.pairs]
        weights = dataset.member_weight
        loss = self.objective.training_loss(
            chosen,
            rejected,
            self._labels(dataset, rows),
            None if weights is None else weights[rows.cpu()].to(rows.device),
        )
        progress = self.state.global_step / max(self.state.max_steps, 1)
        warm = prior_weight(self.annotator_warmup, progress)
        prior = warm * self.objective.prior() / len(dataset)
        penalty = (self.head.penalty(chosen, rejected) + prior) * len(batch.pairs)
        # gradients are averaged over processes, so each one's part is scaled up by their number
        total = (loss.sum() + penalty) / pairs * self.args.world_size
        if not bool(torch.isfinite(total)):
            self.stop_diverged("the loss is not finite", loss.detach())
        return total

    def floating_point_ops(self, inputs: dict[str, Any]) -> int:
        """Count six operations per weight and token, without embeddings, as is customary."""
        tokens, self.tokens_seen = self.tokens_seen, 0
        weights = int(self.reward_model.module.num_parameters(exclude_embeddings=True))
        return 6 * weights * tokens

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
        parts: list[Tensor] = []
        while not parts:
            batches = divide(inputs["tokens"], self.way, self.budget.tokens)
            tried = 0
            try:
                with torch.no_grad(), self.compute_loss_context_manager(), self._attention():
                    parts = [self._raw_outputs(model, inputs["tokens"], b.pairs) for b in batches]
            except Exception as error:
                tried = tokens_too_many(error, batches, alone=self.args.world_size == 1)
            if tried:
                self.budget.halve(tried)
        order = torch.tensor([pair for batch in batches for pair in batch.pairs])
        raw = torch.cat(parts).float()[order.argsort().to(parts[0].device)]
        with torch.no_grad():
            labels = self._labels(self._evaluated, inputs["row"])
            loss = self.objective.negative_log_likelihood(raw[:, 0], raw[:, 1], labels)
        return loss.mean(), None if prediction_loss_only else raw, inputs["row"]

    def _compute_metrics(self, prediction: EvalPrediction) -> dict[str, float]:
        raw = torch.as_tensor(prediction.predictions)
        rows = torch.as_tensor(prediction.label_ids)
        dataset = self._evaluated
        labels = self._labels(dataset, rows)
        groups = {column: dataset.group_of_rows(column) for column in _GROUP_COLUMNS}
        self.last_raw_outputs = raw
        objective = copy.deepcopy(self.objective).cpu()
        with torch.no_grad():
            return grouped_pair_metrics(
                self.head,
                raw[:, 0],
                raw[:, 1],
                labels.vote_share,
                rows,
                groups,
                objective,
                labels,
            )

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
