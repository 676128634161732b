import numpy as np
import pytest
from scipy import stats

from hidden_context.analysis.analysis_file import to_json
from hidden_context.analysis.config import AnalyzeConfig
from hidden_context.analysis.measure.choices import ALPHAS
from hidden_context.errors import ConfigError, DataError
from support.score_rows import normal as raw
from support.score_rows import pair, write


def of(analyze, rows, **options):
    return analyze(rows, **options).analyses[0]


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
                **pair(chosen, rejected),
                **{name: values[number % len(values)] for name, values in columns.items()},
            }
        )
    return rows


def by_name(analysis):
    return {test.name: test for test in analysis.tests}


def test_who_judged_is_tested_where_it_is_known(analyze):
    found = by_name(of(analyze, pairs()))
    assert found["annotator_permutation"].p_value == pytest.approx(1 / 200)
    rows = pairs()
    who = [row.pop("annotator") for row in rows]
    assert "annotator_permutation" not in by_name(of(analyze, rows))
    for row, name in zip(rows, np.random.default_rng(1).permutation(who), strict=True):
        row["annotator"] = str(name)
    assert by_name(of(analyze, rows))["annotator_permutation"].p_value > 0.05
    for row, name in zip(rows, who, strict=True):  # the objective stands in for an annotator
        del row["annotator"]
        row["objective"] = name
    test = by_name(of(analyze, rows))["annotator_permutation"]
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


def test_several_annotators_of_one_pair_are_asked(analyze):
    draw = np.random.default_rng(3)
    rows, plain = pairs(60), pairs(60)
    risky = [row["reward_output_chosen"][1] > 0.5 for row in rows]
    # one likes the risky text, one the steady one, and one anything
    votes = [{"bold": r, "careful": not r, "any": draw.random() < 0.5} for r in risky]
    test = by_name(of(analyze, nested(rows, votes)))["answers_within_items"]
    assert test.question == "Do annotators choose differently?"
    assert test.p_value == pytest.approx(1 / 200)
    assert (test.votes, test.annotators) == (180, 3)
    assert test.parts["stddev"] == test.p_value
    assert min(test.parts["reward"], test.parts["length"]) > 0.05
    alike = [dict.fromkeys(each, draw.random() < 0.5) for each in votes]
    assert by_name(of(analyze, nested(plain, alike))) == {}  # nothing can change places


def test_who_judged_is_not_tested_where_it_is_what_was_judged(analyze):
    rows = pairs(60)
    for row in rows:
        row["data_subset"] = row["annotator"]
    assert "annotator_permutation" not in by_name(of(analyze, rows))
    rows[0]["data_subset"] = rows[1]["data_subset"] = "both"
    rows[0]["annotator"], rows[1]["annotator"] = "bold", "careful"
    assert "annotator_permutation" in by_name(of(analyze, rows))


def test_a_common_sigma_is_tested_where_rewards_vary(analyze):
    assert "common_sigma" not in by_name(of(analyze, pairs(60)))  # 4 + ¼ in every pair
    rows = pairs(60)
    for number, row in enumerate(rows):
        row["reward_output_rejected"] = raw(0.1, 0.2 + number % 5)
    assert "common_sigma" in by_name(of(analyze, rows))
    certain = [row | pair([1.0], [0.0]) for row in pairs(30)]
    assert "common_sigma" not in by_name(of(analyze, certain))


def test_calibration_bins_hold_every_pair_once(analyze):
    found = of(analyze, pairs())
    assert sum(each["n"] for each in found.calibration["bins"]) == 400
    brier = found.groups[0].intervals["brier"].estimate
    assert found.calibration["brier"].estimate == pytest.approx(brier)


def test_groups_by_any_column_and_by_length(analyze):
    rows = pairs(40, round=["1", "2"], data_subset=["helpful"])
    found = of(analyze, rows, by=["round,length_bin"])
    sizes = {}
    for group in found.groups:
        sizes.setdefault(tuple(group.labels), []).append(group.record.n)
    assert list(sizes) == [(), ("round",), ("length_bin",), ("round", "length_bin")]
    assert sizes[("round",)] == [20, 20]
    assert (len(sizes[("length_bin",)]), sum(sizes[("length_bin",)])) == (4, 40)
    with pytest.raises(ConfigError, match="--by colour"):
        of(analyze, rows, by=["colour"])


def test_of_very_many_values_the_rarest_are_one_group(analyze):
    values = [f"v{number % 60}" for number in range(150)]
    found = of(analyze, pairs(150, worker=values), by=["worker"])
    sizes = [g.record.n for g in found.groups if g.labels]
    assert (len(sizes), sum(sizes)) == (51, 150)
    assert found.groups[1].labels["worker"] == "(all others)"


def test_the_frontier_is_the_accuracy_and_the_unsafe_rate_at_every_level(analyze):
    rows = pairs(data_subset=["helpful", "harmless"])
    found = of(analyze, rows, risk=["mean", "quantile:0.01", "cvar:0.1"])
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
    found = of(analyze, rows)
    groups = {tuple(group.labels.values()): group.record for group in found.groups}
    judged = groups["harmless", "harmless"].accuracy_at["mean"]
    assert judged.total == 100
    assert found.frontier[0].unsafe.estimate == pytest.approx(1 - judged.share)
    plain = of(analyze, pairs(60)).frontier[0]
    assert plain.unsafe is None
    assert plain.accuracy is not None


def test_caution_is_tested_on_the_same_rows(analyze, printed):
    gaps = np.random.default_rng(5).normal(0.3, size=120)
    rows = [
        {"prompt": f"p{number}", "reward_outputs_m": [raw(0, 0.3), raw(gap, 1.0)]}
        for number, gap in enumerate(gaps)
    ]
    analysis = analyze(rows)
    (found,) = analysis.analyses
    mean, cautious = gaps >= 0, gaps + stats.norm.ppf(0.01) * 0.7 >= 0
    (test,) = found.tests
    lost, gained = int((mean & ~cautious).sum()), int((cautious & ~mean).sum())
    assert test.statistic == gained - lost
    rates = found.groups[0].intervals["second_at_least"]
    assert rates["quantile:0.01"].estimate == pytest.approx(cautious.mean())
    assert {point.name: point for point in found.frontier}["mean"].unsafe == rates["mean"]
    text = printed(analysis)
    assert "equally often by quantile:0.01 and by mean? p = " in text
    assert "120 prompts" in text


def test_contexts_are_found_where_they_are_asked_for(analyze, printed):
    rows = pairs(300)
    for number, row in enumerate(rows):
        contested = number % 3 == 0
        topic = "pick a lock open a safe" if contested else "bake bread with flour"
        row["prompt"] = f"Human: how to {topic} {number % 30}?\n\nAssistant:"
        row["reward_output_chosen"] = raw(0.1 * (number % 7), 3.0 if contested else 0.3)
        row["reward_output_rejected"] = raw(0, 3.0 if contested else 0.3)
    analysis = analyze(rows, contexts=True)
    first, *others = analysis.analyses[0].contexts["clusters"]
    assert "lock" in first["terms"]
    assert first["mean_variance"] > 10 * max(other["mean_variance"] for other in others)
    assert "Where the variance lies" in printed(analysis)
    assert of(analyze, rows).contexts is None


def test_two_parts_of_a_file_are_compared(analyze, printed):
    rows = pairs(200, data_subset=["helpful", "harmless"], round=["1", "2", "3"])
    for number, row in enumerate(rows):
        row["prompt"] = f"p{number // 2}"  # each prompt has a row of either part
        row["reward_output_rejected"][0] = row["reward_output_chosen"][0] - 0.5 + number % 2
    analysis = analyze(rows, by=["data_subset", "round"])
    (found,) = analysis.analyses[0].subset_differences  # of round, which has three values, none
    assert (found.column, found.first, found.second) == ("data_subset", "harmless", "helpful")
    groups = {g.labels.get("data_subset"): g.intervals for g in analysis.analyses[0].groups[:3]}
    for metric in ("accuracy", "loss", "brier", "r2", "r2_within"):
        expected = groups["helpful"][metric].estimate - groups["harmless"][metric].estimate
        assert found.differences[metric].estimate == pytest.approx(expected)
    assert found.differences["accuracy"].estimate == 1
    assert found.differences["loss"].high < 0
    assert "data_subset helpful minus harmless: accuracy +1.000" in printed(analysis)


def test_borda_counts_of_responses(analyze, printed):
    rows = [
        {"prompt": f"p{number}", "reward_outputs_m": [raw(x, 1.0) for x in (0, 0.5, far)]}
        for number, far in enumerate([2, -2] * 10)
    ]
    analysis = analyze(rows)
    found = analysis.analyses[0].borda
    assert found["rows"] == 20
    assert found["best_by_mean"].estimate == 1
    first, second, third = (each.estimate for each in found["by_place"])
    assert first < 0.5 < second
    assert first + second + third == pytest.approx(1.5)
    assert "Borda counts of 20 rows" in printed(analysis)
    rows[0]["reward_outputs_m"].pop()
    ragged = of(analyze, rows).borda
    assert (ragged["rows"], ragged["by_place"]) == (20, [])
    assert of(analyze, [{"reward_outputs_m": [raw(0, 1.0)]}] * 6).borda is None


def rows_of(gaps):
    return [
        {"prompt": f"p{number // 2}", "chosen": f"yes {number}", "rejected": "no"}
        | pair([float(gap)], [0.0])
        for number, gap in enumerate(gaps)
    ]


@pytest.fixture
def gaps():
    generator = np.random.default_rng(0)
    return generator.normal(0.3, 1, size=200), generator.normal(0.3, 1, size=200)


@pytest.fixture
def compare(tmp_path, analyze):
    """Compare the models that scored two sets of rows."""
    return lambda first, second: analyze(
        compare=[write(tmp_path / "a.jsonl", first), write(tmp_path / "b.jsonl", second)]
    )


def test_the_second_model_minus_the_first_on_the_same_pairs(compare, gaps, printed):
    first, second = gaps
    analysis = compare(rows_of(first), rows_of(second + 0.8))
    (found,) = analysis.comparisons
    assert (found.pairs, found.clusters) == (200, 100)
    by_name = {each.metric: each for each in found.differences}
    at = ["accuracy_at/mean", "accuracy_at/quantile:0.01"]
    assert list(by_name) == ["accuracy", "loss", "brier", *at]
    accuracy = by_name["accuracy"]
    assert accuracy.first == pytest.approx((first > 0).mean())
    assert accuracy.second == pytest.approx((second > -0.8).mean())
    assert accuracy.difference.estimate == pytest.approx(accuracy.second - accuracy.first)
    assert accuracy.difference.low > 0
    assert accuracy.p_value == pytest.approx(1 / 200)
    assert by_name["loss"].difference.high < 0
    assert accuracy.difference.level == 0.95
    saved = to_json(analysis)
    assert [each["file"] for each in saved["analyses"]] == analysis.config.compare
    assert saved["comparisons"][0]["second"] == analysis.config.compare[1]
    text = printed(analysis)
    assert "b.jsonl against" in text
    assert f"{accuracy.difference.estimate:+.4f} [" in text


def test_rows_that_either_left_out_are_left_out_of_both(compare, gaps):
    first, second = rows_of(gaps[0]), rows_of(gaps[1])
    first[3]["reward_output_chosen"] = None
    second[8]["reward_output_rejected"] = None
    (found,) = compare(first, second).comparisons
    assert found.pairs == 198
    kept = np.delete(gaps[1], [3, 8])
    assert found.differences[0].second == pytest.approx((kept > 0).mean())


def test_other_texts_or_labels_in_a_row_are_refused(compare, gaps):
    first, second = rows_of(gaps[0]), rows_of(gaps[1])
    second[4]["chosen"] = "something else"
    with pytest.raises(DataError, match=r"b\.jsonl.*line 5.*other texts than"):
        compare(first, second)
    second = rows_of(gaps[1])
    second[6]["preference"] = 0.0
    with pytest.raises(DataError, match=r"b\.jsonl.*line 7.*label"):
        compare(first, second)
    with pytest.raises(DataError, match="no row has rewards"):
        compare(
            [*first[:1], {**first[1], "reward_output_chosen": None}],
            [{**second[0], "reward_output_chosen": None}, second[1]],
        )


def test_two_files_of_one_model_each_are_needed(compare, gaps):
    for files in (["a.jsonl"], ["a.jsonl", "a.jsonl"]):
        with pytest.raises(ConfigError, match="two score files"):
            AnalyzeConfig(compare=files)
    with pytest.raises(ConfigError, match=r"level is 0\.4; it has to be at least 0.5 and below 1"):
        AnalyzeConfig(files=["a.jsonl"], level=0.4)
    sides = {"reward_output_chosen": [1.0], "reward_output_rejected": [0.0]}
    several = [{f"{name}_{model}": raw for name, raw in sides.items() for model in "xy"}]
    with pytest.raises(DataError, match="scored by 2 models"):
        compare(several, rows_of(gaps[1]))
