"""Whether a version may serve production now: a pure read that trusts nobody's word, the promoter's included.

The launcher calls this before it loads a production engine. Promises: only a version that serves by the whole chain of
promotions is returned (the current one; a canary while it runs; the one kept beside after a cut-over), and only when
two different enrolled people signed the statement that brought it there; every signature is verified again by gpgv. No
socket, no ledger, no process of ours is needed.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from appliance.config import Places
from appliance.errors import NotPromotedError
from appliance.promote.approvals import LEAST_PEOPLE, require_approved
from appliance.promote.classes import CLASSES
from appliance.promote.folder import PromoterFolder
from appliance.promote.history import Production
from appliance.promote.people import SitePeople
from appliance.promote.record import Kind, Promotion
from appliance.promote.statement import Statement
from media.clock import Clock, to_text
from media.errors import SealiftError


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """Why a version serves: the promotion that put it there, and the people who approved it."""

    model_digest: str
    weights_digest: str
    number: int
    sequence: int
    kind: str
    at: datetime
    statement_sha256: str
    people: tuple[str, ...]
    lower: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return the fields for answers."""
        return {
            "model_digest": self.model_digest,
            "weights_digest": self.weights_digest,
            "number": self.number,
            "sequence": self.sequence,
            "kind": self.kind,
            "at": to_text(self.at),
            "statement_sha256": self.statement_sha256,
            "people": list(self.people),
            "lower_class": {name: list(reasons) for name, reasons in self.lower.items()},
        }


def current_digest(places: Places) -> str | None:
    """Return what the chain of promotions says is in production, its approvals not verified.

    Raises:
        NotPromotedError: The chain is broken.
    """
    return PromoterFolder(places.promoter).production().current


def loadable_digests(places: Places) -> tuple[str, ...]:
    """Return the versions whose production engines may run, what serves first; approvals are not verified.

    Raises:
        NotPromotedError: The chain is broken.
    """
    return PromoterFolder(places.promoter).production().loadable


def require_promoted(
    places: Places,
    model_digest: str,
    clock: Clock | None = None,
    *,
    approvals: int = LEAST_PEOPLE,
    counting: Collection[str] = CLASSES,
) -> Standing:
    """Return the standing of the version in production.

    For engines that run beside it, see `require_loadable`.

    Args:
        places: Where the promoter's folder is.
        model_digest: The version that wants to serve.
        clock: Not needed: what counts is the ledger's order, not the hour.
        approvals: How many people the site demands.
        counting: The classes of approvals that count at the site.

    Raises:
        NotPromotedError: It is not the current version, or its approvals do not verify.
    """
    del clock
    production, people = _read(places, model_digest)
    if production.current != model_digest:
        current = "nothing" if production.current is None else production.current[:12]
        raise _not_promoted(model_digest, f"{current} is in production")
    return standing_of(production, people, approvals=approvals, counting=counting)


def require_loadable(
    places: Places, model_digest: str, *, approvals: int = LEAST_PEOPLE, counting: Collection[str] = CLASSES
) -> Standing:
    """Return the standing of a version whose engine may run in production; see `Production.loadable`.

    Raises:
        NotPromotedError: It may not, or its approvals do not verify.
    """
    production, people = _read(places, model_digest)
    if model_digest not in production.loadable:
        current = "nothing" if production.current is None else production.current[:12]
        raise _not_promoted(model_digest, f"{current} is in production")
    return standing_of(production, people, approvals=approvals, counting=counting, model_digest=model_digest)


def _read(places: Places, model_digest: str) -> tuple[Production, SitePeople]:
    folder = PromoterFolder(places.promoter)
    try:
        return folder.production(), folder.people()
    except NotPromotedError:
        raise
    except (SealiftError, OSError) as error:
        raise _not_promoted(model_digest, f"people.json: {error}") from error


def standing_of(
    production: Production,
    people: SitePeople,
    *,
    approvals: int = LEAST_PEOPLE,
    counting: Collection[str] = CLASSES,
    model_digest: str = "",
) -> Standing:
    """Return why a version serves (the current one, where none is named), its signatures verified again.

    Raises:
        NotPromotedError: Nothing is in production, or an approval does not verify.
    """
    current, last = model_digest or production.current, production.last
    made = None if current is None else production.made_for(current)
    if current is None or last is None or made is None:
        raise _not_promoted("", "nothing is in production")
    statement = require_made(made, people, approvals=approvals, counting=counting)
    return Standing(
        model_digest=current,
        weights_digest=statement.weights_digest,
        number=last.number,
        sequence=last.sequence,
        kind=str(last.kind),
        at=last.at,
        statement_sha256=statement.sha256,
        people=tuple(approval.name for approval in made.approvals),
        lower={approval.name: approval.lower for approval in made.approvals if approval.lower},
    )


def require_made(
    made: Promotion, people: SitePeople, *, approvals: int = LEAST_PEOPLE, counting: Collection[str] = CLASSES
) -> Statement:
    """Return the statement of a promotion that goes forward, its approvals verified again.

    Raises:
        NotPromotedError: It is of another kind, or an approval does not verify.
    """
    digest = (made.terms.version if made.terms else made.model_digest) or ""
    if not made.statement or made.kind not in {Kind.MADE, Kind.CANARY_STARTED, Kind.CUT_OVER}:
        raise _not_promoted(digest, "one person alone cannot bring a version into production")
    raw = made.statement.encode()
    try:
        statement = Statement.from_bytes(raw)
        require_approved(raw, made.approvals, people, sequence=made.sequence, threshold=approvals, counting=counting)
        statement.require_apart(*(one.person for one in made.approvals))
    except SealiftError as error:
        raise _not_promoted(digest, f"{error.what}: {error.why}") from error
    return statement


def _not_promoted(model_digest: str, why: str) -> NotPromotedError:
    return NotPromotedError(
        what=f"version {model_digest[:12]} may not serve production"
        if model_digest
        else "nothing may serve production",
        why=why,
        fix="two people approve it: `sealift promote DIGEST`",
    )
