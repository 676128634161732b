"""The page of a check of a data set's votes."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, Final

from hidden_context.data.storage.files import atomic_write
from hidden_context.report.html import shared
from hidden_context.report.html.people import (
    MOST_PEOPLE,
    SHOWN_PEOPLE,
    SPLIT_MEANS,
    picture_of,
    scale_of,
    stack,
)
from hidden_context.report.html.words import CLEAR

Found = dict[str, Any]

SCRIPTS: Final = ("theme.js",)
STYLES: Final = ("colours.css", "base.css", "numbers.css", "people.css", "items.css")
_UNITS: Final = {"pair": "pairs", "rating": "texts", "both": "pairs and texts"}


def write_people_page(found: Found, path: Path) -> None:
    """Write the page of a check.

    Args:
        found: ``check.json``.
        path: The HTML file to write.

    Raises:
        StorageError: If it cannot be written.
    """
    page = render_people_page(found)
    with atomic_write(path) as file:
        file.write(page)


def render_people_page(found: Found) -> str:
    """Render the page of a check.

    Args:
        found: ``check.json``.

    Returns:
        HTML that is complete: it loads nothing, and nothing in it runs but the theme's button.
    """
    observed, predicted = found["observed"], found["predicted"]
    people = observed["people"][:MOST_PEOPLE]
    unit = _UNITS[found["settings"]["unit"]]
    picture = picture_of(
        unit,
        observed["kinds"],
        observed["judged"],
        observed["split"],
        predicted["topics"] if predicted else [],
        predicted["topics_hidden"] if predicted else 0,
        f"Diamonds: predicted by models that never saw these {unit}.",
    )
    split_words = found["settings"].get("split_means", SPLIT_MEANS)
    return shared.render_page(
        "people.html.j2",
        STYLES,
        shared.read_scripts(SCRIPTS),
        found=found,
        picture=dataclasses.replace(picture, split_words=split_words),
        people=people,
        people_scale=scale_of([each["deviation"] for each in people], is_share=True),
        shown_people=SHOWN_PEOPLE,
        covariates=_by_clearness(found["explained"]["covariates"]),
        votes_of=_votes_of,
        leaning_of=_leaning_of,
    )


def _votes_of(item: Found, sides: dict[str, str]) -> list[Any]:
    """Stack an item's votes."""
    total = item["first"] + item["equal"] + item["second"]
    return stack([(sides[name], item[name] / total, name) for name in ("first", "equal", "second")])


def _by_clearness(covariates: list[Found]) -> tuple[list[Found], list[Found]]:
    """Separate covariates that clearly go with the votes from the others."""
    clear = [each for each in covariates if each["p_adjusted"] < CLEAR]
    return clear, [each for each in covariates if each not in clear]


def _leaning_of(covariate: Found) -> Any:
    return scale_of([level["leaning"] for level in covariate["levels"]], is_share=True)
