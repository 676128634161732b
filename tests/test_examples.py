"""Notebooks run to the results they were saved with, and the examples in docstrings hold."""

import doctest
import importlib
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "examples").glob("*.ipynb"))
FLAGS = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
DOCUMENTED = [
    ".".join(path.relative_to(ROOT / "src").with_suffix("").parts).removesuffix(".__init__")
    for path in sorted(ROOT.glob("src/**/*.py"))
    if " >>> " in path.read_text(encoding="utf-8")
]


def test_there_is_one_for_each_of_the_first_tasks():
    assert [path.stem for path in NOTEBOOKS] == ["cautious_grpo", "own_head", "who_disagrees"]


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs(path, tmp_path):
    notebook = nbformat.read(path, as_version=4)
    saved = [bool(cell.outputs) for cell in notebook.cells if cell.cell_type == "code"]
    NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(tmp_path)}}).execute()
    again = [
        any(output.output_type != "stream" or output.name == "stdout" for output in cell.outputs)
        for cell in notebook.cells
        if cell.cell_type == "code"
    ]
    assert again == saved


@pytest.mark.parametrize("name", DOCUMENTED)
def test_the_examples_in_docstrings_hold(name):
    failed, tried = doctest.testmod(importlib.import_module(name), optionflags=FLAGS)
    assert not failed
    assert tried
