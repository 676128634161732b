"""Connecting to a cluster, and what is made of its answers, without a cluster."""

from __future__ import annotations

import subprocess
import sys
import types
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest

from hidden_context import RewardModel
from hidden_context.data.responses import ScoringRow
from hidden_context.errors import (
    ConfigError,
    HiddenContextError,
    HiddenContextWarning,
    MissingDependencyError,
)
from hidden_context.scoring import ScoreConfig, ray_cluster
from hidden_context.scoring import ray_session as session
from hidden_context.scoring.cluster_options import Pool
from hidden_context.scoring.cluster_worker import Answer, LoadedModel, ScoredWindow
from hidden_context.scoring.partial import PartialScores
from hidden_context.scoring.ray_cluster import _heard, _OnRay, local_path
from hidden_context.scoring.ray_session import ray_session
from hidden_context.scoring.running import HowToScore
from hidden_context.scoring.stream import score_rows


def config(**options):
    return ScoreConfig(input="i", output="o", models=["m"], engine_cluster="ray", **options)


class RayError(Exception):
    pass


class RayTaskError(RayError):
    pass


class FakeRay:
    """Counts what is asked of it; connecting fails as often as a test says."""

    def __init__(self, failures: int = 0, connected: bool = False) -> None:
        self.failures, self.connected = failures, connected
        self.asked: list[dict[str, Any]] = []
        self.started: list[subprocess.Popen[bytes]] = []
        self.exceptions = types.SimpleNamespace(
            RayError=RayError, RayTaskError=RayTaskError, UserCodeException=RayTaskError
        )
        self.data = types.SimpleNamespace(
            exceptions=types.SimpleNamespace(ExecutionTimeoutError=TimeoutError)
        )

    def is_initialized(self):
        return self.connected

    def init(self, **options):
        self.asked.append(options)
        if len(self.asked) <= self.failures:
            if options["address"] == "local":  # what Ray starts before it gives up
                self.started.append(subprocess.Popen(["sleep", "100"]))
            raise ConnectionError("nobody answers.")
        self.connected = True

    def shutdown(self):
        self.connected = False

    def cluster_resources(self):
        return {"CPU": 4.0}


@pytest.fixture
def ray(monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("RAY_BACKEND_LOG_LEVEL", "fatal")

    def install(*args, **options):
        fake = FakeRay(*args, **options)
        monkeypatch.setattr(session, "import_ray", lambda: fake)
        return fake

    return install


def test_a_cluster_is_started_here_and_ended(ray):
    fake = ray()
    with ray_session(config(workers=3), 2) as pool:
        assert fake.connected
        assert pool == Pool(3, 2, 0.0)
    assert not fake.connected
    (asked,) = fake.asked
    assert (asked["address"], asked["num_cpus"], asked["include_dashboard"]) == ("local", 6, False)


@pytest.mark.parametrize("named", ["option", "environment"])
def test_a_running_cluster_is_joined(ray, monkeypatch, named):
    fake = ray()
    if named == "environment":
        monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    options = {"cluster_address": "10.0.0.1:6379"} if named == "option" else {}
    with ray_session(config(**options), 1) as pool:
        assert pool == Pool(4, 1, 0.0)
    (asked,) = fake.asked
    assert asked["address"] == "10.0.0.1:6379"
    assert "num_cpus" not in asked


def test_a_connection_that_is_there_is_used_and_left(ray):
    fake = ray(connected=True)
    with ray_session(config(), 1):
        pass
    assert (fake.asked, fake.connected) == ([], True)


def test_a_busy_machine_gets_three_attempts(ray):
    fake = ray(failures=2)
    with ray_session(config(), 1):
        assert len(fake.asked) == 3
    assert [each.wait() for each in fake.started] == [-9, -9]
    fake = ray(failures=3)
    with (
        pytest.raises(HiddenContextError, match=r"did not start on this machine: nobody answers\."),
        ray_session(config(), 1),
    ):
        pass
    assert len(fake.asked) == 3


def test_an_address_without_a_cluster(ray):
    ray(failures=1)
    with (
        pytest.raises(ConfigError, match=r"no Ray cluster at 1\.2\.3\.4:5: nobody answers\. Check"),
        ray_session(config(cluster_address="1.2.3.4:5"), 1),
    ):
        pass


@pytest.mark.parametrize("error", [RayError("a node died."), TimeoutError("no progress.")])
def test_a_cluster_that_fails_says_how_to_go_on(ray, error):
    fake = ray()
    with (
        pytest.raises(HiddenContextError, match=r"failed: (a node died|no progress)\. What was"),
        ray_session(config(), 1),
    ):
        raise error
    assert not fake.connected


@pytest.mark.parametrize("error", [RayTaskError("a mistake"), KeyboardInterrupt()])
def test_other_errors_pass_and_the_cluster_ends(ray, error):
    fake = ray()
    with pytest.raises(type(error)), ray_session(config(), 1):
        raise error
    assert not fake.connected


def test_without_ray_it_is_said_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'hidden-context\[ray\]'"):
        session.import_ray()


class TestAnswers:
    running = _OnRay(
        None,  # type: ignore[arg-type]
        {"device": "cuda", "dtype": "torch.bfloat16"},
        Pool(2, 1, 1.0),
        (),
        None,
    )

    def window(self, number=3, place=("cuda", "torch.bfloat16")):
        return ScoredWindow(number, [], 0, place)

    def test_the_next_window_scored_as_the_first_is_taken(self):
        self.running._check(self.window(), 3)
        assert self.running.facts == {"threads": 1}

    def test_another_window_is_refused(self):
        with pytest.raises(HiddenContextError, match="gave window 4 in place of 3"):
            self.running._check(self.window(4), 3)

    def test_another_precision_is_refused(self):
        with pytest.raises(ConfigError, match=r"torch\.float32 on cpu here, torch\.bfloat16 on cu"):
            self.running._check(self.window(place=("cpu", "torch.float32")), 3)

    def test_warnings_are_repeated_once(self, recwarn):
        said: set[str] = set()
        for _ in range(2):
            assert _heard(Answer(5, warnings=("slow",)), said) == 5
        (found,) = recwarn
        assert (found.category, str(found.message)) == (HiddenContextWarning, "slow")


def test_a_record_that_is_whole_needs_no_workers(checkpoint, tmp_path, monkeypatch):
    rows = [ScoringRow(n, n + 1, {}, (f"text {n}",), "text") for n in range(5)]
    how = HowToScore(config(window=2, device="cpu", disable_tqdm=True), "null")
    load = partial(RewardModel.from_pretrained, checkpoint, device="cpu")
    with PartialScores(tmp_path / "record", {}) as record:
        score_rows(load(), rows, record, options=how.options, over_length="null")
    worker, calls, done = LoadedModel(load, how), [], []

    def digest(part):
        calls.append([row.index for row in part])
        return worker.digest(part)

    scout = SimpleNamespace(digest=SimpleNamespace(remote=digest))
    fake = SimpleNamespace(get=lambda found: found)  # anything else of Ray is an error
    monkeypatch.setattr(ray_cluster, "import_ray", lambda: fake)
    running = _OnRay(worker, {}, Pool(1, 1, 0.0), (load, how, 1), scout)
    record = PartialScores(tmp_path / "record", {})
    with record:
        running.score(lambda: iter(rows), record, done.append)
    assert (calls, done) == ([[0, 1], [2, 3], [4]], [5])


def test_local_names_are_made_absolute_and_ids_stay(tmp_path, monkeypatch):
    (tmp_path / "model").mkdir()
    monkeypatch.chdir(tmp_path)
    assert local_path("model") == str(tmp_path / "model")
    assert local_path("owner/model") == "owner/model"


@pytest.mark.parametrize("option", [{"workers": 2}, {"cluster_address": "a"}, {"worker_gpus": 1.0}])
def test_options_of_a_cluster_need_one(option):
    with pytest.raises(ConfigError, match=f"--{next(iter(option))} needs --engine_cluster ray"):
        ScoreConfig(input="i", output="o", models=["m"], **option)
