"""Scoring a file: what is written, in which order, and how an interrupted run goes on."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
import yaml

from hidden_context import RewardModel, risk, scoring
from hidden_context.errors import ConfigError, MissingFileError, StorageError
from hidden_context.models.sequence import SequenceRewardModel
from hidden_context.scoring import ScoreConfig
from support.builders import preference_rows, sample_texts
from support.paper_layout import jailbroken_rows, read_rows, write_rows


def score(source, models, output, **options):
    models = [models] if isinstance(models, str) else models
    options = {"disable_tqdm": True, **options}
    config = ScoreConfig(input=str(source), models=models, output=str(output), **options)
    return scoring.score_file(config)


@pytest.fixture
def scored_texts(monkeypatch):
    """The texts of every call of the model, in order."""
    calls = []
    original = SequenceRewardModel.try_raw_outputs

    def recorded(self, texts, *args, **options):
        calls.append(list(texts))
        return original(self, texts, *args, **options)

    monkeypatch.setattr(SequenceRewardModel, "try_raw_outputs", recorded)
    return calls


class TestWhatIsWritten:
    def test_pairs(self, checkpoint, pairs, tmp_path):
        result = score(pairs, checkpoint, tmp_path / "out.jsonl")
        rows, inputs = read_rows(result.path), read_rows(pairs)
        assert str(result.counts) == "23 of 23 rows written"
        assert [list(row) for row in rows[:1]] == [
            [*inputs[0], "reward_output_chosen", "reward_output_rejected"]
        ]
        model = RewardModel.from_pretrained(checkpoint)
        for side in ("chosen", "rejected"):
            raw = torch.tensor([row.pop(f"reward_output_{side}") for row in rows])
            expected = model.raw_outputs([row[side] for row in inputs])
            assert torch.allclose(raw, expected, atol=1e-6, rtol=0)
            assert raw.std(0).min() > 0.01  # the model tells texts apart
        assert rows == inputs
        assert sorted(p.name for p in tmp_path.iterdir()) == [
            "out.jsonl",
            "out.jsonl.config.yaml",
            "out.jsonl.heads",
            "pairs.jsonl",
        ]

    def test_responses_follow_the_prompt_from_its_first_human_turn(self, checkpoint, tmp_path):
        source = write_rows(tmp_path / "prompts.jsonl", jailbroken_rows(4))
        model = RewardModel.from_pretrained(checkpoint)
        result = score(
            source, checkpoint, tmp_path / "o.jsonl", names=["m"], prompt_from_first_human=True
        )
        rows = read_rows(result.path)
        assert len(rows) == 4
        for number, row in enumerate(rows):
            prompt = f"Human: How do I do {number}?\n\nAssistant:"
            expected = model.raw_outputs([prompt + text for text in row["responses"]])
            assert torch.allclose(torch.tensor(row["reward_outputs_m"]), expected, atol=1e-6)

    def test_responses_follow_the_whole_prompt_as_in_python(self, checkpoint, tmp_path):
        source = write_rows(tmp_path / "prompts.jsonl", jailbroken_rows(4))
        model = RewardModel.from_pretrained(checkpoint)
        rows = read_rows(score(source, checkpoint, tmp_path / "out.jsonl", names=["m"]).path)
        assert len(rows) == 4
        for row in rows:
            means = [raw[0] for raw in row["reward_outputs_m"]]
            expected = model.score_responses(row["prompt"], row["responses"]).mean
            assert torch.allclose(torch.tensor(means), expected, atol=1e-6)
            whole = [row["prompt"] + text for text in row["responses"]]
            expected = model.raw_outputs(whole)
            assert torch.allclose(torch.tensor(row["reward_outputs_m"]), expected, atol=1e-6)

    def test_texts_and_chats(self, categorical, tmp_path):
        chats = [row["chosen"] for row in preference_rows(3, chat=True)]
        rows = [{"id": n, "messages": chat} for n, chat in enumerate(chats)]
        chat_file = write_rows(tmp_path / "chats.jsonl", rows)
        result = score(chat_file, categorical, tmp_path / "out.jsonl")
        model = RewardModel.from_pretrained(categorical)
        got = torch.tensor([row["reward_output"] for row in read_rows(result.path)])
        assert got.shape == (3, 5)
        assert torch.allclose(got, model.raw_outputs(chats), atol=1e-6)

        texts = sample_texts(4)
        text_file = write_rows(tmp_path / "texts.jsonl", [{"text": text} for text in texts])
        got = read_rows(score(text_file, categorical, tmp_path / "out2.jsonl").path)
        expected = model.raw_outputs(texts)
        assert torch.allclose(torch.tensor([r["reward_output"] for r in got]), expected, atol=1e-6)

    @pytest.mark.parametrize("options", [{"batch_size": 7}, {"batch_size": 64}, {"window": 3}])
    def test_rewards_and_order_do_not_depend_on_batches(self, checkpoint, pairs, tmp_path, options):
        one = read_rows(score(pairs, checkpoint, tmp_path / "one.jsonl", batch_size=1).path)
        other = read_rows(score(pairs, checkpoint, tmp_path / "other.jsonl", **options).path)
        for side in ("chosen", "rejected"):
            assert [r[side] for r in one] == [r[side] for r in other]
            first, second = (
                torch.tensor([row[f"reward_output_{side}"] for row in rows])
                for rows in (one, other)
            )
            assert torch.allclose(first, second, atol=1e-5, rtol=1e-5)

    def test_several_models_each_in_columns_of_their_own(
        self, checkpoint, categorical, pairs, tmp_path
    ):
        both = score(pairs, [checkpoint, categorical], tmp_path / "both.jsonl", names=["a/b", "c"])
        alone = score(pairs, categorical, tmp_path / "alone.jsonl")
        row, single = read_rows(both.path)[0], read_rows(alone.path)[0]
        assert list(row)[-4:] == [
            f"reward_output_{side}_{name}"
            for name in ("a/b", "c")
            for side in ("chosen", "rejected")
        ]
        assert row["reward_output_chosen_c"] == single["reward_output_chosen"]
        assert len(row["reward_output_chosen_a/b"]) == 2

    def test_names_that_differ_in_a_slash_only_are_kept_apart(
        self, checkpoint, categorical, pairs, tmp_path
    ):
        result = score(pairs, [checkpoint, categorical], tmp_path / "o.jsonl", names=["a/b", "a_b"])
        row = read_rows(result.path)[0]
        assert [len(row[f"reward_output_chosen_{n}"]) for n in ("a/b", "a_b")] == [2, 5]

    def test_risk_measures(self, checkpoint, pairs, tmp_path):
        measures = ["mean", "quantile:0.01", "mean_minus_std:1"]
        result = score(pairs, checkpoint, tmp_path / "out.jsonl", risk=measures)
        rows = read_rows(result.path)
        assert len(rows) == 23
        for row in rows:
            mean, raw = row["reward_output_chosen"]
            sigma = math.log1p(math.exp(raw))
            assert row["rewards_chosen"] == {
                "mean": mean,
                "quantile:0.01": pytest.approx(mean - 2.3263478740408408 * sigma, abs=1e-6),
                "mean_minus_std:1": pytest.approx(mean - sigma, abs=1e-6),
            }

    def test_risk_measures_of_an_annotator_and_of_groups(self, factor, pairs, tmp_path):
        groups = tmp_path / "groups.json"
        groups.write_text(json.dumps({"old": ["ann", 7], "young": ["bob"]}))
        options = {"risk": ["mean", "relative_quantile:0.1"], "groups": str(groups)}
        rows = read_rows(score(pairs, factor, tmp_path / "out.jsonl", **options).path)
        options["annotator"] = "ann"
        of_ann = read_rows(score(pairs, factor, tmp_path / "ann.jsonl", **options).path)
        plain = read_rows(score(pairs, factor, tmp_path / "plain.jsonl").path)
        model = RewardModel.from_pretrained(factor)
        measure = risk.parse("relative_quantile:0.1")
        assert len(rows) == 23
        for row, own, bare in zip(rows, of_ann, plain, strict=True):
            assert {**bare, **row} == row  # what was there is untouched
            raw = [row["reward_output_chosen"], row["reward_output_rejected"]]
            assert raw == [own["reward_output_chosen"], own["reward_output_rejected"]]
            rewards = model.head.distribution(torch.tensor(raw, dtype=torch.float64))
            each = {
                who: model.likelihood.rewards_of(rewards, who) for who in ("ann", "bob", "7", None)
            }
            for place, side in enumerate(("chosen", "rejected")):
                assert row[f"rewards_{side}"] == {
                    "mean": pytest.approx(each[None].mean[place].item(), abs=1e-9),
                    str(measure): pytest.approx(measure(each[None])[place].item(), abs=1e-9),
                }
                assert own[f"rewards_{side}"] == {
                    "mean": pytest.approx(each["ann"].mean[place].item(), abs=1e-9),
                    str(measure): pytest.approx(measure(each["ann"])[place].item(), abs=1e-9),
                }
                of_groups = row[f"rewards_groups_{side}"]
                assert of_groups == own[f"rewards_groups_{side}"]
                old = (measure(each["ann"]) + measure(each["7"]))[place].item() / 2
                young = measure(each["bob"])[place].item()
                assert of_groups[str(measure)] == pytest.approx(
                    {"old": old, "young": young, "worst_group": min(old, young)}, abs=1e-9
                )
        gaps = [r["rewards_chosen"]["mean"] - r["rewards_rejected"]["mean"] for r in of_ann]
        assert gaps != [r["rewards_chosen"]["mean"] - r["rewards_rejected"]["mean"] for r in rows]

    def test_a_blank_response_is_no_candidate(self, factor, tmp_path):
        row = {"prompt": "Human: a", "responses": ["one", " ", "two", "three"]}
        source = write_rows(tmp_path / "r.jsonl", [row])
        options = {"names": ["m"], "risk": ["mean", "relative_cvar:1"]}
        (row,) = read_rows(score(source, factor, tmp_path / "o.jsonl", **options).path)
        risks = row["rewards_m"]
        assert risks[1] is None
        means = [risks[place]["mean"] for place in (0, 2, 3)]
        # of all annotators together: the mean less the mean over the three
        assert [risks[place]["relative_cvar:1"] for place in (0, 2, 3)] == pytest.approx(
            [mean - sum(means) / 3 for mean in means], abs=1e-9
        )

    def test_the_same_bytes_at_every_run(self, checkpoint, pairs, tmp_path):
        first = score(pairs, checkpoint, tmp_path / "a.jsonl").path.read_bytes()
        assert score(pairs, checkpoint, tmp_path / "b.jsonl").path.read_bytes() == first

    def test_the_options_lie_beside_the_output(self, checkpoint, pairs, tmp_path):
        score(pairs, checkpoint, tmp_path / "out.jsonl", risk=["mean"])
        stored = yaml.safe_load((tmp_path / "out.jsonl.config.yaml").read_text())
        assert stored["input"] == pairs
        assert stored["models"] == [checkpoint]
        assert stored["risk"] == ["mean"]


class TestTooLongTexts:
    LONG = "Human: " + "word " * 40 + "\n\nAssistant: so."

    @pytest.fixture
    def source(self, tmp_path):
        rows = preference_rows(4)
        rows[1]["rejected"] = self.LONG
        rows[2]["chosen"] = ""
        return write_rows(tmp_path / "long.jsonl", rows)

    def test_null_with_the_reason(self, checkpoint, source, tmp_path):
        result = score(source, checkpoint, tmp_path / "o.jsonl", max_length=50, risk=["mean"])
        rows = read_rows(result.path)
        assert len(rows) == 4
        assert rows[1]["reward_output_rejected"] is None
        assert rows[1]["rewards_rejected"] is None
        reason = rows[1]["reward_output_rejected_reason"]
        assert reason.startswith("it has ")
        assert reason.endswith(" tokens, more than 50")
        assert len(rows[1]["reward_output_chosen"]) == 2
        assert (
            rows[2]["reward_output_chosen_reason"] == "nothing but white space follows the prompt"
        )
        assert not [column for column in rows[0] if column.endswith("_reason")]
        assert str(result.counts) == (
            "4 of 4 rows written; 2 texts without a reward (see the _reason columns)"
        )

    def test_dropped_with_a_count(self, checkpoint, source, tmp_path):
        options = {"max_length": 50, "over_length": "drop"}
        result = score(source, checkpoint, tmp_path / "o.jsonl", **options)
        inputs = read_rows(source)
        assert [r["chosen"] for r in read_rows(result.path)] == [
            inputs[0]["chosen"],
            inputs[3]["chosen"],
        ]
        assert (result.counts.rows, result.counts.written, result.counts.dropped) == (4, 2, 2)
        assert "2 of 4 rows written; 2 dropped: a text is too long or empty" in str(result.counts)

    def test_cut_on_the_left_with_a_count(self, checkpoint, source, tmp_path):
        options = {"max_length": 50, "over_length": "truncate"}
        result = score(source, checkpoint, tmp_path / "o.jsonl", **options)
        model = RewardModel.from_pretrained(checkpoint)
        ids = model.tokenizer(self.LONG)["input_ids"]
        expected = model.raw_outputs_of_tokens([ids[-50:]])[0]
        got = torch.tensor(read_rows(result.path)[1]["reward_output_rejected"])
        assert torch.allclose(got, expected, atol=1e-5)
        assert result.counts.truncated == 1
        assert str(result.counts).endswith("; 1 texts without a reward (see the _reason columns), "
                                           "1 texts cut on the left")  # fmt: skip


def test_blank_responses_have_no_reward(checkpoint, tmp_path):
    source = write_rows(
        tmp_path / "r.jsonl",
        [
            {"prompt": "Human: a", "responses": [" ", "b"]},
            {"prompt": "Human: c", "responses": [""]},
        ],
    )
    result = score(source, checkpoint, tmp_path / "o.jsonl", names=["m"], window=1, risk=["mean"])
    first, second = read_rows(result.path)
    reason = "nothing but white space follows the prompt"
    expected = RewardModel.from_pretrained(checkpoint).raw_outputs(["Human: a\n\nAssistant: b"])
    assert first["reward_outputs_m"][0] is None
    assert first["reward_outputs_m"][1] == pytest.approx(expected[0].tolist(), abs=1e-6)
    assert first["reward_outputs_m_reason"] == [reason, None]
    assert (second["reward_outputs_m"], second["reward_outputs_m_reason"]) == ([None], [reason])
    assert second["rewards_m"] == [None]
    assert result.counts.unscored == 2


def test_empty_cells_of_a_parquet_file_are_written_as_null(checkpoint, tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.table({"text": ["a", "b"], "note": [math.nan, 0.5]})
    pq.write_table(table, tmp_path / "t.parquet")
    result = score(tmp_path / "t.parquet", checkpoint, tmp_path / "o.jsonl")
    assert "NaN" not in result.path.read_text()
    assert [row["note"] for row in read_rows(result.path)] == [None, 0.5]


class TestResuming:
    OPTIONS = {"window": 5, "batch_size": 4}  # noqa: RUF012

    def interrupted(self, monkeypatch, *run, error=KeyboardInterrupt, after=2, **options):
        original, calls = SequenceRewardModel.try_raw_outputs, []

        def stop(self, *args, **more):
            calls.append(1)
            if len(calls) > after:
                raise error
            return original(self, *args, **more)

        with monkeypatch.context() as patch:
            patch.setattr(SequenceRewardModel, "try_raw_outputs", stop)
            with pytest.raises(error):
                score(*run, **{**self.OPTIONS, **options})

    @pytest.fixture
    def whole(self, checkpoint, pairs, tmp_path):
        result = score(pairs, checkpoint, tmp_path / "whole.jsonl", **self.OPTIONS)
        return result.path.read_bytes()

    @pytest.mark.parametrize("lost", [0, 1, 30, 300])
    def test_an_interrupted_run_ends_byte_for_byte_like_another(
        self, checkpoint, pairs, tmp_path, monkeypatch, whole, scored_texts, lost
    ):
        output = tmp_path / "out.jsonl"
        self.interrupted(monkeypatch, pairs, checkpoint, output)
        assert not output.exists()
        partial = tmp_path / "out.jsonl.normal.partial"
        if lost:  # the machine went down while the last window was being written
            partial.write_bytes(partial.read_bytes()[:-lost])
        scored_texts.clear()
        result = score(pairs, checkpoint, output, **self.OPTIONS)
        assert output.read_bytes() == whole
        assert str(result.counts) == "23 of 23 rows written"
        windows_left = [5, 5, 5, 3] if lost else [5, 5, 3]
        assert [len(texts) for texts in scored_texts] == [2 * rows for rows in windows_left]
        assert not partial.exists()

    def test_what_the_first_model_scored_is_kept_while_the_second_is_interrupted(
        self, checkpoint, categorical, pairs, tmp_path, monkeypatch, scored_texts
    ):
        models = [checkpoint, categorical]
        self.interrupted(monkeypatch, pairs, models, tmp_path / "out.jsonl", after=7)
        scored_texts.clear()
        score(pairs, models, tmp_path / "out.jsonl", **self.OPTIONS)
        assert [len(texts) for texts in scored_texts] == [10, 10, 6]
        score(pairs, models, tmp_path / "whole.jsonl", **self.OPTIONS)
        assert (tmp_path / "out.jsonl").read_bytes() == (tmp_path / "whole.jsonl").read_bytes()

    @pytest.mark.parametrize(
        "change",
        [
            {"resume": False},
            {"max_length": 40},
            {"over_length": "drop"},
            {"precision": "bfloat16"},
            {"kind": "pair"},
            {"prompt_from_first_human": True},
        ],
    )
    def test_with_other_options_it_starts_anew(
        self, checkpoint, pairs, tmp_path, monkeypatch, scored_texts, change
    ):
        self.interrupted(monkeypatch, pairs, checkpoint, tmp_path / "out.jsonl")
        scored_texts.clear()
        score(pairs, checkpoint, tmp_path / "out.jsonl", **{**self.OPTIONS, **change})
        assert sum(map(len, scored_texts)) == 2 * 23

    def test_whose_risk_measures_are_asked_for_does_not_matter(
        self, factor, pairs, tmp_path, monkeypatch, scored_texts
    ):
        output, groups = tmp_path / "out.jsonl", tmp_path / "groups.json"
        groups.write_text('{"old": ["ann"], "young": ["bob"]}')
        options = {"risk": ["relative_quantile:0.1"], "annotator": "bob", "groups": str(groups)}
        self.interrupted(monkeypatch, pairs, factor, output, risk=["mean"])
        scored_texts.clear()
        score(pairs, factor, output, **self.OPTIONS, **options)
        assert [len(texts) for texts in scored_texts] == [10, 10, 6]  # two windows are kept
        score(pairs, factor, tmp_path / "whole.jsonl", **self.OPTIONS, **options)
        assert output.read_bytes() == (tmp_path / "whole.jsonl").read_bytes()

    def test_with_another_input_or_checkpoint_it_starts_anew(
        self, checkpoint, categorical, pairs, tmp_path, monkeypatch, scored_texts
    ):
        self.interrupted(monkeypatch, pairs, checkpoint, tmp_path / "out.jsonl", names=["m"])
        scored_texts.clear()
        write_rows(pairs, preference_rows(23, 6))
        result = score(pairs, checkpoint, tmp_path / "out.jsonl", names=["m"], **self.OPTIONS)
        assert sum(map(len, scored_texts)) == 2 * 23
        assert [r["chosen"] for r in read_rows(result.path)] == [
            r["chosen"] for r in preference_rows(23, 6)
        ]
        self.interrupted(monkeypatch, pairs, checkpoint, tmp_path / "o2.jsonl", names=["m"])
        scored_texts.clear()
        score(pairs, categorical, tmp_path / "o2.jsonl", names=["m"], **self.OPTIONS)
        assert sum(map(len, scored_texts)) == 2 * 23

    def test_truncated_texts_are_counted_over_the_whole_run(
        self, checkpoint, pairs, tmp_path, monkeypatch
    ):
        options = {"max_length": 20, "over_length": "truncate"}
        whole = score(pairs, checkpoint, tmp_path / "w.jsonl", **options, **self.OPTIONS)
        assert whole.counts.truncated == 46
        output = tmp_path / "out.jsonl"
        self.interrupted(monkeypatch, pairs, checkpoint, output, **options)
        partial = tmp_path / "out.jsonl.normal.partial"
        partial.write_bytes(partial.read_bytes()[:-1])
        assert score(pairs, checkpoint, output, **options, **self.OPTIONS).counts == whole.counts


class TestStorage:
    def test_a_full_disk_at_the_end_leaves_the_old_output_and_the_record(
        self, checkpoint, pairs, tmp_path, monkeypatch, scored_texts
    ):
        import errno

        from hidden_context.data import row_writer

        output = tmp_path / "out.jsonl"
        output.write_text("old\n")

        def full(row):
            raise OSError(errno.ENOSPC, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr(row_writer, "json_line", full)
            with pytest.raises(StorageError, match=r"out.jsonl could not be written: No space"):
                score(pairs, checkpoint, output)
        assert output.read_text() == "old\n"
        assert sorted(p.name for p in tmp_path.iterdir()) == [
            "out.jsonl",
            "out.jsonl.normal.partial",
            "pairs.jsonl",
        ]
        scored_texts.clear()
        score(pairs, checkpoint, output)
        assert scored_texts == []  # nothing is scored twice
        assert len(read_rows(output)) == 23

    def test_what_cannot_work_is_found_before_anything_is_scored(
        self, checkpoint, pairs, tmp_path, scored_texts
    ):
        with pytest.raises(StorageError, match="is a folder; name a file to write"):
            score(pairs, checkpoint, tmp_path)
        with pytest.raises(ConfigError, match=r"pairs.jsonl is the input too; name another"):
            score(pairs, checkpoint, pairs)
        (tmp_path / "file").write_text("")
        with pytest.raises(StorageError, match=r"could not be written: File exists. Check that"):
            score(pairs, checkpoint, tmp_path / "file" / "out.jsonl")
        with pytest.raises(ConfigError, match="risk measure 'worst' is not known; choose one of"):
            score(pairs, checkpoint, tmp_path / "out.jsonl", risk=["worst"])
        with pytest.raises(ConfigError, match="needs a head that knows what the answers"):
            score(pairs, checkpoint, tmp_path / "out.jsonl", risk=["relative_cvar:0.1"])
        with pytest.raises(ConfigError, match="knows no annotators"):
            score(pairs, checkpoint, tmp_path / "out.jsonl", risk=["mean"], annotator="ann")
        with pytest.raises(MissingFileError, match=r"groups.json does not exist"):
            score(pairs, checkpoint, tmp_path / "o.jsonl", risk=["mean"], groups="groups.json")
        assert scored_texts == []
        assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "pairs.jsonl"]

    def test_rows_added_while_the_others_were_scored(
        self, checkpoint, pairs, tmp_path, monkeypatch
    ):
        from hidden_context.errors import DataError
        from hidden_context.scoring import merge

        def grow(*args, **options):
            with Path(pairs).open("a") as file:
                file.write(json.dumps(preference_rows(1)[0]) + "\n")
            return original(*args, **options)

        original = merge._merged
        monkeypatch.setattr(merge, "_merged", grow)
        with pytest.raises(DataError, match="row 24 was added while the others were scored"):
            score(pairs, checkpoint, tmp_path / "out.jsonl")
