import numpy as np

from hidden_context.data.row_facts import FactsReader
from support.rows import assistant, user


def read(rows, **options):
    reader = FactsReader(**options)
    for row in rows:
        reader.add(row)
    return reader.facts()


def test_a_prompt_is_the_same_in_every_format():
    human = "\n\nHuman: Hi  there\n\nAssistant:"
    rows = [
        {"prompt": "Hi there", "chosen": "a", "rejected": "b"},
        {"prompt": human, "chosen": f"{human} a", "rejected": f"{human} b"},
        {"chosen": f"{human} yes", "rejected": f"{human} no"},
        {"prompt": "Another", "chosen": "a", "rejected": "b"},
        {side: [user("Hi there"), assistant(side)] for side in ("chosen", "rejected")},
        {"prompt": "\ud800", "chosen": "a", "rejected": "b"},  # half a character
    ]
    for keep in (False, True):
        assert read(rows, keep_prompts=keep).cluster.tolist() == [0, 0, 0, 1, 0, 2]
    assert list(read(rows, keep_prompts=True).prompts) == ["Hi there", "Another", "\ud800"]
    assert list(read(rows).prompts) == []


def test_the_same_two_texts_are_one_item_whichever_is_chosen():
    rows = [
        {"prompt": "Tea?", "chosen": "yes", "rejected": "no"},
        {"prompt": "Tea?", "chosen": "no", "rejected": "yes"},
        {"prompt": "Coffee?", "chosen": "yes", "rejected": "no"},
        {"chosen": "yes", "rejected": "no"},
        {"chosen": "no", "rejected": "yes"},
        {"reward_output_chosen": [1.0]},
        {"reward_output_chosen": [1.0]},
    ]
    facts = read(rows)
    assert facts.item.tolist() == [0, 0, 1, 2, 2, 3, 4]
    assert facts.swapped.tolist() == [True, False, True, True, False, False, False]
    # without a prompt, texts that are the same are of one cluster all the same
    assert facts.cluster.tolist() == [0, 0, 1, 2, 2, 3, 4]
    assert facts.select(np.array([4, 0])).item.tolist() == [2, 0]
    # rows without a prompt are prompts of their own
    alone = [{"reward_output_chosen": [1.0]}, {"chosen": "x", "rejected": "y"}, {"prompt": ""}]
    facts = read(alone, keep_prompts=True)
    assert (facts.cluster.tolist(), list(facts.prompts)) == ([0, 1, 2], ["", "", ""])


def test_lengths_order_and_position():
    rows = [
        {"chosen": "bb", "rejected": "aaaa", "position": 1},
        {"responses": ["one", "three"], "label": 0},
        {"responses": ["ab", "cd", "ef"]},
        {"chosen": [{"role": "user", "content": "12345"}], "rejected": "6", "label": 1},
        {},
    ]
    facts = read(rows)
    np.testing.assert_array_equal(facts.length, [[2, 4], [3, 5], [4, 4], [5, 1], [np.nan, np.nan]])
    assert facts.swapped.tolist() == [True, False, False, False, False]
    np.testing.assert_array_equal(facts.position, [1, 0, np.nan, np.nan, np.nan])
    none = [{"chosen": "a", "rejected": "b", "position": p} for p in (True, "1", np.nan, None)]
    assert np.isnan(read(none).position).all()
    assert facts.select(np.array([1, 0])).identity.tolist() == facts.identity[[1, 0]].tolist()


def test_identity_is_of_texts_and_their_order():
    first, second, other, none = read(
        [
            {"prompt": "p", "chosen": "a", "rejected": "b", "reward_output_chosen": [1.0]},
            {"prompt": "p", "chosen": "a", "rejected": "b", "reward_output_chosen": [2.0]},
            {"prompt": "p", "chosen": "b", "rejected": "a"},
            {"prompt": "p"},
        ]
    ).identity
    assert first == second != other
    assert none == 0


def test_lengths_fall_into_quarters():
    rows = [{"chosen": "x" * size, "rejected": ""} for size in range(1, 41)] + [{}]
    bins = read(rows).length_bins()
    names, counts = np.unique(bins[bins != ""], return_counts=True)
    assert names.tolist() == [
        "1: up to 11 characters",
        "2: up to 20 characters",
        "3: up to 30 characters",
        "4: more than 30 characters",
    ]
    assert counts.tolist() == [11, 9, 10, 10]
    assert bins[-1] == ""
    assert read([{}, {}]).length_bins().tolist() == ["", ""]


def test_null_keys_of_messages_hide_no_shared_prompt():
    sides = [[user("Tea?"), assistant(text)] for text in ("Yes.", "No.")]
    filled = [[{**message, "name": None} for message in side] for side in sides]
    rows = [{"chosen": one, "rejected": sides[1]} for one in (sides[0], filled[0])]
    facts = read(rows, keep_prompts=True)
    assert (facts.cluster.tolist(), list(facts.prompts)) == ([0, 0], ["Tea?"])
    assert facts.identity[0] == facts.identity[1]
