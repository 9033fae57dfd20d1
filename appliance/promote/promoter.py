"""Requests, approvals and promotions of one site: who said yes to what, and what serves production.

Promises: a request names the newest gates' evidence and the current policy; an approval is bound to one statement, one
person and one key; going forward takes the site's number of different people, within the statement's time, and only
while the line of production that it is for is still what it was when the promotion was requested; so promoting one
model voids no approvals for another. Of two promotions into one line at once one wins. What one person does alone is
`appliance.promote.alone`'s.
"""

import secrets
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, Final, Self

from appliance.config import Config
from appliance.errors import ApprovalRefusedError, ConflictError, NotEnoughApprovalsError
from appliance.promote import actors, asking, destination, doubted, linenames, readers
from appliance.promote.accepting import Acceptance
from appliance.promote.approvals import LEAST_PEOPLE, Approval, require_approved, still_counting
from appliance.promote.automation_key import AutomationKey
from appliance.promote.books import Books
from appliance.promote.carrying import Carrying
from appliance.promote.destination import Choice, Said
from appliance.promote.history import Production
from appliance.promote.people import SitePeople
from appliance.promote.policy import GatePolicy
from appliance.promote.presented import Presented
from appliance.promote.record import BY_AUTOMATION, Kind, Promotion
from appliance.promote.statement import BY_PERSON, BY_RELEASE, LINE_FORMAT, Statement, require_meaning
from appliance.promote.statement import FORMAT as FORMAT_OF_LINE_1
from appliance.promote.validated import Validated, newest, require_newest, require_validated
from appliance.promote.withdrawing import is_withdrawn
from media import canonical
from media.clock import Clock
from media.errors import SealiftError

FORMAT: Final = 1
ASKER_KNOWN_FORMAT: Final = 2
"""Of a request whose asker the promoter knew by a password or a key, and of no other."""
MOST_PENDING: Final = 32
MOST_BY_MACHINES: Final = 4
"""How many requests of automation keys wait at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A statement that waits for approvals.

    Attributes:
        basis: How many promotions had concerned its line when it was made; see `appliance.promote.destination`.
        asker_known: Whether the promoter knew by a password or a key who asked; else that is a name that was typed.
    """

    statement: Statement
    basis: int
    approvals: tuple[Approval, ...] = ()
    asker_known: bool = False

    @property
    def counts(self) -> bool:
        """Whether it may be approved: where who requests does not approve, it is known who did."""
        return self.asker_known or self.statement.request == BY_RELEASE

    def to_json(self) -> dict[str, Any]:
        """Return the fields for answers and the request's file."""
        return {
            "statement": self.statement.to_bytes().decode(),
            "statement_sha256": self.statement.sha256,
            "basis": self.basis,
            "approvals": [approval.to_json() for approval in self.approvals],
            **({"asker_known": True} if self.asker_known else {}),
        }

    def to_bytes(self) -> bytes:
        """Return the file's content."""
        return canonical.dumps({"format": ASKER_KNOWN_FORMAT if self.asker_known else FORMAT, **self.to_json()})

    @classmethod
    def from_json(cls, untrusted: Any) -> Self:
        """Parse what `to_json` gave.

        Raises:
            MalformedError: A field is missing or of another shape.
        """
        required = ("statement", "statement_sha256", "basis", "approvals")
        fields = canonical.exact_keys(untrusted, required, ("format", "asker_known"), what="request")
        text = canonical.text(fields["statement"], "request.statement", most=16 * 1024)
        return cls(
            statement=Statement.from_bytes(text.encode()),
            basis=canonical.integer(fields["basis"], "request.basis"),
            approvals=tuple(
                Approval.from_json(one) for one in canonical.array(fields["approvals"], "request.approvals")
            ),
            asker_known=canonical.boolean(fields.get("asker_known", False), "request.asker_known"),
        )


def most_approved(requests: Sequence[Request]) -> Request | None:
    """Return what people go on with, of requests for one version, the oldest first; None where there is none.

    That is the one with most approvals, and the newest of these: a later request, of an automation key for one, keeps
    nothing from production that people approved. Those of other evidence or another policy than the newest are old.
    """
    if not requests:
        return None
    newest = requests[-1].statement
    basis = (newest.evidence_digest, newest.policy_digest)
    alike = [one for one in requests if (one.statement.evidence_digest, one.statement.policy_digest) == basis]
    return max(reversed(alike), key=lambda one: len(one.approvals))


class Promoter:
    """What the promoter's process does; the caller makes sure that one call runs at a time."""

    def __init__(
        self, books: Books, *, config: Config, policy: Callable[[], GatePolicy], clock: Clock, acceptance: Acceptance
    ) -> None:
        self._books = books
        self._acceptance = acceptance
        self._classes = tuple(config.policy.classes)
        self._request_by = BY_RELEASE if config.release_is_request else BY_PERSON
        self._config = config
        self._site = config.site
        self._threshold = max(config.policy.approvals, LEAST_PEOPLE)
        self._valid_for = timedelta(hours=config.policy.approval_hours)
        self._policy = policy
        self._clock = clock
        self.carrying = Carrying(books, config=config, policy=policy)

    def request(
        self,
        *,
        model_digest: str,
        evidence_digest: str,
        policy_digest: str,
        meaning: str,
        requested_by: str,
        asker_class: str = "",
        key: AutomationKey | None = None,
        said: Said | None = None,
    ) -> Request:
        """Return the statement to sign for a version; the same one again while it waits with the same content.

        Args:
            model_digest: The version.
            evidence_digest: What its gates found, the newest.
            policy_digest: What they were judged by, the present one.
            meaning: Why, as people sign it.
            requested_by: Who requests, or answers for the key that does.
            asker_class: By what it is known that it is this person; empty where the name was typed.
            key: The automation key that requests, as the promoter itself knew it.
            said: Which line it is for; that of its name where nothing is said.

        Raises:
            GateFailedError: The version did not pass, or not with this evidence.
            ApprovalRefusedError: The policy is not the current one, the meaning is not one, or the version is in doubt.
            UnknownPersonError: Who requests is not enrolled, or not known to be that person where that decides.
            ConflictError: It serves already, too many requests wait, it is not said what becomes of what is in
                production, another line has its name, or no further line may be opened here.
            NotPromotedError: No line serves what it is to replace.
        """
        people, production = self._books.catch_up()
        person = people.require_active(requested_by)
        asker, known = (person.id, asker_class) if key is None else (key.actor, BY_AUTOMATION)
        doubted.require_none(self._books.ledger, model_digest)
        validated = require_validated(self._books.ledger, model_digest, self._policy())
        if (evidence_digest, policy_digest) != (validated.evidence_digest, validated.policy_digest):
            raise _refused("the evidence or the policy is not the newest one")
        if production.serves(model_digest):
            raise ConflictError(
                what=f"version {model_digest[:12]} is in production",
                why="nothing is to be approved",
                fix="see `sealift history`",
            )
        line = destination.settled(self._books.ledger, production, model_digest, said or Said())
        if line.number not in production.lines:
            readers.require_readable(self._config, self._books.ledger)
        replaces = line.newest if line.is_further else None
        waiting = list(self._pending(production))
        for one in waiting:
            asked = one.statement
            if (asked.model_digest, asked.evidence_digest, asked.meaning) != (model_digest, evidence_digest, meaning):
                continue
            if (asked.is_of_a_further_line, asked.replaces) == (line.is_further, replaces):
                return one
        if len(waiting) >= MOST_PENDING:
            raise ConflictError(
                what="too many requests wait", why=f"{MOST_PENDING}", fix="let them expire or be promoted"
            )
        by_machines = [one for one in waiting if actors.is_automation(one.statement.requested_by)]
        if key is not None and len(by_machines) >= MOST_BY_MACHINES:
            raise ConflictError(
                what="too many requests of automation keys wait",
                why=f"{MOST_BY_MACHINES}; people's must find room",
                fix="let people decide on them, or let them expire",
            )
        now = self._clock.now().replace(microsecond=0)
        statement = Statement(
            site=self._site,
            model_digest=model_digest,
            weights_digest=validated.weights_digest,
            evidence_digest=evidence_digest,
            policy_digest=policy_digest,
            meaning=require_meaning(meaning),
            nonce=secrets.token_hex(16),
            request=self._request_by,
            requested_by=asker,
            requested_at=now,
            expires=now + self._valid_for,
            replaces=replaces,
            format=LINE_FORMAT if line.is_further else FORMAT_OF_LINE_1,
        )
        basis = destination.records_of(production, statement)
        request = Request(statement=statement, basis=basis, asker_known=bool(known))
        if not request.counts:
            raise asking.unknown(asker)
        body = {
            "model_digest": model_digest,
            "statement": statement.to_bytes().decode(),
            "statement_sha256": statement.sha256,
            "requested_by": asker,
            **asking.said(known),
        }
        self._books.ledger.append("promotion.requested", body)
        self._books.folder.save_request(statement.sha256, request.to_bytes())
        return request

    def validated(self, model_digest: str) -> Validated:
        """Return the newest evidence of a version whose gates passed under the present policy.

        Raises:
            UnknownVersionError, GateFailedError: As `appliance.promote.validated.require_validated`.
        """
        return require_validated(self._books.ledger, model_digest, self._policy())

    def choice(self, model_digest: str) -> Choice:
        """Return what whoever requests a version has to say of its line; see `appliance.promote.destination`."""
        return destination.choice(self._config, self._books.ledger, self._books.folder.production(), model_digest)

    def pending(self) -> tuple[Request, ...]:
        """Return the requests that can still be promoted, the oldest first, each with the approvals that count now.

        Whoever stops something for a version asks by them whether it may be promoted.
        """
        people = self._books.folder.people()
        found = self._pending(self._books.folder.production())
        return tuple(replace(one, approvals=self._counting(one, people)) for one in found)

    def approve(self, statement_sha256: str, presented: Presented) -> Request:
        """Add one person's approval.

        Raises:
            ApprovalRefusedError: The statement is unknown, expired or outdated, or the approval is refused.
            GateFailedError: A newer gate result contradicts the evidence.
            UnknownPersonError: The password or the one-time code is wrong.
        """
        people, production = self._books.catch_up()
        request = self._require_pending(statement_sha256, production)
        doubted.require_none(self._books.ledger, request.statement.model_digest)
        require_newest(self._books.ledger, request.statement, self._policy())
        raw = request.statement.to_bytes()
        approval, approvals = self._acceptance.take(raw, presented, people, request.approvals)
        request.statement.require_apart(approval.person)
        body = {
            "model_digest": request.statement.model_digest,
            "statement_sha256": statement_sha256,
            **approval.to_json(),
        }
        self._books.ledger.append("approval.given", body)
        updated = replace(request, approvals=approvals)
        self._books.folder.save_request(statement_sha256, updated.to_bytes())
        return updated

    def promote(self, statement_sha256: str) -> Promotion:
        """Bring an approved version into production.

        Raises:
            NotEnoughApprovalsError: Fewer different people approved than the site demands.
            ApprovalRefusedError: The statement is unknown, expired or outdated, or an approval does not verify.
            GateFailedError: A newer gate result contradicts the evidence.
            ConflictError: Another promotion was first.
        """
        people, production = self._books.catch_up()
        self._require_no_canary(statement_sha256, production)
        body = self.approved(statement_sha256, people, production)
        promotion = self._books.record_promotion(production, Kind.MADE, body)
        self._forget_expired()
        return promotion

    def approved(self, statement_sha256: str, people: SitePeople, production: Production) -> dict[str, Any]:
        """Return the record's body of a version that enough people approved, everything checked again.

        `line` is in it where that is not the first.

        Raises:
            NotEnoughApprovalsError, ApprovalRefusedError, GateFailedError, ConflictError: As `promote`.
            NotPromotedError: Another line has its name since.
        """
        request = self._require_pending(statement_sha256, production)
        statement, approvals = request.statement, self._counting(request, people)
        doubted.require_none(self._books.ledger, statement.model_digest)
        sequence = self._books.ledger.head().size
        if len(approvals) < self._threshold:
            raise NotEnoughApprovalsError(
                what="too few people have approved",
                why=f"{len(approvals)} of {self._threshold}",
                fix=f"let another person run `sealift approve {statement.model_digest[:12]} --as PERSON`",
            )
        raw = statement.to_bytes()
        require_approved(raw, approvals, people, sequence=sequence, threshold=self._threshold, counting=self._classes)
        require_newest(self._books.ledger, statement, self._policy())
        line = destination.line_of(production, statement)
        if line.number not in production.lines:
            readers.require_readable(self._config, self._books.ledger)
        linenames.require_own_name(self._books.ledger, production, statement.model_digest, line)
        return {
            **line.mark,
            "model_digest": statement.model_digest,
            "previous": line.current,
            "statement": raw.decode(),
            "statement_sha256": statement_sha256,
            "approvals": [approval.to_json() for approval in approvals],
            "requested_by": statement.requested_by,
        }

    def _pending(self, production: Production) -> Iterator[Request]:
        now, is_newest = self._clock.now(), newest(self._books.ledger, self._policy)
        for request in sorted(self._requests(), key=lambda one: one.statement.requested_at):
            if not request.counts or now > request.statement.expires or not _is_of_now(request, production):
                continue
            # What newer gates or another policy void is asked for again, and takes no place of what can be promoted.
            if is_newest(request.statement):
                yield request

    def _requests(self) -> Iterator[Request]:
        for name in self._books.folder.request_names():
            content = self._books.folder.read_request(name)
            try:
                request = Request.from_json(canonical.loads_canonical(content or b""))
            except SealiftError:
                continue  # a damaged request cannot be approved; it is requested again
            if request.statement.sha256 == name and not is_withdrawn(self._books.ledger, name):
                yield request

    def _require_pending(self, statement_sha256: str, production: Production) -> Request:
        for request in self._requests():
            if request.statement.sha256 != statement_sha256 or not request.counts:
                continue
            if self._clock.now() > request.statement.expires:
                raise _refused("it has expired")
            count = destination.records_of(production, request.statement)
            if request.basis != count:
                raise ConflictError(
                    what="production changed since this promotion was requested",
                    why=f"it was requested after promotion {request.basis} of its line, and {count} is the last",
                    fix="request it again: `sealift promote DIGEST`",
                )
            return request
        raise _refused("no request of this digest waits here; it has expired or was never made")

    def _require_no_canary(self, statement_sha256: str, production: Production) -> None:
        """Return when no canary runs in the line that a statement is for: it would end by that."""
        found = next((one.statement for one in self._requests() if one.statement.sha256 == statement_sha256), None)
        line = production.first if found is None else destination.line_of(production, found)
        if line.canary is not None:
            raise ConflictError(
                what="a canary runs",
                why=f"version {line.canary.version[:12]} answers for a share of the callers",
                fix="end it: `sealift canary cutover` or `sealift canary abort`",
            )

    def _counting(self, request: Request, people: SitePeople) -> tuple[Approval, ...]:
        return still_counting(request.approvals, people, counting=self._classes)

    def _forget_expired(self) -> None:
        for request in self._requests():
            if self._clock.now() > request.statement.expires:
                self._books.folder.drop_request(request.statement.sha256)


def _is_of_now(request: Request, production: Production) -> bool:
    """Tell whether its line is what it was when approval was asked for, and the statement was not promoted."""
    try:
        count = destination.records_of(production, request.statement)
    except ConflictError:
        return False
    return request.basis == count and request.statement.nonce not in production.nonces


def _refused(why: str) -> ApprovalRefusedError:
    return ApprovalRefusedError(
        what="the statement cannot be approved or promoted", why=why, fix="request it again: `sealift promote DIGEST`"
    )
