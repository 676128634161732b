"""``hidden-context export``: a reward model as a folder that other libraries and servers load."""

from __future__ import annotations

from collections.abc import Sequence

from hidden_context.cli.arguments import parse
from hidden_context.cli.offline import use_cache_without_network
from hidden_context.export.config import ExportConfig


def main(argv: Sequence[str] | None = None) -> int:
    """Export, and print where the folder lies and how far it is from the checkpoint.

    Args:
        argv: The arguments after the verb, or None for those of the process.

    Returns:
        0.
    """
    config = parse(
        ExportConfig,
        argv,
        prog="hidden-context export",
        description="Write a reward model as an ordinary folder of Transformers or PEFT, checked "
        "against the checkpoint; see docs/guides/export.md.",
    )
    use_cache_without_network()
    from hidden_context.export.workflow import export_model

    exported = export_model(config)
    print(f"{exported.folder}: {exported.agreement}")
    for note in exported.notes:
        print(f"  {note}")
    return 0
