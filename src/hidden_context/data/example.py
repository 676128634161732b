"""The schema of preference data: a prompt, its responses and their judgements, and model inputs."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from hidden_context.data.checks import Place, describe
from hidden_context.data.dialogue import Conversation, canonical_prompt, is_blank
from hidden_context.data.storage.files import loads
from hidden_context.data.storage.rows import drop_nulls

Tools: TypeAlias = list[dict[str, Any]]

_TOOLS_REMEDY = (
    "'tools' is a list of JSON schemas of functions, or the same as JSON text; rename the column "
    "if it holds something else"
)


@dataclass(frozen=True, slots=True)
class Comparison:
    """A comparison of two responses.

    Attributes:
        first: Index of one response of the example.
        second: Index of the other response.
        preference: Share of votes for the first response, from 0 to 1; 0.5 is a tie.
        strength: By how many levels the first is better, negative for the second; None if not said.
        margin: By how much the first is better, in units of the data set; None if not said.
    """

    first: int
    second: int
    preference: float = 1.0
    strength: int | None = None
    margin: float | None = None


@dataclass(frozen=True, slots=True)
class Ranking:
    """A ranking of responses.

    Attributes:
        ranks: Rank of each response of the example: 1 the best, equal ranks tied, None not ranked.
    """

    ranks: tuple[int | None, ...]


@dataclass(frozen=True, slots=True)
class Rating:
    """A rating of a single response.

    Attributes:
        response: Index of the response in the example.
        value: The rating, in units of the data set.
    """

    response: int
    value: float


@dataclass(frozen=True, slots=True)
class Abstention:
    """An annotator's decision not to judge ("unsure", "both bad"): counted, but never a vote."""


Answer: TypeAlias = "Comparison | Ranking | Rating | Abstention"


@dataclass(frozen=True, slots=True)
class Judgement:
    """One annotator's judgement of some or all responses of an example.

    Attributes:
        answer: The comparison, ranking, rating or abstention.
        annotator: The annotator's name or number; None if not known.
        weight: Weight of the judgement; 1 if not given.
        confidence: How sure the annotator was, in units of the data set; None where not said.
        columns: The columns of the judgement's row or list entry, which may name the annotator in
            another column.
    """

    answer: Answer
    annotator: str | int | None = None
    weight: float = 1.0
    confidence: float | None = None
    columns: Mapping[str, Any] = dataclasses.field(default_factory=dict, compare=False, repr=False)

    @property
    def abstains(self) -> bool:
        """Whether this judgement is an abstention, which is not a vote."""
        return isinstance(self.answer, Abstention)

    @property
    def places(self) -> frozenset[int]:
        """Indices of the judged responses; empty for an abstention, which names no response."""
        answer = self.answer
        if isinstance(answer, Comparison):
            return frozenset((answer.first, answer.second))
        if isinstance(answer, Ranking):
            return frozenset(n for n, rank in enumerate(answer.ranks) if rank is not None)
        return frozenset([answer.response] if isinstance(answer, Rating) else [])

    def at(self, places: Mapping[int, int], count: int) -> Judgement | None:
        """Return this judgement of ``count`` renumbered responses; None if too few are left."""
        moved = answer = self.answer
        if isinstance(answer, Ranking):
            ranks: list[int | None] = [None] * count
            for old, new in places.items():
                ranks[new] = answer.ranks[old] if old < len(answer.ranks) else None
            if sum(rank is not None for rank in ranks) < 2:
                return None
            moved = Ranking(tuple(ranks))
        elif not self.places <= places.keys():
            return None
        elif isinstance(answer, Comparison):
            first, second = places[answer.first], places[answer.second]
            moved = dataclasses.replace(answer, first=first, second=second)
        elif isinstance(answer, Rating):
            moved = dataclasses.replace(answer, response=places[answer.response])
        return dataclasses.replace(self, answer=moved)


@dataclass(frozen=True, slots=True)
class Example:
    """A prompt, its responses, and the judgements of annotators.

    A pair has two responses, and the first is the one that its row calls ``chosen``. A ranking has
    n responses, and a rated text has one.

    Attributes:
        prompt: What comes before every response, as text or chat messages; may be empty.
        responses: What follows the prompt, of the same kind; one or more.
        judgements: What annotators said.
        columns: The row as it was read.
        tools: The tools that the chat template is told of; None for none.
        source_file: The file or data set it was read from; None where it was made by hand.
        source_lines: The lines of the file, or rows of the table, it was read from, from 1; empty
            where it was made by hand. Comparing two examples ignores the file and the lines.
    """

    prompt: Conversation
    responses: tuple[Conversation, ...]
    judgements: tuple[Judgement, ...] = ()
    columns: dict[str, Any] = dataclasses.field(default_factory=dict)
    tools: Tools | None = None
    source_file: str | None = dataclasses.field(default=None, compare=False)
    source_lines: tuple[int, ...] = dataclasses.field(default=(), compare=False)

    def text(self, place: int) -> Conversation:
        """The whole conversation that ends in a response: the prompt, then the response."""
        response = self.responses[place]
        if isinstance(self.prompt, str) and isinstance(response, str):
            return self.prompt + response
        return [*self.prompt, *response]

    @property
    def texts(self) -> tuple[Conversation, ...]:
        """The whole conversations, one for each response."""
        return tuple(self.text(place) for place in range(len(self.responses)))

    @property
    def known_prompt(self) -> Conversation | None:
        """The prompt; None if blank or guessed from the shared start of two plain texts."""
        prompt, columns = self.prompt, self.columns
        if is_blank(prompt):
            return None
        guessed = is_blank(columns.get("prompt") or "") and columns.get("chosen") is not None
        plain = isinstance(prompt, str) and not prompt.rstrip().endswith("Assistant:")
        return None if guessed and plain else prompt

    @property
    def inputs(self) -> tuple[Text, ...]:
        """The input of a model for each response."""
        prompt = self.known_prompt
        return tuple(with_context(text, prompt, self.tools) for text in self.texts)

    @property
    def data_subset(self) -> str | None:
        """The data subset of the example, such as ``helpful``; None if not known."""
        return self.columns.get("data_subset") or None

    @property
    def objective(self) -> str | None:
        """The criterion of the judgement, where the data name it."""
        value = self.columns.get("objective")
        return None if value in (None, "") else str(value)

    @property
    def identical(self) -> bool:
        """Whether there are several responses and all are the same."""
        return len(self.responses) > 1 and all(r == self.responses[0] for r in self.responses[1:])

    @property
    def abstentions(self) -> int:
        """Number of abstentions among the judgements."""
        return sum(judgement.abstains for judgement in self.judgements)

    @property
    def repeated(self) -> int:
        """Number of judgements by an annotator who had already judged the same responses."""
        seen = Counter(
            (str(judgement.annotator), judgement.places or frozenset(range(len(self.responses))))
            for judgement in self.judgements
            if judgement.annotator is not None
        )
        return sum(seen.values()) - len(seen)

    @property
    def prompt_key(self) -> str:
        """The prompt in a standard form that does not depend on its format.

        If there is no prompt, the key is the sorted texts of the responses.
        """
        key = canonical_prompt(self.prompt)
        return key or "\0".join(sorted(canonical_prompt(text) for text in self.texts))

    def place(self, file: str | Path | None = None, line: int | None = None) -> Place:
        """Return the file and line of the example, for errors; the arguments are the fallback."""
        lines = self.source_lines
        return Place(self.source_file or file, lines[0] if lines else line)

    def select(self, places: Sequence[int]) -> Example:
        """Keep some responses, in the order given, with their judgements.

        Args:
            places: Places of the responses to keep.

        Returns:
            The example; judgements that need another response are left out.
        """
        moved = {old: new for new, old in enumerate(places)}
        kept = (judgement.at(moved, len(places)) for judgement in self.judgements)
        return dataclasses.replace(
            self,
            responses=tuple(self.responses[place] for place in places),
            judgements=tuple(judgement for judgement in kept if judgement is not None),
        )


@dataclass(frozen=True, slots=True)
class ModelInput:
    """A conversation, with its prompt and tools where they are known.

    Attributes:
        conversation: A whole text or chat, which ends in the response that is judged.
        prompt: What it begins with, where that is known; the response is all that follows.
        tools: The tools that the chat template is told of; None for none.
    """

    conversation: Conversation
    prompt: Conversation | None = None
    tools: Tools | None = None


Text: TypeAlias = "Conversation | ModelInput"
"""What models read: a text, chat messages, or either with a known prompt or tools."""


def with_context(
    conversation: Conversation, prompt: Conversation | None, tools: Tools | None
) -> Text:
    """Add a known prompt or tools to a conversation; return it unchanged without either."""
    if prompt is None and tools is None:
        return conversation
    return ModelInput(conversation, prompt, tools)


def as_input(text: Text) -> ModelInput:
    """Return a text or conversation as a model input."""
    return text if isinstance(text, ModelInput) else ModelInput(text)


def read_tools(row: Mapping[str, Any], conversation: Conversation, place: Place) -> Tools | None:
    """Read the column ``tools``: a list of JSON schemas, or the list as JSON text.

    Args:
        row: The columns.
        conversation: What the row holds; a text goes through no chat template and has no tools.
        place: Where the row stands, for the error.

    Returns:
        The schemas without null keys, or None where there are none.

    Raises:
        DataError: If the column of a chat holds something else, naming file, line and field.
    """
    value = row.get("tools")
    if value in (None, "") or isinstance(conversation, str):
        return None
    tools = _parsed(value, place)
    if tools is None:  # the JSON null
        return None
    if not isinstance(tools, (list, tuple)):
        raise place.error(f"a list is needed, not {describe(tools)}", "tools", _TOOLS_REMEDY)
    tools = [_parsed(tool, place) for tool in tools]
    for number, tool in enumerate(tools):
        if not isinstance(tool, Mapping):
            problem = f"a JSON schema is needed, not {describe(tool)}"
            raise place.error(problem, f"tools[{number}]", _TOOLS_REMEDY)
    return [drop_nulls(tool) for tool in tools]


def _parsed(value: Any, place: Place) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return loads(value)
    except ValueError as error:
        raise place.error(f"the text is not JSON ({error})", "tools", _TOOLS_REMEDY) from error
