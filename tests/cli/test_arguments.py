from __future__ import annotations

import dataclasses
from typing import Any, Literal

import pytest

from hidden_context.cli.arguments import make_parser, parse
from hidden_context.config import option
from hidden_context.errors import ConfigError, MissingFileError


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
    ("argv", "value"),
    [
        ([], True),
        (["--bf16"], True),
        (["--bf16", "false"], False),
        (["--bf16=false"], False),
        (["--bf16=False"], False),
        (["--bf16", "no"], False),
        (["--bf16=0"], False),
        (["--bf16=yes"], True),
        (["--no_bf16"], False),
        (["--no-bf16"], False),
        (["--no_bf16", "--bf16"], True),
    ],
)
def test_truth_values_in_hf_argument_parser_s_ways(argv, value):
    assert run(*argv).bf16 is value


def test_underscores_and_hyphens():
    assert run("--quick_check").quick_check is True
    assert run("--quick-check", "true").quick_check is True
    assert run("--no-quick-check").quick_check is False
    assert run("--batch-size", "4") == run("--batch_size=4")


def test_kinds_of_values():
    values = run("in", "--rate=3e-6", "--names", "a", "b", "--extra", '{"k": [1]}')
    assert values == Options(source="in", rate=3e-6, names=["a", "b"], extra={"k": [1]})
    assert run("--size", "-1").size == -1
    assert run("--size=-1").size == -1
    assert run().extra is not run().extra


def test_a_flag_that_may_stand_bare():
    assert run().resume is None
    assert run("--resume").resume == "true"
    assert run("--resume", "folder").resume == "folder"
    assert run("--resume", "false").resume == "false"


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--bf16=maybe"], "argument --bf16: 'maybe' is not a truth value; use true or false"),
        (["--size", "many"], "argument --size: invalid int value: 'many'"),
        (["--likelihood", "cauchy"], "invalid choice: 'cauchy' (choose from"),
        (["--extra", "[1]"], "a JSON object is needed"),
        (["--extra", "{"], "not JSON: "),
        (["--batchsize", "3"], "unrecognized arguments: --batchsize (did you mean --batch_size?)"),
        (["--sizes=3"], "unrecognized arguments: --sizes=3 (did you mean --size?)"),
        (["--zzz"], "unrecognized arguments: --zzz."),
        (["--bf"], "unrecognized arguments: --bf"),
    ],
)
def test_bad_flags_are_one_line_and_code_2(argv, words, capsys):
    with pytest.raises(SystemExit) as stopped:
        run(*argv)
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


def test_help_shows_defaults_and_choices(capsys):
    with pytest.raises(SystemExit) as stopped:
        run("--help")
    assert stopped.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "a number (default: 0.1)" in text
    assert "how many, 100 % of them (default: 3)" in text
    assert "--likelihood {probit,logistic} which (default: probit)" in text
    assert "--no" not in text
    assert make_parser(Options, "prog", "").prog == "prog"


class TestConfigFiles:
    def test_flags_win_over_the_file_over_defaults(self, tmp_path):
        values = from_yaml(
            tmp_path,
            "source: in\nrate: 3e-6\nsize: 7\nnames: [x]\nbf16: no\n",
            "--size",
            "8",
            "--bf16",
        )
        assert values == Options(source="in", rate=3e-6, size=8, names=["x"], bf16=True)
        assert from_yaml(tmp_path, "source: in\n", "out").source == "out"

    def test_values_are_brought_to_their_types(self, tmp_path):
        assert from_yaml(tmp_path, "rate: 2").rate == 2.0
        assert isinstance(from_yaml(tmp_path, "rate: 2").rate, float)
        assert from_yaml(tmp_path, "batch_size: null").batch_size is None
        assert from_yaml(tmp_path, "resume: true").resume == "true"
        assert from_yaml(tmp_path, "resume: false").resume is None
        assert from_yaml(tmp_path, "likelihood: logistic").likelihood == "logistic"
        assert from_yaml(tmp_path, "extra: {a: 1}").extra == {"a": 1}
        assert from_yaml(tmp_path, "") == Options()

    @pytest.mark.parametrize(
        ("text", "words"),
        [
            ("siez: 3", "unknown option siez (did you mean size?). The options are those of"),
            ("zzz: 3\nqqq: 4", "unknown options qqq, zzz. The"),
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
            ("- size", "options are needed as 'name: value' lines."),
            ("size: [", "is not valid YAML: while parsing"),
        ],
    )
    def test_bad_files_are_errors_that_name_file_and_option(self, tmp_path, text, words):
        with pytest.raises(ConfigError) as caught:
            from_yaml(tmp_path, text)
        message = str(caught.value)
        assert message.startswith(str(tmp_path / "options.yaml"))
        assert words in message
        assert "\n" not in message

    def test_a_file_that_is_not_there(self):
        with pytest.raises(MissingFileError, match=r"none.yaml does not exist. Give --config an"):
            run("--config", "none.yaml")


@dataclasses.dataclass(frozen=True)
class Renamed:
    precision: Literal["auto", "float32", "bfloat16"] = option(
        "auto",
        "which",
        formerly={"bf16": {True: "bfloat16", False: "float32"}, "data_type": {"fp32": "float32"}},
    )
    threads: int | None = option(None, "how many", unset="auto")


@pytest.mark.parametrize(
    ("argv", "value"),
    [
        ([], "auto"),
        (["--bf16"], "bfloat16"),
        (["--bf16", "yes"], "bfloat16"),
        (["--bf16=false"], "float32"),
        (["--no_bf16"], "float32"),
        (["--no-bf16"], "float32"),
        (["--data_type", "fp32"], "float32"),
        (["--data-type=bfloat16"], "bfloat16"),
        (["--bf16", "--precision=float32"], "float32"),  # the last one holds
        (["--precision=float32", "--bf16"], "bfloat16"),
    ],
)
def test_earlier_names_of_an_option_are_read(argv, value):
    assert run(*argv, config=Renamed).precision == value


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("bf16: true", ("bfloat16", None)),
        ("bf16: no", ("float32", None)),
        ("data_type: fp32\nthreads: 3", ("float32", 3)),
        ("data_type: bfloat16\nthreads: auto", ("bfloat16", None)),
        ("bf16: true\nprecision: auto\nthreads: null", ("auto", None)),
    ],
)
def test_earlier_names_in_a_file_are_read(tmp_path, text, expected):
    path = tmp_path / "options.yaml"
    path.write_text(text)
    found = run("--config", str(path), config=Renamed)
    assert (found.precision, found.threads) == expected


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--bf16=maybe"], "argument --bf16: 'maybe' is not a truth value"),
        (["--data_type=int3"], "argument --data_type/--data-type: invalid choice: 'int3'"),
        (["--threads=many"], "argument --threads: invalid int value: 'many'"),
    ],
)
def test_values_of_earlier_names_are_checked(capsys, argv, message):
    with pytest.raises(SystemExit):
        run(*argv, config=Renamed)
    assert message in capsys.readouterr().err


def test_a_file_with_an_earlier_name_s_ill_value_is_refused(tmp_path):
    path = tmp_path / "options.yaml"
    path.write_text("data_type: int3")
    with pytest.raises(ConfigError, match="precision is 'int3'; choose from auto, float32"):
        run("--config", str(path), config=Renamed)


def test_the_word_for_no_number_is_read_and_earlier_names_stay_out_of_the_help():
    assert run("--threads=auto", config=Renamed).threads is None
    assert run("--threads", "4", config=Renamed).threads == 4
    text = make_parser(Renamed, "prog", "About it.").format_help()
    assert "--threads INT|auto" in text
    assert "bf16" not in text.replace("bfloat16", "")
    assert "data_type" not in text
