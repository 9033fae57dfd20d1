"""Two people's word on what time it is: a correction of this machine's clock, by as many seconds, in this boot.

The statement names no time to set but how far the clock is off, so that it stays right while people sign. It holds for
one boot and for `VALID_SECONDS` of the monotonic clock, never by the clock that is in doubt; it is void when the clock
jumped meanwhile, and counts once. It is of a type of its own and is signed by OpenPGP like any other.

    clock-changes/SHA256.json    statement and approvals (format 1), below the promoter's folder (HOST-2)

Promises: who carries it out verifies every signature again from these files; a person, a key or a fingerprint counts
once; the ledger knows of each request and each approval before a file says it.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Final, Self

from appliance.config import Config
from appliance.errors import ApprovalRefusedError, ClockUncertainError, ConflictError
from appliance.promote.approvable import Approvable
from appliance.promote.approvals import LEAST_PEOPLE
from appliance.promote.changes import FORMAT, HEX32, Changes, fields_of, new_nonce
from appliance.promote.folder import PromoterFolder
from appliance.promote.presented import Presented
from appliance.promote.statement import require_meaning
from appliance.timekeeping import record
from appliance.timekeeping.judging import SMALL_SECONDS
from appliance.verify.freshness import BUILT
from media import canonical, clock
from media.errors import SealiftError

TYPE: Final = "sealift/clock"
REQUESTED: Final = "approval.clock-requested"
GIVEN: Final = "approval.clock-given"
VALID_SECONDS: Final = 4 * 3600
MOST_PENDING: Final = 8
_LARGEST: Final = 200 * 366 * 86400
_MAX_BYTES: Final = 256 * 1024
_FIELDS: Final = (
    *("format", "type", "site", "session", "correction_seconds", "shown", "ticks"),
    *("meaning", "nonce", "requested_by"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClockStatement:
    """What people say yes to: in boot `session`, as the clock showed `shown`, it was `correction_seconds` off."""

    site: str
    session: str
    correction_seconds: int
    shown: datetime
    ticks: int
    meaning: str
    nonce: str
    requested_by: str

    @property
    def right(self) -> datetime:
        """What the clock should have shown when this was written."""
        return self.shown + timedelta(seconds=self.correction_seconds)

    @property
    def sha256(self) -> str:
        """The statement's own digest."""
        return sha256(self.to_bytes()).hexdigest()

    def to_bytes(self) -> bytes:
        """Return the bytes that are signed."""
        return canonical.dumps(
            {
                "format": FORMAT,
                "type": TYPE,
                "site": self.site,
                "session": self.session,
                "correction_seconds": self.correction_seconds,
                "shown": clock.to_text(self.shown),
                "ticks": self.ticks,
                "meaning": self.meaning,
                "nonce": self.nonce,
                "requested_by": self.requested_by,
            }
        )

    @classmethod
    def from_bytes(cls, untrusted: bytes) -> Self:
        """Parse the signed bytes.

        Raises:
            MalformedError: It is not canonical JSON of exactly these fields.
            ApprovalRefusedError: It is of another type or format, or a field is not one.
        """
        fields = fields_of(untrusted, _FIELDS, of_type=TYPE, max_bytes=_MAX_BYTES, refused=_refused)
        session = canonical.text(fields["session"], "statement.session")
        if not HEX32.fullmatch(session):
            raise _refused("its session is not 32 hex digits")
        return cls(
            site=canonical.text(fields["site"], "statement.site"),
            session=session,
            correction_seconds=canonical.integer(
                fields["correction_seconds"], "statement.correction_seconds", minimum=-_LARGEST, maximum=_LARGEST
            ),
            shown=canonical.moment(fields["shown"], "statement.shown"),
            ticks=canonical.integer(fields["ticks"], "statement.ticks"),
            meaning=require_meaning(canonical.text(fields["meaning"], "statement.meaning")),
            nonce=fields["nonce"],
            requested_by=canonical.text(fields["requested_by"], "statement.requested_by"),
        )

    def require_current(self, session: str, *, now: datetime, ticks: int) -> None:
        """Return when it still says what it said: same boot, not too old, and no jump since.

        Raises:
            ClockUncertainError: It does not.
        """
        why = self._why_over(session, ticks)
        if not why and abs((now - self.shown).total_seconds() - (ticks - self.ticks)) > SMALL_SECONDS:
            why = "the clock jumped since"
        if why:
            raise ClockUncertainError(
                what="the correction no longer holds", why=why, fix="ask for it again: `sealift clock set`"
            )

    def is_over(self, session: str, *, ticks: int) -> bool:
        """Return whether it can neither hold again nor explain a step of the clock: another boot, or too old."""
        return bool(self._why_over(session, ticks))

    def _why_over(self, session: str, ticks: int) -> str:
        if self.session != session:
            return "the machine was started since"
        if not 0 <= ticks - self.ticks <= VALID_SECONDS:
            return f"it was written more than {VALID_SECONDS // 3600} hours ago"
        return ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClockRequest(Approvable[ClockStatement]):
    """A statement about the clock with the approvals it has."""

    NAME = "clock request"

    @classmethod
    def parse(cls, untrusted: bytes) -> ClockStatement:
        """Parse the statement; see `ClockStatement.from_bytes`."""
        return ClockStatement.from_bytes(untrusted)


class ClockChanges(Changes[ClockRequest]):
    """The promoter's part: requests and approvals; the caller makes sure that one call runs at a time.

    `clock` is the machine's own, not the one of decisions: what is approved is how far this very clock is off.
    """

    FOLDER = "clock-changes"

    def request(self, *, correction_seconds: int, meaning: str, requested_by: str) -> ClockRequest:
        """Return the statement to sign.

        Raises:
            ClockUncertainError: Nobody watches the clock, or the time would be before this program was made.
            UnknownPersonError: Who requests is not enrolled.
            ConflictError: Too many wait.
        """
        people, _ = self._books.catch_up()
        person = people.require_active(requested_by)
        session, waiting = record.require_watched(self._config.at).session, self.pending()
        if len(waiting) >= MOST_PENDING:
            raise ConflictError(
                what="too many corrections wait", why=f"{MOST_PENDING}", fix="let two people approve one"
            )
        statement = ClockStatement(
            site=self._config.site,
            session=session,
            correction_seconds=correction_seconds,
            shown=self._clock.now().replace(microsecond=0),
            ticks=int(self._clock.monotonic()),
            meaning=require_meaning(meaning),
            nonce=new_nonce(),
            requested_by=person.id,
        )
        require_possible(statement.right)
        return self._asked(ClockRequest(statement=statement), REQUESTED, person.id)

    def pending(self) -> tuple[ClockRequest, ...]:
        """Return the requests that hold now, the oldest first; what can hold no more is forgotten."""
        found = record.published(self._config.at)
        if found is None:
            return ()
        now, ticks, kept = self._clock.now(), int(self._clock.monotonic()), []
        for one in ClockRequest.stored(self._folder):
            try:
                one.statement.require_current(found.session, now=now, ticks=ticks)
            except ClockUncertainError:
                # A clock that was just set has jumped, too: by this file the watch sees that two people signed it.
                if one.statement.is_over(found.session, ticks=ticks):
                    (self._folder / f"{one.statement.sha256}.json").unlink(missing_ok=True)
                continue
            kept.append(self._counting(one))
        return tuple(sorted(kept, key=lambda one: one.statement.ticks))

    def approve(self, statement_sha256: str, presented: Presented) -> ClockRequest:
        """Add one person's approval.

        Raises:
            ApprovalRefusedError: The statement is unknown or holds no longer, or the signature is refused.
        """
        unknown = _refused("no correction of this digest waits here; it holds no longer or was never asked for")
        people, request = self._waiting_for(statement_sha256, unknown)
        updated, approval = request.with_approval(presented, people, self._acceptance)
        return self._given(updated, GIVEN, approval, correction_seconds=request.statement.correction_seconds)


def require_possible(right: datetime) -> datetime:
    """Return a time that can be: this program was made before it.

    Raises:
        ClockUncertainError: It was not.
    """
    if right < BUILT:
        raise ClockUncertainError(
            what=f"it cannot be {clock.to_text(right)}",
            why=f"this program was made at {clock.to_text(BUILT)}",
            fix="look at a clock outside this machine, and give UTC",
        )
    return right


def require_clock_approved(config: Config, statement_sha256: str) -> ClockRequest:
    """Return the request that two people approved, with what counts: a pure read, each signature verified again.

    It says nothing of whether the correction still holds; see `ClockStatement.require_current`.

    Raises:
        ClockUncertainError: Nobody asked for it, or too few approved it.
    """
    why = "nobody asked for it"
    folder = PromoterFolder(config.at.promoter)
    for request in ClockRequest.stored(_folder(folder.path)):
        statement = request.statement
        if statement.sha256 != statement_sha256 or statement.site != config.site:
            continue
        try:
            return request.require_approved(
                folder.people(),
                threshold=max(config.policy.approvals, LEAST_PEOPLE),
                counting=config.policy.classes,
            )
        except SealiftError as error:
            why = f"{error.what}: {error.why}"
    raise ClockUncertainError(
        what="two people have not approved this correction of the clock",
        why=why,
        fix="two people run `sealift clock approve DIGEST`",
    )


def _folder(promoter: Path) -> Path:
    return promoter / ClockChanges.FOLDER


def _refused(why: str) -> ApprovalRefusedError:
    return ApprovalRefusedError(
        what="the correction of the clock cannot be approved", why=why, fix="ask for it again: `sealift clock set`"
    )
