import gzip
import json

import numpy as np
import pytest
from scipy import stats

from hidden_context.analysis.benchmark_accuracy import section_accuracies, section_table
from hidden_context.analysis.benchmark_files import measures, read_section_scores
from hidden_context.errors import DataError, MissingFileError


def _write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def _pair(subset, chosen, rejected, prompt="p", **more):
    scores = {"scores_chosen": chosen, "scores_rejected": rejected}
    return {"prompt": prompt, "chosen": "c", "rejected": "r", "subset": subset, **scores, **more}


def _by_name(records):
    return {record.subset or record.section: record for record in records}


def _rows(counts):
    """Rows with so many right ones of so many, each its own prompt."""
    return [
        _pair(subset, float(k < right), 0.5, prompt=f"{subset} {k}")
        for subset, (right, n) in counts.items()
        for k in range(n)
    ]


def test_sections_weigh_rows_and_reasoning_weighs_mathematics_as_much_as_code(tmp_path):
    counts = {
        "alpacaeval-easy": (9, 10),
        "mt-bench-med": (1, 5),
        "llmbar-natural": (6, 8),
        "donotanswer": (2, 8),
        "math-prm": (2, 8),
        "hep-cpp": (3, 6),
        "hep-rust": (6, 6),
        "my-own": (3, 6),
    }
    scores = read_section_scores(_write(tmp_path / "s.jsonl", _rows(counts)))
    assert (scores.style, scores.left_out, scores.ties) == ("reward-bench", 0, 0)
    found = _by_name(section_accuracies(scores, seed=1, resamples=199))
    share = {name: record.accuracy["accuracy"].estimate for name, record in found.items()}
    for name, (right, n) in counts.items():
        assert share[name] == pytest.approx(right / n)
        assert found[name].n == n
    assert share["Chat"] == pytest.approx(10 / 15)
    assert share["Reasoning"] == pytest.approx((1 / 4 + 9 / 12) / 2)
    sections = [share[name] for name in ("Chat", "Chat Hard", "Safety", "Reasoning")]
    assert share["all"] == pytest.approx(np.mean(sections))
    assert found["all"].n == 51  # without the stranger's six
    assert "not part of RewardBench" in found["my-own"].note
    assert found["my-own"].level == "section"
    assert "hep-go" in found["Reasoning"].note
    assert found["all"].note == ""
    for record in found.values():
        interval = record.accuracy["accuracy"]
        assert 0 <= interval.low <= interval.estimate <= interval.high <= 1


def test_the_interval_of_a_section_is_that_of_its_parts(tmp_path):
    generator = np.random.default_rng(0)
    rows = [
        _pair(subset, float(generator.random() < p), 0.5, prompt=f"{subset} {k}")
        for subset, p, n in (("math-prm", 0.6, 900), ("hep-go", 0.8, 1600))
        for k in range(n)
    ]
    scores = read_section_scores(_write(tmp_path / "s.jsonl", rows))
    (reasoning,) = (
        r for r in section_accuracies(scores) if r.section == "Reasoning" and not r.subset
    )
    interval = reasoning.accuracy["accuracy"]
    right, part = scores.right["accuracy"], scores.subset
    variance = sum(right[part == k].var() / (part == k).sum() / 4 for k in (0, 1))
    reach = stats.norm.ppf(0.975) * np.sqrt(variance)
    assert interval.method == "delta"
    assert interval.high - interval.low == pytest.approx(2 * reach, rel=0.02)


def test_rows_of_one_prompt_are_drawn_together(tmp_path):
    rows = [_pair("donotanswer", float(k % 2), 0.5, prompt=f"{k}") for k in range(40)]
    once = section_accuracies(read_section_scores(_write(tmp_path / "a.jsonl", rows)))[0]
    thrice = section_accuracies(read_section_scores(_write(tmp_path / "b.jsonl", rows * 3)))[0]
    first, second = once.accuracy["accuracy"], thrice.accuracy["accuracy"]
    assert second.high - second.low == pytest.approx(first.high - first.low, rel=0.01)
    by_id = [{**row, "prompt": None, "id": row["prompt"]} for row in rows]
    read = read_section_scores(_write(tmp_path / "c.jsonl", by_id * 3))
    assert len(np.unique(read.cluster)) == 40


def test_raw_outputs_are_read_as_mean_rewards(tmp_path):
    rows = [
        {
            "prompt": f"{k}",
            "subset": "math-prm",
            "reward_output_chosen": [1.0, 3.0],
            "reward_output_rejected": [mean, -3.0],
        }
        for k, mean in enumerate([0.0, 2.0, 1.0])
    ]
    scores = read_section_scores(_write(tmp_path / "s.jsonl", rows))
    assert scores.right["accuracy"].tolist() == [1, 0, 0]  # a tie is wrong
    assert scores.ties == 1
    # two logits: the mean rises with the second minus the first
    again = read_section_scores(tmp_path / "s.jsonl", head_type="categorical")
    assert again.right["accuracy"].tolist() == [1, 1, 1]


def test_null_leaves_a_row_out_and_other_spellings_are_read(tmp_path):
    rows = [
        {"subset": "hep-go", "id": k, "score_chosen": c, "score_rejected": [0.0]}
        for k, c in enumerate([1, None, -1.0])
    ]
    scores = read_section_scores(_write(tmp_path / "s.jsonl", rows))
    assert (scores.left_out, scores.right["accuracy"].tolist()) == (1, [1.0, 0.0])


RM_ROW = {
    "id": 1,
    "prompt": "p",
    "chosen": ["a", "b", "c"],
    "rejected": ["d", "e", "f"],
    "domain": "chat",
    "score_chosen": [1.0, 2.0, 3.0],
    "score_rejected": [0.5, 2.5, 2.0],
}


def test_rm_bench_by_hand(tmp_path):
    scores = read_section_scores(_write(tmp_path / "s.jsonl", [RM_ROW]))
    # rows chosen, columns rejected: [1 0 0], [1 0 tie], [1 1 1]
    assert {name: value[0] for name, value in scores.right.items()} == pytest.approx(
        {"easy": 1.0, "normal": 2 / 3, "hard": 0.0, "average": 5 / 9}
    )
    assert scores.ties == 1
    assert scores.style == "rm-bench"


def test_the_matrix_agrees_with_a_loop():
    generator = np.random.default_rng(0)
    chosen, rejected = generator.standard_normal((2, 50, 3))
    found = measures(chosen[:, :, None] - rejected[:, None, :])
    table = np.zeros((3, 3))
    for i in range(3):
        for j in range(3):
            table[i, j] = np.mean(chosen[:, i] > rejected[:, j])
    assert found["hard"].mean() == pytest.approx((table[0, 1] + table[0, 2] + table[1, 2]) / 3)
    assert found["easy"].mean() == pytest.approx((table[1, 0] + table[2, 0] + table[2, 1]) / 3)
    assert found["normal"].mean() == pytest.approx(np.trace(table) / 3)
    assert found["average"].mean() == pytest.approx(table.mean())


def test_domains_weigh_the_same_and_so_do_the_halves_of_safety(tmp_path):
    right = {"score_chosen": [3, 3, 3], "score_rejected": [0, 0, 0]}
    wrong = {"score_chosen": [0, 0, 0], "score_rejected": [3, 3, 3]}
    plan = {
        "chat": "rrr",
        "code": "rw",
        "math": "wwwww",
        "safety-refuse": "rw",
        "safety-response": "r",
    }
    rows = [
        {"id": f"{domain}{k}", "domain": domain, **(right if said == "r" else wrong)}
        for domain, text in plan.items()
        for k, said in enumerate(text)
    ]
    path = tmp_path / "s.json"
    path.write_text(json.dumps(rows, indent=2))  # one array, as the benchmark's own scripts write
    scores = read_section_scores(path)
    found = _by_name(section_accuracies(scores, resamples=99))
    hard = {name: record.accuracy["hard"].estimate for name, record in found.items()}
    assert hard["safety"] == pytest.approx(0.75)
    assert hard["all"] == pytest.approx((1 + 0.5 + 0 + 0.75) / 4)
    assert [r.section for r in section_accuracies(scores, resamples=99)] == [
        "all",
        "chat",
        "code",
        "math",
        "safety",
        "safety",
        "safety",
    ]
    assert found["math"].accuracy["hard"].method == "wilson"


def test_six_responses_of_our_own_scoring(tmp_path):
    outputs = [[1.0, 0.0], [2.0, 0.0], [3.0, 0.0], [0.5, 9.0], [2.5, 9.0], [2.0, 9.0]]
    row = {"prompt": "p", "domain": "chat", "reward_outputs_m": outputs}
    scores = read_section_scores(_write(tmp_path / "s.jsonl", [row]))
    again = read_section_scores(_write(tmp_path / "t.jsonl", [RM_ROW]))
    assert {k: v.tolist() for k, v in scores.right.items()} == {
        k: v.tolist() for k, v in again.right.items()
    }


def test_gzip_and_messages(tmp_path):
    prompt = [{"role": "user", "content": "Hi"}]
    rows = [_pair("hep-go", 1, 0, prompt=prompt), _pair("hep-go", 0, 1, prompt=prompt)]
    path = tmp_path / "s.jsonl.gz"
    path.write_bytes(gzip.compress("".join(json.dumps(r) + "\n" for r in rows).encode()))
    scores = read_section_scores(path)
    assert scores.cluster.tolist() == [0, 0]
    interval = section_accuracies(scores)[0].accuracy["accuracy"]
    assert (interval.estimate, interval.method) == (0.5, "none")


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "p", "reward_output_chosen": [1.0], "reward_output_rejected": [0.0]},
        {"subset": "hep-go", "prompt": "p"},
        {"subset": 3, "scores_chosen": 1, "scores_rejected": 0},
        {"domain": "chat", "reward_outputs_m": [[1.0], [2.0]]},
        {"domain": "elsewhere", "reward_outputs_m": [[1.0]] * 6},
    ],
)
def test_other_files_are_none_of_these(tmp_path, row):
    assert read_section_scores(_write(tmp_path / "s.jsonl", [row])) is None
    assert read_section_scores(_write(tmp_path / "empty.jsonl", [])) is None


GOOD = _pair("hep-go", 1.0, 0.0)


@pytest.mark.parametrize(
    ("rows", "line", "field", "problem"),
    [
        ([GOOD, {**GOOD, "subset": None}], 2, "subset", "a name is needed, not null"),
        ([GOOD, {**GOOD, "scores_chosen": "1"}], 2, "scores_chosen", "'1' stands where"),
        ([GOOD, {**GOOD, "scores_chosen": float("nan")}], 2, "scores_chosen", "nan stands"),
        ([GOOD, {**GOOD, "scores_chosen": [1.0, 2.0]}], 2, "scores_chosen", "finite number"),
        ([GOOD, {"subset": "hep-go", "scores_chosen": 1}], 2, "scores_rejected", "is missing"),
        ([RM_ROW, {**RM_ROW, "score_chosen": [1, 2]}], 2, "score_chosen", "three scores"),
        ([RM_ROW, {**RM_ROW, "score_rejected": 1}], 2, "score_rejected", "three scores"),
        ([{**RM_ROW, "score_chosen": [1, 2, True]}], 1, "score_chosen", "True stands"),
        (
            [
                {"subset": "x", "reward_output_chosen": [1, 2], "reward_output_rejected": [1, 2]},
                {"subset": "x", "reward_output_chosen": [1], "reward_output_rejected": [1, 2]},
            ],
            2,
            "reward_output_chosen",
            "width is not 2, as on line 1",
        ),
        (
            [{"subset": "x", "reward_output_chosen": 1, "reward_output_rejected": [1]}],
            1,
            "reward_output_chosen",
            "a list of numbers",
        ),
        (
            [
                {"domain": "chat", "reward_outputs_m": [[1.0]] * 6},
                {"domain": "chat", "reward_outputs_m": [[1.0]] * 5},
            ],
            2,
            "reward_outputs_m",
            "six outputs",
        ),
        (
            [{"domain": "chat", "reward_outputs_m": [[1.0]] * 5 + [[1.0, 2.0]]}],
            1,
            "reward_outputs_m",
            "differ in width",
        ),
        ([{**GOOD, "scores_chosen": None}], None, "scores_chosen", "none of its 1 rows"),
    ],
)
def test_bad_rows_name_file_line_field_and_remedy(tmp_path, rows, line, field, problem):
    path = _write(tmp_path / "s.jsonl", rows)
    with pytest.raises(DataError) as caught:
        read_section_scores(path)
    error = caught.value
    assert (error.file, error.line, error.field) == (str(path), line, field)
    assert problem in error.problem
    assert error.remedy


def test_arrays_that_are_broken(tmp_path):
    path = tmp_path / "s.json"
    path.write_text("[1]")
    with pytest.raises(DataError, match="item 1 of the array is 1"):
        read_section_scores(path)
    path.write_text("[{]")
    with pytest.raises(DataError, match=r"line 1.*not valid JSON"):
        read_section_scores(path)
    with pytest.raises(MissingFileError):
        read_section_scores(tmp_path / "none.jsonl")


def test_the_table_has_every_record(tmp_path):
    from rich.console import Console

    rows = _rows({"math-prm": (1, 4), "hep-cpp": (3, 6), "mine": (1, 2)})
    records = section_accuracies(read_section_scores(_write(tmp_path / "s.jsonl", rows)))
    console = Console(width=120, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(section_table(records, title="scores"))
    text = console.export_text()
    for record in records:
        assert f"{100 * record.accuracy['accuracy'].estimate:.1f} %" in text
    assert "mine [3]" in text
    assert "[3] not part of RewardBench" in text
    assert json.loads(json.dumps(records[0].to_dict()))["accuracy"]["accuracy"]["level"] == 0.95
