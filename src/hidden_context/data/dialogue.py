"""Conversations as text or chat messages: join them, split them into turns, find shared prompts.

Conversations come in two formats. A *text* may be a dialogue in the format of HH-RLHF, where turns
begin with ``Human:`` and ``Assistant:`` after a blank line. A list of *chat messages* holds
dictionaries with ``role`` and ``content``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any, TypeAlias

Message: TypeAlias = dict[str, Any]
Conversation: TypeAlias = "str | list[Message]"

ASSISTANT_TURN = "\n\nAssistant:"

# A line break of Unix, Windows or old Macs.
_BREAK = r"(?:\r\n|\n|\r(?!\n))"
# The first turn has its own pattern: searching for a line break finds the others twice as fast.
_FIRST_TURN = re.compile(r"\s*(Human|Assistant):")
_TURN = re.compile(rf"{_BREAK}[ \t]*{_BREAK}[ \t]*(Human|Assistant):")
_TURN_ON_NEXT_LINE = re.compile(rf"{_BREAK}\s*(Human|Assistant):")
_ROLE_NAMES = {"user": "Human", "human": "Human", "assistant": "Assistant"}


def _marks(text: str) -> list[re.Match[str]]:
    """Find the marks that open turns after a blank line, or else after any line break.

    A single line break counts only if the dialogue would otherwise have no answer, because an
    answer may quote a dialogue.
    """
    first = _FIRST_TURN.match(text)
    found, start = ([first], first.end()) if first else ([], 0)
    marks = [*found, *_TURN.finditer(text, start)]
    if marks and all(mark.group(1) == "Human" for mark in marks):
        return [*found, *_TURN_ON_NEXT_LINE.finditer(text, start)]
    return marks


def message_text(message: Message) -> str:
    """Return what a message says: its content, then its tool calls as JSON."""
    content = message.get("content") or ""
    if not isinstance(content, str):  # a raw row may hold a list of parts
        content = "".join(part.get("text") or "" for part in content)
    calls = [*(message.get("tool_calls") or ()), message.get("function_call")]
    if calls == [None]:
        return content
    written = [
        json.dumps(call.get("function", call), ensure_ascii=False, sort_keys=True)
        for call in calls
        if call
    ]
    return "\n".join([content, *written] if content else written)


def join(prompt: Conversation, response: Conversation) -> Conversation:
    r"""Append a response to its prompt.

    Two texts are concatenated as they are, with two exceptions. If the last turn of a dialogue is
    the human's, ``Assistant:`` goes between, spelt as in HH-RLHF's training texts
    (``"\n\nAssistant: " + response``). If a dialogue ends in a bare ``Assistant:``, a space goes
    between. Messages and a text become messages with an assistant turn at the end. A text and
    messages become a user turn followed by the messages.

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
    """Append a response text to a prompt text; see ``join``."""
    turns = _marks(prompt)
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


def last_turns(conversation: Conversation, prompt: Conversation | None = None) -> tuple[str, str]:
    """Find the response that is judged, and the human turn it answers.

    Args:
        conversation: A text or chat messages.
        prompt: The start of the conversation, if known; the response is then the rest. Without
            a prompt, the response of a text is its last ``Assistant:`` turn. The response of
            messages is everything after the last human turn with an answer, such as tool calls and
            their results.

    Returns:
        The human turn and the response, both stripped and with plain line breaks. Human turns
        after the last answer are left out. The human turn is empty if nothing stands before the
        response; the response is empty if there is no answer.
    """
    known = bool(prompt) and conversation[: len(prompt or "")] == prompt
    turns = _turns(conversation, len(prompt or "") if known else 0)
    answers = [place for place, (role, _) in enumerate(turns) if role == "Assistant"]
    end, start, before = (answers[-1] + 1 if answers else 0), 0, turns
    if prompt and known:
        before = _turns(prompt)
    elif answers:
        human_turns = (n for n in range(end) if turns[n][0] == "Human")
        start = end - 1 if isinstance(conversation, str) else max(human_turns, default=-1) + 1
        before = turns[:start]
    human = next((text for role, text in reversed(before) if role == "Human"), "")
    if prompt and known and not human:
        human = to_text(prompt).strip()
    said = [(role, text) for role, text in turns[start:end] if text and role != "system"]
    while said and said[-1][0] == "Human":  # its answer is blank
        said.pop()
    response = "\n\n".join(f"{role}: {text}" if n else text for n, (role, text) in enumerate(said))
    return human, response


def _turns(conversation: Conversation, start: int = 0) -> list[tuple[str, str]]:
    """List the role and text of each turn from ``start`` on; a turn that spans it is cut there.

    Text without marks is an answer. If ``start`` lies within a turn, the rest of the turn is an
    answer too. Text before the first mark of a whole dialogue is not a turn.
    """
    turns: list[tuple[str, str]] = []
    if isinstance(conversation, str):
        marks = _marks(conversation)
        unmarked = conversation[start : marks[0].start() if marks else None]
        if unmarked.strip() and (start or not marks):
            turns.append(("Assistant", unmarked))
        ends = [mark.start() for mark in marks[1:]] + [len(conversation)] * bool(marks)
        for mark, end in zip(marks, ends, strict=True):
            if end > start:
                name = str(mark.group(1)) if mark.end() >= start else "Assistant"
                turns.append((name, conversation[max(mark.end(), start) : end]))
    else:
        for message in conversation[start:]:
            role = str(message["role"])
            turns.append((_ROLE_NAMES.get(role, role), message_text(message)))
    return [(role, re.sub(_BREAK, "\n", text).strip()) for role, text in turns]


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

    In dialogues, the prompt ends with the last ``Assistant:`` that both texts share. In other
    texts, the prompt is the shared beginning, cut before its last white space. In messages, the
    prompt is all messages that both sides share at the start, but each side keeps at least one.

    Args:
        chosen: The preferred conversation, prompt included.
        rejected: The other one.

    Returns:
        The prompt, of the same kind as the two sides (empty if they share nothing).
    """
    if isinstance(chosen, str) and isinstance(rejected, str):
        prefix = chosen[: common_prefix_length(chosen, rejected)]
        turns = [mark.end() for mark in _marks(prefix) if mark.group(1) == "Assistant"]
        if turns:
            return prefix[: turns[-1]]
        cut = max(prefix.rfind(" "), prefix.rfind("\n"), prefix.rfind("\t"), 0)
        return prefix[:cut].rstrip()
    if isinstance(chosen, str):
        return ""
    most = max(min(len(chosen), len(rejected)) - 1, 0)
    return chosen[: common_prefix_length(chosen[:most], rejected)]


def split_response(conversation: Conversation) -> tuple[Conversation, Conversation]:
    """Divide one conversation into a prompt and the response that it ends in.

    Args:
        conversation: A text or chat messages.

    Returns:
        The prompt and the response; the prompt is empty if the conversation does not end in an
        assistant turn after another turn.
    """
    if isinstance(conversation, str):
        turns = _marks(conversation)
        ends = len(turns) > 1 and turns[-1].group(1) == "Assistant"
        cut = turns[-1].end() if ends else 0
    else:
        ends = len(conversation) > 1 and conversation[-1]["role"] == "assistant"
        cut = len(conversation) - 1 if ends else 0
    return conversation[:cut], conversation[cut:]


def canonical_prompt(prompt: Conversation) -> str:
    r"""Return a prompt in a standard form that does not depend on its format.

    White space is normalised, messages are written as ``Human:`` and ``Assistant:`` turns, and
    the mark that opens the first turn or announces the response is left out.

    >>> canonical_prompt("\n\nHuman: Hi  there\n\nAssistant:")
    'Hi there'
    >>> canonical_prompt([{"role": "user", "content": "Hi there"}])
    'Hi there'
    """
    if not isinstance(prompt, str):
        prompt = "\n".join(
            f"{_ROLE_NAMES[role]}: {text}" if role in _ROLE_NAMES else text
            for role, text in ((message["role"], message_text(message)) for message in prompt)
        )
    text = " ".join(prompt.split())
    return text.removeprefix("Human: ").removesuffix("Assistant:").rstrip()


def first_user_turn(conversation: Conversation) -> str:
    r"""Return the first user turn of a conversation, in the form of ``canonical_prompt``.

    A text without ``Human:`` and ``Assistant:`` turns is one turn. Text before ``Human:`` and
    system messages are left out. The result is empty if there is no user turn.

    >>> first_user_turn("\n\nHuman: Hi  there\n\nAssistant: Hello\n\nHuman: Bye\n\nAssistant:")
    'Hi there'
    """
    if not isinstance(conversation, str):
        first = [message for message in conversation if message["role"] in ("user", "human")][:1]
        return canonical_prompt(first) if any(message_text(m).strip() for m in first) else ""
    marks = _marks(conversation)
    ends = [mark.start() for mark in marks[1:]] + [len(conversation)]
    before = conversation[: marks[0].start()] if marks else conversation
    if not marks or (marks[0].group(1) == "Assistant" and before.strip()):
        return canonical_prompt(before)
    for mark, end in zip(marks, ends, strict=True):
        if mark.group(1) == "Human":
            blank = not conversation[mark.end() : end].strip()
            return "" if blank else canonical_prompt(conversation[mark.start() : end])
    return ""


def begins_with(conversation: Conversation, prompt: Conversation) -> bool:
    """Tell whether a conversation already begins with the prompt."""
    if isinstance(conversation, str):
        if not isinstance(prompt, str):
            return False
        # HH-RLHF's texts begin with a blank line that a prompt column may lack, or have.
        return conversation.startswith(prompt) or (
            prompt.lstrip().startswith(("Human:", "Assistant:"))
            and conversation.lstrip().startswith(prompt.strip())
        )
    if isinstance(prompt, str):
        # A text prompt beside chat messages has to be the text of the first user turn.
        users = [message_text(m) for m in conversation if m["role"] in ("user", "human")]
        return bool(users) and users[0].strip() == prompt.strip()
    return len(conversation) >= len(prompt) and conversation[: len(prompt)] == prompt


def is_blank(conversation: Conversation) -> bool:
    """Tell whether a conversation holds no text and calls no tool."""
    if isinstance(conversation, str):
        return not conversation or conversation.isspace()
    return all(not message_text(message).strip() for message in conversation)


def to_text(conversation: Conversation) -> str:
    """Write a conversation as one text, for display and for lengths in characters."""
    if isinstance(conversation, str):
        return conversation
    return "\n\n".join(f"{m['role']}: {message_text(m)}" for m in conversation)
