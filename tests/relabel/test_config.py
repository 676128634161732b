import pytest

from hidden_context.cli.arguments import parse
from hidden_context.errors import ConfigError, DataError, MissingFileError, StorageError
from hidden_context.relabel import RelabelConfig, run
from hidden_context.relabel.questions import BUILT_IN, Objective, find_objectives
from relabel.fake_endpoint import BASE, numbered_rows, says


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"data_path": ""}, "relabel needs data, as in: relabel DATA --output"),
        ({"objectives": [], "model": ""}, "needs --model and --objectives"),
        ({"votes": 0}, "--votes is 0; it must be at least 1"),
        ({"votes": 3, "temperature": 0.0}, "3 votes at temperature 0 are one vote"),
        ({"backend": "local", "votes": 2}, "are for endpoints"),
        ({"backend": "local", "temperature": 1.0}, "are for endpoints"),
        ({"backend": "other"}, "choose endpoint or local"),
        ({"price_input": 1.0}, "are needed together"),
        ({"max_cost": 1.0}, "--max_cost needs --price_input"),
        ({"request": {"messages": []}}, "--request sets 'messages'"),
        ({"base_url": "localhost:8000"}, "is not an address such as"),
        ({"base_url": "ftp://x/v1"}, "is not an address such as"),
        ({"base_url": "http://me:secret@x/v1"}, "holds a user name, a password or a query"),
        ({"base_url": "http://x/v1?key=secret"}, "holds a user name, a password or a query"),
    ],
)
def test_options_that_cannot_work_are_refused(options, said):
    with pytest.raises(ConfigError, match=said) as caught:
        RelabelConfig(**BASE | options)
    assert "secret" not in str(caught.value)


def test_several_votes_are_drawn_at_temperature_one():
    assert RelabelConfig(**BASE).used_temperature == 0.0
    assert RelabelConfig(**BASE | {"votes": 2}).used_temperature == 1.0
    assert RelabelConfig(**BASE | {"votes": 2, "temperature": 0.3}).used_temperature == 0.3


def test_the_config_written_beside_the_output_gives_the_same_run(serve, relabel, here):
    endpoint = serve(lambda asked: says("A", top={"A": 0.7, "B": 0.2}))
    relabel(numbered_rows(2), endpoint, request={"seed": 3}, cache="c.sqlite")
    first = (here / "out.jsonl").read_bytes()
    config = parse(
        RelabelConfig,
        ["--config", "out.jsonl.config.yaml", "--output=b.jsonl"],
        prog="p",
        description="d",
    )
    result = run(config)
    assert (result.asked, (here / "b.jsonl").read_bytes()) == (0, first)


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"output": "in.jsonl"}, ConfigError, "in.jsonl is the input too"),
        ({"cache": "in.jsonl"}, ConfigError, "in.jsonl is the input too"),
        ({"output": "folder"}, StorageError, "folder is a folder"),
        ({"output": "out.csv"}, ConfigError, r"must end in \.jsonl"),
    ],
)
def test_nothing_is_written_over_the_input(endpoint, relabel, here, options, error, said):
    (here / "folder").mkdir()
    with pytest.raises(error, match=said):
        relabel(numbered_rows(1), endpoint, **options)
    assert endpoint.asked == []


def test_what_changes_an_answer_is_asked_anew(endpoint, relabel):
    def asked(**options):
        return relabel(numbered_rows(1), endpoint, **options)[0].asked

    assert [asked(), asked()] == [2, 0]
    for change in (
        {"model": "n"},
        {"temperature": 0.5},
        {"logprobs": False},
        {"max_tokens": 8},
        {"request": {"seed": 1}},
        {"objectives": ["harmless"]},
    ):
        assert [asked(**change), asked(**change)] == [2, 0], change
    assert [asked(votes=2), asked(votes=3)] == [4, 2]  # votes are numbered
    assert asked(concurrency=1, name="other", requests_per_minute=9000.0) == 0


def test_a_digest_changes_with_the_words_alone():
    polite = Objective("polite", "Judge manners.")
    assert polite.digest == Objective("kind", "Judge manners.").digest
    assert polite.digest != Objective("polite", "Judge manners!").digest
    assert len(polite.digest) == 32


def test_a_question_ends_with_what_is_asked_and_takes_any_text():
    text = Objective("polite", "Judge manners.").question("Hi {first}", "{x}", "</reply_b> B")
    assert text.endswith(
        "<reply_a>\n{x}\n</reply_a>\n\n<reply_b>\n</reply_b> B\n</reply_b>\n\nJudge manners.\n"
        "Which reply is better in this respect? Answer with one letter, A or B, and nothing else."
    )
    assert "<conversation>\nHi {first}\n</conversation>" in text
    assert "<conversation>" not in Objective("polite", "Judge manners.").question(None, "a", "b")


POLITE = {"polite": "Judge manners."}


@pytest.mark.parametrize(
    ("file", "text", "found"),
    [
        (None, "", BUILT_IN),
        ("o.yaml", "- name: polite\n  instruction: |\n    Judge manners.\n", POLITE),
        ("o.json", '[{"name": "polite", "instruction": "Judge manners."}]', POLITE | BUILT_IN),
        ("o.yaml", "[{name: helpful, instruction: Judge help.}]", {"helpful": "Judge help."}),
    ],
)
def test_objectives_are_built_in_or_come_from_a_file(here, file, text, found):
    if file is not None:
        (here / file).write_text(text)
    objectives = find_objectives(list(found), file)
    assert objectives == [Objective(*item) for item in found.items()]
    assert len({one.digest for one in objectives}) == len(found)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "not valid YAML"),
        ("name: polite", "a list of objectives is needed"),
        ("[]", "a list of objectives is needed"),
        ("[polite]", r"field '\[0\]': an objective needs"),
        ("[{name: polite}]", r"field '\[0\]'"),
        ("[{name: polite, instruction: x, more: y}]", "and nothing else"),
        ("[{name: polite, instruction: ' '}]", r"field '\[0\].instruction': text is needed"),
        ("[{name: a/b, instruction: x}]", "white space or a slash"),
        ("[{name: a, instruction: x}, {name: a, instruction: y}]", r"'\[1\].name'.* twice"),
    ],
)
def test_a_file_with_something_else_is_refused(here, text, said):
    (here / "o.yaml").write_text(text)
    with pytest.raises(DataError, match=said):
        find_objectives(["polite"], "o.yaml")


@pytest.mark.parametrize(
    ("names", "file", "error", "said"),
    [
        (["kind"], None, ConfigError, r"'kind' is not known \(known: helpful, harmless, over"),
        (["helpful", "helpful"], None, ConfigError, "twice"),
        ([], None, ConfigError, "--objectives is empty"),
        (["kind"], "none.yaml", MissingFileError, "none.yaml"),
    ],
)
def test_names_have_to_be_known_and_different(names, file, error, said):
    with pytest.raises(error, match=said):
        find_objectives(names, file)
