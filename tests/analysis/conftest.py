import pytest

from hidden_context.analysis import workflow
from hidden_context.analysis.config import AnalyzeConfig
from hidden_context.report.terminal.analysis import print_analysis
from support.score_rows import write


@pytest.fixture
def analyze(tmp_path):
    """Analyse rows, or ``files`` that are there."""

    def analyze(rows=None, name="scores.jsonl", **options):
        if rows is not None:
            options["files"] = [write(tmp_path / name, rows)]
        return workflow.run(AnalyzeConfig(**{"resamples": 199, **options}))

    return analyze


@pytest.fixture
def printed(capsys):
    """What the terminal shows, in lines with single spaces."""

    def printed(analysis):
        print_analysis(analysis)
        return "\n".join(" ".join(line.split()) for line in capsys.readouterr().out.splitlines())

    return printed
