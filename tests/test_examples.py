"""The notebooks run from top to bottom, and each of them was saved with its results."""

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOKS = sorted((Path(__file__).parents[1] / "examples").glob("*.ipynb"))


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
