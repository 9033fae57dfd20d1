"""One person's sitting over a sheet of sampled answers: each entry blinded and in an order of its own, progress kept.

Promises: which side is which, and in which order the entries come, follows from the kept sheet's secret and the
person, so two judges see neither the same sides nor the same order, and a person who comes back sees what was there
before. What was chosen is kept entry by entry, so a restart, a second tab or a lost session loses nothing; it holds
numbers and words of the form, never prompts or answers. Handing in counts only when every entry is judged.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

from appliance.actions import reviewing
from appliance.audit.facts import EVERY, Ledger
from appliance.config import Places
from appliance.errors import StoreWriteError, UnknownVersionError
from appliance.promote import sheet as sheets
from appliance.promote.sheet import Judgement, Sheet
from media import canonical, durable
from media.errors import MalformedError

FORMAT: Final = 1
_GATE: Final = "human-review"
_RESULT: Final = "gate.result"
_MAX_DRAFT: Final = 16 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """What a judge sees at one place of the sitting; `choice` and `points` are what was kept before."""

    place: int
    number: int
    prompt: str
    sides: tuple[tuple[str, str], ...]
    choices: tuple[str, ...]
    criteria: tuple[str, ...]
    choice: str
    points: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sitting:
    """A sheet before one judge."""

    model_digest: str
    sheet: Sheet
    secret: str
    drafts: Path

    @property
    def size(self) -> int:
        """How many entries there are."""
        return len(self.sheet.entries)

    def judged(self) -> tuple[int, ...]:
        """Return the places whose entry is judged."""
        return tuple(place for place in range(1, self.size + 1) if self._kept(self._number(place)) is not None)

    def entry(self, place: int) -> Entry:
        """Return what stands at a place, from 1.

        Raises:
            UnknownVersionError: There is no such place.
        """
        number = self._number(place)
        shown = self._form()[number]
        kept = self._kept(number) or {}
        names = {"answer": "Answer", "first": "A", "second": "B"}
        return Entry(
            place=place,
            number=number + 1,
            prompt=visible(str(shown["prompt"])),
            sides=tuple((label, visible(str(shown[name]))) for name, label in names.items() if name in shown),
            choices=tuple(shown["choices"]),
            criteria=tuple(visible(str(one)) for one in shown.get("criteria", ())),
            choice=str(kept.get("choice", "")),
            points=tuple(kept.get("points", ())),
        )

    def keep(self, place: int, choice: str, points: Sequence[int]) -> None:
        """Keep what a judge chose at a place; it replaces what was kept there.

        Raises:
            MalformedError: The form offers no such choice, or a point is missing or neither 0 nor 1.
            StoreWriteError: It could not be written; what was kept before is as it was.
            UnknownVersionError: There is no such place.
        """
        shown = self.entry(place)
        chosen = canonical.one_of(choice, shown.choices, "your choice")
        if len(points) != len(shown.criteria):
            raise MalformedError(what="your points are malformed", why="one for each criterion", fix="fill in all")
        given = [canonical.integer(one, "a point", maximum=1) for one in points]
        content = canonical.dumps({"format": FORMAT, "choice": chosen, "points": given})
        try:
            self.drafts.mkdir(parents=True, exist_ok=True, mode=0o770)
            durable.replace(self.drafts / f"{shown.number}.json", content, mode=0o600)
        except OSError as error:
            raise StoreWriteError(
                what="your choice could not be kept", why=error.strerror or "", fix="check the disk; nothing is lost"
            ) from error

    def filled(self) -> bytes:
        """Return the filled-in form, as `sealift answers take` would read it.

        Raises:
            MalformedError: An entry is not judged.
        """
        entries = self._form()
        for number, entry in enumerate(entries):
            kept = self._kept(number)
            if kept is None:
                place = self._order().index(number) + 1
                raise MalformedError(
                    what=f"answer {place} of {self.size} is not judged", why="a form counts as a whole", fix="judge it"
                )
            entry["choice"] = kept["choice"]
            if "criteria" in entry:
                entry["points"] = list(kept["points"])
        form = {
            "format": sheets.FORMAT,
            "type": sheets.FORM_TYPE,
            "sheet": self.sheet.sha256,
            "entries": entries,
        }
        return json.dumps(form, ensure_ascii=False).encode()

    def told(self) -> tuple[Judgement, str]:
        """Return what the filled-in form says, and the form's digest.

        Raises:
            MalformedError: An entry is not judged.
        """
        form = self.filled()
        return self.sheet.judged(json.loads(form), self.secret), sha256(form).hexdigest()

    def forget(self) -> None:
        """Take the kept choices away, after they were handed in."""
        for path in sorted(self.drafts.glob("*.json")):
            path.unlink(missing_ok=True)

    def _form(self) -> list[dict[str, Any]]:
        return list(self.sheet.form(self.secret)["entries"])

    def _order(self) -> list[int]:
        def place_of(number: int) -> bytes:
            return sha256(f"{self.secret}:order:{number}".encode()).digest()

        return sorted(range(self.size), key=place_of)

    def _number(self, place: int) -> int:
        if not 1 <= place <= self.size:
            raise UnknownVersionError(what=f"there is no answer {place}", why=f"{self.size} are to be judged", fix="")
        return self._order()[place - 1]

    def _kept(self, number: int) -> Mapping[str, Any] | None:
        try:
            with (self.drafts / f"{number + 1}.json").open("rb") as file:
                value = canonical.loads_canonical(file.read(_MAX_DRAFT + 1), max_bytes=_MAX_DRAFT)
            found = canonical.exact_keys(value, ("format", "choice", "points"), what="a kept choice")
            canonical.integer(found["format"], "format", minimum=FORMAT, maximum=FORMAT)
        except (OSError, MalformedError):
            return None  # what does not read is judged again
        return found


def sitting(places: Places, ledger: Ledger, model_digest: str, *, person: str) -> Sitting:
    """Return the sheet of a version's newest validation before one judge.

    Raises:
        StoreDamagedError: The sheet is gone, or not what its digest says.
        UnknownVersionError: No validation of this version left a sheet.
    """
    digest = newest_sheet(ledger, model_digest)
    if not digest:
        raise UnknownVersionError(
            what="there are no answers of this version to judge",
            why="no validation came as far as the gate human-review, or no task has the model write an answer",
            fix=f"run `sealift validate {model_digest[:12]}`",
        )
    sheet, secret = reviewing.kept(places, digest)
    own = sha256(f"{secret}:judge:{person}".encode()).hexdigest()
    folder = places.registry / "reviews" / "drafts" / digest / sha256(person.encode()).hexdigest()[:32]
    return Sitting(model_digest=model_digest, sheet=sheet, secret=own, drafts=folder)


def newest_sheet(ledger: Ledger, model_digest: str) -> str:
    """Return the digest of the sheet that a version's newest validation left; "" where it left none."""
    for leaf in ledger.find(kind=_RESULT, field="model_digest", value=model_digest, limit=EVERY):
        if leaf.body.get("gate") == _GATE:
            figures = leaf.body.get("figures")
            return str(figures.get("sheet", "")) if isinstance(figures, Mapping) else ""
    return ""


def visible(text: str) -> str:
    """Spell what a terminal would obey or a reader could not see: an answer may hold any character."""
    return "".join(one if one.isprintable() or one == "\n" else f"<U+{ord(one):04X}>" for one in text)
