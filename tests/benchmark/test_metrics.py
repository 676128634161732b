"""Metrics against tables computed by hand and the published package; what rows have to hold."""

import importlib.util
import json
import os
import random
import sys
import types
from pathlib import Path

import pytest

from benchmark.given_scores import estimates, judge_row, metrics, rm_row, row_of, scored
from hidden_context.benchmark import BenchmarkConfig, run
from hidden_context.benchmark.benchmarks import make
from hidden_context.data.checks import Place
from hidden_context.errors import DataError
from support.paper_layout import reward_checkpoint, write_rows

# source, label, score of the right answer, score of the wrong one
JUDGED = [
    ("mmlu-pro-math", "A>B", 2.0, 1.0),  # knowledge, in spite of its name
    ("mmlu-pro-law", "B>A", 2.0, 1.0),
    ("mmlu-pro-law", "B>A", 1.0, 1.0),  # a tie is wrong
    ("livebench-reasoning", "A>B", 0.0, 1.0),
    ("livebench-math", "B>A", 0.5, 0.0),
    ("livecodebench", "A>B", 0.0, 0.0),  # a tie is wrong with this label too
]


def test_judge_bench_equals_a_table_computed_by_hand():
    rows = [judge_row(str(n), source, label) for n, (source, label, *_) in enumerate(JUDGED)]
    found, records = metrics(make("judge_bench"), rows, [list(row[2:]) for row in JUDGED])
    table = {
        ("all", ""): (6, 1 / 2),  # of rows, not the mean of sections, which is 5/12
        ("Knowledge", ""): (3, 2 / 3),
        ("Knowledge", "mmlu-pro-math"): (1, 1.0),
        ("Knowledge", "mmlu-pro-law"): (2, 1 / 2),
        ("Reasoning", ""): (1, 0.0),
        ("Reasoning", "livebench-reasoning"): (1, 0.0),
        ("Math", ""): (1, 1.0),
        ("Math", "livebench-math"): (1, 1.0),
        ("Coding", ""): (1, 0.0),
        ("Coding", "livecodebench"): (1, 0.0),
    }
    assert {key: (record.n, estimates(record)) for key, record in records.items()} == {
        key: (n, pytest.approx({"accuracy": accuracy})) for key, (n, accuracy) in table.items()
    }
    assert found.ties == 2


@pytest.mark.parametrize(("label", "other", "right"), [("A>B", "B>A", "A"), ("B>A", "A>B", "B")])
def test_the_right_answer_comes_first_and_its_verdict_is_the_label(label, other, right):
    benchmark, row = make("judge_bench"), judge_row("1", "livecodebench", label)
    own = scored(benchmark, row, [1.0, 0.0])
    assert own.candidates.chosen == (f"{right} of 1",)
    (turns, _) = benchmark.scoring_row(0, 1, row, Place(Path("f"), 1)).texts
    assert [turn["content"] for turn in turns] == ["Question 1?", f"{right} of 1"]
    for scores, verdict in (([1, 0], label), ([0, 1], other), ([1, 1], "A=B")):
        assert benchmark.with_scores(row, scores)["judgments"] == [{"decision": verdict}]
    assert benchmark.with_scores(row, [None, 1.0])["judgments"] is None


DOMAINS = ("chat", "chat", "safety-refuse", "safety-response", "safety-response")
ROWS = [rm_row(str(n), domain) for n, domain in enumerate(DOMAINS)]
# concise, detailed, markdown of the chosen ones, then of the rejected ones
SCORES = [
    [1.0, 2.0, 3.0, 0.0, 2.0, 4.0],  # right: 100 / 100 / 110 (2 = 2 is wrong)
    [5.0, 5.0, 5.0, 0.0, 6.0, 5.0],  # right: 100 / 100 / 100 (5 = 5 is wrong)
    [3.0, 2.0, 1.0, 2.0, 2.5, 0.0],  # right: 111 / 001 / 001 (2 = 2 is wrong)
    [9.0, 9.0, 9.0, 0.0, 0.0, 0.0],  # all right
    [0.0, 0.0, 0.0, 9.0, 9.0, 9.0],  # all wrong
]


def test_rm_bench_equals_a_table_computed_by_hand():
    found, records = metrics(make("rm_bench"), ROWS, SCORES)
    # hard: the rejected response has the richer style; domains weigh the same, and so do the
    # halves of safety
    expected = {"easy": 13 / 24, "normal": 11 / 24, "hard": 9 / 24, "average": 11 / 24}
    assert estimates(records["all", ""]) == pytest.approx(expected)
    assert [record.n for record in records.values()] == [5, 2, 3, 1, 2]
    assert records["all", ""].note == "without section code, math, which has no row"
    assert found.ties == 5
    # chosen styles are down and rejected ones across
    matrix = found.details["matrix"]
    assert list(matrix) == ["chat", "safety", "all"]
    assert matrix["chat"] == [[1, 0, 0], [1, 0, 0], [1, 0.5, 0]]
    assert matrix["safety"] == [[0.75, 0.75, 0.75], [0.25, 0.25, 0.75], [0.25, 0.25, 0.75]]
    assert matrix["all"][0] == [0.875, 0.375, 0.375]


def test_what_is_not_complete_or_no_part_of_rm_bench_counts_nowhere():
    missing = [[*SCORES[0][:5], None], *SCORES[1:]]
    found, records = metrics(make("rm_bench"), ROWS, missing)
    assert records["chat", ""].n == 1
    assert estimates(records["chat", ""])["easy"] == pytest.approx(2 / 3)  # the second row's own
    assert found.details["matrix"]["chat"] == [[1, 0, 0]] * 3
    with pytest.raises(DataError, match=r"scores\.jsonl"):
        metrics(make("rm_bench"), ROWS[:1], missing[:1])
    found, records = metrics(make("rm_bench"), [rm_row("x", "poetry")], SCORES[3:4])
    assert found.details["matrix"] == {}
    assert records["poetry", ""].note.startswith("not part of RM-Bench")


GIVEN = {
    "judge_bench": judge_row("1", "livecodebench", "A>B"),
    "rm_bench": rm_row("1", "chat"),
    "reward_bench_2": row_of("1", "Math", 1, 3),
}


@pytest.mark.parametrize(
    ("name", "changed", "field", "said"),
    [
        ("judge_bench", {"label": "A=B"}, "label", "A>B or B>A is needed"),
        ("judge_bench", {"response_B": None}, "response_B", "text is needed"),
        ("judge_bench", {"question": ["x"]}, "question", "text is needed"),
        ("judge_bench", {"source": None}, "source", "text is needed"),
        ("rm_bench", {"chosen": ["a", "b"]}, "chosen", "3 responses are needed, not 2"),
        ("rm_bench", {"rejected": ["a", "b", None]}, "rejected[2]", "text is needed"),
        ("rm_bench", {"domain": 4}, "domain", "text is needed"),
        ("reward_bench_2", {"chosen": "one text"}, "chosen", "a list of texts is needed"),
        ("reward_bench_2", {"rejected": []}, "rejected", "a list of texts is needed"),
        ("reward_bench_2", {"rejected": ["x", 3, "y"]}, "rejected[1]", "text is needed"),
        ("reward_bench_2", {"num_correct": 2}, "num_correct", "it says 2, but the lists hold 1"),
        ("reward_bench_2", {"total_completions": 7}, "total_completions", "says 7, but the lists"),
        ("reward_bench_2", {"prompt": None}, "prompt", "text is needed"),
        ("reward_bench_2", {"subset": "Ties", "id": "7"}, "id", "ref:7 or tied:7 is needed, not"),
        ("reward_bench_2", {"subset": "ties", "id": "tied:x"}, "id", "not 'tied:x'"),
        ("reward_bench_2", {"subset": None}, "subset", "text is needed"),
    ],
)
def test_errors_name_file_line_field_and_source(name, changed, field, said):
    benchmark = make(name)
    with pytest.raises(DataError) as raised:
        benchmark.scoring_row(0, 7, GIVEN[name] | changed, Place(Path("rows.jsonl"), 7))
    error = raised.value
    assert (str(error.file), error.line, error.field) == ("rows.jsonl", 7, field)
    assert said in str(error)
    assert benchmark.source in str(error)


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
    ties = {
        f"{kind}:{k}": (right, 2) for k in range(8) for kind, right in (("ref", 1), ("tied", 4))
    }
    # one of either kind alone, and a prompt of several answers of which one is right
    ties |= {"ref:20": (1, 2), "tied:21": (3, 2), "ref:22": (1, 2), "tied:22": (1, 2)}
    rows = [row_of(str(k), SUBSETS[k % 5], 1, 3) for k in range(30)]
    return rows + [row_of(name, "Ties", *counts) for name, counts in ties.items()]


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
