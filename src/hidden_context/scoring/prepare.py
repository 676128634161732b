"""Inputs of a model, and their preparation: token ids, or the reason why there is no reward."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from hidden_context.data.checks import read_conversation
from hidden_context.data.dialogue import ASSISTANT_TURN, Conversation, is_blank, join
from hidden_context.data.example import Text, Tools, as_input, with_context
from hidden_context.data.tokens.chat import special_tokens
from hidden_context.data.tokens.tokenize import tokenize_texts, truncate_left
from hidden_context.errors import DataError
from hidden_context.models.engine.forward import classifier_of
from hidden_context.models.reward_model import RewardModel
from hidden_context.models.sequence import SequenceRewardModel
from hidden_context.scoring.stream import BLANK

NO_TEXT: Final = "it has no text"
_PLAIN_ALONE: Final = (
    "a model on a frozen backbone reads the plain text of a dialogue; it cannot read special "
    "tokens or token ids"
)

OverLength: TypeAlias = 'Literal["error", "truncate"]'
"""Whether a text longer than the model reads is an error, or loses its beginning."""


@dataclass(frozen=True, slots=True)
class MarkedText:
    """A text that already carries its special tokens, as a trainer decodes it; none are added."""

    text: str


@dataclass(frozen=True, slots=True)
class TokenIds:
    """A text as token ids of the model's own vocabulary, special tokens included."""

    ids: tuple[int, ...]


Asked: TypeAlias = "Text | MarkedText | TokenIds"
"""What a model can be asked about."""


@dataclass(frozen=True)
class Prepared:
    """A text made ready to be run.

    Attributes:
        asked: The text.
        ids: Its token ids; None where it cannot be scored, or the model tokenizes it itself.
        reason: Why it cannot be scored, or None.
    """

    asked: Asked
    ids: Sequence[int] | None = None
    reason: str | None = None

    @property
    def num_tokens(self) -> int:
        """Number of its tokens, or an estimate by its length where the model tokenizes it."""
        if self.ids is not None or self.reason is not None:
            return len(self.ids or ())
        return 1 + len(str(self.asked)) // 4


class Preparer:
    """Preparation of texts for a model.

    Args:
        model: The model.
        over_length: What is done with a text longer than the model reads.
    """

    def __init__(self, model: RewardModel, over_length: OverLength = "error") -> None:
        self.model, self.over_length = model, over_length

    def prepare(self, asked: Sequence[Asked]) -> list[Prepared]:
        """Tokenize texts and find the unscorable ones; no network runs, no accelerator is needed.

        Args:
            asked: B texts, marked texts or token ids, in any mixture.

        Returns:
            The texts, ready to be run with others.

        Raises:
            ConfigError: If there are messages but no chat template.
        """
        ready = [self._checked(one) for one in asked]
        if isinstance(self.model, SequenceRewardModel):
            texts = [n for n, one in enumerate(ready) if one.reason is None and one.ids is None]
            self._tokenize(ready, texts)
        return ready

    def _checked(self, asked: Asked) -> Prepared:
        """Find why a text cannot be scored before it is tokenized; token ids are ready already."""
        if isinstance(asked, (MarkedText, TokenIds)):
            if not isinstance(self.model, SequenceRewardModel):
                return Prepared(asked, reason=_PLAIN_ALONE)
            if isinstance(asked, TokenIds):
                size = classifier_of(self.model.module).config.get_text_config().vocab_size
                outside = next((one for one in asked.ids if not 0 <= one < size), None)
                if outside is None:
                    return self._fitted(asked, list(asked.ids))
                reason = f"{outside} is not a token id of the model; its vocabulary has {size}"
                return Prepared(asked, reason=reason)
        try:
            given = asked.text if isinstance(asked, MarkedText) else as_input(asked).conversation
            read_conversation(given, "text")
        except DataError as error:
            return Prepared(asked, reason=error.problem)
        if is_blank(given):
            return Prepared(asked, reason=NO_TEXT)
        silent = not isinstance(asked, MarkedText) and _says_nothing(asked)
        return Prepared(asked, reason=BLANK if silent else None)

    def _fitted(self, asked: Asked, ids: list[int]) -> Prepared:
        """Cut or refuse a text that is too long, and refuse an empty text."""
        limit = self.model.max_length
        if not ids:
            return Prepared(asked, reason="it has no tokens")
        if len(ids) <= limit:
            return Prepared(asked, ids)
        if self.over_length == "error":
            return Prepared(asked, reason=f"it has {len(ids)} tokens, more than {limit}")
        return Prepared(asked, truncate_left(ids, limit, special_tokens(self.model.tokenizer)))

    def _tokenize(self, ready: list[Prepared], places: Sequence[int]) -> None:
        """Tokenize the texts at the given places."""
        marked = {n: asked.text for n in places if isinstance(asked := ready[n].asked, MarkedText)}
        if marked:
            texts = list(marked.values())
            encoded = self.model.tokenizer(texts, add_special_tokens=False, verbose=False)
            for place, ids in zip(marked, encoded["input_ids"], strict=True):
                ready[place] = self._fitted(ready[place].asked, list(ids))
        plain = [n for n in places if n not in marked]
        if plain:
            given = [as_text(ready[n].asked) for n in plain]
            tokens = tokenize_texts(given, self.model.tokenizer, None, "keep")
            for place, ids, reason in zip(plain, tokens.input_ids, tokens.reasons, strict=True):
                own = ready[place].asked
                ready[place] = (
                    Prepared(own, reason=reason) if reason else self._fitted(own, ids or [])
                )


def texts_of(
    prompt: Conversation | None, responses: Sequence[Conversation], tools: Tools | None
) -> list[Text]:
    """Put each response behind its prompt; without a prompt, responses are whole texts or chats."""
    if prompt is None:
        return [with_context(response, None, tools) for response in responses]
    texts = [join(prompt, response) for response in responses]
    before = join(prompt, [])  # as messages, if the responses are messages
    return [
        with_context(text, prompt if isinstance(text, str) else before, tools) for text in texts
    ]


def as_text(asked: Asked) -> Text:
    """Return a text that the model tokenizes itself."""
    assert not isinstance(asked, (MarkedText, TokenIds))
    return asked


def _says_nothing(text: Text) -> bool:
    """Tell whether a known prompt is followed by nothing but white space."""
    given = as_input(text)
    whole, prompt = given.conversation, given.prompt
    if not prompt or whole[: len(prompt)] != prompt:
        return False
    rest = whole[len(prompt) :]
    if isinstance(rest, str):
        rest = rest.strip().removeprefix(ASSISTANT_TURN.strip())
    return is_blank(rest)
