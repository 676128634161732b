import pytest

from hidden_context.cli.arguments import parse
from hidden_context.errors import ConfigError, StorageError
from hidden_context.relabel import RelabelConfig, run
from relabel.fake_endpoint import numbered_rows, says

BASE = {"data_path": "x", "output": "o.jsonl", "model": "m", "objectives": ["helpful"]}


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
def test_nothing_is_written_over_the_input(serve, relabel, here, options, error, said):
    (here / "folder").mkdir()
    endpoint = serve(lambda asked: says("A"))
    with pytest.raises(error, match=said):
        relabel(numbered_rows(1), endpoint, **options)
    assert endpoint.asked == []


def test_what_changes_an_answer_is_asked_anew(serve, relabel):
    endpoint = serve(lambda asked: says("A"))

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
