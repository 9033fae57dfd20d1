"""What people and time do to what is kept: holds, erasure, expiry, looking at a sample. Each is in the ledger first.

Rules:
    RET-1 A legal hold wins over expiry and over erasure; it ends only by being released, by name and reason.
    RET-2 Keys of a year are kept for the site's years, never below six (45 CFR 164.316(b)(2)(i): six from creation).
    RET-3 What goes, goes by the destruction of its keys. That it will is recorded before, that it did after; what was
          cut in between is finished by the next run; the erasure of a person by whoever types it again, which is asked
          for until then.
    RET-4 Nobody sees a sample whose viewing is not recorded.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from appliance.actions.retention import expiring
from appliance.actions.retention.expiring import EXPIRED, EXPIRING, HELD, HOLDING, RELEASED, own
from appliance.actions.retention.reviewstore import ReviewStore, Sample, year_ends
from appliance.actions.tracing.holding import EVERYTHING, Cover
from appliance.actions.tracing.selection import Selector
from appliance.audit.facts import Ledger
from appliance.audit.leaf import Leaf
from appliance.errors import LegalHoldError
from media import canonical
from media.clock import Clock, to_text
from media.errors import MediaError, UsageError

ERASING: Final = "erasure.begun"
ERASED: Final = "erasure.done"
READ: Final = "review.read"
FLOOR_YEARS: Final = 6
_PAGE: Final = 500
_PIECE: Final = 50
_WORDS: Final = 400


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """A legal hold: the sequence of its record is its number.

    `about` is `all`, a request's id, or what a selector says in one line; then `selector` is what it covers.
    """

    number: int
    about: str
    person: str
    reason: str
    selector: Selector | None = None

    @property
    def covered(self) -> str | Selector:
        """What it covers."""
        return self.selector or self.about


class Retention:
    """Deeds on the review store of one box.

    Args:
        store: The samples.
        ledger: Where every deed is recorded; one that cannot be does not happen.
        clock: What time it is.
        node: This node's name; empty where a single one answers.
    """

    def __init__(self, store: ReviewStore, ledger: Ledger, *, clock: Clock, node: str = "") -> None:
        self._store = store
        self._ledger = ledger
        self._clock = clock
        self._node = node

    def hold(self, about: str | Selector, *, person: str, reason: str) -> Hold:
        """Begin a legal hold over everything (`all`), one request's sample, or all that a selector covers, later too.

        Raises:
            UsageError, MalformedError: A name, a reason or what it is about is missing.
            LedgerUnavailableError: It is not recorded, so it does not hold.
        """
        selector = about if isinstance(about, Selector) else None
        said = _said(person, reason)
        body = {"about": canonical.text(str(about), "the hold", most=_WORDS), **said}
        number = self._ledger.append(
            HELD, body if selector is None else {**body, "selector": selector.to_json()}
        ).sequence
        return Hold(number=number, about=str(about), selector=selector, **said)

    def release(self, number: int, *, person: str, reason: str) -> None:
        """End a hold.

        Raises:
            UsageError: There is no such hold, or it was released.
        """
        self.require_hold(number)
        self._ledger.append(RELEASED, {"hold": number, **_said(person, reason)})

    def require_hold(self, number: int) -> None:
        """Return when a hold holds.

        Raises:
            UsageError: There is none of this number, or it was released.
        """
        if number not in {hold.number for hold in self.holds()}:
            raise UsageError(what=f"there is no hold {number}", why="", fix="see `sealift retention status`")

    def holds(self) -> tuple[Hold, ...]:
        """Return the holds that hold now, the oldest first."""
        found: dict[Any, Hold] = {}
        start = 0
        while page := self._ledger.leaves(start, _PAGE, kinds=HOLDING):
            for leaf in page:
                if leaf.kind == HELD:
                    found[leaf.sequence] = _hold_of(leaf)
                else:
                    found.pop(leaf.body.get("hold"), None)
            start = page[-1].sequence + 1
        return tuple(found.values())

    def read(self, request_id: str, *, person: str, reason: str, through: str = "") -> bytes:
        """Return a sample after recording who looks at it and why.

        Args:
            request_id: The request whose sample it is.
            person: Who looks.
            reason: Why.
            through: By which door, and as which user, where another process asked.

        Raises:
            UsageError: No such sample is kept, or its time is over and no hold covers it.
            KeyMissingError: It was erased meanwhile.
            LedgerUnavailableError: It is not recorded, so it is not shown.
        """
        now = to_text(self._clock.now())
        found = [sample for sample in self._store.samples() if sample.request_id == request_id]
        if not found or (found[0].expires <= now and not self._cover().keeps(request_id)):
            raise UsageError(what=f"no sample of {request_id[:64]!r} is kept", why="", fix="it expired, or was none")
        said = {"request_id": request_id, **_said(person, reason)}
        self._ledger.append(READ, {**said, "through": through} if through else said)
        return self._store.content(found[0])

    def erase(self, subject: str, *, subject_hash: str, former: Collection[str] = (), person: str, reason: str) -> int:
        """Erase a person: their keys of every year and their samples; return how many samples went.

        Args:
            subject: The name that the person's application gives them.
            subject_hash: The keyed hash by which the ledger knows them; the name itself is never recorded.
            former: Their hashes under the key's other versions: an erasure that was cut off may have been of before.
            person: Who decided.
            reason: Why.

        Raises:
            LegalHoldError: A hold covers one of their samples.
        """
        cover = self._cover()
        covered = [sample.request_id for sample in self._store.of_subject(subject) if cover.keeps(sample.request_id)]
        if covered or cover.is_everything:
            raise _held(f"{len(covered)} samples of this person are under a legal hold")
        about = {"subject_hash": subject_hash, **_said(person, reason)}
        known = {subject_hash, *former}
        cut_off = [leaf for leaf in unfinished(self._ledger, self._node) if leaf.body.get("subject_hash") in known]
        begun = self._ledger.append(ERASING, about).sequence
        count = self._store.erase(subject)
        finishes = [*(leaf.sequence for leaf in cut_off), begun]
        self._ledger.append(ERASED, {**about, "finishes": finishes, "samples": count})
        return count

    def expire(self) -> int:
        """Destroy every sample whose time is over and that no hold covers, by this process; return how many."""
        return expiring.expire(self, self._ledger, clock=self._clock, node=self._node)

    def due(self, until: str) -> int:
        """Return how many samples are over at a moment and on no hold."""
        return len(self._due(until))

    def destroy(self, until: str) -> int:
        """Destroy a piece of what `due` counts and return how many went; 0 when none is left.

        Raises:
            UsageError: That they go is not recorded (RET-3), or the moment is yet to come.
        """
        if until > to_text(self._clock.now()):
            raise UsageError(what="nothing is due yet", why=f"{until} is to come", fix="check the clock")
        if not self._ledger.find(EXPIRING, field="until", value=until, limit=1):
            raise UsageError(
                what="no sample is destroyed", why="that it will be is not recorded", fix="use `sealift retention run`"
            )
        piece = self._due(until)[:_PIECE]
        for sample in piece:
            self._store.remove(sample)
        return len(piece)

    def _due(self, until: str) -> list[Sample]:
        cover = self._cover()
        return [sample for sample in self._store.samples(expired_at=until) if not cover.keeps(sample.request_id)]

    def end_year(self, year: int, *, years: int) -> int:
        """Destroy a year's key once it was kept for `years` after the year's end; return how many samples went.

        Raises:
            UsageError: It is too early, or the years are below the floor.
            LegalHoldError: A hold is in force.
        """
        if years < FLOOR_YEARS:
            raise UsageError(
                what=f"{years} years are below the floor", why=f"the law says {FLOOR_YEARS}", fix="keep it longer"
            )
        ends = kept_until(year, years)
        if self._clock.now() < ends:
            raise UsageError(what=f"the keys of {year} are kept until {to_text(ends)}", why="", fix="wait until then")
        if self.holds():
            raise _held("a legal hold is in force, and a year's key opens everything of the year")
        body = {"class": "review", "year": year, "years": years}
        self._ledger.append(EXPIRING, body)
        count = self._store.end_year(year)
        self._ledger.append(EXPIRED, {**body, "samples": count})
        return count

    def _cover(self) -> Cover:
        return Cover(self._ledger, (hold.covered for hold in self.holds()))


def unfinished(ledger: Ledger, node: str) -> list[Leaf]:
    """Return the records of erasures that this node began and did not end, the oldest first.

    Args:
        ledger: Where they are recorded.
        node: Its name; empty where a single one answers. Each node has samples of its own, so another's end ends none.

    Raises:
        LedgerUnavailableError: The ledger does not answer.
    """
    begun, done = (own(ledger, kind, node) for kind in (ERASING, ERASED))
    ended: set[Any] = set()
    newest: dict[Any, int] = {}
    for leaf in done:
        if "finishes" in leaf.body:
            ended |= set(leaf.body["finishes"])
        else:  # of a release before, which named the person alone
            newest.setdefault(leaf.body.get("subject_hash"), leaf.sequence)  # the newest comes first
    return [
        leaf
        for leaf in reversed(begun)
        if leaf.sequence not in ended and leaf.sequence > newest.get(leaf.body.get("subject_hash"), -1)
    ]


def kept_until(year: int, years: int) -> datetime:
    """Return the moment at which a year's keys may go."""
    return year_ends(year + years)


def _hold_of(leaf: Leaf) -> Hold:
    body = leaf.body
    about, selector = str(body.get("about")), None
    if "selector" in body:
        try:
            selector = Selector.from_json(body["selector"])
        except MediaError:
            about = EVERYTHING  # of a later version: what nobody can read keeps everything
    person, reason = str(body.get("person")), str(body.get("reason"))
    return Hold(number=leaf.sequence, about=about, person=person, reason=reason, selector=selector)


def _said(person: str, reason: str) -> dict[str, Any]:
    found: Mapping[str, str] = {"person": person.strip(), "reason": reason.strip()}
    return {name: canonical.text(text, f"the {name}", most=_WORDS) for name, text in found.items()}


def _held(why: str) -> LegalHoldError:
    return LegalHoldError(what="a legal hold forbids it", why=why, fix="release it: `sealift retention release`")
