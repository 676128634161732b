"""Ensembles of adapters: several LoRA adapters, each with its own head, on one backbone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from hidden_context.data.files import write_json
from hidden_context.errors import CheckpointError, ConfigError
from hidden_context.heads import Head
from hidden_context.likelihood import Likelihood
from hidden_context.models.adapters import (
    adapter_base,
    adapter_shapes,
    add_adapter,
    head_of_adapter,
    load_adapter,
)
from hidden_context.models.card import model_card
from hidden_context.models.contents import ADAPTER_CONFIG, ENSEMBLE_CONFIG
from hidden_context.models.engine.choose import EngineName
from hidden_context.models.ensemble import combine
from hidden_context.models.folders import replace_folder
from hidden_context.models.head_file import (
    HEAD_FILE,
    HeadFile,
    RewardScale,
    agreed_head,
    read_checkpoint_json,
)
from hidden_context.models.likelihood_file import load_likelihood, members_of, save_likelihood
from hidden_context.models.sequence import SequenceRewardModel
from hidden_context.models.tokenizer import length_limit, load_tokenizer

_FORMAT: Final = 1


def adapter_name(number: int) -> str:
    """Name of a member within the PEFT model.

    All are equally long: PEFT finds a weight's adapter by looking for the name in the weight's.
    """
    return f"member_{number:04d}"


class AdapterEnsembleRewardModel(SequenceRewardModel):
    """M adapters on one backbone, whose raw outputs stand side by side.

    The backbone is in memory once; texts are run once for each member. Folder format:
    ``adapter_ensemble.json`` (the members' folders), a folder for each member (``member_0``, …)
    that is an ordinary PEFT checkpoint and loads by itself, ``reward_head.json`` with the ensemble
    head, what was learned beside the network, the tokenizer, and a model card.

    Args:
        module: A PEFT model with the adapters ``adapter_name(0)`` to ``adapter_name(M - 1)``.
        tokenizer: Its tokenizer.
        likelihood: The ensemble's likelihood.
        max_length: Longest text in tokens.
        base_model: Id or path of the backbone, for the records.
        reward_scale: Location and scale of rewards on the evaluation set.
        card: Facts for the model card (data, metrics).

    Raises:
        ConfigError: If the head is not an ensemble's, or the module has not its adapters.
    """

    def __init__(
        self,
        module: Any,
        tokenizer: Any,
        likelihood: Likelihood,
        max_length: int,
        *,
        base_model: str | None = None,
        reward_scale: RewardScale | None = None,
        card: dict[str, Any] | None = None,
    ) -> None:
        head = likelihood.head
        self.adapters = [adapter_name(number) for number in range(head.num_members)]
        if not self.adapters or set(self.adapters) != set(module.peft_config):
            raise ConfigError(
                f"an ensemble of adapters needs an ensemble head, not a {head.type} one, and a "
                f"PEFT model with an adapter for each member, not {', '.join(module.peft_config)}."
            )
        self.member = head.member
        super().__init__(
            module,
            tokenizer,
            likelihood,
            max_length,
            base_model=base_model,
            reward_scale=reward_scale,
            card=card,
        )
        self.activate(0)

    def activate(self, number: int) -> None:
        """Let the module run with one member's adapter and head."""
        self.module.set_adapter(self.adapters[number])
        self.module.requires_grad_(False)  # PEFT takes what is active for what is to be trained

    def run_tokens(
        self,
        sequences: Sequence[Sequence[int]],
        batch_size: int = 16,
        *,
        engine: EngineName = "auto",
        tokens_per_batch: int | None = None,
        with_features: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """Compute raw outputs ``(B, M K)`` of token sequences (see the base class).

        All members are run the same way, which is tried with the first one.
        """
        found = []
        for number in range(len(self.adapters)):
            self.activate(number)
            outputs = self.member.num_outputs
            found.append(
                self._run_network(
                    sequences, outputs, batch_size, engine, tokens_per_batch, with_features
                )
            )
        features = [vectors for _, vectors in found if vectors is not None]
        return combine((raw for raw, _ in found), self.head), (
            torch.cat(features, dim=1) if features else None
        )

    def save_pretrained(self, path: str | Path) -> None:
        """Write every member, the ensemble's head, tokenizer and card (see the base class)."""
        members = [f"member_{number}" for number in range(len(self.adapters))]
        with replace_folder(path) as folder:
            self.module.save_pretrained(str(folder), selected_adapters=self.adapters)
            for number, (adapter, member) in enumerate(zip(self.adapters, members, strict=True)):
                (folder / adapter).rename(folder / member)
                self._complete_member(folder / member, number)
            write_json(folder / ENSEMBLE_CONFIG, {"format": _FORMAT, "members": members})
            self.tokenizer.save_pretrained(str(folder))
            self.write_head_file(folder)
            (folder / "README.md").write_text(self.card_text(), encoding="utf-8")

    def _complete_member(self, folder: Path, number: int) -> None:
        """Put beside a member's weights what makes it a reward model by itself."""
        HeadFile(self.member, self.max_length, self.base_model).save(folder)
        likelihood = members_of(self.likelihood)[number]
        save_likelihood(folder, likelihood)
        self.tokenizer.save_pretrained(str(folder))
        data = {"part": f"member {number} of an ensemble of {len(self.adapters)}"}
        text = model_card(
            likelihood,
            base_model=self.base_model,
            max_length=self.max_length,
            data=data | self.card.get("data", {}),
        )
        (folder / "README.md").write_text(text, encoding="utf-8")

    @classmethod
    def load(
        cls,
        folder: str | Path,
        *,
        head: Head | dict[str, Any] | str | None = None,
        base_model: str | None = None,
        dtype: torch.dtype = torch.float32,
        device: torch.device | None = None,
        max_length: int | None = None,
        tokenizer_name: str | None = None,
        trust_remote_code: bool = False,
    ) -> AdapterEnsembleRewardModel:
        """Load an ensemble from its folder.

        Args:
            folder: The folder.
            head: The ensemble's head, its type's name or JSON form; None for what the folder says.
            base_model: Backbone, instead of the one the members name.
            dtype: Precision of the backbone.
            device: Where the model runs; None for the CPU.
            max_length: Longest text in tokens, instead of what the folder says.
            tokenizer_name: Tokenizer, instead of the folder's.
            trust_remote_code: Whether code from the backbone's repository may run.

        Returns:
            The model, in evaluation mode.

        Raises:
            CheckpointError: If files are missing or damaged, of a later version, or do not fit.
        """
        folder = Path(folder)
        members = _member_folders(folder)
        if not (folder / HEAD_FILE).is_file():
            raise CheckpointError(f"{folder}: {HEAD_FILE} is missing.")
        stored = HeadFile.load(folder / HEAD_FILE)
        if stored.head.num_members != len(members):
            raise CheckpointError(
                f"{folder} has {len(members)} members, but {HEAD_FILE} a {stored.head.type} head "
                f"of {stored.head.num_members or 1}; the checkpoint is damaged."
            )
        ensemble = agreed_head(str(folder), head, stored.head)
        member = ensemble.member
        base = base_model or _common_base(members)
        module: Any = None
        for number, part in enumerate(members):
            shapes = adapter_shapes(str(part))
            head_of_adapter(str(part), member, shapes)
            if module is None:
                options = {"revision": None, "trust_remote_code": trust_remote_code}
                module = load_adapter(
                    str(part), base, member, shapes, dtype, options, adapter_name(number)
                )
            else:
                add_adapter(module, str(part), base, shapes, adapter_name(number))
        tokenizer = load_tokenizer(
            tokenizer_name or str(folder), trust_remote_code=trust_remote_code
        )
        return cls(
            module.to(device).eval(),
            tokenizer,
            load_likelihood(folder, ensemble),
            length_limit(tokenizer, module.config, max_length or stored.max_length),
            base_model=stored.base_model or base,
            reward_scale=stored.reward_scale,
        )


def _common_base(members: Sequence[Path]) -> str:
    """Return the backbone that all members name."""
    bases = {adapter_base(str(member)) for member in members}
    if len(bases) > 1:
        raise CheckpointError(
            f"the members in {members[0].parent} name several backbones ({', '.join(sorted(bases))}"
            "), but share one; give base_model (--base_model)."
        )
    return bases.pop()


def _member_folders(folder: Path) -> list[Path]:
    """Read where the members lie."""
    content = read_checkpoint_json(folder / ENSEMBLE_CONFIG)
    if content.get("format") != _FORMAT:
        raise CheckpointError(
            f"{folder / ENSEMBLE_CONFIG} has format {content.get('format')}, this package reads "
            f"{_FORMAT}; upgrade hidden-context."
        )
    names = content.get("members")
    if not isinstance(names, list) or not names:
        raise CheckpointError(f"{folder / ENSEMBLE_CONFIG} names no members; it is damaged.")
    members = [folder / str(name) for name in names]
    for member in members:
        if not (member / ADAPTER_CONFIG).is_file():
            raise CheckpointError(
                f"{member} holds no adapter, so the ensemble {folder} is not complete."
            )
    return members
