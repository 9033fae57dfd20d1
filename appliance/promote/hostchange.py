"""Two people's approval of a change of the host: the plan of one install, by its digest.

A plan is what a release's playbook would change on this machine, made in check mode (`appliance.install.plans`). The
statement about it means "change this host", is of a type of its own, so that no signature given for a model counts
here, and is signed by OpenPGP like any other. It expires; it is void as soon as the plan is another; it counts once.

    host-changes/SHA256.json    statement and approvals (format 1), below the promoter's folder (HOST-2, HOST-3)

Promises: the installer verifies every signature again from these files, trusting nobody's word; a person, a key or a
fingerprint counts once; the ledger knows of each request and each approval before a file says it.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Final, Self

from appliance.audit.facts import EVERY
from appliance.config import Config, Places
from appliance.errors import ApprovalRefusedError, ConflictError, HostChangeError
from appliance.promote.approvable import Approvable
from appliance.promote.approvals import LEAST_PEOPLE
from appliance.promote.changes import FORMAT, Changes, fields_of, new_nonce
from appliance.promote.folder import PromoterFolder
from appliance.promote.people import SitePeople
from appliance.promote.presented import Presented
from appliance.promote.statement import require_meaning
from media import canonical, clock
from media.errors import SealiftError

TYPE: Final = "sealift/host-change"
REQUESTED: Final = "approval.host-requested"
GIVEN: Final = "approval.host-given"
DONE: Final = "install.done"
BY: Final = "host_approval"
"""The field of `DONE` that names the statement by which the install was done (HOST-3)."""
MOST_PENDING: Final = 16
_MAX_BYTES: Final = 256 * 1024
_MAX_PLAN_BYTES: Final = 12 * 2**20
_FIELDS: Final = (
    *("format", "type", "site", "plan_digest", "serial", "meaning", "nonce"),
    *("requested_by", "requested_at", "expires"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class HostStatement:
    """What an approver of a host change says yes to; both times are whole seconds in UTC."""

    site: str
    plan_digest: str
    serial: int
    meaning: str
    nonce: str
    requested_by: str
    requested_at: datetime
    expires: datetime

    def to_bytes(self) -> bytes:
        """Return the bytes that are signed."""
        return canonical.dumps(
            {
                "format": FORMAT,
                "type": TYPE,
                "site": self.site,
                "plan_digest": self.plan_digest,
                "serial": self.serial,
                "meaning": self.meaning,
                "nonce": self.nonce,
                "requested_by": self.requested_by,
                "requested_at": clock.to_text(self.requested_at),
                "expires": clock.to_text(self.expires),
            }
        )

    @property
    def sha256(self) -> str:
        """The statement's own digest."""
        return sha256(self.to_bytes()).hexdigest()

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
            plan_digest=canonical.sha256_hex(fields["plan_digest"], "statement.plan_digest"),
            serial=canonical.integer(fields["serial"], "statement.serial", minimum=1),
            meaning=require_meaning(canonical.text(fields["meaning"], "statement.meaning")),
            nonce=fields["nonce"],
            requested_by=canonical.text(fields["requested_by"], "statement.requested_by"),
            requested_at=canonical.moment(fields["requested_at"], "statement.requested_at"),
            expires=canonical.moment(fields["expires"], "statement.expires"),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class HostRequest(Approvable[HostStatement]):
    """A statement about a host change with the approvals it has."""

    NAME = "host request"

    @classmethod
    def parse(cls, untrusted: bytes) -> HostStatement:
        """Parse the statement; see `HostStatement.from_bytes`."""
        return HostStatement.from_bytes(untrusted)


class HostChanges(Changes[HostRequest]):
    """The promoter's part: requests and approvals; the caller makes sure that one call runs at a time."""

    FOLDER = "host-changes"

    def request(self, *, plan_digest: str, serial: int, meaning: str, requested_by: str) -> HostRequest:
        """Return the statement to sign for a plan; the same one again while it waits and no install was done by it.

        Raises:
            HostChangeError: No such plan of that serial lies on this machine.
            UnknownPersonError: Who requests is not enrolled.
            ConflictError: Too many wait.
        """
        people, _ = self._books.catch_up()
        person = people.require_active(requested_by)
        _require_plan(self._config.at, plan_digest, serial)
        waiting = self.pending()
        for one in waiting:
            if (one.statement.plan_digest, one.statement.meaning) == (plan_digest, meaning):
                return one
        if len(waiting) >= MOST_PENDING:
            raise ConflictError(what="too many host changes wait", why=f"{MOST_PENDING}", fix="let them expire")
        now = self._clock.now().replace(microsecond=0)
        statement = HostStatement(
            site=self._config.site,
            plan_digest=plan_digest,
            serial=serial,
            meaning=require_meaning(meaning),
            nonce=new_nonce(),
            requested_by=person.id,
            requested_at=now,
            expires=now + timedelta(hours=self._config.policy.approval_hours),
        )
        request = HostRequest(statement=statement)
        return self._asked(request, REQUESTED, person.id, plan_digest=plan_digest, serial=serial)

    def pending(self) -> tuple[HostRequest, ...]:
        """Return the requests that have not expired and by which no install was done; see `Changes.pending`.

        Raises:
            LedgerUnavailableError: The ledger does not answer.
        """
        now = self._clock.now()
        found = [one for one in HostRequest.stored(self._folder) if now <= one.statement.expires]
        used = self._used() if found else frozenset()
        return tuple(
            sorted(
                (self._counting(one) for one in found if one.statement.sha256 not in used),
                key=lambda one: one.statement.requested_at,
            )
        )

    def approve(self, statement_sha256: str, presented: Presented) -> HostRequest:
        """Add one person's approval.

        Raises:
            ApprovalRefusedError: The statement is unknown or expired, or the signature is refused.
        """
        unknown = _refused("no request of this digest waits here; it has expired or was never made")
        people, request = self._waiting_for(statement_sha256, unknown)
        updated, approval = request.with_approval(presented, people, self._acceptance)
        return self._given(updated, GIVEN, approval, plan_digest=request.statement.plan_digest)

    def _used(self) -> frozenset[str]:
        return frozenset(str(leaf.body.get(BY)) for leaf in self._books.ledger.find(kind=DONE, limit=EVERY))


def people_of(places: Places) -> SitePeople:
    """Return everyone ever enrolled at this site."""
    return PromoterFolder(places.promoter).people()


def approved_hosts(config: Config, serial: int, *, now: datetime, plan_digest: str = "") -> tuple[HostRequest, ...]:
    """Return the requests about a release by which its host change may be carried out now.

    A pure read, each signature verified again.

    Args:
        config: The site file.
        serial: The release.
        now: The time.
        plan_digest: Of the one plan that is meant; empty for any.

    Raises:
        HostChangeError: Nobody approved such a plan at this site, too few did, or the approvals have expired.
    """
    threshold = max(config.policy.approvals, LEAST_PEOPLE)
    people, why = people_of(config.at), "nobody asked for approval of a plan of it"
    found = []
    for request in HostRequest.stored(_folder(config.at.promoter)):
        statement = request.statement
        if (statement.site, statement.serial) != (config.site, serial):
            continue
        if plan_digest and statement.plan_digest != plan_digest:
            continue
        if now > statement.expires:
            why = f"the approval expired at {clock.to_text(statement.expires)}"
            continue
        try:
            found.append(request.require_approved(people, threshold=threshold, counting=config.policy.classes))
        except SealiftError as error:
            why = f"{error.what}: {error.why}"
    if not found:
        short = plan_digest[:12]
        raise HostChangeError(
            what=f"two people have not approved what installing serial {serial} would change",
            why=f"plan {short}: {why}" if short else why,
            fix=f"`sealift install {serial} --plan --as PERSON`, then two run `sealift host approve {short or 'PLAN'}`",
        )
    return tuple(found)


def _folder(promoter: Path) -> Path:
    return promoter / HostChanges.FOLDER


def _require_plan(places: Places, plan_digest: str, serial: int) -> None:
    try:
        with (places.state / "plans" / f"{plan_digest}.json").open("rb") as file:
            content = file.read(_MAX_PLAN_BYTES + 1)
    except OSError as error:
        raise _no_plan(plan_digest, error.strerror or "it cannot be read") from error
    if sha256(content).hexdigest() != plan_digest:
        raise _no_plan(plan_digest, "its bytes have another digest")
    fields = canonical.mapping(canonical.loads_canonical(content, max_bytes=_MAX_PLAN_BYTES), "plan")
    if fields.get("serial") != serial:
        raise _no_plan(plan_digest, "it is about another serial")


def _no_plan(plan_digest: str, why: str) -> HostChangeError:
    return HostChangeError(
        what=f"there is no plan {plan_digest[:12]} for that serial", why=why, fix="run `sealift install SERIAL --plan`"
    )


def _refused(why: str) -> ApprovalRefusedError:
    return ApprovalRefusedError(
        what="the host change cannot be approved", why=why, fix="make the plan again: `sealift install SERIAL --plan`"
    )
