"""Task sets as they travel and as sites import them: JSON Lines, a header and one item a line.

The rules are in docs/format.md, "Task sets". The header is ``{"format":1,"name":…,"floor":"0.60"}``. Format 1 has the
kinds multiple-choice and contains, which is all that a release brings; format 2, which a site imports inside, has every
kind.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from hashlib import sha256
from typing import Any, Final, Self

from appliance.promote.patterns import safe_pattern
from appliance.promote.schema import Schema
from media import canonical
from media.errors import MalformedError

MAX_BYTES: Final = 64 * 2**20
_MAX_ITEM: Final = 256 * 1024
_MAX_TEXT: Final = 32_000
_MAX_CHOICES: Final = 26
_MAX_CRITERIA: Final = 12
ANSWER_TOKENS: Final = 32
_MOST_TOKENS: Final = 512
MULTIPLE_CHOICE: Final = "multiple-choice"
CONTAINS: Final = "contains"
EXACT: Final = "exact"
REGEX: Final = "regex"
JSON_SCHEMA: Final = "json-schema"
SIMILARITY: Final = "similarity"
PERPLEXITY: Final = "perplexity"
RUBRIC: Final = "rubric"
SCORED: Final = (MULTIPLE_CHOICE, PERPLEXITY)
"""Kinds that compare likelihoods; all others have the model write an answer."""
_FIELDS: Final = {
    MULTIPLE_CHOICE: ("answer", "choices"),
    CONTAINS: ("answer",),
    EXACT: ("answer",),
    REGEX: ("pattern",),
    JSON_SCHEMA: ("schema",),
    SIMILARITY: ("answer", "least"),
    PERPLEXITY: ("text",),
    RUBRIC: ("criteria",),
}
_FIRST_KINDS: Final = (MULTIPLE_CHOICE, CONTAINS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One task. `answer` is the right text, or the text whose perplexity counts; the rest is as the kind needs it."""

    id: str
    kind: str
    prompt: str
    answer: str = ""
    choices: tuple[str, ...] = ()
    pattern: re.Pattern[str] | None = None
    schema: Schema | None = None
    least_millis: int = 0
    least_embedding_millis: int | None = None
    criteria: tuple[str, ...] = ()
    max_tokens: int = ANSWER_TOKENS

    @property
    def chance_millis(self) -> int:
        """How often guessing is right, in thousandths."""
        return 1000 // len(self.choices) if self.choices else 0

    @property
    def is_counted(self) -> bool:
        """Whether it is right or wrong; perplexity is a measure, and a rubric is for a person."""
        return self.kind not in {PERPLEXITY, RUBRIC}


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
        written = canonical.integer(header["format"], "format", minimum=1, maximum=2)
        kinds = _FIRST_KINDS if written == 1 else tuple(_FIELDS)
        items = tuple(_item(line, number, kinds) for number, line in enumerate(lines[1:], start=2))
        if len({item.id for item in items}) != len(items):
            raise _malformed(1, "an id is there twice")
        return cls(
            name=canonical.text(header["name"], "name", most=63),
            sha256=sha256(untrusted).hexdigest(),
            floor_millis=_millis(header["floor"], "floor", 1),
            items=items,
        )


def chance_millis(items: Sequence[Item]) -> int:
    """Return the share that guessing gets right, in thousandths."""
    return sum(item.chance_millis for item in items) // max(1, len(items))


def _item(value: Any, number: int, kinds: tuple[str, ...]) -> Item:
    kind = canonical.one_of(canonical.mapping(value, f"line {number}").get("kind"), kinds, f"line {number}: kind")
    wanted = ("id", "kind", "prompt", *_FIELDS[kind])
    is_written = kinds is not _FIRST_KINDS and kind not in SCORED
    further = ("max_tokens", "least_embedding") if kind == SIMILARITY else ("max_tokens",)
    fields = canonical.exact_keys(value, wanted, further if is_written else (), what=f"line {number}")
    answer = fields["text"] if kind == PERPLEXITY else fields.get("answer")
    choices = _texts(fields.get("choices", []), "choices", most=_MAX_CHOICES)
    if kind == MULTIPLE_CHOICE and (len(choices) < 2 or choices.count(str(answer)) != 1):
        raise _malformed(number, "multiple-choice has 2 to 26 choices, one of them the answer; contains has none")
    criteria = _texts(fields.get("criteria", []), "criteria", most=_MAX_CRITERIA)
    if kind == RUBRIC and not criteria:
        raise _malformed(number, "a rubric has 1 to 12 criteria, a point for each")
    return Item(
        id=canonical.text(fields["id"], "id", most=63),
        kind=kind,
        prompt=canonical.text(fields["prompt"], "prompt", most=_MAX_TEXT, lines=True),
        answer="" if answer is None else canonical.text(answer, "answer", most=_MAX_TEXT, lines=True),
        choices=choices,
        pattern=safe_pattern(canonical.text(fields["pattern"], "pattern")) if kind == REGEX else None,
        schema=Schema.from_json(fields["schema"]) if kind == JSON_SCHEMA else None,
        least_millis=_millis(fields["least"], "least", number) if kind == SIMILARITY else 0,
        least_embedding_millis=_millis(fields["least_embedding"], "least_embedding", number)
        if "least_embedding" in fields
        else None,
        criteria=criteria,
        max_tokens=canonical.integer(
            fields.get("max_tokens", ANSWER_TOKENS), "max_tokens", minimum=1, maximum=_MOST_TOKENS
        ),
    )


def _texts(untrusted: Any, what: str, *, most: int) -> tuple[str, ...]:
    return tuple(
        canonical.text(one, what, most=_MAX_TEXT, lines=True) for one in canonical.array(untrusted, what, most=most)
    )


def _millis(untrusted: Any, what: str, line: int) -> int:
    try:
        share = Decimal(canonical.text(untrusted, what, most=8))
    except InvalidOperation as error:
        raise _malformed(line, f"{what} is not a decimal") from error
    if not share.is_finite() or not Decimal(0) <= share <= Decimal(1):
        raise _malformed(line, f"{what} is not between 0 and 1")
    return int(share * 1000)


def _malformed(line: int, why: str) -> MalformedError:
    return MalformedError(what=f"line {line} of a task set is malformed", why=why, fix="see docs/format.md, Task sets")
