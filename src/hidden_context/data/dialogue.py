"""Conversations as text or as chat messages: joining, splitting into turns, shared beginnings.

Two spellings are read throughout. A *text* may be a dialogue in the way of HH-RLHF, whose turns
begin with ``Human:`` and ``Assistant:`` after a blank line; a list of *chat messages* holds
dictionaries with ``role`` and ``content``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, TypeAlias

Message: TypeAlias = dict[str, Any]
Conversation: TypeAlias = "str | list[Message]"

ASSISTANT_TURN = "\n\nAssistant:"

_TURN = re.compile(r"(?:\A\s*|\n\n)(Human|Assistant):")
_ROLE_NAMES = {"user": "Human: ", "human": "Human: ", "assistant": "Assistant: "}


def join(prompt: Conversation, response: Conversation) -> Conversation:
    r"""Put a response behind its prompt.

    Two texts are concatenated as they are, except that a dialogue whose last turn is the human's
    gets the words ``Assistant:`` between, spelt as in HH-RLHF's training texts
    (``"\n\nAssistant: " + response``), and one that ends in a bare ``Assistant:`` a space.
    Messages and a text become messages with an assistant turn at the end; a text and messages
    become a user turn followed by those messages.

    Args:
        prompt: The conversation so far.
        response: What follows it.

    Returns:
        Text if both are text, else messages.
    """
    if isinstance(prompt, str) and isinstance(response, str):
        return join_texts(prompt, response)
    before = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else list(prompt)
    if isinstance(response, str):
        return [*before, {"role": "assistant", "content": response}]
    return [*before, *response]


def join_texts(prompt: str, response: str) -> str:
    """Put a response text behind a prompt text; see ``join``."""
    turns = list(_TURN.finditer(prompt))
    if not turns:
        return prompt + response
    last_turn = turns[-1]
    if last_turn.group(1) == "Human":
        stripped = response.lstrip()
        if stripped.startswith("Assistant:"):
            return prompt + "\n\n" + stripped
        return f"{prompt}{ASSISTANT_TURN} {response.lstrip(' ')}"
    bare = last_turn.end() == len(prompt)
    return f"{prompt} {response}" if bare and not response[:1].isspace() else prompt + response


def assistant_text(prompt: str, response: str) -> str:
    """Return the text that is scored for a response to a prompt.

    That is the prompt from its first ``"Human: "`` on, then the response (so a system text before
    the dialogue is left out, as the models were trained without). Prompts that do not end in
    ``"Assistant: "`` are joined as ``join`` says.

    Args:
        prompt: All that comes before the response.
        response: The response alone.

    Returns:
        One text in the form of the training texts.
    """
    return join_texts(prompt[max(prompt.find("Human: "), 0) :], response)


def last_turns(conversation: Conversation, prompt: Conversation | None = None) -> tuple[str, str]:
    """Split a conversation into its last human turn and the response to it.

    Args:
        conversation: A text or chat messages.
        prompt: For a text without ``Human:`` and ``Assistant:`` marks, what it begins with.

    Returns:
        The last human turn and the response, both stripped; the first is empty where the text has
        neither marks nor a known prompt, the second where nothing follows the human turn.
    """
    if not isinstance(conversation, str):
        return _last_turns_of_messages(conversation)
    marks = list(_TURN.finditer(conversation))
    if not marks:
        if isinstance(prompt, str) and prompt and conversation.startswith(prompt):
            return prompt.strip(), conversation[len(prompt) :].strip()
        return "", conversation.strip()
    ends = [mark.start() for mark in marks[1:]] + [len(conversation)]
    human, response = "", ""
    for mark, end in zip(marks, ends, strict=True):
        text = conversation[mark.end() : end].strip()
        if mark.group(1) == "Human":
            human, response = text, ""
        else:
            response = text
    return human, response


def _last_turns_of_messages(messages: Sequence[Message]) -> tuple[str, str]:
    human, response = "", ""
    for message in messages:
        if message["role"] in ("user", "human"):
            human, response = message["content"].strip(), ""
        elif message["role"] == "assistant":
            response = message["content"].strip()
    return human, response


def common_prefix_length(first: Sequence[Any], second: Sequence[Any]) -> int:
    """Count the characters, or token ids, that two sequences share at the start, by bisection."""
    low, high = 0, min(len(first), len(second))
    while low < high:
        middle = (low + high + 1) // 2
        if first[low:middle] == second[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def shared_prompt(chosen: Conversation, rejected: Conversation) -> Conversation:
    """Find the prompt that two full conversations have in common.

    For dialogues in text it ends with the last ``Assistant:`` both share; for other texts it is
    the common beginning, cut before the last white space in it; for messages it is all messages
    both share at the start, leaving each side at least one.

    Args:
        chosen: The preferred conversation, prompt included.
        rejected: The other one.

    Returns:
        The prompt, of the same kind as the two sides (empty if they share nothing).
    """
    if isinstance(chosen, str) and isinstance(rejected, str):
        prefix = chosen[: common_prefix_length(chosen, rejected)]
        turn = prefix.rfind(ASSISTANT_TURN)
        if turn >= 0:
            return prefix[: turn + len(ASSISTANT_TURN)]
        cut = max(prefix.rfind(" "), prefix.rfind("\n"), prefix.rfind("\t"), 0)
        return prefix[:cut].rstrip()
    count, limit = 0, max(min(len(chosen), len(rejected)) - 1, 0)
    while count < limit and chosen[count] == rejected[count]:
        count += 1
    return list(chosen[:count]) if not isinstance(chosen, str) else ""


def split_response(conversation: Conversation) -> tuple[Conversation, Conversation]:
    """Divide one conversation into a prompt and the response that it ends in.

    Args:
        conversation: A text or chat messages.

    Returns:
        The prompt and the response; the prompt is empty where the conversation does not end in an
        assistant's turn after another.
    """
    if not isinstance(conversation, str):
        ends = len(conversation) > 1 and conversation[-1]["role"] == "assistant"
        cut = len(conversation) - 1 if ends else 0
        return conversation[:cut], conversation[cut:]
    turns = list(_TURN.finditer(conversation))
    ends = len(turns) > 1 and turns[-1].group(1) == "Assistant"
    cut = turns[-1].end() if ends else 0
    return conversation[:cut], conversation[cut:]


def canonical_prompt(prompt: Conversation) -> str:
    r"""Return a spelling of a prompt that is the same in every format it may come in.

    White space is normalised, messages are written as ``Human:`` and ``Assistant:`` turns, and
    the mark that opens the first turn or announces the response is left out.

    >>> canonical_prompt("\n\nHuman: Hi  there\n\nAssistant:")
    'Hi there'
    >>> canonical_prompt([{"role": "user", "content": "Hi there"}])
    'Hi there'
    """
    if not isinstance(prompt, str):
        prompt = "\n".join(
            _ROLE_NAMES.get(message["role"], "") + message["content"] for message in prompt
        )
    text = " ".join(prompt.split())
    return text.removeprefix("Human: ").removesuffix("Assistant:").rstrip()


def is_dialogue(text: str) -> bool:
    """Tell whether a text begins with a ``Human:`` or ``Assistant:`` turn."""
    return text.lstrip().startswith(("Human:", "Assistant:"))


def begins_with(conversation: Conversation, prompt: Conversation) -> bool:
    """Tell whether a conversation already has the prompt inside."""
    if isinstance(conversation, str):
        if not isinstance(prompt, str):
            return False
        # HH-RLHF's texts begin with a blank line that a prompt column may lack, or have.
        return conversation.startswith(prompt) or (
            is_dialogue(prompt) and conversation.lstrip().startswith(prompt.strip())
        )
    if isinstance(prompt, str):
        # A prompt in text beside sides in messages: the text of the first user turn.
        users = [m["content"] for m in conversation if m["role"] in ("user", "human")]
        return bool(users) and users[0].strip() == prompt.strip()
    return len(conversation) >= len(prompt) and conversation[: len(prompt)] == prompt


def is_blank(conversation: Conversation) -> bool:
    """Tell whether a conversation holds no text at all."""
    if isinstance(conversation, str):
        return not conversation or conversation.isspace()
    return all(not message["content"].strip() for message in conversation)


def to_text(conversation: Conversation) -> str:
    """Write a conversation as one text, for display and for lengths in characters."""
    if isinstance(conversation, str):
        return conversation
    return "\n\n".join(f"{message['role']}: {message['content']}" for message in conversation)
