import copy
import json
import re

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.figure import Figure

from hidden_context.analysis.analysis_file import read_analysis
from hidden_context.cli import figure as command
from hidden_context.errors import ConfigError, DataError, MissingFileError
from hidden_context.report.figures import panels
from hidden_context.report.figures.style import COLOURS, analysis_labels
from hidden_context.report.figures.workflow import NAMES, FigureConfig, draw, run


def _interval(estimate, reach=0.05):
    low, high = (None, None) if reach is None else (estimate - reach, estimate + 2 * reach)
    return {"estimate": estimate, "low": low, "high": high, "level": 0.95, "method": "bootstrap"}


def _group(labels, n, accuracy):
    shares = {"shared_context": 0.3, "noise": 0.6, "ignorance": 0.1}
    by = {"mean": _interval(accuracy - 0.02), "quantile:0.01": _interval(accuracy - 0.1)}
    explained = {"r2": _interval(accuracy - 0.3), "r2_within": _interval(accuracy - 0.4)}
    intervals = {"accuracy": _interval(accuracy), "accuracy_at": by, **explained}
    return {"labels": labels, "n": n, "variance_shares": shares, "intervals": intervals}


BARE = {"labels": {}, "n": 1, "intervals": {}, "variance_shares": None}


def _bin(low, n, observed):
    ends = {"observed_low": observed - 0.06, "observed_high": observed + 0.03}
    middle = {"predicted": low + 0.04, "observed": observed}
    return {"low": low, "high": low + 0.1, "n": n, **middle, **ends}


def _point(measure, alpha, unsafe, accuracy):
    name = measure if alpha is None else f"{measure}:{alpha}"
    sides = {"unsafe": _interval(unsafe), "accuracy": _interval(accuracy)}
    return {"measure": measure, "alpha": alpha, "name": name, **sides}


def _analysis(file="run/scores.jsonl", shift=0.0):
    fields = ("name", "prompts", "pairs", "mean_variance", "variance_share")
    rows = [("pick, lock", 9, 30, 0.8, 0.7), ("plan, $5", 20, 70, 0.1, 0.3)]
    contexts = [dict(zip(fields, row, strict=True)) for row in rows]
    bins = [_bin(0.5, 80, 0.58), _bin(0.7, 15, 0.7), {**_bin(0.9, 0, 0.0), "observed": None}]
    return {
        "file": file,
        "kind": "pairs",
        "name": "",
        "groups": [
            _group({}, 100, 0.7 + shift),
            _group({"data_subset": "helpful"}, 60, 0.8 + shift),
            _group({"data_subset": "harmless"}, 40, 0.6 + shift),
        ],
        "calibration": {"ece": _interval(0.031, 0.01), "brier": _interval(0.2, 0.01), "bins": bins},
        "frontier": [
            _point("mean", None, 0.4, 0.8),
            _point("quantile", 0.01, 0.2, 0.7),
            _point("quantile", 0.5, 0.4, 0.8),
            _point("cvar", 0.01, 0.1, 0.6),
        ],
        "contexts": {"features": "tfidf", "prompts": 29, "clusters": contexts, "top": []},
    }


def _content(*analyses):
    difference = {"metric": "accuracy", "first": 0.7, "second": 0.75, "difference": _interval(0.05)}
    differences = [
        {**difference, "p_value": 0.03},
        {**difference, "metric": "loss", "difference": _interval(-0.1), "p_value": 0.0001},
        {**difference, "metric": "accuracy_at/mean", "p_value": None},
    ]
    comparison = {"first": "a/s.jsonl", "second": "b/s.jsonl", "differences": differences}
    return {
        "format": "hidden_context.analysis",
        "version": 3,
        "config": {},
        "analyses": list(analyses or [_analysis()]),
        "comparisons": [comparison],
    }


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
def test_every_estimate_and_interval_is_drawn_by_group(figure, metrics):
    content = _content()
    drawn_figure = draw(figure, content, width=6.8)
    assert isinstance(drawn_figure, Figure)
    assert drawn_figure.get_size_inches()[0] == pytest.approx(6.8)
    (axes,) = drawn_figure.axes
    groups = content["analyses"][0]["groups"]
    drawn = [panels.interval_of(group, metric) for group in groups for metric in metrics]
    assert _horizontal(axes) == _ends(*drawn)
    estimates = sorted(points[0, 0] for points in _lines(axes, True))
    assert estimates == pytest.approx(sorted(each["estimate"] for each in drawn))
    assert _rows(axes) == ["all rows", "helpful", "harmless"]
    assert axes.get_ylim()[0] > axes.get_ylim()[1]  # the first row is on top
    assert figure == "accuracy" or axes.get_xlim() == (0, 1)


def test_the_mean_is_not_drawn_where_it_says_what_the_probability_does():
    content = _content()
    for group in content["analyses"][0]["groups"]:
        group["intervals"]["accuracy_at"]["mean"] = group["intervals"]["accuracy"]
    figure = draw("accuracy", content)
    assert len(_horizontal(figure.axes[0])) == 6
    assert _legend(figure) == ["P(preferred) > ½", "by quantile:0.01"]


def test_analyses_have_colours_and_groups_are_put_side_by_side():
    second = _analysis("run/other.jsonl", 0.05)
    second["groups"].append(_group({"objective": "a"}, 5, 0.5))
    figure = draw("variance", _content(_analysis(), second))
    (axes,) = figure.axes
    assert _rows(axes) == ["all rows", "helpful", "harmless", "objective a"]
    colours = {line.get_color() for line in axes.lines}
    assert colours == set(COLOURS[:2])
    assert _legend(figure) == ["scores.jsonl", "other.jsonl", "r²", "r² within prompts"]


def test_an_interval_without_ends_is_a_marker_alone():
    content = _content()
    for group in content["analyses"][0]["groups"]:
        group["intervals"] = {"accuracy": _interval(0.7, None), "r2": None, "accuracy_at": {}}
    (axes,) = draw("accuracy", content).axes
    assert _horizontal(axes) == []
    assert len(_lines(axes, True)) == 3


def test_reliability_draws_bins_counts_and_the_intervals_there_are():
    content = _content()
    figure = draw("reliability", content)
    upper, lower = figure.axes
    (curve,) = _lines(upper, True)
    assert curve == pytest.approx(np.array([[0.54, 0.58], [0.74, 0.7]]))
    assert _upright(upper) == pytest.approx(np.array([[0.52, 0.61], [0.64, 0.73]]))
    assert [bar.get_height() for bar in lower.patches] == [80, 15]
    assert [bar.get_x() for bar in lower.patches] == [0.5, 0.7]
    assert "ECE 0.031 [0.021, 0.051]" in upper.texts[0].get_text()
    assert upper.get_ylim()[0] < 0.52
    calibration = content["analyses"][0]["calibration"]
    calibration["ece"] = _interval(0.05, None)
    calibration["bins"][0]["observed_low"] = None
    upper = draw("reliability", content).axes[0]
    assert upper.texts[0].get_text().startswith("ECE 0.050\nBrier 0.200 [")
    assert len(_lines(upper, False)) == 2  # the diagonal and one interval


def test_frontier_draws_the_sides_there_are_over_alpha():
    figure = draw("frontier", _content())
    unsafe, accuracy = figure.axes
    for axes, values in ((unsafe, [0.2, 0.4, 0.1]), (accuracy, [0.7, 0.8, 0.6])):
        assert axes.get_xscale() == "log"
        curves = _lines(axes, True)
        assert [y for curve in curves for y in curve[:, 1]] == pytest.approx(values)
        assert curves[0][:, 0] == pytest.approx([0.01, 0.5], rel=0.1)
        expected = [[v - 0.05, v + 0.1] for v in values]
        assert _upright(axes) == pytest.approx(np.array(expected))
    level = [p[0, 1] for p in _lines(unsafe, False) if p[0, 1] == p[1, 1]]
    assert level == pytest.approx([0.4])
    assert [t.get_text() for t in accuracy.get_xticklabels()] == ["0.01", "0.5"]
    content = _content()  # of responses, which have no accuracy
    for point in content["analyses"][0]["frontier"]:
        point["accuracy"] = None
    (axes,) = draw("frontier", content).axes
    assert axes.get_ylabel().startswith("unsafe")


def test_contexts_bars_are_shares():
    (axes,) = draw("contexts", _content()).axes
    assert [bar.get_width() for bar in axes.patches] == pytest.approx([0.7, 0.3])
    (pairs,) = _lines(axes, True)
    assert pairs == pytest.approx(np.array([[0.3, 0], [0.7, 1]]))
    assert [t.get_text() for t in axes.texts] == ["0.8", "0.1"]
    assert axes.get_yticklabels()[1].get_text() == r"plan, \$5"


def test_figures_of_two_models_name_them():
    content = _content(_analysis("a/scores.jsonl"), _analysis("b/scores.jsonl", 0.1))
    names = ["a/scores.jsonl", "b/scores.jsonl"]
    causes = _rows(draw("causes", content).axes[0])
    assert causes[:2] == [f"all rows, {name}" for name in names]
    assert [axes.get_title(loc="left") for axes in draw("contexts", content).axes] == names
    curves = draw("reliability", content).axes[::2]
    assert [axes.get_title(loc="left").split("\n")[0] for axes in curves] == names
    assert _legend(draw("frontier", content)) == [*names, "mean", "quantile", "CVaR"]


def test_causes_add_up():
    (axes,) = draw("causes", _content()).axes
    bars = np.array([[bar.get_x(), bar.get_width()] for bar in axes.patches]).reshape(3, 3, 2)
    assert bars[:, 0, 1] == pytest.approx([0.3, 0.6, 0.1])
    assert bars[2, :, 0] + bars[2, :, 1] == pytest.approx(np.ones(3))


def test_comparisons_share_panels_with_a_scale_for_each_metric():
    content = _content()
    figure = draw("comparison", content)
    differences = content["comparisons"][0]["differences"]
    assert len(figure.axes) == 3
    for axes, found in zip(figure.axes, differences, strict=True):
        assert _horizontal(axes) == _ends(found["difference"])
        assert axes.get_xlim()[0] < 0 < axes.get_xlim()[1]
    texts = [[t.get_text() for t in axes.texts] for axes in figure.axes]
    assert texts == [["p = 0.03"], ["p < 0.001"], []]
    assert figure.axes[2].get_yticklabels()[0].get_text() == "accuracy by mean"
    assert figure.axes[2].get_xlabel() == "b/s.jsonl − a/s.jsonl"
    other = copy.deepcopy(content["comparisons"][0]) | {"second": "c/s.jsonl"}
    content["comparisons"].append(other)
    figure = draw("comparison", content)
    assert len(_horizontal(figure.axes[0])) == 2
    assert _legend(figure) == ["b/s.jsonl − a/s.jsonl", "c/s.jsonl − a/s.jsonl"]


def _without(name, value):
    return _content(_analysis() | {name: value})


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("contexts", _without("contexts", None), "the figure contexts from.*--contexts"),
        ("reliability", _without("calibration", None), "the figure reliability from.*with labels"),
        ("frontier", _without("frontier", []), "the figure frontier from.*with a variance"),
        ("accuracy", _without("kind", "responses"), "figure accuracy from.*reward_output_chosen"),
        ("variance", _without("groups", [BARE]), "the figure variance from.*with a variance"),
        ("causes", _without("groups", [BARE]), "the figure causes from.*tells causes"),
        ("comparison", _content() | {"comparisons": []}, "--compare FIRST SECOND"),
        ("pie", _content(), "not one of reliability"),
        ("accuracy", _content(*[_analysis()] * 8), "8 analyses do not fit"),
    ],
)
def test_what_cannot_be_drawn_is_told_with_a_remedy(name, content, words):
    with pytest.raises(ConfigError, match=words):
        draw(name, content)


def test_of_many_groups_the_largest_are_drawn():
    analysis = _analysis()
    analysis["groups"] += [_group({"annotator": str(k)}, k, 0.5) for k in range(60)]
    rows = panels.group_rows([analysis])
    assert len(rows) == 30
    assert rows[0][0] == "all rows"
    assert rows[-1][0] == "annotator 59"


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


def test_every_figure_is_written_in_every_format(tmp_path):
    path = _write(tmp_path, _content())
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


def test_all_leaves_out_what_is_missing_and_says_so(tmp_path, caplog):
    path = _write(tmp_path, _content(_analysis() | {"contexts": None}) | {"comparisons": []})
    files = run(FigureConfig("all", str(path), f"{tmp_path}/", ["png"]))
    assert {f.stem for f in files} == set(NAMES) - {"contexts", "comparison"}
    assert "figure contexts left out" in caplog.text
    bare = {"file": "x", "kind": "responses", "name": "", "groups": [{"labels": {}, "n": 1}]}
    path = _write(tmp_path, _content(bare) | {"comparisons": []})
    with pytest.raises(ConfigError, match="nothing to draw a figure from"):
        run(FigureConfig("all", str(path)))
    with pytest.raises(ConfigError, match=r"analysis\.json: there is nothing to draw"):
        run(FigureConfig("contexts", str(path)))


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ([1], "not hidden_context.analysis"),
        ({"format": "hidden_context.summary"}, "but hidden_context.summary"),
        (
            {"format": "hidden_context.analysis", "version": 1},
            "its version is 1, but 2 to 3 are read",
        ),
    ],
)
def test_other_files_are_refused(tmp_path, content, problem):
    with pytest.raises(DataError, match=problem):
        read_analysis(_write(tmp_path, content))
    with pytest.raises(MissingFileError):
        read_analysis(tmp_path / "none.json")


def test_a_file_changed_by_hand_is_an_error_that_names_it(tmp_path):
    content = _content()
    del content["analyses"][0]["calibration"]["bins"][0]["predicted"]
    with pytest.raises(DataError, match=r"analysis\.json.*predicted.*changed by hand"):
        run(FigureConfig("reliability", str(_write(tmp_path, content)), f"{tmp_path}/"))


@pytest.mark.parametrize(
    "options", [{"name": "pie"}, {"width": 1.0}, {"formats": ["gif"]}, {"formats": []}]
)
def test_options_that_cannot_work(options):
    with pytest.raises(ConfigError):
        FigureConfig(**{"name": "accuracy", "analysis": "a.json", **options})


def test_the_command_prints_the_files(tmp_path, capsys):
    path = _write(tmp_path, _content())
    argv = ["variance", str(path), "--output", str(tmp_path / "v"), "--formats", "svg", "png"]
    assert command.main(argv) == 0
    assert capsys.readouterr().out.split() == [str(tmp_path / "v.svg"), str(tmp_path / "v.png")]
