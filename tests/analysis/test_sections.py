from __future__ import annotations

import json
import math

import numpy as np
import pytest
from scipy import stats

from hidden_context.analysis import score_analysis
from hidden_context.analysis.config import AnalyzeConfig
from hidden_context.analysis.frontier import ALPHAS
from hidden_context.analysis.sections import sample_rows
from hidden_context.analysis.tables import print_analysis
from hidden_context.errors import ConfigError


def raw(mean, sigma):
    return [float(mean), math.log(math.expm1(sigma))]


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def analyze(tmp_path, rows, **options):
    files = [write(tmp_path / "scores.jsonl", rows)]
    return score_analysis.run(AnalyzeConfig(files=files, resamples=199, **options)).analyses[0]


def pairs(size=400, seed=0, **columns):
    """Pairs of a risky and a steady response: who judges decides which is chosen."""
    generator = np.random.default_rng(seed)
    rows = []
    for number in range(size):
        bold = generator.random() < 0.5
        risky, steady = raw(generator.normal(), 2.0), raw(generator.normal(), 0.5)
        chosen, rejected = (risky, steady) if bold else (steady, risky)
        rows.append(
            {
                "prompt": f"question {number}",
                "chosen": "x" * int(generator.integers(1, 50)),
                "rejected": "y" * int(generator.integers(1, 50)),
                "annotator": "bold" if bold else "careful",
                "reward_output_chosen": chosen,
                "reward_output_rejected": rejected,
                **{name: values[number % len(values)] for name, values in columns.items()},
            }
        )
    return rows


def by_name(analysis):
    return {test.name: test for test in analysis.tests}


def test_who_judged_is_tested_where_it_is_known(tmp_path):
    found = by_name(analyze(tmp_path, pairs()))
    assert found["annotator_permutation"].p_value == pytest.approx(1 / 200)
    shuffled = pairs()
    who = np.random.default_rng(1).permutation([row["annotator"] for row in shuffled])
    for row, name in zip(shuffled, who, strict=True):
        row["annotator"] = str(name)
    assert by_name(analyze(tmp_path, shuffled))["annotator_permutation"].p_value > 0.05
    for row in shuffled:
        del row["annotator"]
    assert "annotator_permutation" not in by_name(analyze(tmp_path, shuffled))


def test_the_objective_stands_in_for_an_annotator(tmp_path):
    rows = pairs()
    for row in rows:
        row["objective"] = row.pop("annotator")
    test = by_name(analyze(tmp_path, rows))["annotator_permutation"]
    assert test.p_value < 0.01
    assert "The column 'objective' stands in for the annotator" in test.question
    assert "Do annotators choose differently?" not in test.question


def nested(rows, votes):
    """Let several annotators judge each pair, in place of the one named by its row."""
    for row, said in zip(rows, votes, strict=True):
        row.pop("annotator")
        row["objective"] = "helpful" if said["bold"] else "harmless"
        row["annotations"] = [{"annotator": w, "preference": float(p)} for w, p in said.items()]
    return rows


def test_several_annotators_of_one_pair_are_asked(tmp_path):
    draw = np.random.default_rng(3)
    rows, plain = pairs(60), pairs(60)
    risky = [row["reward_output_chosen"][1] > 0.5 for row in rows]
    # one likes the risky text, one the steady one, and one anything
    votes = [{"bold": r, "careful": not r, "any": draw.random() < 0.5} for r in risky]
    test = by_name(analyze(tmp_path, nested(rows, votes)))["answers_within_items"]
    assert test.question == "Do annotators choose differently?"
    assert test.p_value == pytest.approx(1 / 200)
    assert (test.votes, test.annotators) == (180, 3)
    assert test.parts["stddev"] == test.p_value
    assert min(test.parts["reward"], test.parts["length"]) > 0.05
    # a row for each vote, whose chosen side is the one that was preferred, is the same question
    flat = []
    for row, said in zip(rows, votes, strict=True):
        for who, risky_chosen in said.items():
            own = {name: value for name, value in row.items() if name != "annotations"}
            if not risky_chosen:
                own["chosen"], own["rejected"] = row["rejected"], row["chosen"]
                own["reward_output_chosen"] = row["reward_output_rejected"]
                own["reward_output_rejected"] = row["reward_output_chosen"]
            flat.append({**own, "annotator": who})
    apart = by_name(analyze(tmp_path, flat))["answers_within_items"]
    assert apart.statistic == pytest.approx(test.statistic)
    assert apart.p_value == test.p_value
    alike = [dict.fromkeys(each, draw.random() < 0.5) for each in votes]
    assert by_name(analyze(tmp_path, nested(plain, alike))) == {}  # nothing can change places


def test_who_judged_is_not_tested_where_it_is_what_was_judged(tmp_path):
    rows = pairs(60)
    for row in rows:
        row["data_subset"] = row["annotator"]
    assert "annotator_permutation" not in by_name(analyze(tmp_path, rows))
    rows[0]["data_subset"] = rows[1]["data_subset"] = "both"
    rows[0]["annotator"], rows[1]["annotator"] = "bold", "careful"
    assert "annotator_permutation" in by_name(analyze(tmp_path, rows))


def test_a_common_sigma_is_tested_where_rewards_vary(tmp_path):
    assert "common_sigma" not in by_name(analyze(tmp_path, pairs(60)))  # 4 + ¼ in every pair
    rows = pairs(60)
    for number, row in enumerate(rows):
        row["reward_output_rejected"] = raw(0.1, 0.2 + number % 5)
    assert "common_sigma" in by_name(analyze(tmp_path, rows))
    certain = [
        {**row, "reward_output_chosen": [1.0], "reward_output_rejected": [0.0]} for row in pairs(30)
    ]
    assert "common_sigma" not in by_name(analyze(tmp_path, certain))


def test_calibration_bins_hold_every_pair_once(tmp_path):
    found = analyze(tmp_path, pairs())
    bins = found.calibration["bins"]
    assert sum(each["n"] for each in bins) == 400
    for each in bins:
        assert 0.5 <= each["low"] <= each["predicted"] <= each["high"] <= 1
    error = sum(each["n"] * abs(each["observed"] - each["predicted"]) for each in bins) / 400
    assert found.calibration["ece"].estimate == pytest.approx(error)
    brier = found.groups[0].intervals["brier"].estimate
    assert found.calibration["brier"].estimate == pytest.approx(brier)


def test_groups_by_any_column_and_by_length(tmp_path):
    rows = pairs(40, round=["1", "2"], data_subset=["helpful"])
    found = analyze(tmp_path, rows, by=["round,length_bin"])
    names = {tuple(group.labels) for group in found.groups}
    assert names == {(), ("round",), ("length_bin",), ("round", "length_bin")}
    sizes = {
        group.labels["round"]: group.record.n
        for group in found.groups
        if list(group.labels) == ["round"]
    }
    assert sizes == {"1": 20, "2": 20}
    quarters = [g.record.n for g in found.groups if list(g.labels) == ["length_bin"]]
    assert sum(quarters) == 40
    assert len(quarters) == 4
    with pytest.raises(ConfigError, match="--by colour"):
        analyze(tmp_path, rows, by=["colour"])


def test_of_very_many_values_the_rarest_are_one_group(tmp_path):
    values = [f"v{number % 60}" for number in range(150)]
    found = analyze(tmp_path, pairs(150, worker=values), by=["worker"])
    sizes = [g.record.n for g in found.groups if g.labels]
    assert len(sizes) == 51
    assert sum(sizes) == 150
    assert found.groups[1].labels["worker"] == "(all others)"


def test_the_frontier_is_the_accuracy_and_the_unsafe_rate_at_every_level(tmp_path):
    rows = pairs(data_subset=["helpful", "harmless"])
    found = analyze(tmp_path, rows, risk=["mean", "quantile:0.01", "cvar:0.1"])
    points = {point.name: point for point in found.frontier}
    assert len(points) == 1 + 2 * len(ALPHAS)
    groups = {group.labels.get("data_subset"): group.record for group in found.groups}
    for name, own in (("mean", "mean"), ("quantile:0.01:bins", "quantile:0.01"), ("cvar:0.1",) * 2):
        point = points[name]
        assert point.accuracy.estimate == pytest.approx(groups["helpful"].accuracy_at[own].share)
        unsafe = 1 - groups["harmless"].accuracy_at[own].share
        assert point.unsafe.estimate == pytest.approx(unsafe)
        assert point.unsafe.low < point.unsafe.estimate < point.unsafe.high
    for number, row in enumerate(rows):
        row["objective"] = "harmless" if number % 4 == 1 else "helpful"
    found = analyze(tmp_path, rows)
    groups = {tuple(group.labels.values()): group.record for group in found.groups}
    judged = groups["harmless", "harmless"].accuracy_at["mean"]
    assert judged.total == 100
    assert found.frontier[0].unsafe.estimate == pytest.approx(1 - judged.share)
    plain = analyze(tmp_path, pairs(60)).frontier[0]
    assert plain.unsafe is None
    assert plain.accuracy is not None


def test_caution_is_tested_on_the_same_rows(tmp_path, capsys):
    generator = np.random.default_rng(5)
    rows = [
        {
            "prompt": f"p{number}",
            "responses": ["safe", "risky"],
            "reward_outputs_m": [raw(0, 0.3), raw(generator.normal(0.3), 1.0)],
        }
        for number in range(120)
    ]
    files = [write(tmp_path / "responses.jsonl", rows)]
    analysis = score_analysis.run(AnalyzeConfig(files=files, resamples=199))
    (found,) = analysis.analyses
    mean = np.array([row["reward_outputs_m"][1][0] >= 0 for row in rows])
    cautious = np.array(
        [row["reward_outputs_m"][1][0] + stats.norm.ppf(0.01) * 0.7 >= 0 for row in rows]
    )
    (test,) = found.tests
    lost, gained = int((mean & ~cautious).sum()), int((cautious & ~mean).sum())
    assert test.p_value == pytest.approx(stats.binomtest(gained, gained + lost).pvalue)
    assert test.statistic == gained - lost
    rates = found.groups[0].intervals["second_at_least"]
    assert rates["quantile:0.01"].estimate == pytest.approx(cautious.mean())
    assert {point.name: point for point in found.frontier}["mean"].unsafe == rates["mean"]
    print_analysis(analysis)
    printed = capsys.readouterr().out
    assert "By quantile:0.01, is the second response" in printed
    assert "120 prompts" in printed


def test_contexts_are_found_where_they_are_asked_for(tmp_path, capsys):
    rows = pairs(300)
    for number, row in enumerate(rows):
        contested = number % 3 == 0
        topic = "pick a lock open a safe" if contested else "bake bread with flour"
        row["prompt"] = f"Human: how to {topic} {number % 30}?\n\nAssistant:"
        row["reward_output_chosen"] = raw(0.1 * (number % 7), 3.0 if contested else 0.3)
        row["reward_output_rejected"] = raw(0, 3.0 if contested else 0.3)
    files = [write(tmp_path / "scores.jsonl", rows)]
    analysis = score_analysis.run(AnalyzeConfig(files=files, contexts=True, resamples=99))
    first, *others = analysis.analyses[0].contexts["clusters"]
    assert "lock" in first["terms"]
    assert first["variance_share"] == pytest.approx(100 * 9 / (100 * 9 + 200 * 0.09), rel=1e-3)
    assert first["mean_variance"] > 10 * max(other["mean_variance"] for other in others)
    print_analysis(analysis)
    assert "Where the variance lies" in capsys.readouterr().out
    assert analyze(tmp_path, rows).contexts is None


def test_large_files_are_sampled_in_order():
    assert sample_rows(100, 0).tolist() == list(range(100))
    rows = sample_rows(1_000_000, 3)
    assert len(rows) == 20_000
    assert (np.diff(rows) > 0).all()
    assert rows.tolist() == sample_rows(1_000_000, 3).tolist()


def test_files_in_the_style_of_a_benchmark_have_sections(tmp_path, capsys):
    rows = [
        {
            "id": str(number),
            "prompt": f"p{number}",
            "subset": "xstest-should-refuse" if number % 2 else "hep-python",
            "scores_chosen": float(number % 3),
            "scores_rejected": 0.5,
        }
        for number in range(24)
    ]
    files = [write(tmp_path / "bench.jsonl", rows)]
    analysis = score_analysis.run(AnalyzeConfig(files=files, resamples=99))
    assert analysis.analyses == []
    (found,) = analysis.sections
    assert (found.style, found.ties) == ("reward-bench", 0)
    shares = {r.section: r.accuracy["accuracy"].estimate for r in found.records if not r.subset}
    assert shares["Safety"] == pytest.approx(2 / 3)
    assert analysis.to_dict()["sections"][0]["records"][0]["section"] == "all"
    print_analysis(analysis)
    assert "66.7 %" in capsys.readouterr().out
    for row in rows:
        row["reward_output_chosen"] = [row.pop("scores_chosen")]
        row["reward_output_rejected"] = [row.pop("scores_rejected")]
    write(tmp_path / "bench.jsonl", rows)
    both = score_analysis.run(AnalyzeConfig(files=files, resamples=99))
    assert both.analyses[0].groups[0].record.accuracy.share == pytest.approx(2 / 3)
    assert len(both.sections) == 1


def test_two_parts_of_a_file_are_compared(tmp_path, capsys):
    rows = pairs(200, data_subset=["helpful", "harmless"], round=["1", "2", "3"])
    for number, row in enumerate(rows):
        row["prompt"] = f"p{number // 2}"  # each prompt has a row of either part
        row["reward_output_rejected"][0] = row["reward_output_chosen"][0] - 0.5 + number % 2
    files = [write(tmp_path / "scores.jsonl", rows)]
    analysis = score_analysis.run(
        AnalyzeConfig(files=files, by=["data_subset", "round"], resamples=199)
    )
    (found,) = analysis.analyses[0].subset_differences  # of round, which has three values, none
    assert (found.column, found.first, found.second) == ("data_subset", "harmless", "helpful")
    groups = {g.labels.get("data_subset"): g.intervals for g in analysis.analyses[0].groups[:3]}
    for metric in ("accuracy", "loss", "brier", "r2", "r2_within"):
        expected = groups["helpful"][metric].estimate - groups["harmless"][metric].estimate
        assert found.differences[metric].estimate == pytest.approx(expected)
    assert found.differences["accuracy"].estimate == 1
    assert found.differences["loss"].high < 0
    print_analysis(analysis)
    assert "data_subset helpful minus harmless: accuracy +1.000" in capsys.readouterr().out


def test_borda_counts_of_responses(tmp_path, capsys):
    rows = [
        {
            "prompt": f"p{number}",
            "reward_outputs_m": [raw(0, 1.0), raw(0.5, 1.0), raw(2 - 4 * (number % 2), 1.0)],
        }
        for number in range(20)
    ]
    files = [write(tmp_path / "responses.jsonl", rows)]
    analysis = score_analysis.run(AnalyzeConfig(files=files, resamples=99))
    found = analysis.analyses[0].borda
    assert found["rows"] == 20
    assert found["best_by_mean"].estimate == 1
    first, second, third = (each.estimate for each in found["by_place"])

    def beats(gap):
        return stats.norm.cdf(gap / math.sqrt(2))

    assert first == pytest.approx((beats(-0.5) + (beats(-2) + beats(2)) / 2) / 2)
    assert second == pytest.approx((beats(0.5) + (beats(-1.5) + beats(2.5)) / 2) / 2)
    assert first + second + third == pytest.approx(1.5)
    print_analysis(analysis)
    assert "Borda counts of 20 rows" in capsys.readouterr().out
    rows[0]["reward_outputs_m"].pop()
    write(tmp_path / "responses.jsonl", rows)
    ragged = score_analysis.run(AnalyzeConfig(files=files, resamples=99)).analyses[0].borda
    assert ragged["by_place"] == []
    assert ragged["rows"] == 20
    single = [{"reward_outputs_m": [raw(0, 1.0)]}] * 6
    write(tmp_path / "responses.jsonl", single)
    alone = score_analysis.run(AnalyzeConfig(files=files, resamples=99)).analyses[0]
    assert alone.borda is None
