"""Bad input: one clear paragraph on stderr, exit code 2, nothing written, never a traceback."""

import importlib
import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from hidden_context.cli.main import main
from support.builders import preference_rows, tiny_backbone
from support.paper_layout import one_thread, reward_checkpoint, write_rows

__all__ = ["one_thread"]


@pytest.fixture(scope="module")
def shelf(tmp_path_factory):
    """A checkpoint of every head, a backbone, and good data."""
    root = tmp_path_factory.mktemp("shelf")
    for head in ("base", "mean_and_variance", "categorical"):
        reward_checkpoint(root / head, head)
    tiny_backbone(root / "backbone")
    write_rows(root / "pairs.jsonl", preference_rows(12))
    (root / "kind.ini").write_text("text")
    (root / "empty").mkdir()
    shutil.copytree(root / "base", root / "damaged")
    (root / "damaged" / "reward_head.json").write_text('{"format": 1')
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


@pytest.fixture
def error_of(here, capsys):
    """Run a verb or a module that must fail well; return its message."""

    def error_of(command):
        name, *arguments = shlex.split(command)
        before = files(".")
        try:
            module = importlib.import_module(name) if "." in name else None
            code = main([name, *arguments]) if module is None else module.main(arguments)
        except SystemExit as stopped:
            code = stopped.code
        captured = capsys.readouterr()
        assert code == 2
        (line,) = (line for line in captured.err.splitlines() if line and "it/s" not in line)
        assert "Traceback" not in captured.err
        assert captured.out == ""
        assert [name for name in files(".") if name not in before] == []
        return line

    return error_of


GOOD = json.dumps(preference_rows(1)[0])


def score(model="base", more="", data="pairs.jsonl"):
    return f"score {data} --models={model} --output=out.jsonl --disable_tqdm {more}"


def evaluate(model="base", more="", data="pairs.jsonl"):
    return f"evaluate {model} --data_path={data} --output=out.jsonl --disable_tqdm {more}"


def train(more="", data="pairs.jsonl"):
    return f"train --model_name=backbone --data_path={data} --output_dir=run --disable_tqdm {more}"


READERS = {"score": score, "evaluate": evaluate, "train": train}
CHATS = "\n".join(map(json.dumps, preference_rows(2, chat=True)))
UNREADABLE = [
    (None, "error: bad.jsonl does not exist."),
    ("", " no rows"),
    (
        f'{GOOD}\n{GOOD}\n{{"chosen": "a", "rejected\n{GOOD}',
        "error: bad.jsonl, line 3: not valid JSON: … Each line has to be one JSON object, in UTF-8",
    ),
    (
        f'{GOOD}\n{{"chosen": "a", "other": "b"}}',
        "error: bad.jsonl, line 2, field 'rejected': the column is missing… needs the columns "
        "'chosen' and 'rejected'",
    ),
    (
        f'{GOOD}\n{{"chosen": "a", "rejected": 17}}',
        "error: bad.jsonl, line 2, field 'rejected': text or a list of chat messages is needed, "
        "not a number (17).",
    ),
]


@pytest.mark.parametrize(
    ("reader", "text", "words"),
    [
        *((reader, *case) for reader in READERS for case in UNREADABLE),
        (
            "score",
            '{"messages": [{"role": "user"}]}',
            "field 'messages[0]': the chat message's 'content'",
        ),
        ("evaluate", CHATS, "chat template"),
    ],
)
def test_rows_that_cannot_be_read(error_of, reader, text, words):
    if text is not None:
        Path("bad.jsonl").write_text(text)
    message = error_of(READERS[reader](data="bad.jsonl"))
    for part in words.split("… "):
        assert part in message.replace("the file holds", "the data set has")


NONE = "error: ./none does not exist. Give the folder of a checkpoint"
UNKNOWN = "error: head type 'sparse' is not known; choose one of base, mean_and"
UNWRITABLE = (
    "error: pairs.jsonl/… could not be written: … Check that the folder exists, may be written to "
    "and is not a file."
)
RESPONSES = "hidden_context.evaluate_assistant_responses"
EVALUATION = "hidden_context.evaluate_llm_preference_model"


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (
            score(data="kind.ini"),
            "error: kind.ini: files of this kind are not read. Known kinds: .jsonl",
        ),
        (score("./none"), NONE),
        (evaluate("./none"), NONE),
        (
            score("empty"),
            "error: empty holds no checkpoint: none of config.json, adapter_config.json, "
            "adapter_ensemble.json, frozen_backbone.json is in it.",
        ),
        (evaluate("empty"), "error: empty holds no checkpoint"),
        (score("backbone"), "no trained reward head… hidden-context train"),
        (
            evaluate(more="--num_outputs=10"),
            "a base head (num_outputs 1), but categorical (num_outputs 10)",
        ),
        (
            evaluate("categorical", "--num_outputs=2"),
            "has a categorical head (num_outputs 10), but mean_",
        ),
        (
            evaluate(more="--head=mean_and_variance"),
            "mean_and_variance (num_outputs 2) was asked for. Leave out --head",
        ),
        (evaluate(more="--head=sparse"), UNKNOWN),
        (
            evaluate(more="--head=base --num_outputs=2"),
            "the base head has num_outputs 1, but --num_outputs is 2.",
        ),
        (
            f"{EVALUATION} --reward_model_checkpoint=mean_and_variance --data_path=pairs.jsonl "
            "--num_outputs=1 --output=out.jsonl",
            "mean_and_variance head (num_outputs 2)… Leave out --num_outputs, or give the "
            "checkpoint's own.",
        ),
        (score("damaged"), "damaged/reward_head.json"),
        (train("--reward_model_type=sparse"), UNKNOWN),
        (
            f"{RESPONSES} --input=a --output=b",
            "error: the following options are required: --reward_model_checkpoints.",
        ),
        (EVALUATION, "error: the following options are required: --reward_model_checkpoint."),
        (score(more="--output=pairs.jsonl/out.jsonl"), UNWRITABLE),
        (evaluate(more="--output=pairs.jsonl/out.jsonl"), UNWRITABLE),
        (train("--output_dir=pairs.jsonl/run"), UNWRITABLE),
    ],
)
def test_one_line_says_what_is_wrong(error_of, command, words):
    message = error_of(command)
    for part in words.split("… "):
        assert part.rstrip("…") in message


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (score("org/none"), "'org/none'"),
        (train("--model_name=org/none"), "'org/none'"),
        (evaluate(data="org/none"), "org/none"),
    ],
    ids=["model", "backbone", "data"],
)
def test_a_name_on_the_hub_is_refused_within_seconds_without_a_network(here, command, words):
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
        [sys.executable, "-c", code, *shlex.split(command)],
        capture_output=True,
        text=True,
        timeout=300,
        env=environment,
    )
    assert done.returncode == 2
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith("error: ")
    assert words in line
    # one round of the client's own retries would wait for half a minute
    assert float(done.stdout.splitlines()[-1]) < 5
