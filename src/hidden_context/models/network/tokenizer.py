"""Loading a tokenizer ready for reward models: right padding, and a padding token."""

from __future__ import annotations

from typing import Any

from transformers import AutoTokenizer, PreTrainedTokenizerBase

from hidden_context.models.checkpoint.contents import as_checkpoint_error


def load_tokenizer(name: str, **options: Any) -> PreTrainedTokenizerBase:
    """Load a tokenizer; padding is on the right, with EOS where there is no padding token.

    Args:
        name: Hub id or folder.
        **options: ``revision`` of a hub repository, and ``trust_remote_code``.

    Raises:
        CheckpointError: If there is none to load.
    """
    with as_checkpoint_error(
        f"no tokenizer could be loaded from {name!r} ({{error}}). Check the id or path (offline, "
        "only local folders and cached models load). A model without a tokenizer needs "
        "--tokenizer_name. A tokenizer saved by a later release needs that release (pip install -U "
        "tokenizers transformers)."
    ):
        tokenizer = AutoTokenizer.from_pretrained(name, **options)
    prepare_tokenizer(tokenizer)
    return tokenizer


def prepare_tokenizer(tokenizer: PreTrainedTokenizerBase) -> None:
    """Set right padding, and EOS (else the unknown token) as padding where there is none."""
    tokenizer.padding_side = "right"
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.unk_token


def padding_id(tokenizer: PreTrainedTokenizerBase) -> int:
    """Return the token id to pad with; any id will do, as masked positions affect no reward."""
    return 0 if tokenizer.pad_token_id is None else int(tokenizer.pad_token_id)


def length_limit(tokenizer: PreTrainedTokenizerBase, config: Any, wanted: int | None) -> int:
    """Return the longest text in tokens: the wanted length, within the model's limit."""
    limits = [tokenizer.model_max_length]
    positions = getattr(config, "max_position_embeddings", None)
    if isinstance(positions, int) and positions > 0:
        # RoBERTa and its kin count positions from the padding index on
        offset = (getattr(config, "pad_token_id", 0) or 0) + 1
        shifted = getattr(config, "model_type", "") in ("roberta", "xlm-roberta", "camembert")
        limits.append(positions - offset if shifted else positions)
    # tokenizers without a limit report an enormous number
    limit = min((value for value in limits if value and value < 1_000_000), default=None)
    if limit is None:
        return wanted or 1024
    return min(wanted, limit) if wanted else limit
