from __future__ import annotations

import json

import numpy as np
import pytest

from hidden_context import heads
from hidden_context.analysis import score_analysis
from hidden_context.analysis.config import AnalyzeConfig
from hidden_context.errors import ConfigError
from hidden_context.likelihood import make_likelihood
from hidden_context.models.card import model_card
from hidden_context.models.head_file import HeadFile


@pytest.fixture
def checkpoint(tmp_path):
    head = heads.make("mean_and_variance")
    HeadFile(head).save(tmp_path)
    card = model_card(
        make_likelihood(head), base_model=None, max_length=None, metrics={"accuracy": 0.5}
    )
    (tmp_path / "README.md").write_text(card)
    return tmp_path


def write(folder, gaps, **columns):
    rows = [
        {
            "prompt": f"p{number}",
            "reward_output_chosen": [float(gap), 0.0],
            "reward_output_rejected": [0.0, 0.0],
            **columns,
        }
        for number, gap in enumerate(gaps)
    ]
    path = folder / "eval_results_both.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def analyze(file):
    return score_analysis.run(AnalyzeConfig(files=[file], card=True, resamples=99))


def test_the_card_shows_what_the_analysis_says(checkpoint):
    gaps = np.random.default_rng(0).normal(0.4, 1, size=50)
    before = (checkpoint / "README.md").read_text()
    analysis = analyze(write(checkpoint, gaps, data_subset="a|b"))
    card = (checkpoint / "README.md").read_text()
    (scores,) = analysis.analyses
    accuracy = scores.groups[0].intervals["accuracy"]
    assert accuracy.estimate == (gaps > 0).mean()
    cell = f"{100 * accuracy.estimate:.1f} % [{100 * accuracy.low:.1f}, {100 * accuracy.high:.1f}]"
    assert f"| all | 50 | {cell} |" in card
    assert r"| data_subset a\|b | 50 |" in card
    assert f"- Expected calibration error: {scores.calibration['ece'].estimate:.3f} [" in card
    assert card.index("analysis: end") < card.index("## Use")
    begin, end = card.index("<!-- analysis: begin"), card.index("## Use")
    assert card[:begin] + card[end:] == before


def test_a_new_analysis_takes_the_place_of_the_old(checkpoint):
    analyze(write(checkpoint, np.ones(30)))
    once = (checkpoint / "README.md").read_text()
    analyze(write(checkpoint, np.ones(30)))
    assert (checkpoint / "README.md").read_text() == once
    analyze(write(checkpoint, -np.ones(40)))
    card = (checkpoint / "README.md").read_text()
    assert card.count("## Analysis of eval_results_both.jsonl") == 1
    assert "| all | 40 | 0.0 % [0.0," in card


def test_a_file_elsewhere_has_no_card(tmp_path):
    with pytest.raises(ConfigError, match="does not lie in a checkpoint"):
        analyze(write(tmp_path, np.ones(5)))
