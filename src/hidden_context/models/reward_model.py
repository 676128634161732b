"""The public reward model: texts in, reward distributions out."""

from __future__ import annotations

import abc
import copy
import dataclasses
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import torch
from torch import Tensor

from hidden_context.data.dialogue import Conversation, join
from hidden_context.data.example import Example, ModelInput, Text, Tools
from hidden_context.data.labels import annotator_names, labels_of
from hidden_context.distributions import RewardDistribution
from hidden_context.errors import ConfigError, DataError, HiddenContextWarning
from hidden_context.heads import Head
from hidden_context.likelihood import AnnotatorNames, Likelihood, adapt
from hidden_context.models.checkpoint.card import model_card
from hidden_context.models.checkpoint.contents import LoadOptions
from hidden_context.models.checkpoint.head_file import HeadFile, RewardScale
from hidden_context.models.checkpoint.likelihood_file import save_likelihood
from hidden_context.models.checkpoint.reference import Reference
from hidden_context.models.engine.choose import Engine, Run
from hidden_context.models.network.precision import resolve_device, resolve_dtype

if TYPE_CHECKING:
    from typing_extensions import Unpack

OverLength: TypeAlias = Literal["truncate", "drop"]


@dataclasses.dataclass
class RawOutputs:
    """Raw outputs of B texts; some texts may have none.

    Attributes:
        raw: Float32 of shape ``(B, K)``, on the CPU; NaN in the rows of texts without reward.
        reasons: Why a text has no reward, or None.
        truncated: Number of texts whose beginning was cut.
        token_ids: What was run of each text (see ``RewardModel.token_ids``).
        refused: Places of texts without reward because the chat template refuses them.
        features: What the raw outputs were read from, where requested: float32 of shape
            ``(B, M, D)``, NaN in the rows of texts without reward.
    """

    raw: Tensor
    reasons: list[str | None]
    truncated: int = 0
    token_ids: Sequence[Any] = ()
    refused: Sequence[int] = ()
    features: Tensor | None = None


class RewardModel(abc.ABC):
    """A model that maps each text to a reward distribution.

    ``RewardModel.from_pretrained`` loads every kind; they differ in how they compute raw outputs.

    Attributes:
        likelihood: How raw outputs are read, and what was learned beside the network: annotators,
            thresholds between answers, the noise of ratings.
        tokenizer: The tokenizer, padding on the right.
        max_length: Longest text in tokens; longer ones lose their beginning, with a warning.
        base_model: Id or path of the backbone, for the records.
        reward_scale: Location and scale of rewards on the evaluation set, or None.
        card: Facts for the model card: ``data`` and ``metrics``.
        reference: What is usual among the texts of its data, or None (see ``Reference``).
    """

    likelihood: Likelihood
    tokenizer: Any
    max_length: int
    base_model: str | None = None
    reward_scale: RewardScale | None
    card: dict[str, Any]
    reference: Reference | None = None

    @property
    def head(self) -> Head:
        """The head that reads raw outputs."""
        return self.likelihood.head

    @staticmethod
    def from_pretrained(
        path_or_id: str | Path,
        head: Head | dict[str, Any] | str | None = None,
        base_model: str | None = None,
        dtype: str | torch.dtype = "auto",
        device: str | torch.device = "auto",
        *,
        max_length: int | None = None,
        tokenizer_name: str | None = None,
        revision: str | None = None,
        trust_remote_code: bool = False,
        reference: bool = True,
    ) -> RewardModel:
        """Load a reward model of any kind.

        These load: checkpoints of this package; PEFT adapters without ``reward_head.json``, such
        as the paper's own (name the head unless it is scalar); any sequence-classification reward
        model with one output (read as a scalar head); folders of a head on a frozen backbone, or
        of an ensemble of adapters.

        Args:
            path_or_id: Folder or hub id.
            head: The head, its type's name or its JSON form; None takes what the checkpoint says.
            base_model: Backbone of an adapter, instead of the one its configuration names.
            dtype: Precision of the backbone: ``auto`` is bfloat16 on a GPU that has it, else
                float32. The head is float32 always.
            device: ``auto`` takes the accelerator if there is one.
            max_length: Longest text in tokens, instead of what the checkpoint says.
            tokenizer_name: Tokenizer, instead of the checkpoint's or the backbone's.
            revision: Branch, tag or commit of a hub repository.
            trust_remote_code: Whether code from the repository may run.
            reference: Whether the checkpoint's reference is loaded too, if there is one.

        Returns:
            The model, in evaluation mode.

        Raises:
            MissingFileError: If a local path does not exist.
            CheckpointError: If the checkpoint cannot be read, or has another head or size.
        """
        from hidden_context.models.loading import load_reward_model

        place = resolve_device(device)
        precision = resolve_dtype(dtype, place)
        options = LoadOptions(
            *(head, base_model, precision, place),
            *(max_length, tokenizer_name, revision, trust_remote_code),
        )
        return load_reward_model(path_or_id, options, reference=reference)

    @abc.abstractmethod
    def try_raw_outputs(
        self,
        texts: Sequence[Text],
        batch_size: int = 16,
        over_length: OverLength = "truncate",
        **run: Unpack[Run],
    ) -> RawOutputs:
        """Compute raw outputs where possible, and give the reason where not.

        Args:
            texts: B texts, each a string or a list of chat messages, or a ``ModelInput`` of either.
            batch_size: Most texts of a padded forward pass.
            over_length: Whether texts longer than ``max_length`` lose their beginning or are left
                without a reward.
            **run: How texts are run (see ``Run``).

        Returns:
            Raw outputs of B texts, and why some have none.
        """

    @abc.abstractmethod
    def token_ids(
        self, texts: Sequence[Text], over_length: OverLength = "truncate"
    ) -> Sequence[Any]:
        """Tokenize texts as ``try_raw_outputs`` does; raw outputs depend only on the token ids.

        Args:
            texts: B texts (see ``try_raw_outputs``).
            over_length: What happens to texts longer than ``max_length``.

        Returns:
            For each text its token ids, or one list for each part that is run by itself; None
            where a text is left without a reward.
        """

    def check_rows(  # noqa: B027 - most models read whole texts
        self, rows: Sequence[Sequence[Text]], source: str | Path | None = None
    ) -> None:
        """Raise an error if the model cannot tell the texts of most rows apart.

        Args:
            rows: The texts of each row, one or more.
            source: Where they come from, for the error.

        Raises:
            DataError: If the model reads parts of texts, and these parts are the same in most rows.
        """

    @property
    @abc.abstractmethod
    def engine(self) -> Engine:
        """The engine that ran the last texts, and the reason for it."""

    def raw_outputs(
        self, texts: Sequence[Text], batch_size: int = 16, **run: Unpack[Run]
    ) -> Tensor:
        """Compute raw outputs; a text that is too long loses its beginning, with a warning.

        Args:
            texts: B texts, each a string or a list of chat messages, or a ``ModelInput`` of either.
            batch_size: Most texts of a padded forward pass.
            **run: How texts are run: ``engine`` and ``tokens_per_batch`` (see ``Run``).

        Returns:
            Raw outputs in float32 of shape ``(B, K)``, on the CPU.

        Raises:
            DataError: If a text has no tokens.
        """
        if isinstance(texts, str):
            raise ConfigError("texts must be a list; put a single text into a list.")
        outputs = self.try_raw_outputs(texts, batch_size, **run)
        if outputs.truncated:
            warnings.warn(
                f"texts longer than {self.max_length} tokens: {outputs.truncated} of {len(texts)}; "
                "their beginnings were cut.",
                HiddenContextWarning,
                stacklevel=2,
            )
        for index, reason in enumerate(outputs.reasons):
            if reason is not None:
                raise DataError(f"text {index} cannot be scored: {reason}")
        return outputs.raw

    def readout(self) -> Tensor:
        """Return the weights ``(P,)`` that read rewards from features; they identify the model."""
        raise ConfigError(f"{type(self).__name__} has no features, so it cannot have a reference.")

    def compile(self) -> None:
        """Compile the backbone with ``torch.compile``, where that is known to work."""
        raise ConfigError("--compile does not work with this kind of model; leave --compile out.")

    @abc.abstractmethod
    def save_pretrained(self, path: str | Path) -> None:
        """Write the whole model to a folder, which is replaced only once everything is written.

        Raises:
            StorageError: If it could not be written; an earlier folder is untouched.
        """

    def write_beside(self, folder: str | Path) -> None:
        """Write the files beside the network: tokenizer, head, likelihood and reference."""
        self.tokenizer.save_pretrained(str(folder))
        HeadFile(self.head, self.max_length, self.base_model, self.reward_scale).save(folder)
        save_likelihood(folder, self.likelihood)
        if self.reference is not None:
            self.reference.save(folder)

    def write_card(self, folder: Path) -> None:
        """Write the model card."""
        text = model_card(
            self.likelihood, base_model=self.base_model, max_length=self.max_length, **self.card
        )
        (folder / "README.md").write_text(text, encoding="utf-8")

    def score(
        self,
        texts: Sequence[Text],
        batch_size: int = 16,
        *,
        annotator: str | int | None = None,
        **run: Unpack[Run],
    ) -> RewardDistribution:
        """Compute the reward distribution of each text.

        Args:
            texts: B texts, each a string or a list of chat messages, or a ``ModelInput`` of either.
            batch_size: Most texts of a padded forward pass.
            annotator: Whose rewards, for models that know annotators; None for the population's.
                An annotator who was never seen gets the population's too.
            **run: How texts are run: ``engine`` and ``tokens_per_batch`` (see ``Run``).

        Returns:
            A distribution of batch shape ``(B,)``, in reward units.

        Raises:
            ConfigError: If an annotator is named and the model knows none.
        """
        rewards = self.head.distribution(self.raw_outputs(texts, batch_size, **run))
        return rewards if annotator is None else self.likelihood.rewards_of(rewards, annotator)

    def score_responses(
        self,
        prompt: Conversation,
        responses: Sequence[Conversation],
        batch_size: int = 16,
        *,
        annotator: str | int | None = None,
        tools: Tools | None = None,
        **run: Unpack[Run],
    ) -> RewardDistribution:
        """Score several responses to one prompt, which is run once for all of them (best-of-n).

        Args:
            prompt: A string (``Human:``/``Assistant:`` dialogues are joined in their own spelling)
                or chat messages.
            responses: n responses.
            batch_size: Most texts of a padded forward pass.
            annotator: Whose rewards (see ``score``).
            tools: Tools that the chat template is told of, as JSON schemas.
            **run: How texts are run (see ``Run``). ``tokens_per_batch`` bounds the memory whatever
                n is; the prompt is run once for each pass.

        Returns:
            A distribution of batch shape ``(n,)``.
        """
        chat = join(prompt, [])
        texts = [
            ModelInput(text, prompt if isinstance(text, str) else chat, tools)
            for text in (join(prompt, response) for response in responses)
        ]
        return self.score(texts, batch_size, annotator=annotator, **run)

    def adapt(
        self,
        examples: Sequence[Example],
        covariates: Mapping[str, Mapping[str, str | float]] | None = None,
    ) -> RewardModel:
        """Learn new annotators from a few of their judgements, at the cost of one forward pass.

        The network and everything else that was learned do not change (see ``likelihood.adapt``).

        Args:
            examples: Examples with judgements by the new people, named in the column that training
                named annotators by.
            covariates: What else is known of the people, by name; an annotator without judgements
                starts from similar people.

        Returns:
            The same model, whose ``annotator`` is one of the new people and nobody else.

        Raises:
            ConfigError: If the model was trained without annotators or covariates.
            DataError: If nobody is named.
        """
        column = self.likelihood.options.column
        names = sorted({*annotator_names(examples, column), *map(str, covariates or ())})
        if not names:
            raise DataError(
                "no judgement names an annotator", field=column, remedy="Name the annotators"
            )
        levels = self.likelihood.options.levels
        labels = labels_of(examples, AnnotatorNames(names).index, column, levels)
        raw = self.raw_outputs([text for example in examples for text in example.inputs])
        people = None if covariates is None else [covariates.get(name, {}) for name in names]
        adapted = copy.copy(self)
        adapted.likelihood = adapt(self.likelihood, raw, labels, names, people)
        return adapted
