from __future__ import annotations

import datetime
import json
import os
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import hidden_context.data.tokenize as tokenize_module
from hidden_context.data.importers import read_row
from hidden_context.data.report import ReadReport
from hidden_context.data.token_cache import TokenCache, token_key
from hidden_context.data.tokenize import tokenize_examples, tokenize_texts
from hidden_context.errors import HiddenContextWarning
from support.builders import CHAT_TEMPLATE, preference_rows, sample_texts

MakeTokenizer = Callable[..., Any]
TEXTS: list[Any] = [*sample_texts(30), "", "é漢字🙂", "<s> written out", "a\0b"]
CHATS: list[Any] = [row["chosen"] for row in preference_rows(10, chat=True)]


@pytest.fixture
def cache(tmp_path: Path) -> TokenCache:
    return TokenCache(tmp_path, min_texts=1)


@pytest.fixture
def encoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Numbers of texts that were given to the tokenizer, call by call."""
    counts: list[int] = []
    encode_batch = tokenize_module.encode_batch

    def counting(texts: Any, *args: Any) -> Any:
        counts.append(len(texts))
        return encode_batch(texts, *args)

    monkeypatch.setattr(tokenize_module, "encode_batch", counting)
    return counts


def files(cache: TokenCache) -> list[str]:
    return sorted(path.name for path in cache.folder.iterdir())


@pytest.mark.parametrize("frame", ["", "<s> $A", "<s> $A </s>"])
@pytest.mark.parametrize("texts", [TEXTS, CHATS, TEXTS + CHATS], ids=["text", "chat", "both"])
def test_ids_are_the_same_made_written_and_read(
    cache: TokenCache,
    encoded: list[int],
    make_tokenizer: MakeTokenizer,
    texts: list[Any],
    frame: str,
) -> None:
    tokenizer = make_tokenizer(frame, chat_template=CHAT_TEMPLATE)
    plain = tokenize_texts(texts, tokenizer, None, "keep")
    written = tokenize_texts(texts, tokenizer, None, "keep", cache=cache)
    read = tokenize_texts(texts, tokenizer, None, "keep", cache=cache)
    assert encoded == [len(texts)] * 2
    assert plain == written == read
    assert {type(i) for ids in read.input_ids if ids for i in ids} == {int}
    assert files(cache) == [f"{token_key(texts, tokenizer)}.safetensors"]


def test_one_file_serves_every_length_and_every_count_is_the_same(
    cache: TokenCache, encoded: list[int], make_tokenizer: MakeTokenizer
) -> None:
    tokenizer = make_tokenizer("<s> $A")
    pairs = [read_row(dict(row)) for row in preference_rows(40, seed=3)]
    pairs.append(read_row({"chosen": "x", "rejected": "x"}))
    lengths = [len(tokenizer(pair.text(0))["input_ids"]) for pair in pairs]
    limit = sorted(lengths)[20]
    outcomes = []
    for over_length in ("drop", "truncate", "keep"):
        for max_length in (limit, limit + 9):
            results = []
            for used in (None, cache, cache):
                report = ReadReport("pairs", rows=41, kept=41)
                result = tokenize_examples(
                    pairs, tokenizer, max_length, over_length, report=report, cache=used
                )
                results.append((result, report))
            assert results[0] == results[1] == results[2]
            result, report = results[2]
            outcomes.append((report.kept, report.too_long, report.truncated, report.identical))
    over = [41 - outcomes[0][0], 41 - outcomes[1][0]]
    assert over[0] >= 20 > over[1] > 0
    assert outcomes[:2] == [(41 - n, n, 0, 1) for n in over]
    assert outcomes[2:4] == [(41, 0, n, 1) for n in over]
    assert outcomes[4:] == [(41, 0, 0, 1)] * 2
    distinct = len({text for pair in pairs for text in pair.texts})
    assert distinct < 82
    assert encoded == [distinct] * 7  # six times without the cache, once with it
    assert len(files(cache)) == 1


def test_texts_without_tokens_keep_their_reasons(
    cache: TokenCache, make_tokenizer: MakeTokenizer
) -> None:
    tokenizer = make_tokenizer()
    for _ in range(2):
        result = tokenize_texts(["x", "", "x" * 50], tokenizer, 10, "drop", cache=cache)
        assert [ids and len(ids) for ids in result.input_ids] == [1, None, None]
        assert result.reasons == [None, "it has no tokens", "it has 50 tokens, more than 10"]
        assert (result.too_long, result.empty, result.truncated) == (1, 1, 0)


def test_one_reading_takes_what_another_wrote(
    cache: TokenCache, encoded: list[int], make_tokenizer: MakeTokenizer
) -> None:
    pairs = [read_row(dict(row)) for row in preference_rows(12, seed=1)]
    tokenizer = make_tokenizer()
    first, second = (tokenize_examples(pairs, tokenizer, 256, cache=cache) for _ in range(2))
    assert encoded == [len({text for pair in pairs for text in pair.texts})]
    assert first == second == tokenize_examples(pairs, tokenizer, 256)


def test_every_change_of_content_is_another_key(make_tokenizer: MakeTokenizer) -> None:
    def chat(text: str, role: str = "user") -> list[dict[str, str]]:
        return [{"role": role, "content": text}]

    tokenizer = make_tokenizer()
    lists: list[list[Any]] = [
        [],
        [""],
        ["ab", "c"],
        ["a", "bc"],
        ["abc"],
        ["c", "ab"],
        ["ab", "c", ""],
        ["ab", "C"],
        [chat("ab"), "c"],
        [chat("ab", "system"), "c"],
        [chat("ab") + chat("c")],
        [chat("ab"), chat("c")],
        [json.dumps(chat("ab")), "c"],
    ]
    assert len({token_key(texts, tokenizer) for texts in lists}) == len(lists)
    assert token_key(["ab", "c"], make_tokenizer()) == token_key(("ab", "c"), tokenizer)


def test_every_change_of_the_tokenizer_is_another_key(make_tokenizer: MakeTokenizer) -> None:
    def with_bos(add_eos: bool = False) -> Any:
        tokenizer = make_tokenizer()
        tokenizer.add_bos_token, tokenizer.add_eos_token = True, add_eos
        tokenizer.update_post_processor()
        return tokenizer

    def changed(change: Callable[[Any], Any]) -> Any:
        tokenizer = make_tokenizer()
        change(tokenizer)
        return tokenizer

    from tokenizers import normalizers

    tokenizers = [
        make_tokenizer(),
        make_tokenizer("<s> $A"),
        make_tokenizer("$A </s>"),
        make_tokenizer(chat_template=CHAT_TEMPLATE),
        make_tokenizer(chat_template=CHAT_TEMPLATE + " "),
        with_bos(),
        with_bos(add_eos=True),
        changed(lambda t: t.add_tokens(["hello"])),
        changed(lambda t: t.add_special_tokens({"extra_special_tokens": ["hello"]})),
        changed(lambda t: setattr(t, "split_special_tokens", True)),
        changed(lambda t: setattr(t, "eos_token", "<s>")),
        changed(lambda t: setattr(t.backend_tokenizer, "normalizer", normalizers.Lowercase())),
    ]
    keys = [token_key(TEXTS, tokenizer) for tokenizer in tokenizers]
    assert len(set(keys)) == len(keys)
    assert with_bos()("x")["input_ids"] == [1, *tokenizers[0]("x")["input_ids"]]
    # given with the call, a template counts in place of the tokenizer's own
    assert token_key(TEXTS, tokenizers[4], CHAT_TEMPLATE) == keys[3]
    assert token_key(TEXTS, tokenizers[0], CHAT_TEMPLATE) == keys[3]


def test_what_changes_no_ids_changes_no_key(make_tokenizer: MakeTokenizer) -> None:
    tokenizer = make_tokenizer("<s> $A")
    before = token_key(TEXTS, tokenizer)
    tokenizer(["a", "b c"], padding=True, truncation=True, max_length=2)
    assert token_key(TEXTS, tokenizer) == before
    tokenizer.padding_side, tokenizer.model_max_length, tokenizer.name_or_path = "left", 7, "x"
    assert token_key(TEXTS, tokenizer) == before


def test_templates_that_write_the_day_are_rendered_anew_each_day(
    make_tokenizer: MakeTokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    dated = make_tokenizer(chat_template="{{ strftime_now('%d') }}" + CHAT_TEMPLATE)
    undated = make_tokenizer(chat_template=CHAT_TEMPLATE)
    today = [token_key(CHATS, tokenizer) for tokenizer in (dated, undated)]

    class Tomorrow(datetime.date):
        @classmethod
        def today(cls) -> datetime.date:
            return datetime.date(2100, 1, 1)

    monkeypatch.setattr(datetime, "date", Tomorrow)
    tomorrow = [token_key(CHATS, tokenizer) for tokenizer in (dated, undated)]
    assert [a == b for a, b in zip(today, tomorrow, strict=True)] == [False, True]


def slow_tokenizer(folder: Path, merges: str) -> Any:
    from transformers.models.ctrl.tokenization_ctrl import CTRLTokenizer

    folder.mkdir()
    tokens = ("<unk>", "a", "b", "c", "a@@", "b@@", "ab", "ab@@", "bc", "c</w>")
    vocabulary = {token: number for number, token in enumerate(tokens)}
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    (folder / "merges.txt").write_text("#version\n" + merges + "\n")
    return CTRLTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"))


def test_a_python_tokenizer_is_known_by_its_files_too(
    cache: TokenCache, encoded: list[int], tmp_path: Path
) -> None:
    texts: list[Any] = ["abc", "a b"]
    one = slow_tokenizer(tmp_path / "one", "a b")
    same = slow_tokenizer(tmp_path / "same", "a b")
    other = slow_tokenizer(tmp_path / "other", "b c</w>")
    assert one.get_vocab() == other.get_vocab()
    ids = [tokenize_texts(texts, t, None, cache=cache).input_ids for t in (one, same, other)]
    assert encoded == [2, 2]  # the second found what the first wrote
    assert ids[0] == ids[1] == [one(text)["input_ids"] for text in texts]
    assert ids[2] == [other(text)["input_ids"] for text in texts] != ids[0]


def test_nothing_is_kept_of_few_texts_or_random_tokens(
    tmp_path: Path, encoded: list[int], make_tokenizer: MakeTokenizer
) -> None:
    tokenizer = make_tokenizer()
    assert TokenCache(tmp_path).min_texts == 2000
    few = TokenCache(tmp_path, min_texts=len(TEXTS) + 1)
    for _ in range(2):
        tokenize_texts(TEXTS, tokenizer, None, cache=few)
    assert not few.folder.exists()
    tokenize_texts(TEXTS, tokenizer, None, cache=TokenCache(tmp_path, min_texts=len(TEXTS)))
    assert len(files(few)) == 1
    tokenizer.backend_tokenizer.model.dropout = 0.5
    for _ in range(2):
        tokenize_texts(TEXTS, tokenizer, None, cache=TokenCache(tmp_path, min_texts=1))
    assert len(files(few)) == 1
    assert encoded == [len(TEXTS)] * 5


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


def foreign(path: Path) -> None:
    from safetensors.numpy import save_file

    save_file({"weight": np.zeros(3, dtype=np.float32)}, path)


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: flip(path, -1),  # an id or an offset
        lambda path: flip(path, 3),  # the length of the header
        lambda path: path.write_bytes(path.read_bytes()[:-8]),
        lambda path: path.write_bytes(b""),
        lambda path: path.write_text("not one of ours"),
        foreign,
    ],
    ids=["bit", "header", "cut", "empty", "text", "foreign"],
)
def test_a_damaged_file_is_made_again(
    cache: TokenCache,
    encoded: list[int],
    make_tokenizer: MakeTokenizer,
    damage: Callable[[Path], None],
) -> None:
    tokenizer = make_tokenizer("<s> $A")
    plain = tokenize_texts(TEXTS, tokenizer, None, cache=cache)
    path = cache.path(token_key(TEXTS, tokenizer))
    whole = path.read_bytes()
    damage(path)
    assert path.read_bytes() != whole
    with pytest.warns(HiddenContextWarning, match="made again"):
        assert tokenize_texts(TEXTS, tokenizer, None, cache=cache) == plain
    assert path.read_bytes() == whole
    assert tokenize_texts(TEXTS, tokenizer, None, cache=cache) == plain
    assert encoded == [len(TEXTS)] * 2


def test_a_file_under_the_name_of_another_is_not_believed(
    cache: TokenCache, make_tokenizer: MakeTokenizer
) -> None:
    cache.write("0" * 40, [[1], [2, 3], []])
    assert cache.read("0" * 40) == [[1], [2, 3], []]
    tokenizer = make_tokenizer()
    os.replace(cache.path("0" * 40), cache.path(token_key(["a", "b", "c"], tokenizer)))
    with pytest.warns(HiddenContextWarning, match="another's name"):
        result = tokenize_texts(["a", "b", "c"], tokenizer, None, cache=cache)
    assert result.input_ids == [tokenizer(text)["input_ids"] for text in "abc"]


def test_a_folder_that_cannot_be_written_only_warns(
    tmp_path: Path, make_tokenizer: MakeTokenizer
) -> None:
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


def test_a_write_that_fails_leaves_nothing_behind(
    cache: TokenCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.warns(HiddenContextWarning, match="No space left"):
        cache.write("1" * 40, [[1, 2]])
    assert files(cache) == []


def test_texts_that_cannot_be_keyed_are_tokenized_all_the_same(
    cache: TokenCache, make_tokenizer: MakeTokenizer
) -> None:
    chats: list[Any] = [[{"role": "user", "content": "a", "seen": datetime.date(2024, 1, 1)}]]
    tokenizer = make_tokenizer(chat_template=CHAT_TEMPLATE)
    plain = tokenize_texts(chats, tokenizer, None)
    with pytest.warns(HiddenContextWarning, match="not cached: TypeError"):
        assert tokenize_texts(chats, tokenizer, None, cache=cache) == plain
    assert not cache.folder.exists()


def test_texts_that_are_refused_are_so_again(
    cache: TokenCache, make_tokenizer: MakeTokenizer
) -> None:
    template = "{% for m in messages %}{% if m.role == 'x' %}{{ raise_exception('no') }}{% endif %}"
    tokenizer = make_tokenizer(chat_template=template + "{{ m.content }}{% endfor %}")
    texts = [*CHATS, [{"role": "x", "content": "a"}]]
    made, read = (tokenize_texts(texts, tokenizer, None, cache=cache) for _ in range(2))
    assert len(list(cache.folder.iterdir())) == 1
    assert (
        made.input_ids[:-1]
        == read.input_ids[:-1]
        == tokenize_texts(CHATS, tokenizer, None).input_ids
    )
    for found in (made, read):
        assert found.input_ids[-1] is None
        assert found.reasons[-1] == "the chat template refuses messages with the roles x: no"
        assert list(found.refused) == [len(CHATS)]
        assert found.empty == 0


def test_the_files_unused_for_longest_are_removed(tmp_path: Path) -> None:
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


def test_what_is_larger_than_the_limit_is_not_kept(tmp_path: Path) -> None:
    small, large = [[1, 2, 3]], [list(range(1000))]
    cache = TokenCache(tmp_path, max_bytes=1000)
    cache.write("0" * 40, small)
    cache.write("1" * 40, large)
    assert cache.read("0" * 40) == small
    assert cache.read("1" * 40) is None


_WRITER = """
import sys, warnings
from hidden_context.data.token_cache import TokenCache
warnings.simplefilter("error")
cache = TokenCache(sys.argv[1])
ids = [list(range(n % 50)) for n in range(2000)]
print("ready", flush=True)
sys.stdin.readline()
for turn in range(60):
    cache.write("a" * 40, ids)
    assert cache.read("a" * 40) == ids
"""


def test_two_processes_write_the_same_file_at_once(tmp_path: Path) -> None:
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", _WRITER, str(tmp_path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    for writer in writers:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "ready\n"
    for writer in writers:
        assert writer.stdin is not None
        writer.stdin.write("\n")
        writer.stdin.flush()
    errors = [writer.communicate(timeout=60)[1] for writer in writers]
    assert errors == ["", ""]
    assert [writer.returncode for writer in writers] == [0, 0]
    cache = TokenCache(tmp_path)
    assert files(cache) == ["a" * 40 + ".safetensors"]
    assert cache.read("a" * 40) == [list(range(n % 50)) for n in range(2000)]


def test_the_folder_is_that_of_all_caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from hidden_context.models.feature_cache import FeatureCache

    monkeypatch.setenv("HIDDEN_CONTEXT_CACHE", str(tmp_path / "named"))
    assert TokenCache().folder == tmp_path / "named" / "tokens"
    assert TokenCache().folder.parent == FeatureCache().path.parent
    assert TokenCache(tmp_path).folder.parent == FeatureCache(tmp_path).path.parent


@pytest.mark.real_data
def test_real_pairs_are_the_same_from_the_cache(
    real_data: Path, tmp_path: Path, encoded: list[int], make_tokenizer: MakeTokenizer
) -> None:
    from hidden_context.data.files import iter_jsonl

    path = real_data / "relabeled_hh_rlhf" / "both" / "test.jsonl.gz"
    pairs = [read_row(row) for _, row in iter_jsonl(path)][:1000]
    tokenizer, cache = make_tokenizer("<s> $A"), TokenCache(tmp_path)
    results = []
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for used in (None, cache, cache):
            report = ReadReport("real", rows=1000, kept=1000)
            result = tokenize_examples(pairs, tokenizer, 1024, report=report, cache=used)
            results.append((result, report))
    assert results[0] == results[1] == results[2]
    assert sum(encoded) == 2 * len({text for pair in pairs for text in pair.texts}) > 3000
    assert 0 < results[2][1].too_long < 500
