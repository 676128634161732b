from __future__ import annotations

import json
import shutil
import subprocess
from typing import Any

import pytest

from hidden_context.report.html.page import scripts

# A page of stand-ins: what a chart hands to Plotly is printed as JSON, NaN as a text.
HARNESS = """
const analyses = ANALYSES;
const figures = ['reliability', 'frontier', 'groups'].map((chart) => ({
  dataset: { chart, index: '0' },
  querySelector: () => ({ clientWidth: 800, style: {} }),
}));
globalThis.document = {
  documentElement: {},
  addEventListener() {},
  querySelectorAll: () => figures,
  getElementById: () => null,
};
globalThis.getComputedStyle = () => ({ getPropertyValue: () => '#000000' });
const drawn = [];
globalThis.window = {
  addEventListener() {},
  Plotly: { react: (_, traces, layout) => drawn.push({ traces, layout }) },
};
SCRIPTS
window.HC.charts.watch(analyses);
const plain = (_, value) => (Number.isNaN(value) ? 'NaN' : value);
console.log(JSON.stringify({
  drawn,
  spans: SPANS.map((each) => window.HC.span(each, 2)),
}, plain));
"""


def run(analysis: dict[str, Any], spans: list[dict[str, Any]]) -> dict[str, Any]:
    """Run the page's own scripts of numbers and charts in Node."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not installed")
    _, _, data, _, charts, *_ = scripts()
    code = HARNESS.replace("ANALYSES", json.dumps([analysis])).replace("SPANS", json.dumps(spans))
    code = code.replace("SCRIPTS", f"{data}\n{charts}")
    done = subprocess.run([node, "-"], input=code, capture_output=True, text=True, check=True)
    return dict(json.loads(done.stdout))


def interval(estimate: float, low: float | None = None, high: float | None = None) -> dict:
    return {"estimate": estimate, "low": low, "high": high}


def test_where_there_is_no_interval_there_is_no_bar() -> None:
    bins = [
        {"n": 5, "predicted": 0.6, "observed": 0.7, "observed_low": None, "observed_high": None},
        {"n": 9, "predicted": 0.8, "observed": 0.75, "observed_low": 0.5, "observed_high": 0.875},
    ]
    point = {"measure": "quantile", "name": "quantile:0.1", "alpha": 0.1}
    analysis = {
        "calibration": {"bins": bins},
        "frontier": [{**point, "unsafe": interval(2.5), "accuracy": interval(0.75, 0.5, 1.0)}],
        "groups": [{"labels": {}, "intervals": {"r2": interval(0.5)}}],
    }
    found = run(analysis, [interval(0.5), interval(0.5, 0.25, 0.75), interval(0.5, None, 1.0)])
    assert found["spans"] == ["0.50", "0.50 [0.25, 0.75]", "0.50"]
    reliability, frontier, groups = (each["traces"] for each in found["drawn"])
    assert reliability[1]["error_y"]["array"] == ["NaN", 0.125]
    assert reliability[1]["error_y"]["arrayminus"] == ["NaN", 0.25]
    assert reliability[1]["hovertext"][0] == "predicted 0.600<br>observed 0.700<br>5 pairs"
    # the axis goes down to the lowest end there is, not to 0
    assert found["drawn"][0]["layout"]["yaxis"]["range"][0] == pytest.approx(0.42)
    assert frontier[0]["error_x"]["array"] == ["NaN"]
    assert frontier[0]["error_y"]["arrayminus"] == [0.25]
    assert groups[0]["error_x"]["array"] == groups[0]["error_x"]["arrayminus"] == ["NaN"]
    assert groups[0]["hovertext"] == ["all rows<br>r² 0.500"]
