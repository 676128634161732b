"""RewardBench 2's metrics against the published package's own functions."""

from __future__ import annotations

import importlib.util
import json
import os
import random
import sys
import types
from pathlib import Path

import pytest

from hidden_context.benchmark import BenchmarkConfig, run
from support.paper_layout import reward_checkpoint

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


def _row(name, subset, right, wrong, draw):
    chosen, rejected = ([f"answer {draw.random()}" for _ in range(n)] for n in (right, wrong))
    return {
        "id": name,
        "prompt": f"Question {name}?",
        "chosen": chosen,
        "rejected": rejected,
        "num_correct": right,
        "num_incorrect": wrong,
        "total_completions": right + wrong,
        "subset": subset,
    }


def _rows():
    draw = random.Random(0)
    rows = [_row(str(k), SUBSETS[k % 5], 1, 3, draw) for k in range(20)]
    for k in range(6):
        rows += [_row(f"ref:{k}", "Ties", 1, 3, draw), _row(f"tied:{k}", "Ties", 4, 2, draw)]
    return rows


def test_metrics_equal_the_published_functions(published, tmp_path):
    from datasets import Dataset

    source = tmp_path / "rows.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in _rows()))
    config = BenchmarkConfig(
        benchmark="reward_bench_2",
        input=str(source),
        models=[reward_checkpoint(tmp_path / "m")],
        risk=["mean", "cvar:0.05"],
        output=str(tmp_path / "out.json"),
        disable_tqdm=True,
    )
    with pytest.warns(UserWarning, match="no chat template"):
        result = run(config)
    assert result.rows == 32
    kept = [json.loads(line) for line in config.scores_path.read_text().splitlines()]
    for measure, found in result.models[0].measures.items():
        flat, totals, ties = [], [], []
        for row in kept:
            scores = [value[measure] for value in row["rewards_m"]]
            if row["subset"] == "Ties":
                ties.append({**row, "scores": scores})
            else:
                totals.append(len(scores))
                flat += [{"subset": row["subset"], "id": row["id"], "scores": s} for s in scores]
        rerolled = published.reroll_and_score_dataset(Dataset.from_list(flat), totals, ["scores"])
        sections = {r.section: r for r in found.records if r.level == "section"}
        for subset in SUBSETS:
            own = [row["results"] for row in rerolled if row["subset"] == subset]
            share = sections[subset].accuracy["accuracy"].estimate
            assert share == pytest.approx(sum(own) / len(own), abs=1e-12)
        keep = ("id", "scores", "num_correct")
        _, expected = published.process_single_model([{k: r[k] for k in keep} for r in ties])
        assert sections["Ties"].accuracy["accuracy"].estimate == pytest.approx(expected, abs=1e-12)
