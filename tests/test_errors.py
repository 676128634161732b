from pathlib import Path

import pytest

from hidden_context import errors


@pytest.mark.parametrize(
    ("kind", "standard"),
    [
        (errors.ConfigError, ValueError),
        (errors.DataError, ValueError),
        (errors.CheckpointError, ValueError),
        (errors.MissingFileError, FileNotFoundError),
        (errors.MissingDependencyError, ImportError),
        (errors.StorageError, OSError),
        (errors.DivergedError, ArithmeticError),
    ],
)
def test_every_error_is_ours_and_a_standard_one(kind, standard):
    error = kind("what is wrong")
    assert isinstance(error, errors.HiddenContextError)
    assert isinstance(error, standard)
    assert str(error).startswith("what is wrong")


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ({}, "no text."),
        ({"file": "a.jsonl"}, "a.jsonl: no text."),
        ({"file": Path("a.jsonl"), "line": 3}, "a.jsonl, line 3: no text."),
        ({"file": "a", "line": 3, "field": "chosen"}, "a, line 3, field 'chosen': no text."),
        ({"line": 0, "field": "x"}, "line 0, field 'x': no text."),
        ({"remedy": "Add some"}, "no text. Add some."),
        ({"file": "a", "remedy": "Add some"}, "a: no text. Add some."),
    ],
)
def test_data_errors_name_the_place_and_the_remedy(place, message):
    error = errors.DataError("no text", **place)
    assert str(error) == message
    assert error.problem == "no text"
    assert (error.file, error.line, error.field, error.remedy) == tuple(
        place.get(name) for name in ("file", "line", "field", "remedy")
    )


def test_missing_files_name_the_path_and_the_remedy():
    assert str(errors.MissingFileError("a.jsonl")) == "a.jsonl does not exist."
    error = errors.MissingFileError(Path("a"), "Make it")
    assert str(error) == "a does not exist. Make it."
    assert error.path == Path("a")


def test_storage_errors_read_as_they_were_written():
    assert str(errors.StorageError("a could not be written")) == "a could not be written"


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("one\ntwo"), "one"),
        (ValueError("  \n one \n two"), "one"),
        (ValueError(), "ValueError"),
        (KeyError("name"), "'name'"),
    ],
)
def test_the_first_line_of_another_library_s_error(error, line):
    assert errors.first_line(error) == line
