"""Score files held against their votes: nested or a row each, by topic, printed and written."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from rich.console import Console
from scipy import stats

from hidden_context import heads
from hidden_context.analysis import score_analysis
from hidden_context.analysis.config import AnalyzeConfig
from hidden_context.analysis.earlier import upgraded
from hidden_context.analysis.tables import print_analysis
from hidden_context.analysis.votes import MEASURES
from hidden_context.likelihood import LikelihoodOptions, make_likelihood
from hidden_context.models.head_file import HeadFile
from hidden_context.models.likelihood_file import save_likelihood

NOISE = math.sqrt(0.5)
PEOPLE = 9


def raw(mean, sigma):
    return [float(mean), math.log(math.expm1(sigma))]


def item_rows(size=300, seed=4, **columns):
    """Pairs whose gap says how often each of nine annotators prefers the chosen side."""
    generator = np.random.default_rng(seed)
    rows = []
    for number in range(size):
        gap = generator.normal()
        votes = generator.random(PEOPLE) < stats.norm.cdf(gap)
        rows.append(
            {
                "prompt": f"question {number}",
                "chosen": "x" * int(generator.integers(1, 50)),
                "rejected": "y" * int(generator.integers(1, 50)),
                "reward_output_chosen": raw(gap, NOISE),
                "reward_output_rejected": raw(0, NOISE),
                "annotations": [
                    {"preference": int(vote), "annotator": f"a{n}"} for n, vote in enumerate(votes)
                ],
                **{name: values[number % len(values)] for name, values in columns.items()},
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


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def analyze(tmp_path, rows, **options):
    files = [write(tmp_path / "scores.jsonl", rows)]
    return score_analysis.run(AnalyzeConfig(files=files, resamples=199, **options))


def votes_of(tmp_path, rows, **options):
    return analyze(tmp_path, rows, **options).analyses[0].votes


@pytest.fixture
def rows():
    return item_rows()


def test_votes_are_held_against_probabilities(tmp_path, rows):
    found = votes_of(tmp_path, rows).metrics
    assert (found.items, found.votes, found.several, found.annotators) == (300, 2700, 300, 9)
    loss = {row.name: row.two_way for row in found.loss}
    assert list(loss) == ["model", "constant", "floor"]
    assert loss["floor"].estimate < loss["model"].estimate < loss["constant"].estimate
    assert found.spearman.estimate > 0.8
    near = {each.name: each for each in found.contested.measures}["near_half"]
    assert near.auroc.low > 0.6
    assert near.minus_length.estimate == pytest.approx(
        near.auroc.estimate
        - {each.name: each for each in found.contested.measures}["length"].auroc.estimate
    )
    # a probit model of its own world expects what happens
    assert found.disagreement.difference.low < 0 < found.disagreement.difference.high
    assert not found.spread.has_context
    assert found.known == 0


def test_a_row_for_each_vote_gives_the_same_numbers(tmp_path, rows):
    nested, flat = (votes_of(tmp_path, each).metrics for each in (rows, apart(rows)))
    for name in ("items", "votes", "several", "annotators", "kinds"):
        assert getattr(nested, name) == getattr(flat, name)
    for one, other in zip(nested.loss, flat.loss, strict=True):
        assert one.two_way.estimate == pytest.approx(other.two_way.estimate)
    assert nested.brier["model"].estimate == pytest.approx(flat.brier["model"].estimate)
    assert nested.spearman.estimate == pytest.approx(flat.spearman.estimate)
    for one, other in zip(nested.contested.measures, flat.contested.measures, strict=True):
        assert one.auroc.estimate == pytest.approx(other.auroc.estimate)


def test_single_votes_by_nobody_known_are_not_held_against_anything(tmp_path, rows):
    for row in rows[:20]:
        row["annotations"] = row["annotations"][:1]
    assert votes_of(tmp_path, rows[:20]) is None
    for row in rows[:20]:
        del row["annotations"]
    assert votes_of(tmp_path, rows[:20]) is None
    for row in rows[:20]:  # an abstention is no second vote
        row["annotations"] = [{"preference": 1}, {"annotator": "a"}]
    assert votes_of(tmp_path, rows[:40]).metrics.several == 20


def test_topics_stand_in_the_order_in_which_they_are_contested(tmp_path):
    rows = []
    for number in range(8):
        scale = 3.0 / (1 + number)  # the later, the nearer to ½
        for row in item_rows(30, seed=number):
            mean = row["reward_output_chosen"][0] * scale
            votes = np.random.default_rng(len(rows)).random(PEOPLE) < stats.norm.cdf(mean)
            row["annotations"] = [
                {"preference": int(vote), "annotator": f"a{n}"} for n, vote in enumerate(votes)
            ]
            row |= {"topic": f"[t{number}]", "reward_output_chosen": raw(mean, NOISE)}
            row["prompt"] = f"{row['topic']}, {row['prompt']}"
            rows.append(row)
    found = votes_of(tmp_path, rows, by=["topic"])
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
    assert votes_of(tmp_path, few, by=["topic"]).topics == []
    flat = [{**row, "topic": row["annotator"]} for row in apart(rows[:40])]
    assert votes_of(tmp_path, flat, by=["topic"]).topics == []


def test_votes_by_nobody_named_count_as_people_where_one_item_has_as_many(tmp_path, rows):
    for number, row in enumerate(rows):
        row["topic"] = "ab"[number % 2]
        row["annotations"] = [{"preference": said["preference"]} for said in row["annotations"]]
    found = votes_of(tmp_path, rows, by=["topic"])
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


def test_single_votes_of_somebody_known_have_no_shares(tmp_path, rows, capsys):
    rows = with_likelihood(tmp_path, rows)
    for row in rows:
        row["annotations"] = row["annotations"][:1]
    analysis = analyze(tmp_path, rows)
    found = analysis.analyses[0].votes.metrics
    assert (found.votes, found.several, found.known) == (300, 0, 1)
    assert found.spearman is found.contested is None
    print_analysis(analysis, Console(width=200))
    printed = capsys.readouterr().out
    assert "rank correlation" not in printed
    assert "Two annotators answer differently" not in printed


def test_known_annotators_are_held_against_the_population(tmp_path, rows, capsys):
    analysis = analyze(tmp_path, with_likelihood(tmp_path, rows))
    found = analysis.analyses[0].votes.metrics
    assert (found.annotators, found.known, found.equal) == (9, 2, 300)
    assert found.annotators_known.votes == 600
    # two annotators are too few for an interval over annotators
    assert found.annotators_known.two_way.difference.method == "none"
    assert found.annotators_known.two_way.difference.estimate < -0.1
    assert [row.name for row in found.loss] == ["model", "population", "constant", "floor"]
    assert all(row.three_way is not None for row in found.loss)
    print_analysis(analysis, Console(width=200))
    printed = capsys.readouterr().out
    assert (
        "2700 votes on 300 pairs, 300 with several, 11.1 % “equal”, 9 annotators (2 known)"
        in printed
    )
    assert "Knowing 2 annotators changes the loss of their 600 votes by -" in printed
    assert "Of the variance of an answer, conflict 0." in printed


def test_new_annotators_are_predicted_after_a_few_votes(tmp_path, rows, capsys):
    analysis = analyze(tmp_path, with_likelihood(tmp_path, rows))
    found = analysis.analyses[0].votes.metrics.new_annotators
    assert found.way == "three_way"
    assert [point.shown for point in found.points] == [5, 10, 20]
    assert all(point.annotators == 7 for point in found.points)
    assert found.points[0].votes == 7 * 300
    print_analysis(analysis, Console(width=200))
    printed = " ".join(capsys.readouterr().out.split())
    assert "new annotators, three-way loss per vote (nats)" in printed
    point = found.points[2]
    assert f"20 7 2100 {point.before:.4f} {point.after:.4f}" in printed


def test_everything_is_printed_and_written(tmp_path, rows, capsys):
    for number, row in enumerate(rows):
        row["topic"] = f"t{number % 6}"
    for row in rows[::4]:  # a few on which nobody decides
        for place, said in enumerate(row["annotations"]):
            said["preference"] = 0.5 if place < 7 else said["preference"]
    output = tmp_path / "analysis.json"
    analysis = analyze(tmp_path, rows, by=["topic"], output=str(output))
    print_analysis(analysis, Console(width=200))
    printed = " ".join(capsys.readouterr().out.split())
    votes = analysis.analyses[0].votes
    assert f"{votes.metrics.loss[0].two_way.estimate:.4f} [" in printed
    assert f"Brier score {votes.metrics.brier['model'].estimate:.3f} [" in printed
    assert f"rank correlation {votes.metrics.spearman.estimate:.2f} [" in printed
    for text in (
        "loss per vote (nats)",
        "Contested: ",
        "topic=t0",
        "6 values of topic",
        "expects no",
    ):
        assert text in printed, text
    assert f"AUROC of telling conflict ({votes.metrics.conflict.conflict})" in printed
    written = json.loads(output.read_text())
    assert written["version"] == 3
    (scores,) = written["analyses"]
    assert "agreement" not in scores
    assert scores["votes"]["items"] == 300
    assert {topic["column"] for topic in scores["votes"]["topics"]} == {"topic"}
    names = {each["name"] for each in scores["votes"]["contested"]["measures"]}
    assert names <= set(MEASURES)
    assert scores["votes"]["contested"]["measures"][0]["minus_near_half"] is None
    assert upgraded(written) == written


def test_analyses_of_version_two_are_brought_to_this_one():
    shares = {"disagreement": 0.3, "noise": 0.6, "epistemic": 0.1}
    groups = [{"labels": {}, "n": 3, "variance_shares": shares}, {"labels": {}, "n": 3}]
    old = {
        "format": "hidden_context.analysis",
        "version": 2,
        "analyses": [{"kind": "pairs", "groups": groups, "agreement": {"pairs": 3}}],
        "comparisons": [],
    }
    found = upgraded(old)
    assert found["version"] == 3
    (scores,) = found["analyses"]
    assert scores["votes"] is None
    assert "agreement" not in scores
    new = {"shared_context": 0.3, "noise": 0.6, "ignorance": 0.1}
    assert [group["variance_shares"] for group in scores["groups"]] == [new, None]
    assert old["analyses"][0]["agreement"] == {"pairs": 3}  # the input is left as it was
    assert upgraded({"version": 2}) == {"version": 3, "analyses": []}
