"""Bad input: one clear paragraph on stderr, exit code 2, nothing written, never a traceback."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from hidden_context import evaluate_assistant_responses, evaluate_llm_preference_model
from hidden_context.cli.main import main
from support.builders import preference_rows, tiny_backbone
from support.paper_layout import one_thread, reward_checkpoint, write_relabeled, write_rows

__all__ = ["one_thread"]


@pytest.fixture(scope="module")
def shelf(tmp_path_factory):
    """A checkpoint of every head, a backbone, and good data."""
    root = tmp_path_factory.mktemp("shelf")
    for head in ("base", "mean_and_variance", "categorical"):
        reward_checkpoint(root / head, head)
    tiny_backbone(root / "backbone")
    write_rows(root / "pairs.jsonl", preference_rows(12))
    write_relabeled(root / "relabeled")
    os.remove(root / "relabeled" / "both" / "train.jsonl.gz")
    return root


@pytest.fixture
def here(shelf, tmp_path, monkeypatch):
    """An own folder to run in, with links to the shelf."""
    for path in shelf.iterdir():
        (tmp_path / path.name).symlink_to(path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def files(folder):
    return sorted(path.name for path in Path(folder).iterdir())


def error_of(capsys, run, *argv):
    """Run a command that must fail well; return its message."""
    before = files(".")
    try:
        code = run(list(argv))
    except SystemExit as stopped:
        code = stopped.code
    captured = capsys.readouterr()
    assert code == 2
    lines = [line for line in captured.err.splitlines() if line and "it/s" not in line]
    assert len(lines) == 1, captured.err
    assert lines[0].startswith("error: ")
    assert "Traceback" not in captured.err
    assert captured.out == ""
    assert [name for name in files(".") if name not in before] == []
    return lines[0].removeprefix("error: ")


def write_lines(*lines):
    Path("bad.jsonl").write_text("\n".join(lines) + "\n")


GOOD = json.dumps(preference_rows(1)[0])
SCORE = ("--models", "base", "--output", "out.jsonl", "--disable_tqdm")
TRAIN = ("train", "--model_name", "backbone", "--output_dir", "run", "--disable_tqdm")
EVALUATE = ("evaluate", "base", "--output", "out.jsonl", "--disable_tqdm")
READERS = {
    "score": ("score", "bad.jsonl", *SCORE),
    "evaluate": (*EVALUATE, "--data_path", "bad.jsonl"),
    "train": (*TRAIN, "--data_path", "bad.jsonl"),
}
reading = pytest.mark.parametrize("argv", READERS.values(), ids=READERS.keys())


class TestData:
    @reading
    def test_a_missing_file(self, here, capsys, argv):
        message = error_of(capsys, main, *argv)
        assert message.startswith("bad.jsonl does not exist.")

    @reading
    def test_an_empty_file(self, here, capsys, argv):
        Path("bad.jsonl").write_text("")
        message = error_of(capsys, main, *argv)
        assert re.match(r"bad.jsonl: the (file holds|data set has) no rows", message)

    @reading
    def test_broken_json_on_line_3(self, here, capsys, argv):
        write_lines(GOOD, GOOD, '{"chosen": "a", "rejected', GOOD)
        message = error_of(capsys, main, *argv)
        assert message.startswith("bad.jsonl, line 3: not valid JSON: ")
        assert message.endswith("Each line has to be one JSON object, in UTF-8.")

    @reading
    def test_a_missing_column(self, here, capsys, argv):
        write_lines(GOOD, '{"chosen": "a", "other": "b"}')
        message = error_of(capsys, main, *argv)
        assert message.startswith("bad.jsonl, line 2, field 'rejected': the column is missing")
        assert "needs the columns 'chosen' and 'rejected'" in message

    @reading
    def test_a_column_of_another_type(self, here, capsys, argv):
        write_lines(GOOD, '{"chosen": "a", "rejected": 17}')
        message = error_of(capsys, main, *argv)
        assert message.startswith(
            "bad.jsonl, line 2, field 'rejected': text or a list of chat messages is needed, "
            "not a number (17)."
        )

    @pytest.mark.parametrize(
        ("row", "words"),
        [
            ({"promt": "a"}, "line 1: nothing to score is found in the columns 'promt'. Give the"),
            (
                {"prompt": "a", "responses": "b"},
                "line 1, field 'responses': a list of responses is needed",
            ),
            ({"text": 3}, "line 1, field 'text': text or a list of chat messages is needed"),
            ({"messages": [{"role": "user"}]}, "field 'messages[0]': the chat message's 'content'"),
        ],
    )
    def test_rows_that_cannot_be_scored(self, here, capsys, row, words):
        write_lines(json.dumps(row))
        assert words in error_of(capsys, main, *READERS["score"])

    def test_chats_for_a_tokenizer_without_a_template(self, here, capsys):
        write_rows("bad.jsonl", preference_rows(2, chat=True))
        message = error_of(capsys, main, *READERS["evaluate"])
        assert "chat template" in message

    def test_a_file_of_an_unknown_kind(self, here, capsys):
        Path("bad.txt").write_text("text")
        message = error_of(capsys, main, "score", "bad.txt", *SCORE)
        assert message.startswith("bad.txt: files of this kind are not read. Known kinds: .jsonl")

    def test_a_missing_split_names_the_file_and_both_ways_out(self, here, capsys):
        message = error_of(capsys, main, *TRAIN, "--data_path", "relabeled")
        assert message.startswith("relabeled/both/train.jsonl.gz does not exist.")
        assert "--train_split test" in message
        assert "--eval_fraction 0.1" in message

    def test_a_split_and_a_subset_that_are_not_there(self, here, capsys):
        message = error_of(capsys, main, *EVALUATE, "--data_path=relabeled", "--eval_split=dev")
        assert message.startswith("relabeled/both/dev.jsonl.gz does not exist. Splits in relabeled")
        message = error_of(capsys, main, *EVALUATE, "--data_path=pairs.jsonl", "--data_subset=kind")
        assert "no row has data_subset 'kind' (there: harmless, helpful)" in message


class TestCheckpoints:
    @pytest.mark.parametrize("argv", [("score", "pairs.jsonl"), ("evaluate",)])
    def test_a_folder_that_is_not_there(self, here, capsys, argv):
        options = (
            ("--models", "./none", "--output", "out.jsonl")
            if argv[0] == "score"
            else ("./none", "--data_path", "pairs.jsonl")
        )
        message = error_of(capsys, main, *argv, *options, "--disable_tqdm")
        assert message.startswith("./none does not exist. Give the folder of a checkpoint")

    def test_an_empty_folder(self, here, capsys):
        Path("empty").mkdir()
        options = ("--output", "out.jsonl", "--models", "empty")
        message = error_of(capsys, main, "score", "pairs.jsonl", *options)
        assert message == (
            "empty holds no checkpoint: none of config.json, adapter_config.json, "
            "adapter_ensemble.json, frozen_backbone.json is in it."
        )
        evaluation = ("evaluate", "empty", "--data_path", "pairs.jsonl")
        assert error_of(capsys, main, *evaluation).startswith("empty holds no checkpoint")

    def test_a_backbone_is_no_reward_model(self, here, capsys):
        options = ("--output", "out.jsonl", "--models", "backbone")
        message = error_of(capsys, main, "score", "pairs.jsonl", *options)
        assert "no trained reward head" in message
        assert "hidden-context train" in message

    @pytest.mark.parametrize(
        ("checkpoint", "options", "words"),
        [
            (
                "base",
                ["--num_outputs=10"],
                "base has a base head (num_outputs 1), but categorical (num_outputs 10) was",
            ),
            (
                "categorical",
                ["--num_outputs=2"],
                "has a categorical head (num_outputs 10), but mean_",
            ),
            (
                "base",
                ["--head=mean_and_variance"],
                "but mean_and_variance (num_outputs 2) was asked for. Leave out --head",
            ),
            ("base", ["--head=sparse"], "head type 'sparse' is not known; choose one of base, me"),
            (
                "base",
                ["--head=base", "--num_outputs=2"],
                "the base head has num_outputs 1, but --num_outputs is 2.",
            ),
        ],
    )
    def test_another_head_than_the_checkpoint_s(self, here, capsys, checkpoint, options, words):
        argv = ("evaluate", checkpoint, "--data_path=pairs.jsonl", *options, "--output=out.jsonl")
        assert words in error_of(capsys, main, *argv)

    def test_the_paper_s_flag_for_the_number_of_outputs(self, here, capsys):
        argv = ("--reward_model_checkpoint=mean_and_variance", "--data_path=pairs.jsonl")
        run = evaluate_llm_preference_model.main
        message = error_of(capsys, run, *argv, "--num_outputs=1", "--output=out.jsonl")
        assert "mean_and_variance head (num_outputs 2)" in message
        assert message.endswith("Leave out --num_outputs, or give the checkpoint's own.")

    def test_a_head_file_that_is_damaged(self, here, capsys):
        shutil.copytree("base", "damaged")
        Path("damaged/reward_head.json").write_text('{"format": 1')
        message = error_of(
            capsys, main, "score", "pairs.jsonl", "--models=damaged", "--output=out.jsonl"
        )
        assert "damaged/reward_head.json" in message

    def test_training_an_unknown_head(self, here, capsys):
        argv = (*TRAIN, "--data_path=pairs.jsonl", "--reward_model_type=sparse")
        message = error_of(capsys, main, *argv)
        assert message.startswith("head type 'sparse' is not known; choose one of base, mean_and")


class TestOptions:
    def test_an_unknown_verb(self, here, capsys):
        assert main(["wash"]) == 2
        error = capsys.readouterr().err
        assert error.startswith("error: 'wash' is not a verb.")
        assert "score texts, responses or pairs" in error

    def test_an_unknown_risk_measure(self, here, capsys):
        message = error_of(capsys, main, "score", "pairs.jsonl", *SCORE, "--risk", "worst")
        assert message.startswith("risk measure 'worst' is not known; choose one of mean, quantile")
        message = error_of(capsys, main, "score", "pairs.jsonl", *SCORE, "--risk", "quantile:2")
        assert "quantile" in message

    def test_an_unknown_and_an_ill_typed_option_in_a_file(self, here, capsys):
        Path("options.yaml").write_text("learning_rat: 0.1\n")
        message = error_of(capsys, main, *TRAIN, "--config", "options.yaml")
        assert message.startswith(
            "options.yaml: unknown option learning_rat (did you mean learning_rate?)."
        )
        Path("options.yaml").write_text("learning_rate: fast\n")
        message = error_of(capsys, main, *TRAIN, "--config", "options.yaml")
        assert message == "options.yaml: learning_rate is 'fast'; a number is needed."

    def test_names_and_models_that_do_not_match(self, here, capsys):
        options = ("--models", "base", "categorical", "--output=out.jsonl", "--names", "a")
        message = error_of(capsys, main, "score", "pairs.jsonl", *options)
        assert message.startswith(
            "names and models differ in number (1 and 2); give each model a name"
        )
        message = error_of(
            capsys,
            evaluate_assistant_responses.main,
            "--input=pairs.jsonl",
            "--output=out.jsonl",
            *("--reward_model_checkpoints", "base", "--reward_model_names", "a", "b"),
        )
        assert message.startswith(
            "names and models differ in number (2 and 1); give each model a name"
        )

    def test_what_is_required(self, here, capsys):
        assert error_of(capsys, main, "score").startswith(
            "score needs an input file and --output and --models, as in: score INPUT"
        )
        assert error_of(capsys, main, "evaluate").startswith("evaluate needs a checkpoint")
        message = error_of(capsys, evaluate_assistant_responses.main, "--input=a", "--output=b")
        assert message.startswith("the following options are required: --reward_model_checkpoints.")
        message = error_of(capsys, evaluate_llm_preference_model.main)
        assert message.startswith("the following options are required: --reward_model_checkpoint.")

    @pytest.mark.parametrize(
        ("argv", "words"),
        [
            ((*TRAIN, "--learning_rate=0"), "--learning_rate is 0.0; it must be positive."),
            ((*EVALUATE, "--batch_size=0"), "--batch_size is 0; it must be at least 1."),
            ((*EVALUATE, "--batch-siz=3"), "(did you mean --batch-size?)"),
            ((*EVALUATE, "--data_path=pairs.jsonl", "--precision=int3"), "invalid choice: 'int3'"),
            ((*EVALUATE, "--data_path=pairs.jsonl", "--device=abacus"), "device 'abacus' is not"),
            ((*EVALUATE, "--data_path=pairs.jsonl", "--eval_fraction=1.5"), "--eval_fraction has"),
        ],
    )
    def test_values_that_cannot_work(self, here, capsys, argv, words):
        assert words in error_of(capsys, main, *argv)


class TestOutputs:
    @pytest.mark.parametrize(
        "argv",
        [
            ("score", "pairs.jsonl", "--models=base", "--output=pairs.jsonl/out.jsonl"),
            ("evaluate", "base", "--data_path=pairs.jsonl", "--output=pairs.jsonl/out.jsonl"),
            (*TRAIN, "--data_path=pairs.jsonl", "--output_dir=pairs.jsonl/run"),
        ],
        ids=["score", "evaluate", "train"],
    )
    def test_a_folder_that_cannot_be_written(self, here, capsys, argv):
        message = error_of(capsys, main, *argv)
        assert re.match(r"pairs.jsonl/\S+ could not be written: (File exists|Not a dir)", message)
        assert message.endswith(
            "Check that the folder exists, may be written to and is not a file."
        )

    def test_a_folder_instead_of_a_file(self, here, capsys):
        argv = ("score", "pairs.jsonl", "--models=base", "--output=relabeled")
        assert error_of(capsys, main, *argv).startswith("relabeled is a folder; name a file")

    @pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
    def test_a_full_disk(self, here, capsys):
        Path("out.jsonl").write_text("old\n")
        Path("out.jsonl.base.partial").symlink_to("/dev/full")
        message = error_of(capsys, main, "score", "pairs.jsonl", *SCORE)
        assert message == (
            "out.jsonl.base.partial could not be written: No space left on device. Free some space "
            "or write to another disk."
        )
        assert Path("out.jsonl").read_text() == "old\n"


class TestTheHubWithoutANetwork:
    @pytest.mark.parametrize(
        ("argv", "words"),
        [
            (("score", "pairs.jsonl", "--models=org/none", "--output=out.jsonl"), "'org/none'"),
            ((*TRAIN, "--data_path=pairs.jsonl", "--model_name=org/none"), "'org/none'"),
            ((*EVALUATE, "--data_path=org/none"), "org/none"),
        ],
        ids=["model", "backbone", "data"],
    )
    def test_a_name_on_the_hub_is_refused_within_seconds(self, here, argv, words):
        # a process of its own, because the hub's client reads its environment once; the network
        # is taken away by a resolver that knows no names
        code = (
            "import socket, sys, time\n"
            "def unknown(*_, **__): raise socket.gaierror(-2, 'Name or service not known')\n"
            "socket.getaddrinfo = unknown\n"
            "from hidden_context.cli.main import main\n"
            "slept = []\n"
            "time.sleep = slept.append\n"
            "code = main(sys.argv[1:])\n"
            "print(sum(slept))\n"
            "sys.exit(code)\n"
        )
        own = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_ENDPOINT")
        proxies = ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy")
        environment = {k: v for k, v in os.environ.items() if k not in own + proxies}
        environment |= {"OMP_NUM_THREADS": "1", "HF_HOME": str(here / "hub")}
        done = subprocess.run(
            [sys.executable, "-c", code, *argv],
            capture_output=True,
            text=True,
            timeout=300,
            env=environment,
        )
        assert done.returncode == 2
        lines = done.stderr.strip().splitlines()
        assert len(lines) == 1, done.stderr
        assert lines[0].startswith("error: ")
        assert words in lines[0]
        # one round of the client's own retries would wait for half a minute
        assert float(done.stdout.splitlines()[-1]) < 5
