"""Rows of a benchmark with scores that a test chooses, and their metrics."""

from pathlib import Path

from hidden_context.benchmark.metrics import ScoredRow, measure_result
from hidden_context.data.checks import Place


def scored(benchmark, row, scores, number=1):
    """A row whose answers have these scores, the right ones first; None is no score."""
    candidates = benchmark.candidates(row, Place(Path("rows.jsonl"), number))
    raw = [None if score is None else [score] for score in scores]
    values = [None if score is None else {"mean": score} for score in scores]
    reasons = ["it has 9 tokens, more than 8" if score is None else None for score in scores]
    return ScoredRow(number, row, candidates, raw, values, reasons)


def metrics(benchmark, rows, scores):
    """The metrics of rows with these scores, and the records by section and subset."""
    pairs = zip(rows, scores, strict=True)
    given = [scored(benchmark, row, own, number) for number, (row, own) in enumerate(pairs, 1)]
    found = measure_result(benchmark, given, "mean", "scores.jsonl", seed=0)
    return found, {(record.section, record.subset): record for record in found.records}


def estimates(record):
    """The estimates of a record by metric."""
    return {name: interval.estimate for name, interval in record.accuracy.items()}


def row_of(name, subset, right, wrong):
    """A row of RewardBench 2 with so many right and wrong answers."""
    return {
        "id": name,
        "prompt": f"Question {name}?",
        "chosen": [f"right {name} {number}" for number in range(right)],
        "rejected": [f"wrong {name} {number}" for number in range(wrong)],
        "num_correct": right,
        "num_incorrect": wrong,
        "total_completions": right + wrong,
        "subset": subset,
    }


def rm_row(name, domain):
    """A row of RM-Bench."""
    sides = {side: [f"{side} {n}" for n in range(3)] for side in ("chosen", "rejected")}
    return {"id": name, "prompt": f"Question {name}?", "domain": domain} | sides


def judge_row(name, source, label):
    """A row of JudgeBench."""
    return {
        "pair_id": name,
        "original_id": f"o{name}",
        "source": source,
        "question": f"Question {name}?",
        "response_model": "a model",
        "response_A": f"A of {name}",
        "response_B": f"B of {name}",
        "label": label,
    }
