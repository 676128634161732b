from __future__ import annotations

import base64
import gzip
import json

import numpy as np
import pytest

from hidden_context import heads
from hidden_context.analysis.measure.evidence import pair_evidence
from hidden_context.analysis.read.files import read_score_file
from hidden_context.likelihood import make_likelihood
from hidden_context.report.html.pairs import encode, pairs_payload
from support.rows import assistant, user
from support.score_rows import pair, write

PROMPT = "Human: Hi\n\nAssistant:"


def row(number, **columns):
    texts = {"prompt": PROMPT, "chosen": f"{PROMPT} yes {number}", "rejected": "no"}
    return pair([float(number), 0.5], [0.0, -0.5], **texts | columns)


def payload_of(tmp_path, rows, places=None, max_text=100, head=None, **options):
    path = write(tmp_path / "scores.jsonl", rows)
    scores = read_score_file(path, label_names=("data_subset",))["reward_output_chosen"]
    head = head or heads.make("mean_and_variance")
    sides = scores.chosen, scores.rejected
    evidence = pair_evidence(make_likelihood(head), *sides, scores.preference)
    places = np.arange(len(scores.chosen)) if places is None else np.array(places)
    return scores, evidence, *pairs_payload(scores, evidence, head, places, max_text, **options)


def test_numbers_come_back_out_of_the_page(tmp_path):
    rows = [row(number, data_subset="ab"[number % 2]) for number in range(6)]
    _, evidence, payload, meta = payload_of(tmp_path, rows, contexts=["c"] * 6)
    found = json.loads(gzip.decompress(base64.b64decode(encode(payload))))
    assert found == payload
    assert found["p"] == pytest.approx(evidence.probability, rel=1e-4)
    assert found["sigma"] == pytest.approx(np.sqrt(evidence.difference_variance), rel=1e-4)
    assert found["chosen_components"]["location"] == [0, 1, 2, 3, 4, 5]
    assert found["chosen_components"]["scale"] == pytest.approx([0.97408] * 6)  # softplus(0.5)
    assert found["chosen_components"]["weight"] == [1] * 6
    assert found["subset"] == ["a", "b"] * 3
    assert (found["objective"], found["annotator"]) == (None, None)
    assert (meta.total, meta.shown, meta.cut) == (6, 6, 0)
    assert encode(payload) == encode(payload)


def test_prompts_stand_once_and_responses_without_them(tmp_path):
    other = row(2, **{name: f"Human: Yo\n\nAssistant: {name}" for name in ("chosen", "rejected")})
    del other["prompt"]
    hey = [user("Hey")]
    messages = row(3, prompt=hey, chosen=[*hey, assistant("A")], rejected=[*hey, assistant("B")])
    _, _, payload, _ = payload_of(tmp_path, [row(0), row(1), other, messages])
    assert payload["prompts"] == ["Human: Hi\n\nAssistant:", "Human: Yo\n\nAssistant:", "user: Hey"]
    assert payload["prompt"] == [0, 0, 1, 2]
    assert payload["chosen"] == ["yes 0", "yes 1", "chosen", "assistant: A"]
    assert payload["rejected"] == ["no", "no", "rejected", "assistant: B"]


def test_rows_that_were_left_out_keep_texts_and_numbers_together(tmp_path):
    rows = [row(number) for number in range(6)]
    rows[1]["reward_output_chosen"] = None
    _, _, payload, meta = payload_of(tmp_path, rows, places=[0, 2, 4])
    assert payload["row"] == [1, 4, 6]
    assert payload["chosen"] == ["yes 0", "yes 3", "yes 5"]
    assert payload["chosen_components"]["location"] == [0, 3, 5]
    assert (meta.total, meta.shown) == (5, 3)


def test_long_texts_are_cut_and_counted(tmp_path):
    rows = [row(0, chosen="x" * 300), row(1), row(2, prompt="first " * 20 + "last")]
    _, _, payload, meta = payload_of(tmp_path, rows, max_text=50)
    assert payload["chosen"][0] == "x" * 49 + "…"
    assert payload["prompts"][1][:1] + payload["prompts"][1][-10:] == "…first last"
    assert len(payload["prompts"][1]) == 50
    assert payload["cut"] == [1, 0, 1]
    assert meta.cut == 2


def test_a_prompt_is_taken_off_whatever_white_space_it_begins_with(tmp_path):
    rows = [
        row(0, chosen=f"\n\n{PROMPT} well"),
        row(1, prompt=f"\n\n{PROMPT} ", chosen=f"{PROMPT} well"),
    ]
    _, _, payload, _ = payload_of(tmp_path, rows)
    assert payload["chosen"] == ["well", "well"]
    assert payload["prompt"] == [0, 0]


def test_texts_that_are_no_text_are_nothing(tmp_path):
    rows = [row(0, prompt=7, chosen=None, rejected={"a": 1}), row(1, chosen="\ud800 half")]
    _, _, payload, _ = payload_of(tmp_path, rows)
    assert payload["chosen"] == ["", "? half"]
    assert payload["prompt"][0] == -1
    encode(payload)


def test_every_head_has_components_and_a_point_has_no_scale(tmp_path):
    rows = [row(n) | pair([1.5], [0.0]) for n in range(2)]
    _, _, payload, _ = payload_of(tmp_path, rows, head=heads.make("base"))
    assert payload["sigma"] is None
    point = {"weight": 1, "location": 1.5, "scale": 0}
    assert payload["chosen_components"] == {name: [each] * 2 for name, each in point.items()}
    head = heads.make("categorical", num_atoms=4)
    atoms = [row(n) | pair([0.0] * 4, [1.0] * 4) for n in range(2)]
    _, _, payload, _ = payload_of(tmp_path, atoms, head=head)
    assert payload["components"] == 4
    assert payload["chosen_components"]["weight"] == [0.25] * 8
    assert payload["chosen_components"]["location"] == [0, 0.33333, 0.66667, 1] * 2
