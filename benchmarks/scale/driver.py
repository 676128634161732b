"""How many rows the one command of a cluster gets through.

The command's own code runs on rows of the lengths of the real pairs, with a model that answers at
once: rows are read to be counted, read again and packed into windows, scores are unpacked and put
into the record, and rows are read once more and written with their scores. Ray's own work between
command and workers is left out, so that the rate is the most that one command can do.
"""

from __future__ import annotations

import contextlib
import random
import tempfile
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from scale.tokens import WINDOW
from throughput.data import draw_lengths

from hidden_context import heads
from hidden_context.data.responses import ScoringRow, read_scoring_rows
from hidden_context.data.storage.files import write_jsonl
from hidden_context.likelihood import make_likelihood
from hidden_context.scoring.cluster import worker
from hidden_context.scoring.config import StreamOptions
from hidden_context.scoring.files import write_scores
from hidden_context.scoring.record import TOKENS, PartialScores
from hidden_context.scoring.stream import Progress, Rows, Running

OUTPUTS = 2  # raw outputs of a text
WORD = 4  # letters of a word; with the space about as many bytes as a token of English has


def write_rows(path: Path, rows: int, responses: int, seed: int = 0) -> None:
    """Write prompts with responses, or pairs, of as many words as the law gives tokens."""
    draw = random.Random(seed)
    words = ["".join(draw.choices("abcdefghijklmnopqrstuvwxyz", k=WORD)) for _ in range(4096)]

    def text(count: int) -> str:
        return " ".join(draw.choices(words, k=count))

    def row() -> dict[str, Any]:
        tokens, own = draw_lengths(draw, responses)
        prompt, texts = text(tokens), [f" {text(count)}" for count in own]
        if responses == 2:
            return {"chosen": prompt + texts[0], "rejected": prompt + texts[1]}
        return {"prompt": prompt, "responses": texts}

    write_jsonl(path, (row() for _ in range(rows)))


@contextlib.contextmanager
def at_once(options: StreamOptions) -> Iterator[Running]:
    """Give a scorer that answers each window at once: there is nothing to load."""
    yield Running(make_likelihood(heads.make("mean_and_variance")), {"model": "none"}, 1, _score)


def _score(rows: Rows, record: PartialScores, progress: Progress) -> None:
    """Read windows, send them as on a cluster through a table and back, append what came back."""
    for read in worker.read_windows(rows, 0, WINDOW):
        for window in worker.unpack(worker.pack([read])):
            part = window.open()
            scored = worker.ScoredWindow(part.number, _lines(part.rows), 0, ("cpu", "float32"))
            for back in worker.unpack(worker.pack([worker.Answer(scored)])):
                found = back.open()
                record.append(found.lines, found.truncated)
                progress(len(found.lines))


def _lines(rows: Sequence[ScoringRow]) -> list[dict[str, Any]]:
    raw = [[[0.123456789 + n] * OUTPUTS for n in range(len(row.texts))] for row in rows]
    lines = [{"row": row.index, "raw": own} for row, own in zip(rows, raw, strict=True)]
    return [*lines[:-1], {**lines[-1], TOKENS: "0" * 64}]


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
            options = StreamOptions(resume=False, disable_tqdm=True)
            started = time.process_time()
            total = sum(1 for _ in read())
            counts = write_scores(read, {"model": at_once}, output, options, {}, total=total)
            seconds.append(time.process_time() - started)
            assert counts.written == rows
        return {
            "rows_per_second": rows / min(seconds),
            "input_bytes": source.stat().st_size / rows,
            "output_bytes": output.stat().st_size / rows,
        }
