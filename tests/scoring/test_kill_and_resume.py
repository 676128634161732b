"""A scoring killed again and again ends with the bytes of one that was left alone."""

from __future__ import annotations

import multiprocessing
import random
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from hidden_context.cli.main import main
from hidden_context.scoring import ScoreConfig, score_file
from support.builders import BAD, FILLERS, GOOD, TOPICS
from support.paper_layout import read_rows, write_rows

pytestmark = pytest.mark.slow

WORDS = (*GOOD, *BAD, *TOPICS)
WINDOW = 128
IMPORTS = (
    "hidden_context.cli.score",
    "hidden_context.scoring.files",
    "hidden_context.models.sequence",
    "transformers.models.gpt2.modeling_gpt2",
)


def text_rows(count: int) -> list[dict]:
    draw = random.Random(0)
    return [
        {
            "text": f"Human: {draw.choice(TOPICS)} {number}\n\nAssistant: "
            + " ".join(draw.choices(WORDS, k=draw.randint(1, 4)))
        }
        for number in range(count)
    ]


def pair_rows(count: int) -> list[dict]:
    """Pairs of which several share a prompt, and every pair shares its own."""
    draw, rows, prompt = random.Random(1), [], ""
    for number in range(count):
        if number % 3 == 0:
            prompt = f"\n\nHuman: {' '.join(draw.choices(FILLERS, k=3))} {number}\n\nAssistant: "
        sides = [" ".join(draw.choices(WORDS, k=draw.randint(1, 5))) for _ in range(2)]
        rows.append({"chosen": prompt + sides[0], "rejected": prompt + sides[1]})
    return rows


def lines_of(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


def start(argv: list[str]) -> Any:
    """Start the command in a process of its own, forked from one that has imported everything."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(IMPORTS))
    process = context.Process(target=main, args=(argv,))
    process.start()
    return process


def score_and_kill(argv: list[str], record: Path, after: int, delay: float) -> None:
    """Run the command and kill it once it has scored so many rows more.

    Args:
        argv: The command's arguments.
        record: What it has scored so far.
        after: Rows to wait for.
        delay: Seconds from then on, so that it dies anywhere within a window.
    """
    wanted = lines_of(record) + after
    process = start(argv)
    deadline = time.monotonic() + 120
    while process.is_alive() and lines_of(record) < wanted and time.monotonic() < deadline:
        time.sleep(0.002)
    time.sleep(delay)
    process.kill()
    process.join()
    assert process.exitcode == -signal.SIGKILL


@pytest.mark.parametrize(
    ("rows", "engine", "kills"),
    [
        pytest.param(text_rows(20_000), "auto", 5, id="texts"),
        pytest.param(pair_rows(2_000), "tree", 3, id="pairs-tree"),
        pytest.param(pair_rows(1_000), "cache", 2, id="pairs-cache"),
    ],
)
def test_killed_at_any_moment(checkpoint, tmp_path, rows, engine, kills):
    source = write_rows(tmp_path / "rows.jsonl", rows)
    output, record = tmp_path / "out.jsonl", tmp_path / "out.jsonl.normal.partial"
    config = ScoreConfig(
        input=source,
        models=[checkpoint],
        output=str(tmp_path / "whole.jsonl"),
        engine=engine,
        window=WINDOW,
        disable_tqdm=True,
    )
    whole = score_file(config).path.read_bytes()
    argv = ["score", source, "--models", checkpoint, "--output", str(output), "--disable_tqdm"]
    argv += ["--engine", engine, "--window", str(WINDOW)]
    draw, kept = random.Random(7), [0]
    for _ in range(kills):
        after = draw.randint(1, len(rows) // (2 * kills))
        score_and_kill(argv, record, after, draw.uniform(0, 0.05))
        assert not output.exists()
        kept.append(lines_of(record))
        assert kept[-1] >= kept[-2] + after - WINDOW  # at most a window was lost
    assert 0 < kept[-1] < len(rows)
    last = start(argv)
    last.join()
    assert last.exitcode == 0
    assert output.read_bytes() == whole
    assert not record.exists()
    assert [next(iter(row)) for row in read_rows(output)] == [next(iter(row)) for row in rows]
