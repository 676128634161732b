"""The check on real people: a part of the pairs of arguments, known to be split by debate."""

from __future__ import annotations

import gzip
import json

import pytest

from hidden_context.check import CheckConfig, check

pytestmark = [pytest.mark.real_data, pytest.mark.slow]

VALUES = {"a1": 1.0, "a2": 0.0, "equal": 0.5}
DEBATES = ("TV is better than Books", "Is it better to have a lousy father or to be fatherless?")


def test_the_debate_about_fathers_is_more_split_than_that_about_books(real_data, tmp_path):
    path = tmp_path / "votes.jsonl"
    source = real_data / "people" / "ukpconvarg1.jsonl.gz"
    with gzip.open(source, "rt", encoding="utf-8") as rows, path.open("w") as file:
        for row in map(json.loads, rows):
            if row["topic"] not in DEBATES:
                continue
            votes = [
                {
                    "annotator": v["annotator"],
                    "comparison": [0, 1],
                    "preference": VALUES[v["value"]],
                }
                for v in row["votes"]
            ]
            example = {
                "prompt": f"{row['topic']}: {row['stance']}",
                "responses": [row["argument1"], row["argument2"]],
                "topic": row["topic"],
                "judgements": votes,
            }
            file.write(json.dumps(example) + "\n")
    found = check(CheckConfig(data_path=str(path), split_by="topic", predict=False))
    shares = {topic.name: topic.observed.estimate for topic in found.predicted.topics}
    assert shares[DEBATES[0]] == pytest.approx(0.193, abs=0.005)
    assert shares[DEBATES[1]] == pytest.approx(0.429, abs=0.005)
    assert found.observed.annotator_test.p_value < 0.01
    assert "lousy father" in found.answer.sentences[1]
