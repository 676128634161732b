"""A row of each public data set as published, one for each kind of its files."""

import copy
import functools
import json
import operator
import re

from hidden_context.data.annotators import read_annotators
from hidden_context.data.collections.personalllm import MODELS
from hidden_context.data.example import Abstention, Comparison, Judgement, Ranking
from support.rows import assistant, user

CHAT = [user("Tea?"), assistant("Yes."), user("Why?"), assistant("Taste.")]
OTHER = [user("Tea?"), assistant("No."), user("Why?"), assistant("Water.")]
ATTRIBUTES = {"correctness": 4, "coherence": 4, "complexity": 2, "verbosity": 0}
TURNS = "My daughter fought.\n\nAssistant:  I'm sorry.\n\nHuman:  What now?"


def by(**said):
    """Judgements by their annotators' names.

    A number is a preference for the first of two responses, a tuple holds ranks, None abstains.
    """
    forms = {float: lambda share: Comparison(0, 1, share), tuple: Ranking}
    answers = {who: forms.get(type(one), lambda one: one)(one) for who, one in said.items()}
    return tuple(Judgement(answers[who] or Abstention(), who) for who in said)


def wrapped(response, prompt=TURNS):
    """Wrap a response in a prompt to a judge, as prometheus-eval does."""
    return (
        f"###Task Description:\nAn instruction.\n\n###The instruction to evaluate:\n{prompt}\n\n"
        f"###Response to evaluate:\n{response}\n\n###Score Rubrics:\n[Is it kind?]\n\n###Feedback: "
    )


def said(who, overall="A-is-clearly-better", **columns):
    """One annotation of MultiPref."""
    ties = {f"{name}_pref": "Tie" for name in ("helpful", "truthful", "harmless")}
    sure = {"overall_confidence": "fairly-confident", "time_spent": 283}
    return {**ties, "overall_pref": overall, "evaluator": who, **sure, **columns}


def rated(text, ratings="4444", overall=6.5, **columns):
    """An answer of UltraFeedback with its ratings in the order of the aspects; - is N/A."""
    aspects = ("instruction_following", "honesty", "truthfulness", "helpfulness")
    values = ["N/A" if rating == "-" else rating for rating in ratings]
    given = [int(rating) for rating in ratings if rating != "-"]
    return {
        "model": f"model of {text}",
        "principle": "honesty",
        "response": text,
        "annotations": {name: {"Rating": v} for name, v in zip(aspects, values, strict=True)},
        "overall_score": overall,
        "fine-grained_score": sum(given) / len(given),
        **columns,
    }


def parts(message, **columns):
    """A message of the Arena's 140k, whose content is a list of parts."""
    part = {"type": "text", "text": message["content"], "image": None, "mimeType": None}
    return {**message, "content": [{**part, **columns}]}


VERY = "\U0001d603\U0001d5f2\U0001d5ff\U0001d606"  # in mathematical bold letters


def assessment(who, world="A>B=C>D", personal=None, **columns):
    """An assessment of Collective Alignment; some people were asked for a personal ranking too."""
    asked = [] if personal is None else [{"ranking": personal, "rationale": "Mine."}]
    return {
        "annotator_id": who,
        "importance": "Somewhat important",
        "representativeness": f"It is {VERY} likely",
        "ranking_blocks": {
            "unacceptable": [{"rating": ["D is unacceptable"], "rationale": "Rude."}] * len(asked),
            "personal": asked,
            "world": [] if world is None else [{"ranking": world, "rationale": "Fair."}],
        },
        **columns,
    }


def message(name, parent, **columns):
    """A message of Open Assistant; one with an even number of dots in its name is a user's."""
    return {
        "message_id": name,
        "parent_id": parent,
        "text": f"text of {name}",
        "role": "assistant" if name.count(".") % 2 else "prompter",
        "lang": "en",
        "deleted": False,
        "rank": None,
        "labels": None,
        "message_tree_id": name.split(".")[0],
        **columns,
    }


def asked(turn, text):
    """What a person of PRISM wrote."""
    return {"turn": turn, "role": "user", "content": text}


def answer(turn, text, score, chosen, model="m"):
    """What a model of PRISM answered, and how it was rated."""
    said = {"turn": turn, "role": "model", "content": text, "model_name": model}
    return {**said, "score": score, "if_chosen": chosen, "within_turn_id": 0}


BATTLE = {
    "question_id": "q1",
    "model_a": "alpha",
    "model_b": "beta",
    "winner": "model_b",
    "conversation_a": CHAT,
    "conversation_b": OTHER,
    "turn": 2,
    "language": "English",
    "tstamp": 1682351591.1,
}

ROWS = {
    "ukpconvarg": {
        "topic": "Ban tea?",
        "stance": "No",
        "argument1": "Tea & milk:\nhot",
        "argument2": "It stains.",
        "gold_label": None,
        "item": "arg1_arg2",
        "votes": [
            {"annotator": "w1", "value": "a1", "competence": 0.25},
            {"annotator": "w2", "value": "a2", "competence": None},
            {"annotator": "w3", "value": "equal", "competence": None},
        ],
    },
    "dices:ratings": {
        "rater_id": "4",
        "rater_gender": "Woman",
        "rater_age": "gen z",
        "item_id": "173",
        "context": "USER: Is this fine?\nOr not?\nLAMDA: What do you mean?\nUSER: USER: this",
        "response": "It is, I think.",
        "degree_of_harm": "Benign",
        "Q2_harmful_content_overall": "Yes",
        "Q_overall": "No",
    },
    "dices:conversations": {
        "item": 53,
        "context": "USER: \nLAMDA: Hm?",
        "response": "Go on.",
        "unsafe": ["Yes", "Unsure", "No"],
        "expert_unsafe": "Yes",
    },
    "mt_bench_human": {
        "question_id": 81,
        "model_a": "m",
        "model_b": "n",
        "winner": "model_a",
        "judge": "expert_1",
        "conversation_a": CHAT,
        "conversation_b": OTHER,
        "turn": 1,
    },
    "helpsteer2:preference": {
        "split": "train",
        "prompt": "Hi\n\nyou\n<extra_id_1>Assistant\nHello!\n<extra_id_1>User\nWhat is\n<b>?",
        "response_1": "A tag.",
        "response_2": "A note.",
        "preference_strength": -2,
        "preference_statement": "@Response 1 is better than @Response 2.",
        "all_preferences_unprocessed": [
            {"strength": strength, "justification": f"because {strength}"}
            for strength in (-3, 1, 0, -100)
        ],
    },
    "helpsteer2:ratings": {
        "prompt": "c#",
        "response": "A note.",
        **{name: [value, value] for name, value in ATTRIBUTES.items()},
        "helpfulness": [3, 0],
    },
    "helpsteer3": {
        "domain": "multilingual",
        "language": "spanish",
        "context": [user("Hola"), assistant("Buenas"), user("¿Qué tal?")],
        "response1": "Bien.",
        "response2": "Mal.",
        "overall_preference": -2,
        "individual_preference": [{"score": s, "reasoning": "porque"} for s in (-1, 0, 3)],
    },
    "multipref": {
        "comparison_id": "c1",
        "prompt_id": "p1",
        "text": "Who would win?",
        "model_a": "tulu",
        "completion_a": "The first.",
        "model_b": "gpt",
        "completion_b": "The second.",
        "category": "Open QA",
        "subject_study": None,
        "normal_worker_annotations": [
            said("ann", harmless_pref="B-is-clearly-better"),
            said("bob", "B-is-slightly-better", overall_confidence="absolutely-confident"),
        ],
        "expert_worker_annotations": [
            said("cat", "Tie"),
            said("dan", "A-is-slightly-better", overall_confidence=None),
        ],
    },
    "prism:conversations": {
        "conversation_id": "c0",
        "user_id": "u0",
        "conversation_type": "values guided",
        "included_in_balanced_subset": True,
        "conversation_history": [
            asked(0, "Is it fair?"),
            answer(0, "No.", 20, False),
            answer(0, "Yes.", 100, True, "n"),
            answer(0, "EMPTY STRING", 1, False, "o"),
            asked(1, "Why?"),
            answer(1, "So.", 50, True),
            answer(1, "It is.", 50, False, "n"),
        ],
    },
    "summarize_from_feedback:comparisons": {
        "info": {
            "id": "t3_1",
            "post": "I had\n\nan accident.",
            "title": "Car",
            "subreddit": "legaladvice",
        },
        "summaries": [
            {"text": " car accident", "policy": "ppo", "note": "Unclear."},
            {"text": " we suspect them", "policy": "ref", "note": None},
        ],
        "choice": 1,
        "worker": "ann",
        "batch": "batch9",
        "split": "train",
        "extra": {"confidence": 8},
    },
    "summarize_from_feedback:axes": {
        "info": {
            "id": "167f",
            "site": "dailymail",
            "title": "Sent off",
            "article": "He was sent off.",
        },
        "split": "test",
        "summary": {
            "text": "Sent off..",
            "policy": "ref",
            "note": "13th??",
            "axes": {"overall": 3, "accuracy": "5", "coverage": None, "compatible": True},
        },
        "worker": "ann",
    },
    "pku_saferlhf": {
        "prompt": "How do I open it?",
        "response_0": "With this trick.",
        "response_1": "Better not.",
        "prompt_source": "a model",
        "is_response_0_safe": False,
        "is_response_1_safe": True,
        "response_0_harm_category": {"Privacy Violation": True, "Violence": False},
        "response_1_harm_category": {"Privacy Violation": False, "Violence": False},
        "response_0_severity_level": 2,
        "response_1_severity_level": 0,
        "better_response_id": 0,
        "safer_response_id": 1,
        "response_0_sha256": "ab",
    },
    "lamp": {
        "batch": "batch1",
        "instruction": "What does she do?",
        "responses": ["She waits.", "She waits, and waits.", "Waiting."],
        "rankings": [
            {"annotator": "writer03", "ranks": [2, 1, 3]},
            {"annotator": "writer01", "ranks": [1, 2, 3]},
        ],
    },
    "hhh_alignment:choices": {
        "input": TURNS,
        "targets": {"choices": ["Go.", "Ask her."], "labels": [0, 1]},
    },
    "hhh_alignment:wrapped": {
        "source": "honest",
        "chosen_instruction": wrapped("Ask her.\n\nThen listen."),
        "rejected_instruction": wrapped("Nothing."),
    },
    "chatbot_arena:33k": {**BATTLE, "judge": "arena_user_7", "anony": True},
    "chatbot_arena:100k": {**BATTLE, "judge_hash": "9f3c", "is_refusal": True},
    # a session of four turns, the second and third of which were voted on
    "chatbot_arena:140k": {
        "id": "vote-2",
        "model_a": "alpha",
        "model_b": "beta",
        "winner": "model_a",
        "evaluation_session_id": "s1",
        "evaluation_order": 2,
        **{
            f"conversation_{x}": [
                parts(m) for n in (1, 2) for m in (user(f"Question {n}?"), assistant(f"{x}{n}"))
            ]
            for x in "ab"
        },
        "full_conversation": [
            {
                "user": parts(user(f"Question {n}?")),
                **{f"model_side_{x}": parts(assistant(f"{x}{n}")) for x in "ab"},
            }
            for n in range(4)
        ],
        "is_code": False,
    },
    "chatbot_arena:55k": {
        "id": 30192,
        "model_a": "alpha",
        "model_b": "beta",
        "prompt": json.dumps(["Tea?", "Why, “exactly”?"]),
        "response_a": json.dumps(["Yes.", ""]),
        "response_b": json.dumps(["No.", "Taste."]),
        "winner_model_a": 1,
        "winner_model_b": 0,
        "winner_tie": 0,
    },
    "community_alignment": {
        "conversation_id": "1",
        "assigned_lang": "fr",
        "annotator_id": "ann",
        **{
            f"{turn}_turn_{field}": None
            for turn in ("first", "second", "third", "fourth")
            for field in ("prompt", *(f"response_{x}" for x in "abcd"), "preferred_response")
        },
        "first_turn_prompt": "first?",
        **{f"first_turn_response_{x}": text for x, text in zip("abcd", "wxyz", strict=True)},
        "first_turn_preferred_response": "response_c",
        "annotator_age": "18-34",
        "annotator_political": "Prefer not to say",
        "annotator_country": "france",
        "is_pregenerated_first_prompt": True,
        "in_balanced_subset": False,
        "wave": "1",
    },
    "ultrafeedback:answers": {
        "source": "flan",
        "instruction": "Tea?",
        "models": ["model of a", "model of b"],
        "completions": [rated("a", "1234"), rated("b", "54-2", 7.0)],
        "correct_answers": ["None"],
    },
    "ultrafeedback:pairs": {
        "source": "flan",
        "prompt": "Tea?",
        "chosen": CHAT[:2],
        "chosen-rating": 4.75,
        "chosen-model": "alpha",
        "rejected": OTHER[:2],
        "rejected-rating": 3.5,
        "rejected-model": "beta",
    },
    "shp": {
        "post_id": "p1",
        "domain": "askbaking_train",
        "upvote_ratio": 0.98,
        "history": "Why does bread rise? I would like to know.",
        "c_root_id_A": "a",
        "c_root_id_B": "b",
        "created_at_utc_A": 1636822112,
        "score_A": 34,
        "score_B": 17,
        "human_ref_A": "Yeast makes gas.",
        "human_ref_B": "Magic.",
        "labels": 1,
        "score_ratio": 2.0,
    },
    "personalllm": {
        "prompt": "Tea?",
        "subset": "helpful",
        "prompt_id": 12,
        **{f"response_{n}": f"answer {n}" for n in range(1, 9)},
        **{f"response_{n}_model": f"model {n}" for n in range(1, 9)},
        **{f"response_{n}_{model}": float(n) for n in range(1, 9) for model in MODELS},
    },
    "collective_alignment": {
        "prompt_id": "p1",
        # system messages were renamed for the release
        "prompt": {"id": "x", "messages": [{**user("Be kind."), "role": "developer"}, CHAT[0]]},
        "responses": [
            {"response_index": x, "messages": [assistant(f"answer {x}")]} for x in "ABCD"
        ],
        "metadata": {
            "assessments": [assessment("ann", personal="D > C = B > A"), assessment("bob", "C>A")]
        },
    },
    "webgpt": {
        "question": {"dataset": "eli5", "id": "q7", "full_text": "Why is tea brown?\n\nTell me."},
        "quotes_0": {"title": ["Tea (leaves.example)"], "extract": ["Tannins colour the water."]},
        "answer_0": "Tannins [1].",
        "tokens_0": {"prefix": [5, 6], "completion": [7]},
        "score_0": 0.5,
        "quotes_1": {"title": [], "extract": []},
        "answer_1": "It is dyed.",
        "score_1": -0.5,
    },
    "nectar": {
        "prompt": "\n\nHuman: Is tea\nhealthy?\n\nAssistant: ",
        "answers": [
            {"answer": "Yes, in moderation.", "model": "m", "rank": 2.0},
            {"answer": "Yes.", "model": "n", "rank": 3.0},
            {"answer": "No.", "model": "o", "rank": 1.0},
        ],
        "turns": 1,
        "num_responses": 3,
        "source": ["sharegpt"],
        "good_natured": True,
    },
    "pandalm": {
        "idx": 7,
        "motivation_app": "Maps",
        "cmp_key": "bloom-7b_pythia-6.9b",
        "instruction": "Name the nearest town.",
        "input": "We are at the old mill.",
        "response1": "Millbrook.",
        "response2": "",
        "annotator1": 1,
        "annotator2": 2,
        "annotator3": 0,
    },
    "lewidi": {
        "id": "11",
        "annotation task": "hate speech detection",
        "text": "Rain again. #weather",
        "annotators": "Ann1,Ann4",
        "number of annotations": 2,
        "annotations": "0,1",
        "soft_label": {"0": 0.5, "1": 0.5},
        "split": "dev",
        "lang": "en",
        "other_info": {
            "other annotations": {"aggressive language detection": "0,0"},
            "annotators group": "group1,group2",
            "group1": "target group",
            "group2": "control group",
        },
    },
    "helpsteer:rated": {
        "prompt": "Hi\n<extra_id_1>Assistant\nHello.\n<extra_id_1>User\nName a tea.",
        "response": "Green tea.",
        "helpfulness": 3,
        **ATTRIBUTES,
    },
    "helpsteer:conversations": {
        "conversations": [
            {"value": "Tea?", "from": "User", "label": None},
            {"value": "Yes.", "from": "Assistant", "label": "quality:4,toxicity:0"},
            {"value": "More?", "from": "User", "label": None},
            {"value": "No.", "from": "Assistant", "label": "humor:1.5"},
            {"value": "Bye.", "from": "Assistant", "label": ""},
        ],
        "system": "Be kind.",
        "mask": "User",
        "dataset": "teas",
    },
    "oasst": {
        "message_tree_id": "t",
        "prompt": message(
            *("t", None),
            replies=[message("t.1", "t", labels={"quality": {"value": 1, "count": 1}})],
        ),
    },
}


def row(kind, **columns):
    """A row of a kind with other columns."""
    return {**copy.deepcopy(ROWS[kind]), **columns}


def _steps(path):
    """The steps of a path such as ``votes[0].value``."""
    return [int(n) if n else name for name, n in re.findall(r"([^.\[\]]+)|\[(\d+)\]", path)]


def value_at(kind, path):
    """The value of a row of a kind at a path."""
    return functools.reduce(operator.getitem, _steps(path), ROWS[kind])


def replaced(kind, path, value):
    """A row of a kind with another value at a path."""
    changed, (*steps, last) = row(kind), _steps(path)
    functools.reduce(operator.getitem, steps, changed)[last] = value
    return changed


def people_of(report):
    """The table of annotators that an import wrote."""
    return read_annotators(report.table)
