"""Options for choosing votes; every field is also a flag of ``hidden-context next``."""

from __future__ import annotations

import dataclasses
from typing import Literal

from hidden_context.config import POSITIVE, check_options, option
from hidden_context.errors import ConfigError


@dataclasses.dataclass(frozen=True)
class NextConfig:
    """Options of ``acquisition.run``. Fields are described by their help texts."""

    data_path: str = option(
        dataclasses.MISSING,
        "file, folder or hub id of judged data: pairs, rankings or ratings, with who said what",
        positional=True,
    )
    budget: float = option(
        dataclasses.MISSING,
        "votes to ask for, or money where votes have a cost",
        least=0,
        must=POSITIVE,
    )
    pool: str | None = option(None, "file of items without votes that may be asked about as well")
    output: str = option("next.jsonl", "file of the questions, the most informative first")
    format: Literal["jsonl", "label_studio"] = option(
        "jsonl", "one question a line, or a list of Label Studio tasks"
    )
    aim: Literal["shares", "lean", "contested"] = option(
        "shares",
        "what to learn about an item: the shares of first, equal and second; lean, first plus half "
        "of equal; or whether lean lies between .35 and .65",
    )
    target: Literal["everybody", "planned"] = option(
        "everybody",
        "shares among everybody who could be asked, or among the --max_votes votes that are "
        "planned for an item",
    )
    max_votes: int | None = option(None, "most votes of an item, old and new", least=1)
    diversity: float = option(
        1.0,
        "largest share of the budget for one group",
        must=(lambda share: 0 < share <= 1, "lie in (0, 1]"),
    )
    ask: Literal["anyone", "known", "listed"] | None = option(
        None,
        "who is asked: anyone (no names), known annotators who have voted, or annotators listed in "
        "the table; listed with --annotators, else anyone",
    )
    annotators: str | None = option(None, "table of annotators who can be asked, a row for each")
    max_questions: int | None = option(None, "most questions to one annotator", least=1)
    cost: float | None = option(
        None, "cost of a vote; the budget is then money", least=0, must=POSITIVE
    )
    cost_column: str | None = option(
        None, "column of the table of annotators that holds the cost of a vote by each"
    )
    data_subset: str = option("both", "both, or a subset's name")
    split: str = option("train", "split to read; of no effect for a single file")
    split_by: str | None = option(
        None, "column of an item's group, such as a topic; the first user turn if unset"
    )
    on_malformed: Literal["error", "skip"] = option(
        "error", "what to do at a malformed row: stop, or skip it and count"
    )
    embed: str | None = option(
        None, "embedding model, a hub id or folder; words and length if unset"
    )
    max_length: int = option(512, "longest text of the embedding model, in tokens", least=1)
    shuffle_sides: bool = option(True, "show the two responses of a pair in random order")
    seed: int = option(0, "seed of the order of the sides, and of features")
    quiet: bool = option(False, "no progress lines on the terminal")

    def __post_init__(self) -> None:
        check_options(self)
        if self.target == "planned" and self.max_votes is None:
            raise ConfigError("--target planned needs --max_votes, the votes planned for an item.")
        if self.target == "planned" and self.aim == "contested":
            raise ConfigError("--aim contested is about everybody; leave --target as it is.")
        if self.whom == "listed" and self.annotators is None:
            raise ConfigError("--ask listed needs --annotators, the table of who can be asked.")
        if self.cost_column is not None and self.annotators is None:
            raise ConfigError("--cost_column is a column of --annotators, which is not given.")
        if self.cost_column is not None and self.cost is not None:
            raise ConfigError("--cost and --cost_column both say what a vote costs; give one.")
        if self.whom == "anyone":
            for name in ("cost_column", "max_questions"):
                if getattr(self, name) is not None:
                    raise ConfigError(f"--{name} needs names: give --ask known or listed.")
        if self.cost is None and self.cost_column is None and self.budget != int(self.budget):
            raise ConfigError(f"--budget is {self.budget}; without a cost it is a whole number.")

    @property
    def whom(self) -> Literal["anyone", "known", "listed"]:
        """Who is asked: the option, or the annotators of the table if there is one."""
        return self.ask or ("anyone" if self.annotators is None else "listed")
