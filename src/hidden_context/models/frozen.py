"""Reward models whose backbone is frozen: cached features, and a small trained head on them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

from hidden_context.data.dialogue import is_blank
from hidden_context.data.example import Text, as_input
from hidden_context.data.storage.files import write_json
from hidden_context.errors import CheckpointError, ConfigError, DataError, in_one_line
from hidden_context.heads import Head
from hidden_context.likelihood import Likelihood
from hidden_context.models.checkpoint import contents
from hidden_context.models.checkpoint.head_file import HEAD_FILE, HeadFile, RewardScale, agreed_head
from hidden_context.models.checkpoint.likelihood_file import load_likelihood
from hidden_context.models.engine.choose import Engine, Run, check_engine
from hidden_context.models.featurizer import Featurizer, FeaturizerOptions
from hidden_context.models.network.tokenizer import load_tokenizer
from hidden_context.models.reward_model import OverLength, RawOutputs, RewardModel

if TYPE_CHECKING:
    from typing_extensions import Unpack

_FORMAT: Final = 2
# Probes of the first format have no linear part.
_FORMAT_WITHOUT_LINEAR: Final = 1


class Probe(nn.Module):
    r"""A linear reward on features, plus small networks that learn the remainder.

    .. math:: \text{raw}(x) = \text{start} + \text{slope}\cdot x + \text{network}(x)

    on standardised features x. The linear part is fitted first and then fixed; without one it is 0.
    The members are several networks, trained separately from different starts. Their raw outputs
    are averaged, or, for an ensemble head, stand side by side.

    Args:
        num_features: Width D of the features.
        head: The head that reads the raw outputs.
        options: The shape; an ensemble head has as many members as the probe.
    """

    def __init__(self, num_features: int, head: Head, options: ProbeOptions) -> None:
        super().__init__()
        self.register_buffer("location", torch.zeros(num_features))
        self.register_buffer("scale", torch.ones(num_features))
        self.register_buffer("slope", torch.zeros(head.num_outputs, num_features))
        self.register_buffer("start", torch.zeros(head.num_outputs))
        self.head, self.options = head, options
        if head.num_members and head.num_members != options.members:
            raise ConfigError(
                f"the probe has {options.members} members, but the ensemble head has "
                f"{head.num_members}; give both the same number."
            )
        scales = head.output_scales[: head.member.num_outputs]
        self.members = nn.ModuleList(
            _member(num_features, scales, options.hidden, options.dropout)
            for _ in range(options.members)
        )

    def standardise(self, features: Tensor, counts: Tensor | None = None) -> None:
        """Set location and scale from training features.

        Args:
            features: Of shape ``(N, D)``.
            counts: How often each counts, of shape ``(N,)``; None for once.
        """
        share = torch.ones(len(features)) if counts is None else counts.to(features)
        share = (share / share.sum()).to(features).unsqueeze(1)
        self.location = (share * features).sum(0)
        variance = (share * (features - self.location).square()).sum(0)
        self.scale = variance.sqrt().clamp(min=1e-6)

    def forward(self, features: Tensor) -> Tensor:
        """Map features ``(…, D)`` to raw outputs ``(…, K)``: the members' mean, or all members'."""
        return self.raw_of_standardised(self.standardised(features))

    def raw_of_standardised(self, standardised: Tensor) -> Tensor:
        """Map features that are standardised already, ``(…, D)``, to raw outputs ``(…, K)``."""
        each = [member(standardised) for member in self.members]
        learned = torch.cat(each, -1) if self.head.num_members else torch.stack(each).mean(0)
        slope, start = self.get_buffer("slope"), self.get_buffer("start")
        return functional.linear(standardised, slope, start) + learned

    def standardised(self, features: Tensor) -> Tensor:
        """Standardise features and cut them at ±8, so that no outlier dominates a reward."""
        return ((features - self.location) / self.scale).clamp(-8, 8)


def _member(
    num_features: int, output_scales: Sequence[float], hidden: int, dropout: float
) -> nn.Sequential:
    output = nn.Linear(hidden or num_features, len(output_scales))
    with torch.no_grad():
        output.weight.mul_(torch.tensor(output_scales).unsqueeze(1))
        output.bias.zero_()
    if not hidden:
        return nn.Sequential(nn.Dropout(dropout), output)
    return nn.Sequential(nn.Linear(num_features, hidden), nn.ReLU(), nn.Dropout(dropout), output)


@dataclasses.dataclass(frozen=True)
class ProbeOptions:
    """Shape of the trained part.

    Args:
        hidden: Width of the hidden layer; 0 for a linear probe.
        dropout: Dropout of the hidden layer, or of the features of a linear probe.
        members: Number of networks whose raw outputs are averaged, or stand side by side.
    """

    hidden: int = 64
    dropout: float = 0.5
    members: int = 5

    def __post_init__(self) -> None:
        if self.hidden < 0 or self.members < 1 or not 0 <= self.dropout < 1:
            raise ConfigError(
                f"the probe's options cannot work: hidden is {self.hidden} and must be ≥ 0, "
                f"members is {self.members} and must be ≥ 1, dropout is {self.dropout} and must be "
                "in [0, 1)."
            )


class FrozenRewardModel(RewardModel):
    """A probe on the features of a frozen backbone; its folder holds only the probe.

    Folder format: ``frozen_backbone.json`` (backbone, revision, features, probe), the weights in
    ``probe.safetensors``, ``reward_head.json``, the tokenizer, and a model card.

    Args:
        featurizer: Computes the features.
        probe: Maps them to raw outputs.
        likelihood: How raw outputs are read, and what was learned beside the probe.
        reward_scale: Location and scale of rewards on the evaluation set.
        card: Facts for the model card.
    """

    def __init__(
        self,
        featurizer: Featurizer,
        probe: Probe,
        likelihood: Likelihood,
        *,
        reward_scale: RewardScale | None = None,
        card: dict[str, Any] | None = None,
    ) -> None:
        self.featurizer, self.probe, self.likelihood = featurizer, probe, likelihood
        self.reward_scale, self.card = reward_scale, card or {}
        self.tokenizer, self.max_length = featurizer.tokenizer, featurizer.limit
        self.base_model = featurizer.backbone

    @property
    def engine(self) -> Engine:
        """The engine, which is always ``padded``."""
        return Engine("padded", "features of a frozen backbone pool each turn by itself")

    def try_raw_outputs(
        self,
        texts: Sequence[Text],
        batch_size: int = 16,
        over_length: OverLength = "truncate",
        *,
        with_features: bool = False,
        **run: Unpack[Run],
    ) -> RawOutputs:
        """Compute raw outputs (see the base class); lengths count the tokens that are embedded.

        ``with_features`` keeps the backbone's features, which the probe standardises.
        """
        engine = run.get("engine", "auto")
        check_engine(engine)
        if engine not in ("auto", "padded"):
            raise ConfigError(
                f"--engine {engine} does not work with this model: {self.engine.reason}. Use "
                "--engine auto or --engine padded."
            )
        limit = self.featurizer.limit
        token_ids = self.token_ids(texts, over_length)
        counts = map(self.featurizer.length, texts, token_ids)
        reasons: list[str | None] = [None] * len(texts)
        truncated, refused = 0, list[int]()
        for index, (text, count) in enumerate(zip(texts, counts, strict=True)):
            if isinstance(count, DataError):
                reasons[index] = count.problem
                refused.append(index)
            elif is_blank(as_input(text).conversation):
                reasons[index] = "it has no text"
            elif count > limit and over_length == "drop":
                reasons[index] = f"it has {count} tokens, more than {limit}"
            else:
                truncated += count > limit
        raw = torch.full((len(texts), self.head.num_outputs), torch.nan)
        scored = [index for index, reason in enumerate(reasons) if reason is None]
        kept = None
        if with_features:
            kept = torch.full((len(texts), 1, len(self.probe.get_buffer("location"))), torch.nan)
        if scored:
            features = self.featurizer.features([texts[index] for index in scored], batch_size)
            self.probe.eval()
            with torch.inference_mode():
                raw[scored] = self.probe(features)
            if kept is not None:
                kept[scored, 0] = features
        return RawOutputs(raw, reasons, truncated, token_ids, refused, kept)

    def readout(self) -> Tensor:
        """Return the weights of the probe's linear part and of its members' last layers."""
        weights = [self.probe.get_buffer("slope")]
        for member in self.probe.members:
            assert isinstance(member, nn.Sequential)
            weights.append(member[-1].get_parameter("weight").detach())
        return torch.cat([weight.float().cpu().flatten() for weight in weights])

    def token_ids(
        self, texts: Sequence[Text], over_length: OverLength = "truncate"
    ) -> Sequence[Any]:
        """Tokenize each text's parts, before any is cut or left out (see the base class)."""
        return self.featurizer.token_ids(texts)

    def check_rows(self, rows: Sequence[Sequence[Text]], source: str | Path | None = None) -> None:
        """Raise an error if features cannot tell the responses of most rows apart."""
        self.featurizer.check(rows, source)

    def save_pretrained(self, path: str | Path) -> None:
        """Write probe, head, tokenizer and card (see the base class)."""
        with contents.replace_folder(path) as folder:
            save_file(
                {name: value.contiguous() for name, value in self.probe.state_dict().items()},
                str(folder / contents.PROBE_WEIGHTS),
            )
            content = {
                "format": _FORMAT,
                "backbone": self.featurizer.backbone,
                **self.featurizer.source,
                "features": dataclasses.asdict(self.featurizer.options),
                "num_features": int(self.probe.get_buffer("location").numel()),
                "probe": dataclasses.asdict(self.probe.options),
            }
            write_json(folder / contents.FROZEN_CONFIG, content)
            self.write_beside(folder)
            self.write_card(folder)

    @classmethod
    def load(cls, folder: str | Path, options: contents.LoadOptions) -> FrozenRewardModel:
        """Load a model from its folder; the backbone's weights are loaded when first needed.

        ``max_length`` can only shorten the limit that the model was trained with.

        Raises:
            CheckpointError: If files are missing or damaged, or of a later version.
        """
        folder = Path(folder)
        if not all((folder / name).is_file() for name in (contents.PROBE_WEIGHTS, HEAD_FILE)):
            raise CheckpointError(f"{folder}: {contents.PROBE_WEIGHTS} or {HEAD_FILE} is missing.")
        content = contents.read_checkpoint_json(folder / contents.FROZEN_CONFIG)
        stored = HeadFile.load(folder / HEAD_FILE)
        with contents.as_checkpoint_error(
            f"{folder} is no complete frozen-backbone reward model ({{error}}).", in_one_line
        ):
            contents.check_format(folder, content["format"], _FORMAT_WITHOUT_LINEAR, _FORMAT)
            if content["trust_remote_code"] and not options.trust_remote_code:
                raise CheckpointError(
                    f"{folder}: its backbone runs code from its own repository; allow it with "
                    "trust_remote_code=True (--trust_remote_code) if you trust it."
                )
            features = FeaturizerOptions(**content["features"])
            if options.max_length is not None:
                shorter = min(options.max_length, features.max_length)
                features = dataclasses.replace(features, max_length=shorter)
            probe = Probe(content["num_features"], stored.head, ProbeOptions(**content["probe"]))
            weights = load_file(str(folder / contents.PROBE_WEIGHTS))
            if content["format"] == _FORMAT_WITHOUT_LINEAR:
                weights |= {name: probe.get_buffer(name) for name in ("slope", "start")}
            probe.load_state_dict(weights)
        featurizer = Featurizer(
            options.base_model or content["backbone"],
            features,
            dtype=options.dtype,
            device=options.device,
            revision=content["revision"],
            trust_remote_code=options.trust_remote_code,
            tokenizer=load_tokenizer(str(folder)),
        )
        return cls(
            featurizer,
            probe.eval(),
            load_likelihood(folder, agreed_head(str(folder), options.head, stored.head)),
            reward_scale=stored.reward_scale,
        )
