"""What workers of a cluster do, without a cluster: windows in, answers out."""

from __future__ import annotations

import pickle
import warnings
from functools import partial

import pytest

from hidden_context.data.responses import read_scoring_rows
from hidden_context.errors import (
    CheckpointError,
    ConfigError,
    DataError,
    HiddenContextWarning,
    MissingFileError,
    StorageError,
)
from hidden_context.scoring.cluster_options import Pool, cores_to_start, pool_of
from hidden_context.scoring.cluster_worker import (
    LoadedModel,
    answer,
    pack,
    read_windows,
    unpack,
)
from hidden_context.scoring.config import ScoreConfig
from hidden_context.scoring.loading import load_model
from hidden_context.scoring.partial import PartialScores
from hidden_context.scoring.running import HowToScore
from hidden_context.scoring.stream import score_rows
from support.paper_layout import write_rows


def config(**options):
    return ScoreConfig(input="i", output="o", models=["m"], engine_cluster="ray", **options)


@pytest.mark.parametrize(
    "error",
    [
        DataError("it is broken", file="a.jsonl", line=3, field="text", remedy="Mend it"),
        MissingFileError("a.jsonl", "Name another"),
        ConfigError("no"),
        StorageError("full"),
        CheckpointError("damaged"),
    ],
)
def test_errors_arrive_as_they_were(error):
    def work():
        raise error

    with pytest.raises(type(error)) as found:
        pickle.loads(pickle.dumps(answer(work))).open()
    assert str(found.value) == str(error)
    assert found.value.__dict__ == error.__dict__


def test_errors_that_are_not_ours_are_raised_at_once():
    with pytest.raises(ZeroDivisionError):
        answer(lambda: 1 // 0)


def test_warnings_are_sent_each_once_and_other_libraries_are_not():
    def work():
        for _ in range(2):
            warnings.warn("slow", HiddenContextWarning, stacklevel=1)
        warnings.warn("theirs", FutureWarning, stacklevel=1)
        return 7

    found = answer(work)
    assert (found.open(), found.warnings) == (7, ("slow",))


class TestWindowsAreRead:
    def rows(self, tmp_path, count=5):
        texts = [{"text": f"text {number}", "other": number} for number in range(count)]
        return partial(read_scoring_rows, write_rows(tmp_path / "texts.jsonl", texts))

    @pytest.mark.parametrize(
        ("skip", "expected"), [(0, [[0, 1], [2, 3], [4]]), (2, [[2, 3], [4]]), (5, [])]
    )
    def test_from_the_first_row_that_is_not_done(self, tmp_path, skip, expected):
        found = [each.open() for each in read_windows(self.rows(tmp_path), skip, 2)]
        assert [[row.index for row in window.rows] for window in found] == expected
        assert [window.number for window in found] == list(range(len(expected)))
        assert {str(row.columns) for window in found for row in window.rows} <= {"{}"}

    def test_a_broken_row_is_an_error_in_its_place(self, tmp_path):
        rows = self.rows(tmp_path)
        with (tmp_path / "texts.jsonl").open("a") as file:
            file.write('{"text": 3}\n{"text": "more"}\n')
        good, also, bad = read_windows(rows, 0, 2)
        assert [len(good.open().rows), len(also.open().rows)] == [2, 2]
        with pytest.raises(DataError, match="line 6, field 'text'"):
            bad.open()


class TestWindowsAreScored:
    @pytest.fixture
    def source(self, tmp_path):
        texts = ["short", "  ", "a longer text " * 3, "word " * 60, "five", "six words are here"]
        return write_rows(tmp_path / "texts.jsonl", [{"text": text} for text in texts])

    def test_as_in_one_process(self, checkpoint, source, tmp_path):
        options = config(window=4, max_length=40, disable_tqdm=True, device="cpu")
        how = HowToScore(options, options.over_length)
        load = partial(load_model, checkpoint, options)
        rows = partial(read_scoring_rows, source)
        record = PartialScores(tmp_path / "record", {})
        with record:
            score_rows(load(), rows(), record, options=options, over_length="null")
        worker = LoadedModel(load, how, 1)
        windows = list(read_windows(rows, 0, 4))
        found = [one.open() for one in unpack(worker(pack(windows)))]
        lines = [line for window in found for line in window.lines]
        assert [{**line, "truncated": 0} if "tokens" in line else line for line in lines] == [
            *record
        ]
        assert [line["raw"][0] is None for line in lines] == [0, 1, 0, 1, 0, 0]
        assert {window.place for window in found} == {("cpu", "torch.float32")}
        digests = [worker.digest(each.open().rows).open() for each in windows]
        assert digests == [digest for _, digest in record.windows]
        identity, likelihood = worker.describe(checkpoint).open()
        assert (identity["device"], identity["over_length"]) == ("cpu", "null")
        assert likelihood.head.num_outputs == 2

    def test_what_could_not_be_read_or_loaded_is_answered(self, source, tmp_path):
        how = HowToScore(config(), "null")

        def load():
            raise CheckpointError("no weights")

        worker = LoadedModel(load, how)
        broken = answer(partial(next, iter(read_scoring_rows(tmp_path / "none.jsonl")), None))
        window = next(read_windows(partial(read_scoring_rows, source), 0, 2))
        unread, unloaded = unpack(worker(pack([broken, window])))
        with pytest.raises(MissingFileError, match=r"none\.jsonl does not exist"):
            unread.open()
        with pytest.raises(CheckpointError, match="no weights"):
            unloaded.open()

    def test_what_loading_says_is_told_once(self, checkpoint, source):
        options = config(device="cpu")

        def load():
            warnings.warn("an old file", HiddenContextWarning, stacklevel=1)
            return load_model(checkpoint, options)

        worker = LoadedModel(load, HowToScore(options, "null"))
        assert worker.describe(checkpoint).warnings == ("an old file",)
        windows = list(read_windows(partial(read_scoring_rows, source), 0, 6))
        (found,) = unpack(worker(pack(windows)))
        assert "an old file" not in found.warnings


class TestPools:
    @pytest.mark.parametrize(
        ("options", "threads", "resources", "expected"),
        [
            ({}, 1, {"CPU": 2.0}, Pool(2, 1, 0.0)),
            ({}, 3, {"CPU": 8.0}, Pool(2, 3, 0.0)),
            ({"workers": 3}, 1, {"CPU": 8.0}, Pool(3, 1, 0.0)),
            ({}, 1, {"CPU": 64.0, "GPU": 4.0}, Pool(4, 1, 1.0)),
            ({"worker_gpus": 0.5}, 1, {"CPU": 64.0, "GPU": 4.0}, Pool(8, 1, 0.5)),
            ({"device": "cpu"}, 1, {"CPU": 6.0, "GPU": 4.0}, Pool(6, 1, 0.0)),
        ],
    )
    def test_as_many_workers_as_have_room(self, options, threads, resources, expected, recwarn):
        assert pool_of(config(**options), threads, resources) == expected
        assert not recwarn

    @pytest.mark.parametrize(
        ("options", "resources", "room"),
        [
            ({"workers": 5}, {"CPU": 4.0}, "room for 4 workers of 1 cores and 0 GPUs"),
            ({"device": "cuda"}, {"CPU": 4.0}, "room for 0 workers of 1 cores and 1 GPUs"),
        ],
    )
    def test_workers_without_room_are_said(self, options, resources, room):
        with pytest.warns(HiddenContextWarning, match=room):
            pool = pool_of(config(**options), 1, resources)
        assert pool.workers == options.get("workers", 1)

    def test_one_gpu_of_several_is_the_clusters_to_give(self):
        with pytest.raises(ConfigError, match="take --device cuda"):
            pool_of(config(device="cuda:1"), 1, {"CPU": 4.0, "GPU": 4.0})

    def test_a_cluster_of_this_machine_has_the_cores_of_its_workers(self):
        assert cores_to_start(config(workers=3), 2) == 6
        assert cores_to_start(config(), 4096) == 4096
