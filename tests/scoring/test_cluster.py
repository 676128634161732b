"""Scoring on a cluster, without a cluster: what workers do, connections, and odd answers."""

from __future__ import annotations

import pickle
import subprocess
import sys
import warnings
from functools import partial
from types import SimpleNamespace
from unittest.mock import Mock

import pytest

from hidden_context.data.responses import read_scoring_rows
from hidden_context.errors import (
    CheckpointError,
    ConfigError,
    DataError,
    HiddenContextError,
    HiddenContextWarning,
    MissingDependencyError,
    MissingFileError,
    StorageError,
)
from hidden_context.scoring import ScoreConfig
from hidden_context.scoring.cluster import run
from hidden_context.scoring.cluster.run import Pool, pool_of, ray_session
from hidden_context.scoring.cluster.worker import (
    Answer,
    LoadedModel,
    ScoredWindow,
    answer,
    pack,
    read_windows,
    unpack,
)
from hidden_context.scoring.loading import load_model
from hidden_context.scoring.record import PartialScores
from hidden_context.scoring.stream import score_rows
from support.models import refusal
from support.paper_layout import write_rows

TEXTS = ["short", "  ", "a longer text " * 3, "word " * 60, "five", "six words are here"]


def config(**options):
    options = {"device": "cpu", "max_length": 40, "window": 4, "disable_tqdm": True, **options}
    return ScoreConfig(input="i", output="o", models=["m"], engine_cluster="ray", **options)


def raise_(error):
    raise error


@pytest.fixture
def rows(tmp_path):
    texts = [{"text": text, "other": 1} for text in TEXTS]
    return partial(read_scoring_rows, write_rows(tmp_path / "texts.jsonl", texts))


@pytest.mark.parametrize(
    "error",
    [
        DataError("it is broken", file="a.jsonl", line=3, field="text", remedy="Mend it"),
        MissingFileError("a.jsonl", "Name another"),
        *(kind("no") for kind in (ConfigError, StorageError, CheckpointError)),
    ],
)
def test_errors_arrive_as_they_were(error):
    with pytest.raises(type(error)) as found:
        pickle.loads(pickle.dumps(answer(lambda: raise_(error)))).open()
    assert str(found.value) == str(error)
    assert found.value.__dict__ == error.__dict__
    with pytest.raises(ZeroDivisionError):  # errors that are not ours are raised at once
        answer(lambda: 1 // 0)


@pytest.mark.parametrize(
    ("skip", "expected"), [(0, [[0, 1, 2, 3], [4, 5]]), (4, [[4, 5]]), (6, [])]
)
def test_windows_are_read_from_the_first_row_that_is_not_done(rows, skip, expected):
    found = [each.open() for each in read_windows(rows, skip, 4)]
    assert [[row.index for row in window.rows] for window in found] == expected
    assert [window.number for window in found] == list(range(len(expected)))
    assert {str(row.columns) for window in found for row in window.rows} <= {"{}"}


def test_a_broken_row_is_an_error_in_its_place(rows, tmp_path):
    with (tmp_path / "texts.jsonl").open("a") as file:
        file.write('{"text": 3}\n{"text": "more"}\n')
    good, also, bad = read_windows(rows, 0, 3)
    assert [len(good.open().rows), len(also.open().rows)] == [3, 3]
    assert "line 7, field 'text'" in refusal(bad.open, error=DataError)


@pytest.fixture
def worker(checkpoint):
    return LoadedModel(partial(load_model, checkpoint, config()), config(), 1)


@pytest.fixture
def record(worker, rows, tmp_path):
    """The record of a scoring in one process."""
    done = []
    with PartialScores(tmp_path / "record", {}) as record:
        score_rows(worker._loaded.open(), worker.options, rows, record, done.append)
    assert done == [4, 2]
    return record


def test_windows_are_scored_as_in_one_process(checkpoint, worker, record, rows):
    windows = list(read_windows(rows, 0, 4))
    found = [one.open() for one in unpack(worker(pack(windows)))]
    for window in found:
        window.lines[-1]["truncated"] = window.truncated
    assert [line for window in found for line in window.lines] == [*record]
    assert [line["raw"][0] is None for line in record] == [0, 1, 0, 1, 0, 0]
    assert {window.place for window in found} == {("cpu", "torch.float32")}
    digests = [worker.digest(each.open().rows).open() for each in windows]
    assert digests == [digest for _, digest in record.windows]
    identity, likelihood = worker.describe(checkpoint).open()
    assert (identity["device"], identity["over_length"]) == ("cpu", "null")
    assert likelihood.head.num_outputs == 2


def test_what_could_not_be_read_or_loaded_is_answered(rows, tmp_path):
    worker = LoadedModel(lambda: raise_(CheckpointError("no weights.")), config())
    broken = answer(partial(next, iter(read_scoring_rows(tmp_path / "none.jsonl")), None))
    unread, unloaded = unpack(worker(pack([broken, next(read_windows(rows, 0, 2))])))
    assert "none.jsonl does not exist" in refusal(unread.open, error=MissingFileError)
    assert "no weights" in refusal(unloaded.open)


def test_warnings_are_told_once_and_other_libraries_are_not(checkpoint, rows, recwarn):
    def load():
        for _ in range(2):
            warnings.warn("an old file", HiddenContextWarning, stacklevel=1)
        warnings.warn("theirs", FutureWarning, stacklevel=1)
        return load_model(checkpoint, config())

    worker, said = LoadedModel(load, config()), set()
    described = worker.describe(checkpoint)
    assert described.warnings == ("an old file",)
    (scored,) = unpack(worker(pack(list(read_windows(rows, 0, 6)))))
    assert "an old file" not in scored.warnings
    recwarn.clear()
    for _ in range(2):
        run._heard(described, said)
    (found,) = recwarn
    assert (found.category, str(found.message)) == (HiddenContextWarning, "an old file")


@pytest.mark.parametrize(
    ("options", "threads", "resources", "expected", "said"),
    [
        ({}, 1, {"CPU": 2.0}, Pool(2, 1, 0.0), None),
        ({}, 3, {"CPU": 8.0}, Pool(2, 3, 0.0), None),
        ({"workers": 3}, 1, {"CPU": 8.0}, Pool(3, 1, 0.0), None),
        ({"device": "auto"}, 1, {"CPU": 64.0, "GPU": 4.0}, Pool(4, 1, 1.0), None),
        ({"worker_gpus": 0.5}, 1, {"CPU": 64.0, "GPU": 4.0}, Pool(8, 1, 0.5), None),
        ({}, 1, {"CPU": 6.0, "GPU": 4.0}, Pool(6, 1, 0.0), None),
        ({"workers": 5}, 1, {"CPU": 4.0}, Pool(5, 1, 0.0), "4 workers of 1 cores and 0 GPUs"),
        ({"device": "cuda"}, 1, {"CPU": 4.0}, Pool(1, 1, 1.0), "0 workers of 1 cores and 1 GPUs"),
    ],
)
def test_as_many_workers_as_have_room(options, threads, resources, expected, said, recwarn):
    assert pool_of(config(**options), threads, resources) == expected
    found = [f"the cluster has room for {said}" in str(each.message) for each in recwarn]
    assert found == [True] * (said is not None)
    with pytest.raises(ConfigError, match="use --device cuda"):
        pool_of(config(device="cuda:1"), threads, resources)


class RayError(Exception):
    pass


class RayTaskError(RayError):
    pass


def fake_ray(failures=0, connected=False):
    """A Ray that is not there; connecting fails as often as a test says."""

    def init(**options):
        if fake.init.call_count <= failures:
            if options["address"] == "local":  # what Ray starts before it gives up
                fake.started.append(subprocess.Popen(["sleep", "100"]))
            raise ConnectionError("nobody answers.")

    kinds = {"RayError": RayError, "RayTaskError": RayTaskError}
    fake = Mock(started=[], exceptions=SimpleNamespace(**kinds, UserCodeException=RayTaskError))
    fake.data.exceptions.ExecutionTimeoutError = TimeoutError
    fake.is_initialized.return_value, fake.init.side_effect = connected, init
    fake.cluster_resources.return_value = {"CPU": 4.0}
    return fake


@pytest.fixture
def connected(monkeypatch):
    """Be connected by a Ray that is not there, and do something."""
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("RAY_BACKEND_LOG_LEVEL", "fatal")

    def connect(fake, work=lambda pool: pool, threads=1, **options):
        monkeypatch.setattr(run, "import_ray", lambda: fake)
        with ray_session(config(**options), threads) as pool:
            assert fake.shutdown.call_count == max(fake.init.call_count - 1, 0)
            return work(pool)

    return connect


@pytest.mark.parametrize(
    ("options", "asked", "pool"),
    [
        ({"workers": 3, "threads": 2}, {"address": "local", "num_cpus": 6}, Pool(3, 2, 0.0)),
        ({"threads": 4096}, {"address": "local", "num_cpus": 4096}, Pool(1, 4096, 0.0)),
        ({"cluster_address": "10.0.0.1:6379"}, {"address": "10.0.0.1:6379"}, Pool(4, 1, 0.0)),
        ({"variable": "10.0.0.1:6379"}, {"address": "10.0.0.1:6379"}, Pool(4, 1, 0.0)),
    ],
)
def test_a_cluster_is_started_with_the_cores_of_its_workers_or_joined_and_then_left(
    connected, monkeypatch, options, asked, pool
):
    fake, variable = fake_ray(), options.pop("variable", None)
    if variable:
        monkeypatch.setenv("RAY_ADDRESS", variable)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # there is no room for so many
        assert connected(fake, **options) == pool
    fake.shutdown.assert_called_once()
    found = fake.init.call_args.kwargs
    assert asked.items() <= found.items()
    assert ("num_cpus" in found) == ("num_cpus" in asked) == ("include_dashboard" in found)
    fake = fake_ray(connected=True)  # a connection that is there is used and left
    connected(fake)
    fake.init.assert_not_called()
    fake.shutdown.assert_not_called()


def test_a_busy_machine_gets_three_attempts(connected):
    fake = fake_ray(failures=2)
    connected(fake)
    assert fake.init.call_count == 3
    assert [each.wait() for each in fake.started] == [-9, -9]
    fake = fake_ray(failures=3)
    with pytest.raises(HiddenContextError, match=r"not start on this machine: nobody answers\."):
        connected(fake)
    assert fake.init.call_count == 3
    with pytest.raises(ConfigError, match=r"no Ray cluster at 1\.2\.3\.4:5: nobody answers\. Chec"):
        connected(fake_ray(failures=1), cluster_address="1.2.3.4:5")


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        (RayError("a node died."), HiddenContextError, r"failed: a node died\. What was"),
        (TimeoutError("no progress."), HiddenContextError, r"failed: no progress\. What was"),
        (RayTaskError("a mistake"), RayTaskError, "a mistake"),
        (KeyboardInterrupt(), KeyboardInterrupt, None),
    ],
)
def test_a_cluster_that_fails_says_how_to_go_on_and_other_errors_pass(
    connected, error, kind, words
):
    fake = fake_ray()
    with pytest.raises(kind, match=words):
        connected(fake, lambda pool: raise_(error))
    fake.shutdown.assert_called_once()


def test_without_ray_it_is_said_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'hidden-context\[ray\]'"):
        run.import_ray()


def test_another_window_or_precision_is_refused():
    here, there = ("cpu", "torch.float32"), ("cuda", "torch.bfloat16")
    with pytest.raises(HiddenContextError, match="gave window 4 in place of 3"):
        run._check(ScoredWindow(4, [], 0, here), 3, here)
    with pytest.raises(ConfigError, match=r"torch\.float32 on cpu, and torch\.bfloat16 on cuda"):
        run._check(ScoredWindow(3, [], 0, here), 3, there)


def test_a_record_that_is_whole_needs_no_workers(worker, record, rows, monkeypatch):
    calls, done = [], []

    def digest(part) -> Answer[str]:
        calls.append([row.index for row in part])
        return worker.digest(part)

    scout = SimpleNamespace(digest=SimpleNamespace(remote=digest))
    fake = SimpleNamespace(get=lambda found: found)  # anything else of Ray is an error
    monkeypatch.setattr(run, "import_ray", lambda: fake)
    with PartialScores(record.path, {}) as again:
        run._score(Pool(1, 1, 0.0), (), scout, ("", ""), rows, again, done.append)
    assert (calls, done) == ([[0, 1, 2, 3], [4, 5]], [6])


def test_local_names_are_made_absolute_and_ids_stay(tmp_path, monkeypatch):
    (tmp_path / "model").mkdir()
    monkeypatch.chdir(tmp_path)
    assert run.local_path("model") == str(tmp_path / "model")
    assert run.local_path("owner/model") == "owner/model"
