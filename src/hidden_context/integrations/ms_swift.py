"""ms-swift: an outcome reward (``orms``) and a reward model plugin (``rm_plugins``) for GRPO."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from hidden_context.data.checks import NOWHERE
from hidden_context.data.dialogue import Conversation, Message
from hidden_context.data.example import Tools, read_tools
from hidden_context.errors import CheckpointError, DataError
from hidden_context.integrations.guard import GuardLike, check_guard
from hidden_context.integrations.reward import Batch, Unscored, score
from hidden_context.integrations.sources import LocalSource, Model, open_source
from hidden_context.models.checkpoint.contents import find_file
from hidden_context.models.checkpoint.head_file import HEAD_FILE, HeadFile
from hidden_context.models.checkpoint.likelihood_file import load_likelihood
from hidden_context.models.checkpoint.reference import load_reference
from hidden_context.models.network.modules import specialise_for_rewards
from hidden_context.models.network.tokenizer import length_limit, load_tokenizer
from hidden_context.models.sequence import SequenceRewardModel
from hidden_context.scoring.requests import Scorer


def reward_orm(
    model_or_url: Model,
    risk: str = "mean",
    *,
    name: str | None = None,
    annotator: str | None = None,
    unscored: Unscored = "error",
    guard: GuardLike = None,
) -> type:
    """Make a class for ``swift.rewards.orms``, whose name ``--reward_funcs`` takes.

    Args:
        model_or_url: A checkpoint, a ``RewardModel``, or the address of a server.
        risk: Name of the risk measure, such as ``cvar:0.05``.
        name: Name of one of a server's models.
        annotator: Whose rewards; None for the population's.
        unscored: A completion that cannot be scored stops the training (``error``), or has no
            reward (``none``), which ms-swift leaves out.
        guard: Warns, or stops with an error, where responses become more contested than the data:
            ``warn``, ``stop``, or a ``Guard``.

    Returns:
        The class.

    Raises:
        ConfigError: If there is a guard, but the model has no reference.
    """
    source = open_source(model_or_url, name=name, annotator=annotator)
    ask = partial(score, source, risk=risk, unscored=unscored, guard=check_guard(guard, source))

    class HiddenContextReward:
        """An outcome reward of completions; equal prompts are run once."""

        def __init__(self, args: Any = None, **_: Any) -> None:
            self.args = args

        def __call__(
            self,
            completions: Sequence[str],
            messages: Sequence[Sequence[Message]] | None = None,
            tools: Sequence[Any] | None = None,
            **_: Any,
        ) -> list[float | None]:
            if messages is None:
                raise DataError(
                    "ms-swift handed over no prompts",
                    field="messages",
                    remedy="Keep the column messages in the data set",
                )
            return _rewards(ask, messages, tools or [None] * len(messages))

    return HiddenContextReward


def reward_plugin(
    risk: str = "mean", *, unscored: Unscored = "error", guard: GuardLike = None
) -> type:
    """Make a class for ``swift.rewards.rm_plugins``, whose name ``--reward_model_plugin`` takes.

    ms-swift loads the checkpoint that ``--reward_model`` names, with all its outputs, and its own
    plugin reads the first of them. This plugin reads the outputs as a reward
    distribution, with the checkpoint's own chat template.

    Args:
        risk: Name of the risk measure, such as ``cvar:0.05``.
        unscored: What happens to a completion that cannot be scored (see ``reward_orm``).
        guard: What watches the responses (see ``reward_orm``).

    Returns:
        The class.
    """

    class HiddenContextPlugin:
        """A plugin that scores rows with the network that ms-swift has loaded."""

        def __init__(self, model: Any, template: Any = None) -> None:
            self.model, self.template = model, template
            source = LocalSource(Scorer(_reward_model(model)))
            own = check_guard(guard, source)
            self.ask = partial(score, source, risk=risk, unscored=unscored, guard=own)

        def __call__(self, inputs: Sequence[Mapping[str, Any]], **_: Any) -> list[float | None]:
            messages = [row["messages"] for row in inputs]
            return _rewards(self.ask, messages, [row.get("tools") for row in inputs])

    return HiddenContextPlugin


def _rewards(
    ask: Callable[..., Batch], messages: Sequence[Sequence[Message]], tools: Sequence[Any]
) -> list[float | None]:
    prompts: list[Conversation | None] = [list(turns[:-1]) for turns in messages]
    responses: list[Conversation] = [list(turns[-1:]) for turns in messages]
    read: list[Tools | None] = [
        read_tools({"tools": given}, list(turns), NOWHERE)
        for given, turns in zip(tools, messages, strict=True)
    ]
    batch = ask(prompts, responses, tools=read)
    return [None if item in batch.reasons else value for item, value in enumerate(batch.values)]


def _reward_model(module: Any) -> SequenceRewardModel:
    """Turn a classifier that another library has loaded into a reward model."""
    folder = str(getattr(module.config, "_name_or_path", ""))
    path = find_file(folder, HEAD_FILE, None) if folder else None
    if path is None:
        raise CheckpointError(
            f"{folder or 'the reward model'} has no {HEAD_FILE}, so nothing says how its outputs "
            "are read. Give --reward_model a checkpoint of hidden-context."
        )
    stored = HeadFile.load(path)
    if module.config.num_labels != stored.head.num_outputs:
        raise CheckpointError(
            f"{folder} has {stored.head.num_outputs} outputs, but was loaded with "
            f"{module.config.num_labels}."
        )
    specialise_for_rewards(module)
    tokenizer = load_tokenizer(folder)
    model = SequenceRewardModel(
        module.eval(),
        tokenizer,
        load_likelihood(folder, stored.head),
        length_limit(tokenizer, module.config, stored.max_length),
        base_model=stored.base_model,
        reward_scale=stored.reward_scale,
    )
    model.reference = load_reference(folder, model.head, model.readout)
    return model
