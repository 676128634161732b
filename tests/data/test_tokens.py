"""Token ids of examples: what is too long or refused, batches, and trees of shared beginnings."""

from itertools import accumulate

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hidden_context.data.example import Comparison, Judgement, Ranking, Rating
from hidden_context.data.importers import read_row
from hidden_context.data.report import ReadReport
from hidden_context.data.reshape import merge_prompts
from hidden_context.data.tokens.tokenize import (
    pad_batch,
    sorted_windows,
    tokenize_examples,
    tokenize_texts,
)
from hidden_context.data.tokens.trees import (
    MIN_SHARED,
    TokenTree,
    fill_batches,
    group_by_prefix,
    lay_out,
    tree_of,
)
from hidden_context.errors import ConfigError, DataError
from support.rows import assistant, user


def pair(chosen, rejected):
    return read_row({"chosen": chosen, "rejected": rejected})


def counted(examples, *args, **options):
    """Tokenizes examples, and counts what is dropped and cut."""
    report = ReadReport("test", rows=len(examples), kept=len(examples))
    return tokenize_examples(examples, *args, report=report, **options), report


def test_pairs_that_are_too_long_are_dropped_and_counted(make_tokenizer):
    tokenizer = make_tokenizer("<s> $A")
    pairs = [pair("x", "y"), pair("x" * 50, "y"), pair("x", "y" * 50), pair("x" * 9, "y" * 3)]
    for limit, way in ((10, "keep"), (None, "drop")):
        assert len(tokenize_examples(pairs, tokenizer, limit, way)) == 4
    result, report = counted(pairs, tokenizer, 10)
    assert [[len(ids) for ids in pair] for pair in result.input_ids] == [[2, 2], [10, 4]]
    assert result.lengths == [4, 14]
    assert result.input_ids[0][0] == tokenizer("x")["input_ids"]
    assert result.examples == [pairs[0], pairs[3]]
    assert result.examples[0] is pairs[0]
    assert (result.indices, report.kept, report.too_long, report.truncated) == ([0, 3], 2, 2, 0)
    # pairs without tokens are dropped
    result, report = counted([pair("", "y"), pair("x", "y")], make_tokenizer(), 9)
    assert (result.indices, report.kept, report.empty) == ([1], 1, 1)


def test_truncation_keeps_the_front_token_and_the_end(make_tokenizer):
    tokenizer = make_tokenizer("<s> $A </s>")
    text = "".join(chr(ord("a") + i) for i in range(26))
    full = tokenizer(text)["input_ids"]
    result, report = counted([pair(text, "y")], tokenizer, 10, over_length="truncate")
    assert result.input_ids == [[[1, *full[-9:]], tokenizer("y")["input_ids"]]]
    assert (report.truncated, report.kept) == (1, 1)
    without = make_tokenizer()
    assert tokenize_texts([text], without, 10).input_ids == [without(text)["input_ids"][-10:]]


def test_options_that_cannot_work(make_tokenizer):
    tokenizer = make_tokenizer("<s> $A </s>")
    with pytest.raises(ConfigError, match="--max_length has to be at least 3"):
        tokenize_texts(["x"], tokenizer, 2)
    with pytest.raises(ConfigError, match="not 'cut'"):
        tokenize_texts(["x"], tokenizer, 9, "cut")
    with pytest.raises(ConfigError, match="not 0 and 1"):
        sorted_windows([1], 0, 1)


def test_pad_batch():
    ids, mask = pad_batch([[5, 6, 7], [8]], pad_token_id=9, pad_to_multiple_of=4)
    assert ids.tolist() == [[5, 6, 7, 9], [8, 9, 9, 9]]
    assert mask.tolist() == [[1, 1, 1, 0], [1, 0, 0, 0]]
    assert ids.dtype == mask.dtype == torch.int64
    assert pad_batch([[5, 6, 7]], 0)[0].shape == (1, 3)
    assert pad_batch([[1] * 64], 0, 64)[0].shape == (1, 64)


@given(st.lists(st.integers(1, 50), max_size=40), st.integers(1, 12), st.integers(1, 5))
def test_sorted_windows(lengths, window, batch_size):
    batches = sorted_windows(lengths, window, batch_size)
    flat = [index for batch in batches for index in batch]
    assert sorted(flat) == list(range(len(lengths)))
    assert all(1 <= len(batch) <= batch_size for batch in batches)
    for start in range(0, len(lengths), window):
        part = flat[start : start + window]
        assert sorted(part) == list(range(start, min(start + window, len(lengths))))
        assert [lengths[i] for i in part] == sorted((lengths[i] for i in part), reverse=True)


def test_responses_that_are_too_long_are_left_out_of_a_ranking(make_tokenizer):
    responses = [" a", " b" * 50, " c", " d"]
    rows = [
        {"prompt": "p", "responses": responses, "ranks": [3, 1, 2, 4], "ratings": [1, 5, 3, None]},
        {"prompt": "p", "responses": [" b" * 50, " c" * 50, " d"], "ranks": [1, 2, 3]},
        {"prompt": "p", "responses": [" b" * 50, " a"], "ranks": [1, 2], "ratings": [2, 1]},
        {"prompt": "p", "response": " a", "rating": 1},
        {"prompt": "p", "response": " a" * 50, "rating": 1},
    ]
    examples = [read_row(row) for row in rows]
    result, report = counted(examples, make_tokenizer(), 10)
    assert result.examples[0].responses == (" a", " c", " d")
    answers = (Ranking((3, 2, 4)), Rating(0, 1.0), Rating(1, 3.0))
    assert result.examples[0].judgements == tuple(map(Judgement, answers))
    assert result.examples[1] is examples[3]
    assert [len(ids) for ids in result.input_ids] == [3, 1]
    counts = (report.kept, report.too_long, report.left_out)
    assert (result.indices, counts) == ([0, 3], (2, 3, 1))
    cut, report = counted(examples, make_tokenizer(), 10, "truncate")
    assert (len(cut), report.truncated, report.left_out) == (5, 4, 0)
    assert max(len(ids) for one in cut.input_ids for ids in one) == 10


def test_equal_texts_are_tokenized_once(make_tokenizer, encoded):
    template = "{% for m in messages %}{{ m['content'] }}{% endfor %}"
    chat = [user("a"), assistant("b")]
    examples = [
        read_row({"prompt": "p", "chosen": " a", "rejected": " b"}),
        read_row({"prompt": "p", "chosen": " b", "rejected": " c"}),
        read_row({"prompt": "", "chosen": "p a", "rejected": "p a"}),
        read_row({"messages": chat, "rating": 1}),
        read_row({"prompt": "a", "messages": chat, "rating": 2}),
        read_row({"text": repr(chat), "rating": 2}),
    ]
    result = tokenize_examples(examples, make_tokenizer("", template), None)
    assert encoded == [["p a", "p b", "p c", chat, repr(chat)]]
    assert result.input_ids[0][1] == result.input_ids[1][0]
    assert result.input_ids[3] == result.input_ids[4] != result.input_ids[5]
    assert [j.answer for j in result.examples[1].judgements] == [Comparison(0, 1)]


def test_texts_keep_their_places_in_more_than_one_chunk(make_tokenizer):
    tokenizer = make_tokenizer()
    texts = ["x", "x" * 50, "", *(f"t{i}" for i in range(2100))]
    result = tokenize_texts(texts, tokenizer, 10, "drop")
    assert [place for place, ids in enumerate(result.input_ids) if ids is None] == [1, 2]
    assert result.reasons[:4] == [None, "it has 50 tokens, more than 10", "it has no tokens", None]
    assert (len(result), result.truncated) == (2103, 0)
    assert result.input_ids[-1] == tokenizer("t2099")["input_ids"]


NO_SYSTEM = (
    "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no system') }}"
    "{% endif %}<{{ m.role }}>{{ m.content }}{% endfor %}"
)


@pytest.fixture
def tokenizer(make_tokenizer):
    return make_tokenizer("", NO_SYSTEM)


def example(line, role="user"):
    chosen = [{"role": role, "content": f"chosen {line}"}]
    row = {"prompt": [user("Hi")], "chosen": chosen, "rejected": [assistant(f"rejected {line}")]}
    return read_row(row, file="a.jsonl", line=line)


def test_refused_rows_are_left_out_and_counted(tokenizer):
    examples = [example(1), example(2, "system"), example(3)]
    words = r"^a\.jsonl, line 2: the chat template refuses .*no system.*--on_malformed skip"
    with pytest.raises(DataError, match=words):
        tokenize_examples(examples, tokenizer, None)
    found, report = counted(examples, tokenizer, None, on_malformed="skip")
    assert found.indices == [0, 2]
    counts = (report.kept, report.empty, report.too_long, len(report.malformed))
    assert counts == (2, 0, 0, 1)
    assert report.malformed[0].startswith("a.jsonl, line 2: ")
    assert report.rows == report.kept + len(report.malformed)
    # templates may stumble over anything
    tokenizer.chat_template = "{{ messages[1].content.missing.attribute }}"
    with pytest.raises(DataError, match=r"a\.jsonl, line 1: .*has no attribute 'missing'"):
        tokenize_examples(examples, tokenizer, None)
    tokenizer.chat_template = "{% for %}"  # refuses no single text
    with pytest.raises(ConfigError, match="The chat template does not work"):
        tokenize_texts([[user("a")]], tokenizer, None)


def test_a_refused_response_leaves_the_others_of_a_merged_example(tokenizer):
    (merged,) = merge_prompts([example(1), example(2, "system"), example(5)])
    found, report = counted([merged], tokenizer, None, on_malformed="skip")
    assert (report.left_out, report.malformed, len(found.input_ids[0])) == (1, [], 5)
    assert len(found.examples[0].judgements) == 2
    with pytest.raises(DataError, match=r"a\.jsonl, line 1, 2, 5: the chat template refuses"):
        tokenize_examples([merged], tokenizer, None)


# few different tokens and copied beginnings, so that sequences share a lot
TOKENS = st.lists(st.integers(0, 1), min_size=1, max_size=6)
SEQUENCES = st.lists(
    st.builds(lambda prefix, rest: [7] * prefix + rest, st.sampled_from([0, 0, 3, 5]), TOKENS),
    min_size=1,
    max_size=8,
)


def saved(trees):
    return sum((len(tree.members) - 1) * tree.shared for tree in trees)


def unflattened(batch):
    """The sequences that a row holds, read back from its blocks."""
    ids, positions = batch.input_ids[0].tolist(), batch.position_ids[0].tolist()
    found = []
    for start, length, parent, shared in batch.layout.blocks:
        places = [*range(parent, parent + shared), *range(start, start + length)]
        assert [positions[place] for place in places] == list(range(shared + length))
        found.append([ids[place] for place in places])
    return found


@pytest.mark.parametrize(
    ("sequences", "shared", "num_tokens"),
    [
        ([[1, 2, 3], [1, 2, 3]], 2, 4),  # identical: each keeps its last token
        ([[1, 2], [1, 2, 3, 4]], 1, 5),  # one is a prefix of the other
        ([[1], [1]], 0, 2),
        ([[1], [1, 2, 3]], 0, 4),
        ([[1, 2], [3, 4]], 0, 4),
        ([[1, 2, 3]], 0, 3),  # a single sequence shares nothing
        ([[1, 2, 3, 4], [1, 2, 3, 5], [1, 2, 6]], 2, 7),
        ([[1, 2, 3, 4], [1, 2]] * 2, 1, 9),  # duplicates and prefixes
    ],
)
def test_what_is_shared(sequences, shared, num_tokens):
    for members in (range(len(sequences)), range(len(sequences))[::-1]):
        assert tree_of(sequences, members) == TokenTree(tuple(members), shared, num_tokens)


@given(SEQUENCES, st.integers(1, 40), st.integers(1, 4), st.none() | st.integers(1, 40))
def test_groups_share_what_they_say_and_save_the_most(sequences, max_tokens, min_shared, limit):
    trees = group_by_prefix(sequences, max_tokens, min_shared, limit)
    assert sorted(member for tree in trees for member in tree.members) == [*range(len(sequences))]
    for tree in trees:
        members = [sequences[member] for member in tree.members]
        assert len({tuple(member[: tree.shared]) for member in members}) == 1
        assert min(map(len, members)) > tree.shared
        unique = tree.shared + sum(len(member) - tree.shared for member in members)
        assert tree.num_tokens == unique
        if len(members) > 1:
            assert tree.shared >= min_shared
            assert tree.num_tokens <= max(max_tokens, 4 * max(map(len, members)))
            assert limit is None or tree.num_tokens <= limit
    # all ways to divide the lexicographic order into runs of neighbours
    order = sorted(range(len(sequences)), key=lambda index: sequences[index])
    best = [0] * (len(order) + 1)
    for end in range(1, len(order) + 1):
        for start in range(end):
            tree = tree_of(sequences, order[start:end])
            room = max(max_tokens, 4 * max(len(sequences[i]) for i in tree.members))
            room = room if limit is None else min(room, limit)
            fits = tree.shared >= min_shared and tree.num_tokens <= room
            gain = (len(tree.members) - 1) * tree.shared if fits else 0
            best[end] = max(best[end], best[start] + gain)
    assert saved(trees) == best[-1]


def test_groups_of_responses_to_two_prompts():
    first, second = [5] * 10, [6] * 12
    sequences = [[*second, 1], [*first, 2], [*second, 3, 3], [*first, 4], [9, 9]]
    expected = [((1, 3), 10, 12), ((0, 2), 12, 15), ((4,), 0, 2)]
    assert group_by_prefix(sequences, 1000) == expected
    assert group_by_prefix([], 10) == []


def test_little_in_common_is_not_worth_a_tree():
    for length, count in ((MIN_SHARED - 1, 2), (MIN_SHARED, 1)):
        assert len(group_by_prefix([[5] * length + [1], [5] * length + [2]], 1000)) == count


def test_more_than_64_responses_make_several_trees():
    trees = group_by_prefix([[7] * 20 + [number] for number in range(130)], 10_000)
    assert max(len(tree.members) for tree in trees) == 64
    assert saved(trees) == 20 * (130 - 3)


@given(st.lists(st.integers(1, 30), max_size=20), st.integers(1, 40))
def test_batches_are_filled_in_order(sizes, budget):
    batches = fill_batches(sizes, budget)
    assert [index for batch in batches for index in batch] == [*range(len(sizes))]
    totals = [sum(sizes[index] for index in batch) for batch in batches]
    for place, (batch, total) in enumerate(zip(batches, totals, strict=True)):
        assert total <= budget or len(batch) == 1
        if place + 1 < len(batches):  # the next one would not have fitted
            assert total + sizes[batches[place + 1][0]] > budget
    with pytest.raises(ConfigError, match="at least 1, not 0"):
        fill_batches(sizes, 0)


@given(SEQUENCES, st.integers(1, 40))
def test_a_row_gives_every_sequence_back(sequences, max_tokens):
    trees = group_by_prefix(sequences, max_tokens, 1)
    batch = lay_out(sequences, trees)
    layout = batch.layout
    assert unflattened(batch) == [sequences[member] for member in batch.members]
    assert batch.input_ids.dtype == batch.position_ids.dtype == torch.int64
    assert batch.members == tuple(member for tree in trees for member in tree.members)
    ends = accumulate(block.length for block in layout.blocks)
    assert [block.start + block.length for block in layout.blocks] == list(ends)
    assert layout.num_tokens == batch.input_ids.shape[1] == sum(t.num_tokens for t in trees)
    assert layout.last == tuple(block.start + block.length - 1 for block in layout.blocks)
    assert layout.longest == max(map(len, sequences))
