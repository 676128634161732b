import pytest

from hidden_context.errors import ConfigError, DataError, MissingFileError
from hidden_context.relabel.objectives import BUILT_IN, Objective, find_objectives


def test_the_built_in_objectives_need_no_file():
    found = find_objectives(["harmless", "helpful", "overall"])
    assert [(one.name, one.instruction) for one in found] == [
        (name, BUILT_IN[name]) for name in ("harmless", "helpful", "overall")
    ]
    assert len({one.digest for one in found}) == 3


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


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("o.yaml", "- name: polite\n  instruction: |\n    Judge manners.\n"),
        ("o.json", '[{"name": "polite", "instruction": "Judge manners."}]'),
    ],
)
def test_others_come_from_a_file(here, name, text):
    (here / name).write_text(text)
    assert find_objectives(["polite", "helpful"], name) == [
        Objective("polite", "Judge manners."),
        Objective("helpful", BUILT_IN["helpful"]),
    ]


def test_a_file_may_give_a_built_in_name_other_words(here):
    (here / "o.yaml").write_text("[{name: helpful, instruction: Judge help.}]")
    assert find_objectives(["helpful"], "o.yaml")[0].instruction == "Judge help."


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "not valid YAML"),
        ("name: polite", "a list of objectives is needed"),
        ("[]", "a list of objectives is needed"),
        ("[polite]", r"field '\[0\]': an objective is needed"),
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


def test_names_have_to_be_known_and_different(here):
    with pytest.raises(ConfigError, match=r"'kind' is not known \(known: helpful, harmless, over"):
        find_objectives(["kind"])
    with pytest.raises(ConfigError, match="twice"):
        find_objectives(["helpful", "helpful"])
    with pytest.raises(ConfigError, match="--objectives is empty"):
        find_objectives([])
    with pytest.raises(MissingFileError):
        find_objectives(["kind"], "none.yaml")
