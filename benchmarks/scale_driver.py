"""What the one command of a cluster gets through: rows, tokens, and the memory of training data.

The command's own code runs on rows of the lengths of the real pairs, with a model that answers at
once: rows are read to be counted, read again and packed into windows, scores are unpacked and put
into the record, and rows are read once more and written with their scores. Ray's own work between
command and workers is left out, so that the rate is the most that one command can do. Training
holds its data in each process; how much a comparison takes is measured on the same rows. Run by
itself it prints all numbers:

    python benchmarks/scale_driver.py --rows 4096
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from scale_lengths import draw_lengths
from scale_tokens import WINDOW

from hidden_context import heads
from hidden_context.data.responses import ScoringRow, read_scoring_rows
from hidden_context.likelihood import Likelihood, make_likelihood
from hidden_context.scoring.cluster_worker import (
    Answer,
    ScoredWindow,
    pack,
    read_windows,
    unpack,
)
from hidden_context.scoring.config import StreamOptions
from hidden_context.scoring.merge import write_scores
from hidden_context.scoring.partial import TOKENS, PartialScores
from hidden_context.scoring.running import HowToScore, Rows

WORD = 4  # letters of a word; with the space about as many bytes as a token of English has


def write_rows(path: Path, rows: int, responses: int, seed: int = 0) -> None:
    """Write prompts with responses, or pairs, of as many words as the law gives tokens."""
    draw = random.Random(seed)
    words = ["".join(draw.choices("abcdefghijklmnopqrstuvwxyz", k=WORD)) for _ in range(4096)]

    def text(count: int) -> str:
        return " ".join(draw.choices(words, k=count))

    with path.open("w", encoding="utf-8") as file:
        for _ in range(rows):
            tokens, own = draw_lengths(draw, responses)
            prompt, texts = text(tokens), [f" {text(count)}" for count in own]
            row: dict[str, Any] = {"prompt": prompt, "responses": texts}
            if responses == 2:
                row = {"chosen": prompt + texts[0], "rejected": prompt + texts[1]}
            file.write(json.dumps(row) + "\n")


class AtOnce:
    """A scorer that answers each window at once, by the way that windows go on a cluster.

    Args:
        outputs: Raw outputs of a text.
    """

    def __init__(self, outputs: int = 2) -> None:
        self.outputs = outputs
        self.likelihood: Likelihood = make_likelihood(heads.make("mean_and_variance"))
        self.identity: Mapping[str, Any] = {"model": "none"}
        self.facts: Mapping[str, Any] = {}

    @contextlib.contextmanager
    def running(self, how: HowToScore) -> Iterator[AtOnce]:
        """There is nothing to load."""
        yield self

    def score(self, rows: Rows, record: PartialScores, progress: Callable[[int], Any]) -> None:
        """Read windows, send them through a table and back, and append what they came to."""
        for read in read_windows(rows, 0, WINDOW):
            for window in unpack(pack([read])):
                part = window.open()
                scored = ScoredWindow(part.number, self._lines(part.rows), 0, ("cpu", "float32"))
                for back in unpack(pack([Answer(scored)])):
                    found = back.open()
                    record.append(found.lines, found.truncated)
                    progress(len(found.lines))

    def _lines(self, rows: Sequence[ScoringRow]) -> list[dict[str, Any]]:
        lines: list[dict[str, Any]] = [
            {
                "row": row.index,
                "raw": [[0.123456789 + place] * self.outputs for place in range(len(row.texts))],
            }
            for row in rows
        ]
        lines[-1][TOKENS] = "0" * 64
        return lines


def driver_rate(rows: int, responses: int = 2, rounds: int = 3) -> dict[str, float]:
    """Measure the command's own work, the best of several rounds.

    Args:
        rows: Rows of the file.
        responses: Responses to each prompt; of two, a row is a pair.
        rounds: Times it is done.

    Returns:
        Rows per second, and bytes of a row in the input and in the output.
    """
    with tempfile.TemporaryDirectory() as temporary:
        source, output = Path(temporary) / "rows.jsonl", Path(temporary) / "scores.jsonl"
        write_rows(source, rows, responses)
        read = partial(read_scoring_rows, source, None)
        seconds = []
        for _ in range(rounds):
            output.unlink(missing_ok=True)
            started = time.process_time()
            total = sum(1 for _ in read())
            counts = write_scores(
                read,
                {"model": AtOnce()},
                output,
                StreamOptions(resume=False, disable_tqdm=True),
                over_length="null",
                description={},
                total=total,
            )
            seconds.append(time.process_time() - started)
            assert counts.written == rows
        return {
            "rows_per_second": rows / min(seconds),
            "input_bytes": source.stat().st_size / rows,
            "output_bytes": output.stat().st_size / rows,
        }


def tokenizing_rate(texts: int = 2000, seed: int = 0) -> float:
    """Measure tokens per second of one core: a byte-level BPE of 8000 entries, trained here."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    draw = random.Random(seed)
    letters = "etaoinshrdlucmfwypvbgkqjxz"
    weights = [1 / (place + 2) for place in range(len(letters))]
    words = ["".join(draw.choices(letters, weights, k=draw.randint(2, 9))) for _ in range(6000)]
    shares = [1 / (place + 1) for place in range(len(words))]  # Zipf's law
    lines = [" ".join(draw.choices(words, shares, k=150)) for _ in range(texts)]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(vocab_size=8000, show_progress=False)
    tokenizer.train_from_iterator(lines, trainer)
    started, tokens = time.process_time(), 0
    for line in lines:
        tokens += len(tokenizer.encode(line).ids)
    return tokens / (time.process_time() - started)


def training_bytes(rows: int) -> float:
    """Measure the memory that a pair takes in a training process: its example and its token ids."""
    import tracemalloc

    from throughput_data import VOCABULARY, number_tokenizer

    from hidden_context.data.sources import load_examples
    from hidden_context.data.tokenize import tokenize_examples

    tokenizer = number_tokenizer(VOCABULARY)
    with tempfile.TemporaryDirectory() as temporary:
        source = Path(temporary) / "rows.jsonl"
        write_numbers(source, rows)
        first = load_examples(source, limit=64).examples
        tokenize_examples(first, tokenizer, None, "keep")  # what is allocated only once
        tracemalloc.start()
        try:
            examples = load_examples(source).examples
            kept = tokenize_examples(examples, tokenizer, None, "keep")
            held = tracemalloc.get_traced_memory()[0]
        finally:
            tracemalloc.stop()
        assert len(kept.input_ids) == rows
        return held / rows


def write_numbers(path: Path, rows: int, seed: int = 0) -> None:
    """Write pairs of numbers, each of which is a token, as many as the law gives."""
    draw = random.Random(seed)
    with path.open("w", encoding="utf-8") as file:
        for _ in range(rows):
            tokens, own = draw_lengths(draw, 2)
            prompt, *texts = (
                " ".join(str(draw.randrange(3, 32_000)) for _ in range(count))
                for count in (tokens, *own)
            )
            row = {"chosen": f"{prompt} {texts[0]}", "rejected": f"{prompt} {texts[1]}"}
            file.write(json.dumps(row) + "\n")


def measure(rows: int, responses: Sequence[int] = (2, 4)) -> dict[str, Any]:
    """Measure all of it."""
    return {
        "training_bytes_per_pair": training_bytes(min(rows, 1024)),
        "tokens_per_second": tokenizing_rate(),
        "driver": {str(each): driver_rate(rows, each) for each in responses},
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rows", type=int, default=4096)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    text = json.dumps(measure(options.rows), indent=2)
    print(text)
    if options.output:
        options.output.write_text(text + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
