"""A guard against over-optimisation: are a policy's responses more contested than the data?

Of the data's texts, 5 % lie above the 95th percentile of the model's reference. The guard counts
how many of a policy's latest responses lie above it, and raises an alarm when their share is surely
above a bound.
"""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Any, Final, Literal, TypeAlias, get_args

from scipy.special import betaincinv

from hidden_context.errors import ConfigError
from hidden_context.models.checkpoint.reference import QUANTITIES, Quantity

Action: TypeAlias = Literal["warn", "stop"]

USUAL: Final = 0.95
"""Percentile of the reference above which a value is unusual: 5 % of the data's own are."""

_WORDS: Final[Mapping[Quantity, str]] = {
    "sigma": "a reward whose standard deviation is above",
    "disagreement": "a disagreement among the responses to their prompt above",
    "distance": "a distance to the training texts above",
}
_REMEDY: Final = (
    "Read some of these responses. Stop earlier, raise the weight of the KL term, or take a more "
    "cautious risk measure; where prompts are meant to be unlike the data, raise the guard's bound"
)


@dataclass(frozen=True)
class Seen:
    """Percentiles of the responses to one prompt in the reference.

    Attributes:
        prompt: Identifies the prompt: responses to one prompt are alike.
        sigma: Percentiles of their rewards' standard deviations, in [0, 1].
        distance: Percentiles of their distances, in [0, 1].
        disagreement: Percentile of the disagreement among them; NaN of a single one.
    """

    prompt: str
    sigma: Sequence[float]
    distance: Sequence[float]
    disagreement: float = math.nan

    def unusual(self, quantity: Quantity) -> list[float]:
        """Return 1 for each value above the usual percentile and 0 for the others, NaN left out."""
        found = getattr(self, quantity)
        values = [found] if isinstance(found, float) else found
        return [float(value > USUAL) for value in values if not math.isnan(value)]


@dataclass(frozen=True)
class Share:
    """The share of unusual responses in a window.

    Attributes:
        share: The mean over prompts of the share of their responses.
        lower: Its lower confidence limit.
        prompts: Number of different prompts.
    """

    share: float
    lower: float
    prompts: int


@dataclass(frozen=True)
class Alarm:
    """An alarm: more responses are unusual than the bound allows.

    Attributes:
        shares: The shares that are above it.
        begins: Whether one of them was not above it the last time.
        message: What is wrong and what to do, for people.
    """

    shares: Mapping[Quantity, Share]
    begins: bool
    message: str


def lower_limit(total: float, count: int, level: float) -> float:
    r"""Return Clopper and Pearson's lower confidence limit of a mean of shares.

    The limit p solves :math:`P(X \ge x) = 1 - \text{level}` for X binomial of n and p, continued to
    any x. A share between 0 and 1 varies at most as much as a yes or no of the same mean, whatever
    the responses to a prompt have in common; so each prompt counts as one draw.

    Args:
        total: Sum x of the n shares.
        count: Their number n.
        level: One-sided confidence, in (0, 1).

    Returns:
        The limit, in [0, 1]; 0 where nothing was counted.
    """
    if total <= 0:
        return 0.0
    return float(betaincinv(total, count - total + 1, 1 - level))


def share_of(window: Iterable[Seen], quantity: Quantity, level: float) -> Share:
    """Compute the share of unusual values of one quantity, by prompt."""
    by_prompt: dict[str, list[float]] = {}
    for seen in window:
        by_prompt.setdefault(seen.prompt, []).extend(seen.unusual(quantity))
    shares = [math.fsum(own) / len(own) for own in by_prompt.values() if own]
    total = math.fsum(shares)
    mean = total / len(shares) if shares else 0.0
    return Share(mean, lower_limit(total, len(shares), level), len(shares))


@dataclass(eq=False)
class Guard:
    """A guard over the latest responses of a policy, safe to share between threads.

    Each process has its own window, which begins empty and refills when training is resumed.

    Args:
        action: ``warn`` once each time a quantity begins to be unusual, or ``stop``.
        window: Latest responses that are looked at; nothing is said before there are so many.
        bound: Share of unusual responses that is let pass; the data's own is 0.05.
        level: One-sided confidence that the share is above the bound, at each look; three prompts
            at least have to be unusual before it speaks.
        watch: What is looked at: ``sigma``, ``disagreement``, ``distance``.

    Attributes:
        stops_gracefully: Whether somebody looks at ``alarm`` and stops: no error is raised then.
        alarm: What was found at the last look, or None.

    Raises:
        ConfigError: If an option cannot work.
    """

    action: Action = "warn"
    _: KW_ONLY
    window: int = 256
    bound: float = 0.1
    level: float = 0.999
    watch: Sequence[Quantity] = QUANTITIES

    def __post_init__(self) -> None:
        if self.action not in get_args(Action):
            raise ConfigError(f"a guard warns or stops (warn, stop), but does not {self.action!r}.")
        if self.window < 1 or not 0 < self.bound < 1 or not 0 < self.level < 1:
            raise ConfigError(
                f"a guard's window is at least 1, and its bound and level lie between 0 and 1; got "
                f"{self.window}, {self.bound} and {self.level}."
            )
        if not self.watch or not set(self.watch) <= set(QUANTITIES):
            raise ConfigError(f"a guard can watch {', '.join(QUANTITIES)}, not {list(self.watch)}.")
        self.watch = tuple(self.watch)
        self.stops_gracefully = False
        self.alarm: Alarm | None = None
        self._groups = deque[Seen]()
        self._responses = 0
        self._lock = threading.Lock()

    def take(self, seen: Iterable[Seen]) -> Alarm | None:
        """Add the latest responses; return an alarm if too many in the window are unusual."""
        with self._lock:
            for one in seen:
                self._groups.append(one)
                self._responses += len(one.sigma)
            while self._groups and self._responses - len(self._groups[0].sigma) >= self.window:
                self._responses -= len(self._groups.popleft().sigma)
            before = {} if self.alarm is None else self.alarm.shares
            found = self._shares() if self._responses >= self.window else {}
            shares = {name: share for name, share in found.items() if share.lower > self.bound}
            self.alarm = self._said(shares, not shares.keys() <= before.keys()) if shares else None
            return self.alarm

    def shares(self) -> dict[Quantity, Share]:
        """Return the share of unusual values in the window, by watched quantity."""
        with self._lock:
            return self._shares()

    def _shares(self) -> dict[Quantity, Share]:
        return {name: share_of(self._groups, name, self.level) for name in self.watch}

    def _said(self, shares: Mapping[Quantity, Share], begins: bool) -> Alarm:
        found = "; ".join(
            f"{share.share:.0%} have {_WORDS[name]} the data's 95th percentile (at least "
            f"{share.lower:.0%}, from {share.prompts} prompts)"
            for name, share in shares.items()
        )
        message = (
            f"the policy's responses are more contested than the data. Of the latest "
            f"{self._responses} responses, {found}. For the data this share is 5%, and the guard "
            f"allows {self.bound:.0%}. {_REMEDY}."
        )
        return Alarm(dict(shares), begins, message)

    def __getstate__(self) -> dict[str, Any]:
        # trainers send reward functions to other processes; each process has its own window
        return {name: value for name, value in self.__dict__.items() if name != "_lock"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _lock=threading.Lock())


def parse_guard(text: str | Guard) -> Guard:
    """Read a guard from text, such as ``warn`` or ``stop:window=512,bound=0.2``.

    Several quantities to watch are joined by a plus sign: ``warn:watch=distance+sigma``.

    Raises:
        ConfigError: If it cannot be read.
    """
    if isinstance(text, Guard):
        return text
    action, _, rest = str(text).partition(":")
    options: dict[str, Any] = {}
    for part in filter(None, rest.split(",")):
        name, _, value = map(str.strip, part.partition("="))
        try:
            options[name] = _OPTIONS[name](value)
        except (KeyError, ValueError):
            raise ConfigError(
                f"the guard {text!r} cannot be read at {part!r}. Write warn or stop, and options "
                "behind a colon: stop:window=512,bound=0.2,level=0.999,watch=distance+sigma."
            ) from None
    return Guard(action, **options)  # type: ignore[arg-type] # checked there


_OPTIONS: Final[Mapping[str, Any]] = {
    "window": int,
    "bound": float,
    "level": float,
    "watch": lambda names: tuple(names.split("+")),
}
