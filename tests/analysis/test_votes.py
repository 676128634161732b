"""Score files held against their votes: nested or a row each, by topic, printed and written."""

import json
import math

import numpy as np
import pytest
import torch
from scipy import stats

from hidden_context import heads
from hidden_context.analysis.analysis_file import read_analysis
from hidden_context.analysis.measure.votes import MEASURES
from hidden_context.likelihood import LikelihoodOptions, make_likelihood
from hidden_context.models.checkpoint.head_file import HeadFile
from hidden_context.models.checkpoint.likelihood_file import save_likelihood
from support.score_rows import normal, pair

NOISE = math.sqrt(0.5)
PEOPLE = 9


def votes_for(share, generator):
    return [
        {"preference": int(generator.random() < share), "annotator": f"a{n}"} for n in range(PEOPLE)
    ]


def item_rows(size=300, seed=4):
    """Pairs whose gap says how often each of nine annotators prefers the chosen side."""
    generator = np.random.default_rng(seed)
    rows = []
    for number in range(size):
        gap = generator.normal()
        rows.append(
            {
                "prompt": f"question {number}",
                "annotations": votes_for(stats.norm.cdf(gap), generator),
                "chosen": "x" * int(generator.integers(1, 50)),
                "rejected": "y" * int(generator.integers(1, 50)),
                **pair(normal(gap, NOISE), normal(0, NOISE)),
            }
        )
    return rows


def apart(rows):
    """The same votes, one to a row; whoever prefers the other side has it as chosen."""
    found = []
    for row in rows:
        for said in row["annotations"]:
            own = {name: value for name, value in row.items() if name != "annotations"}
            if not said["preference"]:
                for name in ("{}", "reward_output_{}"):
                    one, other = name.format("chosen"), name.format("rejected")
                    own[one], own[other] = own[other], own[one]
            found.append({**own, "annotator": said["annotator"]})
    return found


def votes_of(analyze, rows, **options):
    return analyze(rows, **options).analyses[0].votes


@pytest.fixture
def rows():
    return item_rows()


def test_a_row_for_each_vote_gives_the_same_numbers(analyze, rows):
    found = [analyze(each).analyses[0] for each in (rows, apart(rows))]
    one, other = (
        next(test for test in each.tests if test.name == "answers_within_items") for each in found
    )
    assert (one.statistic, one.p_value) == (pytest.approx(other.statistic), other.p_value)
    nested, flat = (each.votes.metrics for each in found)
    assert (nested.items, nested.votes, nested.several, nested.annotators) == (300, 2700, 300, 9)
    assert nested.spearman.estimate > 0.8
    for name in ("items", "votes", "several", "annotators", "kinds"):
        assert getattr(nested, name) == getattr(flat, name)
    for one, other in zip(nested.loss, flat.loss, strict=True):
        assert one.two_way.estimate == pytest.approx(other.two_way.estimate)
    assert nested.brier["model"].estimate == pytest.approx(flat.brier["model"].estimate)
    assert nested.spearman.estimate == pytest.approx(flat.spearman.estimate)
    for one, other in zip(nested.contested.measures, flat.contested.measures, strict=True):
        assert one.auroc.estimate == pytest.approx(other.auroc.estimate)


def test_single_votes_by_nobody_known_are_not_held_against_anything(analyze, rows):
    for row in rows[:20]:
        row["annotations"] = row["annotations"][:1]
    assert votes_of(analyze, rows[:20]) is None
    for row in rows[:20]:
        del row["annotations"]
    assert votes_of(analyze, rows[:20]) is None
    for row in rows[:20]:  # an abstention is no second vote
        row["annotations"] = [{"preference": 1}, {"annotator": "a"}]
    assert votes_of(analyze, rows[:40]).metrics.several == 20


def test_topics_stand_in_the_order_in_which_they_are_contested(analyze):
    rows = []
    for number in range(8):
        scale = 3.0 / (1 + number)  # the later, the nearer to ½
        for row in item_rows(30, seed=number):
            mean = row["reward_output_chosen"][0] * scale
            generator = np.random.default_rng(len(rows))
            row["annotations"] = votes_for(stats.norm.cdf(mean), generator)
            row |= {"topic": f"[t{number}]", "reward_output_chosen": normal(mean, NOISE)}
            row["prompt"] = f"{row['topic']}, {row['prompt']}"
            rows.append(row)
    found = votes_of(analyze, rows, by=["topic"])
    shares = [topic.observed.estimate for topic in found.topics]
    assert shares == sorted(shares, reverse=True)
    assert {topic.name for topic in found.topics} == {f"[t{number}]" for number in range(8)}
    assert all(topic.items == 30 and topic.votes == 270 for topic in found.topics)
    predicted = [topic.predicted.estimate for topic in found.topics]
    assert stats.spearmanr(shares, predicted).statistic > 0.7
    (trend,) = found.r2_within
    assert (trend.column, trend.groups) == ("topic", 8)
    assert trend.spearman.estimate < -0.6
    # few people, or values that differ within an item, make no topic
    few = [{**row, "annotations": row["annotations"][:4]} for row in rows]
    assert votes_of(analyze, few, by=["topic"]).topics == []
    flat = [{**row, "topic": row["annotator"]} for row in apart(rows[:40])]
    assert votes_of(analyze, flat, by=["topic"]).topics == []


def test_votes_by_nobody_named_count_as_people_where_one_item_has_as_many(analyze, rows):
    for number, row in enumerate(rows):
        row["topic"] = "ab"[number % 2]
        row["annotations"] = [{"preference": said["preference"]} for said in row["annotations"]]
    found = votes_of(analyze, rows, by=["topic"])
    assert [topic.items for topic in found.topics] == [150, 150]
    assert found.metrics.annotators == 0
    assert found.r2_within == []


def with_likelihood(tmp_path, rows):
    """Lay a file beside the checkpoint of a factor head that knows two annotators."""
    options = LikelihoodOptions(levels=3, inference="map", names=("a0", "a1"))
    likelihood = make_likelihood(heads.make("factor", num_factors=1), options)
    with torch.no_grad():
        likelihood.annotators.location.copy_(torch.tensor([[1.5], [-1.5]]))
    save_likelihood(tmp_path, likelihood)
    HeadFile(likelihood.head).save(tmp_path)
    before = math.log(math.expm1(0.5))
    generator = np.random.default_rng(0)
    for row in rows:
        loading = generator.normal()
        row["reward_output_chosen"] = [0.1, loading, before]
        row["reward_output_rejected"] = [0.0, 0.0, before]
        row["annotations"][0]["preference"] = int(loading > 0)
        row["annotations"][1]["preference"] = int(loading < 0)
        row["annotations"][2]["preference"] = 0.5
    return rows


def test_single_votes_of_somebody_known_have_no_shares(tmp_path, rows, analyze, printed):
    rows = with_likelihood(tmp_path, rows)
    for row in rows:
        row["annotations"] = row["annotations"][:1]
    text = printed(analyze(rows))
    assert "300 votes on 300 pairs, 0 with several" in text
    assert "rank correlation" not in text
    assert "Two annotators answer differently" not in text


def test_known_and_new_annotators_are_held_against_the_population(tmp_path, rows, analyze, printed):
    analysis = analyze(with_likelihood(tmp_path, rows))
    found = analysis.analyses[0].votes.metrics
    assert (found.annotators, found.known, found.equal) == (9, 2, 300)
    assert found.annotators_known.votes == 600
    # all pairs have nine votes, so that the mean over pairs is that over votes
    record = analysis.analyses[0].groups[0].record
    assert record.loss == pytest.approx(found.loss[0].three_way.estimate)
    text = printed(analysis)
    counts = "2700 votes on 300 pairs, 300 with several, 11.1 % “equal”, 9 annotators (2 known)"
    assert counts in text
    assert "Knowing 2 annotators changes the loss of their 600 votes by -" in text
    assert "Of the variance of an answer, conflict 0." in text
    # the seven others are predicted after a few of their votes
    assert found.new_annotators.way == "three_way"
    points = found.new_annotators.points
    assert [(point.shown, point.annotators) for point in points] == [(5, 7), (10, 7), (20, 7)]
    assert points[0].votes == 7 * 300
    assert "new annotators, three-way loss per vote (nats)" in text
    assert f"20 7 2100 {points[2].before:.4f} {points[2].after:.4f}" in text


def test_everything_is_printed_and_written(tmp_path, rows, analyze, printed):
    for number, row in enumerate(rows):
        row["topic"] = f"t{number % 6}"
    for row in rows[::4]:  # a few on which nobody decides
        for place, said in enumerate(row["annotations"]):
            said["preference"] = 0.5 if place < 7 else said["preference"]
    output = tmp_path / "analysis.json"
    analysis = analyze(rows, by=["topic"], output=str(output))
    votes, text = analysis.analyses[0].votes, printed(analysis)
    for words in (
        f"{votes.metrics.loss[0].two_way.estimate:.4f} [",
        f"Brier score {votes.metrics.brier['model'].estimate:.3f} [",
        f"rank correlation {votes.metrics.spearman.estimate:.2f} [",
        f"AUROC of telling conflict ({votes.metrics.conflict.conflict})",
        *("loss per vote (nats)", "Contested: ", "topic=t0", "6 values of topic", "expects no"),
    ):
        assert words in text, words
    written = json.loads(output.read_text())
    assert written["version"] == 3
    (scores,) = written["analyses"]
    assert "agreement" not in scores
    assert scores["votes"]["items"] == 300
    assert {topic["column"] for topic in scores["votes"]["topics"]} == {"topic"}
    names = {each["name"] for each in scores["votes"]["contested"]["measures"]}
    assert names <= set(MEASURES)
    assert scores["votes"]["contested"]["measures"][0]["minus_near_half"] is None
    assert read_analysis(output) == written


def test_analyses_of_version_two_are_brought_to_this_one(tmp_path):
    shares = {"disagreement": 0.3, "noise": 0.6, "epistemic": 0.1}
    groups = [{"labels": {}, "n": 3, "variance_shares": shares}, {"labels": {}, "n": 3}]
    old = {
        "format": "hidden_context.analysis",
        "version": 2,
        "analyses": [{"kind": "pairs", "groups": groups, "agreement": {"pairs": 3}}],
        "comparisons": [],
    }
    new = {"shared_context": 0.3, "noise": 0.6, "ignorance": 0.1}
    groups = [{"labels": {}, "n": 3, "variance_shares": each} for each in (new, None)]
    analyses = [{"kind": "pairs", "groups": groups, "votes": None}]
    path = tmp_path / "analysis.json"
    path.write_text(json.dumps(old))
    assert read_analysis(path) == {**old, "version": 3, "analyses": analyses}
