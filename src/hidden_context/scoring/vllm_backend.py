"""Raw outputs from vLLM's offline pooling, first checked against our own pass on a few texts.

vLLM reads the same folder and gets the same token ids, so only the network can differ: its kernels,
where it reads the end of a text, and what it does to the outputs. The check finds errors of
the last two kinds, which would be silent. Kernels only round, and the precision says how much.
"""

from __future__ import annotations

import gc
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import torch
from torch import Tensor

from hidden_context.data.example import Text
from hidden_context.errors import (
    CheckpointError,
    ConfigError,
    HiddenContextError,
    MissingDependencyError,
)
from hidden_context.models.checkpoint.contents import as_checkpoint_error, kind_of
from hidden_context.models.engine.choose import Engine, Run
from hidden_context.models.network.precision import resolve_device, resolve_dtype
from hidden_context.models.sequence import SequenceRewardModel, TokenRewardModel
from hidden_context.scoring.config import ModelOptions
from hidden_context.scoring.loading import load_model

if TYPE_CHECKING:
    from typing_extensions import Unpack

ALLOWED: Final = {torch.float32: 1e-3, torch.bfloat16: 0.1, torch.float16: 0.02}
"""Largest difference by precision, in units of how far apart an output's values are."""

_WORDS: Final = "The answer to a question about tea, rain, maps and music is given here in full. "
_TEXTS: Final = (
    "\n\nHuman: Is it going to rain?\n\nAssistant: Yes, take an umbrella with you.",
    "\n\nHuman: Is it going to rain?\n\nAssistant: No.",
    "\n\nHuman: How do I make tea?\n\nAssistant: Boil water and pour it over the leaves.",
    "Short",
    "A text without any turns: it has a number (17), a name, Zürich, and a last sentence.",
    _WORDS * 4,
    _WORDS * 40,
)
_CHAT: Final = [
    {"role": "user", "content": "How do I make tea?"},
    {"role": "assistant", "content": "Boil water, pour it over the leaves and wait."},
]


class VllmRewardModel(TokenRewardModel):
    """A reward model whose network vLLM runs.

    Args:
        own: The same checkpoint, loaded by this package; its network is not used any more.
        engine: vLLM's engine, a ``vllm.LLM``.
        version: vLLM's version.
    """

    def __init__(self, own: SequenceRewardModel, engine: Any, version: str) -> None:
        self.likelihood, self.tokenizer = own.likelihood, own.tokenizer
        self.max_length, self.reward_scale = own.max_length, own.reward_scale
        self.card = own.card
        self.backend = f"vllm {version}"
        self._vllm = engine

    @property
    def engine(self) -> Engine:
        """How texts are run: each text by itself, as far as this package can tell."""
        return Engine("padded", f"{self.backend} runs them, and shares prompts by its own cache")

    def raw_outputs_of_tokens(
        self, sequences: Sequence[Sequence[int]], batch_size: int = 16, **run: Unpack[Run]
    ) -> Tensor:
        """Compute raw outputs of token sequences; vLLM makes its own batches.

        Returns:
            Raw outputs in float32 of shape ``(B, K)``, on the CPU, in the order given.

        Raises:
            HiddenContextError: If vLLM answers with an error, or with other texts or shapes.
        """
        prompts = [{"prompt_token_ids": list(ids)} for ids in sequences]
        answers = self._vllm.encode(prompts, pooling_task="classify", use_tqdm=False)
        for ids, one in zip(sequences, answers, strict=True):
            error = getattr(one, "error", None)
            if error is not None or list(one.prompt_token_ids) != list(ids):
                raise HiddenContextError(
                    f"{self.backend} did not answer a text of {len(ids)} tokens: "
                    f"{error or 'it ran other tokens'}. Score without --backend vllm."
                )
        raw = torch.stack([one.outputs.data.float().cpu() for one in answers])
        if raw.shape != (len(sequences), self.head.num_outputs):
            raise HiddenContextError(
                f"{self.backend} gave outputs of shape {tuple(raw.shape[1:])} for each text, not "
                f"{self.head.num_outputs} numbers. Score without --backend vllm."
            )
        return raw

    def save_pretrained(self, path: str | Path) -> None:
        """Refuse to save, because vLLM holds the network."""
        raise ConfigError("a model that vLLM runs is not saved; load the checkpoint without it.")


def load_with_vllm(checkpoint: str, options: ModelOptions) -> VllmRewardModel:
    """Load a checkpoint with vLLM, and check that it gives the checkpoint's raw outputs.

    Our own network is run first and then dropped, so that the two are never in memory together.

    Args:
        checkpoint: Folder or hub id of a classifier.
        options: How it is loaded.

    Returns:
        The model.

    Raises:
        MissingDependencyError: If vLLM is not installed.
        ConfigError: If the checkpoint is not one classifier, or vLLM lacks the precision.
        CheckpointError: If vLLM cannot load it, or its outputs differ by more than ``ALLOWED``.
    """
    try:
        import vllm
        from vllm.config import PoolerConfig
    except ImportError as error:
        raise MissingDependencyError(
            f"--backend vllm needs vLLM ({error}); install it as its documentation says for your "
            "GPU, such as `pip install vllm`."
        ) from error
    if kind_of(checkpoint, options.revision) != "classifier":
        raise ConfigError(
            f"vLLM loads one network with its last layer, and {checkpoint} is not in this form. "
            f"Export it first: `hidden-context export {checkpoint} --output FOLDER`."
        )
    dtype = resolve_dtype(options.precision, resolve_device(options.device))
    if dtype not in ALLOWED:
        raise ConfigError(f"vLLM does not support --precision {options.precision}; name another.")
    own = load_model(checkpoint, options)
    assert isinstance(own, SequenceRewardModel)  # as classifiers are
    texts: list[Text] = [*_TEXTS, *([_CHAT] if own.tokenizer.chat_template else [])]
    sequences = [ids for ids in own.token_ids(texts) if ids]
    expected = own.raw_outputs_of_tokens(sequences, engine="padded")
    del own.module, own.runner
    gc.collect()
    torch.cuda.empty_cache()
    with as_checkpoint_error(
        f"vLLM {vllm.__version__} cannot load {checkpoint} ({{error}}). Score without "
        "--backend vllm."
    ):
        engine = vllm.LLM(
            model=checkpoint,
            runner="pooling",
            dtype=str(dtype).removeprefix("torch."),
            max_model_len=own.max_length,
            revision=options.revision,
            tokenizer=options.tokenizer_name,
            trust_remote_code=options.trust_remote_code,
            pooler_config=PoolerConfig(task="classify", use_activation=False),
        )
    model = VllmRewardModel(own, engine, vllm.__version__)
    check_parity(model.raw_outputs_of_tokens(sequences), expected, dtype, model.backend)
    return model


def check_parity(found: Tensor, expected: Tensor, dtype: torch.dtype, backend: str) -> float:
    """Compare a backend's raw outputs of a few texts with our own.

    Args:
        found: The backend's, of shape ``(N, K)``.
        expected: Ours.
        dtype: The precision of both.
        backend: The backend's name.

    Returns:
        The largest difference, in units of the spread of our output over the texts.

    Raises:
        CheckpointError: If it is more than ``ALLOWED``, or not a number.
    """
    spread = (expected.amax(0) - expected.amin(0)).clamp(min=torch.finfo(expected.dtype).tiny)
    worst = float(((found - expected).abs() / spread).max())
    allowed = ALLOWED[dtype]
    if not worst <= allowed:
        raise CheckpointError(
            f"{backend} gives other rewards than the checkpoint: on {len(expected)} texts an "
            f"output differs by {worst:.2g} of its spread, and in {str(dtype)[6:]} at most "
            f"{allowed:g} is rounding. Export the checkpoint (`hidden-context export`), which says "
            "that its outputs are no classes, name a finer --precision, or score without "
            "--backend vllm."
        )
    return worst
