"""How well a version does its tasks: the share of right answers, its interval, and the difference to production.

Promises: nothing random decides; the bootstrap draws from a generator seeded by the task set's digest, temperature is
0, so the same version gives the same verdict. Multiple choice compares log-likelihoods per character, so that
neither a choice's length nor a model's tokens decide. All figures are thousandths, because evidence holds no fractions.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from appliance.promote.policy import GatePolicy
from appliance.promote.taskset import CONTAINS, Item, TaskSet, chance_millis

ANSWER_TOKENS: Final = 32


class Examinee(Protocol):
    """The version under test."""

    def likelihoods(self, prompt: str, continuations: Sequence[str]) -> Sequence[float]:
        """Return each continuation's log-likelihood per character."""
        ...

    def answer(self, prompt: str, *, max_tokens: int) -> str:
        """Return a chat answer at temperature 0."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A share and where it probably lies, in thousandths."""

    low: int
    value: int
    high: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One task set's outcome. `right` has one letter an item, 1 or 0; `production` compares the same items."""

    name: str
    sha256: str
    right: str
    accuracy: Interval
    chance: int
    floor: int
    against_production: Interval | None
    failures: tuple[str, ...]

    @property
    def passed(self) -> bool:
        """Whether the policy is met."""
        return not self.failures

    def to_json(self) -> dict[str, Any]:
        """Return the figures for evidence: verdicts, never texts."""
        difference = self.against_production
        return {
            "name": self.name,
            "sha256": self.sha256,
            "items": len(self.right),
            "right": self.right,
            "accuracy_millis": self.accuracy.value,
            "low_millis": self.accuracy.low,
            "high_millis": self.accuracy.high,
            "chance_millis": self.chance,
            "floor_millis": self.floor,
            "difference_millis": None if difference is None else difference.value,
            "difference_low_millis": None if difference is None else difference.low,
            "failures": list(self.failures),
        }


def examine(tasks: TaskSet, examinee: Examinee) -> str:
    """Return one letter for each item: 1 when it was answered rightly, else 0."""
    return "".join("1" if _is_right(item, examinee) else "0" for item in tasks.items)


def judge(tasks: TaskSet, right: str, policy: GatePolicy, *, production: str | None = None) -> Result:
    """Return the verdict on one task set.

    Args:
        tasks: The set.
        right: What `examine` gave.
        policy: The thresholds.
        production: What the version in production got on this very set, if it is known.
    """
    scores = [int(letter) for letter in right]
    accuracy = bootstrap(scores, seed=tasks.sha256, policy=policy)
    floor = max(tasks.floor_millis, policy.minimum_accuracy_millis)
    chance = chance_millis(tasks.items)
    difference = None
    if production is not None and len(production) == len(right):
        pairs = [mine - int(theirs) for mine, theirs in zip(scores, production, strict=True)]
        difference = bootstrap(pairs, seed=tasks.sha256, policy=policy)
    failures = []
    if accuracy.value < floor:
        failures.append(f"{accuracy.value} of 1000 right, and {floor} are demanded")
    if accuracy.low <= chance:
        failures.append(f"it may be guessing: the interval begins at {accuracy.low}, chance is {chance}")
    if difference is not None and difference.high < 0 and difference.value < -policy.allowed_drop_millis:
        failures.append(f"it is worse than production by {-difference.value} of 1000")
    return Result(
        name=tasks.name,
        sha256=tasks.sha256,
        right=right,
        accuracy=accuracy,
        chance=chance,
        floor=floor,
        against_production=difference,
        failures=tuple(failures),
    )


def bootstrap(scores: Sequence[int], *, seed: str, policy: GatePolicy) -> Interval:
    """Return the mean of scores in thousandths and its percentile interval, the same at every call."""
    count = len(scores)
    draw = random.Random(seed)  # noqa: S311 - a statistic that must come out the same again, not a secret
    means = sorted(sum(draw.choices(scores, k=count)) * 1000 // count for _ in range(policy.resamples))
    tail = policy.resamples * (1000 - policy.confidence_millis) // 2000
    return Interval(low=means[tail], value=sum(scores) * 1000 // count, high=means[-1 - tail])


def _is_right(item: Item, examinee: Examinee) -> bool:
    if item.kind == CONTAINS:
        said = examinee.answer(item.prompt, max_tokens=ANSWER_TOKENS)
        return item.answer.casefold() in said.casefold()
    likelihoods = examinee.likelihoods(f"Question: {item.prompt}\nAnswer:", [f" {choice}" for choice in item.choices])
    best = max(range(len(likelihoods)), key=lambda number: likelihoods[number])
    return item.choices[best] == item.answer
