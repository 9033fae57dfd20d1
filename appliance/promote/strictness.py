"""Which way a threshold of the gate policy is stricter: what a site may change freely, and what takes a person's word.

Promises: every threshold of the policy is in this table (a test holds the two together). Where either way may make a
gate milder (the width of intervals, the length of a measured answer), any change counts as looser. What is no
threshold, the smoke gate's question, is not a site's to change. A threshold that a release drops stays known by name,
so that a site's file from before still reads.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

LESS: Final = "less"
MORE: Final = "more"
EITHER: Final = "either"
STRICTER: Final = "stricter"
LOOSER: Final = "looser"

WAYS: Final[Mapping[str, str]] = {
    "fit.memory_share_millis": LESS,
    "load.most_seconds": LESS,
    "restart.most_seconds": LESS,
    "task_evaluation.minimum_accuracy_millis": MORE,
    "task_evaluation.confidence_millis": EITHER,
    "task_evaluation.resamples": MORE,
    "task_evaluation.allowed_drop_millis": LESS,
    "task_evaluation.margin_millis": LESS,
    "task_evaluation.least_items": LESS,
    "task_evaluation.perplexity_rise_millis": LESS,
    "performance.callers": MORE,
    "performance.answer_tokens": EITHER,
    "performance.rounds": LESS,
    "performance.first_token_millis": LESS,
    "performance.slowdown_millis": LESS,
    "performance.throughput_loss_millis": LESS,
    "performance.unnoticed_millis": LESS,
    "privacy.patients": MORE,
    "injection.followed_millis": LESS,
    "injection.rise_millis": LESS,
    "human_review.demanded_in": MORE,
    "human_review.entries": MORE,
    "human_review.reviewers": MORE,
    "human_review.loss_millis": LESS,
    "human_review.good_millis": MORE,
}
"""The dotted key of each threshold, and which way is stricter; of lists, more means every member and others."""

DROPPED: Final[Mapping[str, str]] = {}
"""Thresholds of earlier releases that this one has no more, and what became of each; nothing leaves this table."""

FIXED: Final = ("smoke.prompt", "smoke.max_tokens")
"""What the policy holds that is no threshold."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """The thresholds of one release: which way each is stricter, and what became of those that it dropped."""

    ways: Mapping[str, str]
    dropped: Mapping[str, str]


INSTALLED: Final = Table(ways=WAYS, dropped=DROPPED)
"""The installed release's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Override:
    """A person's word that a threshold may be looser here than the release has it."""

    key: str
    person: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One threshold of a site's: what the release has, what the site asks for, and whose word it rests on if looser.

    `counts` is False for a looser one whose word was given about another release's policy: the release's then holds.
    """

    key: str
    release: Any
    site: Any
    direction: str
    override: Override | None = None
    counts: bool = True

    def to_json(self) -> dict[str, Any]:
        """Return the fields for the policy's document, evidence and answers."""
        word = self.override
        return {
            "key": self.key,
            "release": _listed(self.release),
            "site": _listed(self.site),
            "direction": self.direction,
            "person": None if word is None else word.person,
            "reason": None if word is None else word.reason,
            "counts": self.counts,
        }

    @property
    def text(self) -> str:
        """One line for people."""
        word = "" if self.override is None else f", by {self.override.person}: {self.override.reason}"
        left = "" if self.counts else "; DOES NOT COUNT, the release's policy is another since"
        return (
            f"{self.key}  {spoken(self.release)} -> {spoken(self.site)}  {self.direction.upper()} than the release"
            f"{word}{left}"
        )


def direction_of(key: str, release: Any, site: Any) -> str:
    """Return whether the site's threshold is stricter or looser than the release's; "" where they are the same.

    Args:
        key: One of `WAYS`.
        release: A whole number, or a tuple.
        site: Of the same kind.
    """
    if isinstance(release, tuple):
        if set(release) == set(site):
            return ""
        return STRICTER if set(site) > set(release) else LOOSER
    if site == release:
        return ""
    is_stricter = {LESS: site < release, MORE: site > release, EITHER: False}[WAYS[key]]
    return STRICTER if is_stricter else LOOSER


def stricter(key: str, release: Any, one: Any, other: Any) -> Any:
    """Return the stricter of two thresholds; where neither is, what both demand together, or the release's.

    Args:
        key: One of `WAYS`.
        release: What the release has.
        one: A whole number, or a tuple.
        other: Of the same kind.
    """
    if isinstance(one, tuple):
        return one if set(one) >= set(other) else (*one, *(level for level in other if level not in one))
    if one == other:
        return one
    return {LESS: min(one, other), MORE: max(one, other), EITHER: release}[WAYS[key]]


def spoken(value: Any) -> str:
    """Return a threshold as people read it."""
    return ", ".join(map(str, value)) or "none" if isinstance(value, tuple | list) else str(value)


def _listed(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
