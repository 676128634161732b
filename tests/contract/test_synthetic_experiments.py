"""The paper's command for the synthetic experiments, with tiny numbers."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from hidden_context import synthetic_experiments
from hidden_context.cli.main import main as hidden_context

TINY = ["--batch_size", "8", "--lr", "0.001", "--num_iterations", "2"]


def test_the_paper_s_command_line_writes_the_named_files(tmp_path: Path) -> None:
    line = [sys.executable, "-m", "hidden_context.synthetic_experiments", "--env", "1d", *TINY]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        line, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "results" / "1d" / "8_0.001_2"
    assert (folder / "1d.png").stat().st_size > 10_000
    assert (folder / "1d.pgf").stat().st_size > 10_000
    assert yaml.safe_load((folder / "config.yaml").read_text())["likelihood"] == "logistic"
    assert "Borda" in done.stdout
    assert "results/1d/8_0.001_2" in done.stdout


def test_the_2d_environment_writes_its_own_figure(tmp_path: Path) -> None:
    arguments = ["--env=2d", *TINY, "--width=64", f"--out_dir={tmp_path}"]
    assert synthetic_experiments.main(arguments) == 0
    assert (tmp_path / "2d" / "8_0.001_2" / "2d.png").stat().st_size > 10_000
    assert (tmp_path / "2d" / "8_0.001_2" / "2d.pgf").stat().st_size > 10_000


def test_the_verb_uses_the_exact_likelihood(tmp_path: Path) -> None:
    arguments = ["synthetic", *TINY, "--out_dir", str(tmp_path), "--width=8", "--figure_formats"]
    assert hidden_context(arguments) == 0
    folder = tmp_path / "1d" / "8_0.001_2"
    assert yaml.safe_load((folder / "config.yaml").read_text())["likelihood"] == "probit"


@pytest.mark.parametrize("named", ["--batch_size=0", "--lr=-0.001", "--num_iterations=0"])
def test_values_that_cannot_work_exit_2_with_one_paragraph(
    named: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert synthetic_experiments.main([named, "--out_dir", str(tmp_path)]) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith(f"error: {named.partition('=')[0]} is ")
    assert captured.err.count("\n") == 1
    assert captured.out == ""
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_environment_exits_2_and_names_the_known_ones(capsys) -> None:
    with pytest.raises(SystemExit, match="2"):
        synthetic_experiments.main(["--env", "3d"])
    assert re.search("--env.*1d.*2d", capsys.readouterr().err, re.DOTALL)


def test_help_does_not_import_torch() -> None:
    code = (
        "import sys\n"
        "from hidden_context.synthetic_experiments import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit:\n    pass\n"
        "sys.exit(any(name in sys.modules for name in ('torch', 'matplotlib', 'rich', 'numpy')))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0
