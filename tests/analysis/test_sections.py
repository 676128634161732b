import json
import math

import numpy as np
import pytest
from scipy import stats

from hidden_context.analysis.analysis_file import to_json
from hidden_context.analysis.sections.benchmarks import section_accuracies
from hidden_context.analysis.sections.read import read_section_scores
from hidden_context.errors import DataError
from hidden_context.statistics.interval import Resampling
from support.score_rows import pair, write


def _pair(subset, chosen, rejected, prompt="p", **more):
    scores = {"scores_chosen": chosen, "scores_rejected": rejected}
    return {"prompt": prompt, "chosen": "c", "rejected": "r", "subset": subset, **scores, **more}


@pytest.fixture
def read(tmp_path):
    """Read rows as the scores of one reward model."""

    def read(rows, name="s.jsonl", **options):
        (scores,) = read_section_scores(write(tmp_path / name, rows), **options)
        return scores

    return read


def summary(scores, resamples=99):
    """Records and accuracies by subset, else by section."""
    records = section_accuracies(scores, Resampling(resamples=resamples))
    found = {record.subset or record.section: record for record in records}
    shares = {
        name: record.accuracy["accuracy"].estimate
        for name, record in found.items()
        if "accuracy" in record.accuracy
    }
    return found, shares


def _rows(counts):
    """Rows with so many right ones of so many, each its own prompt."""
    return [
        _pair(subset, float(k < right), 0.5, prompt=f"{subset} {k}")
        for subset, (right, n) in counts.items()
        for k in range(n)
    ]


def test_sections_weigh_rows_and_reasoning_weighs_mathematics_as_much_as_code(read):
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
    scores = read(_rows(counts))
    assert (scores.style, scores.left_out, scores.ties) == ("reward-bench", 0, 0)
    found, share = summary(scores)
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


def test_the_interval_of_a_section_is_that_of_its_parts(read):
    generator = np.random.default_rng(0)
    rows = [
        _pair(subset, float(generator.random() < p), 0.5, prompt=f"{subset} {k}")
        for subset, p, n in (("math-prm", 0.6, 900), ("hep-go", 0.8, 1600))
        for k in range(n)
    ]
    scores = read(rows)
    found, _ = summary(scores, resamples=1999)
    interval = found["Reasoning"].accuracy["accuracy"]
    right, part = scores.right["accuracy"], scores.subset
    variance = sum(right[part == k].var() / (part == k).sum() / 4 for k in (0, 1))
    reach = stats.norm.ppf(0.975) * np.sqrt(variance)
    assert interval.method == "delta"
    assert interval.high - interval.low == pytest.approx(2 * reach, rel=0.02)


def test_rows_of_one_prompt_are_drawn_together(read):
    rows = [_pair("donotanswer", float(k % 2), 0.5, prompt=f"{k}") for k in range(40)]
    once = section_accuracies(read(rows))[0]
    thrice = section_accuracies(read(rows * 3))[0]
    first, second = once.accuracy["accuracy"], thrice.accuracy["accuracy"]
    assert second.high - second.low == pytest.approx(first.high - first.low, rel=0.01)
    by_id = [{**row, "prompt": None, "id": row["prompt"]} for row in rows]
    read = read(by_id * 3)
    assert len(np.unique(read.cluster)) == 40


def test_raw_outputs_are_read_as_mean_rewards(read):
    rows = [
        pair([1.0, 3.0], [mean, -3.0], prompt=f"{k}", subset="math-prm")
        for k, mean in enumerate([0.0, 2.0, 1.0])
    ]
    scores = read(rows)
    assert scores.right["accuracy"].tolist() == [1, 0, 0]  # a tie is wrong
    assert scores.ties == 1
    # two logits: the mean rises with the second minus the first
    again = read(rows, head_type="categorical")
    assert again.right["accuracy"].tolist() == [1, 1, 1]


def test_null_leaves_a_row_out_and_other_spellings_are_read(read):
    rows = [
        {"subset": "hep-go", "id": k, "score_chosen": c, "score_rejected": [0.0]}
        for k, c in enumerate([1, None, -1.0])
    ]
    scores = read(rows)
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


def test_rm_bench_by_hand(read):
    scores = read([RM_ROW])
    # rows chosen, columns rejected: [1 0 0], [1 0 tie], [1 1 1]
    assert {name: value[0] for name, value in scores.right.items()} == pytest.approx(
        {"easy": 1.0, "normal": 2 / 3, "hard": 0.0, "average": 5 / 9}
    )
    assert scores.ties == 1
    assert scores.style == "rm-bench"


def test_domains_weigh_the_same_and_so_do_the_halves_of_safety(read):
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
    # one array, as the benchmark's own scripts write
    scores = read([json.dumps(rows, indent=2)], "s.json")
    found, _ = summary(scores)
    hard = {name: record.accuracy["hard"].estimate for name, record in found.items()}
    assert hard["safety"] == pytest.approx(0.75)
    assert hard["all"] == pytest.approx((1 + 0.5 + 0 + 0.75) / 4)
    sections = [record.section for record in section_accuracies(scores, Resampling(resamples=99))]
    assert sections == ["all", "chat", "code", "math", *["safety"] * 3]
    assert found["math"].accuracy["hard"].method == "wilson"


def test_six_responses_of_our_own_scoring(read):
    outputs = [[1.0, 0.0], [2.0, 0.0], [3.0, 0.0], [0.5, 9.0], [2.5, 9.0], [2.0, 9.0]]
    row = {"prompt": "p", "domain": "chat", "reward_outputs_m": outputs}
    scores = read([row])
    np.testing.assert_equal(scores.right, read([RM_ROW]).right)


def test_gzip_and_messages(read):
    prompt = [{"role": "user", "content": "Hi"}]
    rows = [_pair("hep-go", 1, 0, prompt=prompt), _pair("hep-go", 0, 1, prompt=prompt)]
    scores = read(rows, "s.jsonl.gz")
    assert scores.cluster.tolist() == [0, 0]
    interval = section_accuracies(scores)[0].accuracy["accuracy"]
    assert (interval.estimate, interval.method) == (0.5, "none")


@pytest.mark.parametrize(
    "row",
    [
        pair([1.0], [0.0], prompt="p"),
        {"subset": "hep-go", "prompt": "p"},
        {"subset": 3, "scores_chosen": 1, "scores_rejected": 0},
        {"domain": "chat", "reward_outputs_m": [[1.0], [2.0]]},
        {"domain": "elsewhere", "reward_outputs_m": [[1.0]] * 6},
        # one comparison of RewardBench 2's, as evaluate writes it
        pair([1.0], [0.0], subset="Ties", num_correct=3),
    ],
)
def test_other_files_are_none_of_these(tmp_path, row):
    for rows in ([row], []):
        assert read_section_scores(write(tmp_path / "s.jsonl", rows)) == []


def _best_of(subset, chosen, rejected, name="1"):
    return {"id": name, "subset": subset, "scores_chosen": chosen, "scores_rejected": rejected}


TIES = [
    _best_of("Ties", [3.0, 2.0], [1.0, 0.0], "tied:1"),  # gap 1, spread 1
    _best_of("Ties", [5.0], [2.0], "ref:1"),  # gap 3
    _best_of("Ties", [4.0, 4.0], [1.0, 0.0], "tied:2"),  # gap 3, spread 0
    _best_of("Ties", [1.0], [2.0], "ref:2"),  # gap −1
    _best_of("Ties", [0.0, 2.0], [1.0], "tied:3"),  # wrong, and without a reference
]


def test_reward_bench_2_takes_the_best_of_all_responses(read):
    rows = [
        _best_of("Factuality", [1.0], [0.5, 2.0, 0.1], "1"),
        _best_of("Factuality", [1.0], [0.5, 0.0, 0.1], "2"),
        _best_of("Math", [[1.0]], [[1.0], [1.0], [0.0]], "3"),  # a third of the point
    ]
    scores = read(rows)
    assert (scores.style, scores.ties) == ("reward-bench-2", 2)
    found, share = summary(scores)
    assert share == pytest.approx({"all": (0.5 + 1 / 3) / 2, "Factuality": 0.5, "Math": 1 / 3})
    assert found["all"].note == "without section Precise IF, Safety, Focus, Ties, which has no row"


def test_ties_weigh_accuracy_and_margins(read):
    scores = read(TIES)
    found, share = summary(scores)
    assert share["Ties: tied"] == pytest.approx(2 / 3)
    assert share["Ties: reference"] == pytest.approx(1 / 2)
    # tied:1: 1 > 1 twice, tanh(1/1 − 1); tied:2: 3 > 0, −1 > 0, and no spread for a tanh
    margins = (0 + 0.2) / 2 + 0.01 * 0
    assert share["Ties: margins"] == pytest.approx(margins / 0.4)
    assert share["Ties"] == pytest.approx(0.3 * 2 / 3 + 0.3 / 2 + margins)
    assert share["all"] == share["Ties"]
    assert (found["Ties"].n, found["Ties: margins"].n) == (5, 2)
    # a reference is drawn with its prompt of many answers
    assert len(np.unique(scores.cluster)) == 3
    plain = [{**row, "id": str(n), "prompt": f"p{n}"} for n, row in enumerate(TIES)]
    found, share = summary(read(plain))
    assert share["Ties"] == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert "without subset Ties: margins" in found["Ties"].note


def test_every_spelling_of_reward_bench_2_is_read_alike(tmp_path, read):
    expected = read(TIES)
    scored, listed = [], []
    for row in TIES:
        right, wrong = row["scores_chosen"], row["scores_rejected"]
        own = {"id": row["id"], "subset": "ties", "prompt": "p"}
        texts = {"chosen": ["c"] * len(right), "rejected": ["r"] * len(wrong)}
        outputs = [[float(x)] for x in (*right, *wrong)]
        scored.append({**own, **texts, "reward_outputs_a": outputs, "reward_outputs_b": outputs})
        listed.append({**own, "scores": [*right, *wrong], "num_correct": len(right)})
    first, second = read_section_scores(write(tmp_path / "b.jsonl", scored))
    third = read(listed)
    assert (first.name, second.name) == ("a", "b")
    for found in (first, second, third):
        assert found.right["accuracy"].tolist() == expected.right["accuracy"].tolist()
        assert found.subsets == expected.subsets
        assert found.cluster.tolist() == expected.cluster.tolist()


JUDGED = {
    "pair_id": "1",
    "source": "mmlu-pro-law",
    "question": "Q?",
    "response_A": "a",
    "response_B": "b",
    "label": "B>A",
    "judgments": [{"decision": "B>A"}],
}


def test_judge_bench_weighs_rows_and_counts_both_orders_together(read):
    verdicts = {  # the second verdict is of the other order
        "mmlu-pro-law": [["B>A"], ["A>B"], ["B>A", "A>B"], ["B>A", "B>A"], ["B>A", None]],
        "livecodebench": [["B>A"]],
        "elsewhere": [["B>A"]],
    }
    rows = [
        {**JUDGED, "source": source, "judgments": [{"decision": each} for each in said]}
        for source, every in verdicts.items()
        for said in every
    ]
    scores = read(rows)
    assert scores.right["accuracy"].tolist() == [1, 0, 1, 0, 1, 1, 1]
    found, share = summary(scores)
    assert share["Knowledge"] == pytest.approx(3 / 5)
    assert (share["Coding"], share["elsewhere"]) == (1, 1)
    assert share["all"] == pytest.approx(4 / 6)
    assert "not part of JudgeBench" in found["elsewhere"].note
    scores = read([JUDGED | pair([x], [0.0]) for x in (1.0, 0.0)])
    assert (scores.style, scores.ties) == ("judge-bench", 1)
    assert scores.right["accuracy"].tolist() == [1, 0]


GOOD = _pair("hep-go", 1.0, 0.0)
RAW = pair([1, 2], [1, 2], subset="x")
SIX = {"domain": "chat", "reward_outputs_m": [[1.0]] * 6}
LISTED = {"subset": "Math", "scores": [1, 0], "num_correct": 1}
UNEQUAL = {"reward_outputs_m": [[1.0]] * 5 + [[1.0, 2.0]]}
THREE = "3 chosen and 3 rejected scores are needed, not"


@pytest.mark.parametrize(
    ("good", "change", "field", "problem"),
    [
        (GOOD, {"subset": None}, "subset", "a name is needed, not null"),
        (GOOD, {"scores_chosen": "1"}, "scores_chosen", "not '1'"),
        (GOOD, {"scores_chosen": math.nan}, "scores_chosen", "nan is not a finite number"),
        (GOOD, {"scores_chosen": [1.0, 2.0]}, "scores_chosen", "1 chosen and 1 rejected"),
        (GOOD, {"scores_rejected": ...}, "scores_rejected", "is missing"),
        (RM_ROW, {"score_chosen": [1, 2]}, "score_chosen", THREE),
        (RM_ROW, {"score_rejected": 1}, "score_rejected", THREE),
        (RM_ROW, {"score_chosen": [1, 2, True]}, "score_chosen[2]", "not True"),
        (RAW, {"reward_output_chosen": [1]}, "reward_output_chosen", "width is 1, but 2 on line 1"),
        (RAW, {"reward_output_chosen": 1}, "reward_output_chosen", "a list of numbers"),
        (SIX, {"reward_outputs_m": [[1.0]] * 5}, "reward_outputs_m", "3 chosen and 3 rejected"),
        (SIX, UNEQUAL, "reward_outputs_m[5]", "its width is 2, but 1 on line 1"),
        (TIES[0], {"scores_rejected": []}, "scores_rejected", "one or more chosen"),
        (LISTED, {"scores": [1], "num_correct": ...}, "scores", "1 scores for 0 chosen and 1"),
        (JUDGED, {"judgments": ["A>B"]}, "judgments", "a list of verdicts is needed, not ['A>B']"),
        (JUDGED, {"label": "A=B"}, "label", "one of A>B, B>A is needed, not 'A=B'"),
    ],
)
def test_bad_rows_name_file_line_field_and_remedy(tmp_path, good, change, field, problem):
    bad = {name: value for name, value in {**good, **change}.items() if value is not ...}
    path = write(tmp_path / "s.jsonl", [good, bad])
    with pytest.raises(DataError) as caught:
        read_section_scores(path)
    error = caught.value
    assert (error.file, error.line, error.field) == (path, 2, field)
    assert problem in error.problem
    assert error.remedy


def test_a_file_without_any_score_is_refused(tmp_path):
    with pytest.raises(DataError, match="'scores_chosen': no row has a reward and a vote"):
        read_section_scores(write(tmp_path / "s.jsonl", [{**GOOD, "scores_chosen": None}]))


@pytest.mark.parametrize(
    ("text", "words"),
    [("[1]", "item 1 of the array is 1"), ("[{]", r"line 1.*not valid JSON")],
)
def test_arrays_that_are_broken(tmp_path, text, words):
    (tmp_path / "s.json").write_text(text)
    with pytest.raises(DataError, match=words):
        read_section_scores(tmp_path / "s.json")


def test_an_analysis_shows_every_record_of_a_benchmark_s_file(analyze, printed):
    analysis = analyze(_rows({"math-prm": (1, 4), "hep-cpp": (3, 6), "mine": (1, 2)}))
    (records,), text = (each.records for each in analysis.sections), printed(analysis)
    for record in records:
        assert f"{100 * record.accuracy['accuracy'].estimate:.1f} %" in text
    assert "mine [3]" in text
    assert "[3] not part of RewardBench" in text
    assert records[0].accuracy["accuracy"].level == 0.95
    assert analysis.analyses == []
    assert to_json(analysis)["sections"][0]["records"][0]["section"] == "all"
    rows = [pair([float(n % 3)], [0.5], prompt=f"p{n}", subset="hep-cpp") for n in range(24)]
    both = analyze(rows)
    assert both.analyses[0].groups[0].record.accuracy.share == pytest.approx(2 / 3)
    assert len(both.sections) == 1
