"""Two people's word on thresholds of the site's own: the whole text of the file, over one release's policy.

The statement holds the file itself, so that nothing can be signed unseen, the digest of the release's policy that it is
laid over, and the digest of the policy that holds until then; another one meanwhile voids it. It is of a type of its
own, so that no signature given for anything else counts here.

    policy-changes/SHA256.json    statement and approvals (formats 1 and 2), below the promoter's folder (HOST-2)

Promises: the ledger knows of each request and each approval before a file says it; with enough approvals, every
signature verified again, the promoter records that the policy holds (`approval.policy-adopted`), which it alone may;
who asked for it may approve it as with a promotion; a person whose word a looser threshold rests on is enrolled here.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Any, Final, Self

from appliance.config import Config
from appliance.errors import ApprovalRefusedError, ConflictError, NotEnoughApprovalsError
from appliance.promote import asking
from appliance.promote.accepting import Acceptance
from appliance.promote.approvable import Approvable
from appliance.promote.books import Books
from appliance.promote.changes import FORMAT, Changes, fields_of, new_nonce
from appliance.promote.people import SitePeople
from appliance.promote.policy import GatePolicy, packaged
from appliance.promote.policybook import ADOPTED, PolicyBook
from appliance.promote.presented import Presented
from appliance.promote.sitepolicy import MAX_BYTES, SitePolicy
from appliance.promote.statement import require_meaning
from appliance.promote.strictness import INSTALLED, Table
from media import canonical, clock
from media.clock import Clock

TYPE: Final = "sealift/policy"
REQUESTED: Final = "approval.policy-requested"
GIVEN: Final = "approval.policy-given"
MOST_PENDING: Final = 8
_MAX_BYTES: Final = 16 * 1024
_FIELDS: Final = (
    *("format", "type", "site", "policy", "release_sha256", "replaces", "meaning", "nonce"),
    *("requested_by", "requested_at", "expires"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyStatement:
    """What an approver of thresholds says yes to; `policy` is the file's text, both times are whole seconds in UTC."""

    site: str
    policy: str
    release_sha256: str
    replaces: str
    meaning: str
    nonce: str
    requested_by: str
    requested_at: datetime
    expires: datetime

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
                "policy": self.policy,
                "release_sha256": self.release_sha256,
                "replaces": self.replaces,
                "meaning": self.meaning,
                "nonce": self.nonce,
                "requested_by": self.requested_by,
                "requested_at": clock.to_text(self.requested_at),
                "expires": clock.to_text(self.expires),
            }
        )

    @classmethod
    def from_bytes(cls, untrusted: bytes) -> Self:
        """Parse the signed bytes.

        Raises:
            MalformedError: It is not canonical JSON of exactly these fields.
            ApprovalRefusedError: It is of another type or format, or its nonce or meaning is not one.
        """
        fields = fields_of(untrusted, _FIELDS, of_type=TYPE, max_bytes=_MAX_BYTES, refused=_refused)
        return cls(
            site=canonical.text(fields["site"], "statement.site"),
            policy=canonical.text(fields["policy"], "statement.policy", most=MAX_BYTES, lines=True),
            release_sha256=canonical.sha256_hex(fields["release_sha256"], "statement.release_sha256"),
            replaces=canonical.sha256_hex(fields["replaces"], "statement.replaces"),
            meaning=require_meaning(canonical.text(fields["meaning"], "statement.meaning")),
            nonce=fields["nonce"],
            requested_by=canonical.text(fields["requested_by"], "statement.requested_by"),
            requested_at=canonical.moment(fields["requested_at"], "statement.requested_at"),
            expires=canonical.moment(fields["expires"], "statement.expires"),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyRequest(Approvable[PolicyStatement]):
    """A statement about a policy with the approvals it has."""

    NAME = "policy request"

    @classmethod
    def parse(cls, untrusted: bytes) -> PolicyStatement:
        """Parse the statement; see `PolicyStatement.from_bytes`."""
        return PolicyStatement.from_bytes(untrusted)


class PolicyChanges(Changes[PolicyRequest]):
    """The promoter's part: requests, approvals, and saying what holds; one call at a time is the caller's to make sure.

    Args:
        books: People and ledger.
        config: The site file.
        clock: By which a request expires.
        acceptance: What an approval has to be.
        release: Gives the installed release's policy.
        table: The installed release's thresholds.
    """

    FOLDER = "policy-changes"

    def __init__(
        self,
        books: Books,
        *,
        config: Config,
        clock: Clock,
        acceptance: Acceptance,
        release: Callable[[], GatePolicy] = packaged,
        table: Table = INSTALLED,
    ) -> None:
        super().__init__(books, config=config, clock=clock, acceptance=acceptance)
        self._release = release
        self._table = table

    def request(self, *, policy: str, meaning: str, requested_by: str, asker_class: str = "") -> PolicyRequest:
        """Return the statement to sign for a file's text; the same one again while it waits.

        Args:
            policy: The file's text.
            meaning: Why, as people sign it.
            requested_by: Who asks.
            asker_class: By what it is known that it is this person; empty where the name was typed.

        Raises:
            ApprovalRefusedError: The meaning is not one.
            ConflictError: Too many wait, or exactly this holds already.
            LimitExceededError, MalformedError: The file is refused; `what` names the dotted key.
            UnknownPersonError: Who asks, or whose word a looser threshold rests on, is not enrolled, or who asks is not
                known to be that person where that decides.
        """
        people, _ = self._books.catch_up()
        person = people.require_active(requested_by)
        if not self._counts(asker_known=bool(asker_class)):
            raise asking.unknown(person.id)
        file = SitePolicy.from_bytes(policy.encode(), table=self._table)
        release = self._release()
        # What cannot be judged by closes the gates, and is replaced like any other.
        holds, replaces = self._replaced(release)
        if file.thresholds:
            file.over(release)
        _require_words(file, people)
        _require_news(file, holds)
        waiting = self.pending()
        for one in waiting:
            if (one.statement.policy, one.statement.meaning) == (policy, meaning):
                return one
        if len(waiting) >= MOST_PENDING:
            raise ConflictError(what="too many policies wait", why=f"{MOST_PENDING}", fix="let them expire")
        now = self._clock.now().replace(microsecond=0)
        statement = PolicyStatement(
            site=self._config.site,
            policy=policy,
            release_sha256=release.digest,
            replaces=replaces,
            meaning=require_meaning(meaning),
            nonce=new_nonce(),
            requested_by=person.id,
            requested_at=now,
            expires=now + timedelta(hours=self._config.policy.approval_hours),
        )
        request = PolicyRequest(statement=statement, asker_known=bool(asker_class))
        return self._asked(request, REQUESTED, person.id, **asking.said(asker_class))

    def pending(self) -> tuple[PolicyRequest, ...]:
        """Return the requests that can still be approved, the oldest first; what a crash left undone is finished."""
        waiting = self._waiting()
        return self._waiting() if any(self._adopted(one) for one in waiting) else waiting

    def _waiting(self) -> tuple[PolicyRequest, ...]:
        now, release = self._clock.now(), self._release()
        _, replaces = self._replaced(release)
        found = [
            self._counting(one)
            for one in PolicyRequest.stored(self._folder)
            if now <= one.statement.expires
            and self._counts(asker_known=one.asker_known)
            and (one.statement.replaces, one.statement.release_sha256) == (replaces, release.digest)
        ]
        return tuple(sorted(found, key=lambda one: one.statement.requested_at))

    def _counts(self, *, asker_known: bool) -> bool:
        return asker_known or self._config.release_is_request

    def _replaced(self, release: GatePolicy) -> tuple[GatePolicy | None, str]:
        return PolicyBook.of(self._books.ledger).replaced(release, table=self._table)

    def approve(self, statement_sha256: str, presented: Presented) -> tuple[PolicyRequest, bool]:
        """Add one person's approval; return the request, and whether its policy holds from now on.

        Raises:
            ApprovalRefusedError: The statement is unknown, void or expired, the signature is refused, or who asked for
                it would approve where the site separates that.
            UnknownPersonError: Somebody whose word it rests on is not enrolled any more.
        """
        unknown = _refused("no policy of this digest waits here; it has expired, or another holds since")
        people, request = self._waiting_for(statement_sha256, unknown)
        statement = request.statement
        _require_words(SitePolicy.from_bytes(statement.policy.encode(), table=self._table), people)
        updated, approval = request.with_approval(presented, people, self._acceptance)
        if not self._config.release_is_request and approval.person == statement.requested_by:
            raise _refused(f"{approval.name} asked for it, and at this site who asks does not approve")
        self._given(updated, GIVEN, approval)
        return updated, self._adopted(updated)

    def _adopted(self, request: PolicyRequest) -> bool:
        """Say that a policy holds where enough people approved it, every signature verified again."""
        if len(request.approvals) < self._threshold:
            return False
        people, _ = self._books.catch_up()
        try:
            counted = request.require_approved(
                people, threshold=self._threshold, counting=tuple(self._config.policy.classes)
            )
        except NotEnoughApprovalsError:
            return False  # somebody left since, or a class counts no more
        self._books.ledger.append(ADOPTED, _record_of(counted, self._table))
        return True


def _record_of(request: PolicyRequest, table: Table) -> dict[str, Any]:
    statement = request.statement
    file = SitePolicy.from_bytes(statement.policy.encode(), table=table)
    return {
        "policy": statement.policy,
        "policy_sha256": file.sha256,
        "name": file.name,
        "release_sha256": statement.release_sha256,
        "statement": statement.to_bytes().decode(),
        "statement_sha256": statement.sha256,
        "approvals": [one.to_json() for one in request.approvals],
        "requested_by": statement.requested_by,
    }


def _require_news(file: SitePolicy, holds: GatePolicy | None) -> None:
    if holds is None:
        return
    site = holds.site
    # Words that were given about another release's policy are given again by the same file.
    is_held = site is not None and site.sha256 == file.sha256 and all(one.counts for one in site.changes)
    if is_held or (site is None and not file.thresholds):
        raise ConflictError(
            what=f"what {file.name} says holds already",
            why="nothing would change",
            fix="see `sealift policy show`",
        )


def _require_words(file: SitePolicy, people: SitePeople) -> None:
    for word in file.overrides.values():
        people.require_active(word.person)


def _refused(why: str) -> ApprovalRefusedError:
    return ApprovalRefusedError(
        what="the policy cannot be approved", why=why, fix="ask for it again: `sealift policy import`"
    )
