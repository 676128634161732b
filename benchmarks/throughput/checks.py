"""The parts that check before they measure: parity, attention, budgets, memory, 4 bits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from throughput.attention import attention
from throughput.bench import Bench, say
from throughput.budget import recovery, tuning
from throughput.data import sample
from throughput.models import SCORED
from throughput.parity import Weights, parity
from throughput.scoring import equality

from hidden_context.errors import HiddenContextError
from hidden_context.models.engine.budget import default_tokens

# a gradient of 8B weights in float32 takes some 10 MB a token beside their 32 GB: these have 3000
PAIRS: Final = 8
LONGEST: Final = 192
LONG_PAIRS: Final = 4  # 4000 tokens, for what differs on long texts only
TOY_PAIRS: Final = 6


def _pairs(bench: Bench, count: int = PAIRS, longest: int = LONGEST) -> Any:
    """Some pairs; a few where the script is only tried."""
    return sample(
        bench.pairs, TOY_PAIRS if bench.options.toy else count, longest, bench.options.seed
    )


def _long_pairs(bench: Bench) -> Any:
    """A few long pairs."""
    found = sample(bench.pairs, 512, bench.options.train_max_length, bench.options.seed)
    return sorted(found, key=lambda pair: max(map(len, pair)))[-LONG_PAIRS:]


def check_parity(bench: Bench) -> None:
    """Compare all ways in all precisions."""
    options = bench.options
    say(f"parity, {bench.shape}")
    weights = Weights(bench.shape, options.device, options.seed, options.weights)
    precisions = {name: name in bench.dtypes for name in SCORED}
    bench.results.parity += parity(weights, _pairs(bench), bench.tokenizer, precisions)


def measure_attention(bench: Bench) -> None:
    """Time every kind of attention, in the first precision."""
    options = bench.options
    say(f"attention, {bench.shape}")
    bench.results.attention += attention(
        Weights(bench.shape, options.device, options.seed, options.weights),
        options.precision[0],
        _long_pairs(bench),
        bench.tokenizer,
        quick=options.toy,
        repeats=1 if options.toy else 3,
    )


def tune_budget(bench: Bench) -> None:
    """Tune the budget of scoring in each way, in the first precision."""
    options = bench.options
    say(f"budget, {bench.shape}")
    models = next(iter(bench.sets.values()))
    start = 64 if options.toy else default_tokens(options.device, bench.dtypes[models.precision])
    pairs = sample(bench.pairs, 16 if options.toy else 1024, options.max_length, options.seed)
    bench.results.budget += tuning(models, pairs, start, start * (4 if options.toy else 32))


def run_out_of_memory(bench: Bench) -> None:
    """Score with too little memory, in the first precision."""
    say(f"recovery, {bench.shape}")
    models = next(iter(bench.sets.values()))
    bench.results.recovery += recovery(models, _pairs(bench, 64, bench.options.max_length))


def check_qlora(bench: Bench) -> None:
    """Compare tree and padded on weights in 4 bits, if they can be had here."""
    models = bench.sets.get("bfloat16")
    if models is None:
        bench.results.skipped.append("qlora: it computes in bfloat16")
        return
    say(f"qlora, {bench.shape}")
    try:
        models.quantised()
    except HiddenContextError as error:
        bench.results.skipped.append(f"qlora: {error}")
        return
    found = equality(models, _pairs(bench), bench.tokenizer, quantised=True)
    bench.results.equality.append(found)


CHECKS: Final[dict[str, Callable[[Bench], None]]] = {
    "parity": check_parity,
    "attention": measure_attention,
    "budget": tune_budget,
    "recovery": run_out_of_memory,
    "qlora": check_qlora,
}
