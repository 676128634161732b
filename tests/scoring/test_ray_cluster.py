"""Scoring on a Ray cluster of two workers: what it writes, and what kills do to it."""

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

from hidden_context.errors import HiddenContextError
from support.builders import preference_rows
from support.paper_layout import write_rows
from support.scoring import score

psutil = pytest.importorskip("psutil")
pytest.importorskip("ray", reason="scoring on a cluster needs Ray: pip install 'ray[data]'")
pytestmark = pytest.mark.slow

ROWS, WINDOW = 60, 4
OPTIONS = {"names": ["m"], "window": WINDOW, "max_length": 120, "threads": 1}


@pytest.fixture(autouse=True)
def short_folder(monkeypatch):
    """A folder with a short name: Ray makes sockets in it, whose names are limited."""
    folder = tempfile.mkdtemp(prefix="ray", dir="/tmp")
    monkeypatch.setenv("RAY_TMPDIR", folder)
    yield
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


@pytest.fixture
def alone(source, checkpoint, tmp_path):
    """The same scoring in this process."""
    found = score(source, checkpoint, tmp_path / "alone.jsonl", **OPTIONS)
    assert (found.counts.written, found.counts.unscored) == (ROWS, 2)
    return found


def own_processes(process=None):
    """Processes of this one; other tests leave servers of theirs."""
    return set(psutil.Process(process).children(recursive=True))


def test_a_killed_worker_changes_no_byte(
    source, checkpoint, alone, tmp_path, after_window, interrupt, monkeypatch
):
    others, killed = own_processes(), []
    output, record = tmp_path / "ray.jsonl", tmp_path / "ray.jsonl.m.partial"
    interrupt(3, score, source, checkpoint, output, **OPTIONS)  # begun here, it goes on there
    begun = record.read_bytes()
    assert begun.count(b"\n") == 1 + 3 * WINDOW

    def kill():
        assert record.read_bytes().startswith(begun)
        for process in own_processes():
            with contextlib.suppress(psutil.Error):
                if not killed and "MapWorker" in " ".join(process.cmdline()):
                    process.kill()
                    killed.append(process.pid)

    after_window(2, kill)
    monkeypatch.chdir(Path(checkpoint).parent)  # workers find relative names too
    options = OPTIONS | {"engine_cluster": "ray", "workers": 2}
    try:
        found = score(source, Path(checkpoint).name, output, **options)
    except HiddenContextError as error:
        if "Ray did not start on this machine" in str(error):
            pytest.skip(str(error))
        raise
    assert len(killed) == 1
    assert found.counts == alone.counts
    for name in ("{}", "{}.heads/m/reward_head.json"):
        ours, theirs = (Path(name.format(each.path)).read_bytes() for each in (alone, found))
        assert ours == theirs
    assert not record.exists()
    assert psutil.wait_procs(own_processes() - others, timeout=200)[1] == []


def test_a_killed_command_leaves_no_process_and_goes_on(source, checkpoint, alone, tmp_path):
    output, record = tmp_path / "out.jsonl", tmp_path / "out.jsonl.m.partial"
    flags = f"--models {checkpoint} --names m --output {output} --window {WINDOW} --disable_tqdm"
    flags += " --max_length 120 --engine_cluster ray --workers 2"
    command = [sys.executable, "-m", "hidden_context", "score", source, *flags.split()]
    process = subprocess.Popen(command, env=os.environ, stderr=subprocess.PIPE, text=True)
    while process.poll() is None and (not record.exists() or record.read_bytes().count(b"\n") < 5):
        time.sleep(0.001)
    if process.poll() == 2:
        said = process.communicate()[1]
        assert "Ray did not start on this machine" in said
        pytest.skip(said)
    children = own_processes(process.pid)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert len(children) >= 4  # the cluster's own and two workers
    assert psutil.wait_procs(list(children), timeout=200)[1] == []
    assert 1 + WINDOW <= record.read_bytes().count(b"\n") <= 1 + ROWS
    assert not output.exists()
    score(source, checkpoint, output, **OPTIONS)  # what was begun there goes on here
    assert output.read_bytes() == alone.path.read_bytes()
