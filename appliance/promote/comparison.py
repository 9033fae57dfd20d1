"""A version against the weights it was quantized from: how often both say the same, and how far likelihoods moved.

A figure for people, not a gate: how much loss is acceptable is theirs to say. Agreement counts the items where the same
choice is the likeliest for both, or where both texts hold the answer or neither does. All figures are thousandths.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

from appliance.promote.evaluation import Examinee, is_right
from appliance.promote.taskset import CONTAINS, Item, TaskSet
from appliance.registry.reference import Reference, ReferenceItem


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """What was said to one item: nats summed over each choice's tokens, or the text of the answer."""

    nats: tuple[float, ...] = ()
    text: str = ""


@dataclass(slots=True, kw_only=True)
class Recorder:
    """An examinee that keeps what another says, item by item in the order of the task set."""

    examinee: Examinee
    said: list[Said] = field(default_factory=list)

    def likelihoods(self, prompt: str, continuations: Sequence[str]) -> Sequence[float]:
        """Ask and keep; see `Examinee`."""
        found = self.examinee.likelihoods(prompt, continuations)
        nats = tuple(value * len(text) for value, text in zip(found, continuations, strict=True))
        self.said.append(Said(nats=nats))
        return found

    def answer(self, prompt: str, *, max_tokens: int) -> str:
        """Ask and keep; see `Examinee`."""
        text = self.examinee.answer(prompt, max_tokens=max_tokens)
        self.said.append(Said(text=text))
        return text


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """A version against its parent on one task set.

    `difference` is the mean, over all choices, of the log-likelihood less the parent's, in thousandths of a nat;
    None where the set has no multiple-choice item.
    """

    parent_sha256: str
    items: int
    agreement: int
    difference: int | None

    def to_json(self) -> dict[str, Any]:
        """Return the figures for evidence."""
        return {
            "parent_sha256": self.parent_sha256,
            "items": self.items,
            "agreement_millis": self.agreement,
            "difference_millinats": self.difference,
        }


def compare(tasks: TaskSet, said: Sequence[Said], reference: Reference) -> Comparison | None:
    """Return the comparison; None when the reference is of other tasks than these."""
    known = {item.id: item for item in reference.items}
    pairs = [(item, one, known.get(item.id)) for item, one in zip(tasks.items, said, strict=True)]
    if reference.eval_sha256 != tasks.sha256 or any(not _fits(item, parent) for item, _, parent in pairs):
        return None
    agreed, moved = 0, []
    for item, one, parent in pairs:
        assert parent is not None  # noqa: S101 - for the type checker; _fits said so
        agreed += _agrees(item, one, parent)
        moved += [value - theirs / 1000 for value, theirs in zip(one.nats, parent.millinats, strict=True)]
    return Comparison(
        parent_sha256=reference.parent_sha256,
        items=len(pairs),
        agreement=agreed * 1000 // len(pairs),
        difference=round(sum(moved) * 1000 / len(moved)) if moved else None,
    )


def parent_right(tasks: TaskSet, reference: Reference) -> str | None:
    """Return what the parent got on each item, as `examine` writes it; None when the reference is of other tasks."""
    known = {item.id: item for item in reference.items}
    if reference.eval_sha256 != tasks.sha256 or any(not _fits(item, known.get(item.id)) for item in tasks.items):
        return None
    return "".join("1" if _was_right(item, known[item.id]) else "0" for item in tasks.items)


def _was_right(item: Item, parent: ReferenceItem) -> bool:
    if item.kind == CONTAINS:
        return is_right(item, parent.text)
    return item.choices[_likeliest(parent.millinats, _lengths(item))] == item.answer


def _fits(item: Item, parent: ReferenceItem | None) -> bool:
    return (
        parent is not None
        and parent.kind == item.kind
        and len(parent.millinats) == len(item.choices)
        and parent.prompt_sha256 == sha256(item.prompt.encode()).hexdigest()
    )


def _agrees(item: Item, one: Said, parent: ReferenceItem) -> bool:
    if item.kind == CONTAINS:
        answer = item.answer.casefold()
        return (answer in one.text.casefold()) == (answer in parent.text.casefold())
    lengths = _lengths(item)
    return _likeliest(one.nats, lengths) == _likeliest(parent.millinats, lengths)


def _lengths(item: Item) -> list[int]:
    return [len(choice) + 1 for choice in item.choices]  # a blank goes before each


def _likeliest(values: Sequence[float], lengths: Sequence[int]) -> int:
    return max(range(len(lengths)), key=lambda number: values[number] / lengths[number])
