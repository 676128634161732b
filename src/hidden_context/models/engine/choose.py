"""Choice of an engine, tested on the model first so that rewards are never silently wrong."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final, Literal, TypedDict

import torch

from hidden_context.data.tokens.trees import lay_out, tree_of
from hidden_context.errors import ConfigError, HiddenContextWarning, first_line
from hidden_context.models.engine import forward
from hidden_context.models.engine.budget import is_out_of_memory, release_memory
from hidden_context.models.engine.pooling import LastAttendedPooling

EngineName = Literal["auto", "tree", "cache", "padded"]
Way = Literal["tree", "cache", "padded"]
ENGINES: Final = ("auto", "tree", "cache", "padded")


class Run(TypedDict, total=False):
    """Options of every method that runs the network.

    They change time and memory, but not rewards.

    Attributes:
        engine: ``tree`` runs every beginning that texts share once, ``padded`` every text by
            itself; ``auto`` takes the fastest way that is right for the model, which it tries
            on a few of the texts. ``RewardModel.engine`` tells which one it took, and why.
        tokens_per_batch: Most tokens of a forward pass, halved where memory runs out; None
            leaves it to the device.
    """

    engine: EngineName
    tokens_per_batch: int | None


# Largest relative difference of the pooled hidden states. Rounding gives 1e-6 and 1e-2 (in float64
# too, where a model's norms compute in float32); attention that is wrong gives 0.1 and more.
_TOLERANCE: Final = 1e-4
_TOLERANCE_OF_HALF: Final = 5e-2
_EXAMPLE_TOKENS: Final = 2048
_LEAST_TOKENS: Final = 24


@dataclasses.dataclass(frozen=True)
class Engine:
    """The engine that runs a model's texts, and the reason for it.

    Attributes:
        name: ``tree`` (every prompt once, in one row), ``cache`` (every prompt once, its keys and
            values kept; scoring only) or ``padded`` (every text by itself).
        reason: Why this one.
    """

    name: Way
    reason: str

    def __str__(self) -> str:
        return f"{self.name}: {self.reason}"


def check_engine(name: str) -> None:
    """Check an engine's name.

    Raises:
        ConfigError: If it is not known.
    """
    if name not in ENGINES:
        raise ConfigError(f"engine {name!r} is not known; choose {', '.join(ENGINES)}.")


class EngineChoice:
    """Choice of the engine for one model; it remembers what the tests showed.

    Args:
        module: The sequence classifier, wrapped or not.
        pad_token_id: Id to pad with.
    """

    def __init__(self, module: Any, pad_token_id: int) -> None:
        self.module, self.pad_token_id = module, pad_token_id
        self.engine = Engine("padded", "nothing was run yet, so no other way was tried")
        self._refused: dict[str, str | None] = {}
        self._warned = False

    def choose(
        self,
        sequences: Sequence[Sequence[int]],
        wanted: EngineName = "auto",
        ways: Sequence[Way] = ("tree", "cache"),
    ) -> Way:
        """Choose an engine; test it on a few of the sequences the first time.

        Args:
            sequences: Sequences of token ids that are about to be run.
            wanted: ``auto``, or the way to take.
            ways: Ways that ``auto`` may take besides ``padded``, the best one first.

        Returns:
            The way.

        Raises:
            ConfigError: If the way wanted is not right for this model.
        """
        check_engine(wanted)
        if wanted != "auto":
            reason = self.refusal(wanted, sequences)
            if reason is not None:
                raise ConfigError(
                    f"--engine {wanted} does not work with this model: {reason}. Use --engine auto "
                    "or --engine padded."
                )
            agrees = "" if wanted == "padded" else ", and agrees with the padded way"
            self.engine = Engine(wanted, f"it was requested{agrees}")
            return wanted
        refusals: dict[str, str] = {}
        taken: Way = "padded"
        for way in ways:
            reason = self.refusal(way, sequences)
            if reason is None:
                taken = way
                break
            refusals[reason] = f"{refusals[reason]} or {way}" if reason in refusals else way
        reasons = [f"not {names}, because {why}" for why, names in refusals.items()]
        reasons += ["it agrees with the padded way"] if taken != "padded" else []
        self.engine = Engine(taken, "; ".join(reasons))
        if refusals and not self._warned:
            self._warned = True
            warnings.warn(
                f"shared prompts do not run with the fastest engine ({self.engine}).",
                HiddenContextWarning,
                stacklevel=4,
            )
        return self.engine.name

    def refusal(self, way: Way, sequences: Sequence[Sequence[int]]) -> str | None:
        """Return why an engine is wrong for this model, or None; each engine is tested once."""
        if way != "padded" and way not in self._refused:
            self._refused[way] = self._try(way, sequences)
        return self._refused.get(way)

    def _try(self, way: Way, sequences: Sequence[Sequence[int]]) -> str | None:
        classifier = forward.classifier_of(self.module)
        if not isinstance(classifier, LastAttendedPooling):
            return (
                f"{type(classifier).__name__} reads texts as a whole, so that what follows a "
                "prompt changes its hidden states"
            )
        tokens = _EXAMPLE_TOKENS
        while tokens > _LEAST_TOKENS:
            try:
                with evaluating(self.module), torch.no_grad():
                    return self._compare(way, example_sequences(sequences, tokens))
            except Exception as error:
                if not is_out_of_memory(error):
                    # a model's code may raise anything with an engine that it was not made for
                    return first_line(error).rstrip(".") or type(error).__name__
            release_memory()
            tokens //= 2
        return "trying it runs out of memory"

    def _compare(self, way: Way, examples: Sequence[Sequence[int]]) -> str | None:
        module, pad = self.module, self.pad_token_id
        classifier = forward.classifier_of(module)
        # what the head reads, because rewards are nearly equal when training starts
        with forward.listening([classifier.score]) as expected:
            forward.padded_outputs(module, examples, pad)
        pair, short = tree_of(examples, (0, 1)), tree_of(examples, (2,))
        with forward.listening([classifier.score]) as found:
            if way == "cache":
                forward.cached_outputs(module, examples, pair, pad, _EXAMPLE_TOKENS)
                forward.padded_outputs(module, examples[2:], pad)
            else:
                batch = lay_out(examples, [pair, short])
                with forward.tree_attention_in(module):
                    forward.run_row(module, batch)
                seen = len(batch.layout.seen)
                layers = classifier.config.get_text_config().num_hidden_layers
                if seen != layers:
                    return f"{seen} of its {layers} layers let their attention be replaced"
        usual, own = (torch.cat(vectors).double().cpu() for vectors in (expected, found))
        difference = (own - usual).norm(dim=-1) / usual.norm(dim=-1).clamp(min=1e-12)
        # the least precise weights count; quantised ones compute in half precision
        dtypes = {weight.dtype for weight in classifier.base_model.parameters()}
        exact = dtypes <= {torch.float64, torch.float32}
        worst = float(difference.max())
        if worst <= (_TOLERANCE if exact else _TOLERANCE_OF_HALF):
            return None
        return f"hidden states differ by {worst:.0e} (relative) from the padded way's"


@contextmanager
def evaluating(module: Any) -> Iterator[None]:
    """Put a module into evaluation mode, without dropout, inside the block."""
    training = module.training
    module.eval()
    try:
        yield
    finally:
        module.train(training)


def example_sequences(
    sequences: Sequence[Sequence[int]], most: int = _EXAMPLE_TOKENS
) -> list[Sequence[int]]:
    """Choose real sequences to test an engine on.

    If even the longest sequence is too short or too uniform to show an error, other token ids are
    put before it. They are below the largest id in the sequences, so the model knows them.

    Args:
        sequences: One or more sequences of token ids.
        most: Longer ones are cut after so many tokens.

    Returns:
        Three: a long one, the same with another end behind its first two thirds, and a short one.
    """
    by_length = sorted(sequences, key=len)
    long, short = by_length[-1][:most], by_length[0][:most]
    if len(set(long)) < _LEAST_TOKENS // 2:
        largest = max(max(sequence) for sequence in sequences)
        others = range(max(0, largest - _LEAST_TOKENS), largest)
        # a model need not have positions for more tokens than the longest text has
        long = [*others, *long][: min(most, max(len(long), 2 * _LEAST_TOKENS))]
    cut = max(1, 2 * len(long) // 3)
    return [long, [*long[:cut], *reversed(long[cut // 2 : len(long) - 1])][: len(long)], short]
