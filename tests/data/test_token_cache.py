import datetime
import json
import multiprocessing
import os
from functools import partial
from itertools import product
from unittest import mock

import numpy as np
import pytest
from safetensors.numpy import save

from hidden_context.data.importers import read_row
from hidden_context.data.tokens.cache import TokenCache, token_key
from hidden_context.data.tokens.tokenize import tokenize_examples, tokenize_texts
from hidden_context.errors import HiddenContextWarning
from support.builders import CHAT_TEMPLATE, preference_rows, sample_texts
from support.rows import user

TEXTS = [*sample_texts(30), "", "é漢字🙂", "<s> written out", "a\0b"]
CHATS = [row["chosen"] for row in preference_rows(10, chat=True)]


@pytest.fixture
def cache(tmp_path):
    return TokenCache(tmp_path, min_texts=1)


def files(cache):
    return sorted(path.name for path in cache.folder.iterdir())


@pytest.mark.parametrize("frame", ["", "<s> $A", "<s> $A </s>"])
@pytest.mark.parametrize("texts", [TEXTS, CHATS, TEXTS + CHATS], ids=["text", "chat", "both"])
def test_ids_are_the_same_made_written_and_read(cache, encoded, make_tokenizer, texts, frame):
    tokenizer = make_tokenizer(frame, chat_template=CHAT_TEMPLATE)
    plain = tokenize_texts(texts, tokenizer, None, "keep")
    written = tokenize_texts(texts, tokenizer, None, "keep", cache=cache)
    read = tokenize_texts(texts, tokenizer, None, "keep", cache=cache)
    assert [*map(len, encoded)] == [len(texts)] * 2
    assert plain == written == read
    assert {type(i) for ids in read.input_ids if ids for i in ids} == {int}
    assert files(cache) == [f"{token_key(texts, tokenizer)}.safetensors"]


def test_one_file_serves_every_length(cache, encoded, make_tokenizer):
    tokenizer = make_tokenizer("<s> $A")
    pairs = [read_row(dict(row)) for row in preference_rows(40, seed=3)]
    pairs.append(read_row({"chosen": "x", "rejected": "x"}))
    limit = sorted(len(tokenizer(pair.text(0))["input_ids"]) for pair in pairs)[17]
    lengths = []
    for over_length, more in product(("drop", "truncate", "keep"), (0, 3)):
        made, written, read = (
            tokenize_examples(pairs, tokenizer, limit + more, over_length, cache=used)
            for used in (None, cache, cache)
        )
        assert made == written == read
        lengths.append(sum(made.lengths))
    assert len({*lengths}) == 5  # kept whole, both are the same
    distinct = len({text for pair in pairs for text in pair.texts})
    assert distinct < 82
    assert [*map(len, encoded)] == [distinct] * 7  # six times without the cache, once with it
    assert len(files(cache)) == 1


def test_every_change_of_content_is_another_key(make_tokenizer):
    tokenizer = make_tokenizer()
    chat, other, system = [user("ab")], [user("c")], [{"role": "system", "content": "ab"}]
    lists = [
        *([], [""], ["ab", "c"], ["a", "bc"], ["abc"], ["c", "ab"], ["ab", "c", ""], ["ab", "C"]),
        *([chat, "c"], [system, "c"], [chat + other], [chat, other], [json.dumps(chat), "c"]),
    ]
    assert len({token_key(texts, tokenizer) for texts in lists}) == len(lists)
    assert token_key(["ab", "c"], make_tokenizer()) == token_key(("ab", "c"), tokenizer)


def test_every_change_of_the_tokenizer_is_another_key(make_tokenizer):
    from tokenizers import normalizers

    def with_bos(tokenizer, add_eos=False):
        tokenizer.add_bos_token, tokenizer.add_eos_token = True, add_eos
        tokenizer.update_post_processor()

    tokenizers = [
        make_tokenizer(),
        make_tokenizer("<s> $A"),
        make_tokenizer("$A </s>"),
        make_tokenizer(chat_template=CHAT_TEMPLATE),
        make_tokenizer(chat_template=CHAT_TEMPLATE + " "),
    ]
    for change in (
        with_bos,
        partial(with_bos, add_eos=True),
        lambda t: t.add_tokens(["hello"]),
        lambda t: t.add_special_tokens({"extra_special_tokens": ["hello"]}),
        lambda t: setattr(t, "split_special_tokens", True),
        lambda t: setattr(t, "eos_token", "<s>"),
        lambda t: setattr(t.backend_tokenizer, "normalizer", normalizers.Lowercase()),
    ):
        tokenizers.append(make_tokenizer())
        change(tokenizers[-1])
    keys = [token_key(TEXTS, tokenizer) for tokenizer in tokenizers]
    assert len(set(keys)) == len(keys)
    assert tokenizers[5]("x")["input_ids"] == [1, *tokenizers[0]("x")["input_ids"]]
    # given with the call, a template counts in place of the tokenizer's own
    assert token_key(TEXTS, tokenizers[4], CHAT_TEMPLATE) == keys[3]
    assert token_key(TEXTS, tokenizers[0], CHAT_TEMPLATE) == keys[3]
    # what changes no ids changes no key
    tokenizer = tokenizers[1]
    tokenizer(["a", "b c"], padding=True, truncation=True, max_length=2)
    tokenizer.padding_side, tokenizer.model_max_length, tokenizer.name_or_path = "left", 7, "x"
    assert token_key(TEXTS, tokenizer) == keys[1]


def test_templates_that_write_the_day_are_rendered_anew_each_day(make_tokenizer, monkeypatch):
    dated = make_tokenizer(chat_template="{{ strftime_now('%d') }}" + CHAT_TEMPLATE)
    undated = make_tokenizer(chat_template=CHAT_TEMPLATE)
    today = [token_key(CHATS, tokenizer) for tokenizer in (dated, undated)]

    later = mock.Mock(today=lambda: "2100-01-01")
    monkeypatch.setattr("hidden_context.data.tokens.cache.datetime.date", later)
    tomorrow = [token_key(CHATS, tokenizer) for tokenizer in (dated, undated)]
    assert [a == b for a, b in zip(today, tomorrow, strict=True)] == [False, True]


def slow_tokenizer(folder, merges):
    from transformers.models.ctrl.tokenization_ctrl import CTRLTokenizer

    folder.mkdir()
    tokens = ("<unk>", "a", "b", "c", "a@@", "b@@", "ab", "ab@@", "bc", "c</w>")
    vocabulary = {token: number for number, token in enumerate(tokens)}
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    (folder / "merges.txt").write_text("#version\n" + merges + "\n")
    return CTRLTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"))


def test_a_python_tokenizer_is_known_by_its_files_too(cache, encoded, tmp_path):
    texts = ["abc", "a b"]
    one = slow_tokenizer(tmp_path / "one", "a b")
    same = slow_tokenizer(tmp_path / "same", "a b")
    other = slow_tokenizer(tmp_path / "other", "b c</w>")
    assert one.get_vocab() == other.get_vocab()
    ids = [tokenize_texts(texts, t, None, cache=cache).input_ids for t in (one, same, other)]
    assert [*map(len, encoded)] == [2, 2]  # the second found what the first wrote
    assert ids[0] == ids[1] == [one(text)["input_ids"] for text in texts]
    assert ids[2] == [other(text)["input_ids"] for text in texts] != ids[0]


def test_nothing_is_kept_of_few_texts_or_random_tokens(tmp_path, encoded, make_tokenizer):
    tokenizer, default = make_tokenizer(), TokenCache(tmp_path)
    assert default.min_texts == 2000
    for turn, least in enumerate([len(TEXTS) + 1, len(TEXTS) + 1, len(TEXTS), 1, 1]):
        tokenizer.backend_tokenizer.model.dropout = 0.5 if least == 1 else None
        tokenize_texts(TEXTS, tokenizer, None, cache=TokenCache(tmp_path, min_texts=least))
        assert len([*default.folder.glob("*")]) == (turn > 1)
    assert [*map(len, encoded)] == [len(TEXTS)] * 5


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[:-1] + bytes([data[-1] ^ 1]),  # an id or an offset
        lambda data: data[:3] + bytes([data[3] ^ 1]) + data[4:],  # the length of the header
        lambda data: data[:-8],
        lambda data: b"",
        lambda data: b"not one of ours",
        lambda data: save({"weight": np.zeros(3, dtype=np.float32)}),
        None,  # the same ids under the name of another file
    ],
    ids=["bit", "header", "cut", "empty", "text", "foreign", "another"],
)
def test_a_damaged_file_is_made_again(cache, encoded, make_tokenizer, damage):
    tokenizer = make_tokenizer("<s> $A")
    plain = tokenize_texts(TEXTS, tokenizer, None, cache=cache)
    path = cache.path(token_key(TEXTS, tokenizer))
    whole = path.read_bytes()
    cache.write("0" * 40, plain.input_ids)
    path.write_bytes(damage(whole) if damage else cache.path("0" * 40).read_bytes())
    assert path.read_bytes() != whole
    with pytest.warns(HiddenContextWarning, match="computed again"):
        assert tokenize_texts(TEXTS, tokenizer, None, cache=cache) == plain
    assert path.read_bytes() == whole
    assert tokenize_texts(TEXTS, tokenizer, None, cache=cache) == plain
    assert [*map(len, encoded)] == [len(TEXTS)] * 2


def test_a_folder_that_cannot_be_written_only_warns(tmp_path, make_tokenizer):
    (tmp_path / "file").write_text("in the way")
    tokenizer = make_tokenizer()
    plain = tokenize_texts(TEXTS, tokenizer, None)
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        cache = TokenCache(folder, min_texts=1)
        with pytest.warns(HiddenContextWarning, match="could not be cached") as caught:
            assert tokenize_texts(TEXTS, tokenizer, None, cache=cache) == plain
        assert len(caught) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_text() == "in the way"


def test_a_write_that_fails_leaves_nothing_behind(cache, monkeypatch):
    full = OSError(28, "No space left on device")
    monkeypatch.setattr(os, "replace", mock.Mock(side_effect=full))
    with pytest.warns(HiddenContextWarning, match="No space left"):
        cache.write("1" * 40, [[1, 2]])
    assert files(cache) == []


def test_texts_that_cannot_be_keyed_are_tokenized_all_the_same(cache, make_tokenizer):
    chats = [[{"role": "user", "content": "a", "seen": datetime.date(2024, 1, 1)}]]
    tokenizer = make_tokenizer(chat_template=CHAT_TEMPLATE)
    plain = tokenize_texts(chats, tokenizer, None)
    with pytest.warns(HiddenContextWarning, match="not cached: TypeError"):
        assert tokenize_texts(chats, tokenizer, None, cache=cache) == plain
    assert not cache.folder.exists()


def test_texts_that_are_refused_are_so_again(cache, make_tokenizer):
    template = "{% for m in messages %}{% if m.role == 'x' %}{{ raise_exception('no') }}{% endif %}"
    tokenizer = make_tokenizer(chat_template=template + "{{ m.content }}{% endfor %}")
    texts = [*CHATS, [{"role": "x", "content": "a"}]]
    made, read = (tokenize_texts(texts, tokenizer, None, cache=cache) for _ in range(2))
    assert len(list(cache.folder.iterdir())) == 1
    ids = tokenize_texts(CHATS, tokenizer, None).input_ids
    for found in (made, read):
        assert found.input_ids == [*ids, None]
        assert found.reasons[-1] == "the chat template refuses messages with the roles x: no"
        assert list(found.refused) == [len(CHATS)]


def test_the_files_unused_for_longest_are_removed(tmp_path):
    ids = [list(range(1000))] * 5
    TokenCache(tmp_path).write("0" * 40, ids)
    size = TokenCache(tmp_path).path("0" * 40).stat().st_size
    assert 20_000 < size < 21_000
    cache = TokenCache(tmp_path, max_bytes=3 * size)
    others = [cache.folder / "notes.safetensors", cache.folder / f"{'0' * 40}.1-ab.partial"]
    for other in others:
        other.write_bytes(bytes(size))
    os.utime(others[0], (0, 0))
    for number in range(3):
        cache.write(str(number) * 40, ids)
        os.utime(cache.path(str(number) * 40), (1000 + number, 1000 + number))
    assert cache.read("0" * 40) == ids  # now the one used last
    cache.write("3" * 40, ids)
    kept = [path.name[0] for path in cache.folder.iterdir() if path not in others]
    assert sorted(kept) == ["0", "2", "3"]
    assert all(other.exists() for other in others)  # not ours, or perhaps being written
    os.utime(others[1], (0, 0))
    cache.write("4" * 40, ids)
    assert not others[1].exists()
    assert cache.read("2" * 40) is None
    cache.write("5" * 40, ids * 4)  # larger than the limit by itself
    assert cache.read("5" * 40) is None


def write_and_read(cache, ids):
    for _ in range(60):
        cache.write("a" * 40, ids)
        assert cache.read("a" * 40) == ids


def test_two_processes_write_the_same_file_at_once(cache):
    ids = [list(range(n % 50)) for n in range(2000)]
    with multiprocessing.get_context("fork").Pool(2) as pool:
        pool.starmap(write_and_read, [(cache, ids)] * 2, chunksize=1)
    assert files(cache) == ["a" * 40 + ".safetensors"]
    assert cache.read("a" * 40) == ids


def test_the_folder_is_that_of_all_caches(tmp_path, monkeypatch):
    from hidden_context.models.featurizer import FeatureCache

    monkeypatch.setenv("HIDDEN_CONTEXT_CACHE", str(tmp_path / "named"))
    assert TokenCache().folder == tmp_path / "named" / "tokens"
    assert TokenCache().folder.parent == FeatureCache().path.parent
    assert TokenCache(tmp_path).folder.parent == FeatureCache(tmp_path).path.parent
