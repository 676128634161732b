from __future__ import annotations

import numpy as np
import pytest

from check import people
from hidden_context.cli.main import main
from hidden_context.data.importers import read_row
from hidden_context.data.votes.observed import Observing, observed
from hidden_context.report.terminal.metrics import print_baselines, print_metrics, split_by_group
from hidden_context.report.terminal.observed import observed_lines
from support.score_rows import write

METRICS = {
    "loss": 0.69314,
    "accuracy": 0.5,
    "reward_mean": 1.25,
    "data_subset_helpful_loss": 0.25,
    "data_subset_helpful_accuracy": 1.0,
    "objective_[/red]_loss": 0.75,
    "steps": 3.0,
}


@pytest.fixture
def lines(capsys):
    """What is printed, in lines with single spaces."""
    return lambda: [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]


def test_metrics_are_sorted_by_group():
    assert split_by_group(METRICS) == {
        "all": {"loss": 0.69314, "accuracy": 0.5, "reward_mean": 1.25},
        "data_subset helpful": {"loss": 0.25, "accuracy": 1.0},
        "objective [/red]": {"loss": 0.75},
    }


def test_the_table_has_a_row_per_group_and_only_columns_that_are_there(lines):
    print_metrics(METRICS, "pairs")
    assert [line for line in lines() if line and "──" not in line] == [
        "pairs",
        "examples loss (nats) accuracy mean reward",
        "all 0.6931 0.5000 1.2500",
        "data_subset helpful 0.2500 1.0000 –",
        "objective [/red] 0.7500 – –",  # brackets in data are text, not styles
    ]
    print_metrics({"loss": 0.5, "reward_stddev": 2.0, "r2": 0.25}, "pairs")
    found = lines()
    assert "examples loss (nats) mean σ r²" in found
    assert "all 0.5000 2.0000 0.2500" in found


def test_the_causes_of_variance_have_a_table_of_their_own(lines):
    causes = {"shared_context_share": 0.5, "noise_share": 0.375, "ignorance_share": 0.125}
    of_group = {f"objective_helpful_{name}": value for name, value in causes.items()}
    print_metrics({"loss": 0.5, **causes, "objective_helpful_loss": 0.25, **of_group}, "pairs")
    found = lines()
    assert "all 0.5000" in found
    assert "examples shared context noise ignorance" in found
    assert "all 50.0 % 37.5 % 12.5 %" in found
    assert "objective helpful 50.0 % 37.5 % 12.5 %" in found
    print_metrics({"loss": 0.5, "unsplit_share": 0.75, "ignorance_share": 0.25}, "pairs")
    assert "examples shared context and noise ignorance" in lines()


def test_baselines_have_a_row_each(lines):
    print_baselines(
        {
            "constant": {"loss": 0.69314, "accuracy": 0.5, "brier": 0.25},
            "probe": {"loss": 0.5, "accuracy": 0.75, "brier": 0.2, "contested_auroc": 0.625},
        }
    )
    found = lines()
    assert "model nats per vote accuracy Brier contested AUROC" in found
    assert "constant 0.6931 0.5000 0.2500 –" in found
    assert "probe 0.5000 0.7500 0.2000 0.6250" in found
    print_baselines({})
    assert lines() == []


def rows(rate=False):
    """Six people on each of forty pairs or texts, of whom the first is always in the middle."""
    rng = np.random.default_rng(0)
    found = []
    for number in range(40):
        said = {f"secret{n}": v for n, v in enumerate([0.5, *rng.choice([0.0, 1.0], 5)])}
        if rate:
            said = {who: 1 + 4 * share for who, share in said.items()}
        found.append((people.rated if rate else people.pair)(number, said))
    return found


def test_inspect_says_in_short_what_votes_show(tmp_path, capsys: pytest.CaptureFixture[str]):
    found = rows()
    for row in found:
        row["judgements"].append({"annotator": "late", "abstains": True})
    found[0]["judgements"].append(found[0]["judgements"][1])  # said twice
    assert main(["data", "inspect", write(tmp_path / "votes.jsonl", found)]) == 0
    out = capsys.readouterr().out
    assert "  votes: 240 on 40 pairs, 6 each (mean 6.0); several people judged 40 of them\n" in out
    assert "  split: 100.0 % [91.2, 100.0] of the items with several people; unanimous 0.0" in out
    line = next(line for line in out.splitlines() if "two people answer differently" in line)
    assert "Krippendorff's α" in line
    assert "  annotators: 6, 40 votes each (median 40)\n" in out
    ready = next(line for line in out.splitlines() if line.startswith("    says equal, on the av"))
    assert ready.endswith("; 1 annotator clearly more often, 0 clearly less")
    assert "do annotators choose differently (within items)? p = 0.002 (how far" in out
    assert "readiness to say equal p = 0.002" in out
    assert "repeated: 1 answer to texts that the annotator had judged; 100.0 % the" in out
    assert "  abstentions: 40 (not counted as votes)\n" in out
    assert "secret" not in out


def test_ratings_have_their_own_words():
    examples = [read_row(row) for row in rows(rate=True)]
    lines = observed_lines(observed(examples, options=Observing(test_resamples=99)))
    assert lines[0].startswith("ratings: 240 from 1 to 5; above 3 they count as high; two people's")
    assert lines[1].startswith("votes: 240 on 40 rated responses, 6 each")
    assert any(line.startswith("  rates high, on the average item: typically") for line in lines)
    assert any("readiness to rate in the middle p = 0.010" in line for line in lines)
    alone = [{**row, "ratings": row["ratings"][:1]} for row in rows(rate=True)]
    few = observed_lines(observed([read_row(row) for row in alone]))
    assert few[0] == "ratings: 40 from 3 to 3; above 3 they count as high"
    assert few[2:] == [
        "No item was judged by several people, so disagreement cannot be measured.",
        "Fewer than five annotators are named, so annotators are not compared.",
    ]


def test_a_share_without_an_interval_is_written_alone():
    example = read_row(people.pair(0, {f"w{n}": n % 2 for n in range(6)}))
    lines = observed_lines(observed([example], options=Observing(test_resamples=9)))
    (split,) = (line for line in lines if line.startswith("split: "))
    assert split.endswith(
        "100.0 % of the items with several people; unanimous 0.0 %, all equal 0.0 %"
    )
    assert any(line.endswith("Krippendorff's α 0.00") for line in lines)
