"""A language model on this machine as the judge: the probability of its answer in one pass."""

from __future__ import annotations

from bisect import bisect_left
from pathlib import Path
from typing import Any, Final

from hidden_context.errors import CheckpointError, ConfigError, MissingFileError, first_line
from hidden_context.relabel.config import RelabelConfig
from hidden_context.relabel.questions import Question, chat_ids
from hidden_context.relabel.replies import Reply

CUT: Final = "[…] "
"""What stands in a question for the beginning of a conversation that was left out."""

# What an answer depends on besides the words of the question.
_FILES: Final = ("*.safetensors", "pytorch_model*.bin", "config.json", "tokenizer*", "*.jinja")


class LocalJudge:
    """A Transformers model that answers A or B.

    Args:
        config: The folder, and how to load it.

    Raises:
        MissingFileError: If there is no such folder.
        CheckpointError: If it holds no language model that can be loaded.
        ConfigError: If the tokenizer has no chat template, or no token of its own for each letter.
    """

    def __init__(self, config: RelabelConfig) -> None:
        from hidden_context.models.network.precision import resolve_device, resolve_dtype

        folder = Path(config.model).expanduser()
        if not folder.is_dir():
            raise MissingFileError(
                folder, "Give --model the folder of a Transformers model, with --backend local"
            )
        self._device = resolve_device(config.device)
        self._dtype = resolve_dtype(config.dtype, self._device)
        self._tokenizer, self._model = self._load(folder, config.trust_remote_code)
        if not getattr(self._tokenizer, "chat_template", None):
            raise ConfigError(
                f"the tokenizer of {folder} has no chat template; take a model that was trained "
                "to answer questions (often called Instruct or Chat)."
            )
        made_for = (
            getattr(self._model.config, "max_position_embeddings", None),
            self._tokenizer.model_max_length,  # a huge number where it is not known
        )
        self.max_length = config.max_length or min(limit for limit in made_for if limit)
        self._letters = {letter: letter_tokens(self._tokenizer, letter) for letter in "AB"}
        self._files = _digest_files(folder)

    def _load(self, folder: Path, trust: bool) -> tuple[Any, Any]:
        from transformers import AutoModelForCausalLM, AutoTokenizer

        try:
            tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=trust)
            model = AutoModelForCausalLM.from_pretrained(
                folder, dtype=self._dtype, trust_remote_code=trust
            )
        except (OSError, ValueError, KeyError, ImportError) as error:
            raise CheckpointError(
                f"{folder} holds no language model that can be loaded: {first_line(error)}."
            ) from error
        return tokenizer, model.to(self._device).eval()

    @property
    def asked(self) -> dict[str, Any]:
        """What an answer depends on besides the question's words."""
        return {
            "host": "local",
            "files": self._files,  # whatever the folder is called
            "dtype": str(self._dtype),
            "device": self._device.type,
            "max_length": self.max_length,
        }

    def ask(self, question: Question) -> Reply:
        """Ask one question.

        Returns:
            The log-probability that the first token of the answer spells A, and B, over all their
            spellings, and the most likely token; or an abstention where the question is too long
            even without the conversation.
        """
        ids = self._fitting(question)
        if ids is None:
            return Reply("", reason="too_long")
        import torch

        with torch.inference_mode():
            tokens = torch.tensor([ids], device=self._device)
            logits = self._model(input_ids=tokens, use_cache=False, logits_to_keep=1).logits
            scores = torch.log_softmax(logits[0, -1].float(), dim=-1)
            letters = {
                letter: float(torch.logsumexp(scores[sorted(tokens)], dim=0))
                for letter, tokens in self._letters.items()
            }
            likeliest = self._tokenizer.decode([int(scores.argmax())])
        return Reply(likeliest, letters, len(ids), 1)

    def _fitting(self, question: Question) -> list[int] | None:
        """Tokenize a question; drop the beginning of its conversation until it fits."""
        ids = chat_ids(self._tokenizer, question.text())
        if len(ids) <= self.max_length:
            return ids
        words = (question.dialogue or "").split(" ")

        def ids_without(count: int) -> list[int]:
            return chat_ids(self._tokenizer, question.text(CUT + " ".join(words[count:])))

        counts = range(len(words) + 1)  # of words to leave out
        cut = bisect_left(
            counts, True, lo=1, key=lambda count: len(ids_without(count)) <= self.max_length
        )
        return ids_without(cut) if question.dialogue and cut in counts else None


def letter_tokens(tokenizer: Any, letter: str) -> set[int]:
    """List the tokens that spell a letter, with or without a space before it.

    Raises:
        ConfigError: If there is none.
    """
    spelt = [tokenizer.encode(one, add_special_tokens=False) for one in (letter, f" {letter}")]
    tokens = {ids[0] for ids in spelt if len(ids) == 1}
    if not tokens:
        raise ConfigError(f"the model's tokenizer has no token for the letter {letter}.")
    return tokens


def _digest_files(folder: Path) -> str:
    """Digest the names and contents of a model's files."""
    import hashlib

    from hidden_context.models.checkpoint.identity import file_digest

    files = {file for pattern in _FILES for file in folder.glob(pattern)}
    named = [f"{file.name} {file_digest(file)}" for file in sorted(files) if file.is_file()]
    return hashlib.blake2b("\n".join(named).encode(), digest_size=16).hexdigest()
