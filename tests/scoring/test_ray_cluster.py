"""Scoring on a Ray cluster of two workers: what it writes, and what kills do to it."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from hidden_context import scoring
from hidden_context.errors import HiddenContextError
from hidden_context.scoring import ScoreConfig
from hidden_context.scoring import partial as partial_module
from support.builders import preference_rows
from support.paper_layout import write_rows

psutil = pytest.importorskip("psutil")
pytest.importorskip("ray", reason="scoring on a cluster needs Ray: pip install 'ray[data]'")
pytestmark = pytest.mark.slow

ROWS, WINDOW, LENGTH = 60, 4, 120


@pytest.fixture
def short_folder(monkeypatch):
    """A folder with a short name: Ray makes sockets in it, whose names are limited."""
    folder = tempfile.mkdtemp(prefix="ray", dir="/tmp")
    monkeypatch.setenv("RAY_TMPDIR", folder)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def source(tmp_path):
    """Prompts of one to four responses, one of them blank and one too long."""
    rows = []
    for number, pair in enumerate(preference_rows(ROWS, 3)):
        responses = [f" {pair['objective']} {number} {place}" for place in range(1 + number % 4)]
        rows.append({"id": number, "prompt": pair["chosen"][:60], "responses": responses})
    rows[9]["responses"][1] = "  "
    rows[21]["responses"][0] = " and so on" * 200
    return write_rows(tmp_path / "prompts.jsonl", rows)


def score(source, model, output, **options):
    config = ScoreConfig(
        input=str(source),
        models=[model],
        names=["m"],
        output=str(output),
        window=WINDOW,
        max_length=LENGTH,
        threads=1,
        disable_tqdm=True,
        **options,
    )
    return scoring.score_file(config)


@pytest.fixture
def after_window(monkeypatch):
    """Call something when so many windows have been written to a record."""

    def install(count, action):
        original, calls = partial_module.PartialScores.append, []

        def append(self, *args):
            original(self, *args)
            calls.append(1)
            if len(calls) == count:
                action()

        monkeypatch.setattr(partial_module.PartialScores, "append", append)

    return install


def stop():
    raise KeyboardInterrupt


def own_processes():
    """Processes of this one; other tests leave servers of theirs."""
    return set(psutil.Process().children(recursive=True))


def test_a_killed_worker_changes_no_byte(
    short_folder, source, checkpoint, tmp_path, after_window, monkeypatch
):
    others = own_processes()
    alone = score(source, checkpoint, tmp_path / "alone.jsonl")
    after_window(3, stop)
    output, record = tmp_path / "ray.jsonl", tmp_path / "ray.jsonl.m.partial"
    with pytest.raises(KeyboardInterrupt):  # what was begun here goes on there
        score(source, checkpoint, output)
    begun, killed = record.read_bytes(), []
    assert begun.count(b"\n") == 1 + 3 * WINDOW

    def kill():
        assert record.read_bytes().startswith(begun)
        for process in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.Error):
                if not killed and "MapWorker" in " ".join(process.cmdline()):
                    process.kill()
                    killed.append(process.pid)

    after_window(2, kill)
    monkeypatch.chdir(Path(checkpoint).parent)  # workers find relative names too
    try:
        found = score(source, Path(checkpoint).name, output, engine_cluster="ray", workers=2)
    except HiddenContextError as error:
        if "Ray did not start on this machine" in str(error):
            pytest.skip(str(error))
        raise
    assert len(killed) == 1
    assert found.path.read_bytes() == alone.path.read_bytes()
    assert found.counts == alone.counts
    assert (found.counts.rows, found.counts.unscored) == (ROWS, 2)
    kept = [tmp_path / f"{name}.jsonl.heads/m/reward_head.json" for name in ("ray", "alone")]
    assert kept[0].read_bytes() == kept[1].read_bytes()
    assert not record.exists()
    assert psutil.wait_procs(own_processes() - others, timeout=200)[1] == []


def test_a_killed_command_leaves_no_process_and_goes_on(short_folder, source, checkpoint, tmp_path):
    alone = score(source, checkpoint, tmp_path / "alone.jsonl").path
    output, record = tmp_path / "out.jsonl", tmp_path / "out.jsonl.m.partial"
    flags = f"--models {checkpoint} --names m --output {output} --window {WINDOW} --disable_tqdm"
    flags += f" --max_length {LENGTH} --engine_cluster ray --workers 2"
    command = [sys.executable, "-m", "hidden_context", "score", source, *flags.split()]
    process = subprocess.Popen(command, env=os.environ, stderr=subprocess.PIPE, text=True)
    while process.poll() is None and (not record.exists() or record.read_bytes().count(b"\n") < 5):
        time.sleep(0.001)
    if process.poll() == 2:
        said = process.communicate()[1]
        assert "Ray did not start on this machine" in said
        pytest.skip(said)
    children = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert len(children) >= 4  # the cluster's own and two workers
    assert psutil.wait_procs(children, timeout=200)[1] == []
    kept = record.read_bytes()
    assert 1 + WINDOW <= kept.count(b"\n") <= 1 + ROWS
    assert not output.exists()
    done = score(source, checkpoint, output)  # what was begun there goes on here
    assert (done.counts.written, done.counts.unscored) == (ROWS, 2)
    assert output.read_bytes() == alone.read_bytes()
