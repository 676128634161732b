"""A server of its own on loopback: it starts, answers, drains, and refuses bad options."""

import json
import os
import signal
import subprocess
import sys
import threading
import time

import httpx2
import pytest

from hidden_context.cli import serve as command
from hidden_context.errors import ConfigError, MissingDependencyError, MissingFileError
from hidden_context.models.reward_model import RewardModel
from hidden_context.serve.app import DrainingServer, run
from hidden_context.serve.config import TOKEN_VARIABLE, ServeConfig, is_loopback, read_token

TOKEN = "of-the-test"


class Process:
    """``hidden-context serve`` in a process, with its log."""

    def __init__(self, *arguments):
        command = [sys.executable, "-m", "hidden_context", "serve", *arguments, "--port", "0"]
        environment = {**os.environ, TOKEN_VARIABLE: TOKEN}
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
        self.events = []
        self.url = f"http://127.0.0.1:{self.wait_for('serving')['port']}"
        self.wait_for("ready")

    def wait_for(self, name):
        for line in self.process.stderr:
            self.events.append(json.loads(line))
            if self.events[-1]["event"] == name:
                return self.events[-1]
        raise AssertionError(self.events)


@pytest.fixture
def process(folders):
    started = Process(folders["normal"], "--device", "cpu", "--coalesce_ms", "1500")
    yield started
    started.process.kill()
    started.process.wait()


def test_a_server_answers_what_it_accepted_before_it_stops(process, folders):
    headers = {"Authorization": f"Bearer {TOKEN}"}
    body = {"query": ["<s>Hello there"]}
    replies = {}

    def post(name):
        with httpx2.Client(base_url=process.url, headers=headers) as client:
            replies[name] = client.post("/get_reward", json=body)

    with httpx2.Client(base_url=process.url) as client:
        assert client.get("/ready").status_code == 200
        assert client.post("/get_reward", json=body).status_code == 401
        accepted = threading.Thread(target=post, args=("accepted",))
        accepted.start()
        while "hidden_context_queue_texts 1.0" not in client.get("/metrics", headers=headers).text:
            time.sleep(0.01)  # until it waits for other requests to run with it
        process.process.send_signal(signal.SIGTERM)
        process.wait_for("draining")
        assert client.get("/ready").status_code == 503
        post("late")
        accepted.join()
    assert process.process.wait(30) == 0
    assert replies["accepted"].status_code == 200
    assert replies["late"].status_code == 503
    expected = RewardModel.from_pretrained(folders["normal"]).score(["Hello there"]).mean.item()
    assert replies["accepted"].json()["rewards"] == [pytest.approx(expected, abs=1e-5)]
    stopped = process.wait_for("stopped")
    assert (stopped["accepted"], stopped["unanswered"]) == (1, 0)
    assert "Hello" not in json.dumps(process.events)
    assert TOKEN not in json.dumps(process.events)


class Stopped(DrainingServer):
    """A server that is told to stop as soon as it serves: once, or twice."""

    signals = 1

    async def main_loop(self):
        for _ in range(self.signals):
            self.handle_exit(signal.SIGTERM, None)
        await super().main_loop()


@pytest.mark.parametrize(("signals", "drain"), [(1, 5), (2, 5), (1, 0)])
def test_the_first_signal_drains_and_the_second_ends(folders, monkeypatch, signals, drain):
    monkeypatch.setattr("hidden_context.serve.app.DrainingServer", Stopped)
    monkeypatch.setattr(Stopped, "signals", signals)
    monkeypatch.setattr("hidden_context.serve.app._LINGER", 0.0)
    if drain == 0:
        hung = "hidden_context.serve.service.Service.under_way"
        monkeypatch.setattr(hung, property(lambda self: 1, lambda self, value: None), raising=False)
    arguments = [folders["normal"], "--port", "0", "--drain_seconds", str(drain)]
    assert command.main([*arguments, "--device", "cpu"]) == 0


def test_a_taken_port_and_a_missing_model_are_errors_at_once(folders):
    import socket

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=f"cannot listen on 127.0.0.1:{port}"):
            run(ServeConfig(models=[folders["normal"]], port=port))
    with pytest.raises(MissingFileError):
        run(ServeConfig(models=["./nowhere"], port=0))


def test_others_are_let_in_with_a_token_alone(monkeypatch):
    monkeypatch.delenv(TOKEN_VARIABLE, raising=False)
    assert read_token("127.0.0.1") is None
    for host in ("0.0.0.0", "::", "10.1.2.3", "example.org"):
        with pytest.raises(ConfigError, match=f"--host {host} can be reached .* {TOKEN_VARIABLE}"):
            read_token(host)
    monkeypatch.setenv(TOKEN_VARIABLE, "")
    with pytest.raises(ConfigError):
        read_token("0.0.0.0")
    monkeypatch.setenv(TOKEN_VARIABLE, "x")
    assert read_token("0.0.0.0") == read_token("::1") == "x"
    assert is_loopback("localhost")
    assert is_loopback("127.8.9.1")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"models": []}, "needs a model"),
        ({"models": ["a/m", "b/m"]}, "not distinct"),
        ({"models": ["a"], "max_items": 9, "max_queue": 8}, "9 exceeds --max_queue 8"),
        ({"models": ["a"], "port": 99999}, "at most 65535"),
        ({"models": ["a"], "risk": "luck"}, "not known"),
        ({"models": ["a"], "measures": ["cvar"]}, "needs a"),
        ({"models": ["a"], "timeout": 0}, "at least"),
        ({"models": ["a"], "guard": "shout"}, "warns or stops"),
    ],
)
def test_options_that_cannot_work(options, words):
    with pytest.raises(ConfigError, match=words):
        ServeConfig(**options)


def test_a_measure_or_a_reference_that_the_model_has_not_is_found_at_the_start(application):
    with pytest.raises(ConfigError, match=r"needs a head .* normal has a mean_and_variance head"):
        application("normal", risk="relative_cvar:0.1")
    with pytest.raises(ConfigError, match=r"--guard needs the reference of .*hidden-context ref"):
        application("normal", guard="warn")
    assert str(application("factor", risk="relative_cvar:0.1").state.service.risk)


def test_without_its_libraries_the_command_says_what_to_install(monkeypatch):
    monkeypatch.setattr(command, "find_spec", lambda name: None if name == "uvicorn" else object())
    with pytest.raises(MissingDependencyError, match=r"needs uvicorn; run: pip .*\[serve\]"):
        command.main(["model"])
