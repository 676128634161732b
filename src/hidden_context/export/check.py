"""Check an export: loaded by plain Transformers, it must give the checkpoint's rewards."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, TypeAlias

import torch
from torch import Tensor

from hidden_context.data.example import Text
from hidden_context.data.tokens.tokenize import tokenize_texts
from hidden_context.errors import CheckpointError
from hidden_context.export.config import ExportConfig
from hidden_context.models.checkpoint.contents import as_checkpoint_error
from hidden_context.models.engine.forward import quiet_loading
from hidden_context.models.network.precision import resolve_dtype
from hidden_context.models.network.weights import some
from hidden_context.models.sequence import SequenceRewardModel

# Greatest difference by precision, relative to the greatest raw output if it is above 1.
TOLERANCES: Final = {torch.float32: 1e-6, torch.bfloat16: 0.1, torch.float16: 0.02}
_TEXTS: Final = (
    "\n\nHuman: Is it going to rain?\n\nAssistant: Yes, take an umbrella with you.",
    "\n\nHuman: Is it going to rain?\n\nAssistant: No.",
    "Short",
    "A longer text without any turns: it has several clauses, a number (17), a name, Zürich, and "
    "a last sentence. Here it is.",
)
_CHATS: Final = tuple(
    [{"role": "user", "content": "How do I make tea?"}, {"role": "assistant", "content": answer}]
    for answer in ("Boil water, pour it over the leaves and wait.", "I would rather not say.")
)


@dataclasses.dataclass(frozen=True)
class Sample:
    """Texts with their tokens and the checkpoint's raw outputs.

    Attributes:
        texts: N texts and chats.
        token_ids: Their tokens.
        raw: The checkpoint's raw outputs of shape ``(N, K)``.
        rounding: How far these move when texts are run one by one: rounding alone.
        max_length: Longest text in tokens.
        dtype: Precision of the export.
        trust_remote_code: Whether code in the export may run.
    """

    texts: list[Text]
    token_ids: list[list[int]]
    raw: Tensor
    rounding: float
    max_length: int
    dtype: torch.dtype = torch.float32
    trust_remote_code: bool = False


# Of a folder that was written and run: the model that writes its card, the outputs that other
# libraries get from it, of shape (N, K), what they have to be, and notes for people.
Written: TypeAlias = tuple[SequenceRewardModel, Tensor, Tensor, list[str]]


@dataclasses.dataclass(frozen=True)
class Agreement:
    """The difference between an export's outputs and its checkpoint's outputs.

    Attributes:
        greatest: Greatest difference of an output, in its own units.
        allowed: What it may be.
        texts: Number of texts compared.
    """

    greatest: float
    allowed: float
    texts: int

    def __str__(self) -> str:
        return (
            f"outputs of {self.texts} texts are within {self.greatest:.2g} of the checkpoint's "
            f"(allowed: {self.allowed:.2g})"
        )


def sample_of(source: SequenceRewardModel, config: ExportConfig) -> Sample:
    """Run texts of several lengths, one that ends with EOS, and chats where there is a template.

    Args:
        source: The checkpoint's model, before anything is merged.
        config: The options of the export.

    Returns:
        The texts that it can score, and its raw outputs.
    """
    tokenizer = source.tokenizer
    texts: list[Text] = list(_TEXTS)
    if tokenizer.eos_token:
        texts.append(_TEXTS[1] + tokenizer.eos_token)
    if tokenizer.chat_template:
        texts += _CHATS
    found = source.token_ids(texts)
    kept = [number for number, ids in enumerate(found) if ids]
    if source.module.config.is_encoder_decoder:  # Transformers runs them by equally many EOS
        kept = [number for number in kept if found[number].count(tokenizer.eos_token_id) == 1]
    token_ids = [found[number] for number in kept]
    raw = source.raw_outputs_of_tokens(token_ids, len(token_ids), engine="padded")
    alone = source.raw_outputs_of_tokens(token_ids, 1, engine="padded")
    rounding = float((raw - alone).abs().max())
    texts = [texts[number] for number in kept]
    dtype, remote = resolve_dtype(config.dtype, torch.device("cpu")), config.trust_remote_code
    return Sample(texts, token_ids, raw, rounding, source.max_length, dtype, remote)


def compare(found: Tensor, expected: Tensor, sample: Sample) -> Agreement:
    """Compare an export's outputs ``(N, K)`` with the expected ones.

    Raises:
        CheckpointError: If they differ by more than the precision explains.
    """
    unit = max(1.0, float(expected.abs().max()))
    # two float32 computations of one network round differently; how far depends on its depth
    allowed = max(TOLERANCES[sample.dtype] * unit, 5 * sample.rounding)
    greatest = float((found.float() - expected).abs().max())
    if not greatest <= allowed:
        raise CheckpointError(
            "the export was deleted: loaded by other libraries its outputs differ from the "
            f"checkpoint's by {greatest:.2g}, and rounding explains at most {allowed:.2g}. Take "
            "another --dtype, or serve the checkpoint itself with `hidden-context serve`."
        )
    return Agreement(greatest, allowed, len(expected))


def classifier_outputs(folder: Path, sample: Sample, device: torch.device) -> Tensor:
    """Load an exported folder with Transformers alone, and run the texts as a padded batch.

    Args:
        folder: The folder, which lacks nothing and holds nothing its class has no place for.
        sample: The texts.
        device: Where it runs.

    Returns:
        Its logits in float32, of shape ``(N, K)``.

    Raises:
        CheckpointError: If it does not load whole, or tokenizes texts otherwise.
    """
    model, info = load_plain(str(folder), dtype="auto", trust_remote_code=sample.trust_remote_code)
    # Transformers' classes have no place for the bias of zeros that SGLang needs
    left = info["missing_keys"] | (info["unexpected_keys"] - {"score.bias"})
    if left:
        raise CheckpointError(
            f"the export was deleted: Transformers loads it without {some(left)}."
        )
    return logits_of(model.to(device), plain_tokenizer(folder, sample), sample)


def logits_of(model: Any, tokenizer: Any, sample: Sample) -> Tensor:
    """Run texts as a padded batch, or one by one if there is no tokenizer to pad them.

    Args:
        model: A classifier of Transformers or PEFT.
        tokenizer: The tokenizer beside it, or None.
        sample: N texts.

    Returns:
        Logits in float32 of shape ``(N, K)``, on the CPU.
    """
    if tokenizer is None:
        rows = [torch.tensor([ids], device=model.device) for ids in sample.token_ids]
        batches = [{"input_ids": row, "attention_mask": torch.ones_like(row)} for row in rows]
    else:
        padded = tokenizer.pad({"input_ids": sample.token_ids}, return_tensors="pt")
        batches = [padded.to(model.device)]
    with torch.inference_mode():
        return torch.cat([model(**batch).logits for batch in batches]).float().cpu()


def load_plain(name: str, **options: Any) -> tuple[Any, dict[str, set[str]]]:
    """Load a classifier with Transformers alone.

    Args:
        name: Folder or hub id.
        **options: Passed on to ``from_pretrained``.

    Returns:
        The model in evaluation mode, and Transformers' report of missing and unexpected weights.

    Raises:
        CheckpointError: If Transformers cannot load it.
    """
    from transformers import AutoModelForSequenceClassification

    problem = f"Transformers cannot load {name} as a classifier ({{error}})."
    with as_checkpoint_error(problem), quiet_loading():
        model, info = AutoModelForSequenceClassification.from_pretrained(
            name, output_loading_info=True, **options
        )
    return model.eval(), {key: set(found) for key, found in info.items() if "keys" in key}


def plain_tokenizer(folder: Path, sample: Sample) -> Any:
    """Load a folder's tokenizer with Transformers alone; it must give the checkpoint's tokens.

    Raises:
        CheckpointError: If it makes other tokens of a text than the checkpoint's; names the text.
    """
    from transformers import AutoTokenizer

    remote = sample.trust_remote_code
    tokenizer = AutoTokenizer.from_pretrained(str(folder), trust_remote_code=remote)
    found: Sequence[Any] = tokenize_texts(sample.texts, tokenizer, sample.max_length).input_ids
    for text, ids, expected in zip(sample.texts, found, sample.token_ids, strict=True):
        if ids != expected:
            raise CheckpointError(
                f"the export was deleted: its tokenizer makes other tokens of {text!r} than the "
                "checkpoint's does."
            )
    return tokenizer


def card_facts(config: ExportConfig, agreement: Agreement, notes: list[str]) -> dict[str, str]:
    """Return what the model card says about an export."""
    facts = {
        "exported from": config.checkpoint,
        "form": config.form,
        "precision of the backbone": config.dtype,
        "loads with": "AutoModelForSequenceClassification; its logits are the raw outputs, and "
        "no softmax or sigmoid belongs on them",
        "checked": f"by Transformers alone, {agreement}",
    }
    if config.form == "adapters":
        facts["loads with"] = "PEFT, each member's folder on the backbone as a classifier"
    return facts | {f"note {number}": note for number, note in enumerate(notes, 1)}
