"""Ensembles of adapters: several LoRA adapters, each with its own head, on one backbone."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import torch
from torch import Tensor

from hidden_context.data.storage.files import write_json
from hidden_context.errors import CheckpointError, ConfigError
from hidden_context.likelihood import Likelihood
from hidden_context.likelihood.single import members_of
from hidden_context.models.checkpoint import contents
from hidden_context.models.checkpoint.head_file import HEAD_FILE, HeadFile, agreed_head
from hidden_context.models.checkpoint.likelihood_file import load_likelihood
from hidden_context.models.engine.choose import Run
from hidden_context.models.network.adapters import add_adapter, load_adapter
from hidden_context.models.network.tokenizer import length_limit, load_tokenizer
from hidden_context.models.sequence import SequenceRewardModel

if TYPE_CHECKING:
    from typing_extensions import Unpack

_FORMAT: Final = 1


def adapter_name(number: int) -> str:
    """Return the name of a member's adapter in the PEFT model.

    All names have the same length, because PEFT finds the adapter of a weight by searching the
    weight's name for the adapter's name.
    """
    return f"member_{number:04d}"


class AdapterEnsembleRewardModel(SequenceRewardModel):
    """Ensemble of M adapters on one backbone, with their raw outputs side by side.

    The backbone is in memory once; texts are run once for each member. Folder format:
    ``adapter_ensemble.json`` (the members' folders), a folder for each member (``member_0``, …)
    that is an ordinary PEFT checkpoint and loads by itself, ``reward_head.json`` with the ensemble
    head, what was learned beside the network, the tokenizer, and a model card.

    Args:
        module: A PEFT model with the adapters ``adapter_name(0)`` to ``adapter_name(M - 1)``.
        tokenizer: Its tokenizer.
        likelihood: The ensemble's likelihood.
        max_length: Longest text in tokens.
        **records: What the base class keeps for the records.

    Raises:
        ConfigError: If the head is not an ensemble's, or the module lacks its adapters.
    """

    def __init__(
        self,
        module: Any,
        tokenizer: Any,
        likelihood: Likelihood,
        max_length: int,
        **records: Any,
    ) -> None:
        head = likelihood.head
        self.adapters = [adapter_name(number) for number in range(head.num_members)]
        if not self.adapters or set(self.adapters) != set(module.peft_config):
            raise ConfigError(
                f"an ensemble of adapters needs an ensemble head (found {head.type}), and a PEFT "
                f"model with one adapter per member (found {', '.join(module.peft_config)})."
            )
        self.member = head.member
        super().__init__(module, tokenizer, likelihood, max_length, **records)
        self.activate(0)

    def activate(self, number: int) -> None:
        """Switch the module to one member's adapter and head."""
        self.module.set_adapter(self.adapters[number])
        self.module.requires_grad_(False)  # PEFT takes what is active for what is to be trained

    @property
    def network_outputs(self) -> int:
        """Number of raw outputs of one member."""
        return self.member.num_outputs

    def run_tokens(
        self,
        sequences: Sequence[Sequence[int]],
        batch_size: int = 16,
        *,
        with_features: bool = False,
        **run: Unpack[Run],
    ) -> tuple[Tensor, Tensor | None]:
        """Compute raw outputs ``(B, M K)`` of token sequences (see the base class).

        All members run with the same engine, which is tested on the first member.
        """
        run_one = partial(super().run_tokens, sequences, batch_size, with_features=with_features)
        found = []
        for number in range(len(self.adapters)):
            self.activate(number)
            found.append(run_one(**run))
        raws, features = zip(*found, strict=True)
        return torch.cat(raws, dim=-1), torch.cat(features, dim=1) if with_features else None

    def save_pretrained(self, path: str | Path) -> None:
        """Write every member, the ensemble's head, tokenizer and card (see the base class)."""
        members = [f"member_{number}" for number in range(len(self.adapters))]
        with contents.replace_folder(path) as folder:
            self.module.save_pretrained(str(folder), selected_adapters=self.adapters)
            for number, (adapter, member) in enumerate(zip(self.adapters, members, strict=True)):
                (folder / adapter).rename(folder / member)
                self._complete_member(folder / member, number)
            write_json(folder / contents.ENSEMBLE_CONFIG, {"format": _FORMAT, "members": members})
            self.write_beside(folder)
            self.write_card(folder)

    def _complete_member(self, folder: Path, number: int) -> None:
        """Complete a member's folder, so that it loads as a reward model by itself."""
        data = {"part": f"member {number} of an ensemble of {len(self.adapters)}"}
        member = SequenceRewardModel(
            self.module,
            self.tokenizer,
            members_of(self.likelihood)[number],
            self.max_length,
            base_model=self.base_model,
            card={"data": data | self.card.get("data", {})},
        )
        member.write_beside(folder)
        member.write_card(folder)

    @classmethod
    def load(cls, folder: str | Path, options: contents.LoadOptions) -> AdapterEnsembleRewardModel:
        """Load an ensemble from its folder, in evaluation mode.

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
                f"{folder}: {len(members)} members, but the {stored.head.type} head in {HEAD_FILE} "
                f"has {stored.head.num_members or 1}; the checkpoint is damaged."
            )
        ensemble = agreed_head(str(folder), options.head, stored.head)
        base = options.base_model or _common_base(members)
        remote = options.trust_remote_code
        source = {"revision": None, "trust_remote_code": remote}
        first, *others = map(str, members)
        module, member = load_adapter(
            first, base, ensemble.member, options.dtype, source, adapter_name(0)
        )
        for number, part in enumerate(others, 1):
            add_adapter(module, part, base, member, adapter_name(number))
        tokenizer = load_tokenizer(options.tokenizer_name or str(folder), trust_remote_code=remote)
        limit = options.max_length or stored.max_length
        return cls(
            module.to(options.device).eval(),
            tokenizer,
            load_likelihood(folder, ensemble),
            length_limit(tokenizer, module.config, limit),
            base_model=stored.base_model or base,
            reward_scale=stored.reward_scale,
        )


def _common_base(members: Sequence[Path]) -> str:
    """Return the backbone that all members name."""
    bases = {contents.adapter_base(str(member)) for member in members}
    if len(bases) > 1:
        raise CheckpointError(
            f"the members in {members[0].parent} name different backbones "
            f"({', '.join(sorted(bases))}), but an ensemble has one backbone; give base_model "
            "(--base_model)."
        )
    return bases.pop()


def _member_folders(folder: Path) -> list[Path]:
    """Read the folders of an ensemble's members."""
    path = folder / contents.ENSEMBLE_CONFIG
    content = contents.read_checkpoint_json(path)
    contents.check_format(path, content.get("format"), _FORMAT)
    names = content.get("members")
    if not isinstance(names, list) or not names:
        raise CheckpointError(f"{path} names no members; it is damaged.")
    members = [folder / str(name) for name in names]
    for member in members:
        if not (member / contents.ADAPTER_CONFIG).is_file():
            raise CheckpointError(
                f"{member} has no adapter; {folder} is incomplete. Copy or train it again."
            )
    return members
