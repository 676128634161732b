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

On rankings: ``ranking`` is our loop, a ranking as one example, so that its prompt and each response
run once; ``pairs`` our loop on every two responses, each pair by itself; ``trl`` TRL's on the same
pairs. A round is one optimiser step from the same weights. A ranking of n counts n − 1 votes and
each of its n(n − 1)/2 pairs 2/n of one, so the loss of a step is the mean over its pairs.

Timed is from the beginning of the first optimiser step to the end of the last: forward, backward,
optimiser. Building the trainer and everything else before the first step is not. A short run before
pays for what is done only once.
"""

from __future__ import annotations

import inspect
import tempfile
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Literal

import torch
from throughput.data import PAD, Group, pairs_of, text_of
from throughput.measure import Key, Row, SkippedError, StepClock, trl_version
from throughput.models import ModelSet, reward_model
from throughput.scoring import PAPER_MULTIPLE, sorted_budgets
from torch import Tensor
from transformers import PrinterCallback, Trainer, TrainingArguments

from hidden_context.data.example import Example, Judgement, Ranking
from hidden_context.data.labels import labels_of
from hidden_context.data.tokens.tokenize import pad_batch, tokenize_examples
from hidden_context.errors import ConfigError, HiddenContextError
from hidden_context.training.config import TrainConfig
from hidden_context.training.dataset import ExampleDataset, StepSampler
from hidden_context.training.loop import TrainingLoop

PAPER_PAIRS = 2
TRL_PAIRS = 8
WINDOW = TrainConfig().length_window


Train = Callable[[Sequence[Group], int, bool], StepClock]
"""Trains on groups, so many votes in an optimiser step: its pairs, and n − 1 for a ranking of n.

Ordered, all rows take the same pairs in each step, in the order of our sampler; otherwise the
paper's procedure and TRL draw at random, as they do.
"""


def example_of(group: Group) -> Example:
    """The example of a group of responses, best first; one of two is a pair."""
    ranking = Ranking(tuple(range(1, len(group) + 1)))
    return Example("", tuple(map(text_of, group)), (Judgement(ranking),))


class PaperTrainer(Trainer):
    """The paper's training step: both sides of a batch in one padded forward pass."""

    def compute_loss(
        self, model: Any, inputs: dict[str, Tensor], return_outputs: bool = False, **_: Any
    ) -> Any:
        """Mean over the batch of −log σ(r_chosen − r_rejected)."""
        rewards = model(**inputs, use_cache=True).logits[:, 0]
        chosen, rejected = rewards.chunk(2)
        loss = -torch.nn.functional.logsigmoid(chosen - rejected).mean()
        return (loss, {"rewards": rewards}) if return_outputs else loss


def _paper_batch(pairs: Sequence[Group]) -> dict[str, Tensor]:
    ids, mask = pad_batch([pair[side] for side in (0, 1) for pair in pairs], PAD, PAPER_MULTIPLE)
    return {"input_ids": ids, "attention_mask": mask}


def _arguments(kind: Any, folder: str, models: ModelSet, at_once: int, **more: Any) -> Any:
    """Make training arguments: everything that could differ between trainers is named."""
    known = inspect.signature(kind).parameters
    # Transformers is renaming gradient to activation checkpointing
    name = "activation" if "activation_checkpointing" in known else "gradient"
    return kind(
        output_dir=folder,
        per_device_train_batch_size=at_once,
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
        seed=0,
        **more,
    )


def _train(
    models: ModelSet,
    most: int,
    kind: Any,
    make: Callable[[Any, list[Group]], Trainer],
    pairs: Sequence[Group],
    votes: int,
    ordered: bool,
) -> StepClock:
    """Make a trainer of Transformers or TRL in a temporary folder, and time its steps.

    It takes at most ``most`` pairs at once, and makes a step of several equal batches.
    """
    clock, taken = StepClock(models.device), list(pairs)
    if ordered:
        sampler = StepSampler([sum(map(len, pair)) for pair in pairs], votes, window=WINDOW)
        taken = [pairs[place] for step in sampler.steps() for place in step]
    at_once = max(n for n in range(1, most + 1) if votes % n == 0)
    with tempfile.TemporaryDirectory() as folder:
        arguments = _arguments(
            kind,
            folder,
            models,
            at_once,
            gradient_accumulation_steps=votes // at_once,
            train_sampling_strategy="sequential" if ordered else "random",
        )
        trainer = make(arguments, taken)
        trainer.add_callback(clock)
        trainer.remove_callback(PrinterCallback)
        try:
            trainer.train()
        finally:
            # the next trainer of this model shall not find this one's autocast around its forward
            trainer.accelerator.unwrap_model(trainer.model_wrapped, keep_fp32_wrapper=False)
            trainer.model.zero_grad()
    return clock


def train_paper(models: ModelSet) -> Train:
    def make(arguments: Any, pairs: list[Group]) -> Trainer:
        stock = models.stock(lora=True)
        return PaperTrainer(stock, arguments, data_collator=_paper_batch, train_dataset=pairs)

    return partial(_train, models, PAPER_PAIRS, TrainingArguments, make)


def train_trl(models: ModelSet, tokenizer: Any) -> Train:
    def train(pairs: Sequence[Group], votes: int, ordered: bool) -> StepClock:
        if trl_version() is None:
            raise SkippedError("TRL is not installed (pip install trl)")
        from datasets import Dataset as ArrowDataset
        from datasets import disable_progress_bars
        from trl import RewardConfig, RewardTrainer

        def make(arguments: Any, pairs: list[Group]) -> Trainer:
            chosen, rejected = zip(*pairs, strict=True)
            columns = {"chosen_ids": chosen, "rejected_ids": rejected}
            return RewardTrainer(
                model=models.stock(lora=True),
                args=arguments,
                train_dataset=ArrowDataset.from_dict(columns),
                processing_class=tokenizer,
            )

        disable_progress_bars()
        return _train(models, TRL_PAIRS, RewardConfig, make, pairs, votes, ordered)

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
    """Train by ``TrainingLoop``, by a token budget or the package's own.

    On a GPU it finds a budget before its first step. Here the warm-up's is kept, so that what is
    tried for it is no part of the peak memory.
    """
    tuned: list[int] = []

    def train(groups: Sequence[Group], votes: int, _ordered: bool) -> StepClock:
        clock = StepClock(models.device)
        try:
            module = models.quantised() if quantised else models.ours(lora=True, masked=masked)
        except HiddenContextError as error:  # weights in 4 bits cannot be had here
            raise SkippedError(str(error)) from error
        tokens = budget or (tuned[0] if tuned else None)
        model = reward_model(module, tokenizer)
        examples = [example_of(group) for group in groups]
        kept = tokenize_examples(examples, tokenizer, model.max_length, "keep")
        data = ExampleDataset(kept, labels_of(kept.examples))
        with tempfile.TemporaryDirectory() as folder:
            arguments = _arguments(TrainingArguments, folder, models, votes)
            config = TrainConfig(
                engine=engine,
                tokens_per_batch=tokens,
                lr_scheduler_type="constant",
                pad_to_multiple_of=1,
                quiet=True,
            )
            try:
                loop = TrainingLoop(model, arguments, config, data, callbacks=[clock])
            except ConfigError as error:  # a model that the way is not right for
                raise SkippedError(str(error)) from error
            try:
                loop.train()
            finally:
                module.zero_grad()
        if models.device.type == "cuda" and not tuned:
            tuned.append(loop.runner.budget.tokens)
        return clock

    return train


def trainers(models: ModelSet, tokenizer: Any) -> dict[str, Train]:
    """Make the ways of training one set of weights."""
    ours = partial(train_ours, models, tokenizer)
    return {
        "paper": train_paper(models),
        "trl": train_trl(models, tokenizer),
        **{
            name: ours("padded", masked=False, budget=budget)
            for name, budget in sorted_budgets(models.device).items()
        },
        "padded": ours("padded"),
        "tree": ours("tree"),
        "qlora": ours("tree", quantised=True),
    }


def training_rows(
    sets: Mapping[str, ModelSet], tokenizer: Any, votes: int, wanted: Sequence[str] | None
) -> dict[Key, Row]:
    """Make the wanted rows, or all but QLoRA's."""
    return {
        Key(name, precision): lambda pairs, train=train: train(pairs, votes, False).seconds
        for precision, models in sets.items()
        for name, train in trainers(models, tokenizer).items()
        if (name in wanted if wanted else name != "qlora")
    }


def loss_curves(
    models: ModelSet, tokenizer: Any, pairs: Sequence[Group], votes: int
) -> dict[str, list[float] | str]:
    """Train from the same start on the same steps; the loss of each step, or why there is none."""
    curves: dict[str, list[float] | str] = {}
    for name, train in trainers(models, tokenizer).items():
        if name.startswith("sorted") or name == "qlora":
            continue
        models.reset_adapters()
        try:
            curves[name] = train(pairs, votes, True).losses
        except SkippedError as error:
            curves[name] = str(error)
    return curves


Expand = Callable[[Sequence[Group]], Sequence[Group]]
Losses = dict[str, list[float]]


def ranking_rows(models: ModelSet, tokenizer: Any, losses: Losses) -> dict[Key, Row]:
    """Make the rows.

    Args:
        models: The models.
        tokenizer: Their tokenizer.
        losses: Filled with the loss of each step that a row runs.

    Returns:
        The rows, which take rankings.
    """

    def row(name: str, train: Train, groups_of: Expand) -> Row:
        def run(rankings: Sequence[Group]) -> float:
            models.reset_adapters()
            groups = groups_of(rankings)
            done = train(groups, sum(len(group) - 1 for group in groups), False)
            losses.setdefault(name, []).extend(done.losses)
            return done.seconds

        return run

    ways: dict[str, tuple[Train, Expand]] = {
        "pairs": (train_ours(models, tokenizer, "tree"), pairs_of),
        "trl": (train_trl(models, tokenizer), pairs_of),
        "ranking": (train_ours(models, tokenizer, "tree"), lambda rankings: rankings),
    }
    return {Key(name, models.precision): row(name, *way) for name, way in ways.items()}
