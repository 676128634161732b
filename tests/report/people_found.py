"""What a check and an analysis find about people, in round numbers, and their pages."""

from __future__ import annotations

from dataclasses import asdict
from html.parser import HTMLParser
from typing import Any

import numpy as np

from hidden_context.analysis.analysis_file import ScoresAnalysis
from hidden_context.check import findings, results
from hidden_context.statistics.interval import Interval
from hidden_context.statistics.significance.permutation import TestResult
from support.score_rows import pair

NAN = float("nan")
FIXED = {"unit", "verdict", "topics_by", "contexts_by", "kind", "method"}


def interval(estimate: float, half: float = NAN) -> Interval:
    """Return an interval of so much on either side; none without."""
    return Interval(estimate, estimate - half, estimate + half, 0.95, "bootstrap")


def kinds() -> list[results.Kind]:
    """Six kinds of 1,000 pairs, of which 30 % are split."""
    rows = [
        ("unanimous", "all give the same answer", False, 150),
        ("majority", "most give the same answer", False, 530),
        ("conflict", "people lean apart", True, 180),
        ("mixed", "some apart, some equal", True, 90),
        ("indifference", "most find both equal", True, 30),
        ("equal", "all find both equal", False, 20),
    ]
    return [results.Kind(name, label, split, n, n / 1000) for name, label, split, n in rows]


def check(topics: int = 14, people: int = 23) -> dict[str, Any]:
    """Return a whole ``check.json``."""
    found = results.Found(
        version=results.VERSION,
        source="votes.jsonl",
        report="1,000 pairs with judgements.",
        settings=results.Settings(
            unit="pair",
            features="TF-IDF and length",
            group_by="topic",
            groups=16,
            folds=4,
            sides={"first": "first response", "equal": "equal", "second": "second response"},
            middle=None,
            anonymised=True,
            seed=7,
        ),
        answer=results.Answer(
            "disagree",
            "People disagree: they are split on 30 % of 1,000 pairs.",
            ["They split most on “topic 0”.", "In 60 % of the split pairs people lean apart."],
        ),
        observed=_observed(people),
        predicted=_predicted(topics),
        explained=_explained(),
        advice=_advice(),
        missing=["What people are like: the data name no covariates for 40 of them."],
    )
    return found.to_dict()


def _observed(people: int) -> results.Observed:
    who = [
        results.Person(f"person {n}", 10 + n, interval(0.4 - 0.03 * n, 0.1), 0.5)
        for n in range(people)
    ]
    return results.Observed(
        items=1010,
        judged=1000,
        votes=5000,
        abstentions=12,
        annotators=people,
        votes_per_item={"fewest": 4.0, "median": 5.0, "most": 6.0},
        kinds=kinds(),
        split=interval(0.3, 0.02),
        equal_votes=0.2,
        opposite=interval(0.31, 0.01),
        alpha=interval(0.24, 0.03),
        annotator_test=results.Test("Do people differ?", 0.001, "People choose differently."),
        deviation_means="how much more often than others",
        people=who,
        across_test=results.Test("Do people differ?", 0.01, "Across items people differ."),
    )


def _predicted(topics: int) -> findings.Predicted:
    item = findings.Item(
        place="line 12",
        topic="topic 0",
        prompt="Which is better?",
        responses=["The first text", "The second text"],
        first=2.0,
        equal=1.0,
        second=2.0,
        predicted=[0.4, 0.2, 0.4],
        opposite=0.5,
    )
    return findings.Predicted(
        topics_by="column",
        topics=[
            findings.Topic(
                name=f"topic {n}",
                items=70,
                votes=350,
                observed=interval(0.4 - 0.02 * n, 0.05 if n else NAN),
                predicted=interval(0.35 - 0.01 * n, 0.02),
                conflict=0.1,
                indifference=0.1,
                example="Which is better?",
            )
            for n in range(topics)
        ],
        topics_hidden=2,
        top=[item],
        scores=[
            findings.Score("model", "the model", interval(0.95, 0.02), interval(0.66, 0.02)),
            findings.Score("constant", "the same for all", interval(1.05, 0.02), interval(NAN)),
        ],
        floor=0.7,
        verdict="The model beats its baselines.",
        voters=findings.KnownVoters(
            people=20,
            votes=900,
            loss=0.9,
            nameless_loss=0.93,
            gain=interval(0.03, 0.01),
            by_habits=interval(0.02, 0.01),
            interval_by="group",
            folds=4,
            sentence="Knowing who votes lowers the loss by 0.030 nats per vote.",
        ),
    )


def _explained() -> findings.Explained:
    levels = [
        findings.Level("18-29", 12, interval(0.02, 0.03), interval(0.0, 0.01)),
        findings.Level("30+", 11, interval(-0.02, 0.03), interval(NAN)),
    ]
    age = findings.Covariate(
        name="age",
        kind="group",
        people=23,
        alike=0.52,
        unlike=0.5,
        p_value=0.02,
        p_adjusted=0.04,
        levels=levels,
        levels_hidden=1,
        sentence="Age goes with the votes.",
    )
    return findings.Explained(
        conflict_share=0.6,
        indifference_share=0.4,
        sentence="In 60 % of the split pairs people lean apart.",
        covariates=[age],
        contexts=[findings.Context("bottle, water", 3, 70, 0.4, "Which is better?")],
        contexts_by="split",
    )


def _advice() -> findings.Advice:
    mean = map(interval, (0.0, 0.3, NAN, NAN, 0.4))
    quantile = (interval(share, 0.02) for share in (0.12, 0.32, 0.52, 0.48, 0.42))
    choices = [findings.Choice("mean", *mean), findings.Choice("quantile:0.1", *quantile)]
    return findings.Advice(choices, majority_against=0.2, sentence="Choose by the mean.")


def hostile(found: Any, attack: str) -> Any:
    """Put an attack into every text of what was found."""
    if isinstance(found, dict):
        return {k: v if k in FIXED else hostile(v, attack) for k, v in found.items()}
    if isinstance(found, list):
        return [hostile(each, attack) for each in found]
    return f"{attack} {found}" if isinstance(found, str) else found


def span(estimate: float | None, half: float | None = None) -> dict[str, Any]:
    """Return an interval as JSON has it."""
    low, high = (None, None) if half is None else (estimate - half, estimate + half)
    return {"estimate": estimate, "low": low, "high": high, "level": 0.95, "method": "bootstrap"}


def topic(name: str, observed: float, predicted: float, r2_within: float | None) -> dict[str, Any]:
    """Return a topic of an analysis."""
    counts = {"column": "topic", "name": name, "items": 500, "votes": 2500}
    shares = {"observed": span(observed, 0.03), "predicted": span(predicted, 0.02)}
    return {**counts, **shares, "r2_within": r2_within}


def votes() -> dict[str, Any]:
    """Return the part ``votes`` of an analysis."""
    near, expected = (
        {"name": name, "auroc": span(area, 0.02), "minus_near_half": near, "minus_length": length}
        for name, area, near, length in (
            ("near_half", 0.65, None, span(0.05, 0.02)),
            ("expected_disagreement", 0.7, span(0.05, 0.01), span(0.1, 0.02)),
        )
    )
    point = {"shown": 5, "annotators": 12, "votes": 300, "before": 0.97, "after": 0.95}
    return {
        "items": 1010,
        "votes": 5000,
        "several": 1000,
        "equal": 900,
        "annotators": 40,
        "known": 30,
        "loss": [
            {"name": "model", "two_way": span(0.57, 0.01), "three_way": span(0.95, 0.01)},
            {"name": "floor", "two_way": span(0.5), "three_way": None},
        ],
        "annotators_known": {
            "votes": 4000,
            "annotators": 30,
            "two_way": {"population": 0.58, "own": 0.57, "difference": span(-0.01, 0.02)},
            "three_way": {"population": 0.97, "own": 0.94, "difference": span(-0.03, 0.01)},
        },
        "brier": {"model": span(0.1, 0.01), "constant": span(0.12, 0.01)},
        "disagreement": {
            "expected": span(0.39, 0.01),
            "observed": span(0.42, 0.01),
            "difference": span(-0.03, 0.01),
        },
        "spread": {"conflict": span(0.1), "same_person": span(0.2), "has_context": True},
        "kinds": list(map(asdict, kinds())),
        "contested": {
            "items": 1000,
            "contested": 300,
            "unanimous_equal": 20,
            "share": span(0.3, 0.02),
            "expected": span(0.27, 0.02),
            "measures": [near, expected],
            "halves": {
                "items": 900,
                "contested": 0.2,
                "measures": [{**near, "name": "other_half", "auroc": span(0.61, 0.02)}],
            },
        },
        "conflict": {"conflict": 180, "indifference": 30, "measures": [near, expected]},
        "spearman": span(0.4, 0.05),
        "new_annotators": {
            "way": "three_way",
            "points": [{**point, "difference": span(-0.02, 0.01)}],
        },
        "topics": [topic("fathers", 0.37, 0.33, 0.4), topic("bottles", 0.2, 0.25, 0.6)],
        "r2_within": [{"column": "topic", "groups": 2, "spearman": span(-0.8, 0.1)}],
    }


def analysis(part: dict[str, Any] | None = None, **changes: Any) -> dict[str, Any]:
    """Return an ``analysis.json`` of one set of pairs, without charts."""
    intervals = {"accuracy": span(0.7, 0.02), "loss": span(0.6, 0.02), "brier": span(0.2)}
    question = "Do annotators choose differently?"
    test = TestResult("annotator_permutation", question, 1.0, 0.002, 999, "It cannot say why.")
    head = {"type": "factor"}
    scores = ScoresAnalysis("scores.jsonl", "pairs", "", head, 0, [], clusters=100, tests=[test])
    groups = [{"labels": {}, "n": 1000, "intervals": intervals}]
    own = {"groups": groups, "votes": part, "with_objective": False, **changes}
    return {"analyses": [asdict(scores) | own], "comparisons": [], "sections": []}


def rows(size: int = 60, seed: int = 0, **columns: Any) -> list[dict[str, Any]]:
    """Return pairs of two topics with the raw outputs of a mean_and_variance head."""
    generator = np.random.default_rng(seed)
    return [
        {
            "prompt": f"Human: how to {'pick a lock' if n % 2 else 'bake bread'} {n % 20}?",
            "chosen": f"yes {n}",
            "rejected": "no",
            "data_subset": "harmless" if n % 2 else "helpful",
            **pair([float(generator.normal(0.5)), 2.0 if n % 2 else -2.0], [0.0, 0.0]),
            **columns,
        }
        for n in range(size)
    ]


HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>{{ 7*7 }}<!--\ud800"


class Page(HTMLParser):
    """A page as a browser reads it: its tags, scripts and policy, and the text that is shown."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.scripts: list[tuple[dict[str, str | None], str]] = []
        self.feed(html)
        self.visible = " ".join(" ".join(self.text).split())
        equivalents = {attrs.get("http-equiv"): attrs.get("content") for _, attrs in self.tags}
        self.policy = str(equivalents["Content-Security-Policy"])
        self.code = [s for attrs, s in self.scripts if attrs.get("id") in (None, "plotly")]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note a tag."""
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        """Note a text as the script, or as shown."""
        if self.cdata_elem is None:
            self.text.append(data)
        elif self.cdata_elem == "script":
            self.scripts.append((self.tags[-1][1], data))

    def script(self, name: str) -> str:
        """Return the script of an id."""
        return next(text for attrs, text in self.scripts if attrs.get("id") == name)


def expect_in_order(text: str, parts: list[str]) -> None:
    """Check that all parts stand in a text, in this order."""
    places = [text.find(part) for part in parts]
    assert -1 not in places, parts[places.index(-1)]
    assert places == sorted(places)
