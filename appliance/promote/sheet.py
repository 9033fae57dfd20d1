"""A sheet of sampled answers for people to judge, and the form that is filled in.

Promises: the sample follows from digests alone, so two versions have the same tasks sampled; which side a pair's first
answer is follows from a secret that is in the kept file and not in the form; a form counts only for the sheet that it
names, with a choice for each entry. Sheets and forms hold prompts and answers: they stay on the box.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final, Self

from media import canonical
from media.errors import MalformedError

FORMAT: Final = 1
SHEET_TYPE: Final = "sealift/review-sheet"
FORM_TYPE: Final = "sealift/review-form"
JUDGED: Final = "answers.judged"
"""The record of one person's judgement of a sheet."""
MAX_BYTES: Final = 16 * 2**20
PAIR_CHOICES: Final = ("first", "second", "same")
LONE_CHOICES: Final = ("good", "bad")
_MOST_ENTRIES: Final = 200
_MOST_TEXT: Final = 65_536


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a version wrote to one task; `criteria` are a rubric's."""

    set_sha256: str
    item: str
    prompt: str
    text: str
    criteria: tuple[str, ...] = ()

    @property
    def place(self) -> tuple[str, str]:
        """The task, by set and id."""
        return self.set_sha256, self.item


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """An answer and, in a pair, the other side's."""

    answer: Answer
    other: str | None

    def to_json(self) -> dict[str, Any]:
        """Return the fields of the sheet."""
        return {
            "set_sha256": self.answer.set_sha256,
            "item": self.answer.item,
            "prompt": _plain(self.answer.prompt),
            "own": _plain(self.answer.text),
            "other": None if self.other is None else _plain(self.other),
            "criteria": list(self.answer.criteria),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """What one form says, counted: preferences of pairs, answers judged alone, points of rubrics."""

    better: int = 0
    worse: int = 0
    same: int = 0
    good: int = 0
    bad: int = 0
    points: int = 0
    of_points: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Sheet:
    """What people judge. `other` names the other side's version, where there is one."""

    model_digest: str
    other: str
    entries: tuple[Entry, ...]

    def to_bytes(self) -> bytes:
        """Return the canonical bytes, whose digest is the sheet's."""
        return canonical.dumps(
            {
                "format": FORMAT,
                "type": SHEET_TYPE,
                "model_digest": self.model_digest,
                "other": self.other,
                "entries": [entry.to_json() for entry in self.entries],
            }
        )

    @property
    def sha256(self) -> str:
        """The sheet's digest."""
        return sha256(self.to_bytes()).hexdigest()

    @classmethod
    def from_bytes(cls, untrusted: bytes) -> Self:
        """Parse a sheet.

        Raises:
            MalformedError: It is not canonical JSON of exactly these fields.
        """
        fields = canonical.exact_keys(
            canonical.loads_canonical(untrusted, max_bytes=MAX_BYTES),
            ("format", "type", "model_digest", "other", "entries"),
            what="sheet",
        )
        if fields["format"] != FORMAT or fields["type"] != SHEET_TYPE:
            raise _malformed("it is not a sheet of this format")
        entries = canonical.array(fields["entries"], "sheet.entries", most=_MOST_ENTRIES)
        return cls(
            model_digest=canonical.sha256_hex(fields["model_digest"], "sheet.model_digest"),
            other=canonical.text(fields["other"], "sheet.other", may_be_empty=True),
            entries=tuple(_entry(one) for one in entries),
        )

    def form(self, secret: str) -> dict[str, Any]:
        """Return the form to be filled in: which side is which cannot be told from it."""
        return {
            "format": FORMAT,
            "type": FORM_TYPE,
            "sheet": self.sha256,
            "entries": [self._shown(number, secret) for number in range(len(self.entries))],
        }

    def judged(self, untrusted_form: Mapping[str, Any], secret: str) -> Judgement:
        """Return what a filled-in form says.

        Raises:
            MalformedError: It is of another sheet, or an entry has no choice, or another than the form offers.
        """
        fields = canonical.exact_keys(untrusted_form, ("format", "type", "sheet", "entries"), what="form")
        if fields["format"] != FORMAT or fields["type"] != FORM_TYPE or fields["sheet"] != self.sha256:
            raise _malformed("it is not a form of this sheet")
        filled = canonical.array(fields["entries"], "form.entries", most=_MOST_ENTRIES)
        if len(filled) != len(self.entries):
            raise _malformed(f"it has {len(filled)} entries, the sheet {len(self.entries)}")
        counts = dict.fromkeys(Judgement.__dataclass_fields__, 0)
        for number, (entry, untrusted) in enumerate(zip(self.entries, filled, strict=True)):
            self._count(counts, number, entry, untrusted, secret)
        return Judgement(**counts)

    def _count(self, counts: dict[str, int], number: int, entry: Entry, untrusted: Any, secret: str) -> None:
        found = canonical.mapping(untrusted, f"form.entries[{number}]")
        if found.get("number") != number + 1:
            raise _malformed(f"entry {number + 1} is not where it belongs")
        if entry.other is None:
            counts[str(canonical.one_of(found.get("choice"), LONE_CHOICES, f"choice {number + 1}"))] += 1
        else:
            choice = canonical.one_of(found.get("choice"), PAIR_CHOICES, f"choice {number + 1}")
            own = "first" if self._own_is_first(number, secret) else "second"
            counts["same" if choice == "same" else "better" if choice == own else "worse"] += 1
        if entry.answer.criteria:
            points = canonical.array(found.get("points"), f"points {number + 1}", most=len(entry.answer.criteria))
            if len(points) != len(entry.answer.criteria):
                raise _malformed(f"entry {number + 1} needs a point, 0 or 1, for each criterion")
            counts["points"] += sum(canonical.integer(one, "points", maximum=1) for one in points)
            counts["of_points"] += len(points)

    def _shown(self, number: int, secret: str) -> dict[str, Any]:
        entry = self.entries[number].to_json()
        shown: dict[str, Any] = {"number": number + 1, "prompt": entry["prompt"]}
        if entry["other"] is None:
            shown |= {"answer": entry["own"], "choices": list(LONE_CHOICES)}
        else:
            sides = [entry["own"], entry["other"]]
            first, second = sides if self._own_is_first(number, secret) else reversed(sides)
            shown |= {"first": first, "second": second, "choices": list(PAIR_CHOICES)}
        if entry["criteria"]:
            shown |= {"criteria": entry["criteria"], "points": []}
        return {**shown, "choice": ""}

    def _own_is_first(self, number: int, secret: str) -> bool:
        return sha256(f"{secret}:{self.sha256}:{number}".encode()).digest()[0] % 2 == 0


def sampled(answers: Sequence[Answer], most: int) -> tuple[Answer, ...]:
    """Return the answers that people see: rubrics first, then by a digest of the task alone."""

    def order(one: Answer) -> tuple[bool, str]:
        return not one.criteria, sha256(f"{one.set_sha256}:{one.item}".encode()).hexdigest()

    return tuple(sorted(answers, key=order)[:most])


def paired(answers: Sequence[Answer], others: Mapping[tuple[str, str], str]) -> tuple[Entry, ...]:
    """Return entries: in a pair where the other side answered the task; a rubric is always judged alone."""
    return tuple(Entry(answer=one, other=None if one.criteria else others.get(one.place)) for one in answers)


def _entry(untrusted: Any) -> Entry:
    found = canonical.exact_keys(
        untrusted, ("set_sha256", "item", "prompt", "own", "other", "criteria"), what="an entry of a sheet"
    )
    criteria = canonical.array(found["criteria"], "criteria", most=26)
    answer = Answer(
        set_sha256=canonical.sha256_hex(found["set_sha256"], "set_sha256"),
        item=canonical.text(found["item"], "item", most=63),
        prompt=_text(found["prompt"]),
        text=_text(found["own"]),
        criteria=tuple(_text(one) for one in criteria),
    )
    return Entry(answer=answer, other=None if found["other"] is None else _text(found["other"]))


def _text(untrusted: Any) -> str:
    # What a model wrote may hold any character that JSON can carry; forms show it escaped.
    if not isinstance(untrusted, str) or len(untrusted) > _MOST_TEXT:
        raise _malformed("a text is too long, or none")
    return untrusted


def _plain(text: str) -> str:
    return text[:_MOST_TEXT].encode(errors="replace").decode()


def _malformed(why: str) -> MalformedError:
    return MalformedError(what="a review is malformed", why=why, fix="take the form anew: sealift answers form")
