"""``hidden-context reference``: percentiles of the texts of a model's data, for guards."""

from __future__ import annotations

from hidden_context.cli.arguments import command
from hidden_context.scoring.config import ReferenceConfig


@command(
    ReferenceConfig,
    "hidden-context reference",
    "Add percentiles of the texts of a model's data to its folder, so that trainers "
    "can be guarded; see docs/guides/guard.md.",
)
def main(config: ReferenceConfig) -> None:
    """Parse, make the reference, print where it lies and its texts."""
    from hidden_context.scoring.reference import make_reference

    path, found = make_reference(config)
    facts = found.facts
    shrinkage = ", ".join(f"{weight:.3f}" for weight in facts["shrinkage"])
    print(f"{path}: {facts['texts']} texts of {facts['prompts']} prompts (seed {facts['seed']})")
    if facts["without_reward"]:
        print(f"  texts without a reward, left out: {facts['without_reward']}")
    print(
        f"  {len(found.distance)} of them say what distances are usual; correlations of the others "
        f"shrunk by {shrinkage}"
    )
