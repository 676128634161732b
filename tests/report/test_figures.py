import copy
import json
import re

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.figure import Figure

from hidden_context.analysis.analysis_file import read_analysis, to_json
from hidden_context.analysis.config import AnalyzeConfig
from hidden_context.analysis.measure.choices import ALPHAS
from hidden_context.analysis.workflow import run as analyze
from hidden_context.cli import figure as command
from hidden_context.data.storage.files import to_plain
from hidden_context.errors import ConfigError, DataError, MissingFileError
from hidden_context.report.figures import panels
from hidden_context.report.figures.style import COLOURS, analysis_labels
from hidden_context.report.figures.workflow import NAMES, FigureConfig, draw, run
from report.people_found import rows
from support.score_rows import write


@pytest.fixture(scope="module")
def two_models(tmp_path_factory):
    """What analyze writes on two models of the same pairs, and their comparison."""
    folder = tmp_path_factory.mktemp("scores")
    files = [write(folder / f"{name}.jsonl", rows(90, seed)) for seed, name in enumerate("ab")]
    config = AnalyzeConfig(compare=files, head="factor", contexts=True, resamples=99)
    return to_plain(to_json(analyze(config)))


@pytest.fixture
def content(two_models):
    """The analysis of the first model and the comparison, to change."""
    return copy.deepcopy({**two_models, "analyses": two_models["analyses"][:1]})


def _without_ends(interval):
    return {**interval, "low": None, "high": None}


BARE = {"labels": {}, "n": 1, "intervals": {}, "variance_shares": None}


def _write(tmp_path, content):
    path = tmp_path / "analysis.json"
    path.write_text(json.dumps(content))
    return path


def _lines(axes, marker):
    """Lines of an axes with or without a marker, as arrays of points."""
    return [
        line.get_xydata()
        for line in axes.lines
        if (line.get_marker() not in ("None", None, "")) == marker and len(line.get_xydata())
    ]


def _legend(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]


def _rows(axes):
    return [text.get_text() for text in axes.get_yticklabels()]


def _upright(axes):
    """Intervals drawn as upright lines: their ends."""
    return [line[:, 1] for line in _lines(axes, False) if line[0, 0] == line[1, 0]]


def _horizontal(axes):
    """Intervals drawn as level lines: their ends."""
    lines = [line for line in _lines(axes, False) if len(line) == 2 and line[0, 1] == line[1, 1]]
    return sorted(tuple(line[:, 0].tolist()) for line in lines)


def _ends(*intervals):
    return sorted((each["low"], each["high"]) for each in intervals)


@pytest.mark.parametrize(
    ("figure", "metrics"),
    [
        ("accuracy", ("accuracy", "accuracy_at/mean", "accuracy_at/quantile:0.01")),
        ("variance", ("r2", "r2_within")),
    ],
)
def test_every_estimate_and_interval_is_drawn_by_group(content, figure, metrics):
    everything, *parts = groups = content["analyses"][0]["groups"]
    # as of a head that is not symmetric
    everything["intervals"]["accuracy_at"]["mean"] = parts[0]["intervals"]["accuracy"]
    drawn_figure = draw(figure, content, width=6.8)
    assert isinstance(drawn_figure, Figure)
    assert drawn_figure.get_size_inches()[0] == pytest.approx(6.8)
    (axes,) = drawn_figure.axes
    drawn = [panels.interval_of(group, metric) for group in groups for metric in metrics]
    assert _horizontal(axes) == _ends(*drawn)
    estimates = sorted(points[0, 0] for points in _lines(axes, True))
    assert estimates == pytest.approx(sorted(each["estimate"] for each in drawn))
    assert _rows(axes) == ["all rows", "harmless", "helpful"]
    assert axes.get_ylim()[0] > axes.get_ylim()[1]  # the first row is on top
    assert figure == "accuracy" or axes.get_xlim() == (0, 1)


def test_the_mean_is_not_drawn_where_it_says_what_the_probability_does(content):
    figure = draw("accuracy", content)
    assert len(_horizontal(figure.axes[0])) == 6
    assert _legend(figure) == ["P(preferred) > ½", "by quantile:0.01"]


def test_analyses_have_colours_and_groups_are_put_side_by_side(two_models):
    first, second = copy.deepcopy(two_models["analyses"])
    second["groups"].append({**second["groups"][0], "labels": {"objective": "a"}})
    figure = draw("variance", {"analyses": [first, second]})
    (axes,) = figure.axes
    assert _rows(axes) == ["all rows", "harmless", "helpful", "objective a"]
    colours = {line.get_color() for line in axes.lines}
    assert colours == set(COLOURS[:2])
    assert _legend(figure) == ["a.jsonl", "b.jsonl", "r²", "r² within prompts"]


def test_an_interval_without_ends_is_a_marker_alone(content):
    for group in content["analyses"][0]["groups"]:
        accuracy = _without_ends(group["intervals"]["accuracy"])
        group["intervals"] = {"accuracy": accuracy, "r2": None, "accuracy_at": {}}
    (axes,) = draw("accuracy", content).axes
    assert _horizontal(axes) == []
    assert len(_lines(axes, True)) == 3


def test_reliability_draws_bins_counts_and_the_intervals_there_are(content):
    calibration = content["analyses"][0]["calibration"]
    *bins, empty = calibration["bins"]
    empty["n"] = 0
    calibration["ece"] |= {"estimate": 0.031, "low": 0.021, "high": 0.051}
    upper, lower = draw("reliability", content).axes
    (curve,) = _lines(upper, True)
    assert curve.tolist() == [[each["predicted"], each["observed"]] for each in bins]
    ends = [[each["observed_low"], each["observed_high"]] for each in bins]
    assert [each.tolist() for each in _upright(upper)] == ends
    assert [bar.get_height() for bar in lower.patches] == [each["n"] for each in bins]
    assert [bar.get_x() for bar in lower.patches] == [each["low"] for each in bins]
    assert "ECE 0.031 [0.021, 0.051]" in upper.texts[0].get_text()
    assert upper.get_ylim()[0] == pytest.approx(min(0.5, *np.ravel(ends)) - 0.03)
    calibration["ece"] = _without_ends(calibration["ece"])
    bins[0]["observed_low"] = None
    upper = draw("reliability", content).axes[0]
    brier = calibration["brier"]["estimate"]
    assert upper.texts[0].get_text().startswith(f"ECE 0.031\nBrier {brier:.3f} [")
    assert len(_lines(upper, False)) == len(bins)  # the diagonal, and an interval less


def test_frontier_draws_the_sides_there_are_over_alpha(content):
    mean, *cautious = content["analyses"][0]["frontier"]
    figure = draw("frontier", content)
    for axes, side in zip(figure.axes, ("unsafe", "accuracy"), strict=True):
        assert axes.get_xscale() == "log"
        curves = _lines(axes, True)
        found = [point[side] for point in cautious]
        heights = [y for curve in curves for y in curve[:, 1]]
        assert heights == [each["estimate"] for each in found]
        assert curves[0][:, 0] == pytest.approx(ALPHAS, rel=0.1)
        expected = [[each["low"], each["high"]] for each in found]
        assert [each.tolist() for each in _upright(axes)] == expected
        level = [p[0, 1] for p in _lines(axes, False) if p[0, 1] == p[1, 1]]
        assert level == [mean[side]["estimate"]]
    labels = [t.get_text() for t in figure.axes[1].get_xticklabels()]
    assert labels == [f"{alpha:g}" for alpha in ALPHAS]
    for point in (mean, *cautious):  # as of responses
        point["accuracy"] = None
    (axes,) = draw("frontier", content).axes
    assert axes.get_ylabel().startswith("unsafe")


def test_contexts_bars_are_shares(content):
    clusters = content["analyses"][0]["contexts"]["clusters"]
    clusters[1]["name"] = "plan, $5"
    (axes,) = draw("contexts", content).axes
    assert [bar.get_width() for bar in axes.patches] == [c["variance_share"] for c in clusters]
    (pairs,) = _lines(axes, True)
    assert pairs.tolist() == [[each["pairs"] / 90, n] for n, each in enumerate(clusters)]
    assert [t.get_text() for t in axes.texts] == [f"{c['mean_variance']:.2g}" for c in clusters]
    assert axes.get_yticklabels()[1].get_text() == r"plan, \$5"


def test_figures_of_two_models_name_them(two_models):
    names = ["a/scores.jsonl", "b/scores.jsonl"]
    pairs = zip(two_models["analyses"], names, strict=True)
    content = {"analyses": [{**scores, "file": name} for scores, name in pairs]}
    causes = _rows(draw("causes", content).axes[0])
    assert causes[:2] == [f"all rows, {name}" for name in names]
    assert [axes.get_title(loc="left") for axes in draw("contexts", content).axes] == names
    curves = draw("reliability", content).axes[::2]
    assert [axes.get_title(loc="left").split("\n")[0] for axes in curves] == names
    assert _legend(draw("frontier", content)) == [*names, "mean", "quantile", "CVaR"]


def test_causes_add_up(content):
    for group in content["analyses"][0]["groups"]:
        group["variance_shares"] |= {"shared_context": 0.3, "noise": 0.6, "ignorance": 0.1}
    (axes,) = draw("causes", content).axes
    bars = np.array([[bar.get_x(), bar.get_width()] for bar in axes.patches]).reshape(3, 3, 2)
    assert bars[:, 0, 1] == pytest.approx([0.3, 0.6, 0.1])
    assert bars[2, :, 0] + bars[2, :, 1] == pytest.approx(np.ones(3))


def test_comparisons_share_panels_with_a_scale_for_each_metric(content):
    (comparison,) = content["comparisons"]
    comparison["differences"] = differences = comparison["differences"][-3:]
    for found, p in zip(differences, (0.03, 0.0001, None), strict=True):
        found["p_value"] = p
    figure = draw("comparison", content)
    assert len(figure.axes) == 3
    for axes, found in zip(figure.axes, differences, strict=True):
        assert _horizontal(axes) == _ends(found["difference"])
        assert axes.get_xlim()[0] < 0 < axes.get_xlim()[1]
    texts = [[t.get_text() for t in axes.texts] for axes in figure.axes]
    assert texts == [["p = 0.03"], ["p < 0.001"], []]
    assert figure.axes[2].get_yticklabels()[0].get_text() == "accuracy by quantile:0.01"
    assert figure.axes[2].get_xlabel() == "b.jsonl − a.jsonl"
    content["comparisons"].append({**comparison, "second": f"{comparison['second']}.gz"})
    figure = draw("comparison", content)
    assert len(_horizontal(figure.axes[0])) == 2
    assert _legend(figure) == ["b.jsonl − a.jsonl", "b.jsonl.gz − a.jsonl"]


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("contexts", {"contexts": None}, "the figure contexts from.*--contexts"),
        ("reliability", {"calibration": None}, "the figure reliability from.*with labels"),
        ("frontier", {"frontier": []}, "the figure frontier from.*with a variance"),
        ("accuracy", {"kind": "responses"}, "figure accuracy from.*reward_output_chosen"),
        ("variance", {"groups": [BARE]}, "the figure variance from.*with a variance"),
        ("causes", {"groups": [BARE]}, "the figure causes from.*separates the causes"),
        ("comparison", {}, "--compare FIRST SECOND"),
        ("pie", {}, "not one of reliability"),
    ],
)
def test_what_cannot_be_drawn_is_told_with_a_remedy(content, name, change, words):
    content["analyses"][0] |= change
    with pytest.raises(ConfigError, match=words):
        draw(name, content | {"comparisons": []})


def test_there_are_no_more_analyses_than_colours(two_models):
    with pytest.raises(ConfigError, match="at most 7 analyses, and there are 8"):
        draw("accuracy", {"analyses": two_models["analyses"] * 4})


def test_of_many_groups_the_largest_are_drawn(content):
    groups = content["analyses"][0]["groups"]
    groups += [{"labels": {"annotator": str(k)}, "n": k} for k in range(60)]
    names = [name for name, _ in panels.group_rows(content["analyses"])]
    assert (len(names), names[0], names[-1]) == (30, "all rows", "annotator 59")


@pytest.mark.parametrize(
    ("places", "expected"),
    [
        ([("a/x.jsonl", ""), ("b/y.jsonl", "")], ["x.jsonl", "y.jsonl"]),
        ([("a/x.jsonl", ""), ("b/x.jsonl", "")], ["a/x.jsonl", "b/x.jsonl"]),
        ([("x.jsonl", "m"), ("x.jsonl", "n")], ["x.jsonl m", "x.jsonl n"]),
        ([("x.jsonl", ""), ("x.jsonl", "")], ["x.jsonl (pairs) 1", "x.jsonl (pairs) 2"]),
    ],
)
def test_analyses_are_named_by_what_tells_them_apart(places, expected):
    analyses = [{"file": file, "name": name, "kind": "pairs"} for file, name in places]
    assert analysis_labels(analyses) == expected


SIGNATURES = {"svg": b"<?xml", "pdf": b"%PDF-", "png": b"\x89PNG\r\n\x1a\n"}


def test_every_figure_is_written_in_every_format(tmp_path, content):
    path = _write(tmp_path, content)
    files, again = (
        run(FigureConfig("all", str(path), output=f"{tmp_path}/{folder}/")) for folder in "ab"
    )
    assert {f.name for f in files} == {f"{n}.{s}" for n in NAMES for s in SIGNATURES}
    assert [f.read_bytes() for f in files] == [f.read_bytes() for f in again]
    for file in files:
        content = file.read_bytes()
        assert content.startswith(SIGNATURES[file.suffix[1:]])
        if file.suffix == ".pdf":
            assert re.search(rb"/FontFile2 \d+ 0 R", content)  # text is embedded TrueType
            assert b"/Type3" not in content
            assert b"CreationDate" not in content
        if file.suffix == ".svg":
            assert b"<text" not in content
            assert b"<dc:date>" not in content
    assert not list(tmp_path.rglob("*.partial"))
    assert plt.get_fignums() == []


@pytest.mark.parametrize(
    ("name", "output", "expected"),
    [
        ("accuracy", "{}", "{}/accuracy"),
        ("accuracy", "{}/new/", "{}/new/accuracy"),
        ("accuracy", "{}/mine", "{}/mine"),
        ("accuracy", "{}/mine.v2", "{}/mine.v2"),
        ("accuracy", "{}/mine.pdf", "{}/mine"),
        ("all", "{}/mine", "{}/mine_accuracy"),
    ],
)
def test_where_a_figure_goes(tmp_path, name, output, expected):
    config = FigureConfig(name, "analysis.json", output.format(tmp_path))
    assert str(config.stem("accuracy")) == expected.format(tmp_path)


def test_all_leaves_out_what_is_missing_and_says_so(tmp_path, content, caplog):
    content["analyses"][0]["contexts"], content["comparisons"] = None, []
    path = _write(tmp_path, content)
    files = run(FigureConfig("all", str(path), f"{tmp_path}/", ["png"]))
    assert {f.stem for f in files} == set(NAMES) - {"contexts", "comparison"}
    assert "figure contexts left out" in caplog.text
    bare = {"file": "x", "kind": "responses", "name": "", "groups": [{"labels": {}, "n": 1}]}
    path = _write(tmp_path, content | {"analyses": [bare]})
    with pytest.raises(ConfigError, match="nothing to draw a figure from"):
        run(FigureConfig("all", str(path)))
    with pytest.raises(ConfigError, match=r"analysis\.json: there is nothing to draw"):
        run(FigureConfig("contexts", str(path)))


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ([1], "not hidden_context.analysis"),
        ({"format": "hidden_context.summary"}, "but hidden_context.summary"),
        ({"format": "hidden_context.analysis", "version": 1}, "version is 1, but only 2 to 3 are"),
    ],
)
def test_other_files_are_refused(tmp_path, content, problem):
    with pytest.raises(DataError, match=problem):
        read_analysis(_write(tmp_path, content))
    with pytest.raises(MissingFileError):
        read_analysis(tmp_path / "none.json")


def test_a_file_changed_by_hand_is_an_error_that_names_it(tmp_path, content):
    del content["analyses"][0]["calibration"]["bins"][0]["predicted"]
    with pytest.raises(DataError, match=r"analysis\.json.*predicted.*changed by hand"):
        run(FigureConfig("reliability", str(_write(tmp_path, content)), f"{tmp_path}/"))


@pytest.mark.parametrize(
    "options", [{"name": "pie"}, {"width": 1.0}, {"formats": ["gif"]}, {"formats": []}]
)
def test_options_that_cannot_work(options):
    with pytest.raises(ConfigError):
        FigureConfig(**{"name": "accuracy", "analysis": "a.json", **options})


def test_the_command_prints_the_files(tmp_path, content, capsys):
    path = _write(tmp_path, content)
    argv = ["variance", str(path), "--output", str(tmp_path / "v"), "--formats", "svg", "png"]
    assert command.main(argv) == 0
    assert capsys.readouterr().out.split() == [str(tmp_path / "v.svg"), str(tmp_path / "v.png")]
