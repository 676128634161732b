from __future__ import annotations

import dataclasses
import math
from typing import Any, Literal

import pytest

from hidden_context.cli.arguments import make_parser, parse
from hidden_context.config import (
    POSITIVE,
    SHARE,
    by_present_names,
    check_options,
    option,
    option_groups,
)
from hidden_context.errors import ConfigError, MissingFileError
from hidden_context.train_llm_preference_model import PaperTrainConfig
from hidden_context.training.config import TrainConfig


@dataclasses.dataclass(frozen=True)
class Options:
    source: str = option("", "what to read", positional=True)
    rate: float = option(0.1, "a number")
    size: int = option(3, "how many, 100 % of them")
    batch_size: int | None = option(None, "perhaps how many")
    bf16: bool = option(True, "whether")
    quick_check: bool = option(False, "whether too")
    names: list[str] = option([], "some")
    extra: dict[str, Any] = option({}, "more")
    likelihood: Literal["probit", "logistic"] = option("probit", "which")
    resume: str | None = option(None, "from where", bare="true")
    precision: Literal["auto", "float32", "bfloat16"] = option(
        "auto",
        "which",
        formerly={"half": {True: "bfloat16", False: "float32"}, "data_type": {"fp32": "float32"}},
    )
    threads: int | None = option(None, "how many", unset="auto", formerly={"cores": {}})


@dataclasses.dataclass(frozen=True)
class Needing:
    input: str = option(dataclasses.MISSING, "needed")
    models: list[str] = option(dataclasses.MISSING, "needed too")
    place: str = option(dataclasses.MISSING, "needed without a flag", positional=True)


def run(*argv, config=Options):
    return parse(config, list(argv), prog="prog", description="About it.")


def from_yaml(tmp_path, text, *argv):
    path = tmp_path / "options.yaml"
    path.write_text(text)
    return run("--config", str(path), *argv)


@pytest.mark.parametrize(
    ("flags", "changes"),
    [
        ("", {}),
        # truth values, in the ways of Transformers' parser
        *((flag, {"bf16": True}) for flag in ("--bf16", "--bf16=yes", "--no_bf16 --bf16")),
        *((f"--bf16{end}", {"bf16": False}) for end in (" false", "=false", "=False", " no", "=0")),
        *((flag, {"bf16": False}) for flag in ("--no_bf16", "--no-bf16")),
        # underscores and hyphens
        ("--quick_check", {"quick_check": True}),
        ("--quick-check true", {"quick_check": True}),
        ("--quick-check --no-quick-check", {}),
        ("--batch-size 4", {"batch_size": 4}),
        ("--batch_size=4", {"batch_size": 4}),
        # kinds of values
        ("in --rate=3e-6 --names a b", {"source": "in", "rate": 3e-6, "names": ["a", "b"]}),
        ('--extra {"k":[1]}', {"extra": {"k": [1]}}),
        ("--size -1", {"size": -1}),
        ("--size=-1", {"size": -1}),
        # a flag that may stand bare, and a word for None
        ("--resume", {"resume": "true"}),
        ("--resume folder", {"resume": "folder"}),
        ("--resume false", {"resume": "false"}),
        ("--threads=auto", {}),
        ("--threads 4", {"threads": 4}),
        # earlier names; the last flag holds
        ("--half", {"precision": "bfloat16"}),
        ("--half yes", {"precision": "bfloat16"}),
        *((f, {"precision": "float32"}) for f in ("--half=false", "--no_half", "--no-half")),
        ("--data_type fp32", {"precision": "float32"}),
        ("--data_type=bfloat16", {"precision": "bfloat16"}),
        ("--half --precision=float32", {"precision": "float32"}),
        ("--precision=float32 --half", {"precision": "bfloat16"}),
    ],
)
def test_flags(flags, changes):
    assert run(*flags.split()) == Options(**changes)
    assert run().extra is not run().extra


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ("--bf16=maybe", "argument --bf16: 'maybe' is not a truth value; use true or false"),
        ("--half=maybe", "argument --half: 'maybe' is not a truth value"),
        ("--size many", "argument --size: invalid int value: 'many'"),
        ("--threads=many", "argument --threads: invalid int value: 'many'"),
        ("--likelihood cauchy", "invalid choice: 'cauchy' (choose from"),
        ("--data_type=int3", "argument --data_type/--data-type: invalid choice: 'int3'"),
        ("--extra [1]", "a JSON object is needed"),
        ("--extra {", "not JSON: "),
        ("--batchsize 3", "unrecognized arguments: --batchsize (did you mean --batch_size?)"),
        ("--sizes=3", "unrecognized arguments: --sizes=3 (did you mean --size?)"),
        ("--zzz", "unrecognized arguments: --zzz."),
        ("--bf", "unrecognized arguments: --bf"),
    ],
)
def test_bad_flags_are_one_line_and_code_2(flags, words, capsys):
    with pytest.raises(SystemExit) as stopped:
        run(*flags.split())
    assert stopped.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert words in error
    assert error.endswith("`prog --help` lists the options.\n")
    assert error.count("\n") == 1


def test_required_options_are_named(capsys):
    with pytest.raises(SystemExit):
        run(config=Needing)
    error = capsys.readouterr().err
    assert "the following options are required: --input, --models, place." in error
    values = run("p", "--input", "a", "--models", "b", "c", config=Needing)
    assert values == Needing(input="a", models=["b", "c"], place="p")


def test_help_shows_defaults_and_choices_and_no_earlier_names(capsys):
    with pytest.raises(SystemExit) as stopped:
        run("--help")
    assert stopped.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    assert text.startswith("usage: prog SOURCE [options] About it.")
    assert "a number (default: 0.1)" in text
    assert "how many, 100 % of them (default: 3)" in text
    assert "--likelihood {probit,logistic} which (default: probit)" in text
    assert "--threads INT|auto" in text
    assert "whether (default: True; --no_bf16 for false)" in text
    assert not any(hidden in text for hidden in ("--no_q", "half", "data_type", "cores"))


@pytest.mark.parametrize(
    ("text", "flags", "changes"),
    [
        ("", "", {}),
        (
            "source: in\nrate: 3e-6\nsize: 7\nbf16: no",
            "--size 8 --bf16",
            {"source": "in", "rate": 3e-6, "size": 8},
        ),
        ("source: in", "out", {"source": "out"}),
        ("rate: 2", "", {"rate": 2.0}),
        ("batch_size: null", "", {}),
        ("names: [x]\nresume: true", "", {"names": ["x"], "resume": "true"}),
        ("resume: false", "", {}),
        ("likelihood: logistic\nextra: {a: 1}", "", {"likelihood": "logistic", "extra": {"a": 1}}),
        ("half: true", "", {"precision": "bfloat16"}),
        ("half: no\ncores: 2", "", {"precision": "float32", "threads": 2}),
        ("data_type: fp32\nthreads: 3", "", {"precision": "float32", "threads": 3}),
        ("data_type: bfloat16\nthreads: auto", "", {"precision": "bfloat16"}),
        ("half: true\nprecision: auto\nthreads: null", "", {}),
    ],
)
def test_flags_win_over_the_file_over_defaults(tmp_path, text, flags, changes):
    values = from_yaml(tmp_path, text, *flags.split())
    assert values == Options(**changes)
    assert isinstance(values.rate, float)


def test_files_keep_unknown_options_and_are_not_changed():
    values = {"half": True, "data_type": ["a"], "unknown": 1}
    assert by_present_names({"unknown": 1, "data_type": ["a"]}, Options) == {
        "unknown": 1,
        "precision": ["a"],  # for the check of types to refuse
    }
    assert set(by_present_names(values, Options)) == {"precision", "unknown"}
    assert values == {"half": True, "data_type": ["a"], "unknown": 1}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("siez: 3", "unknown option siez (did you mean size?). See --help for the options."),
        ("zzz: 3\nqqq: 4", "unknown options qqq, zzz. See"),
        ("size: many", "size is 'many'; a whole number is needed."),
        ("size: 2.5", "size is 2.5; a whole number is needed."),
        ("size: true", "size is True; a whole number is needed."),
        ("size: null", "size is None; a whole number is needed."),
        ("rate: fast", "rate is 'fast'; a number is needed."),
        ("rate: true", "rate is True; a number is needed."),
        ("bf16: 1", "bf16 is 1; true or false is needed."),
        ("source: 12", "source is 12; text (in quotes, if it looks like something else) is"),
        ("names: a", "names is 'a'; a list, such as [a, b], is needed."),
        ("names: [a, 1]", "an item of names is 1; text (in quotes"),
        ("extra: 3", "extra is 3; a mapping of names to values is needed."),
        ("likelihood: cauchy", "likelihood is 'cauchy'; choose from probit, logistic."),
        ("data_type: int3", "precision is 'int3'; choose from auto, float32"),
        ("- size", "options are needed as 'name: value' lines."),
        ("size: [", "is not valid YAML: while parsing"),
    ],
)
def test_bad_files_are_errors_that_name_file_and_option(tmp_path, text, words):
    with pytest.raises(ConfigError) as caught:
        from_yaml(tmp_path, text)
    message = str(caught.value)
    assert message.startswith(str(tmp_path / "options.yaml"))
    assert words in message
    assert "\n" not in message
    with pytest.raises(MissingFileError, match=r"none.yaml does not exist. Give --config an"):
        run("--config", "none.yaml")


@dataclasses.dataclass(frozen=True)
class Bounded:
    kind: Literal["a", "b", "c"] = option("a", "a choice")
    weight: float | None = option(None, "a number or nothing", least=0)
    rate: float = option(1.0, "a rate", must=POSITIVE)
    share: float = option(0.0, "a share", must=SHARE)
    free: int = option(-5, "any number")

    def __post_init__(self) -> None:
        check_options(self)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "c", "weight": 0, "rate": 1e-9, "share": 0.0, "free": -9}, None),
        ({"weight": None, "share": 0.999}, None),
        ({"kind": "d"}, "--kind is 'd'; choose a, b or c."),
        ({"weight": -0.5}, "--weight is -0.5; it must be at least 0."),
        ({"weight": math.nan}, "--weight is nan; it must be at least 0."),
        ({"weight": math.inf}, "--weight is inf; it must be at least 0."),
        ({"rate": 0.0}, "--rate is 0.0; it must be positive."),
        ({"rate": math.nan}, "--rate is nan; it must be positive."),
        ({"share": 1.0}, "--share is 1.0; it must lie in [0, 1)."),
    ],
)
def test_options_are_checked_wherever_a_configuration_is_made(options, message):
    if message is None:
        assert vars(Bounded(**options)) == vars(Bounded()) | options
    else:
        with pytest.raises(ConfigError) as refused:
            Bounded(**options)
        assert str(refused.value) == message


def test_help_begins_with_what_is_used_most_and_has_a_heading_for_each_group():
    text = make_parser(PaperTrainConfig, "prog", "About it.").format_help()
    assert text.startswith("usage: prog [options]\n")
    headings = [line for line in text.splitlines() if line.endswith(":") and line[0] != " "]
    assert headings[:3] == ["options:", "most used:", "Data and splits:"]
    assert headings[3:] == [f"{each}:" for each in list(option_groups(TrainConfig))[2:]]
    common = [field.name for field in option_groups(TrainConfig)["most used"]]
    assert len(common) == 10
    assert {"data_path", "model_name", "reward_model_type", "output_dir"} < set(common)
    named = [field.name for fields in option_groups(TrainConfig).values() for field in fields]
    assert sorted(named) == sorted(field.name for field in dataclasses.fields(TrainConfig))
