"""RewardBench 2's metrics against the published package's own functions."""

import importlib.util
import json
import os
import random
import sys
import types
from pathlib import Path

import pytest

from benchmark.given_scores import estimates, metrics, row_of
from hidden_context.benchmark import BenchmarkConfig, run
from hidden_context.benchmark.benchmarks import make
from support.paper_layout import reward_checkpoint, write_rows

SUBSETS = ("Factuality", "Precise IF", "Math", "Safety", "Focus")


@pytest.fixture
def published(monkeypatch):
    """The package's ``utils``, with what it imports and does not use here left out."""
    clients = os.environ.get("HIDDEN_CONTEXT_CLIENTS")
    if not clients:
        pytest.skip("HIDDEN_CONTEXT_CLIENTS names no folder of clients")
    for name, content in {
        "fastchat": {},
        "fastchat.conversation": {"Conversation": object},
        "rewardbench": {"__path__": []},
        "rewardbench.models": {"REWARD_MODEL_CONFIG": {}},
    }.items():
        module = types.ModuleType(name)
        vars(module).update(content)
        monkeypatch.setitem(sys.modules, name, module)
    path = Path(clients) / "rewardbench" / "utils.py"
    spec = importlib.util.spec_from_file_location("rewardbench.utils", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _rows():
    rows = [row_of(str(k), SUBSETS[k % 5], 1, 3) for k in range(30)]
    for k in range(8):
        rows += [
            row_of(f"ref:{k}", "Ties", 1, 3),
            row_of(f"tied:{k}", "Ties", 4, 2),
        ]
    # one of either kind alone, and a prompt of several answers of which one is right
    rows += [row_of("ref:20", "Ties", 1, 2), row_of("tied:21", "Ties", 3, 2)]
    return [
        *rows,
        row_of("ref:22", "Ties", 1, 2),
        row_of("tied:22", "Ties", 1, 2),
    ]


def _published_sections(published, rows, scores):
    """What ``run_v2`` of the package prints for each subset, and their mean."""
    from datasets import Dataset

    flat, totals, ties = [], [], []
    for row, own in zip(rows, scores, strict=True):
        if row["subset"] == "Ties":
            ties.append({"id": row["id"], "scores": own, "num_correct": row["num_correct"]})
        else:
            totals.append(len(own))
            flat += [{"subset": row["subset"], "id": row["id"], "scores": one} for one in own]
    rerolled = published.reroll_and_score_dataset(Dataset.from_list(flat), totals, ["scores"])
    found = {}
    for subset in SUBSETS:
        own = [row["results"] for row in rerolled if row["subset"] == subset]
        found[subset] = sum(own) / len(own)
    _, found["Ties"] = published.process_single_model(ties)
    mean = published.calculate_scores_per_section(
        dict.fromkeys(found, 1), {"all": list(found)}, found
    )
    return found | mean


@pytest.mark.parametrize("kind", ["whole numbers with many ties", "real numbers", "all right"])
@pytest.mark.parametrize("seed", range(4))
def test_metrics_equal_the_published_functions_on_random_scores(published, kind, seed):
    draw, rows = random.Random(seed), _rows()

    def score(row, place):
        right = place < row["num_correct"]
        if kind == "real numbers":
            return draw.gauss(float(right), 1.0)
        if kind == "all right":
            return draw.gauss(10.0 * right, 0.5)
        return float(draw.randint(0, 3) + right)

    scores = [[score(row, place) for place in range(row["total_completions"])] for row in rows]
    _, found = metrics(make("reward_bench_2"), rows, scores)
    expected = _published_sections(published, rows, scores)
    assert set(expected) == {section for section, subset in found if not subset}
    for section, value in expected.items():
        own = found[section, ""].accuracy["accuracy"].estimate
        assert own == pytest.approx(value, abs=1e-12), section


def test_without_any_spread_the_last_term_counts_nothing(published):
    rows = [row_of("ref:1", "Ties", 1, 2), row_of("tied:1", "Ties", 3, 2)]
    scores = [[2.0, 1.0, 0.0], [1.0, 1.0, 1.0, 0.0, 0.0]]
    _, ties = published.process_single_model(
        [{**row, "scores": own} for row, own in zip(rows, scores, strict=True)]
    )
    _, found = metrics(make("reward_bench_2"), rows, scores)
    assert ties == pytest.approx(1.0)
    assert estimates(found["Ties", ""]) == {"accuracy": pytest.approx(ties)}


def test_ties_without_pairs_of_prompts_are_weighed_anew_and_say_so():
    rows = [row_of("tied:1", "Ties", 2, 1), row_of("tied:2", "Ties", 2, 1)]
    _, found = metrics(make("reward_bench_2"), rows, [[3.0, 2.0, 1.0], [3.0, 0.0, 1.0]])
    assert found["Ties", ""].accuracy["accuracy"].estimate == 0.5
    assert "Ties: reference" in found["Ties", ""].note


def test_the_verbs_scores_equal_the_published_functions(published, tmp_path):
    rows = _rows()
    config = BenchmarkConfig(
        benchmark="reward_bench_2",
        input=write_rows(tmp_path / "rows.jsonl", rows),
        models=[reward_checkpoint(tmp_path / "m")],
        risk=["mean", "cvar:0.05"],
        output=str(tmp_path / "out.json"),
        disable_tqdm=True,
    )
    with pytest.warns(UserWarning, match="no chat template"):
        result = run(config)
    assert result.rows == len(rows)
    kept = [json.loads(line) for line in config.scores_path.read_text().splitlines()]
    spread = []
    for measure, found in result.models[0].measures.items():
        scores = [[value[measure] for value in row["rewards_m"]] for row in kept]
        expected = _published_sections(published, rows, scores)
        spread.append(scores)
        for record in found.records:
            if not record.subset:
                own = record.accuracy["accuracy"].estimate
                assert own == pytest.approx(expected[record.section], abs=1e-12)
    assert spread[0] != spread[1]  # each measure has scores of its own
