"""The input of a model: a conversation, where its response begins, and the tools."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from hidden_context.data.checks import Place, describe
from hidden_context.data.dialogue import Conversation
from hidden_context.data.storage.rows import drop_nulls
from hidden_context.data.storage.unique_names import loads

Tools: TypeAlias = list[dict[str, Any]]

_TOOLS_REMEDY = (
    "'tools' is a list of JSON schemas of functions, or the same as JSON text; rename the column "
    "if it holds something else"
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
    """Return a text as a model's input."""
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
        raise place.error(f"the text is no JSON ({error})", "tools", _TOOLS_REMEDY) from error
