"""Rows of training: LoRA, dropout 0, the same pairs and as many of them in an optimiser step.

- ``paper``: Transformers' Trainer and own class; two random pairs, both sides padded together to a
  multiple of 64, per forward pass, and as many passes as the step asks for. Written-out GELU, and
  the key-value cache on, as in the paper's script; its anomaly detection, which alone would cost it
  a good part of its speed, is off here, and so are LoRA's and the backbone's dropout.
- ``trl``: TRL's RewardTrainer as installed, on Transformers' own class, its default batch of 8
  pairs per forward pass (fewer where a step's pairs cannot be divided by 8), fed with token ids so
  that both sides see the same EOS. Gradient checkpointing, which it has on by default, is off; the
  cache is off, as TRL has it.
- ``sorted N``: our loop on padded batches of at most N tokens, sorted by length, without an
  attention mask, with the fused GELU: the best that can be had without sharing.
- ``padded``: our loop with ``engine="padded"``.
- ``tree``: our loop with ``engine="tree"``.
- ``qlora``: the same on weights in 4 bits, as ``--tuning qlora`` loads them; left out unless it is
  asked for.

Timed is from the beginning of the first optimiser step to the end of the last: forward, backward,
optimiser. Building the trainer and everything else before the first step is not. A short run before
pays for what is done only once.
"""

from __future__ import annotations

import dataclasses
import inspect
import tempfile
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Literal

import torch
from throughput.data import PAD, Group, text_of
from throughput.measure import Key, Row, Run, SkippedError, StepClock, trl_version
from throughput.models import ModelSet, reward_model
from throughput.scoring import PAPER_MULTIPLE, sorted_budgets, sorted_name
from torch import Tensor
from transformers import PrinterCallback, Trainer, TrainingArguments

from hidden_context.data.example import Example, Judgement, Ranking
from hidden_context.data.labels import labels_of
from hidden_context.data.tokens.tokenize import pad_batch, tokenize_examples
from hidden_context.errors import ConfigError, HiddenContextError
from hidden_context.training.config import TrainConfig
from hidden_context.training.dataset import ExampleDataset
from hidden_context.training.loop import TrainingLoop
from hidden_context.training.sampler import StepSampler

PAPER_PAIRS = 2
TRL_PAIRS = 8
WINDOW = TrainConfig().length_window


@dataclasses.dataclass(frozen=True)
class TrainingOptions:
    """What all training rows have in common.

    Attributes:
        votes_per_step: Votes of an optimiser step: its pairs, and n − 1 for a ranking of n.
        tokens_per_batch: Token budget, None for the package's own.
        paper_cache: Whether the paper's procedure keeps keys and values, as its script does.
        ordered: Whether all rows take the same pairs in each step, in the order of our sampler;
            otherwise the paper's procedure and TRL draw at random, as they do.
        seed: Seed of orders.
    """

    votes_per_step: int = 16
    tokens_per_batch: int | None = None
    paper_cache: bool = True
    ordered: bool = False
    seed: int = 0


Train = Callable[[Sequence[Group], TrainingOptions], Run]


def example_of(group: Group) -> Example:
    """The example of a group of responses, best first; one of two is a pair."""
    ranking = Ranking(tuple(range(1, len(group) + 1)))
    return Example("", tuple(map(text_of, group)), (Judgement(ranking),))


class PaperTrainer(Trainer):
    """The paper's training step: both sides of a batch in one padded forward pass."""

    def __init__(self, *args: Any, paper_cache: bool, **options: Any) -> None:
        self.paper_cache = paper_cache
        super().__init__(*args, **options)

    def compute_loss(
        self, model: Any, inputs: dict[str, Tensor], return_outputs: bool = False, **_: Any
    ) -> Any:
        """Mean over the batch of −log σ(r_chosen − r_rejected)."""
        rewards = model(**inputs, use_cache=self.paper_cache).logits[:, 0]
        chosen, rejected = rewards.chunk(2)
        loss = -torch.nn.functional.logsigmoid(chosen - rejected).mean()
        return (loss, {"rewards": rewards}) if return_outputs else loss


def _paper_batch(pairs: Sequence[Group]) -> dict[str, Tensor]:
    ids, mask = pad_batch([pair[side] for side in (0, 1) for pair in pairs], PAD, PAPER_MULTIPLE)
    return {"input_ids": ids, "attention_mask": mask}


def _arguments(
    kind: Any, folder: str, models: ModelSet, options: TrainingOptions, batch: int, **more: Any
) -> Any:
    """Make training arguments: everything that could differ between trainers is named."""
    known = inspect.signature(kind).parameters
    # Transformers is renaming gradient to activation checkpointing
    name = "activation" if "activation_checkpointing" in known else "gradient"
    return kind(
        output_dir=folder,
        per_device_train_batch_size=batch,
        num_train_epochs=1,
        learning_rate=1e-4,
        weight_decay=0.001,
        lr_scheduler_type="constant",
        optim="adamw_torch",
        max_grad_norm=1.0,
        bf16=models.precision == "bfloat16",
        **{f"{name}_checkpointing": False},
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        remove_unused_columns=False,
        dataloader_pin_memory=False,
        use_cpu=models.device.type == "cpu",
        seed=options.seed,
        **more,
    )


def _accumulated(options: TrainingOptions, most: int) -> dict[str, Any]:
    """Arguments of trainers whose optimiser step is several batches of equally many pairs."""
    pairs = options.votes_per_step
    at_once = max(count for count in range(1, most + 1) if pairs % count == 0)
    return {
        "batch": at_once,
        "gradient_accumulation_steps": pairs // at_once,
        "train_sampling_strategy": "sequential" if options.ordered else "random",
    }


def in_steps(pairs: Sequence[Group], options: TrainingOptions) -> list[Group]:
    """Bring pairs into the order in which our loop takes them."""
    if not options.ordered:
        return list(pairs)
    sizes = [sum(map(len, pair)) for pair in pairs]
    sampler = StepSampler(sizes, options.votes_per_step, window=WINDOW, seed=options.seed)
    return [pairs[place] for step in sampler.steps() for place in step]


def _finish(trainer: Trainer, clock: StepClock) -> Run:
    trainer.remove_callback(PrinterCallback)
    try:
        trainer.train()
    finally:
        # the next trainer of this model shall not find this one's autocast around its forward
        trainer.accelerator.unwrap_model(trainer.model_wrapped, keep_fp32_wrapper=False)
        trainer.model.zero_grad()
    return clock.run()


def train_paper(models: ModelSet) -> Train:
    def train(pairs: Sequence[Group], options: TrainingOptions) -> Run:
        clock = StepClock(models.device)
        with tempfile.TemporaryDirectory() as folder:
            accumulated = _accumulated(options, PAPER_PAIRS)
            chosen: Any = in_steps(pairs, options)
            trainer = PaperTrainer(
                models.stock(lora=True),
                _arguments(TrainingArguments, folder, models, options, **accumulated),
                data_collator=_paper_batch,
                train_dataset=chosen,
                callbacks=[clock],
                paper_cache=options.paper_cache,
            )
            return _finish(trainer, clock)

    return train


def train_trl(models: ModelSet, tokenizer: Any) -> Train:
    def train(pairs: Sequence[Group], options: TrainingOptions) -> Run:
        if trl_version() is None:
            raise SkippedError("TRL is not installed (pip install trl)")
        from datasets import Dataset as ArrowDataset
        from datasets import disable_progress_bars
        from trl import RewardConfig, RewardTrainer

        disable_progress_bars()
        clock = StepClock(models.device)
        chosen, rejected = zip(*in_steps(pairs, options), strict=True)
        columns = {"chosen_ids": chosen, "rejected_ids": rejected}
        with tempfile.TemporaryDirectory() as folder:
            accumulated = _accumulated(options, TRL_PAIRS)
            arguments = _arguments(RewardConfig, folder, models, options, **accumulated)
            trainer = RewardTrainer(
                model=models.stock(lora=True),
                args=arguments,
                train_dataset=ArrowDataset.from_dict(columns),
                processing_class=tokenizer,
                callbacks=[clock],
            )
            return _finish(trainer, clock)

    return train


def train_ours(
    models: ModelSet,
    tokenizer: Any,
    engine: Literal["tree", "padded"],
    *,
    masked: bool = True,
    quantised: bool = False,
    budget: int | None = None,
) -> Train:
    """Train by ``TrainingLoop``; ``budget`` comes before the options' token budget.

    On a GPU it finds a budget before its first step. Here the warm-up's is kept, so that what is
    tried for it is no part of the peak memory.
    """
    tuned: list[int] = []

    def train(groups: Sequence[Group], options: TrainingOptions) -> Run:
        clock = StepClock(models.device)
        module = _network(models, masked, quantised)
        tokens = budget or options.tokens_per_batch or (tuned[0] if tuned else None)
        model = reward_model(module, tokenizer)
        examples = [example_of(group) for group in groups]
        kept = tokenize_examples(examples, tokenizer, model.max_length, "keep")
        data = ExampleDataset(kept, labels_of(kept.examples))
        with tempfile.TemporaryDirectory() as folder:
            arguments = _arguments(
                TrainingArguments, folder, models, options, options.votes_per_step
            )
            config = TrainConfig(
                engine=engine,
                tokens_per_batch=tokens,
                lr_scheduler_type="constant",
                pad_to_multiple_of=1,
            )
            try:
                loop = TrainingLoop(model, arguments, config, data, callbacks=[clock])
            except ConfigError as error:  # a model that the way is not right for
                raise SkippedError(str(error)) from error
            loop.handler.remove_callback(PrinterCallback)
            try:
                loop.train()
            finally:
                module.zero_grad()
        if models.device.type == "cuda" and not tuned:
            tuned.append(loop.runner.budget.tokens)
        return dataclasses.replace(clock.run(), budget=loop.runner.budget.tokens)

    return train


def _network(models: ModelSet, masked: bool, quantised: bool) -> Any:
    """What our loop trains.

    Raises:
        SkippedError: If weights in 4 bits are asked for, and cannot be had here.
    """
    if not quantised:
        return models.ours(lora=True, masked=masked)
    try:
        return models.quantised()
    except HiddenContextError as error:
        raise SkippedError(str(error)) from error


def trainers(models: ModelSet, tokenizer: Any, tokens_per_batch: int | None) -> dict[str, Train]:
    """Make the ways of training one set of weights."""
    found = {"paper": train_paper(models), "trl": train_trl(models, tokenizer)}
    for budget in sorted_budgets(models.device, tokens_per_batch):
        found[sorted_name(budget)] = train_ours(
            models, tokenizer, "padded", masked=False, budget=budget
        )
    found["padded"] = train_ours(models, tokenizer, "padded")
    found["tree"] = train_ours(models, tokenizer, "tree")
    found["qlora"] = train_ours(models, tokenizer, "tree", quantised=True)
    return found


def training_rows(
    sets: Mapping[str, ModelSet],
    tokenizer: Any,
    options: TrainingOptions,
    wanted: Sequence[str] | None = None,
) -> dict[Key, Row]:
    """Make the wanted rows, or all but QLoRA's."""
    rows: dict[Key, Row] = {}
    for precision, models in sets.items():
        for name, train in trainers(models, tokenizer, options.tokens_per_batch).items():
            if name in wanted if wanted else name != "qlora":
                rows[Key(name, precision)] = partial(_seconds, train, options)
    return rows


def _seconds(train: Train, options: TrainingOptions, pairs: Sequence[Group]) -> float:
    return train(pairs, options).seconds


def loss_curves(
    models: ModelSet, tokenizer: Any, pairs: Sequence[Group], options: TrainingOptions
) -> dict[str, list[float] | str]:
    """Train from the same start on the same steps; the loss of each step, or why there is none."""
    curves: dict[str, list[float] | str] = {}
    ordered = dataclasses.replace(options, ordered=True)
    for name, train in trainers(models, tokenizer, options.tokens_per_batch).items():
        if name.startswith("sorted") or name == "qlora":
            continue
        models.reset_adapters()
        try:
            curves[name] = train(pairs, ordered).losses
        except SkippedError as error:
            curves[name] = str(error)
    return curves
