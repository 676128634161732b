"""Data sets of pairs that several people judge: what is particular to each."""

from hidden_context.data.example import Abstention, Comparison, Judgement, Rating
from support.published import CHAT, OTHER, by, people_of, row, told
from support.rows import assistant, user


def answers(examples):
    """The answers of the judgements of each example."""
    return [[judgement.answer for judgement in example.judgements] for example in examples]


def test_multipref_votes_and_ties_of_each_aspect(imported):
    examples, report = imported("multipref", row("multipref"))
    aspects = ["overall", "helpful", "truthful", "harmless"]
    assert [example.objective for example in examples] == aspects
    assert examples[0].judgements == (
        Judgement(Comparison(0, 1, 1.0, 2), "ann", confidence=2.0),
        Judgement(Comparison(0, 1, 0.0, -1), "bob", confidence=3.0),
        Judgement(Comparison(0, 1, 0.5, 0), "cat", confidence=2.0),
        Judgement(Comparison(0, 1, 1.0, 1), "dan"),
    )
    tie = Comparison(0, 1, 0.5, 0)
    assert answers(examples[3:]) == [[Comparison(0, 1, 0.0, -2), tie, tie, tie]]
    assert examples[0].prompt == [user("Who would win?")]
    assert examples[0].responses[1] == [assistant("The second.")]
    assert examples[0].columns["category"] == "Open QA"
    assert "subject_study" not in examples[0].columns
    assert people_of(report) == {
        **{name: {"worker": "normal"} for name in ("ann", "bob")},
        **{name: {"worker": "expert"} for name in ("cat", "dan")},
    }


def test_multipref_what_is_missing_is_no_vote(imported):
    normal, expert = "normal_worker_annotations", "expert_worker_annotations"
    ann = row("multipref")[normal][0]
    rows = [
        row("multipref", **{expert: [{**ann, "overall_pref": None}]}),
        row("multipref", **{normal: None, expert: []}),
        row("multipref", **{normal: [{**ann, "helpful_pref": None}], expert: []}),
        row("multipref", **{expert: [{**ann, "overall_confidence": "guess", "evaluator": "eve"}]}),
    ]
    examples, report = imported("multipref", *rows)
    assert examples[0].judgements[2] == Judgement(Abstention(), "ann")
    assert [example.objective for example in examples[4:7]] == ["overall", "truthful", "harmless"]
    assert examples[7].judgements[2] == Judgement(Comparison(0, 1, 1.0, 2), "eve")
    assert report.left_out == {
        "comparisons without annotations": 1,
        "comparisons without a judgement for helpful": 1,
        "confidences with an unknown name (text ('guess')); their votes are kept": 1,
    }
    assert people_of(report)["ann"] == {"worker": "normal and expert"}


def test_helpsteer2_a_negative_strength_is_for_the_first_response(imported):
    kind = "helpsteer2:preference"
    agreed = [
        row(kind, all_preferences_unprocessed=nothing, preference_strength=strength)
        for nothing, strength in ((None, -2), ([], -100))
    ]
    (example, overall, neither), report = imported("helpsteer2", row(kind), *agreed)
    strengths = (Comparison(0, 1, 1.0, 3), Comparison(0, 1, 0.0, -1), Comparison(0, 1, 0.5, 0))
    assert example.judgements == told(None, *strengths, Abstention())
    assert overall.judgements == told(None, Comparison(0, 1, 1.0, 2))
    assert neither.judgements == told(None, Abstention())
    assert example.prompt == [user("Hi\n\nyou"), assistant("Hello!"), user("What is\n<b>?")]
    assert example.responses == ([assistant("A tag.")], [assistant("A note.")])
    assert example.judgements[1].columns["justification"] == "because 1"
    passed = {"data_subset": "preference", "split": "train", "preference_strength": -2}
    assert example.columns.items() >= passed.items()  # the strength as published
    assert "annotators not named" in str(report)


def test_helpsteer2_preferences_and_ratings_together(imported, refused):
    single = row("helpsteer2:ratings")
    mean = {**single, "helpfulness": 3, "correctness": 4}
    pairs = {"preference.jsonl": [row("helpsteer2:preference")]}
    examples, _ = imported("helpsteer2", files={"train.jsonl": [mean], **pairs})
    assert [example.data_subset for example in examples] == ["preference", "ratings"]
    assert examples[1].judgements == told(None, Rating(0, 3.0))
    (example,), _ = imported("helpsteer2", single)
    assert example.judgements == told(None, Rating(0, 3.0), Rating(0, 0.0))
    assert (example.objective, example.columns["correctness"]) == ("helpfulness", [4, 4])
    both = {"train.jsonl": [mean], "disagreements.jsonl": [single]}
    refused("train.jsonl: the files hold the same ratings twice", "helpsteer2", files=both)


def test_helpsteer3_has_several_unnamed_annotators(imported):
    silent = row("helpsteer3", individual_preference=[])
    (example,), report = imported("helpsteer3", row("helpsteer3"), silent)
    assert example.prompt == [user("Hola"), assistant("Buenas"), user("¿Qué tal?")]
    assert example.responses == ([assistant("Bien.")], [assistant("Mal.")])
    strengths = (Comparison(0, 1, 1.0, 1), Comparison(0, 1, 0.5, 0), Comparison(0, 1, 0.0, -3))
    assert example.judgements == told(None, *strengths)
    assert example.columns.items() >= {"language": "spanish", "overall_preference": -2}.items()
    assert report.left_out == {"rows without a preference of any person": 1}


MT = "mt_bench_human"
BATTLES = [
    row(MT),
    # the same pair, shown in the other order
    row(MT, judge="author_2", model_a="n", model_b="m", conversation_a=OTHER, conversation_b=CHAT),
    row(MT, winner="tie", turn=2),
    row(MT, judge="expert_3", winner="tie"),
    row(MT, judge="expert_4", winner="tie (bothbad)"),
    row(MT, winner="model_b", model_b="o"),
    row(MT, judge=["gpt-4", "pair-v2"], winner="tie (inconsistent)"),
    row(MT, judge="gpt4_pair"),
]


def test_mt_bench_a_pair_is_one_item_whichever_answer_was_shown_first(imported):
    (first, second_turn, other), report = imported(MT, *BATTLES)
    assert first.prompt == second_turn.prompt == CHAT[:1]
    assert first.responses == (CHAT[1:2], OTHER[1:2])
    turned = Comparison(1, 0, 1.0)
    assert first.judgements == by(expert_1=1.0, author_2=turned, expert_3=0.5, expert_4=None)
    assert second_turn.responses == (CHAT[1:], OTHER[1:])
    assert second_turn.judgements == by(expert_1=0.5)
    assert second_turn.columns["turn"] == 2
    assert other.columns["models"] == ["m", "o"]
    assert other.judgements == by(expert_1=0.0)
    assert report.left_out == {"votes by a language model": 2}


def test_mt_bench_votes_and_answers_in_files_of_their_own(imported, refused):
    bare = [
        {name: value for name, value in one.items() if not name.startswith("conversation")}
        for one in BATTLES[:6]
    ]
    votes = {"human_judgments.json": bare}
    answered = {"m.jsonl": [row(f"{MT}:answers")]}
    of_n = [{"index": 0, "turns": ["No.", "Water."]}]
    others = {"n.jsonl": [row(f"{MT}:answers", model_id="n", choices=of_n)]}
    questions = {"question.jsonl": [row(f"{MT}:questions")]}
    examples, report = imported(MT, files=votes | answered | others | questions)
    whole, _ = imported(MT, *BATTLES)
    assert [one.columns for one in examples] == [
        {**one.columns, "category": "writing"} for one in whole[:2]
    ]
    assert report.left_out == {"votes on answers that were not given": 1}
    refused("answers are given without their questions", MT, files=votes | answered)
    refused(r"nothing was found to import; left out: votes on answers .* \(6\)", MT, files=votes)
    odd = {"question.jsonl": [row(f"{MT}:questions", turns=["One?", 2])]}
    refused(r"'turns\[1\]': text is needed, not a number", MT, files=votes | answered | odd)
    odd = {"m.jsonl": [row(f"{MT}:answers", choices=["m first"])]}
    refused(r"'choices\[0\]': an object is needed, not text", MT, files=votes | odd | questions)


def test_summaries_votes_on_one_pair_are_one_example(imported):
    name, kind = "summarize_from_feedback", "summarize_from_feedback:comparisons"
    first = row(kind)
    same = [{"text": " a", "policy": "x"}, {"text": " a", "policy": "y"}]
    rows = [
        first,
        row(kind, summaries=first["summaries"][::-1], worker="bob", extra={}),
        row(kind, choice=0, batch="batch10", extra={"confidence": None}),
        row(kind, info={**first["info"], "id": 2}, extra=None),
        row(kind, split="valid1"),
        row(kind, summaries=same),
        row(kind, summaries=same, worker="bob", choice=0),
    ]
    examples, _ = imported(name, *rows, file="batch9.json")
    assert examples[0].judgements == (
        Judgement(Comparison(0, 1, 0.0), "ann", confidence=8.0),
        Judgement(Comparison(1, 0, 0.0), "bob"),  # the second of the shown ones, response 0
        Judgement(Comparison(0, 1, 1.0), "ann"),
    )
    assert [len(example.judgements) for example in examples] == [3, 1, 1, 2]
    assert answers(examples[3:]) == [[Comparison(0, 1, 0.0), Comparison(0, 1, 1.0)]]
    asked = "SUBREDDIT: r/legaladvice\n\nTITLE: Car\n\nPOST: I had\n\nan accident.\n\nTL;DR:"
    assert {n: value for n, value in examples[0].columns.items() if n != "judgements"} == {
        "prompt": [user(asked)],
        "responses": [" car accident", " we suspect them"],
        "objective": "overall",
        "data_subset": "comparisons",
        "policies": ["ppo", "ref"],
        "item": "t3_1",
        "split": "train",
        "subreddit": "legaladvice",
        "title": "Car",
    }
    assert examples[1].columns["item"] == "2"


def test_summaries_ratings_of_each_axis(imported):
    name = "summarize_from_feedback"
    first, axes = row(f"{name}:axes"), f"{name}:axes"
    another = {"text": "Another.", "axes": {"overall": 1, "compatible": None}}
    rows = [
        first,
        row(axes, worker="bob", summary={**first["summary"], "axes": {"overall": 7}}),
        row(axes, worker="bob", summary=another),
    ]
    votes = [row(f"{name}:comparisons")]
    examples, report = imported(name, files={"cnndm1.json": rows, "batch3.json": votes})
    assert [(e.data_subset, e.objective, e.judgements) for e in examples[1:]] == [
        ("axis_overall", "overall", by(ann=Rating(0, 3.0), bob=Rating(0, 7.0))),
        ("axis_accuracy", "accuracy", by(ann=Rating(0, 5.0))),
        ("axis_overall", "overall", by(bob=Rating(0, 1.0))),
    ]
    assert examples[0].data_subset == "comparisons"
    assert examples[1].prompt == [user("TITLE: Sent off\n\nHe was sent off.\n\nTL;DR:")]
    assert examples[1].columns["site"] == "dailymail"
    assert report.left_out == {"answers about 'compatible', which are yes or no": 1}
