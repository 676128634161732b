"""Data sets of rankings and of the best answer of several: what is particular to each."""

import json

import pytest

from hidden_context.data.collections.personalllm import MODELS
from hidden_context.data.example import Ranking
from support.published import by, passed, people_of, row
from support.rows import assistant, user

TEXTS = row("lamp")["responses"]


def writer_files(folder, writer, order, ranked, **columns):
    """What a writer was shown, and which response has rank 1, 2 and 3, as published."""
    shown = row("lamp:shown", **{"responses": [TEXTS[number] for number in order], **columns})
    ranks = {f"rank_{n}": f"Response {response}" for n, response in enumerate(ranked, 1)}
    return {
        f"{folder}/{writer}.json": json.dumps([shown]),
        f"{folder}/{writer}_rankings.json": json.dumps([{"instruction_id": 1, **ranks}]),
    }


def test_lamp_ranks_by_response(imported):
    silent = [row("lamp", rankings=nothing) for nothing in ([], None)]
    (example,), report = imported("lamp", row("lamp"), *silent)
    assert example.judgements == by(writer03=(2, 1, 3), writer01=(1, 2, 3))
    assert example.prompt == [user("What does she do?")]
    assert example.columns["instruction"] == "What does she do?"
    assert report.left_out == {"items without a ranking": 2}


def test_lamp_every_writer_saw_the_paragraphs_in_another_order(imported):
    # ann and bob like TEXTS[1] best and TEXTS[0] least
    files = {
        **writer_files("batch1", "ann", [0, 1, 2], [2, 3, 1]),
        **writer_files("batch1", "bob", [2, 0, 1], [3, 1, 2]),
        **writer_files("batch1", "cat", [0, 1, 2], [2, 3, 1], instruction_id=2),
        **writer_files("batch2", "ann", [0, 0, 2], [2, 3, 1]),
    }
    (example,), report = imported("lamp", files=dict(reversed(files.items())))
    assert example.responses == tuple([assistant(TEXTS[n])] for n in (2, 0, 1))
    assert example.judgements == by(bob=(2, 3, 1), ann=(2, 3, 1))
    assert (example.columns["batch"], example.columns["id"]) == ("batch1", "gene_1")
    assert report.left_out == {
        "paragraphs that a writer did not rank": 1,
        "rankings with two identical paragraphs": 1,
    }


SHOWN, RANKS = "a/ann.json", "a/ann_rankings.json"
TWICE = [{"instruction_id": 1, "rank_1": "Response 1"}] * 2


@pytest.mark.parametrize(
    ("ranked", "change", "message"),
    [
        ([2, 2, 1], {}, "line 1, field 'rank_1, rank_2, rank_3': a response has two ranks"),
        ([2, 4, 1], {}, "line 1, field 'rank_2': one of Response 1, Response 2, Response 3 is ne"),
        ([2, 1], {}, "line 1, field 'responses': 3 responses were shown, but Response 1, Respons"),
        ([2, 3, 1], {"responses": ["a", 1]}, r"line 1, field 'responses\[1\]': text is needed"),
        ([2, 3, 1], {RANKS: TWICE}, "line 2, field 'instruction_id': 1 is ranked twice"),
        ([2, 3, 1], {RANKS: None}, "its rankings are missing: ann_rankings.json"),
        ([2, 3, 1], {SHOWN: None}, r"ranked are missing: ann\.json"),
    ],
)
def test_lamp_odd_files_of_writers(ranked, change, message, refused):
    files = writer_files("a", "ann", [0, 1, 2], ranked, **change) | change
    files = {name: files[name] for name in (SHOWN, RANKS) if files[name]}
    refused(rf"ann(_rankings)?\.json.*{message}", "lamp", files=files)


def ranked(*answers, **columns):
    """A row of Nectar."""
    return row(
        "nectar",
        answers=[
            {"answer": text, "model": f"model-{place}", "rank": rank}
            for place, (text, rank) in enumerate(answers)
        ],
        **{"num_responses": len(answers), **columns},
    )


def test_nectar_a_ranking_by_a_model(imported):
    tied = ranked(("A", 1.0), ("B", 1.0), ("C", None), ("D", 4.0))  # no rank is no last place
    examples, _ = imported("nectar", row("nectar"), tied)
    assert examples[0].columns == {
        "prompt": [user("Is tea\nhealthy?")],
        "responses": ["Yes, in moderation.", "Yes.", "No."],  # their order says nothing
        "judgements": [{"annotator": "GPT-4", "ranks": [2, 3, 1]}],
        "models": ["m", "n", "o"],
        **passed("nectar", "source", "turns", "good_natured"),
    }
    assert examples[1].judgements[0].answer == Ranking((1, 1, None, 4))


def test_nectar_both_copies_of_a_repeated_answer_are_left_out(imported):
    refusal = "I apologize, but I can't assist with that request."
    rows = [
        ranked(("A", 1.0), (refusal, 2.0), ("B", 3.0), (refusal, 4.0)),
        ranked((refusal, 1.0), ("A", 2.0), (refusal, 3.0)),
        ranked(("A", 1.0), ("B", None)),
    ]
    (example,), report = imported("nectar", *rows)
    assert example.judgements[0].answer == Ranking((1, 3))
    assert example.columns["models"] == ["model-0", "model-2"]
    assert report.left_out == {
        "answers that occur twice for one prompt, at two ranks": 4,
        "prompts with fewer than two ranked answers": 2,
    }


@pytest.mark.parametrize(
    ("prompt", "turns"),
    [
        ("\n\nHuman: Is tea\nhealthy?\n\nAssistant:", ["Is tea\nhealthy?"]),
        (
            "\n\nHuman: Tea?\n\nAssistant: Which kind?\n\nHuman: Green: a lot\n\nAssistant: ",
            ["Tea?", "Which kind?", "Green: a lot"],
        ),
        ("\n\nHuman: A\n\nand B\nHuman: no mark\n\nAssistant: ", ["A\n\nand B\nHuman: no mark"]),
        ("\n\nHuman:  x \n\nAssistant: ", [" x "]),
        ("\n\nHuman: A\n\nHuman:no mark\n\nAssistant: ", ["A\n\nHuman:no mark"]),
        ("\n\nHuman: Tea?", None),
        ("Tea?", None),
        ("\n\nHuman: Tea?\n\nHuman: Coffee?\n\nAssistant: ", None),
        ("\n\nHuman: Write on\n\nAssistant: Yes\n\nAssistant: ", None),
        ("\n\nAssistant: Hello\n\nHuman: Tea?\n\nAssistant: ", None),
        ("You are kind.\n\nHuman: Tea?\n\nAssistant: ", None),
        ("\n\nHuman: Tea?\n\nAssistant: Yes", None),
        ("\n\nHuman: \n\nAssistant: ", None),
    ],
)
def test_nectar_turns_of_a_prompt(prompt, turns, imported):
    examples, report = imported("nectar", row("nectar", prompt=prompt), row("nectar"))
    if turns is None:
        reason = "prompts that are not turns of Human and Assistant, one after the other"
        assert report.left_out == {reason: 1}
    else:
        makers = (user, assistant, user)[: len(turns)]
        chat = [make(text) for make, text in zip(makers, turns, strict=True)]
        assert examples[0].prompt == chat


def scored(scores, others=range(8)):
    """A row of PersonalLLM with the first model's scores, and those of all others."""
    given = {model: scores if model == MODELS[0] else others for model in MODELS}
    return row(
        "personalllm",
        **{
            f"response_{n}_{model}": None if value is None else float(value)
            for model, values in given.items()
            for n, value in enumerate(values, start=1)
        },
    )


def test_personalllm_each_model_ranks_the_eight_answers(imported):
    scores = [0.5, -1.0, 3.0, 3.0, 2.0, 0.25, -7.5, 1.0]  # the two highest are tied
    (example,), _ = imported("personalllm", scored(scores))
    assert example.prompt == [user("Tea?")]
    assert example.responses == tuple([assistant(f"answer {n}")] for n in range(1, 9))
    others = dict.fromkeys(MODELS[1:], (8, 7, 6, 5, 4, 3, 2, 1))
    assert example.judgements == by(gemma_2b=(4, 6, 1, 1, 2, 5, 7, 3), **others)
    columns = example.columns
    assert (columns["subset"], columns["prompt_id"]) == ("helpful", 12)
    assert columns["models"] == [f"model {n}" for n in range(1, 9)]
    ascending = [float(n) for n in range(8)]
    assert columns["scores"] == {**dict.fromkeys(MODELS, ascending), "gemma_2b": scores}


def test_personalllm_a_missing_score_is_no_rank(imported):
    nan, inf = float("nan"), float("-inf")
    rows = [
        scored([0.5, None, 3.0, None, None, nan, inf, None]),
        scored([1.0, *[None] * 7]),
        scored([None] * 8, [None] * 8),
    ]
    (first, second), report = imported("personalllm", *rows, file="train.parquet")
    assert first.judgements[:1] == by(gemma_2b=(2, None, 1, None, None, None, None, None))
    assert first.columns["scores"]["gemma_2b"] == [0.5, None, 3.0, *[None] * 5]
    assert [said.annotator for said in second.judgements] == list(MODELS[1:])
    assert report.left_out == {
        "scores that are missing or no number": 6 + 7 + 80,
        "rankings of fewer than two answers, as scores are missing": 1 + 10,
        "prompts whose answers no model scored": 1,
    }


COVAL = "collective_alignment"


def assessed(*rankings, **columns):
    """A prompt with the rankings for the world by their annotators."""
    blocks = ((who, {"world": [{"ranking": one} for one in said]}) for who, *said in rankings)
    given = [{"annotator_id": who, "ranking_blocks": block} for who, block in blocks]
    return row(COVAL, metadata={"assessments": given}, **columns)


def test_collective_rankings_for_the_world_and_personal_ones(imported):
    (personal, world), report = imported(COVAL, row(COVAL))
    assert (personal.objective, personal.data_subset) == ("personal", "personal")
    assert personal.judgements == by(ann=(3, 2, 2, 1))
    assert (world.objective, world.columns["item"]) == ("world", "p1")
    # what was not ranked has no rank
    assert world.judgements == by(ann=(1, 2, 2, 3), bob=(2, None, 1, None))
    assert world.prompt == [{"role": "system", "content": "Be kind."}, user("Tea?")]
    assert world.responses == tuple([assistant(f"answer {x}")] for x in "ABCD")
    said = {"importance": "Somewhat important", "rationale": "Mine."}
    said |= {"representativeness": "It is very likely", "unacceptable": ["D is unacceptable"]}
    assert personal.judgements[0].columns.items() >= said.items()
    assert world.judgements[0].columns["rationale"] == "Fair."
    assert "unacceptable" not in world.judgements[1].columns  # it was not asked
    assert report.left_out == {"assessments without a personal ranking": 1}
    assert json.dumps(world.columns, ensure_ascii=False).isascii()  # no mathematical bold letters


@pytest.mark.parametrize(
    ("order", "ranks"),
    [
        ("A>B>C>D", (1, 2, 3, 4)),
        ("A=B=C=D", (1, 1, 1, 1)),
        (" D=B >A ", (2, 1, None, 1)),
        *((order, None) for order in ("", "A", "A>B>B>C", "A>E", "A>>B", "A=", "AB>C", "none")),
        ("A>B C>D", None),
    ],
)
def test_collective_orders(order, ranks, imported):
    (world,), report = imported(COVAL, assessed(("ann", order), ("bob", "B>A")))
    assert world.judgements == by(**({"ann": ranks} if ranks else {}), bob=(2, 1, None, None))
    assert report.left_out["rankings that are not an order of the answers"] == (ranks is None)


def test_collective_what_nobody_ranked_and_who_ranked_twice(imported):
    again = assessed(("ann", "A>B>C>D"), ("ann", "B>A>C>D"), prompt_id="p2")
    examples, report = imported(COVAL, assessed(("ann",)), again)
    assert [example.columns["item"] for example in examples] == ["p2"]
    assert report.repeated == 1
    assert report.left_out == {
        "assessments without a personal ranking": 3,
        "assessments without a world ranking": 1,
        "prompts without a personal ranking": 2,
        "prompts without a world ranking": 1,
    }


def person(who, **columns):
    one = row(f"{COVAL}:annotators", annotator_id=who)
    one["demographics"] |= columns
    return one


def test_collective_annotators(imported, refused):
    prompts = {"comparisons.jsonl": [row(COVAL)]}
    merged = {"merged.jsonl": [{**person("ann"), "prompt_id": "p1"}] * 2}
    people = {"annotators.jsonl": [person("ann"), person("bob", ai_concern_level=4)]}
    known = {"age": "25-34", "gender": "Woman", "country_of_residence": "Kenya"}
    _, report = imported(COVAL, files=prompts | merged)
    assert people_of(report) == {"ann": known}
    _, report = imported(COVAL, files=prompts | people | merged)
    assert people_of(report) == {"ann": known, "bob": {**known, "ai_concern_level": 4.0}}
    refused("the files hold annotators but no prompts", COVAL, files=people)
    refused("line 2, field 'prompt_id': 'p1' occurs twice", COVAL, row(COVAL), row(COVAL))
    for odd, message in (
        ({"age": "55+"}, "line 2, field 'demographics': 'ann' has other demographics on an"),
        ({"gender": ["a"]}, "line 2, field 'demographics.gender': text or a number is needed"),
    ):
        people = {"annotators.jsonl": [person("ann"), person("ann", **odd)]}
        refused(message, COVAL, files=prompts | people)
