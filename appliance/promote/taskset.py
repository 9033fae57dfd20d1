"""Task sets as they travel: JSON Lines, a header and one item a line (docs/format.md, "Task sets").

The header is ``{"format":1,"name":…,"floor":"0.60"}``; an item has `id`, `kind`, `prompt`, `answer`, and `choices` when
its kind is multiple-choice. An answer of kind contains is right when the text occurs in what the model says.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from hashlib import sha256
from typing import Any, Final, Self

from media import canonical
from media.errors import MalformedError

MAX_BYTES: Final = 64 * 2**20
_MAX_ITEM: Final = 256 * 1024
_MAX_TEXT: Final = 32_000
_MAX_CHOICES: Final = 26
MULTIPLE_CHOICE: Final = "multiple-choice"
CONTAINS: Final = "contains"


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One task."""

    id: str
    kind: str
    prompt: str
    answer: str
    choices: tuple[str, ...] = ()

    @property
    def chance_millis(self) -> int:
        """How often guessing is right, in thousandths."""
        return 1000 // len(self.choices) if self.choices else 0


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskSet:
    """A named set of tasks; `floor_millis` is the least share of right answers its makers accept."""

    name: str
    sha256: str
    floor_millis: int
    items: tuple[Item, ...]

    @classmethod
    def from_bytes(cls, untrusted: bytes) -> Self:
        """Parse a task set.

        Raises:
            MalformedError: A line breaks the format; `what` names it by number.
            LimitExceededError: A line is too long.
        """
        if len(untrusted) > MAX_BYTES:
            raise _malformed(0, f"more than {MAX_BYTES} bytes")
        lines = [canonical.loads(line, max_bytes=_MAX_ITEM) for line in untrusted.splitlines()]
        if not lines[1:]:
            raise _malformed(1, "expected a header and at least one item")
        header = canonical.exact_keys(lines[0], ("format", "name", "floor"), what="the header")
        canonical.integer(header["format"], "format", minimum=1, maximum=1)
        items = tuple(_item(line, number) for number, line in enumerate(lines[1:], start=2))
        if len({item.id for item in items}) != len(items):
            raise _malformed(1, "an id is there twice")
        return cls(
            name=canonical.text(header["name"], "name", most=63),
            sha256=sha256(untrusted).hexdigest(),
            floor_millis=_millis(header["floor"]),
            items=items,
        )


def chance_millis(items: Sequence[Item]) -> int:
    """Return the share that guessing gets right, in thousandths."""
    return sum(item.chance_millis for item in items) // max(1, len(items))


def _item(value: Any, number: int) -> Item:
    fields = canonical.exact_keys(value, ("id", "kind", "prompt", "answer"), ("choices",), what=f"line {number}")
    kind = canonical.one_of(fields["kind"], (MULTIPLE_CHOICE, CONTAINS), f"line {number}: kind")
    answer = canonical.text(fields["answer"], "answer", most=_MAX_TEXT, lines=True)
    choices = tuple(
        canonical.text(one, "choices", most=_MAX_TEXT, lines=True)
        for one in canonical.array(fields.get("choices", []), "choices", most=_MAX_CHOICES)
    )
    if (kind == MULTIPLE_CHOICE) != bool(choices) or (choices and (len(choices) < 2 or choices.count(answer) != 1)):
        raise _malformed(number, "multiple-choice has 2 to 26 choices, one of them the answer; contains has none")
    return Item(
        id=canonical.text(fields["id"], "id", most=63),
        kind=kind,
        prompt=canonical.text(fields["prompt"], "prompt", most=_MAX_TEXT, lines=True),
        answer=answer,
        choices=choices,
    )


def _millis(untrusted: Any) -> int:
    try:
        share = Decimal(canonical.text(untrusted, "floor", most=8))
    except InvalidOperation as error:
        raise _malformed(1, "the floor is not a decimal") from error
    if not share.is_finite() or not Decimal(0) <= share <= Decimal(1):
        raise _malformed(1, "the floor is not between 0 and 1")
    return int(share * 1000)


def _malformed(line: int, why: str) -> MalformedError:
    return MalformedError(
        what=f"line {line} of a task set is malformed", why=why, fix="ask the sender for a release with correct tasks"
    )
