"""The tables of the real language model's study, in Markdown, all from its JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from kit import markdown
from policy.real.measures import SIZES
from policy.real.summary import chosen_names, title_of

from hidden_context.data.storage.files import atomic_write, write_json

_SETS: Final = ("helpful", "harmless", "jailbreak")


def write_tables(found: Mapping[str, Any], path: Path) -> None:
    """Write all tables, and their numbers as JSON beside them."""
    sets = [name for name in _SETS if name in found["sizes"]["prompts"]]
    parts = [sizes_line(found["sizes"]), accuracy_table(found["accuracy"])]
    parts += [rewards_table(found, name) for name in ("all", *sets)]
    parts.append(sigma_table(found["sigma"]))
    with atomic_write(path) as file:
        file.write("\n".join(parts))
    write_json(path.with_suffix(".json"), found)


def sizes_line(sizes: Mapping[str, Any]) -> str:
    """How much there is."""
    pairs = ", ".join(f"{name.replace('_', ' ')} {count}" for name, count in sizes["pairs"].items())
    prompts = ", ".join(f"{name} {count}" for name, count in sizes["prompts"].items())
    return (
        f"Pairs: {pairs}. Prompts: {prompts}; {sizes['responses']} responses each, "
        f"{sizes['tokens']:.0f} tokens, {100 * sizes['cut off']:.0f} % of them cut off.\n"
    )


def accuracy_table(found: Mapping[str, Any]) -> str:
    """Held-out accuracy of every model."""
    rows = [
        [name, *(percent(each[group]) for group in ("helpful", "harmless", "both"))]
        for name, each in found.items()
    ]
    return markdown(["model", "helpful", "harmless", "both"], rows, "Accuracy on held-out pairs")


def rewards_table(found: Mapping[str, Any], group: str) -> str:
    """Best of 16: the judges' view of each reward's choice."""
    n = str(SIZES[-1])
    rows = []
    for name in chosen_names():
        each = {measure: by_n[n] for measure, by_n in found["rewards"][name][group].items()}
        worse = each["worse"]
        rows.append(
            [
                title_of(name),
                *(number(each[judge]["mean"]) for judge in ("helpful", "harmless")),
                *(number(worse[key]) for key in ("mean", "base", "dpl")),
                f"{each['tokens']['mean'][0]:.1f}",
                f"{100 * each['refusals']['mean'][0]:.1f} %",
            ]
        )
    heads = ["reward", "helpful judge", "harmless judge", "worse of the two", "− base"]
    return markdown([*heads, "− DPL mean", "tokens", "refusals"], rows, f"Best of {n}, {group}")


def sigma_table(found: Mapping[str, Any]) -> str:
    """What σ goes with."""
    rows = [
        [
            group,
            number(each["mean"]),
            f"{each['spread']:.3f}",
            number(each["disagreement"]),
            *(
                number(each[name])
                for name in (
                    "sigma and split",
                    "disagreement and split",
                    "sigma and length",
                    "judges with each other",
                )
            ),
        ]
        for group, each in found.items()
    ]
    heads = ["prompts", "mean σ", "its spread within a prompt", "disagreement"]
    heads += ["r(σ, split)", "r(disagreement, split)", "r(σ, length)", "r(judges)"]
    return markdown(heads, rows, "What σ finds")


def number(value: Sequence[float | None]) -> str:
    """Write a number with its interval; a dash where there is none."""
    mean, low, high = (
        None if v is None or v != v else f"{v:+.2f}".replace("-", "−") for v in value
    )
    if mean is None:
        return "–"
    return mean if low is None else f"{mean} [{low}, {high}]"


def percent(value: Sequence[float]) -> str:
    """Write a share with its interval, in per cent."""
    mean, low, high = (f"{100 * each:.1f}" for each in value)
    return f"{mean} [{low}, {high}]"
