"""A language model's responses to prompts, kept row by row, so that a stopped run goes on."""

from __future__ import annotations

import dataclasses
import random
import zlib
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

import torch
from policy.models import same_as_kept
from policy.real.prompts import Question
from torch import Tensor

from hidden_context.data.storage.files import iter_jsonl, write_json, write_jsonl
from hidden_context.errors import DataError

ATTENTION: Final = "hidden_context_shared_prefix"
Prefix = list[tuple[Tensor, Tensor]]
"""States of a prompt: for each layer keys and values, each of shape ``(1, heads, length, D)``."""


def attend(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    scaling: float,
    prefixes: Sequence[Prefix],
    **_: Any,
) -> tuple[Tensor, None]:
    """Attend to the prompt's states and to a response's own.

    Args:
        module: The layer, which knows its number.
        query: Of the newest token of R responses, shape ``(R, heads, 1, D)``; R / P responses to
            each of P prompts, one prompt after the other.
        key: Of the responses' own tokens, ``(R, key heads, S, D)``.
        value: Of that shape.
        attention_mask: Not read: all tokens are before the newest one.
        scaling: Factor of the products.
        prefixes: States of the P prompts.

    Returns:
        What is attended to, ``(R, 1, heads, D)``, and no weights.
    """
    rows, heads, _one, width = query.shape
    kinds = key.shape[1]
    each, groups = rows // len(prefixes), heads // kinds
    asked = query.reshape(rows, kinds, groups, width) * scaling
    own = asked @ key.transpose(2, 3)
    found = torch.empty_like(asked)
    for number, prefix in enumerate(prefixes):
        keys, values = (part[0] for part in prefix[module.layer_idx])
        some = slice(number * each, (number + 1) * each)
        flat = asked[some].transpose(0, 1).reshape(kinds, each * groups, width)
        before = (flat @ keys.transpose(1, 2)).view(kinds, each, groups, -1).transpose(0, 1)
        weights = torch.cat([before, own[some]], dim=-1).float().softmax(-1).to(value.dtype)
        on_prompt, on_own = weights.split([before.shape[-1], own.shape[-1]], dim=-1)
        flat = on_prompt.transpose(0, 1).reshape(kinds, each * groups, -1)
        seen = (flat @ values).view(kinds, each, groups, width).transpose(0, 1)
        found[some] = seen + on_own @ value[some]
    return found.reshape(rows, 1, heads, width), None


def register() -> None:
    """Make Transformers know this way to attend by its name."""
    from transformers import AttentionInterface

    AttentionInterface.register(ATTENTION, attend)


PROMPTS_AT_ONCE: Final = 16
PLAIN: Final = "sdpa"


class Sampler:
    """Draws responses of a chat model at temperature 1, from the whole distribution of its tokens.

    Each prompt is run once, and its states are repeated for all its responses. A response is set by
    its prompt's name, the model and the options, whatever else is drawn in the same pass, but for
    the rounding of the model's arithmetic.

    Args:
        model: A causal language model, every layer of which attends to all positions.
        tokenizer: Its tokenizer, with a chat template.
        count: Responses to each prompt.
        longest: Most tokens of one; longer ones are cut off there.
    """

    def __init__(self, model: Any, tokenizer: Any, count: int, longest: int) -> None:
        register()
        self.model, self.tokenizer, self.count, self.longest = model, tokenizer, count, longest

    @torch.inference_mode()
    def answer(self, asked: Sequence[Question]) -> list[dict[str, Any]]:
        """Draw the responses to a few prompts in one pass.

        Returns:
            The rows that are kept: ``id``, ``set``, ``prompt``; ``responses``, the texts;
            ``tokens``, how many each has; ``ended``, whether it came to an end by itself.
        """
        from transformers.cache_utils import DynamicCache

        count, longest = self.count, self.longest
        template = partial(self.tokenizer.apply_chat_template, add_generation_prompt=True)
        tokens = [template(each.messages(), return_dict=True)["input_ids"] for each in asked]
        prefixes = [self._run_once(ids[:-1]) for ids in tokens]
        rows = [ids for ids in tokens for _ in range(count)]
        fresh = torch.tensor([[ids[-1]] for ids in rows], device=self.model.device)
        place = torch.tensor([[len(ids) - 1] for ids in rows], device=self.model.device)
        uniform = torch.cat([self._uniform(question) for question in asked]).to(self.model.device)
        drawn = torch.full((len(rows), longest), self._end, device=self.model.device)
        going_on = torch.ones(len(rows), dtype=torch.bool, device=self.model.device)
        states = {"past_key_values": DynamicCache(config=self.model.config), "prefixes": prefixes}
        self.model.set_attn_implementation(ATTENTION)
        for step in range(longest):
            out = self.model(fresh, position_ids=place + step, **states)
            fresh = draw(out.logits[:, -1], uniform[:, step]).unsqueeze(1)
            going_on &= fresh[:, 0] != self._end
            drawn[going_on, step] = fresh[going_on, 0]
            if not going_on.any():
                break
        self.model.set_attn_implementation(PLAIN)
        own = drawn.split(count)
        return [self._row(question, each) for question, each in zip(asked, own, strict=True)]

    @property
    def _end(self) -> int:
        return int(self.tokenizer.eos_token_id)

    def _uniform(self, question: Question) -> Tensor:
        """Random numbers by which tokens are drawn, shape ``(count, longest)``."""
        generator = torch.Generator().manual_seed(zlib.crc32(question.id.encode()))
        return torch.rand(self.count, self.longest, generator=generator, dtype=torch.float64)

    def _run_once(self, tokens: Sequence[int]) -> Prefix:
        """Run a prompt but its last token; its states by layer."""
        from transformers.cache_utils import DynamicCache

        cache = DynamicCache(config=self.model.config)
        ids = torch.tensor([tokens], device=self.model.device)
        self.model(ids, past_key_values=cache, use_cache=True, logits_to_keep=1)
        return [(layer.keys, layer.values) for layer in cache.layers]

    def _row(self, question: Question, drawn: Tensor) -> dict[str, Any]:
        going_on = (drawn == self._end).cumsum(1) == 0
        texts = [own[keep] for own, keep in zip(drawn, going_on, strict=True)]
        return {
            **dataclasses.asdict(question),
            "responses": self.tokenizer.batch_decode(texts, skip_special_tokens=True),
            "tokens": going_on.sum(1).tolist(),
            "ended": (~going_on).any(1).tolist(),
        }


def draw(logits: Tensor, uniform: Tensor) -> Tensor:
    r"""Draw tokens by their distribution function: the first t with :math:`F(t) > u`.

    Args:
        logits: Of shape ``(R, V)``.
        uniform: Numbers u in [0, 1), shape ``(R,)``.

    Returns:
        Tokens of shape ``(R,)``.
    """
    upto = logits.float().softmax(-1).cumsum(-1)
    wanted = uniform.to(upto).unsqueeze(1) * upto[:, -1:]
    return torch.searchsorted(upto, wanted, right=True).squeeze(1).clamp(max=logits.shape[1] - 1)


def answer_all(
    asked: Sequence[Question],
    path: Path,
    made_by: Mapping[str, Any],
    sampler: Callable[[], Callable[[Sequence[Question]], list[dict[str, Any]]]],
    say: Callable[[str], Any],
) -> list[dict[str, Any]]:
    """Answer the prompts that are not answered yet; the file is written whole after each pass.

    Args:
        asked: The prompts.
        path: JSON Lines file of the rows; ``NAME.made.json`` beside it says how they were made.
        made_by: What a row depends on besides its prompt.
        sampler: Makes what answers a few prompts; not called where nothing is left to answer.
        say: Told how it goes.

    Returns:
        The rows of all prompts, in their order.

    Raises:
        ConfigError: If what is there was made otherwise.
        DataError: If what is there cannot be read, or answers another prompt of the same name.
    """
    about = path.with_suffix(".made.json")
    if not same_as_kept(about, made_by):
        write_json(about, made_by)
    known = {row["id"]: row for _, row in iter_jsonl(path)} if path.is_file() else {}
    for question in asked:
        if question.id in known and known[question.id].get("prompt") != question.prompt:
            remedy = "Give another --output, or remove the file"
            problem = f"{question.id} answers another prompt than this run asks"
            raise DataError(problem, file=path, field="prompt", remedy=remedy)
    passes = in_passes([question for question in asked if question.id not in known])
    answer = sampler() if passes else None
    for number, some in enumerate(passes, start=1):
        known |= {row["id"]: row for row in answer(some)}
        write_jsonl(path, known.values())
        say(f"responses: pass {number} of {len(passes)}")
    return [known[question.id] for question in asked]


def in_passes(asked: Sequence[Question], size: int = PROMPTS_AT_ONCE) -> list[list[Question]]:
    """Put prompts of like length together, so that little is padded.

    The passes are shuffled: a run that is stopped early has prompts of all lengths and sets.
    """
    ranked = sorted(asked, key=lambda question: (len(question.prompt), question.id))
    passes = [ranked[start : start + size] for start in range(0, len(ranked), size)]
    random.Random(0).shuffle(passes)
    return passes
