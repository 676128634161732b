"""Data sets of rated answers and texts: what is particular to each."""

from statistics import fmean

import pytest

from hidden_context.data.collections.ultrafeedback import ASPECTS
from hidden_context.data.example import Abstention, Comparison, Judgement, Rating
from support.published import by, people_of, row
from support.rows import assistant, user


def rating(place, value, who="GPT-4"):
    return Judgement(Rating(place, value), who)


def values(examples):
    """The ratings of the first response, by objective."""
    return [(one.objective, [said.answer.value for said in one.judgements]) for one in examples]


def test_helpsteer_each_attribute_is_a_rating(imported):
    several = {"helpfulness": [3, 1, 4], "coherence": None, "complexity": [], "verbosity": [0]}
    kind = "helpsteer:rated"
    examples, report = imported("helpsteer", row(kind), row(kind, **several))
    assert values(examples) == [
        *(("helpfulness", [3.0]), ("correctness", [4.0]), ("coherence", [4.0])),
        *(("complexity", [2.0]), ("verbosity", [0.0])),
        *(("helpfulness", [3.0, 1.0, 4.0]), ("correctness", [4.0]), ("verbosity", [0.0])),
    ]
    assert all(example.data_subset == example.objective for example in examples)
    assert examples[0].judgements == (rating(0, 3.0, None),)
    assert examples[0].prompt == [user("Hi"), assistant("Hello."), user("Name a tea.")]
    assert examples[0].responses == ([assistant("Green tea.")],)
    assert report.left_out == {
        "answers without a rating for coherence": 1,
        "answers without a rating for complexity": 1,
    }


def chat(*turns, **columns):
    """A conversation of HelpSteer: speaker, text and label of each turn."""
    named = [dict(zip(("from", "value", "label"), turn, strict=True)) for turn in turns]
    return row("helpsteer:conversations", conversations=named, **columns)


def test_helpsteer_labels_within_a_conversation(imported):
    masked = chat(("Ann", "Tea?", None), ("User", "Yes.", "humor:1.5"), mask="Ann", system=None)
    examples, _ = imported("helpsteer", row("helpsteer:conversations"), masked)
    found = [("quality", [4.0]), ("toxicity", [0.0]), ("humor", [1.5]), ("humor", [1.5])]
    assert values(examples) == found
    asked = [{"role": "system", "content": "Be kind."}, user("Tea?")]
    later = [*asked, assistant("Yes."), user("More?")]
    assert [example.prompt for example in examples] == [asked, asked, later, [user("Tea?")]]
    assert examples[2].responses == ([assistant("No.")],)
    assert examples[0].columns["dataset"] == "teas"


def test_helpsteer_what_conversations_share_counts_once(imported):
    asked, answered = ("User", "Tea?", None), ("Assistant", "Yes.", "quality:4")
    rows = [
        chat(asked, answered, ("User", "More?", None), ("Assistant", "No.", "quality:1")),
        chat(asked, answered, ("User", "Why?", None), ("Assistant", "So.", "quality:2")),
        chat(asked, ("Assistant", "Yes.", "quality:3")),
        chat(("User", "Coffee?", None), answered),
        chat(("User", "Tea?", "quality:4"), ("Assistant", "Hm.", None)),
        chat(asked, ("Assistant", "Hm.", "")),
    ]
    examples, report = imported("helpsteer", *rows)
    assert values(examples) == [("quality", [value]) for value in (4.0, 1.0, 2.0, 3.0, 4.0)]
    assert report.left_out == {
        "answers with the same label in an earlier conversation": 1,
        "labels of user turns": 1,
        "conversations without a label": 1,
    }


def rated(text, ratings="4444", overall=6.5, **columns):
    """An answer of UltraFeedback with its ratings in the order of the aspects; - is N/A."""
    given = [int(rating) for rating in ratings if rating != "-"]
    values = ["N/A" if rating == "-" else rating for rating in ratings]
    return {
        **row("ultrafeedback:answers")["completions"][0],
        "model": f"model of {text}",
        "response": text,
        "overall_score": overall,
        "annotations": {name: {"Rating": v} for name, v in zip(ASPECTS, values, strict=True)},
        "fine-grained_score": fmean(given),
        **columns,
    }


def feedback(*answers, **columns):
    return row("ultrafeedback:answers", completions=list(answers), **columns)


def test_ultrafeedback_each_aspect_and_overall(imported):
    both = [rated("a", "1234", 6.5), rated("b", "5-32", "7")]
    silent = [rated("a", "4-44", 5), rated("b", "4-44", 5)]
    examples, report = imported("ultrafeedback", feedback(*both), feedback(*silent))
    assert len(examples) == 9
    assert [(one.objective, one.judgements) for one in examples[:5]] == [
        ("instruction_following", (rating(0, 1.0), rating(1, 5.0))),
        ("honesty", (rating(0, 2.0), Judgement(Abstention(), "GPT-4"))),
        ("truthfulness", (rating(0, 3.0), rating(1, 3.0))),
        ("helpfulness", (rating(0, 4.0), rating(1, 2.0))),
        ("overall", (rating(0, 6.5), rating(1, 7.0))),
    ]
    assert examples[1].judgements[1].columns["said"] == "N/A"
    assert {n: value for n, value in examples[0].columns.items() if n != "judgements"} == {
        "prompt": [user("Tea?")],
        "responses": ["a", "b"],
        "source": "flan",
        "objective": "instruction_following",
        "data_subset": "instruction_following",
        "models": ["model of a", "model of b"],
        "principles": ["honesty"] * 2,
    }
    assert report.left_out == {"prompts without a rated answer for honesty": 1}


def test_ultrafeedback_what_is_missing_or_off_the_scale(imported):
    bare = rated("a", overall=None, annotations={"honesty": None, "truthfulness": {}})
    silent = row("ultrafeedback:answers", completions=None)
    examples, report = imported(
        "ultrafeedback", feedback(bare, rated("b", "4644", 0)), feedback(), silent
    )
    assert [(one.objective, one.judgements) for one in examples] == [
        (aspect, (rating(1, 4.0),)) for aspect in ASPECTS if aspect != "honesty"
    ]
    assert report.left_out == {
        **{f"answers without a rating for {name}": 1 for name in (*ASPECTS, "overall")},
        "ratings for honesty that are not from 1 to 5": 1,
        "ratings for overall that are not from 1 to 10": 1,
        **{f"prompts without a rated answer for {name}": 1 for name in ("honesty", "overall")},
        "prompts without answers": 2,
    }


def test_ultrafeedback_the_known_error_of_overall_ratings(imported):
    poor = rated("a", "22-2", 10)
    fair = rated("b", "2322", 10)  # judged again by the authors, where the mean is known
    early = {"fine-grained_score": None}  # the first version lacks the mean of the ratings
    rows = [
        feedback(poor, fair, rated("c", "5555", 10), rated("d", "1111", 9)),
        feedback(
            *(rated("e", overall=10, **early), rated("f", overall=9, **early)),
            *(rated("g", "5555", 10, **early), rated("h", overall=10, annotations=None, **early)),
        ),
    ]
    examples, report = imported("ultrafeedback", *rows)
    overall = [example.judgements for example in examples if example.objective == "overall"]
    assert overall == [
        (rating(1, 10.0), rating(2, 10.0), rating(3, 9.0)),
        (rating(1, 9.0), rating(2, 10.0), rating(3, 10.0)),
    ]
    known = "overall ratings of 10 for answers with low aspect ratings, a known error in the first "
    assert report.left_out[f"{known}version"] == 2


def test_ultrafeedback_the_cleaned_pairs(imported, refused):
    kind = "ultrafeedback:pairs"
    rows = [row(kind), row(kind, **{"rejected-rating": 4.75})]
    examples, _ = imported("ultrafeedback", *rows)
    assert [example.judgements for example in examples] == [
        (Judgement(Comparison(0, 1, 1.0, margin=1.25), "GPT-4"),),
        (Judgement(Comparison(0, 1, 0.5, margin=0.0), "GPT-4"),),
    ]
    assert examples[0].prompt == [user("Tea?")]
    assert examples[0].responses == ([assistant("Yes.")], [assistant("No.")])
    passed = {"models": ["alpha", "beta"], "objective": "mean", "source": "flan"}
    assert examples[0].columns.items() >= passed.items()
    files = {"flan.jsonl": [row("ultrafeedback:answers")], "p.jsonl": rows}
    refused(r"p\.jsonl: the files hold the same ratings twice", "ultrafeedback", files=files)


def dices(rater, answer="No", **columns):
    return row("dices:ratings", rater_id=rater, Q_overall=answer, **columns)


def test_dices_the_published_csv(imported, refused):
    rows = [
        dices(4, "Yes"),
        dices(5, item_id=7, response="No.", degree_of_harm="", context=""),
        dices(5, "Unsure"),
        dices(6, rater_gender="Man", rater_age=""),
        dices(7, ""),
        # the texts tell what was rated, not the number alone
        dices(7, response="It is not.", context="Hello USER: you\nLAMDA: Yes?"),
    ]
    (first, second, third), report = imported("dices", *rows, file="350.csv")
    told = [user("Is this fine?\nOr not?"), assistant("What do you mean?"), user("USER: this")]
    assert (first.prompt, first.responses) == (told, ([assistant("It is, I think.")],))
    safe, unsafe = Rating(0, 0.0), Rating(0, 1.0)
    assert first.judgements == by(**{"4": unsafe, "5": None, "6": safe, "7": None})
    passed = {"item": "173", "degree_of_harm": "Benign", "objective": "unsafe"}
    assert first.columns.items() >= passed.items()
    assert (second.prompt, second.judgements) == ("", (rating(0, 0.0, "5"),))
    assert "degree_of_harm" not in second.columns
    assert third.prompt == [user("Hello USER: you"), assistant("Yes?")]
    assert third.columns["item"] == "173"
    woman = {"rater_gender": "Woman", "rater_age": "gen z"}
    known = {"4": woman, "5": woman, "6": {"rater_gender": "Man"}, "7": woman}
    assert people_of(report) == known
    other = dices(4, rater_gender="Man")
    message = "line 2, field 'rater_id': rater 4 has another description"
    refused(message, "dices", rows[0], other, file="350.csv")
    files = {"350.csv": [dices(4)], "990.csv": [dices(4)]}
    refused(r"one file is needed, not 2\..* both number their raters", "dices", files=files)


def test_dices_conversations_with_a_list_of_answers(imported):
    (example,), report = imported("dices", row("dices:conversations"))
    assert example.prompt == [user(""), assistant("Hm?")]
    assert example.judgements == by(**{"0": Rating(0, 1.0), "1": None, "2": Rating(0, 0.0)})
    assert (example.columns["expert_unsafe"], report.table) == ("Yes", None)


def person(number, **columns):
    return row("pluriharms:people", **{"Participant_ID": number, **columns})


PROMPTS = [
    # the order of the rows says nothing: Rating_N is of the prompt whose Question_Index is N
    {"Question_Index": 2, "Question_Content": "Hide it, then.", "Harm_Level": "0.25"},
    row("pluriharms:prompts"),
]


def survey(*people, prompts=PROMPTS):
    """The two files of PluriHarms."""
    return {"prompts.csv": prompts, "annotations.csv": people}


def test_pluriharms_ratings_by_number_with_unsure_as_abstention(imported):
    second_person = person(1, Rating_1="", Rating_2="33.0", Age="", Factor_1="2")
    files = survey(person(0), second_person, person(7, Rating_2="Unsure"))
    (second, first), report = imported("pluriharms", files=files)
    assert (second.prompt, second.responses) == ("", ("Hide it, then.",))
    assert first.responses == ('How, "exactly",\ndoes one?',)
    assert second.judgements == by(**{"0": Rating(0, 0.0), "1": Rating(0, 33.0), "7": None})
    assert first.judgements == by(**{"0": Rating(0, 100.0), "1": None, "7": Rating(0, 100.0)})
    passed = {"item": "1", "objective": "harm", "Harm_Level": 1.0}
    assert first.columns.items() >= passed.items()
    straight = {"Sexual_Orientation": "Straight (heterosexual)"}
    whole = {**straight, "Age": "25-34 years old", "Factor_1": -1.5}
    assert people_of(report) == {"0": whole, "1": {**straight, "Factor_1": 2.0}, "7": whole}


def odd(**columns):
    """A survey whose second person has odd columns."""
    return survey(person(7), person(0, **columns))


SHORT = {name: value for name, value in person(0).items() if name != "Rating_2"}


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (odd(Rating_1="101"), "s.csv, line 2, field 'Rating_1': a number from 0 to 100"),
        (odd(Rating_1="high"), r"line 2, field 'Rating_1': a finite number is .* text \('high'\)"),
        (odd(Participant_ID=""), "line 2, field 'Participant_ID': an annotator's name is needed"),
        (odd(Factor_1="x"), "line 2, field 'Factor_1': a finite number is needed"),
        (odd(Participant_ID=7), "line 2, field 'Participant_ID': '7' occurs twice"),
        (survey(SHORT), "field 'Rating_2': the column is missing"),
        (survey(SHORT, prompts=PROMPTS[1:] * 2), "line 2, field 'Question_Index': '1' occurs"),
        ({"prompts.csv": PROMPTS}, "not 0 and 1"),
        ({"other.csv": [{"a": 1, "b": 2}]}, "the file has a, b"),
    ],
)
def test_pluriharms_odd_files(files, message, refused):
    refused(message, "pluriharms", files=files)
