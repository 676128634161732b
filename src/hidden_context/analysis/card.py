"""Writing an analysis into the model card of a checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from hidden_context.analysis.analysis_file import Group, ScoresAnalysis
from hidden_context.analysis.read.heads import head_file_beside
from hidden_context.data.storage.files import atomic_write
from hidden_context.data.storage.locks import exclusive
from hidden_context.errors import ConfigError
from hidden_context.terminal import estimate, share

CARD: Final = "README.md"
_BEGIN: Final = "<!-- analysis: begin -->"
_END: Final = "<!-- analysis: end -->"
_METRICS: Final = {
    "accuracy": "accuracy",
    "loss": "loss (nats)",
    "brier": "Brier score",
    "r2": "r²",
    "r2_within": "r² within prompts",
}


def check_card(file: str) -> Path:
    """Return the card of the checkpoint around a score file.

    Raises:
        ConfigError: If the file does not lie in a checkpoint's folder.
    """
    card = Path(file).parent / CARD
    if not (card.is_file() and head_file_beside(file).is_file()):
        raise ConfigError(
            f"--card needs a file in a checkpoint's folder with a {CARD}, where evaluate "
            f"writes its files; {file} is elsewhere."
        )
    return card


def write_card(analysis: ScoresAnalysis) -> Path:
    """Write the analysis of pairs into the model card, replacing an earlier analysis.

    Args:
        analysis: The analysis of a file in the checkpoint's folder.

    Returns:
        The card.

    Raises:
        ConfigError: If the file does not lie in a checkpoint's folder.
        StorageError: If the card cannot be written.
    """
    card, section = check_card(analysis.file), card_section(analysis)
    with exclusive(card):
        text = card.read_text(encoding="utf-8")
        begin, end = text.find(_BEGIN), text.find(_END)
        if 0 <= begin < end:
            text = text[:begin] + section + text[end + len(_END) :]
        else:
            before, use, after = text.partition("## Use\n")
            text = f"{before}{section}\n\n{use}{after}"
        with atomic_write(card) as file:
            file.write(text)
    return card


def card_section(analysis: ScoresAnalysis) -> str:
    """Format the numbers in Markdown, between two marks."""
    level = analysis.groups[0].intervals["accuracy"].level
    lines = [
        _BEGIN,
        f"## Analysis of {Path(analysis.file).name}",
        "",
        f"{analysis.groups[0].record.n} pairs of {analysis.clusters} prompts; {100 * level:g} % "
        "intervals by prompt, without the uncertainty of training.",
        "",
        "| pairs | n | " + " | ".join(_METRICS.values()) + " |",
        "|---" * (len(_METRICS) + 2) + "|",
        *(_row(group) for group in analysis.groups),
        "",
    ]
    if analysis.calibration is not None:
        lines += [f"- Expected calibration error: {estimate(analysis.calibration['ece'])}"]
    lines += [f"- {test.question} p = {test.p_value:.2g}. {test.limit}" for test in analysis.tests]
    return "\n".join([*lines, _END])


def _row(group: Group) -> str:
    name = ", ".join(f"{column} {value}" for column, value in group.labels.items()) or "all"
    cells = [
        (share if metric == "accuracy" else estimate)(group.intervals.get(metric))
        for metric in _METRICS
    ]
    # a label may contain the character that ends a Markdown column
    return " | ".join([f"| {name.replace('|', chr(92) + '|')}", str(group.record.n), *cells]) + " |"
