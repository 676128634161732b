"""Preference pairs as token ids: the paper's relabelled pairs, or synthetic ones of like lengths.

Every text ends with one EOS, whoever runs it; padding is a token of its own, so that Transformers'
pooling, which looks for the last token that is not padding, reads the same place as ours.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import random
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from hidden_context.data.storage.files import iter_jsonl, write_json
from hidden_context.data.tokens.trees import tree_of

PAD, BEGIN, END = 0, 1, 2
VOCABULARY = 32_000
RANKED_PROMPT, RANKED_RESPONSE = 400, 100
RELABELLED = "relabeled_hh_rlhf/both/test.jsonl.gz"
CACHE = Path(tempfile.gettempdir()) / "hidden-context-throughput"

Group = tuple[list[int], ...]  # responses to a prompt, best first; a pair is (chosen, rejected)


def load_pairs(
    cache: Path, vocabulary: int = VOCABULARY, toy: bool = False
) -> tuple[list[Group], str]:
    """Read the pairs that ``HIDDEN_CONTEXT_DATA`` has, or draw some; and say which they are."""
    folder = os.environ.get("HIDDEN_CONTEXT_DATA")
    if toy:
        return synthetic_pairs(64, vocabulary, scale=0.25), "64 short synthetic pairs"
    if not folder or vocabulary < VOCABULARY:
        pairs = synthetic_pairs(4000, vocabulary)
        return pairs, "4000 synthetic pairs, lengths drawn as draw_lengths says"
    path = Path(folder) / RELABELLED
    digest = hashlib.sha256(path.read_bytes()).hexdigest()[:16]
    stored = cache / f"pairs-{digest}-{VOCABULARY}.json"
    if not stored.is_file():
        cache.mkdir(parents=True, exist_ok=True)
        write_json(stored, _tokenized(path))
    pairs = [(chosen, rejected) for chosen, rejected in json.loads(stored.read_text())]
    return pairs, f"{len(pairs)} real pairs, 32 000-entry BPE trained on them"


def _tokenized(path: Path) -> list[list[list[int]]]:
    """Train a byte-level BPE on the pairs and apply it to them."""
    from tokenizers.pre_tokenizers import ByteLevel

    texts = [row[side] for _, row in iter_jsonl(path) for side in ("chosen", "rejected")]
    special, letters = ["<pad>", "<s>", "</s>"], ByteLevel.alphabet()
    tokenizer = train_bpe(texts, VOCABULARY, special_tokens=special, initial_alphabet=letters)
    ids = [[*encoding.ids, END] for encoding in tokenizer.encode_batch(texts)]
    return [[ids[place], ids[place + 1]] for place in range(0, len(ids), 2)]


def train_bpe(texts: Sequence[str], size: int, **options: Any) -> Any:
    """Train a byte-level BPE of so many entries."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(vocab_size=size, show_progress=False, **options)
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def draw_lengths(draw: random.Random, responses: int, scale: float = 1.0) -> tuple[int, list[int]]:
    """Draw the tokens of a prompt and of each response, about as many as real pairs have.

    Prompt: log-normal, exp N(4.35, 1.04), 8 to 875 tokens; each response: exp N(3.44, 0.98), 2 to
    784 tokens (the moments of the real pairs' logarithms under the 32 000-entry BPE, and their
    extremes). Texts of more than 1020 tokens are drawn again.
    """

    def length(mean: float, spread: float, least: int, most: int) -> int:
        return max(least, min(most, round(draw.lognormvariate(mean, spread) * scale)))

    while True:
        prompt = length(4.35, 1.04, 8, 875)
        own = [length(3.44, 0.98, 2, 784) for _ in range(responses)]
        if prompt + max(own) <= 1020:
            return prompt, own


def synthetic_pairs(count: int, vocabulary: int, scale: float = 1.0, seed: int = 0) -> list[Group]:
    """Draw pairs with the lengths of ``draw_lengths``; token ids are uniform."""
    draw = random.Random(seed)
    return [branches(draw, vocabulary, *draw_lengths(draw, 2, scale)) for _ in range(count)]


def branches(draw: random.Random, vocabulary: int, prompt: int, responses: Sequence[int]) -> Group:
    """Draw a prompt and responses to it, of the lengths given, each text with its EOS."""

    def ids(count: int) -> list[int]:
        return [draw.randrange(END + 1, vocabulary) for _ in range(count)]

    shared = ids(prompt)
    return tuple([*shared, *ids(count), END] for count in responses)


def draw_rankings(
    count: int, responses: int, vocabulary: int, seed: int, scale: float = 1.0
) -> list[Group]:
    """Draw rankings: prompts of 400 tokens, responses of 100 with EOS, the best one first."""
    draw = random.Random(seed)
    prompt, response = round(RANKED_PROMPT * scale), round(RANKED_RESPONSE * scale)
    return [branches(draw, vocabulary, prompt, [response - 1] * responses) for _ in range(count)]


def pairs_of(rankings: Sequence[Group]) -> list[Group]:
    """Every two responses of each ranking, the better one first."""
    return [pair for ranking in rankings for pair in itertools.combinations(ranking, 2)]


def sample(pairs: Sequence[Group], count: int, max_length: int, seed: int) -> list[Group]:
    """Choose random pairs whose texts are at most so long."""
    fitting = [pair for pair in pairs if max(map(len, pair)) <= max_length]
    return random.Random(seed).sample(fitting, min(count, len(fitting)))


class Work(NamedTuple):
    """How much there is to compute.

    Attributes:
        texts: Number of texts.
        tokens: Their tokens, without padding.
        context: Positions attended to, summed over those tokens.
        unique_tokens: Tokens with what a group shares counted once.
        unique_context: Positions attended to by those.
    """

    texts: int
    tokens: int
    context: int
    unique_tokens: int
    unique_context: int


def work_of(groups: Sequence[Group]) -> Work:
    """Count tokens and attended positions."""
    found = []
    for group in groups:
        lengths, tree = list(map(len, group)), tree_of(group, range(len(group)))
        context, again = sum(map(triangle, lengths)), (len(group) - 1) * triangle(tree.shared)
        found.append(Work(len(group), sum(lengths), context, tree.num_tokens, context - again))
    return Work(*map(sum, zip(*found, strict=True)))


def triangle(length: int) -> int:
    """Positions that causal attention sees in a text: l(l + 1)/2."""
    return length * (length + 1) // 2


def text_of(sequence: Sequence[int]) -> str:
    """Write token ids as the text that ``number_tokenizer`` reads them from."""
    return " ".join("</s>" if token == END else str(token) for token in sequence)


def number_tokenizer(vocabulary: int) -> Any:
    """A tokenizer whose tokens are numbers, besides padding, BOS and EOS."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = {"<pad>": PAD, "<s>": BEGIN, "</s>": END}
    words |= {str(token): token for token in range(len(words), vocabulary)}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<s>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<s>",
    )
