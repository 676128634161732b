"""``hidden-context export``: a reward model as a folder that other libraries and servers load."""

from __future__ import annotations

from hidden_context.cli.arguments import command
from hidden_context.export.config import ExportConfig


@command(
    ExportConfig,
    "hidden-context export",
    "Write a reward model as an ordinary folder of Transformers or PEFT, checked "
    "against the checkpoint; see docs/guides/export.md.",
)
def main(config: ExportConfig) -> None:
    """Export, and print where the folder lies and how far it is from the checkpoint."""
    from hidden_context.export.workflow import export_model

    exported = export_model(config)
    print(f"{exported.folder}: {exported.agreement}")
    for note in exported.notes:
        print(f"  {note}")
