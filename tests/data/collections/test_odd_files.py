"""What every source does with odd files: a byte-order mark, a bare row, another's file."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from hidden_context.data.collections import NAMES, find_source
from hidden_context.data.collections.personalllm import MODELS
from hidden_context.data.example import Comparison, Example, Ranking, Rating
from hidden_context.errors import DataError
from support.published import import_files, jsonl_file

CHAT = [{"role": "user", "content": "Tea?"}, {"role": "assistant", "content": "Yes."}]
ASKED = {"turn": 0, "role": "user", "content": "Tea?"}
ANSWER = {"turn": 0, "role": "model", "content": "Yes.", "score": 70, "if_chosen": True}
SAID = {"evaluator": "ann", "overall_pref": "Tie"}

# A row of each source, as few columns as it can have.
ROWS: dict[str, dict[str, Any]] = {
    "ukpconvarg": {
        "topic": "Tea?",
        "stance": "No",
        "argument1": "a",
        "argument2": "b",
        "votes": [{"annotator": "ann", "value": "a1"}],
    },
    "dices": {"item": 3, "context": "USER: Tea?", "response": "Yes.", "unsafe": ["No"]},
    "mt_bench_human": {
        "question_id": 81,
        "model_a": "m",
        "model_b": "n",
        "winner": "tie",
        "judge": "expert_1",
        "turn": 1,
        "conversation_a": CHAT,
        "conversation_b": CHAT,
    },
    "helpsteer2": {
        "prompt": "Tea?",
        "response": "Yes.",
        **dict.fromkeys(("helpfulness", "correctness", "coherence", "complexity", "verbosity"), 3),
    },
    "helpsteer3": {
        "context": CHAT[:1],
        "response1": "a",
        "response2": "b",
        "individual_preference": [{"score": 1}],
    },
    "multipref": {
        "text": "Tea?",
        "completion_a": "a",
        "completion_b": "b",
        "normal_worker_annotations": [SAID],
        "expert_worker_annotations": [SAID],
    },
    "prism": {"conversation_id": "c0", "user_id": "u0", "conversation_history": [ASKED, ANSWER]},
    "summarize_from_feedback": {
        "info": {"id": "t3", "post": "Tea."},
        "summaries": [{"text": "a"}, {"text": "b"}],
        "choice": 0,
        "worker": "ann",
    },
    "pku_saferlhf": {
        "prompt": "Tea?",
        "response_0": "a",
        "response_1": "b",
        "better_response_id": 0,
        "safer_response_id": 1,
    },
    "lamp": {
        "instruction": "Tea?",
        "responses": ["a", "b"],
        "rankings": [{"annotator": "ann", "ranks": [1, 2]}],
    },
    "hhh_alignment": {"input": "Tea?", "targets": {"choices": ["a", "b"], "labels": [1, 0]}},
    "chatbot_arena": {
        "id": "v1",
        "model_a": "m",
        "model_b": "n",
        "winner": "tie",
        "evaluation_session_id": "s",
        "evaluation_order": 1,
        "conversation_a": CHAT,
        "conversation_b": CHAT,
    },
    "community_alignment": {
        "conversation_id": 1,
        "annotator_id": "ann",
        "first_turn_prompt": "Tea?",
        "first_turn_preferred_response": "response_a",
        **{f"first_turn_response_{x}": x for x in "abcd"},
    },
    "ultrafeedback": {
        "instruction": "Tea?",
        "completions": [
            {"response": "a", "overall_score": 7},
            {"response": "b", "overall_score": 3},
        ],
    },
    "shp": {
        "history": "Tea?",
        "human_ref_A": "a",
        "human_ref_B": "b",
        "labels": 1,
        "score_A": 4,
        "score_B": 2,
    },
    "personalllm": {
        "prompt": "Tea?",
        **{f"response_{n}": str(n) for n in range(1, 9)},
        **{f"response_{n}_{m}": float(n) for n in range(1, 9) for m in MODELS},
    },
    "collective_alignment": {
        "prompt_id": "p",
        "prompt": {"messages": CHAT[:1]},
        "responses": [{"response_index": x, "messages": CHAT[1:]} for x in "AB"],
        "metadata": {
            "assessments": [
                {
                    "annotator_id": "ann",
                    "ranking_blocks": {"world": [{"ranking": "A>B"}], "personal": []},
                }
            ]
        },
    },
    "webgpt": {
        "question": {"full_text": "Tea?"},
        "answer_0": "a",
        "answer_1": "b",
        "score_0": 0.5,
        "score_1": -0.5,
    },
    "nectar": {
        "prompt": "\n\nHuman: Tea?\n\nAssistant: ",
        "answers": [
            {"answer": "a", "model": "m", "rank": 1},
            {"answer": "b", "model": "n", "rank": 2},
        ],
        "num_responses": 2,
        "good_natured": True,
    },
    "pandalm": {
        "instruction": "Tea?",
        "input": "",
        "response1": "a",
        "response2": "b",
        "annotator1": 0,
        "annotator2": 1,
        "annotator3": 2,
    },
    "lewidi": {
        "annotation task": "offensiveness detection",
        "text": "Tea.",
        "annotators": "Ann1,Ann2",
        "annotations": "0,1",
    },
    "helpsteer": {
        "conversations": [
            {"from": "User", "value": "Tea?"},
            {"from": "Assistant", "value": "a", "label": "quality:4"},
        ],
        "mask": "User",
    },
    "oasst": {
        "message_tree_id": "t",
        "prompt": {
            "message_id": "t",
            "text": "Tea?",
            "role": "prompter",
            "replies": [
                {
                    "message_id": "u",
                    "text": "a",
                    "role": "assistant",
                    "labels": {"quality": {"value": 1, "count": 1}},
                }
            ],
        },
    },
}

# The first version of HelpSteer has the columns of the second.
SAME_COLUMNS = {("helpsteer", "helpsteer2")}


def test_there_is_a_row_of_each_source() -> None:
    assert set(NAMES) - set(ROWS) == {"pluriharms"}  # two CSV files


def held(examples: list[Example]) -> set[str]:
    """Say what kinds of judgements examples hold."""
    kinds = {Comparison: "comparisons", Ranking: "rankings", Rating: "ratings"}
    said = [judgement for example in examples for judgement in example.judgements]
    found = {kinds.get(type(one.answer), "abstentions") for one in said}
    shares = [one.answer.preference for one in said if isinstance(one.answer, Comparison)]
    found |= {"ties"} if 0.5 in shares else set()
    return found | ({"annotators"} if any(one.annotator is not None for one in said) else set())


@pytest.mark.parametrize("name", ROWS)
def test_what_a_row_holds_is_said_of_its_source(name: str, tmp_path: Path) -> None:
    examples, _ = import_files(name, [jsonl_file(tmp_path / "rows.jsonl", [ROWS[name]])])
    found = held(examples)
    assert found
    assert found <= set(find_source(name).holds)


@pytest.mark.parametrize("name", NAMES)
def test_covariates_are_said_where_they_are_read(name: str) -> None:
    source = find_source(name)
    assert ("covariates" in source.holds) == (source.read_annotators is not None)
    assert not {"ties", "annotators"} & set(source.holds) or {
        "comparisons",
        "rankings",
        "ratings",
    } & set(source.holds)


@pytest.mark.parametrize("name", ROWS)
def test_a_later_row_without_columns(name: str, tmp_path: Path) -> None:
    path = jsonl_file(tmp_path / "rows.jsonl", [ROWS[name], {}])
    if name in (
        "helpsteer3",
        "multipref",
        "pku_saferlhf",
        "lamp",
        "ultrafeedback",
        "personalllm",
    ):  # it says that nobody judged
        _, report = import_files(name, [path])
        assert sum(report.left_out.values()) >= 1
        return
    with pytest.raises(DataError, match=r"rows.jsonl, line 2, field '\w+': .* needed|is missing"):
        import_files(name, [path])


@pytest.mark.parametrize("name", ROWS)
def test_bytes_that_say_the_same(name: str, tmp_path: Path) -> None:
    path = jsonl_file(tmp_path / "rows.jsonl", [ROWS[name]])
    examples, _ = import_files(name, [path])
    assert examples
    line = json.dumps(ROWS[name]).encode()
    packed = tmp_path / "rows.jsonl.gz"
    packed.write_bytes(gzip.compress(b"\xef\xbb\xbf" + line + b"\r\n\r\n"))
    assert import_files(name, [packed])[0] == examples
    packed.write_bytes(packed.read_bytes()[:-9])
    with pytest.raises(DataError, match=r"rows.jsonl.gz: the gzip file is damaged"):
        import_files(name, [packed])


@pytest.mark.parametrize("name", NAMES)
def test_the_file_of_another_source_is_refused(name: str, tmp_path: Path) -> None:
    for other, row in ROWS.items():
        if other != name and (name, other) not in SAME_COLUMNS:
            path = jsonl_file(tmp_path / f"{other}.jsonl", [row])
            with pytest.raises(DataError, match=rf"{other}.jsonl: the columns .* are needed"):
                import_files(name, [path])
