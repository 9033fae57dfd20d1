"""How well a version does its tasks: the share of right answers, its interval, and differences to other versions.

Promises: nothing random decides; the bootstrap draws from a generator seeded by the task set's digest, temperature is
0, so the same version gives the same verdict. Multiple choice compares log-likelihoods per character, so that
neither a choice's length nor a model's tokens decide. All figures are thousandths, because evidence holds no fractions.

Against another version items are compared in pairs. Two rules: a version that is surely worse by more than the allowed
drop fails; and where there are enough common items, it must be shown not to be worse by the margin, that is, the whole
interval of the difference lies above it (non-inferiority). Fewer items cannot show that, and the figures say so.
"""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from appliance.promote import similarity
from appliance.promote.policy import TaskPolicy
from appliance.promote.similarity import Alike
from appliance.promote.taskset import (
    CONTAINS,
    EXACT,
    JSON_SCHEMA,
    MULTIPLE_CHOICE,
    PERPLEXITY,
    REGEX,
    SIMILARITY,
    Item,
    TaskSet,
    chance_millis,
)

NOT_COUNTED: Final = "-"
"""Stands for an item that is neither right nor wrong: perplexity, and what a person judges."""
_LONGEST_JUDGED: Final = 4000
_MOST_NATS: Final = 60.0  # per word; exp() of more says nothing


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
class Difference:
    """A version less another on the same items; `is_shown` is None where there are too few to show non-inferiority."""

    items: int
    interval: Interval
    margin: int
    is_shown: bool | None

    def to_json(self) -> dict[str, Any]:
        """Return the figures for evidence."""
        return {
            "items": self.items,
            "difference_millis": self.interval.value,
            "low_millis": self.interval.low,
            "high_millis": self.interval.high,
            "margin_millis": self.margin,
            "non_inferior": self.is_shown,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One task set's outcome. `right` has one letter an item, 1, 0 or -; `production` compares the same items."""

    name: str
    sha256: str
    right: str
    accuracy: Interval | None
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
        accuracy = self.accuracy
        return {
            "name": self.name,
            "sha256": self.sha256,
            "items": len(self.right),
            "counted": len(counted(self.right)),
            "right": self.right,
            "accuracy_millis": None if accuracy is None else accuracy.value,
            "low_millis": None if accuracy is None else accuracy.low,
            "high_millis": None if accuracy is None else accuracy.high,
            "chance_millis": self.chance,
            "floor_millis": self.floor,
            "difference_millis": None if difference is None else difference.value,
            "difference_low_millis": None if difference is None else difference.low,
            "failures": list(self.failures),
        }


def examine(tasks: TaskSet, examinee: Examinee, *, alike: Alike | None = None) -> str:
    """Return one letter for each item: 1 when it was answered rightly, 0 when not, - when it is not counted.

    The examinee is asked exactly once for each item, in their order.
    """
    return "".join(_letter(item, examinee, alike) for item in tasks.items)


def judge(tasks: TaskSet, right: str, policy: TaskPolicy, *, production: str | None = None) -> Result:
    """Return the verdict on one task set.

    Args:
        tasks: The set.
        right: What `examine` gave.
        policy: The thresholds.
        production: What the version in production got on this very set, if it is known.
    """
    scores = [int(letter) for letter in counted(right)]
    floor = max(tasks.floor_millis, policy.minimum_accuracy_millis)
    chance = chance_millis([item for item in tasks.items if item.is_counted])
    accuracy = difference = None
    failures = []
    if scores:
        accuracy = bootstrap(scores, seed=tasks.sha256, policy=policy)
        if accuracy.value < floor:
            failures.append(f"{accuracy.value} of 1000 right, and {floor} are demanded")
        if accuracy.low <= chance:
            failures.append(f"it may be guessing: the interval begins at {accuracy.low}, chance is {chance}")
    pairs = paired(right, production)
    if pairs:
        difference = bootstrap(pairs, seed=tasks.sha256, policy=policy)
        if difference.high < 0 and difference.value < -policy.allowed_drop_millis:
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


def counted(right: str) -> str:
    """Return the letters of items that are right or wrong."""
    return right.replace(NOT_COUNTED, "")


def paired(right: str, other: str | None) -> list[int]:
    """Return, for each counted item, 1 where only the first was right, -1 where only the other was, else 0.

    Nothing where the other is of another number of items.
    """
    if other is None or len(other) != len(right):
        return []
    return [
        int(mine) - int(theirs) for mine, theirs in zip(right, other, strict=True) if NOT_COUNTED not in mine + theirs
    ]


def difference_of(pairs: Sequence[int], *, seed: str, policy: TaskPolicy) -> Difference:
    """Return the difference over pairs of one or several sets, and whether non-inferiority is shown."""
    interval = bootstrap(pairs, seed=seed, policy=policy)
    shown = interval.low >= -policy.margin_millis if len(pairs) >= policy.least_items else None
    return Difference(items=len(pairs), interval=interval, margin=policy.margin_millis, is_shown=shown)


def bootstrap(scores: Sequence[int], *, seed: str, policy: TaskPolicy) -> Interval:
    """Return the mean of scores in thousandths and its percentile interval, the same at every call."""
    count = len(scores)
    value = sum(scores) * 1000 // count
    if len(set(scores)) == 1:  # every draw is the same
        return Interval(low=value, value=value, high=value)
    draw = random.Random(seed)  # noqa: S311 - a statistic that must come out the same again, not a secret
    means = sorted(sum(draw.choices(scores, k=count)) * 1000 // count for _ in range(policy.resamples))
    tail = policy.resamples * (1000 - policy.confidence_millis) // 2000
    return Interval(low=means[tail], value=value, high=means[-1 - tail])


def word_perplexity_millis(nats: float, words: int) -> int:
    """Return the perplexity of a text by word, in thousandths: tokenizers differ, words do not."""
    return round(1000 * math.exp(min(_MOST_NATS, -nats / max(1, words))))


def is_right(item: Item, said: str, *, alike: Alike | None = None) -> bool:
    """Judge a written answer by its item's kind; what lies beyond 4,000 characters is not looked at.

    Raises:
        ValueError: The kind is not judged by what is written.
    """
    text = said[:_LONGEST_JUDGED]
    if item.kind == CONTAINS:
        return item.answer.casefold() in text.casefold()
    if item.kind == EXACT:
        return _plain(item.answer) == _plain(text)
    if item.kind == REGEX and item.pattern is not None:
        return item.pattern.search(text) is not None
    if item.kind == JSON_SCHEMA and item.schema is not None:
        return item.schema.accepts(text)
    if item.kind == SIMILARITY:
        if alike is not None and item.least_embedding_millis is not None:
            return alike(item.answer, text) >= item.least_embedding_millis
        return similarity.similarity_millis(item.answer, text) >= item.least_millis
    raise ValueError(item.kind)


def _letter(item: Item, examinee: Examinee, alike: Alike | None) -> str:
    if item.kind == MULTIPLE_CHOICE:
        asked = f"Question: {item.prompt}\nAnswer:"
        likelihoods = examinee.likelihoods(asked, [f" {choice}" for choice in item.choices])
        best = max(range(len(likelihoods)), key=lambda number: likelihoods[number])
        return "1" if item.choices[best] == item.answer else "0"
    if item.kind == PERPLEXITY:
        examinee.likelihoods(item.prompt, [item.answer])
        return NOT_COUNTED
    said = examinee.answer(item.prompt, max_tokens=item.max_tokens)
    if not item.is_counted:
        return NOT_COUNTED
    return "1" if is_right(item, said, alike=alike) else "0"


def _plain(text: str) -> str:
    return " ".join(text.split()).casefold().rstrip(".")
